"""How an S3 server is reached: credentials and time limits.

boto3 asks (small requests, whose errors bear a code), obstore moves (streams, in constant memory). Both
sign with the same boto3 credentials, and take them anew for every request, so that a role's temporary
ones are renewed in the middle of a long upload.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import boto3
import botocore.session
import obstore.store
from botocore.config import Config
from botocore.credentials import (
    CredentialProvider,
    CredentialResolver,
    DeferredRefreshableCredentials,
)
from botocore.exceptions import NoCredentialsError

from blocks.errors import ConfigurationError
from blocks.stores.authorities import authorities_file
from blocks.stores.credentials_blocks import load_block

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig, S3Credential

CONNECT_SECONDS = 4
ANSWER_SECONDS = 10
ASKED_TIMES = 3
RETRIES = 4
SLOWEST_BYTES_PER_SECOND = 256 << 10
DEFAULT_REGION = "us-east-1"
ROLE_SESSION_SECONDS = 3600
CA_VARIABLE = "AWS_CA_BUNDLE"


def open_session(access_key_id: str, secret_access_key: str, region: str | None) -> boto3.Session:
    """Return a session of these keys, or without them of the AWS environment: variables, profile or role."""
    return boto3.Session(
        aws_access_key_id=access_key_id or None,
        aws_secret_access_key=secret_access_key or None,
        region_name=region or None,
    )


def open_block_session(reference: str) -> boto3.Session:
    """Return a session of a stored prefect-aws block, such as `aws-credentials/prod`."""
    import prefect_aws  # noqa: F401 - Prefect can only load types that were imported

    block = load_block(reference)
    if not hasattr(block, "get_boto3_session"):
        raise ConfigurationError(
            f"the block {reference} holds no AWS credentials", "name one such as aws-credentials/NAME"
        )
    if not getattr(block, "assume_role_arn", None):
        return block.get_boto3_session()
    core = botocore.session.get_session()
    core.register_component("credential_provider", CredentialResolver([_AssumedRole(block)]))
    return boto3.Session(botocore_session=core, region_name=block.region_name)


class _AssumedRole(CredentialProvider):  # type: ignore[misc]
    """The role of a prefect-aws block, assumed again before its credentials are over."""

    METHOD = CANONICAL_NAME = "prefect-block"

    def __init__(self, block: Any) -> None:
        super().__init__()
        self._block = block

    def load(self) -> DeferredRefreshableCredentials:
        return DeferredRefreshableCredentials(self._assume, self.METHOD)

    def _assume(self) -> dict[str, str]:
        asked = self._block.assume_role_kwargs.get_params_override().get("DurationSeconds")
        expires_at = datetime.now(UTC) + timedelta(seconds=asked or ROLE_SESSION_SECONDS)
        taken = self._block.get_boto3_session().get_credentials().get_frozen_credentials()
        return {
            "access_key": taken.access_key,
            "secret_key": taken.secret_key,
            "token": taken.token,
            "expiry_time": expires_at.isoformat(),
        }


def asking_client(session: boto3.Session, endpoint_url: str | None, region: str | None) -> Any:
    """Return a boto3 client that gives up within about half a minute."""
    return session.client(
        "s3",
        endpoint_url=endpoint_url,
        region_name=region or session.region_name or DEFAULT_REGION,
        # None leaves an AWS profile's own
        verify=authorities_file(CA_VARIABLE) or None,
        config=Config(
            connect_timeout=CONNECT_SECONDS,
            read_timeout=ANSWER_SECONDS,
            retries={"mode": "standard", "total_max_attempts": ASKED_TIMES},
            s3={"addressing_style": "path" if endpoint_url else "auto"},
            # servers that are not Amazon's refuse the checksums that boto3 adds unasked
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            # the endpoint is what the block says; obstore would not see another
            ignore_configured_endpoint_urls=True,
        ),
    )


def moving_client(
    session: boto3.Session,
    client: Any,
    bucket: str,
    *,
    in_flight_bytes: int = 0,
    server_side_encryption: str = "",
    checksum_algorithm: str = "",
) -> obstore.store.S3Store:
    """Return an obstore client of the same server, region and credentials as a boto3 client.

    Args:
        in_flight_bytes: What an upload sends at once: its requests may last as long as a slow line takes
            for that. 0 is for downloads, where only a silence ends a request.
        checksum_algorithm: Of each request's body; Amazon's buckets that lock by default insist on one.
    """
    endpoint_url, virtual_hosted = object_endpoint(client.meta.endpoint_url, bucket)
    extra = {"server_side_encryption": server_side_encryption, "checksum_algorithm": checksum_algorithm}
    return obstore.store.S3Store(
        bucket,
        endpoint=endpoint_url,
        virtual_hosted_style_request=virtual_hosted,
        region=client.meta.region_name,
        credential_provider=renewing(session),
        client_options=_client_options(endpoint_url, in_flight_bytes),
        retry_config=_retry_config(in_flight_bytes),
        **{name: value for name, value in extra.items() if value},  # type: ignore[arg-type]
    )


def object_endpoint(endpoint_url: str, bucket: str) -> tuple[str, bool]:
    """Return the address that obstore needs, and whether the bucket is part of its host name.

    It is at Amazon's, unless a dot in its name would not fit the certificate.
    """
    scheme, host = urlsplit(endpoint_url)[:2]
    if host.endswith((".amazonaws.com", ".amazonaws.com.cn")) and "." not in bucket:
        return f"{scheme}://{bucket}.{host}", True
    return endpoint_url, False


def renewing(session: boto3.Session) -> "Callable[[], S3Credential]":
    """Return what obstore asks for credentials; boto3 renews temporary ones in time."""
    credentials = session.get_credentials()
    if credentials is None:
        raise NoCredentialsError

    def provide() -> "S3Credential":
        taken = credentials.get_frozen_credentials()
        return {
            "access_key_id": taken.access_key,
            "secret_access_key": taken.secret_key,
            "token": taken.token,
            # obstore asks again five minutes before: at every request
            "expires_at": datetime.now(UTC) + timedelta(minutes=1),
        }

    return provide


def _client_options(endpoint_url: str, in_flight_bytes: int) -> "ClientConfig":
    options: ClientConfig = {
        "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
        "allow_http": endpoint_url.startswith("http://"),
    }
    if in_flight_bytes:
        options["timeout"] = timedelta(seconds=ANSWER_SECONDS + in_flight_bytes // SLOWEST_BYTES_PER_SECOND)
    else:
        options |= {"timeout": timedelta(days=30), "read_timeout": timedelta(seconds=ANSWER_SECONDS)}
    if path := authorities_file(CA_VARIABLE):
        options["root_certificate"] = Path(path).read_bytes()
    return options


def _retry_config(in_flight_bytes: int) -> "RetryConfig":
    return {
        "max_retries": RETRIES,
        # counted from the request's start, which for a download is that of the whole object
        "retry_timeout": timedelta(minutes=3) if in_flight_bytes else timedelta(days=30),
        "backoff": {"init_backoff": timedelta(seconds=0.5), "max_backoff": timedelta(seconds=5), "base": 3},
    }
