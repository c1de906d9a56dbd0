"""The server refuses, ends sessions or keeps tables locked: for good, or so that another attempt helps."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from psycopg.conninfo import make_conninfo

from blocks.errors import BackupLockHeld, ConnectionFailed, ConnectionLost, LockNotGranted
from blocks.locks import lock_key
from flows import backup
from tests.servers.ledger import DBNAME, Ledger
from tests.servers.processes import children, eventually, go_on, meanwhile
from tests.servers.programs import stubbed_programs
from tests.servers.s3 import broken_line


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backup, "PAUSES_SECONDS", (0.2,))


@pytest.mark.parametrize(
    ("changed", "said", "remedy"),
    [
        pytest.param(
            {"password": "not-the-password"},
            "password authentication failed",
            "check user and password",
            id="wrong password",
        ),
        pytest.param({"dbname": "gone"}, '"gone" does not exist', "check dbname", id="database gone"),
        pytest.param({"port": "1"}, "refused", "check host and port", id="server gone"),
    ],
)
def test_a_connection_that_is_refused_tells_what_to_check(
    ledger: Ledger, tmp_path: Path, changed: dict[str, str], said: str, remedy: str
) -> None:
    ledger.plan.write(database=_reached(tmp_path, ledger.server.conninfo(DBNAME), **changed))
    cause = ledger.failed()
    assert isinstance(cause, ConnectionFailed)
    assert said in cause.message
    assert "not-the-password" not in cause.message
    assert remedy in cause.hint


def test_a_table_locked_by_a_migration_names_the_table_and_its_holder(ledger: Ledger) -> None:
    ledger.plan.write(database=_patient(2))
    with _migration(ledger) as pid:
        cause = ledger.failed()
    assert isinstance(cause, LockNotGranted)
    assert f"public.accounts stayed locked for longer than 2 s: the session with pid {pid}" in cause.message
    assert "lock_wait_seconds" in cause.hint


def test_a_migration_that_queues_before_pg_dump_costs_the_attempt_only(
    ledger: Ledger, tmp_path: Path
) -> None:
    """pg_dump comes after our locks, so it waits behind whoever already waits for them."""
    # the second attempt's pg_dump, which nobody is in the way of, has no longer than that either
    ledger.plan.write(database=_patient(3) | _held_until(tmp_path / "go", ledger, tmp_path))
    with meanwhile(lambda: _migrate_before_pg_dump(ledger, tmp_path / "go")):
        cause = ledger.failed()
    assert isinstance(cause, LockNotGranted)
    assert "pg_dump did not get the locks of its tables in time" in cause.message
    assert "statement timeout" in cause.message
    assert "lock_wait_seconds" in cause.hint

    (tmp_path / "go").unlink()
    ledger.plan.write(attempts=2)
    with meanwhile(lambda: _migrate_before_pg_dump(ledger, tmp_path / "go")):
        assert ledger.plan.manifest(ledger.plan.back_up())
    assert (tmp_path / "starts").read_text() == "pg_dump\n" * 3


def test_a_lock_that_is_given_back_between_two_attempts_costs_nothing(ledger: Ledger) -> None:
    ledger.plan.write(database=_patient(3), attempts=2)

    def give_way_after_one_attempt() -> None:
        with _migration(ledger):
            locked.append(True)
            eventually(first_waits, "the backup waits for the table")
            # of the first attempt only: by then the second one may wait already
            eventually(lambda: not first & _waiting(ledger, "AccessShareLock"), "it gives up")

    def first_waits() -> bool:
        first.update(_waiting(ledger, "AccessShareLock"))
        return bool(first)

    locked: list[bool] = []
    first: set[int] = set()
    with meanwhile(give_way_after_one_attempt):
        eventually(lambda: locked, "the migration holds the table")
        assert ledger.plan.manifest(ledger.plan.back_up())
    ledger.assert_at_rest()


@pytest.mark.parametrize(
    ("application", "said"),
    [
        pytest.param("pg_dump", "terminating connection|server closed the connection", id="pg_dump's"),
        pytest.param("pgsalvo", "the server ended the session|the connection broke", id="the snapshot's"),
    ],
)
def test_a_session_terminated_half_way_costs_the_attempt_only(
    ledger: Ledger, application: str, said: str
) -> None:
    def terminate() -> None:
        stopped = ledger.halt_in_the_middle()
        ledger.terminate(application)
        eventually(lambda: not ledger.sessions(application), "the session is gone")
        go_on(stopped)

    ledger.hold_programs()
    with meanwhile(terminate):
        cause = ledger.failed()
    assert isinstance(cause, ConnectionLost)
    assert re.search(said, cause.message)  # libpq tells the one or the other
    assert "server's log" in cause.hint

    ledger.hold_programs()
    ledger.plan.write(attempts=2)
    before = ledger.stored()
    with meanwhile(terminate):
        made = ledger.plan.back_up()
    assert ledger.plan.manifest(made)
    new = {name.split("/")[1] for name in ledger.stored().keys() - before.keys()}
    assert new == {made}
    ledger.assert_at_rest()


def test_a_snapshot_that_is_gone_before_pg_dump_took_it_over_is_a_lost_connection(
    ledger: Ledger, tmp_path: Path
) -> None:
    ledger.plan.write(database=_patient(60) | _held_until(tmp_path / "go", ledger, tmp_path))

    def terminate() -> None:
        eventually((tmp_path / "starts").exists, "pg_dump's stub runs")
        ledger.terminate("pgsalvo")
        eventually(lambda: not ledger.sessions("pgsalvo"), "the session is gone")
        (tmp_path / "go").touch()

    with meanwhile(terminate):
        cause = ledger.failed()
    assert isinstance(cause, ConnectionLost)
    assert "session" in cause.message
    assert cause.hint


def test_a_network_that_breaks_half_way_is_a_lost_connection(ledger: Ledger, tmp_path: Path) -> None:
    with broken_line(ledger.server.port) as line:
        conninfo = ledger.server.conninfo(DBNAME)
        ledger.plan.write(database=_reached(tmp_path, conninfo, port=str(line.port)))
        line.break_after(down_bytes=8 << 20)
        cause = ledger.failed()
    assert isinstance(cause, ConnectionLost)
    assert "server's log" in cause.hint


def test_a_backup_of_the_same_plan_that_does_not_end_is_named(ledger: Ledger) -> None:
    ledger.plan.write(busy_timeout_seconds=0)
    with ledger.server.connect(DBNAME) as other:
        other.execute("SELECT pg_advisory_lock(%s)", [lock_key(ledger.plan.name)])
        cause = ledger.failed()
        holder = f"the session with pid {other.info.backend_pid}"
    assert isinstance(cause, BackupLockHeld)
    assert holder in cause.message
    assert "pg_terminate_backend" in cause.hint


def _reached(directory: Path, conninfo: str, **changed: str) -> dict[str, object]:
    file = directory / "database-url"
    file.write_text(make_conninfo(conninfo, **changed))
    return {"conninfo": f"file:{file}"}


def _patient(seconds: float) -> dict[str, object]:
    return {"conninfo": "file:database-url", "lock_wait_seconds": seconds}


def _held_until(go: Path, ledger: Ledger, directory: Path) -> dict[str, object]:
    """Programs of which pg_dump notes its start in `starts` and waits for the file `go`."""
    script = f'echo pg_dump >> {directory}/starts\nwhile [ ! -e {go} ]; do sleep 0.02; done\nexec $REAL "$@"'
    programs = stubbed_programs(directory / "stubs", ledger.server.programs, pg_dump=script)
    return {"client_directory": str(programs)}


@contextmanager
def _migration(ledger: Ledger) -> Iterator[int]:
    """Hold a lock on the table `accounts`, waiting for it first; yield the holder's pid."""
    with ledger.server.connect(DBNAME) as session, session.transaction():
        session.execute("LOCK TABLE accounts IN ACCESS EXCLUSIVE MODE")
        yield session.info.backend_pid


def _migrate_before_pg_dump(ledger: Ledger, go: Path) -> None:
    """Once the backup holds its locks and pg_dump does not yet, queue for the table; then let pg_dump go."""

    def queue() -> None:
        with _migration(ledger):
            return

    eventually(lambda: children("pg_dump", "--format=custom"), "pg_dump's stub runs")
    with meanwhile(queue):
        eventually(lambda: _waiting(ledger, "AccessExclusiveLock"), "the migration waits for the table")
        go.touch()


def _waiting(ledger: Ledger, mode: str) -> set[int]:
    """Return the server processes that wait for a lock of this mode on the table `accounts`."""
    return {
        pid
        for (pid,) in ledger.server.query(
            "SELECT pid FROM pg_locks"
            f" WHERE relation = 'accounts'::regclass AND mode = '{mode}' AND NOT granted",
            DBNAME,
        )
    }
