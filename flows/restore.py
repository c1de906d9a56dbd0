"""The story of a restore into a person's own database: in a bad night, or onto a new server."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed
from pydantic import SecretStr

from blocks import archive_restore, gpg, pgtools, timescale
from blocks.archive_restore import RestoreOutcome
from blocks.database_settings import apply_privileges, apply_settings
from blocks.errors import ConfigurationError, EncryptionError
from blocks.gpg_program import UnlockedKey
from blocks.identity import occupants
from blocks.pgcommands import Connection
from blocks.pgtools import ClientPrograms, parse_version
from blocks.postgres import PostgresDatabase, Session, pin
from blocks.references import is_reference
from blocks.spool import Chain, SpoolDirectory, SpoolFile, sweep
from flows import hooks, reports
from flows.beside import logger
from flows.catalogue import Copy, find
from flows.catalogues import read_destination
from flows.core.comparison import Comparison, compare
from flows.core.errors import BackupError, VerificationFailed
from flows.core.verification import Verdict
from flows.gathering import settings_of
from flows.plan import BackupPlan
from flows.plan_source import load_plan, load_secret_key
from flows.restoring import Fetched, fetched, restored
from flows.scrubbing import scrubbed
from flows.tasks import inbound
from flows.tasks.inbound import Target
from flows.tasks.options import performed, threads

MOST_TRUSTED = (Verdict.VERIFIED, None, Verdict.UNVERIFIABLE, Verdict.FAILED)


@flow(
    name="restore",
    task_runner=threads(8),
    on_failure=[hooks.alert],
    on_crashed=[hooks.alert],
)
@scrubbed
def restore(
    plan: str, into: str, backup: str = "latest", destination: str = "", with_globals: bool = False
) -> State[None]:
    """Restore a backup into an empty database, and compare it with the facts of its snapshot.

    Args:
        plan: Name of the backup plan.
        into: The target: a conninfo or URL without a password, or where one lies, such as env:TARGET_URL.
        backup: A backup's id, or "latest".
        destination: Name of the store to read from; if empty, one whose copy is verified, or the first.
        with_globals: Run globals.sql first: it creates the source's roles on the target's server.
    """
    loaded = load_plan(plan)
    target = target_database(into)
    copy = _chosen(loaded, backup, destination)
    sweep(loaded.spool_root)
    with (
        load_secret_key(loaded.verify.secret_key).unlock() as key,
        SpoolDirectory(loaded.spool_root, f"restore-{copy.backup_id}") as spool,
    ):
        _refuse_occupied(target)
        comparison = _restored(loaded, fetched(copy, key, spool), key, target, with_globals)
    reports.publish_restore(loaded, copy, comparison)
    if comparison.verdict is not Verdict.VERIFIED:
        raise VerificationFailed(
            f"backup {copy.backup_id} was restored without errors, but differs from its facts in"
            f" {len(comparison.findings)} places",
            "the run's report names the rules; restore another backup, or find out what the target changed",
        )
    return Completed(message=copy.backup_id)


def target_database(into: str) -> PostgresDatabase:
    """Return the database to restore into; raise `ConfigurationError` for a password in plain sight."""
    database = PostgresDatabase(conninfo=SecretStr(into))
    if not is_reference(into) and database.resolve().password is not None:
        raise ConfigurationError(
            "the target's conninfo holds a password, which every process list and Prefect would show",
            "write where it lies, such as env:TARGET_URL, or use PGPASSFILE",
        )
    return database


def _chosen(plan: BackupPlan, wanted: str, destination: str) -> Copy:
    """Return the whole copy to restore: without a wish a verified one, if there is any."""
    backup = find(read_destination(plan, destination), wanted)
    whole = [copy for copy in backup.copies if not copy.problem]
    if not whole:
        raise BackupError(
            f"backup {backup.backup_id} is damaged: {backup.copies[0].problem}",
            "pgsalvo list shows the others",
        )
    return min(whole, key=lambda copy: MOST_TRUSTED.index(copy.verdict))


def _refuse_occupied(target: PostgresDatabase) -> None:
    with target.connect() as session:
        found = occupants(session)
    if found:
        raise ConfigurationError(
            f"the target database is not empty: it has {', '.join(f'{n} {what}' for what, n in found)}",
            "restore into a new database; createdb --template=template0 NAME makes one",
        )


def _restored(
    plan: BackupPlan,
    backup: Fetched,
    key: UnlockedKey,
    target: PostgresDatabase,
    with_globals: bool,
) -> Comparison:
    client, _ = pgtools.find_client(parse_version(backup.manifest.versions.pg_dump)[1])
    with target.connect() as session:
        server = pin(session)
    with target.client_environment(server) as reached:
        connection = reached.with_environment(client.environment)
        if with_globals:
            _run_globals(backup, key, client, connection)
        outcome = restored(
            backup,
            key,
            Target(
                client,
                connection,
                connection,
                trusted=True,
                before_rows=partial(_called, target, timescale.before_rows),
                after_rest=partial(_called, target, timescale.after_restore),
            ),
        )
    if outcome.count:
        raise VerificationFailed(
            f"pg_restore reported {outcome.count} errors; the target is not whole",
            f"{_kept_errors(plan, backup, outcome)}; drop the target, mend them and restore again"
            " (missing roles: --globals creates them)",
        )
    with target.connect() as session:
        apply_settings(session, [(s.role, s.name, s.value) for s in backup.facts.settings])
        apply_privileges(session, backup.facts.properties.access_privileges)
        state = performed(inbound.look, session, session, backup.facts)
        settings = settings_of(session)
    return compare(backup.facts, replace(state, settings=settings))


def _called(target: PostgresDatabase, call: Callable[[Session], None]) -> None:
    with target.connect() as session:
        call(session)


def _run_globals(backup: Fetched, key: UnlockedKey, client: ClientPrograms, connection: Connection) -> None:
    script = inbound.plain_chunks(backup.path("globals"), key)
    outcome = archive_restore.run_script(client.psql, connection, script)
    if outcome.count:
        logger.warning(
            "globals.sql: %d statements failed; roles that exist already are harmless", outcome.count
        )


def _kept_errors(plan: BackupPlan, backup: Fetched, outcome: RestoreOutcome) -> str:
    """Keep pg_restore's words encrypted to the plan's recipients, for they may hold rows' values.

    Returns:
        How to read them.
    """
    path = plan.spool_root / f"restore-errors-{backup.manifest.backup_id}.txt.gpg"
    path.unlink(missing_ok=True)
    try:
        with plan.recipients.prepare() as recipients:
            gpg.encrypt(iter(["\n".join(outcome.errors).encode()]), recipients, SpoolFile(path), Chain())
    except EncryptionError as error:
        return f"they could not be kept: {error.message}"
    return f"gpg --decrypt {path} shows them"
