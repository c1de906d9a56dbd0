"""The story of a backup, from preflight to manifest."""

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.states import Completed

from blocks import pgcommands
from blocks.errors import DatabaseError, StoreUnreachable, UploadCutShort, WorldError
from blocks.gpg_program import gpg_version
from blocks.process import Command
from blocks.snapshot import Snapshot, locked_snapshot
from blocks.spool import Chain, SpoolDirectory
from blocks.spool_segments import Spool
from blocks.stores import Store
from flows import hooks, reports
from flows.after_backup import prune_or_tell, start_verification, tell_of_missing_copies
from flows.attempt import Attempt
from flows.core import manifest as manifests
from flows.core import naming
from flows.core.errors import BackupError, CopiesMissing, SourceChanged
from flows.core.facts import Facts
from flows.core.manifest import Manifest, Timings, Versions
from flows.core.naming import BackupId
from flows.core.read_back import weakest
from flows.core.restore_guide import restore_commands, restore_guide
from flows.destinations import Destinations
from flows.gathering import definitions_of
from flows.limits import asked
from flows.outcomes import told
from flows.plan import BackupPlan
from flows.plan_source import load_plan
from flows.progress import Progress, shown
from flows.scrubbing import scrubbed
from flows.snapshot_age import alarmed_when_old
from flows.tasks import outbound
from flows.tasks.options import threads
from flows.tasks.preflight import Ready, preflight

LINKS_AT_ONCE = 64  # linked steps must never wait for a thread: with too few the chain hangs
PAUSES_SECONDS = (5.0, 20.0)
CLEAR_SECONDS = 60.0  # for each store, which may be the one that hangs and made the attempt fail


@flow(name="back-up", task_runner=threads(LINKS_AT_ONCE), on_failure=[hooks.alert], on_crashed=[hooks.alert])
@scrubbed
def back_up(plan: str, label: str = "", new_source: bool = False) -> State[None]:
    """Back up a plan's database to all its stores; the final state's message is the backup's id.

    Args:
        plan: Name of the backup plan.
        label: Free words to find this backup by, such as the name of a release.
        new_source: Accept that the plan's database was replaced by another, for instance after an upgrade.
    """
    loaded = load_plan(plan)
    ready = preflight(loaded, new_source)
    manifest, destinations = _with_new_snapshots(loaded, ready, label)
    reports.publish_backup(loaded, manifest, destinations, ready.warnings)
    tell_of_missing_copies(loaded, manifest.backup_id, destinations)
    if loaded.prune == "after-backup":
        prune_or_tell(loaded, destinations.live, manifest.backup_id)
    reports.publish_catalogue(loaded)
    start_verification(loaded, manifest.backup_id, ready.database_bytes)
    return Completed(message=manifest.backup_id)


def _with_new_snapshots(plan: BackupPlan, ready: Ready, label: str) -> tuple[Manifest, Destinations]:
    """Try with a new snapshot when the old one was ended, or its archive cannot be sent again."""
    logger = get_run_logger()
    for warning in ready.warnings:
        logger.warning(warning)
    for number in range(1, plan.attempts + 1):
        try:
            return _attempt(plan, ready, label)
        except (DatabaseError, UploadCutShort) as error:
            may_pass = error.transient or isinstance(error, UploadCutShort)
            if not may_pass or number == plan.attempts:
                raise
            pause = PAUSES_SECONDS[min(number, len(PAUSES_SECONDS)) - 1]
            logger.warning(
                "attempt %d of %d ended: %s; another in %g s", number, plan.attempts, error.message, pause
            )
            time.sleep(pause)
    raise AssertionError("a plan makes at least one attempt")


def _attempt(plan: BackupPlan, ready: Ready, label: str) -> tuple[Manifest, Destinations]:
    """Make one backup under one lock, which another backup of the plan waits for until this is committed."""
    with locked_snapshot(
        plan.database,
        lock_name=plan.name,
        busy_timeout_seconds=plan.busy_timeout_seconds,
        on_wait=get_run_logger().info,
    ) as snapshot:
        started_at = datetime.now(UTC)
        backup_id = naming.backup_id(started_at, secrets.token_hex(3))
        chain = Chain()
        with (
            SpoolDirectory(plan.spool_root, backup_id) as directory,
            plan.recipients.prepare() as recipients,
            _litter_cleared_on_failure(plan, backup_id),
        ):
            destinations = Destinations(plan.stores, chain.fail)
            spool = Spool(directory.path, plan.spool_max_bytes, plan.spool_stall_seconds)
            attempt = Attempt(plan, ready, backup_id, started_at, spool, recipients, chain, destinations)
            facts, facts_seconds = _dump_with_facts(attempt, snapshot)
            attempt.store_facts(facts)
            timings = attempt.timings(facts_seconds, _check_stored(attempt))
            manifest = _manifest(attempt, facts, timings, label)
            _commit(attempt, manifest)
    return manifest, destinations


def _dump_with_facts(attempt: Attempt, snapshot: Snapshot) -> tuple[Facts, float]:
    """Dump and count in the snapshot, then wait until all is stored; return facts and their seconds."""
    plan, ready = attempt.plan, attempt.ready
    definitions = definitions_of(snapshot)
    with (
        plan.database.client_environment(snapshot.pin) as reached,
        ready.programs.reaching(reached) as (connection, launched),
        shown(Progress("dump", ready.database_bytes)) as progress,
        alarmed_when_old(plan, snapshot, get_run_logger()),
        attempt.stopped_with(),
    ):
        dump_command = _dump_command(attempt, snapshot, connection)
        attempt.start_dump(naming.MAIN_ARCHIVE, "main", launched(dump_command), progress)
        globals_command = pgcommands.dump_globals(
            ready.programs.pg_dumpall, connection, passwords=ready.passwords_readable
        )
        attempt.start_dump(
            naming.GLOBALS_ARCHIVE, "globals", launched(globals_command), Progress("globals", 0)
        )
        counting = outbound.facts.submit(
            snapshot,
            attempt.backup_id,
            plan.name,
            attempt.chain,
            plan.proof_at(attempt.started_at),
            plan.fact_sessions,
            definitions,
            progress,
        )
        attempt.link(counting)
        attempt.finish([counting, *(link for stream in attempt.streams for link in stream.links)])
        attempt.snapshot_seconds = snapshot.age_seconds
        # the tables are held for as long as the dump takes, and for the network only if the spool was full
        snapshot.release()
        attempt.note_waiting()
        attempt.finish([upload for stream in attempt.streams for upload in stream.uploaded])
    facts, seconds = counting.result()
    if manifests.source_of(facts.system_identifier, facts.dbname) != ready.source:
        raise SourceChanged("the server was replaced by another during the backup", "run the backup again")
    return facts, seconds


def _dump_command(attempt: Attempt, snapshot: Snapshot, connection: pgcommands.Connection) -> Command:
    return pgcommands.dump(
        attempt.ready.programs.pg_dump,
        connection,
        snapshot=snapshot.name,
        lock_wait_seconds=attempt.plan.database.lock_wait_seconds,
        selection=snapshot.selection,
    )


def _check_stored(attempt: Attempt) -> float:
    """Check every stored object as the plan's `read_back` says; return the seconds it took."""
    began = time.monotonic()
    attempt.finish(
        [
            attempt.transfer(
                outbound.checksum.submit(
                    archive,
                    attempt.key(archive.name),
                    store,
                    attempt.destinations,
                    attempt.plan.read_back,
                    attempt.passage(archive.name, store),
                ),
                store,
            )
            for store in attempt.destinations.live
            for archive in attempt.archives
        ]
    )
    return time.monotonic() - began


def _manifest(attempt: Attempt, facts: Facts, timings: Timings, label: str) -> Manifest:
    return Manifest(
        backup_id=attempt.backup_id,
        plan=attempt.plan.name,
        label=label,
        started_at=attempt.started_at,
        snapshot_at=facts.snapshot_at,
        finished_at=datetime.now(UTC),
        source=attempt.ready.source,
        new_source=attempt.ready.new_source,
        versions=Versions(
            pgsalvo=version("pgsalvo"),
            server=facts.server_version,
            server_major=facts.server_major,
            pg_dump=attempt.ready.programs.version,
            gpg=gpg_version(),
        ),
        recipients=attempt.recipients.fingerprints,
        archives=attempt.archives,
        globals_passwords=attempt.ready.passwords_readable,
        restore=restore_commands(),
        timings=timings,
        read_back=weakest(
            check.way
            for store in attempt.destinations.live
            for check in attempt.destinations.checks[store.name]
        ),
    )


def _commit(attempt: Attempt, manifest: Manifest) -> None:
    """Commit on every destination that holds all archives; raise unless enough of them do.

    Raises:
        CopiesMissing: Some destinations hold the backup, but fewer than the plan requires.
    """
    plan, destinations = attempt.plan, attempt.destinations
    guide = (naming.plan_prefix(plan.name) + naming.RESTORE_GUIDE_NAME, restore_guide().encode())
    body = manifests.encode(manifest)
    attempt.finish(
        [
            attempt.transfer(outbound.commit.submit(manifest, body, guide, store, destinations), store)
            for store in destinations.live
        ]
    )
    for warning in destinations.warnings:
        get_run_logger().warning(warning)
    for name, cause in destinations.lost.items():
        if not isinstance(cause, StoreUnreachable):  # which a later prune clears: asking it may hang
            _clear(plan, manifest.backup_id, name)
    if len(destinations.live) < plan.required_copies:
        name, cause = next(iter(destinations.lost.items()))
        raise CopiesMissing(
            f"{len(destinations.live)} of {len(plan.stores)} destinations hold backup {manifest.backup_id};"
            f" {name} does not: {told(cause)}",
            f"the copies on {', '.join(store.name for store in destinations.live)} are whole;"
            f" mend {name}, then pgsalvo sync {plan.name} copies the backup there",
        )


@contextmanager
def _litter_cleared_on_failure(plan: BackupPlan, backup_id: BackupId) -> Iterator[None]:
    """Take back what a failed attempt stored, unless it was committed somewhere; prune clears what stays."""
    try:
        yield
    except CopiesMissing:
        raise
    except BaseException:
        for store in plan.stores:
            _clear(plan, backup_id, store.name)
        raise


def _clear(plan: BackupPlan, backup_id: BackupId, destination: str) -> None:
    store = plan.store(destination)
    if store.append_only:
        get_run_logger().warning("%s keeps what was stored there: it is append-only", destination)
        return
    until = time.monotonic() + CLEAR_SECONDS
    try:
        asked(store, lambda: _delete_uncommitted(store, plan.name, backup_id, until), CLEAR_SECONDS)
    except (WorldError, BackupError) as error:
        get_run_logger().warning(
            "%s keeps what was stored there until a later prune: %s", destination, told(error)
        )


def _delete_uncommitted(store: Store, plan: str, backup_id: BackupId, until: float) -> None:
    """Delete a backup's objects unless a sync has completed it since; nothing after `until`, unwatched."""
    for found in tuple(store.list(naming.backup_prefix(plan, backup_id))):
        if store.exists(naming.manifest_key(plan, backup_id)) or time.monotonic() >= until:
            return
        store.delete(found.key)
