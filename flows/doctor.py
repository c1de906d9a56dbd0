"""What a person wants to know before trusting a plan: each check is one line, with its remedy.

Nothing here starts a backup or Prefect's API.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime

from blocks import gpg, pgcommands, rights
from blocks.container_programs import ContainerPrograms
from blocks.container_runtime import find_runtime
from blocks.errors import (
    DatabaseError,
    ProgramError,
    ProgramMissing,
    ProgramTooOld,
    ScratchError,
    WorldError,
)
from blocks.identity import Identity, extensions, identity, properties, sizes
from blocks.inventory import take_inventory
from blocks.objects import read_objects
from blocks.pgtools import ClientPrograms
from blocks.postgres import Pin, pin
from blocks.process import run_checked
from blocks.scratch_preload import refusing
from blocks.spool import Chain, SpoolDirectory, free_bytes
from flows.catalogue import Backup, Copy
from flows.catalogues import read_all
from flows.checks import Check, Checks
from flows.core.errors import BackupError
from flows.core.naming import BackupId
from flows.core.verification import Verdict
from flows.gathering import objects_of
from flows.owed import owed_to
from flows.plan import BackupPlan
from flows.progress import human_bytes
from flows.scratch_needs import Needs, refuse_unfit
from flows.scratch_servers import scratch_for
from flows.store_check import check_store

CLIENT_IN_CONTAINER = {
    "docker": 'client = { image = "postgres:{major}" }',
    # podman knows no registry by itself
    "podman": 'client = { image = "docker.io/library/postgres:{major}", program = "podman" }',
}


def examine(plan: BackupPlan, schedules: Callable[[BackupPlan], Checks] | None = None) -> Iterator[Check]:
    """Yield every check of a plan; one that fails does not keep the others from being made.

    Args:
        schedules: Looks at the plan's schedules where a Prefect server is configured.
    """
    for name, checks in (
        ("database", lambda: _database(plan)),
        ("recipients", lambda: _recipients(plan)),
        ("spool", lambda: _spool(plan)),
        *((f"store {store.name}", lambda store=store: check_store(plan, store)) for store in plan.stores),
        ("copies", lambda: _copies(plan)),
        ("verification", lambda: _verification(plan)),
        ("alerts", lambda: _alerts(plan)),
        *((("schedule", lambda: schedules(plan)),) if schedules else ()),
    ):
        yield from _told(name, checks)


def _told(name: str, checks: Callable[[], Checks]) -> Checks:
    try:
        yield from checks()
    except (WorldError, BackupError) as error:
        yield Check(name, "error", error.message, error.hint)


def _database(plan: BackupPlan) -> Checks:
    target = plan.database.resolve()
    for notice in target.notices:
        yield Check("database", "warning", notice)
    with plan.database.connect() as session:
        who = identity(session)
        yield Check("connection", "ok", f"PostgreSQL {who.server_version}, database {who.dbname}")
        problems = rights.check_rights(session, plan.database.selection, now=datetime.now(UTC))
        server = pin(session)
        size = sizes(session).database_bytes
        inventory = take_inventory(session, plan.database.selection)
        needs = Needs(
            {extension.name for extension in extensions(session)},
            properties(session).needs_icu,
            objects_of(read_objects(session, inventory.names)),
        )
    if not problems:
        yield Check("rights", "ok", f"{len(inventory.tables)} tables can be read, {human_bytes(size)}")
    for problem in problems:
        yield Check("rights", problem.severity, problem.message, problem.remedy)
    programs, warning = _client(plan, who.major)
    yield Check(
        "pg_dump", "warning" if warning else "ok", warning or f"{programs.version} in {programs.place}"
    )
    yield from _trial_dump(plan, server, programs)
    yield from _scratch(plan, who, needs)


def _client(plan: BackupPlan, major: int) -> tuple[ClientPrograms | ContainerPrograms, str]:
    """Return the programs that dump; if there are none, the remedy tells of an image too."""
    try:
        return plan.find_client(major)
    except (ProgramMissing, ProgramTooOld) as error:
        if plan.client or not (line := _line_for_a_container()):
            raise
        remedy = f"{error.hint}, or take them from an image: write `{line}` below [plans.{plan.name}]"
        raise type(error)(error.message, remedy) from error


def _line_for_a_container() -> str:
    """Return what plans.toml says if pg_dump runs in a container, or nothing where no container can run."""
    for program, line in CLIENT_IN_CONTAINER.items():
        with suppress(ProgramError):
            find_runtime(program)
            return line
    return ""


def _trial_dump(plan: BackupPlan, server: Pin, programs: ClientPrograms | ContainerPrograms) -> Checks:
    with (
        plan.database.client_environment(server) as reached,
        programs.reaching(reached) as (connection, launched),
    ):
        command = launched(pgcommands.dump_schema(programs.pg_dump, connection))
        archive = run_checked(command, timeout_seconds=300)
    yield Check("trial dump", "ok", f"the definitions were dumped, {human_bytes(len(archive))}")


def _scratch(plan: BackupPlan, who: Identity, needs: Needs) -> Checks:
    """Say now what a verification on this host would lack."""
    try:
        with scratch_for(
            plan.verify.scratch,
            system_identifier=who.system_identifier,
            dbname=who.dbname,
            major=who.major,
            root=plan.spool_root,
            preload=refusing(needs.extensions),
        ) as scratch:
            refuse_unfit(scratch, needs)
    except (ScratchError, DatabaseError) as error:
        yield Check(
            "scratch server",
            "warning",
            f"a backup could not be verified on this host: {error.message}",
            error.hint,
        )
    else:
        kind = plan.verify.scratch.kind
        yield Check("scratch server", "ok", f"PostgreSQL {scratch.major} ({kind}) can verify a backup")


def _recipients(plan: BackupPlan) -> Checks:
    with (
        plan.recipients.prepare() as recipients,
        SpoolDirectory(plan.spool_root, "doctor") as spool,
    ):
        for warning in recipients.warnings:
            yield Check(
                "recipients", "warning", warning, "make a new key before then, and add it to the plan"
            )
        gpg.encrypt(iter([b"trial"]), recipients, spool.file("trial"), Chain())
        yield Check(
            "recipients", "ok", f"a test encryption succeeded to {', '.join(recipients.fingerprints)}"
        )


def _spool(plan: BackupPlan) -> Checks:
    with SpoolDirectory(plan.spool_root, "doctor"):
        yield Check("spool", "ok", f"{plan.spool_root}, {human_bytes(free_bytes(plan.spool_root))} free")
        if plan.spool_max_bytes:
            yield Check(
                "spool", "ok", f"it holds at most {human_bytes(plan.spool_max_bytes)} of a backup: the dump"
                " and its snapshot last as long as the slowest destination takes",
            )  # fmt: skip


def _copies(plan: BackupPlan) -> Checks:
    if all(store.on_this_host for store in plan.stores):
        yield Check(
            "copies", "warning", "OFFSITE_MISSING: every copy lies on this host, and is lost with it",
            "add a store elsewhere to the plan, such as kind = \"s3\"",
        )  # fmt: skip
    else:
        yield Check("copies", "ok", f"{len(plan.stores)} destinations, at least one off this host")


def _verification(plan: BackupPlan) -> Checks:
    silent: list[str] = []
    backups = read_all(plan, lambda store, _: silent.append(store.name))
    yield from _lacking(plan, backups, silent)
    for backup in backups:
        for copy in backup.copies:
            if copy.problem:
                yield Check("backups", "error", f"{backup.backup_id} on {copy.store.name}: {copy.problem}",
                            copy.remedy or "keep it until you know why; verify another")  # fmt: skip
    verified = [backup for backup in backups if backup.verdict is Verdict.VERIFIED]
    if not backups:
        yield Check("verification", "warning", "there is no backup yet", f"pgsalvo backup {plan.name}")
    elif not verified:
        yield Check(
            "verification", "warning", "no verification has ever succeeded", f"pgsalvo verify {plan.name}"
        )
    elif backups[0].verdict in (Verdict.FAILED, Verdict.UNVERIFIABLE):
        yield Check(
            "verification",
            "warning",
            f"the newest backup {backups[0].backup_id} is {backups[0].verdict};"
            f" the newest verified one is {verified[0].backup_id}",
            f"pgsalvo verify {plan.name}",
        )
    else:
        yield Check("verification", "ok", f"the newest verified backup is {verified[0].backup_id}")
    if not plan.verify.secret_key or plan.verify.schedule == "never":
        yield Check("verification", "warning", "this plan never verifies its backups",
                    "set verify.secret_key and verify.schedule")  # fmt: skip


def _lacking(plan: BackupPlan, backups: Sequence[Backup], silent: Sequence[str]) -> Checks:
    """Tell which destinations have yet to get backups that others hold; `silent` ones are told elsewhere."""
    catalogues: dict[str, dict[BackupId, Copy]] = {
        store.name: {} for store in plan.stores if store.name not in silent
    }
    for copy in (copy for backup in backups for copy in backup.copies):
        catalogues[copy.store.name][copy.backup_id] = copy
    for store in plan.stores:
        owed = owed_to(plan, store, catalogues) if store.name in catalogues else {}
        if owed:
            told = f"{store.name} has yet to get {len(owed)} of the backups that others hold"
            yield Check("copies", "warning", told, f"pgsalvo sync {plan.name}")


def _alerts(plan: BackupPlan) -> Checks:
    if not plan.alerts:
        yield Check(
            "alerts", "warning", "nobody hears of a failed run", 'add [[plans.….alerts]] with kind = "slack"'
        )
    for alert in plan.alerts:
        alert.check()
        yield Check("alerts", "ok", f"{alert.kind}: the address is known")
