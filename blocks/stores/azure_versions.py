"""What an Azure container keeps of a blob beside its current version: older versions, policies, legal holds.

An account with versioning answers a plain deletion by making the blob a version, which stays and is paid
for. Functions take a container client of Azure's own library and a blob's name, and raise its errors;
nothing here ever shortens a policy or takes one away. All this follows Azure's documentation, and was tried
on a stand-in that does, not on Azure itself.

Source: https://learn.microsoft.com/azure/storage/blobs/immutable-version-level-worm-policies
"""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from itertools import takewhile
from typing import Any

from blocks.errors import StoreError
from blocks.stores.azure_errors import answer_of
from blocks.stores.base import NO_END, StoreProblem
from blocks.stores.extras import imported

_KEEPS_NONE = "HierarchicalNamespaceAccounts"

_NO_IMMUTABILITY = StoreProblem(
    "the container has no version-level immutability, so nothing can be locked there",
    "switch versioning on for the account and version-level immutability for the container"
    " (az storage container-rm create --enable-vlw, or migrate-vlw for one that exists),"
    " or empty immutability_mode",
)


def versions(client: Any, name: str) -> Sequence[Any]:
    """Return a blob's versions with their policies; none where the account cannot keep any."""
    found = client.list_blobs(name_starts_with=name, include=["versions", "immutabilitypolicy", "legalhold"])
    try:
        # the blob itself stands before those whose names it begins
        return list(takewhile(lambda blob: blob.name == name, found))
    except imported("azure.core.exceptions", "azure").HttpResponseError as error:
        if not answer_of(error)[0].endswith(_KEEPS_NONE):
            raise
        return ()


def delete(client: Any, name: str, found: Iterable[Any]) -> None:
    """Delete a blob with all its versions, the current one last: it is listed for as long as any is left.

    Args:
        found: Its versions.
    """
    blob = client.get_blob_client(name)
    _delete_previous(blob, found)
    with _missing_is_fine():
        blob.delete_blob(delete_snapshots="include")
    # the current version cannot be deleted as such: it is a previous one by now
    _delete_previous(blob, versions(client, name))


def locked_until(client: Any, name: str) -> datetime | None:
    """Return when the last lock of a blob's versions ends, `NO_END` under a legal hold.

    When a policy of the container as a whole ends is told by nobody but Azure's resource manager; it shows
    in a refused deletion.
    """
    return NO_END if _is_held(client) else last_lock(versions(client, name))


def last_lock(found: Iterable[Any]) -> datetime | None:
    ends = (NO_END if each.has_legal_hold else each.immutability_policy.expiry_time for each in found)
    return max((end.astimezone(UTC) for end in ends if end), default=None)


def lock(client: Any, name: str, mode: str, until: datetime) -> None:
    """Lock a blob's current version; a policy that is there only becomes longer, and firmer."""
    blob = client.get_blob_client(name)
    there = blob.get_blob_properties().immutability_policy
    mode_there, end = (there.policy_mode or "").lower(), there.expiry_time
    wanted = ("locked" if mode_there == "locked" else mode, max(until, end or until))
    if wanted != (mode_there, end):
        blob.set_immutability_policy(policy(*wanted))


def policy(mode: str, until: datetime) -> Any:
    """Return what locks a blob, also in the very request that writes it."""
    return imported("azure.storage.blob", "azure").ImmutabilityPolicy(
        expiry_time=until, policy_mode=mode.capitalize()
    )


def check_lock(client: Any, what: str) -> None:
    """Raise `StoreError` unless a container can lock what is in it."""
    for problem in container_problems(client):
        raise StoreError(f"{what}: {problem.message}", problem.remedy)


def container_problems(client: Any) -> Iterator[StoreProblem]:
    """Yield what a container lacks in which blobs are to be locked."""
    if not client.get_container_properties().immutable_storage_with_versioning_enabled:
        yield _NO_IMMUTABILITY


def _delete_previous(blob: Any, found: Iterable[Any]) -> None:
    for each in found:
        if each.version_id and not each.is_current_version:
            with _missing_is_fine():
                blob.delete_blob(version_id=each.version_id)


def _is_held(client: Any) -> bool:
    try:
        return bool(client.get_container_properties().has_legal_hold)
    except imported("azure.core.exceptions", "azure").HttpResponseError as error:
        # no SAS token of a container has the right to ask
        if answer_of(error)[1] != HTTPStatus.FORBIDDEN:
            raise
        return False


def _missing_is_fine() -> contextlib.AbstractContextManager[None]:
    return contextlib.suppress(imported("azure.core.exceptions", "azure").ResourceNotFoundError)
