"""A backup deleted by hand, with a reason; never the last verified one, nor a held one."""

from collections.abc import Callable
from dataclasses import replace

from blocks.errors import WorldError
from blocks.stores import Store
from flows.catalogue import Backup, Copy, find
from flows.catalogues import read_all
from flows.core.errors import BackupNotFound, PruneRefused
from flows.core.naming import is_backup_id
from flows.core.verification import Verdict
from flows.locks import why_undeletable
from flows.outcomes import Failures, raise_all
from flows.plan import BackupPlan
from flows.removing import delete_backup


def delete_by_hand(
    plan: BackupPlan, wanted: str, reason: str, say: Callable[[str], None], destination: str = ""
) -> None:
    """Delete one backup on every destination that holds it and lets go of it, or on one.

    Args:
        wanted: Its id; no other word for it, since `latest` may be another by now.
        destination: Name of the only store to delete it on; needed if it is damaged on some stores only.
        say: Told of each destination in a line, as soon as it is done.

    Raises:
        BackupNotFound: There is no backup of this id.
        PruneRefused: It is held, it is the last verified backup, it is damaged on some destinations only and
            none is named, or no destination lets go of it.
        WorldError: A destination cannot be read, and nothing was deleted; or one failed, and the others were
            tried all the same.
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
    backup = _named(backup, destination and plan.store(destination).name)
    for copy in backup.copies:
        others = [other.copy_on(copy.store.name) for other in backups if other.backup_id != backup.backup_id]
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
    failures: Failures = []
    for copy in backup.copies:
        try:
            kept_for = kept.get(copy.store.name)
            say(_kept(plan, copy, kept_for) if kept_for else _deleted(plan, copy, reason))
        except WorldError as error:
            failures.append(error)
    raise_all(f"deleting {backup.backup_id}", failures)


def _named(backup: Backup, destination: str) -> Backup:
    """Return a backup with the copies that are meant; whole ones do not go for the sake of damaged ones."""
    if destination:
        copies = [copy for copy in backup.copies if copy.store.name == destination]
        if not copies:
            raise BackupNotFound(
                f"there is no backup {backup.backup_id} on {destination}", "pgsalvo list shows where it lies"
            )
        return replace(backup, copies=copies)
    damaged = [copy.store.name for copy in backup.copies if copy.is_damaged]
    if damaged and len(damaged) < len(backup.copies):
        raise PruneRefused(
            f"backup {backup.backup_id} is damaged on {' and '.join(damaged)} and whole elsewhere",
            f"say which copy goes: --destination {damaged[0]}",
        )
    return backup


def _refuse(_: Store, error: WorldError) -> None:
    raise error


def _deleted(plan: BackupPlan, copy: Copy, reason: str) -> str:
    if why := delete_backup(plan, copy):
        return _kept(plan, copy, why)
    return f"deleted {copy.backup_id} on {copy.store.name}: {reason}"


def _kept(plan: BackupPlan, copy: Copy, why: str) -> str:
    comes_back = "; pgsalvo sync copies it to the others again" if len(plan.stores) > 1 else ""
    return f"kept {copy.backup_id} on {copy.store.name}: {why}{comes_back}"
