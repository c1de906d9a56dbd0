"""What an S3 bucket keeps of a key beside its newest object: older versions, and Object Lock's locks.

A bucket with versioning answers a plain deletion with a marker, below which every version stays and is
paid for. Functions take a boto3 client and a full key, and raise its errors; nothing here ever asks to
bypass a lock of governance.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from botocore.exceptions import ClientError

from blocks.errors import StoreError
from blocks.stores.base import NO_END, StoreProblem
from blocks.stores.s3_errors import answer_of

_NO_LOCK_CONFIGURATION = "ObjectLockConfigurationNotFoundError"
_CANNOT_SAY = {HTTPStatus.FORBIDDEN, HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.NOT_IMPLEMENTED}

_NO_LOCK = StoreProblem(
    "the bucket has no Object Lock, so nothing can be locked there",
    "switch Object Lock on for the bucket, which needs versioning (aws s3api put-object-lock-configuration;"
    " many servers can only when they make the bucket), or empty object_lock_mode",
)
_NO_VERSIONING = StoreProblem(
    "the bucket has Object Lock but no versioning, without which a locked object can be replaced",
    "switch versioning on: aws s3api put-bucket-versioning --versioning-configuration Status=Enabled",
)
_VERSIONS_UNKNOWN = StoreProblem(
    "it cannot be asked whether the bucket keeps old versions, which would stay after a deletion",
    "allow s3:GetBucketVersioning; without it, let a lifecycle rule remove versions that are not current",
    "warning",
)


def delete(client: Any, bucket: str, key: str, *, locks: bool) -> None:
    """Delete every version of a key, the newest last and markers after it: no older one comes back.

    Args:
        locks: Whether objects are locked there; then versions are kept, whether or not it can be asked.
    """
    if not _keeps_versions(client, bucket, locks):
        client.delete_object(Bucket=bucket, Key=key)
        return
    objects, markers = _versions(client, bucket, key)
    for version_id in (*reversed(objects), *reversed(markers)):
        client.delete_object(Bucket=bucket, Key=key, VersionId=version_id)


def locked_until(client: Any, bucket: str, key: str, *, locks: bool) -> datetime | None:
    """Return when the last lock of a key's versions ends, `NO_END` under a legal hold."""
    if not _keeps_versions(client, bucket, locks):
        return None
    objects, _ = _versions(client, bucket, key)
    ends = (_lock_end(client.head_object(Bucket=bucket, Key=key, VersionId=each)) for each in objects)
    return max((end for end in ends if end), default=None)


def lock(client: Any, bucket: str, key: str, mode: str, until: datetime) -> None:
    """Lock a key's newest version; a lock that is there only becomes longer, and firmer."""
    found = client.head_object(Bucket=bucket, Key=key)
    there = (found.get("ObjectLockMode"), found.get("ObjectLockRetainUntilDate"))
    mode_there, end = there
    wanted = ("COMPLIANCE" if mode_there == "COMPLIANCE" else mode.upper(), max(until, end or until))
    if wanted != there:
        retention = {"Mode": wanted[0], "RetainUntilDate": wanted[1]}
        client.put_object_retention(Bucket=bucket, Key=key, Retention=retention)


def lock_options(mode: str, until: datetime) -> dict[str, Any]:
    """Return what locks an object in the very request that writes it, so that no kill comes in between."""
    return {"ObjectLockMode": mode.upper(), "ObjectLockRetainUntilDate": until}


def check_lock(client: Any, bucket: str, what: str) -> None:
    """Raise `StoreError` unless a bucket has Object Lock."""
    if not _can_lock(client, bucket):
        raise StoreError(f"{what}: {_NO_LOCK.message}", _NO_LOCK.remedy)


def bucket_problems(client: Any, bucket: str, *, locks: bool) -> Iterator[StoreProblem]:
    """Yield what a bucket's versioning and Object Lock lack.

    Args:
        locks: Whether objects are to be locked.
    """
    status = _versioning(client, bucket)
    if locks and not _can_lock(client, bucket):
        yield _NO_LOCK
    elif locks and status not in ("Enabled", None):
        yield _NO_VERSIONING
    if status is None:
        yield _VERSIONS_UNKNOWN


def _versioning(client: Any, bucket: str) -> str | None:
    """Return `Enabled`, `Suspended` (older versions are still there), "" or, if it cannot be asked, None."""
    try:
        answer = client.get_bucket_versioning(Bucket=bucket)
    except ClientError as error:
        if answer_of(error)[1] in _CANNOT_SAY:
            return None
        raise
    return str(answer.get("Status", ""))


def _keeps_versions(client: Any, bucket: str, locks: bool) -> bool:
    status = _versioning(client, bucket)
    return locks if status is None else bool(status)


def _can_lock(client: Any, bucket: str) -> bool:
    """Return whether a bucket has Object Lock; some servers without it take a lock for an object's bytes."""
    try:
        answer = client.get_object_lock_configuration(Bucket=bucket)
    except ClientError as error:
        code, status = answer_of(error)
        if code == _NO_LOCK_CONFIGURATION or status == HTTPStatus.NOT_IMPLEMENTED:
            return False
        raise
    return bool(answer.get("ObjectLockConfiguration", {}).get("ObjectLockEnabled") == "Enabled")


def _versions(client: Any, bucket: str, key: str) -> tuple[list[str], list[str]]:
    """Return the ids of a key's versions and of its markers, both the newest first."""
    objects: list[str] = []
    markers: list[str] = []
    for page in client.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=key):
        found, marked = page.get("Versions", []), page.get("DeleteMarkers", [])
        objects += [each["VersionId"] for each in found if each["Key"] == key]
        markers += [each["VersionId"] for each in marked if each["Key"] == key]
        # the key itself stands before those that it begins
        if any(each["Key"] != key for each in (*found, *marked)):
            break
    return objects, markers


def _lock_end(answer: dict[str, Any]) -> datetime | None:
    if answer.get("ObjectLockLegalHoldStatus") == "ON":
        return NO_END
    end = answer.get("ObjectLockRetainUntilDate")
    return end.astimezone(UTC) if end else None
