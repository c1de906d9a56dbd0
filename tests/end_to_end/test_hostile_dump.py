"""A dump is code: what its owners wrote runs while it is restored, and must not reach the verifying host."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from flows import scratch_needs
from flows.core.errors import Unverifiable, VerificationFailed
from flows.core.naming import GLOBALS_ARCHIVE
from tests.servers import hostile
from tests.servers.forgery import StoredBackup, sealed
from tests.servers.hostile import hostile_database, planted, planting_ground
from tests.servers.plan import PLANS_VARIABLE, PlanOnDisk
from tests.servers.postgres import WHEELS, PostgresServer
from tests.servers.programs import run

BY_A_CARELESS_RESTORE = {
    "aggregate",
    "attach",
    "check",
    "domain",
    "event-trigger",
    "generated",
    "generated-constant",
    "partition-bound",
    "partition-key",
    "security-definer",
}
BY_A_CARELESS_LOOK = {15: {"operator"}, 17: {"operator", "login"}}
INSISTENT = """
    CREATE FUNCTION insist(directory text) RETURNS bool LANGUAGE plpgsql AS $$
        BEGIN
            IF current_database() <> 'small' THEN
                EXECUTE format('COPY (SELECT 1) TO PROGRAM %L', format('touch %s/insistent', directory));
            END IF;
            RETURN true;
        END $$;
"""


@pytest.fixture
def ground() -> Iterator[Path]:
    with planting_ground() as directory:
        yield directory


@pytest.fixture
def hostile_plan(
    prefect: None,  # noqa: ARG001 - its API must be there
    postgres: PostgresServer,
    ground: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[PlanOnDisk]:
    """A plan for the hostile database, one of whose tables is called like a line of pg_restore's listing."""
    monkeypatch.setenv("PGSALVO_TOOLS_DIRECTORY", str(WHEELS))
    with hostile_database(postgres, ground) as conninfo:
        listing = run(postgres, "pg_restore", "--list", stdin=_dumped(postgres, conninfo)).decode()
        (entry,) = (line for line in listing.split("\n") if " TABLE public keyed " in line)
        name = f"x\u2028{entry.partition(';')[0]}; 0 0 SCHEMA - y"
        postgres.execute(f'ALTER TABLE public.renamed RENAME TO "{name}"', hostile.DATABASE)
        yield _plan(tmp_path, conninfo, monkeypatch)


@pytest.fixture
def small_plan(
    prefect: None,  # noqa: ARG001 - its API must be there
    postgres15: PostgresServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[PlanOnDisk]:
    """A plan for an empty database, `small`."""
    with postgres15.database("small") as conninfo:
        yield _plan(tmp_path, conninfo, monkeypatch)


def test_what_a_careless_restore_sets_off_has_no_power_in_a_verification(
    hostile_plan: PlanOnDisk, postgres: PostgresServer, ground: Path
) -> None:
    """`loot` is empty at the source: a row in it, for what the code got hold of, would be a difference."""
    with postgres.database("careless") as conninfo:
        dump = _dumped(postgres, postgres.conninfo(hostile.DATABASE))
        run(postgres, "pg_restore", f"--dbname={conninfo}", stdin=dump, may_fail=True)
        assert planted(ground) >= BY_A_CARELESS_RESTORE
        postgres.query("SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_'", "careless")
        assert planted(ground) >= BY_A_CARELESS_LOOK[postgres.major]
        assert postgres.query("SELECT FROM loot WHERE what LIKE '%pg_read_file%'", "careless")
    for path in ground.iterdir():
        path.unlink()

    assert hostile_plan.back_up() == hostile_plan.verify()
    assert planted(ground) == set()


def test_code_that_would_check_definitions_as_a_superuser_is_not_restored(
    hostile_plan: PlanOnDisk, postgres: PostgresServer, ground: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Facts may tell nothing of it; then the archive does, and what it checks is left to the plain role."""
    hostile.check_definitions(postgres)
    with postgres.database("careless") as conninfo:
        dump = _dumped(postgres, postgres.conninfo(hostile.DATABASE))
        run(postgres, "pg_restore", f"--dbname={conninfo}", stdin=dump, may_fail=True)
    assert planted(ground) >= {"validator", "language-validator"}
    for path in ground.iterdir():
        path.unlink()

    hostile_plan.back_up()
    with pytest.raises(Unverifiable, match="checks the foreign data wrapper checked, the language checked"):
        hostile_plan.verify()
    monkeypatch.setattr(scratch_needs, "own_validators", lambda _: [])
    with pytest.raises(VerificationFailed, match="RESTORE_ERROR"):
        hostile_plan.verify()
    assert planted(ground) == set()


def test_code_that_insists_fails_the_verification_and_nothing_else(
    small_plan: PlanOnDisk, postgres15: PostgresServer, ground: Path
) -> None:
    check = f"CREATE TABLE t (n int CHECK (public.insist('{ground}'))); INSERT INTO t VALUES (1)"
    postgres15.execute(INSISTENT + check, "small")
    small_plan.back_up()
    with pytest.raises(VerificationFailed, match=r"2 differences: ROWS_DIFFER 1, RESTORE_ERROR 1"):
        small_plan.verify()
    assert planted(ground) == set()


def test_the_script_of_roles_is_never_run_by_a_verification(
    small_plan: PlanOnDisk, postgres15: PostgresServer, ground: Path
) -> None:
    script = rf"""
        \! touch {ground}/shell
        COPY (SELECT 1) TO PROGRAM 'touch {ground}/program';
    """
    connection = f"--dbname={postgres15.conninfo()}"
    run(postgres15, "psql", "--no-psqlrc", connection, stdin=script.encode())
    assert planted(ground) == {"shell", "program"}
    for path in ground.iterdir():
        path.unlink()

    stored = StoredBackup(small_plan.directory / "store" / small_plan.name / small_plan.back_up())
    stored.path(GLOBALS_ARCHIVE).write_bytes(sealed(script.encode()))
    stored.tell()
    stored.bind()
    assert small_plan.verify() == stored.backup_id
    assert planted(ground) == set()


def _plan(directory: Path, conninfo: str, monkeypatch: pytest.MonkeyPatch) -> PlanOnDisk:
    plan = PlanOnDisk.for_database(directory, conninfo)
    monkeypatch.setenv(PLANS_VARIABLE, str(plan.file))
    return plan


def _dumped(server: PostgresServer, conninfo: str) -> bytes:
    return run(server, "pg_dump", "--format=custom", f"--dbname={conninfo}")
