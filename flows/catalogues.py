"""The catalogues of all of a plan's destinations: one that cannot be read does not hide the others."""

from collections.abc import Callable, Iterable
from functools import partial

from blocks.errors import WorldError
from blocks.stores import Store
from flows.beside import logger
from flows.catalogue import Backup, Copy, committed_backups, read_store
from flows.core.naming import BackupId
from flows.limits import asked
from flows.outcomes import told
from flows.plan import BackupPlan

CATALOGUE_SECONDS = 900.0  # to list a store and read some hundred small objects, which some do slowly

Catalogues = dict[str, dict[BackupId, Copy]]
OnFailure = Callable[[Store, WorldError], None]


def read_catalogues(
    plan: BackupPlan, stores: Iterable[Store], on_failure: OnFailure, seconds: float = CATALOGUE_SECONDS
) -> Catalogues:
    """Return what lies on each of some destinations, by the destination's name, litter included.

    Args:
        on_failure: Told of each that cannot be read, and is left out: it does not answer, or this host lacks
            what it takes to reach it.
        seconds: How long each may take, which may be a mount that hangs.
    """
    found: Catalogues = {}
    for store in stores:
        try:
            found[store.name] = {copy.backup_id: copy for copy in _read(store, plan.name, seconds)}
        except WorldError as error:
            on_failure(store, error)
    return found


def read_all(
    plan: BackupPlan, on_failure: OnFailure = lambda *_: None, seconds: float = CATALOGUE_SECONDS
) -> list[Backup]:
    """Return the committed backups on every destination that can be read, newest first.

    Args:
        on_failure: Told of each that cannot; if none can, the first one's error is raised.
        seconds: How long each may take.
    """
    failures: list[WorldError] = []

    def left_out(store: Store, error: WorldError) -> None:
        failures.append(error)
        on_failure(store, error)

    catalogues = read_catalogues(plan, plan.stores, left_out, seconds)
    if not catalogues:
        raise failures[0]
    return committed_backups(copy for catalogue in catalogues.values() for copy in catalogue.values())


def read_destination(plan: BackupPlan, destination: str) -> list[Backup]:
    """Return the backups on one destination, or if none is named on every one that can be read."""
    if destination:
        return committed_backups(_read(plan.store(destination), plan.name))
    return read_all(plan, lambda _, error: logger.warning("going on without it: %s", told(error)))


def _read(store: Store, plan: str, seconds: float = CATALOGUE_SECONDS) -> list[Copy]:
    return asked(store, partial(read_store, store, plan), seconds)
