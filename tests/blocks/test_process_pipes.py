"""The pipes to and from programs, which carry whole databases, and what a run leaves behind."""

import fcntl
import threading

import pytest

from blocks import process
from blocks.process import Command, Process, run

CAT = Command(("cat",))


def test_pipes_hold_more_than_the_systems_default() -> None:
    with Process(CAT, feed=True) as program:
        assert fcntl.fcntl(program.stdin, fcntl.F_GETPIPE_SZ) == process.PIPE_BYTES > 64 << 10
        program.stdin.close()
        assert program.wait() == 0


def test_a_pipe_that_the_system_keeps_narrow_carries_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "PIPE_BYTES", -1)  # refused, as with too many pipes of a user
    sent = b"rows" * 100_000
    assert run(CAT, stdin=sent).stdout == sent


def test_an_interrupted_run_leaves_no_timer_that_keeps_the_interpreter() -> None:
    interrupting = Command(("sh", "-c", "sleep 0.2; kill -INT $PPID; exec sleep 60"))
    before = set(threading.enumerate())
    with pytest.raises(KeyboardInterrupt):
        run(interrupting, timeout_seconds=3600)
    left = [each for each in threading.enumerate() if isinstance(each, threading.Timer)]
    for timer in set(left) - before:
        timer.join(1)
        assert not timer.is_alive()
