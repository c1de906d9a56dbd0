"""How Google Cloud Storage is reached: credentials and time limits."""

import json
from datetime import timedelta
from typing import Any

from blocks.errors import ConfigurationError
from blocks.references import remember
from blocks.stores.authorities import authorities_file
from blocks.stores.credentials_blocks import load_block
from blocks.stores.extras import imported

EXTRA = "gcp"
GOOGLES_OWN = "https://storage.googleapis.com"
SCOPE = "https://www.googleapis.com/auth/devstorage.read_write"
CONNECT_SECONDS = 4
PATIENCE = timedelta(seconds=20)


def key_credentials(text: str) -> Any:
    """Return the credentials of a service account, of its key file's text."""
    service_account = imported("google.oauth2.service_account", EXTRA)
    try:
        words = json.loads(text)
        remember(words["private_key"])
        return service_account.Credentials.from_service_account_info(words, scopes=[SCOPE])
    except (ValueError, KeyError, TypeError):
        # what went wrong may quote the key
        raise ConfigurationError(
            "the service account's key is not one", "it is the JSON file that Google made, whole"
        ) from None


def block_credentials(reference: str) -> Any:
    """Return the credentials of a stored prefect-gcp block, such as `gcp-credentials/prod`."""
    imported("prefect_gcp", EXTRA)
    block = load_block(reference)
    if not hasattr(block, "get_credentials_from_service_account"):
        raise ConfigurationError(
            f"the block {reference} holds no Google credentials", "name one such as gcp-credentials/NAME"
        )
    return block.get_credentials_from_service_account()


def default_credentials() -> Any:
    """Return the host's own: of Google's variables, of a workload's identity, or of the machine."""
    credentials, _ = imported("google.auth", EXTRA).default(scopes=[SCOPE])
    return credentials


def no_credentials() -> Any:
    return imported("google.auth.credentials", EXTRA).AnonymousCredentials()


def open_client(credentials: Any, endpoint_url: str) -> Any:
    """Return a client that looks at the block alone, and not at the emulator's variable."""
    return imported("google.cloud.storage", EXTRA).Client(
        # only making buckets needs one
        project="none",
        credentials=credentials,
        _http=open_session(credentials),
        client_options={"api_endpoint": endpoint_url},
    )


def open_session(credentials: Any) -> Any:
    """Return a session of requests that adds the credentials' token to each, and renews it."""
    session = imported("google.auth.transport.requests", EXTRA).AuthorizedSession(credentials)
    session.verify = authorities_file() or True
    return session


def limits(timeout_seconds: float) -> tuple[float, float]:
    """Return how long connecting and one answer may last."""
    return min(CONNECT_SECONDS, timeout_seconds), timeout_seconds


def patient(timeout_seconds: float) -> dict[str, Any]:
    """Return how a question of the library is repeated: for so long as the server may need to come back."""
    retry = imported("google.cloud.storage.retry", EXTRA).DEFAULT_RETRY
    return {
        "timeout": limits(timeout_seconds),
        "retry": retry.with_timeout(PATIENCE.total_seconds()).with_delay(0.5, 5, 2),
    }
