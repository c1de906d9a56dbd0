"""What a command costs: seconds, core-seconds, and memory while it ran, of all processes that it started.

Linux only. PostgreSQL's servers count for core-seconds, whoever started them, and never for memory: theirs
is a matter of their settings.
"""

import os
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.servers.ports import wait_until

SECONDS_BETWEEN_LOOKS = 0.2
SERVER_NAME = "postgres"


@dataclass(frozen=True)
class Cost:
    """One run of a command.

    Args:
        seconds: From start to end.
        work_seconds: Of these without start-up, where the command itself tells.
        core_seconds: User and system time of all its processes, and of PostgreSQL's server beside it.
        server_core_seconds: What that server took of them.
        peak_bytes: Most memory of all its processes at one moment, shared pages divided among them.
        first_process_peak_bytes: Most resident memory of the process that was started.
    """

    seconds: float
    work_seconds: float
    core_seconds: float
    server_core_seconds: float
    peak_bytes: int
    first_process_peak_bytes: int


def cost(
    argv: Sequence[str | Path], environment: Mapping[str, str], *, log: Path, server_pid: int | None = None
) -> Cost:
    """Run a command to its end, which must be a success, beside the PostgreSQL server that it may use."""
    os.sync()  # what earlier runs have written must not be flushed on this one's time
    server_before = _server_core_seconds(server_pid)
    with log.open("wb") as output:
        began = time.monotonic()
        process = subprocess.Popen(
            argv, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
        with _MemoryWatch(process.pid) as watch:
            _, status, usage = os.wait4(process.pid, 0)
            seconds = time.monotonic() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, log.read_text(errors="replace")
    server = _server_core_seconds(server_pid) - server_before
    return Cost(
        seconds=seconds,
        work_seconds=seconds,
        core_seconds=usage.ru_utime + usage.ru_stime + server,
        server_core_seconds=server,
        peak_bytes=watch.peak_bytes,
        first_process_peak_bytes=watch.first_process_peak_bytes,
    )


class _MemoryWatch:
    """Looks at a process and its descendants a few times a second."""

    def __init__(self, pid: int) -> None:
        self.peak_bytes = 0
        self.first_process_peak_bytes = 0
        self._process = psutil.Process(pid)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        while not self._over.is_set():
            try:
                self._look()
            except psutil.NoSuchProcess:
                return
            self._over.wait(SECONDS_BETWEEN_LOOKS)

    def _look(self) -> None:
        processes = [self._process, *self._process.children(recursive=True)]
        self.peak_bytes = max(self.peak_bytes, sum(_shared_out_bytes(process) for process in processes))
        self.first_process_peak_bytes = max(
            self.first_process_peak_bytes, _high_water_bytes(self._process.pid)
        )

    def __enter__(self) -> "_MemoryWatch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def _shared_out_bytes(process: psutil.Process) -> int:
    try:
        return 0 if process.name() == SERVER_NAME else int(process.memory_full_info().pss)
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return 0


def _high_water_bytes(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    found = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(found[0]) << 10 if found else 0


def _server_core_seconds(pid: int | None) -> float:
    """Return what a server has used, once all its sessions have ended and are accounted for."""
    if pid is None:
        return 0.0
    server = psutil.Process(pid)
    wait_until(lambda: not any(map(_is_session, server.children())), "the end of the server's sessions")
    times = server.cpu_times()
    return float(times.user + times.system + times.children_user + times.children_system)


def _is_session(process: psutil.Process) -> bool:
    """Tell whether a server's child serves a client, or served one and is about to be gone."""
    try:
        title = "".join(process.cmdline()[:1])
    except psutil.ZombieProcess:
        return True
    except psutil.NoSuchProcess:
        return False
    return not title or "127.0.0.1(" in title or "[local]" in title
