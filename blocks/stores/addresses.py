"""Addresses of servers that stores are on."""

from urllib.parse import urlsplit


def checked_endpoint(endpoint_url: str, *, may_have_path: bool = False) -> str:
    """Return `endpoint_url` without a slash at its end; raise `ValueError` unless a client can use it."""
    parts = urlsplit(endpoint_url)
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
        raise ValueError("must be http://HOST:PORT or https://HOST:PORT, without credentials")
    if parts.query or parts.fragment or (parts.path.strip("/") and not may_have_path):
        raise ValueError(
            "must end with the account" if may_have_path else "must end with the host or its port"
        )
    return f"{parts.scheme}://{parts.netloc}{parts.path}".rstrip("/")
