"""A stored archive is looked at again: read, compared with its manifest, and what was found written down."""

from datetime import UTC, datetime

from blocks.errors import ObjectMissing
from flows.catalogue import Copy
from flows.core.manifest import Archive, Manifest
from flows.core.naming import manifest_key, object_key
from flows.core.scrubs import Look
from flows.progress import Progress
from flows.tasks.copies import rehash
from flows.tasks.options import performed


def look_again(
    copy: Copy, manifest: Manifest, archive: Archive, progress: Progress, *, readings: int = 2
) -> Look | None:
    """Read an archive and tell whether it is what the manifest says; None if its backup is gone by now.

    Args:
        readings: How many must find damage before it counts, as the reading itself may have gone wrong.

    Raises:
        StoreError: Nothing can be told: the store does not answer, or a right is missing.
    """
    key = object_key(manifest.plan, copy.backup_id, archive.name)
    read_at = datetime.now(UTC)
    intact = any(performed(rehash, archive, key, copy.store, progress) for _ in range(readings))
    if not intact:
        try:
            copy.store.read(manifest_key(manifest.plan, copy.backup_id))
        except ObjectMissing:
            return None
    return Look(
        backup_id=copy.backup_id,
        archive=archive.name,
        manifest_sha256=copy.manifest_sha256,
        read_at=read_at,
        intact=intact,
    )
