"""The whole job with pg_dump in a container."""

import signal
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from prefect.settings import PREFECT_SERVER_ANALYTICS_ENABLED, temporary_settings
from prefect.testing.utilities import prefect_test_harness

from blocks.errors import ProgramFailed, ProgramMissing
from blocks.pgtools_wheels import WHEELS
from flows.core.naming import FACTS_ARCHIVE, GLOBALS_ARCHIVE, MAIN_ARCHIVE, MANIFEST_NAME
from flows.core.verification import Verdict
from tests.servers import postgres
from tests.servers.docker import Engine, start_docker
from tests.servers.ledger import DBNAME, PLANTED, Ledger, clear_texts, make_ledger
from tests.servers.plan import PLANS_VARIABLE, PlanOnDisk
from tests.servers.postgres import PASSWORD, PostgresServer
from tests.servers.processes import eventually, go_on, meanwhile
from tests.servers.reports import report
from tests.servers.runs import started_backup

IMAGE = "localhost/pgsalvo-client:{major}"
SERVER_IMAGE = "localhost/pgsalvo-server:{major}"
TOO_LARGE = "DO $$ BEGIN EXECUTE format('COMMENT ON TABLE scans IS %L', repeat('x', 20000000)); END $$"


@pytest.fixture(scope="module")
def prefect() -> Iterator[None]:
    with (
        temporary_settings({PREFECT_SERVER_ANALYTICS_ENABLED: False}),
        prefect_test_harness(server_startup_timeout=90),
    ):
        yield


@pytest.fixture(scope="module")
def filled(postgres15: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    """The database, which no test changes for the next."""
    with postgres15.database(DBNAME):
        yield make_ledger(postgres15, tmp_path_factory.mktemp("ledger"))


@pytest.fixture
def ledger(
    prefect: None,  # noqa: ARG001 - its API must be there
    engine: Engine,
    filled: Ledger,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Ledger]:
    """A plan whose pg_dump is an image's, and of which nothing runs or lies about after a test."""
    there_before = engine.shared_directories()
    plan = planned(tmp_path, filled, engine, monkeypatch)
    yield replace(filled, plan=plan)
    assert engine.containers() == []
    eventually(lambda: engine.shared_directories() == there_before, "its files are removed", 10)
    assert clear_texts(plan.directory) == []


def planned(directory: Path, filled: Ledger, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> PlanOnDisk:
    """Write a plan for the database, whose pg_dump this engine runs."""
    client = {"kind": "docker", "image": IMAGE, "program": engine.program}
    plan = PlanOnDisk.for_database(directory, filled.server.conninfo(DBNAME), client=client)
    monkeypatch.setenv(PLANS_VARIABLE, str(plan.file))
    monkeypatch.setenv("PGSALVO_TOOLS_DIRECTORY", str(postgres.WHEELS))
    return plan


def test_a_backup_by_an_images_pg_dump_is_verified(ledger: Ledger) -> None:
    plan = ledger.plan
    backup_id = plan.back_up()
    manifest = plan.manifest(backup_id)
    assert WHEELS[15].version.startswith(manifest.versions.pg_dump)
    assert [archive.name for archive in manifest.archives] == [MAIN_ARCHIVE, GLOBALS_ARCHIVE, FACTS_ARCHIVE]
    assert plan.verify() == backup_id
    assert [backup.verdict for backup in plan.backups()] == [Verdict.VERIFIED]


def test_a_backup_is_verified_in_a_container_of_the_sources_major(ledger: Ledger, engine: Engine) -> None:
    plan = ledger.plan
    backup_id = plan.back_up()
    plan.prove(scratch={"kind": "container", "image": SERVER_IMAGE, "program": engine.program})
    assert plan.verify() == backup_id
    assert report(plan)["restored_into"] == "PostgreSQL 15 without a network (container)"


def test_doctor_tries_the_image(ledger: Ledger) -> None:
    told = ledger.plan.command("doctor", ledger.plan.name, COLUMNS="200").stdout
    assert "in the image localhost/pgsalvo-client:15" in told
    assert "the definitions were dumped" in told


@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGKILL])
def test_a_run_ended_amid_the_rows_leaves_no_container_and_the_next_is_whole(
    ledger: Ledger, engine: Engine, tmp_path: Path, by: signal.Signals
) -> None:
    with started_backup(ledger, tmp_path / "log") as run:
        stopped = ledger.halt_in_the_middle(of=run.pid)
        assert engine.containers()
        run.process.send_signal(by)
        assert run.ended() != 0
        if by == signal.SIGKILL:  # nobody was left to end it
            go_on(stopped)
            eventually(lambda: not engine.containers(), "its containers end", 10)
        assert engine.containers() == []
        eventually(lambda: not (run.programs() or ledger.sessions("pg%")), "nothing of it runs", 10)
    assert not run.has_stored(MANIFEST_NAME)
    following = ledger.plan.back_up()
    assert [backup.backup_id for backup in ledger.plan.backups()] == [following]


def test_while_a_backup_runs_nobody_sees_its_password(ledger: Ledger, engine: Engine) -> None:
    seen: dict[str, bytes] = {}

    def look() -> None:
        stopped = ledger.halt_in_the_middle()
        for name in engine.containers():
            seen[name] = engine.run("inspect", name, may_fail=True).encode()  # the roles' may be gone
        for pid in psutil.pids():
            with suppress(OSError):
                seen[str(pid)] = Path(f"/proc/{pid}/cmdline").read_bytes()
        go_on(stopped)

    with meanwhile(look):
        ledger.plan.back_up()
    assert any(name.startswith("pgsalvo-") and b"pg_dump" in body for name, body in seen.items())
    assert any(b"--label=pgsalvo=pg_dump" in body for body in seen.values())
    secrets = (PASSWORD.encode(), PLANTED.encode())
    assert [name for name, body in seen.items() if any(secret in body for secret in secrets)] == []


@pytest.mark.parametrize(
    ("by", "said"),
    [
        pytest.param(signal.SIGTERM, r"pg_dump(all)? was ended .*by", id="stopped"),  # and its containers
        pytest.param(signal.SIGKILL, r"container of pg_dump(all)? did not start, or was lost", id="killed"),
    ],
)
def test_a_daemon_that_goes_amid_the_rows_fails_the_backup_and_commits_nothing(
    prefect: None,  # noqa: ARG001 - its API must be there
    filled: Ledger,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    by: signal.Signals,
    said: str,
) -> None:
    engine = start_docker()
    try:
        engine.build(IMAGE.format(major=15), 15)
        for name, value in engine.environment.items():
            monkeypatch.setenv(name, value)
        ledger = replace(filled, plan=planned(tmp_path, filled, engine, monkeypatch))

        def let_the_daemon_go() -> None:
            stopped = ledger.halt_in_the_middle()
            assert engine.daemon is not None
            engine.daemon.send_signal(by)
            engine.daemon.wait(30)
            go_on(stopped)

        with meanwhile(let_the_daemon_go), pytest.raises(ProgramFailed, match=said) as caught:
            ledger.plan.back_up()
        assert caught.value.hint
        assert ledger.plan.objects() == []
        ledger.assert_nothing_runs()
    finally:
        engine.stop()


def test_a_pg_dump_that_is_killed_fails_the_backup_and_commits_nothing(ledger: Ledger) -> None:
    plan = ledger.plan
    plan.write(client=plan.settings["client"] | {"memory": "6m"})
    ledger.server.execute(TOO_LARGE, DBNAME)
    try:
        with pytest.raises(ProgramFailed, match="pg_dump was killed in its container"):
            plan.back_up()
    finally:
        ledger.server.execute("COMMENT ON TABLE scans IS NULL", DBNAME)
    assert plan.objects() == []


def test_an_image_that_is_nowhere_fails_the_backup_before_it_begins(ledger: Ledger) -> None:
    plan = ledger.plan
    plan.write(client=plan.settings["client"] | {"image": "localhost/none:{major}"})
    with pytest.raises(ProgramMissing, match="localhost/none:15 is not here"):
        plan.back_up()
    assert plan.objects() == []
