"""What keeps a request from its server, whichever library met it: a certificate, a proxy, or silence."""

import re

from blocks.errors import StoreError, StoreUnreachable

# the words of OpenSSL, rustls and Go
_UNTRUSTED = re.compile(r"certificate verify failed|InvalidCertificate\(|x509: |failed to verify certificate")
# of urllib3, hyper and Go
_PROXY_LOGIN = re.compile(
    r"Tunnel connection failed: 407|ProxyAuthRequired|Proxy Authentication Required", re.IGNORECASE
)
_PROXY = re.compile("connect to proxy|Tunnel connection failed|TunnelUnsuccessful|proxyconnect")
PROXY_HINT = "see HTTPS_PROXY, HTTP_PROXY and NO_PROXY, and what the proxy lets through"


def no_answer(error: BaseException, what: str, hint: str) -> StoreError:
    """Return our error for a request that no server answered, without the text of a library's.

    Args:
        hint: For when neither a certificate nor a proxy is to blame.
    """
    # botocore keeps the proxy's words to itself
    said = f"{error} {getattr(error, 'kwargs', {}).get('error', '')}"
    return line_error(said, what) or StoreUnreachable(f"{what}: no answer ({type(error).__name__})", hint)


def line_error(said: str, what: str) -> StoreError | None:
    """Return what a library's words tell of the way to a server; None if nothing."""
    if _UNTRUSTED.search(said):
        return StoreError(
            f"{what}: the server's certificate is not trusted",
            "name its authority's file in REQUESTS_CA_BUNDLE; see that it is for this host and not over",
        )
    if _PROXY_LOGIN.search(said):
        return proxy_refusal(what)
    if _PROXY.search(said):
        return StoreUnreachable(f"{what}: there is no way through the proxy", PROXY_HINT)
    return None


def proxy_refusal(what: str) -> StoreError:
    """Return our error for the HTTP status 407."""
    return StoreError(
        f"{what}: the proxy lets nobody through with this user and password",
        "correct them in HTTPS_PROXY or HTTP_PROXY, or name the server in NO_PROXY",
    )
