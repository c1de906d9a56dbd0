"""How an Azure storage account is reached: credentials and time limits.

Azure's own library asks (small requests, whose errors bear a code), obstore moves (streams, in constant
memory). Both use the same credentials; an identity's tokens are renewed in the middle of a long upload.
"""

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import obstore.store

from blocks.errors import ConfigurationError
from blocks.references import remember
from blocks.stores.authorities import authorities_file
from blocks.stores.credentials_blocks import load_block
from blocks.stores.extras import imported
from blocks.stores.hosts import is_loopback, is_this_host

if TYPE_CHECKING:
    from obstore.store import AzureCredential, ClientConfig, RetryConfig

EXTRA = "azure"
TOKEN_SCOPE = "https://storage.azure.com/.default"  # noqa: S105 - what a token is asked for
CONNECT_SECONDS = 4
ASKED_AGAIN = 2
RETRIES = 4
SLOWEST_BYTES_PER_SECOND = 256 << 10


@dataclass(frozen=True)
class Access:
    """An account's address, and its credentials as each of the two libraries takes them."""

    endpoint_url: str
    asking: Any = field(repr=False)
    moving: "Callable[[], AzureCredential]"


def key_access(account_name: str, account_key: str, endpoint_url: str) -> Access:
    try:
        base64.b64decode(account_key, validate=True)
    except binascii.Error:
        raise ConfigurationError(
            f"the key of the storage account {account_name} is not one", "copy it whole: it is base64"
        ) from None
    asking = {"account_name": account_name, "account_key": account_key}
    return Access(endpoint_url, asking, lambda: {"access_key": account_key, "expires_at": None})


def sas_access(sas_token: str, endpoint_url: str) -> Access:
    """Return the access of a shared access signature, as the portal shows it, with or without its `?`."""
    _refuse_in_clear(endpoint_url)
    token = remember(sas_token.removeprefix("?"))
    for signature in parse_qs(token).get("sig", ()):
        remember(signature)
    asking = imported("azure.core.credentials", EXTRA).AzureSasCredential(token)
    return Access(endpoint_url, asking, lambda: {"sas_token": token, "expires_at": None})


def connection_string_access(connection_string: str, account_name: str, endpoint_url: str) -> Access:
    """Return the access of a connection string; its own address counts unless another is given."""
    words = dict(part.split("=", 1) for part in connection_string.split(";") if "=" in part)
    if words.get("AccountName", account_name) != account_name:
        raise ConfigurationError(
            f"the connection string is not of the storage account {account_name}",
            f"set account_name to {words['AccountName']}, or correct the connection string",
        )
    address = endpoint_url or _address_told(words, account_name)
    if key := words.get("AccountKey"):
        return key_access(account_name, remember(key), address)
    if token := words.get("SharedAccessSignature"):
        return sas_access(token, address)
    raise ConfigurationError(
        f"the connection string of the storage account {account_name} holds no credentials",
        "it must have an AccountKey or a SharedAccessSignature",
    )


def block_access(reference: str, account_name: str, endpoint_url: str) -> Access:
    """Return the access of a stored prefect-azure block, such as `azure-blob-storage-credentials/prod`."""
    imported("prefect_azure", EXTRA)
    block = load_block(reference)
    if not hasattr(block, "connection_string") or not hasattr(block, "account_url"):
        raise ConfigurationError(
            f"the block {reference} holds no credentials of a storage account",
            "name one such as azure-blob-storage-credentials/NAME",
        )
    if block.connection_string:
        text = remember(block.connection_string.get_secret_value())
        return connection_string_access(text, account_name, endpoint_url)
    address = endpoint_url or _of_the_account(block.account_url.rstrip("/"), account_name)
    if not block.client_secret:
        return identity_access(address)
    secret = remember(block.client_secret.get_secret_value())
    identity = imported("azure.identity", EXTRA)
    return _token_access(identity.ClientSecretCredential(block.tenant_id, block.client_id, secret), address)


def identity_access(endpoint_url: str) -> Access:
    """Return the access of the host's own identity: managed, of the workload, or of Azure's variables."""
    return _token_access(imported("azure.identity", EXTRA).DefaultAzureCredential(), endpoint_url)


def usual_endpoint(account_name: str) -> str:
    return f"https://{account_name}.blob.core.windows.net"


def asking_client(access: Access, container: str, timeout_seconds: float) -> Any:
    """Return a client of Azure's own library that gives up after a few times `timeout_seconds`."""
    return imported("azure.storage.blob", EXTRA).ContainerClient(
        access.endpoint_url,
        container,
        credential=access.asking,
        connection_timeout=min(CONNECT_SECONDS, timeout_seconds),
        read_timeout=timeout_seconds,
        connection_verify=authorities_file() or True,
        retry_total=ASKED_AGAIN,
        initial_backoff=1,
        increment_base=2,
    )


def moving_client(
    access: Access, account_name: str, container: str, timeout_seconds: float, *, in_flight_bytes: int = 0
) -> obstore.store.AzureStore:
    """Return an obstore client of the same account and credentials.

    Args:
        in_flight_bytes: What an upload sends at once: its requests may last as long as a slow line takes
            for that. 0 is for downloads, where only a silence ends a request.
    """
    return obstore.store.AzureStore(
        container,
        account_name=account_name,
        endpoint=access.endpoint_url,
        # what Azure's variables say of these is not meant for this account
        use_emulator=False,
        skip_signature=False,
        credential_provider=access.moving,
        client_options=_client_options(access.endpoint_url, timeout_seconds, in_flight_bytes),
        retry_config=_retry_config(in_flight_bytes),
    )


def _token_access(credential: Any, endpoint_url: str) -> Access:
    _refuse_in_clear(endpoint_url)

    def provide() -> "AzureCredential":
        token = credential.get_token(TOKEN_SCOPE)
        return {"token": token.token, "expires_at": datetime.fromtimestamp(token.expires_on, UTC)}

    return Access(endpoint_url, credential, provide)


def _refuse_in_clear(endpoint_url: str) -> None:
    """Refuse to send what opens the account to whoever reads it on the way; a key only signs."""
    if endpoint_url.startswith("http://") and not is_loopback(urlsplit(endpoint_url).hostname or ""):
        raise ConfigurationError(
            "a SAS or identity token is not sent over http://", "use https://, or the account's key"
        )


def _address_told(words: dict[str, str], account_name: str) -> str:
    if address := words.get("BlobEndpoint", "").rstrip("/"):
        return _of_the_account(address, account_name)
    scheme, suffix = (
        words.get("DefaultEndpointsProtocol", "https"),
        words.get("EndpointSuffix", "core.windows.net"),
    )
    return f"{scheme}://{account_name}.blob.{suffix}"


def _of_the_account(address: str, account_name: str) -> str:
    """Return an address that credentials tell, unless it is somewhere that the block does not say."""
    host = urlsplit(address).hostname or ""
    if is_this_host(host):
        raise ConfigurationError(
            "the credentials are of an emulator on this host", "name its address as endpoint_url as well"
        )
    if not host.startswith(f"{account_name}.") and account_name not in urlsplit(address).path.split("/"):
        raise ConfigurationError(
            f"the credentials are not of the storage account {account_name}", "correct account_name"
        )
    return address


def _client_options(endpoint_url: str, timeout_seconds: float, in_flight_bytes: int) -> "ClientConfig":
    options: ClientConfig = {
        "connect_timeout": timedelta(seconds=min(CONNECT_SECONDS, timeout_seconds)),
        "allow_http": endpoint_url.startswith("http://"),
    }
    if in_flight_bytes:
        options["timeout"] = timedelta(seconds=timeout_seconds + in_flight_bytes // SLOWEST_BYTES_PER_SECOND)
    else:
        options |= {"timeout": timedelta(days=30), "read_timeout": timedelta(seconds=timeout_seconds)}
    if path := authorities_file():
        options["root_certificate"] = Path(path).read_bytes()
    return options


def _retry_config(in_flight_bytes: int) -> "RetryConfig":
    return {
        "max_retries": RETRIES,
        # counted from the request's start, which for a download is that of the whole object
        "retry_timeout": timedelta(minutes=3) if in_flight_bytes else timedelta(days=30),
        "backoff": {"init_backoff": timedelta(seconds=0.5), "max_backoff": timedelta(seconds=5), "base": 3},
    }
