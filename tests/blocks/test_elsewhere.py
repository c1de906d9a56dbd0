"""Programs that are no children of ours: their output comes whole, and they end with us."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from blocks import process
from blocks.elsewhere import Elsewhere
from blocks.errors import ProgramMissing
from blocks.process import Command, Process, run
from tests.servers.processes import eventually


def client(script: str, directory: Path, *, output: bool = True) -> Command:
    """Return the call of a shell as a client, whose clean-up leaves a file `cleaned`."""
    fifo = directory / "fifo" if output else None
    clean_up = ("touch", str(directory / "cleaned"))
    return Command(("sh", "-c", script, "client", str(fifo)), elsewhere=Elsewhere("pg_dump", clean_up, fifo))


def test_what_the_program_writes_is_read_whole_after_its_client_has_ended(tmp_path: Path) -> None:
    late = "exec 3>$1; (sleep 0.2; head -c 1000000 /dev/zero >&3) </dev/null >/dev/null 2>&1 &"
    assert len(run(client(late, tmp_path)).stdout) == 1_000_000


def test_a_client_that_starts_nothing_is_not_waited_for(tmp_path: Path) -> None:
    completed = run(client("echo refused >&2; exit 125", tmp_path), timeout_seconds=10)
    assert (completed.status, completed.stdout, completed.stderr_lines) == (125, b"", ["refused"])


def test_nothing_is_cleaned_up_and_no_fifo_stays_after_success(tmp_path: Path) -> None:
    assert run(client("echo dump >$1", tmp_path)).stdout == b"dump\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("output", [True, False], ids=["fifo", "stdout"])
def test_a_failed_client_is_cleaned_up_after_before_we_go_on(tmp_path: Path, output: bool) -> None:
    run(client("exit 1", tmp_path, output=output))
    assert [path.name for path in tmp_path.iterdir()] == ["cleaned"]


def test_a_killed_client_is_cleaned_up_after(tmp_path: Path) -> None:
    with Process(client("exec sleep 60", tmp_path)) as running:
        running.kill()
        assert (tmp_path / "cleaned").exists()


def test_a_program_that_outlives_its_killed_client_is_ended_before_its_output_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "TERMINATION_SECONDS", 0.1)
    fifo, pid = tmp_path / "fifo", tmp_path / "pid"
    program = f"sleep 60 >{fifo} </dev/null 2>/dev/null & echo $! >{pid}"
    end = ("sh", "-c", f"kill -KILL $(cat {pid})")
    command = Command(
        ("sh", "-c", f'trap "" TERM; {program}; exec sleep 60'),
        elsewhere=Elsewhere("pg_dumpall", end, fifo),
    )
    with Process(command) as running:
        eventually(pid.exists, "the program runs")
        running.stop()
        assert list(running.chunks(silence_seconds=10)) == []
        assert running.wait() == -signal.SIGKILL


def test_it_is_cleaned_up_if_we_are_killed(tmp_path: Path) -> None:
    elsewhere = f"Elsewhere('pg_dump', ('touch', {str(tmp_path / 'cleaned')!r}))"
    us = (
        "import os, signal\nfrom blocks.elsewhere import Elsewhere\n"
        "from blocks.process import Command, Process\n"
        f"Process(Command(('sleep', '3'), elsewhere={elsewhere}))\nos.kill(os.getpid(), signal.SIGKILL)"
    )
    root = Path(__file__).parents[2]
    killed = subprocess.run((sys.executable, "-c", us), cwd=root, env=os.environ | {"PYTHONPATH": str(root)})
    assert killed.returncode == -signal.SIGKILL
    eventually((tmp_path / "cleaned").exists, "the watchdog cleans up")
    (tmp_path / "cleaned").unlink()
    eventually((tmp_path / "cleaned").exists, "and again, for what may have started only then")


def test_a_client_that_is_not_there_leaves_nothing(tmp_path: Path) -> None:
    elsewhere = Elsewhere("pg_dump", ("touch", str(tmp_path / "cleaned")), tmp_path / "fifo")
    with pytest.raises(ProgramMissing, match="cannot start no-such-client"):
        Process(Command(("no-such-client",), elsewhere=elsewhere))
    assert list(tmp_path.iterdir()) == []


def test_messages_name_the_program_and_not_its_client(tmp_path: Path) -> None:
    assert client("true", tmp_path).name == "pg_dump"
