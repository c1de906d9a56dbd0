"""What is looked at before anything begins: what cannot work is said now, not after hours."""

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from blocks import rights
from blocks.container_programs import ContainerPrograms
from blocks.errors import RightsMissing, SpoolFull, WorldError
from blocks.identity import identity, sizes
from blocks.pgtools import ClientPrograms
from blocks.spool import free_bytes, sweep
from flows.catalogue import newest_manifest
from flows.core.errors import SourceChanged
from flows.core.manifest import Manifest, source_of
from flows.limits import asked
from flows.plan import BackupPlan
from flows.tasks.options import step

COMPRESSED_SHARE = 0.5  # of the database's size, for a first backup; later ones are told by the last
GROWTH = 1.5
LOOK_SECONDS = 300.0  # for each store, of which some list slowly


@dataclass(frozen=True)
class Ready:
    """What preflight found out and the backup needs."""

    programs: ClientPrograms | ContainerPrograms
    server_major: int
    source: str
    database_bytes: int
    expected_bytes: int
    passwords_readable: bool
    new_source: bool
    warnings: tuple[str, ...]


@step(name="preflight")
def preflight(plan: BackupPlan, new_source: bool) -> Ready:
    """Check programs, connection, rights, keys, stores, source and disk.

    Raises:
        WorldError: Something that the backup needs is missing; the hint says how to mend it.
        SourceChanged: The plan's newest backup is of another database.
    """
    swept = sweep(plan.spool_root)
    with plan.database.connect() as connection:
        database = identity(connection)
        problems = rights.check_rights(
            connection,
            plan.database.selection,
            now=datetime.now(UTC),
            sessions=plan.sessions,
        )
        passwords_readable = rights.may_read_passwords(connection)
        database_bytes = sizes(connection).database_bytes
    programs, warning = plan.find_client(database.major)
    errors = [problem for problem in problems if problem.severity == "error"]
    if errors:
        raise RightsMissing(errors[0].message, errors[0].remedy)
    with plan.recipients.prepare() as recipients:
        key_warnings = recipients.warnings
    source = source_of(database.system_identifier, database.dbname)
    last, store_warnings = _last_backup(plan)
    if last is not None and last.source != source and not new_source:
        raise SourceChanged(
            f"the plan {plan.name} has backups of another database; the newest is {last.backup_id}",
            "give this database a plan of its own, or back up with --new-source if it replaces the other",
        )
    first_time = database_bytes * COMPRESSED_SHARE
    expected = int(max(last.size_bytes * GROWTH, first_time / 4) if last else first_time)
    _check_disk(plan, min(expected, plan.spool_max_bytes or expected))
    warnings = (
        *((warning,) if warning else ()),
        *key_warnings,
        *(f"{problem.message} ({problem.remedy})" for problem in problems),
        *store_warnings,
        *(f"cleared what a killed run left: {path.name}" for path in swept),
    )
    return Ready(
        programs,
        database.major,
        source,
        database_bytes,
        expected,
        passwords_readable,
        # carried on by every later backup, so that prune finds it whichever of them retention keeps
        new_source or (last is not None and last.new_source),
        warnings,
    )


def _last_backup(plan: BackupPlan) -> tuple[Manifest | None, list[str]]:
    """Return the newest manifest on any destination; one that is down or hangs is only warned of here."""
    found: list[Manifest] = []
    warnings: list[str] = []
    failures: list[WorldError] = []
    for store in plan.stores:
        try:
            manifest = asked(store, partial(newest_manifest, store, plan.name), LOOK_SECONDS)
        except WorldError as error:
            failures.append(error)
            warnings.append(f"the store {store.name} cannot be read: {error.message}")
            continue
        if manifest is not None:
            found.append(manifest)
    if len(failures) == len(plan.stores):
        raise failures[0]
    return max(found, key=lambda manifest: manifest.backup_id, default=None), warnings


def _check_disk(plan: BackupPlan, needed_bytes: int) -> None:
    free = free_bytes(plan.spool_root)
    if free < needed_bytes:
        raise SpoolFull(
            f"the spool directory {plan.spool_root} has {free >> 20} MiB free, a backup needs about"
            f" {needed_bytes >> 20} MiB",
            "free some space there, set spool_directory to a larger disk, or spool_max_bytes to less",
        )
