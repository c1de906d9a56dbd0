"""The programs that a backup needs are missing, too old, killed, mute, or not what they say they are."""

from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from blocks import pgtools
from blocks.errors import ProgramFailed, ProgramMissing, ProgramSilent, ProgramTooOld
from flows.core.errors import ImplausibleDump
from tests.servers.ledger import Ledger
from tests.servers.processes import children, eventually, go_on, meanwhile
from tests.servers.programs import old_programs, path_with_only, stubbed_programs


@pytest.fixture
def nothing_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine has gpg and no program of PostgreSQL."""
    monkeypatch.setenv("PATH", path_with_only(tmp_path / "path", "gpg", "gpgconf", "gpg-connect-agent"))
    monkeypatch.setenv("PGSALVO_TOOLS_DIRECTORY", str(tmp_path / "no-wheels"))
    monkeypatch.setattr(pgtools, "SYSTEM_DIRECTORIES", ())


@pytest.mark.usefixtures("nothing_installed")
def test_a_missing_pg_dump_is_found_before_anything_begins(ledger: Ledger) -> None:
    cause = ledger.failed()
    assert isinstance(cause, ProgramMissing)
    assert "PostgreSQL 15's is needed" in cause.message
    assert "install" in cause.hint


@pytest.mark.usefixtures("nothing_installed")
def test_a_pg_dump_older_than_the_server_is_refused_with_both_versions(
    ledger: Ledger, tmp_path: Path
) -> None:
    ledger.plan.write(database=_database(old_programs(tmp_path / "old", "14.9")))
    cause = ledger.failed()
    assert isinstance(cause, ProgramTooOld)
    assert f"14.9 in {tmp_path / 'old'}, the server needs 15" in cause.message
    assert "install" in cause.hint


@pytest.mark.parametrize(
    ("end", "said"),
    [
        pytest.param(psutil.Process.kill, "pg_dump was ended by SIGKILL", id="SIGKILL"),
        pytest.param(psutil.Process.terminate, "pg_dump was ended by SIGTERM or SIGINT", id="SIGTERM"),
    ],
)
def test_a_pg_dump_killed_half_way_is_the_cause(
    ledger: Ledger, end: Callable[[psutil.Process], None], said: str
) -> None:
    def kill() -> None:
        stopped = ledger.halt_in_the_middle()
        (pg_dump,) = children("pg_dump", "--format=custom")
        end(pg_dump)
        go_on(stopped)

    ledger.hold_programs()
    with meanwhile(kill):
        cause = ledger.failed()
    assert isinstance(cause, ProgramFailed)
    assert cause.message == said
    assert "dmesg" in cause.hint


@pytest.mark.parametrize("number", [pytest.param(0, id="main's"), pytest.param(1, id="globals'")])
def test_a_gpg_killed_half_way_is_the_cause(ledger: Ledger, number: int) -> None:
    def kill() -> None:
        stopped = ledger.halt_in_the_middle()
        stopped[number].kill()
        go_on(stopped)

    ledger.hold_programs()
    with meanwhile(kill):
        cause = ledger.failed()
    assert isinstance(cause, ProgramFailed)
    assert cause.message == "gpg was ended by SIGKILL"
    assert "dmesg" in cause.hint


def test_a_pg_dumpall_that_fails_is_the_cause(ledger: Ledger, tmp_path: Path) -> None:
    ledger.plan.write(database=_stub(ledger, tmp_path, pg_dumpall="echo some roles; kill -9 $$"))
    cause = ledger.failed()
    assert isinstance(cause, ProgramFailed)
    assert cause.message == "pg_dumpall was ended by SIGKILL"


@pytest.mark.parametrize(
    ("script", "said"),
    [
        pytest.param("exit 0", "pg_dump exited 0 but wrote nothing", id="nothing"),
        pytest.param("printf PGD", "what pg_dump wrote does not begin as a dump does", id="three bytes"),
        pytest.param("echo '-- SQL'", "what pg_dump wrote does not begin as a dump does", id="plain SQL"),
    ],
)
def test_what_is_no_dump_is_no_backup_though_pg_dump_exits_0(
    ledger: Ledger, tmp_path: Path, script: str, said: str
) -> None:
    ledger.plan.write(database=_stub(ledger, tmp_path, pg_dump=script))
    cause = ledger.failed()
    assert isinstance(cause, ImplausibleDump)
    assert cause.message == said


def test_an_empty_pg_dumpall_is_no_backup_of_the_roles(ledger: Ledger, tmp_path: Path) -> None:
    ledger.plan.write(database=_stub(ledger, tmp_path, pg_dumpall="exit 0"))
    cause = ledger.failed()
    assert isinstance(cause, ImplausibleDump)
    assert cause.message == "pg_dumpall exited 0 but wrote nothing"


def test_a_dump_that_ends_early_with_an_error_is_told_by_that_error(ledger: Ledger, tmp_path: Path) -> None:
    script = '$REAL "$@" | head -c 1000000; echo "pg_dump: error: disk on fire" >&2; exit 1'
    ledger.plan.write(database=_stub(ledger, tmp_path, pg_dump=script))
    cause = ledger.failed()
    assert isinstance(cause, ProgramFailed)
    assert cause.message == "pg_dump ended with exit status 1: pg_dump: error: disk on fire"


def test_a_pg_dump_that_gives_no_byte_is_ended(ledger: Ledger, tmp_path: Path) -> None:
    ledger.plan.write(database=_stub(ledger, tmp_path, silence_seconds=0.5, pg_dump="exec sleep 60"))
    with meanwhile(lambda: eventually(lambda: children("sleep", "60"), "the stub runs")):
        cause = ledger.failed()
    assert isinstance(cause, ProgramSilent)
    assert cause.message == "pg_dump gave no byte for 0.5 s"
    assert "silence_seconds" in cause.hint
    assert children("sleep", "60") == []


def _database(client_directory: Path) -> dict[str, object]:
    return {"conninfo": "file:database-url", "client_directory": str(client_directory)}


def _stub(
    ledger: Ledger, directory: Path, *, silence_seconds: float = 60.0, **scripts: str
) -> dict[str, object]:
    programs = stubbed_programs(directory / "stubs", ledger.server.programs, **scripts)
    return _database(programs) | {"silence_seconds": silence_seconds}
