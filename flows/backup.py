"""The story of a backup, from preflight to manifest."""

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture, wait
from prefect.states import Completed

from blocks import compression, pgcommands
from blocks.errors import DatabaseError, StoreError
from blocks.gpg_program import PreparedRecipients, gpg_version
from blocks.process import Command
from blocks.snapshot import Snapshot, locked_snapshot
from blocks.spool import Chain, Pipe, SpoolDirectory, SpoolFile
from flows import hooks, reports
from flows.after_backup import prune_now, start_verification
from flows.core import manifest as manifests
from flows.core import naming
from flows.core.errors import CopiesMissing, SourceChanged
from flows.core.facts import Facts
from flows.core.manifest import Archive, Manifest, Timings, Versions
from flows.core.naming import BackupId
from flows.core.restore_guide import restore_commands, restore_guide
from flows.destinations import Destinations
from flows.plan import BackupPlan
from flows.plan_source import load_plan
from flows.progress import Progress, shown
from flows.tasks import outbound
from flows.tasks.options import threads
from flows.tasks.preflight import Ready, preflight

LINKS_AT_ONCE = 64  # linked steps must never wait for a thread: with too few the chain hangs
PAUSES_SECONDS = (5.0, 20.0)


@dataclass
class Attempt:
    """One try at a backup: its snapshot, its streams, and the destinations that still count."""

    plan: BackupPlan
    ready: Ready
    backup_id: BackupId
    started_at: datetime
    spool: SpoolDirectory
    recipients: PreparedRecipients
    chain: Chain
    destinations: Destinations


@dataclass
class Streams:
    """The running steps of one archive."""

    name: str
    kind: str
    dumped: "PrefectFuture[outbound.Dumped] | None"
    encrypted: "PrefectFuture[outbound.Encrypted]"
    uploaded: "list[PrefectFuture[float]]"
    plain_bytes: int = 0

    @property
    def steps(self) -> "list[PrefectFuture[Any]]":
        return [*([self.dumped] if self.dumped else []), self.encrypted, *self.uploaded]


@flow(
    name="back-up",
    task_runner=threads(LINKS_AT_ONCE),  
    on_failure=[hooks.alert],
    on_crashed=[hooks.alert],
)
def back_up(plan: str, label: str = "", new_source: bool = False) -> State[None]:
    """Back up a plan's database to all its stores.

    Args:
        plan: Name of the backup plan.
        label: Free words to find this backup by, such as the name of a release.
        new_source: Accept that the plan's database was replaced by another, for instance after an upgrade.
    """
    loaded = load_plan(plan)
    ready = preflight(loaded, new_source)
    for warning in ready.warnings:
        get_run_logger().warning(warning)
    started_at = datetime.now(UTC)
    backup_id = naming.backup_id(started_at, secrets.token_hex(3))
    manifest = _with_new_snapshots(loaded, ready, backup_id, started_at, label, new_source)
    reports.publish_backup(loaded, manifest, ready.warnings)
    if loaded.prune == "after-backup":
        prune_now(loaded, own=backup_id)
    reports.publish_catalogue(loaded)
    start_verification(loaded, backup_id)
    return Completed(message=backup_id)


def _with_new_snapshots(
    plan: BackupPlan, ready: Ready, backup_id: BackupId, started_at: datetime, label: str, new_source: bool
) -> Manifest:
    """Try with a new snapshot each time that the server, a lock or a standby's recovery ends the old one."""
    for attempt in range(1, plan.attempts + 1):
        try:
            return _attempt(plan, ready, backup_id, started_at, label, new_source)
        except DatabaseError as error:
            if not error.transient or attempt == plan.attempts:
                raise
            pause = PAUSES_SECONDS[min(attempt, len(PAUSES_SECONDS)) - 1]
            get_run_logger().warning(
                "attempt %d of %d ended (%s); a new snapshot in %g s", attempt, plan.attempts, error.message, pause
            )
            time.sleep(pause)
    raise AssertionError("a plan makes at least one attempt")


def _attempt(
    plan: BackupPlan, ready: Ready, backup_id: BackupId, started_at: datetime, label: str, new_source: bool
) -> Manifest:
    chain = Chain()
    destinations = Destinations(plan.stores, chain.fail)
    with (
        SpoolDirectory(plan.spool_root, backup_id) as spool,
        plan.recipients.prepare() as recipients,
        _litter_cleared_on_failure(plan, backup_id),
    ):
        attempt = Attempt(plan, ready, backup_id, started_at, spool, recipients, chain, destinations)
        facts, facts_seconds, streams = _dump_with_facts(attempt)
        described = _add_facts(attempt, facts, streams)
        archives, timings = _archives([*streams, described], facts_seconds)
        checksum_seconds = _check_stored(attempt, archives)
        manifest = _manifest(
            attempt, facts, archives, timings.model_copy(update={"checksum": checksum_seconds}), label, new_source
        )
        _commit(attempt, manifest)
    return manifest


def _dump_with_facts(attempt: Attempt) -> tuple[Facts, float, list[Streams]]:
    """Dump and count in one locked snapshot; return when everything is stored or something failed."""
    plan, chain = attempt.plan, attempt.chain
    logger = get_run_logger()
    with locked_snapshot(
        plan.database, lock_name=plan.name, busy_timeout_seconds=plan.busy_timeout_seconds, on_wait=logger.info
    ) as snapshot:
        with (
            plan.database.client_environment(snapshot.pin) as reached,
            shown(Progress("dump", attempt.ready.database_bytes)) as progress,
            _stopped_with(chain),
        ):
            connection = reached.with_environment(attempt.ready.programs.environment)
            streams = [
                _start_archive(attempt, naming.MAIN_ARCHIVE, "main", _dump_command(attempt, snapshot, connection), progress),
                _start_archive(
                    attempt,
                    naming.GLOBALS_ARCHIVE,
                    "globals",
                    pgcommands.dump_globals(
                        attempt.ready.programs.pg_dumpall, connection, passwords=attempt.ready.passwords_readable
                    ),
                    Progress("globals", 0),
                ),
            ]
            counted = outbound.facts.submit(snapshot, attempt.backup_id, plan.name, chain)
            _finish([*(step for stream in streams for step in stream.steps), counted], chain)
        facts, seconds = counted.result()
        if manifests.source_of(facts.system_identifier, facts.dbname) != attempt.ready.source:
            raise SourceChanged("the server was replaced by another between preflight and dump", "run the backup again")
        for stream in streams:
            assert stream.dumped is not None  # noqa: S101 - both were started with a program
            stream.plain_bytes = stream.dumped.result().plain_bytes
        return facts, seconds, streams


def _dump_command(attempt: Attempt, snapshot: Snapshot, connection: pgcommands.Connection) -> Command:
    return pgcommands.dump(
        attempt.ready.programs.pg_dump,
        connection,
        snapshot=snapshot.name,
        lock_wait_seconds=attempt.plan.database.lock_wait_seconds,
        selection=snapshot.selection,
    )


def _start_archive(attempt: Attempt, name: str, kind: str, command: Command, progress: Progress) -> Streams:
    """Start dump, encrypt and uploads of one archive, linked by a pipe and a spool file."""
    pipe = Pipe()
    attempt.chain.add(pipe.abort)
    dumped = outbound.dump.submit(
        kind, command, pipe, attempt.chain, progress, attempt.plan.database.silence_seconds
    )
    streams = _start_encryption(attempt, name, kind, pipe.read(), attempt.ready.expected_bytes)
    streams.dumped = dumped
    return streams


def _start_encryption(
    attempt: Attempt, name: str, kind: str, source: Iterator[bytes], expected_bytes: int
) -> Streams:
    spool_file = attempt.spool.file(name)
    attempt.chain.add(spool_file.abort)
    encrypted = outbound.encrypt.submit(name, source, attempt.recipients, spool_file, attempt.chain)
    return Streams(name, kind, None, encrypted, _start_uploads(attempt, name, spool_file, expected_bytes))


def _start_uploads(
    attempt: Attempt, name: str, spool_file: SpoolFile, expected_bytes: int
) -> "list[PrefectFuture[float]]":
    key = naming.object_key(attempt.plan.name, attempt.backup_id, name)
    return [
        outbound.upload.submit(name, key, store, spool_file, attempt.destinations, expected_bytes)
        for store in attempt.destinations.live
    ]


def _add_facts(attempt: Attempt, facts: Facts, streams: list[Streams]) -> Streams:
    """Store the facts, bound to the dump by its checksum."""
    bound = facts.model_copy(
        update={"archives": {s.name: s.encrypted.result().sha256 for s in streams if s.kind == "main"}}
    )
    body = bound.model_dump_json().encode()
    with _stopped_with(attempt.chain):
        stream = _start_encryption(
            attempt, naming.FACTS_ARCHIVE, "facts", compression.compressed([body]), len(body)
        )
        stream.plain_bytes = len(body)
        _finish(stream.steps, attempt.chain)
    return stream


def _archives(streams: list[Streams], facts_seconds: float) -> tuple[tuple[Archive, ...], Timings]:
    archives, dump, encrypt, upload = [], 0.0, 0.0, 0.0
    for stream in streams:
        encrypted = stream.encrypted.result()
        archives.append(
            Archive(
                name=stream.name,
                kind=stream.kind,  # type: ignore[arg-type]
                size_bytes=encrypted.size_bytes,
                sha256=encrypted.sha256,
                plain_bytes=stream.plain_bytes,
            )
        )
        dump = max(dump, stream.dumped.result().seconds if stream.dumped else 0.0)
        encrypt = max(encrypt, encrypted.seconds)
        uploads = [future.result(raise_on_failure=False) for future in stream.uploaded]
        upload = max([upload, *(seconds for seconds in uploads if isinstance(seconds, float))])
    return tuple(archives), Timings(dump=dump, facts=facts_seconds, encrypt=encrypt, upload=upload, checksum=0.0)


def _check_stored(attempt: Attempt, archives: tuple[Archive, ...]) -> float:
    """Read every stored object back and compare its checksum; return the seconds it took."""
    began = time.monotonic()
    checks = [
        outbound.checksum.submit(
            archive, naming.object_key(attempt.plan.name, attempt.backup_id, archive.name), store, attempt.destinations
        )
        for store in attempt.destinations.live
        for archive in archives
    ]
    _finish(checks, attempt.chain)
    return time.monotonic() - began


def _manifest(
    attempt: Attempt,
    facts: Facts,
    archives: tuple[Archive, ...],
    timings: Timings,
    label: str,
    new_source: bool,
) -> Manifest:
    return Manifest(
        backup_id=attempt.backup_id,
        plan=attempt.plan.name,
        label=label,
        started_at=attempt.started_at,
        snapshot_at=facts.snapshot_at,
        finished_at=datetime.now(UTC),
        source=attempt.ready.source,
        new_source=new_source,
        versions=Versions(
            pgsalvo=version("pgsalvo"),
            server=facts.server_version,
            server_major=facts.server_major,
            pg_dump=attempt.ready.programs.version,
            gpg=gpg_version(),
        ),
        recipients=tuple(attempt.recipients.fingerprints),
        archives=archives,
        globals_passwords=attempt.ready.passwords_readable,
        restore=restore_commands(),
        timings=timings,
    )


def _commit(attempt: Attempt, manifest: Manifest) -> None:
    """Commit on every destination that holds all archives; raise unless enough of them do.

    Raises:
        CopiesMissing: Some destinations hold the backup, but fewer than the plan requires.
    """
    plan, destinations = attempt.plan, attempt.destinations
    guide = (naming.plan_prefix(plan.name) + naming.RESTORE_GUIDE_NAME, restore_guide().encode())
    body = manifests.encode(manifest)
    commits = [
        outbound.commit.submit(plan.name, attempt.backup_id, manifest.archives, body, guide, store, destinations)
        for store in destinations.live
    ]
    _finish(commits, attempt.chain)
    for name in destinations.lost:
        _clear(plan, attempt.backup_id, name)
    if len(destinations.live) < plan.required_copies:
        name, cause = next(iter(destinations.lost.items()))
        raise CopiesMissing(
            f"{len(destinations.live)} of {len(plan.stores)} destinations hold backup {attempt.backup_id};"
            f" {name} does not: {getattr(cause, 'message', type(cause).__name__)}",
            f"the copies on {', '.join(store.name for store in destinations.live)} are whole; mend {name} and back up again",
        )


def _finish(steps: "list[PrefectFuture[Any]]", chain: Chain) -> None:
    """Wait for steps; raise the first cause if the chain failed, never what followed from it."""
    wait(steps)
    if chain.first_cause is not None:
        raise chain.first_cause


@contextmanager
def _stopped_with(chain: Chain) -> Iterator[None]:
    """End every link if this thread is cancelled, so that no step waits for ever."""
    try:
        yield
    except BaseException as error:
        chain.fail(error)
        raise


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
    prefix = naming.backup_prefix(plan.name, backup_id)
    try:
        keys = [found.key for found in store.list(prefix)]
        if naming.manifest_key(plan.name, backup_id) not in keys:
            for key in keys:
                store.delete(key)
    except StoreError as error:
        get_run_logger().warning("%s keeps what was stored there until a later prune: %s", destination, error.message)


__all__ = ["back_up"]
