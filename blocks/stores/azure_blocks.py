"""Blocks: how an upload is cut, and what a kill leaves of one.

Azure keeps the latter for a week, and knows no word for dropping them.
"""

import contextlib
from collections.abc import Sequence
from typing import Any

from blocks.errors import ObjectExists, ObjectMissing, StoreError, StoreForbidden
from blocks.stores.azure_errors import translated
from blocks.stores.extras import imported
from blocks.stores.upload_parts import Parts, cut

MOST_BLOCKS = 50_000
PLANNED_BLOCKS = 45_000
_NO_ETAG = '"0x0"'


def blocks_for(expected_bytes: int | None) -> Parts:
    """Return how to cut an upload so that it fits 50,000 blocks, a tenth in reserve, and 128 MiB of memory.

    Past about 2.7 TiB the blocks themselves outgrow that memory, and are sent one by one.
    """
    return cut(expected_bytes, PLANNED_BLOCKS)


def uncommitted(client: Any, prefix: str) -> Sequence[Any]:
    """Return the blobs below `prefix` that hold nothing but blocks of an unfinished upload."""
    found = list(client.list_blobs(name_starts_with=prefix, include=["uncommittedblobs"]))
    # asked for later, so that an upload that is completed meanwhile is not taken for one
    whole = set(client.list_blob_names(name_starts_with=prefix))
    return [blob for blob in found if blob.name not in whole]


def drop_blocks(client: Any, name: str, what: str) -> None:
    """Drop the blocks of an unfinished upload: an empty blob takes their place, and is deleted at once.

    Where that blob could not be deleted again, in a container that is immutable or may be, or without the
    right to, nothing is done: Azure drops the blocks a week after the last of them.
    """
    blob = client.get_blob_client(name)
    with contextlib.suppress(ObjectExists, ObjectMissing):
        if _keeps_all(client, what) or not _may_delete(blob, what):
            return
        with translated(what):
            made = blob.commit_block_list([], match_condition=_conditions().IfMissing)
            blob.delete_blob(etag=made["etag"], match_condition=_conditions().IfNotModified)
            if version_id := made.get("version_id"):
                blob.delete_blob(version_id=version_id)


def _keeps_all(client: Any, what: str) -> bool:
    try:
        with translated(what):
            container = client.get_container_properties()
    except StoreForbidden:
        return True
    return bool(
        container.has_immutability_policy
        or container.has_legal_hold
        or container.immutable_storage_with_versioning_enabled
    )


def _may_delete(blob: Any, what: str) -> bool:
    """Ask for what cannot succeed, since no blob has such an ETag; a lacking right is told first."""
    try:
        with translated(what):
            blob.delete_blob(etag=_NO_ETAG, match_condition=_conditions().IfNotModified)
    except StoreForbidden:
        return False
    except StoreError as error:
        if error.transient:
            raise
    return True


def _conditions() -> Any:
    return imported("azure.core", "azure").MatchConditions
