"""How a backup leaves a destination: the manifest goes first, and comes back if the rest may not go."""

from blocks.errors import ObjectMissing, StoreError, StoreForbidden, StoreLocked
from flows.catalogue import Copy
from flows.core import naming
from flows.locks import locked
from flows.plan import BackupPlan


def delete_backup(plan: BackupPlan, copy: Copy) -> str:
    """Delete one backup: its manifest first, so that whatever happens next, no half of it looks whole.

    If the store lets nobody delete an archive, or not us, and all of them are still there, the manifest is
    written again.

    Returns:
        Why it is kept, or what is left of it; "" if it is gone.

    Raises:
        StoreError: A refusal other than of a lock.
    """
    key = naming.manifest_key(plan.name, copy.backup_id)
    try:
        manifest = copy.store.read(key)
    except ObjectMissing:  # another prune is at it
        manifest = None
    try:
        copy.store.delete(key)
        delete_objects(plan, copy)
    except StoreForbidden as error:
        is_whole = manifest is not None and _has_all_archives(plan, copy)
        if manifest is not None and is_whole:
            copy.store.create(key, manifest)
        if isinstance(error, StoreLocked):
            return locked(error.until) if is_whole else f"half deleted, the rest is {locked(error.until)}"
        raise
    return ""


def _has_all_archives(plan: BackupPlan, copy: Copy) -> bool:
    left = {found.key for found in copy.store.list(naming.backup_prefix(plan.name, copy.backup_id))}
    archives = copy.manifest.archives if copy.manifest else ()
    return left >= {naming.object_key(plan.name, copy.backup_id, archive.name) for archive in archives}


def delete_objects(plan: BackupPlan, copy: Copy) -> None:
    """Delete all of a backup, the largest first; the first that is refused for a lock or a right ends it.

    Raises:
        StoreError: The first refusal. Unless it is of a lock or a right, or may pass, all others were tried.
    """
    refusals: list[StoreError] = []
    for name in sorted(copy.sizes, key=copy.sizes.__getitem__, reverse=True):
        try:
            copy.store.delete(naming.object_key(plan.name, copy.backup_id, name))
        except StoreError as error:
            if error.transient or isinstance(error, StoreForbidden):
                raise
            refusals.append(error)
    if refusals:
        raise refusals[0]
