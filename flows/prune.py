"""The story of a prune: decide on each destination by its own catalogue, then delete, manifests first."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from itertools import pairwise

from prefect import flow

from blocks.errors import StoreError
from blocks.stores import Store
from flows import hooks, reports
from flows.catalogue import Copy, read_store
from flows.core import naming
from flows.core.errors import PruneRefused
from flows.core.naming import BackupId
from flows.core.retention import GRACE, litter, prunable
from flows.plan import BackupPlan
from flows.plan_source import load_plan
from flows.scrubbing import scrubbed


@dataclass
class Pruned:
    """What happened, or in a dry run would happen, on one destination."""

    destination: str
    deleted: list[BackupId] = field(default_factory=list)
    kept: dict[BackupId, list[str]] = field(default_factory=dict)
    litter: list[BackupId] = field(default_factory=list)
    pending: int = 0


@flow(name="prune", on_failure=[hooks.alert], on_crashed=[hooks.alert])
@scrubbed
def prune(plan: str, dry_run: bool = False) -> list[Pruned]:
    """Delete the backups that the plan's retention does not keep, and what killed runs left.

    Args:
        plan: Name of the backup plan.
        dry_run: Only say what would be deleted.
    """
    loaded = load_plan(plan)
    pruned = prune_plan(loaded, own=None, dry_run=dry_run)
    reports.publish_prune(loaded, pruned, dry_run)
    return pruned


def prune_plan(
    plan: BackupPlan,
    stores: Sequence[Store] | None = None,
    *,
    own: BackupId | None,
    dry_run: bool = False,
) -> list[Pruned]:
    """Prune every destination; one that fails does not keep the others from it.

    Args:
        stores: Only these destinations, instead of all of the plan's.
        own: The backup of the run that prunes, which is never deleted.

    Raises:
        ExceptionGroup: What failed on which destination, after all were tried.
    """
    done, failures = [], []
    for store in plan.stores if stores is None else stores:
        try:
            done.append(_prune_store(plan, store, own, dry_run))
        except (StoreError, PruneRefused) as error:
            failures.append(error)
    if len(failures) == 1:
        raise failures[0]
    if failures:
        raise ExceptionGroup(f"pruning {plan.name} failed on {len(failures)} destinations", failures)
    return done


def _prune_store(plan: BackupPlan, store: Store, own: BackupId | None, dry_run: bool) -> Pruned:
    copies = {copy.backup_id: copy for copy in read_store(store, plan.name)}
    committed = {identifier: copy for identifier, copy in copies.items() if copy.committed}
    refuse_unacknowledged(plan, store, committed.values())
    store_now = store.now()
    decision = prunable(
        [copy.entry for copy in committed.values() if copy.manifest],
        plan.policy,
        now=datetime.now(UTC),
        modified_at={identifier: copy.newest_object_at for identifier, copy in committed.items()},
        store_now=store_now,
        own=own,
    )
    pruned = Pruned(store.name, kept=decision.kept)
    for copy in committed.values():
        if not copy.manifest:
            pruned.kept[copy.backup_id] = [f"not understood, so never deleted: {copy.problem}"]
    for identifier in decision.deletable:
        if dry_run or _delete_unheld(plan, store, committed[identifier]):
            pruned.deleted.append(identifier)
        else:
            pruned.kept[identifier] = ["held meanwhile"]
    pruned.litter = litter(
        {identifier: copy.newest_object_at for identifier, copy in copies.items()},
        committed.keys(),
        store_now,
    )
    # What began after the newest backup may be one that takes longer than the grace period.
    newest = max(committed, default=None)
    pruned.litter = [
        identifier
        for identifier in pruned.litter
        if _began_before(identifier, newest) and not copies[identifier].holds
    ]
    if not dry_run:
        for identifier in pruned.litter:
            _delete_objects(plan, store, identifier, copies[identifier].sizes)
    pruned.pending = _clear_pending(plan, store, newest, store_now, dry_run)
    return pruned


def refuse_unacknowledged(plan: BackupPlan, store: Store, committed: Iterable[Copy]) -> None:
    """Raise `PruneRefused` if two databases' backups share the prefix and nobody said that this is right."""
    manifests = sorted((copy.manifest for copy in committed if copy.manifest), key=lambda m: m.backup_id)
    acknowledged = {manifest.source for manifest in manifests if manifest.new_source}
    for previous, manifest in pairwise(manifests):
        if manifest.source != previous.source and manifest.source not in acknowledged:
            raise PruneRefused(
                f"{store.name} holds backups of two databases under the plan {plan.name}:"
                f" {previous.backup_id} and {manifest.backup_id}",
                "give each database a plan of its own; if one replaced the other, back up with --new-source",
            )


def _delete_unheld(plan: BackupPlan, store: Store, copy: Copy) -> bool:
    """Delete a backup, manifest first, unless somebody put a hold on it since; return whether it is gone."""
    prefix = naming.backup_prefix(plan.name, copy.backup_id)
    if any(True for _ in store.list(f"{prefix}holds/")):
        return False
    delete_backup(plan, store, copy)
    return True


def delete_backup(plan: BackupPlan, store: Store, copy: Copy) -> None:
    """Delete one backup: its manifest first, so that whatever happens next, no half of it looks whole."""
    store.delete(naming.manifest_key(plan.name, copy.backup_id))
    _delete_objects(plan, store, copy.backup_id, copy.sizes)


def _delete_objects(plan: BackupPlan, store: Store, identifier: BackupId, names: Iterable[str]) -> None:
    for name in sorted(names):
        store.delete(naming.object_key(plan.name, identifier, name))


def _clear_pending(
    plan: BackupPlan, store: Store, newest: BackupId | None, store_now: datetime, dry_run: bool
) -> int:
    """Abort the uploads of dead runs, older than the grace period and the newest backup; return how many."""
    old = [
        upload
        for upload in store.pending(naming.plan_prefix(plan.name))
        if store_now - upload.started_at > GRACE
        and ((split := naming.split_key(plan.name, upload.key)) is None or _began_before(split[0], newest))
    ]
    if not dry_run:
        for upload in old:
            store.abort_pending(upload)
    return len(old)


def _began_before(identifier: BackupId, newest: BackupId | None) -> bool:
    return newest is not None and naming.started_at(identifier) <= naming.started_at(newest)


def pruned_rows(pruned: Iterable[Pruned]) -> list[dict[str, object]]:
    """Return what `pgsalvo prune --json` prints of each destination."""
    return [asdict(destination) for destination in pruned]
