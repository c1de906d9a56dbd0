"""A backup deleted by hand, with a reason; never the last verified one, nor a held one."""

from blocks.errors import StoreError
from blocks.stores import Store
from flows.catalogue import Copy, find
from flows.core.errors import BackupNotFound, PruneRefused
from flows.core.naming import is_backup_id
from flows.core.verification import Verdict
from flows.locks import why_undeletable
from flows.plan import BackupPlan
from flows.removing import delete_backup
from flows.reports import read_all


def delete_by_hand(plan: BackupPlan, wanted: str, reason: str) -> list[str]:
    """Delete one backup on every destination that holds it and lets go of it; return a line for each.

    Args:
        wanted: Its id; no other word for it, since `latest` may be another by now.

    Raises:
        BackupNotFound: There is no backup of this id.
        PruneRefused: It is held, it is the last verified backup, or no destination lets go of it.
        StoreError: A destination does not answer; nothing was deleted.
    """
    if not is_backup_id(wanted):
        raise BackupNotFound(f"not a backup's id: {wanted!r}", f"pgsalvo list {plan.name} shows them")
    backups = read_all(plan, _refuse)
    backup = find(backups, wanted)
    holds = sorted({hold for copy in backup.copies for hold in copy.holds})
    if holds:
        raise PruneRefused(
            f"backup {backup.backup_id} is held: {', '.join(holds)}", "take the hold away first"
        )
    for copy in backup.copies:
        others = [other.copy_on(copy.store.name) for other in backups if other is not backup]
        verified = [other for other in others if other and other.verdict is Verdict.VERIFIED]
        if copy.verdict is Verdict.VERIFIED and not verified:
            raise PruneRefused(
                f"backup {backup.backup_id} is the last verified one on {copy.store.name}",
                "verify another backup first",
            )
    kept = {
        copy.store.name: why
        for copy in backup.copies
        if (why := why_undeletable(plan.name, copy, copy.store.now()))
    }
    if len(kept) == len(backup.copies):
        told = "; ".join(f"on {name}: {why}" for name, why in kept.items())
        raise PruneRefused(f"backup {backup.backup_id} cannot be deleted {told}", "nothing was deleted")
    return [
        _kept(copy, kept[copy.store.name]) if copy.store.name in kept else _deleted(plan, copy, reason)
        for copy in backup.copies
    ]


def _refuse(_: Store, error: StoreError) -> None:
    raise error


def _deleted(plan: BackupPlan, copy: Copy, reason: str) -> str:
    if why := delete_backup(plan, copy):
        return _kept(copy, why)
    return f"deleted {copy.backup_id} on {copy.store.name}: {reason}"


def _kept(copy: Copy, why: str) -> str:
    return f"kept {copy.backup_id} on {copy.store.name}: {why}"
