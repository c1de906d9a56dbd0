"""What the errors of Google Cloud Storage mean, whether its library met them or our own uploads."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from blocks.errors import (
    ObjectExists,
    ObjectMissing,
    StoreError,
    StoreForbidden,
    StoreFull,
    StoreUnreachable,
)
from blocks.stores import line_errors
from blocks.stores.extras import imported

_TOO_MANY = {"rateLimitExceeded", "userRateLimitExceeded", "backendError"}
_FULL = {"quotaExceeded", "dailyLimitExceeded"}
_KEPT = {"retentionPolicyNotMet", "objectUnderActiveHold"}
_BILLS = {"accountDisabled", "billingNotEnabled", "userProjectAccountProblem"}
_WORD = re.compile(r"[A-Za-z]{1,60}")


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn an error of Google's libraries into one of ours, without its text.

    That text quotes addresses, which are secrets where they are an upload's, and Prefect logs causes: hence
    `from None`.
    """
    api = imported("google.api_core.exceptions", "gcp")
    auth = imported("google.auth.exceptions", "gcp")
    storage = imported("google.cloud.storage.exceptions", "gcp")
    try:
        yield
    except (
        api.GoogleAPIError,
        auth.GoogleAuthError,
        storage.InvalidResponse,
        storage.DataCorruption,
    ) as error:
        raise store_error(error, what) from None
    except OSError as error:
        # of requests as well
        raise no_answer(error, what) from None


def store_error(error: Any, what: str) -> StoreError:
    """Return our error for one of Google's libraries, with nothing of its text but the server's word."""
    auth = imported("google.auth.exceptions", "gcp")
    storage = imported("google.cloud.storage.exceptions", "gcp")
    if isinstance(error, auth.TransportError):
        return no_answer(error, what)
    if isinstance(error, auth.GoogleAuthError):
        return StoreForbidden(
            f"{what}: no credentials ({type(error).__name__})",
            "name a credentials block or a service account's key, or give this host an account",
        )
    if isinstance(error, storage.DataCorruption):
        return damaged(what)
    if isinstance(error, storage.InvalidResponse):
        return refusal(error.response.status_code, _reason(error.response), what)
    if code := getattr(error, "code", None):
        return refusal(int(code), _reason(getattr(error, "response", None)), what)
    return no_answer(getattr(error, "cause", None) or error, what)


def answered(response: Any, what: str) -> StoreError:
    """Return our error for an answer that is none of those that were asked for."""
    return refusal(response.status_code, _reason(response), what)


def no_answer(error: BaseException, what: str) -> StoreError:
    if code := getattr(error, "code", None):
        return refusal(int(code), "", what)
    return line_errors.no_answer(error, what, "see endpoint_url, the network, and whether the server runs")


def damaged(what: str) -> StoreError:
    return StoreUnreachable(f"{what}: its checksum is not that of the bytes", "try again; see the network")


def no_such_bucket(what: str) -> StoreError:
    return StoreError(f"{what}: there is no such bucket", "make the bucket, or correct its name")


def refusal(status: int, reason: str, what: str) -> StoreError:
    """Return what a server's refusal means.

    Args:
        reason: Google's word for it; "" where it gave none.
    """
    text = f"{what}: the server said {reason or status}"
    if status in (408, 429) or status >= 500 or reason in _TOO_MANY:
        return StoreUnreachable(text, "see whether the server is overloaded or broken, and try again later")
    if status == 407:
        return line_errors.proxy_refusal(what)
    if status == 413 or reason in _FULL:
        return StoreFull(text, "raise the quota, or keep fewer backups")
    if reason in _KEPT:
        return StoreForbidden(text, "the bucket's policy or a hold keeps it; wait until its time is over")
    if reason in _BILLS:
        return StoreForbidden(text, "see the project's billing account")
    if status in (401, 403):
        return StoreForbidden(text, _HINTS[status])
    if status == 412:
        return ObjectExists(text)
    if status == 404:
        return ObjectMissing(text)
    return StoreError(text)


_HINTS = {
    401: "correct the credentials; see whether the service account and its key still exist",
    403: "allow storage.objects.create, get, list and delete: the role Storage Object Admin (objectAdmin)",
}


def _reason(response: Any) -> str:
    """Return the word in the body of a refusal; what else it says may quote anything."""
    try:
        word = str(response.json()["error"]["errors"][0]["reason"])
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        return ""
    return word if _WORD.fullmatch(word) else ""
