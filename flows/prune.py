"""The story of a prune: decide on each destination by its own catalogue, then delete, manifests first."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime

from prefect import flow

from blocks.errors import StoreError, StoreLocked, WorldError
from blocks.stores import Store
from flows import hooks, outcomes, reports
from flows.catalogue import Copy
from flows.catalogues import read_catalogues
from flows.core import naming
from flows.core.errors import PruneRefused
from flows.core.naming import BackupId
from flows.core.retention import GRACE, litter, prunable, retained
from flows.locks import APPEND_ONLY, why_undeletable
from flows.outcomes import Failures, told
from flows.owed import owed_to
from flows.plan import BackupPlan
from flows.plan_source import load_plan
from flows.removing import delete_backup, delete_objects
from flows.scrub_records import superseded_records
from flows.scrubbing import scrubbed
from flows.sources import refuse_unacknowledged

NO_TIME = datetime.min.replace(tzinfo=UTC)


@dataclass
class Pruned:
    """What happened, or in a dry run would happen, on one destination.

    Kept is also what no rule keeps but the store does not let go of yet, unfinished backups included.

    Args:
        error: What ended it on this destination; empty if it went to its end.
    """

    destination: str
    error: str = ""
    deleted: list[BackupId] = field(default_factory=list)
    kept: dict[BackupId, list[str]] = field(default_factory=dict)
    litter: list[BackupId] = field(default_factory=list)
    pending: int = 0
    records: int = 0


@dataclass(frozen=True)
class _Found:
    """A destination as it was found.

    Args:
        lacked: What each destination of the plan has yet to get, by its name.
        now: The store's clock.
    """

    plan: BackupPlan
    store: Store
    copies: Mapping[BackupId, Copy]
    lacked: Mapping[str, Collection[BackupId]]
    now: datetime

    @property
    def committed(self) -> dict[BackupId, Copy]:
        return {identifier: copy for identifier, copy in self.copies.items() if copy.committed}

    def began_before_newest(self, identifier: BackupId) -> bool:
        """Return whether an upload cannot be of a backup that merely takes longer than the grace period."""
        newest = max(self.committed, default=None)
        return newest is not None and naming.started_at(identifier) <= naming.started_at(newest)

    def lacked_by(self, identifier: BackupId) -> list[str]:
        """Return the other destinations that have yet to get a backup."""
        return [
            name for name, wanted in self.lacked.items() if identifier in wanted and name != self.store.name
        ]


@flow(name="prune", on_failure=[hooks.alert], on_crashed=[hooks.alert])
@scrubbed
def prune(plan: str, dry_run: bool = False) -> list[Pruned]:
    """Delete the backups that the plan's retention does not keep, and what killed runs left.

    Args:
        plan: Name of the backup plan.
        dry_run: Only say what would be deleted.
    """
    loaded = load_plan(plan)
    with outcomes.told_to(lambda done: reports.publish_prune(loaded, done, dry_run)):
        return prune_plan(loaded, own=None, dry_run=dry_run)


def prune_plan(
    plan: BackupPlan,
    stores: Sequence[Store] | None = None,
    *,
    own: BackupId | None,
    dry_run: bool = False,
) -> list[Pruned]:
    """Prune every destination; what fails on one or with one backup does not keep the others from it.

    What another destination has yet to get stays, too; one that does not answer is taken to lack everything.

    Args:
        stores: Only these destinations, instead of all of the plan's; the others are not asked.
        own: The backup of the run that prunes, which is never deleted.

    Raises:
        ExceptionGroup: What failed, after all was tried.
    """
    failures: Failures = []
    asked = plan.stores if stores is None else stores
    done = {store.name: Pruned(store.name) for store in asked}

    def left_out(store: Store, error: WorldError | PruneRefused) -> None:
        done[store.name].error = told(error)
        failures.append(error)

    catalogues = read_catalogues(plan, asked, left_out)
    lacked = {store.name: owed_to(plan, store, catalogues).keys() for store in plan.stores}
    for store in asked:
        if store.name in catalogues:
            try:
                found = _Found(plan, store, catalogues[store.name], lacked, store.now())
                _prune_store(found, done[store.name], own, dry_run, failures)
            except (WorldError, PruneRefused) as error:
                left_out(store, error)
    outcomes.tell(list(done.values()))
    outcomes.raise_all(f"pruning {plan.name}", failures)
    return list(done.values())


def pruned_rows(pruned: Iterable[Pruned]) -> list[dict[str, object]]:
    """Return what `pgsalvo prune --json` prints of each destination."""
    return [asdict(destination) for destination in pruned]


def _prune_store(
    found: _Found, pruned: Pruned, own: BackupId | None, dry_run: bool, failures: Failures
) -> None:
    """Prune one destination; what it refuses to delete is added to `failures`."""
    if found.store.append_only:
        _keep_everything(found, pruned)
        return
    refuse_unacknowledged(found.plan, found.store, found.committed.values())
    _prune_backups(found, pruned, own, dry_run, failures)
    _clear_litter(found, pruned, dry_run, failures)
    with _collected(failures):
        pruned.pending = _clear_pending(found, dry_run)
    present = found.committed.keys() - set(pruned.deleted)
    pruned.records = _clear_records(
        found.store, superseded_records(found.store, found.plan.name, present), dry_run
    )


def _keep_everything(found: _Found, pruned: Pruned) -> None:
    entries = (copy.entry for copy in found.committed.values() if copy.manifest)
    reasons = retained(entries, found.plan.policy_of(found.store))
    newest_first = sorted(found.committed, reverse=True)
    pruned.kept = {identifier: [*reasons.get(identifier, ()), APPEND_ONLY] for identifier in newest_first}
    for copy in _litter(found):
        pruned.kept[copy.backup_id] = ["never finished", APPEND_ONLY]


def _prune_backups(
    found: _Found, pruned: Pruned, own: BackupId | None, dry_run: bool, failures: Failures
) -> None:
    decision = prunable(
        [copy.entry for copy in found.committed.values() if copy.manifest],
        found.plan.policy_of(found.store),
        now=datetime.now(UTC),
        modified_at={identifier: copy.newest_object_at for identifier, copy in found.committed.items()},
        store_now=found.now,
        own=own,
    )
    pruned.kept |= decision.kept
    for copy in found.committed.values():
        if not copy.manifest:
            pruned.kept[copy.backup_id] = [f"not understood, so never deleted: {copy.problem}"]
    for identifier in decision.deletable:
        with _collected(failures):
            if kept := _kept_or_deleted(found, found.copies[identifier], dry_run):
                pruned.kept[identifier] = [kept]
            else:
                pruned.deleted.append(identifier)


def _kept_or_deleted(found: _Found, copy: Copy, dry_run: bool) -> str:
    """Delete a backup unless it is lacked elsewhere, locked, or held since; return why it is kept."""
    if names := found.lacked_by(copy.backup_id):
        return f"not yet on {' and '.join(names)}"
    if why := why_undeletable(found.plan.name, copy, found.now):
        return why
    if dry_run:
        return ""
    prefix = naming.backup_prefix(found.plan.name, copy.backup_id)
    if any(True for _ in copy.store.list(f"{prefix}holds/")):
        return "held meanwhile"
    return delete_backup(found.plan, copy)


def _clear_litter(found: _Found, pruned: Pruned, dry_run: bool, failures: Failures) -> None:
    for copy in _litter(found):
        with _collected(failures):
            if why := why_undeletable(found.plan.name, copy, found.now) or _taken_up(found, copy):
                pruned.kept[copy.backup_id] = ["never finished", why]
                continue
            if not dry_run:
                delete_objects(found.plan, copy)
            pruned.litter.append(copy.backup_id)


def _litter(found: _Found) -> list[Copy]:
    """Return what killed runs left, oldest first."""
    written_at = {identifier: copy.newest_object_at for identifier, copy in found.copies.items()}
    return [
        found.copies[identifier]
        for identifier in litter(written_at, found.committed, found.now)
        if found.began_before_newest(identifier) and not found.copies[identifier].holds
    ]


def _taken_up(found: _Found, copy: Copy) -> str:
    """Look again whether a sync is completing what a killed run left, or has; "" if not."""
    prefix = naming.backup_prefix(found.plan.name, copy.backup_id)
    manifest = naming.manifest_key(found.plan.name, copy.backup_id)
    present = list(copy.store.list(prefix))
    times = [each.modified_at for each in present]
    times += [upload.started_at for upload in copy.store.pending(prefix)]
    if any(each.key == manifest for each in present) or max(times, default=NO_TIME) > found.now - GRACE:
        return "taken up meanwhile"
    return ""


@contextmanager
def _collected(failures: Failures) -> Iterator[None]:
    """Note a refusal and let the next be tried; a destination that is gone is not asked again."""
    try:
        yield
    except StoreError as error:
        if error.transient:
            raise
        failures.append(error)


def _clear_pending(found: _Found, dry_run: bool) -> int:
    """Abort the uploads of dead runs, older than the grace period and the newest backup; return how many."""
    plan = found.plan.name
    old = [
        upload
        for upload in found.store.pending(naming.plan_prefix(plan))
        if found.now - upload.started_at > GRACE
        and ((split := naming.split_key(plan, upload.key)) is None or found.began_before_newest(split[0]))
    ]
    if not dry_run:
        for upload in old:
            found.store.abort_pending(upload)
    return len(old)


def _clear_records(store: Store, keys: Sequence[str], dry_run: bool) -> int:
    """Delete the records of scrubs that tell nothing any more, where they may be deleted; return how many."""
    if dry_run:
        return len(keys)
    cleared = 0
    for key in keys:
        with suppress(StoreLocked):
            store.delete(key)
            cleared += 1
    return cleared
