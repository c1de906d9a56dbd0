"""What the errors of Azure's storage mean, whichever client met them."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from obstore.exceptions import BaseError as MoveError
from obstore.exceptions import UnauthenticatedError

from blocks.errors import (
    ObjectExists,
    ObjectMissing,
    StoreError,
    StoreForbidden,
    StoreFull,
    StoreLocked,
    StoreUnreachable,
)
from blocks.stores.base import NO_END
from blocks.stores.extras import imported
from blocks.stores.line_errors import no_answer, proxy_refusal

_RIGHTS = (
    "allow reading, listing, writing and deleting: the role Storage Blob Data Contributor, or rlwd;"
    " where versions are kept or locked the role Storage Blob Data Owner, or an account's token of rlwdxi"
)
_FORBIDDEN = {
    "AuthenticationFailed": "correct the account key or the SAS token; see its end, and this host's clock",
    "AuthorizationFailure": "correct the account key or the SAS token; see the account's firewall",
    "InvalidAuthenticationInfo": "correct the credentials",
    "NoAuthenticationInformation": "give the SAS token whole",
    "KeyBasedAuthenticationNotPermitted": "the account takes no keys: use an identity",
    "AuthorizationPermissionMismatch": _RIGHTS,
    "AuthorizationResourceTypeMismatch": "the SAS token must be for containers and objects",
    "AuthorizationProtocolMismatch": "the SAS token is for https only",
    "InsufficientAccountPermissions": _RIGHTS,
    "AccountIsDisabled": "pay the account's bills, or use another",
    "LeaseIdMissing": "somebody holds a lease on it: break the lease",
}
_KEPT = {
    "BlobImmutableDueToPolicy": "the container's policy keeps it; wait until its time is over",
    "BlobImmutableDueToLegalHold": "somebody put a legal hold on it, and has to take it away",
}
_TAKEN = {"BlobAlreadyExists", "ConditionNotMet", "UnauthorizedBlobOverwrite"}
_MISSING = {"BlobNotFound", "ResourceNotFound"}
_NO_CONTAINER = {"ContainerNotFound", "ContainerBeingDeleted", "ContainerDisabled"}
_ARCHIVED = {"BlobArchived", "BlobBeingRehydrated"}
_FULL = {"AccountLimitExceeded", "StorageQuotaExceeded"}

_CODE = re.compile(r"<Code>([A-Za-z0-9]{1,60})</Code>")
_STATUS = re.compile(r"status code: (\d{3})\b")


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn an error of either client into one of ours, without its text.

    That text quotes addresses with their signature and the server's answer, and Prefect logs causes: hence
    `from None`.
    """
    asking_errors = imported("azure.core.exceptions", "azure")
    try:
        yield
    except (asking_errors.AzureError, MoveError, OSError) as error:
        raise store_error(error, what) from None


def store_error(error: Exception, what: str) -> StoreError:
    """Return our error for one of either client, with nothing of its text but the server's code."""
    code, status = answer_of(error)
    if code or status:
        return _refusal(code or str(status), status, what)
    if isinstance(
        error, (UnauthenticatedError, imported("azure.core.exceptions", "azure").ClientAuthenticationError)
    ):
        return StoreForbidden(
            f"{what}: no credentials ({type(error).__name__})",
            "name a credentials block, a key or a SAS token, or give this host a managed identity",
        )
    return no_answer(error, what, "see account_name, endpoint_url, the network, and whether the server runs")


def answer_of(error: Any) -> tuple[str, int]:
    """Return the server's error code and HTTP status, "" and 0 where it gave none."""
    if isinstance(error, (MoveError, OSError)):
        text = str(error)
        code_said, status_said = _CODE.search(text), _STATUS.search(text)
        return code_said[1] if code_said else "", int(status_said[1]) if status_said else 0
    code = getattr(error, "error_code", None) or ""
    return str(getattr(code, "value", code)), getattr(error, "status_code", None) or 0


def _refusal(code: str, status: int, what: str) -> StoreError:
    text = f"{what}: the server said {code}"
    if code in _NO_CONTAINER:
        return StoreError(f"{what}: there is no such container", "make the container, or correct its name")
    if code in _ARCHIVED:
        return StoreForbidden(
            f"{what}: it lies in the archive tier", "rehydrate it to the tier Hot, Cool or Cold first"
        )
    if code in _FULL or status == 507:
        return StoreFull(text, "raise the account's limit, or keep fewer backups")
    if code in _KEPT:
        return StoreLocked(text, _KEPT[code], NO_END)
    if code in _FORBIDDEN or status in (401, 403):
        return StoreForbidden(
            text, _FORBIDDEN.get(code, "see the credentials and their rights on the container")
        )
    if status == 407:
        return proxy_refusal(what)
    if code in _TAKEN or status == 412:
        return ObjectExists(text)
    if code in _MISSING or status == 404:
        return ObjectMissing(text)
    if code == "InvalidBlockList":
        return StoreUnreachable(
            f"{what}: another upload of it took its blocks away", "let only one run write it"
        )
    if status in (408, 429) or status >= 500:
        return StoreUnreachable(text, "see whether the server is overloaded or broken, and try again later")
    return StoreError(text)
