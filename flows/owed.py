"""What the destinations of a plan owe each other: whole backups that one lacks and others have."""

from collections.abc import Iterable
from dataclasses import replace

from blocks.stores import Store
from flows.catalogue import Copy
from flows.catalogues import Catalogues
from flows.core.lacking import lacking
from flows.core.naming import BackupId
from flows.core.retention import CatalogueEntry
from flows.plan import BackupPlan


def owed_to(plan: BackupPlan, store: Store, catalogues: Catalogues) -> dict[BackupId, list[Copy]]:
    """Return what a destination lacks or has damaged and its retention keeps, newest first.

    Args:
        catalogues: What lies on each destination that answers, by its name; if `store` is not among
            them, it is taken to lack everything.

    Returns:
        Each backup with the whole copies of it, the nearest first.
    """
    here = catalogues.get(store.name, {})
    elsewhere = _whole_elsewhere(plan, store, catalogues)
    wanted = lacking(
        [copy.entry for copy in here.values() if copy.manifest and copy.backup_id not in elsewhere],
        [_entry_once_copied(here.get(identifier), copies) for identifier, copies in elsewhere.items()],
        plan.policy_of(store),
    )
    return {identifier: elsewhere[identifier] for identifier in wanted}


def _whole_elsewhere(plan: BackupPlan, store: Store, catalogues: Catalogues) -> dict[BackupId, list[Copy]]:
    here = catalogues.get(store.name, {})
    found: dict[BackupId, list[Copy]] = {}
    for other in sorted(plan.stores, key=lambda each: not each.on_this_host):
        for copy in catalogues.get(other.name, {}).values() if other.name != store.name else ():
            present = here.get(copy.backup_id)
            if copy.is_sound and not (present and _is_left_alone(present)):
                found.setdefault(copy.backup_id, []).append(copy)
    return found


def _is_left_alone(present: Copy) -> bool:
    """Return whether a copy is whole as far as is known, or only another release can tell."""
    return present.unknown or (present.manifest is not None and not present.problem)


def _entry_once_copied(present: Copy | None, copies: Iterable[Copy]) -> CatalogueEntry:
    """Return how a backup would stand in a destination's catalogue: with a verdict only of its own."""
    first, *others = copies
    verdict = present.entry.verdict if present else None
    holds = {hold for copy in (first, *others, *([present] if present else [])) for hold in copy.holds}
    return replace(first.entry, verdict=verdict, holds=tuple(sorted(holds)))
