"""The story of a sync: each destination gets the whole backups that it lacks, from one that has them."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace

from prefect import flow

from blocks.errors import (
    StoreError,
    StoreForbidden,
    StoreFull,
    StoreLocked,
    StoreUnreachable,
    WorldError,
)
from blocks.stores import Store
from flows import hooks, outcomes, reports
from flows.catalogue import Copy
from flows.catalogues import Catalogues, read_catalogues
from flows.copying import Copied, copy_backup
from flows.core.errors import BackupError, ChecksumMismatch
from flows.core.naming import BackupId
from flows.core.scrubs import Look, told_of
from flows.looking import look_again
from flows.outcomes import Failures, told
from flows.owed import owed_to
from flows.plan import BackupPlan
from flows.plan_source import load_plan
from flows.progress import Progress, shown
from flows.scrub_records import recorded_looks, write_look
from flows.scrubbing import scrubbed
from flows.sources import unacknowledged
from flows.tasks.copies import Sources

ENDS_ALL = (StoreUnreachable, StoreForbidden, StoreFull)  # of the next backup as well


@dataclass
class Synced:
    """What one destination got, and what it still lacks, with the reasons.

    Args:
        error: Why it could not be read at all, so that nothing is known of it; empty if it could.
    """

    destination: str
    error: str = ""
    copied: list[Copied] = field(default_factory=list)
    lacking: dict[BackupId, str] = field(default_factory=dict)


@flow(name="sync", on_failure=[hooks.alert], on_crashed=[hooks.alert])
@scrubbed
def sync(plan: str) -> list[Synced]:
    """Copy to each destination the backups that it lacks or has damaged, and that retention keeps there.

    Args:
        plan: Name of the backup plan.
    """
    loaded = load_plan(plan)
    done, failures = sync_stores(loaded)
    reports.publish_sync(loaded, done)
    outcomes.tell(done)
    outcomes.raise_all(f"syncing {plan}", failures)
    return done


def sync_stores(plan: BackupPlan) -> tuple[list[Synced], Failures]:
    """Sync every destination that answers; one that fails does not keep the others from it.

    Returns:
        What each destination got, and what went wrong.

    Raises:
        BackupError: Backups of two databases would be mixed.
    """
    failures: Failures = []
    done = {store.name: Synced(store.name) for store in plan.stores}

    def left_out(store: Store, error: WorldError) -> None:
        done[store.name].error = told(error)
        failures.append(error)

    catalogues = read_catalogues(plan, plan.stores, left_out)
    _refuse_two_databases(plan, catalogues)
    for store in plan.stores:
        if store.name in catalogues:
            _sync_store(plan, store, catalogues, done[store.name], failures)
    return list(done.values()), failures


def synced_rows(done: Iterable[Synced]) -> list[dict[str, object]]:
    """Return what `pgsalvo sync --json` prints of each destination."""
    return [asdict(destination) for destination in done]


def _refuse_two_databases(plan: BackupPlan, catalogues: Catalogues) -> None:
    everything = (copy for catalogue in catalogues.values() for copy in catalogue.values())
    if odd := unacknowledged(everything):
        raise BackupError(
            f"the destinations hold backups of two databases under the plan {plan.name}: {' and '.join(odd)}",
            "give each database a plan of its own; if one replaced the other, back up with --new-source",
        )


def _sync_store(
    plan: BackupPlan, store: Store, catalogues: Catalogues, done: Synced, failures: Failures
) -> None:
    """Copy to one destination, newest first, what it lacks."""
    failures += _told_of_incurable(store, catalogues, done)
    owed = owed_to(plan, store, catalogues)
    if not owed:
        return
    done.lacking |= dict.fromkeys(owed, "not copied yet")
    expected = sum(_size_bytes(copies) for copies in owed.values())
    progress = Progress("sync", expected, where=store.name)
    with shown(progress), recorded_looks(store, plan.name, "sync") as recorder:
        for identifier, copies in owed.items():
            sources = Sources([copy.store for copy in copies])
            here = catalogues[store.name].get(identifier)
            try:
                copied = copy_backup(store, here, copies, sources, progress, recorder, plan.read_back)
                done.copied.append(copied)
                del done.lacking[identifier]
            except (BackupError, WorldError) as error:
                done.lacking[identifier] = told(error)
                failures.append(error)
                if _ends_all(error, sources):
                    break
            finally:
                failures += _noted(copies, sources, catalogues, progress)
    if recorder.failure:
        failures.append(recorder.failure)


def _ends_all(error: BackupError | WorldError, sources: Sources) -> bool:
    """Return whether the next backup would fare no better: the destination itself fails."""
    if sources.failed or isinstance(error, BackupError | StoreLocked):
        return False
    return isinstance(error, ENDS_ALL) or not isinstance(error, StoreError)


def _told_of_incurable(store: Store, catalogues: Catalogues, done: Synced) -> Failures:
    """Return an error for each damaged copy of which nobody that answers has a sound one, and note it."""
    failures: Failures = []
    for identifier, copy in catalogues[store.name].items():
        if not copy.committed or not copy.problem or copy.unknown:
            continue
        if any(identifier in other and other[identifier].is_sound for other in catalogues.values()):
            continue
        done.lacking[identifier] = f"damaged, and whole nowhere: {copy.problem}"
        failures.append(
            ChecksumMismatch(
                f"backup {identifier} on {store.name} is damaged, and no destination that answers has it"
                f" whole: {copy.problem}",
                "take it away there by hand: pgsalvo never deletes on an append-only store"
                if store.append_only
                else "pgsalvo delete takes it away for good, unless its bytes can be saved some other way",
            )
        )
    return failures


def _size_bytes(copies: Iterable[Copy]) -> int:
    return next((copy.manifest.size_bytes for copy in copies if copy.manifest), 0)


def _noted(copies: Iterable[Copy], sources: Sources, catalogues: Catalogues, progress: Progress) -> Failures:
    """Write down which sources are damaged, once that is certain, so that they no longer count as whole."""
    failures: Failures = []
    for copy in copies:
        archive = sources.damaged.get(copy.store.name)
        if archive is None or copy.manifest is None:
            continue
        try:
            look = look_again(copy, copy.manifest, archive, progress, readings=1)
        except StoreError as error:
            failures.append(error)
            continue
        if look and not look.intact:
            catalogues[copy.store.name][copy.backup_id] = replace(copy, problem=told_of(look))
            failures.append(_damaged(copy, look))
            if unwritten := write_look(copy.store, copy.manifest.plan, "sync", look):
                failures.append(unwritten)
    return failures


def _damaged(copy: Copy, look: Look) -> ChecksumMismatch:
    return ChecksumMismatch(
        f"backup {copy.backup_id} on {copy.store.name} is damaged: {told_of(look)}",
        "the next sync heals it from another destination; find out what changes bytes there",
    )
