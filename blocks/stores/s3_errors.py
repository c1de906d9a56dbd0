"""What the errors of an S3 server mean, whichever client met them."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    PartialCredentialsError,
)
from botocore.exceptions import ConnectionError as ConnectionFailed
from obstore.exceptions import BaseError as MoveError
from obstore.exceptions import UnauthenticatedError

from blocks.errors import (
    ObjectExists,
    ObjectMissing,
    StoreError,
    StoreForbidden,
    StoreFull,
    StoreUnreachable,
)
from blocks.stores.line_errors import no_answer, proxy_refusal

_FORBIDDEN = {
    "AccessDenied": "allow them s3:ListBucket, s3:GetObject, s3:PutObject, s3:DeleteObject, "
    "s3:AbortMultipartUpload, s3:ListBucketMultipartUploads and s3:ListMultipartUploadParts on the bucket; "
    "where it keeps versions also s3:ListBucketVersions and s3:DeleteObjectVersion; for Object Lock also "
    "s3:PutObjectRetention, s3:GetObjectRetention and s3:GetBucketObjectLockConfiguration",
    "InvalidAccessKeyId": "the server does not know the access key: correct access_key_id",
    "SignatureDoesNotMatch": "the secret is not the access key's: correct secret_access_key",
    "ExpiredToken": "the temporary credentials are over: use ones that can be renewed",
    "InvalidToken": "the session token is not the access key's",
    "RequestTimeTooSkewed": "this host's clock is wrong: set it",
}
_WRONG_REGION = {"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"}
_FULL = {"QuotaExceeded", "InsufficientCapacity", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded"}
_TRANSIENT = {"RequestTimeout", "SlowDown", "ConditionalRequestConflict", "OperationAborted"}
# bytes that were changed or lost on their way
DAMAGED = {"BadDigest", "XAmzContentSHA256Mismatch", "IncompleteBody"}
_MISSING = {"NoSuchKey", "NoSuchUpload", "NotFound", "404"}
_TAKEN = {"PreconditionFailed", "412"}
_REFUSED_OPTIONS = {"InvalidArgument", "InvalidRequest", "InvalidStorageClass"}
_BROKEN_LINE = (HTTPClientError, ConnectionFailed, IncompleteReadError)

_CODE = re.compile(r"<Code>([A-Za-z0-9]{1,60})</Code>")
_STATUS = re.compile(r"status code: (\d{3})\b")
_REDIRECT = "redirect without LOCATION"


@contextmanager
def translated(what: str, *, sets_options: bool = False) -> Iterator[None]:
    """Turn an error of either client into one of ours, without its text.

    That text quotes addresses and the server's answer, and Prefect logs causes: hence `from None`.

    Args:
        sets_options: Whether the server is told a storage class or an encryption, which it may not have.
    """
    try:
        yield
    except (ClientError, BotoCoreError, MoveError, OSError) as error:
        raise store_error(error, what, sets_options=sets_options) from None


def store_error(error: Exception, what: str, *, sets_options: bool = False) -> StoreError:
    """Return our error for one of boto3 or obstore, with nothing of its text but the server's code."""
    if isinstance(error, (NoCredentialsError, PartialCredentialsError, CredentialRetrievalError)):
        return StoreForbidden(
            f"{what}: no credentials ({type(error).__name__})",
            "name a credentials block or keys, or give this host a role",
        )
    code, status = answer_of(error)
    if code or status:
        return _refusal(code or str(status), status, what, sets_options)
    if isinstance(error, UnauthenticatedError):
        return StoreForbidden(
            f"{what}: the credentials could not be renewed", "see whether the role still exists"
        )
    if isinstance(error, BotoCoreError) and not isinstance(error, _BROKEN_LINE):
        return StoreError(f"{what}: {type(error).__name__}", "see region, endpoint_url and the AWS profile")
    return no_answer(error, what, "see endpoint_url, the network, and whether the server runs")


def answer_of(error: Exception) -> tuple[str, int]:
    """Return the server's error code and HTTP status, "" and 0 where it gave none."""
    if isinstance(error, ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return str(error.response["Error"].get("Code", "")), status
    text = str(error)
    if _REDIRECT in text:
        return "PermanentRedirect", 301
    code_said, status_said = _CODE.search(text), _STATUS.search(text)
    return code_said[1] if code_said else "", int(status_said[1]) if status_said else 0


def no_such_bucket(what: str) -> StoreError:
    return StoreError(f"{what}: there is no such bucket", "make the bucket, or correct its name")


def _refusal(code: str, status: int, what: str, sets_options: bool) -> StoreError:
    text = f"{what}: the server said {code}"
    if code == "NoSuchBucket":
        return no_such_bucket(what)
    if code in _WRONG_REGION or status == 301:
        return StoreError(text, "set region to the bucket's")
    if sets_options and code in _REFUSED_OPTIONS:
        return StoreError(
            text, "the server may not have this storage_class or server_side_encryption: empty them"
        )
    if code == "InvalidObjectState":
        return StoreForbidden(text, "restore it from its archive class first")
    if code in _FULL or status == 507:
        return StoreFull(text, "raise the quota, or keep fewer backups")
    if status == 407:
        return proxy_refusal(what)
    if code in _TAKEN:
        return ObjectExists(text)
    if code in _MISSING:
        return ObjectMissing(text)
    if code in DAMAGED:
        return StoreUnreachable(text, "try again; see the network")
    if code in _TRANSIENT or status == 429 or status >= 500:
        return StoreUnreachable(text, "see whether the server is overloaded or broken, and try again later")
    if code in _FORBIDDEN or status in (401, 403):
        return StoreForbidden(
            text, _FORBIDDEN.get(code, "see the credentials and their rights on the bucket")
        )
    return StoreError(text)
