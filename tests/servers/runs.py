"""A `pgsalvo backup` as a process of its own, watched from outside until the moment to end it."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
from prefect.settings import PREFECT_API_URL

from tests.servers.ledger import Ledger


@dataclass(frozen=True)
class Run:
    """A running backup, leader of its own session; `known` are the backups that were there before."""

    ledger: Ledger
    process: "subprocess.Popen[bytes]"
    known: frozenset[str]
    log: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    def spooled_bytes(self, name: str) -> int:
        """Return how much of an archive lies in the spool, 0 if there is no such file."""
        sizes = [0]
        for path in self.ledger.plan.spool.glob(f"2*/{name}"):
            with suppress(FileNotFoundError):
                sizes.append(path.stat().st_size)
        return max(sizes)

    def has_stored(self, pattern: str) -> bool:
        """Return whether a file of this pattern lies in the backup's folder."""
        return any(path.match(pattern) for path in self.left_in_store())

    def left_in_store(self) -> list[Path]:
        """Return the files of this backup in the local store, the hidden ones too."""
        files = self.ledger.plan.directory.glob(f"store/{self.ledger.plan.name}/2*/*")
        return [path for path in files if path.parent.name not in self.known]

    def programs(self) -> list[psutil.Process]:
        """Return what still runs of all that this run has started, whoever their parent is now."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.NoSuchProcess, ProcessLookupError):
                is_alive = process.status() != psutil.STATUS_ZOMBIE
                if is_alive and process.pid != self.pid and os.getsid(process.pid) == self.pid:
                    found.append(process)
        return found

    def ended(self, seconds: float = 60.0) -> int:
        """Wait for the run's end and return its exit status."""
        return self.process.wait(seconds)


@contextmanager
def started_backup(ledger: Ledger, log: Path) -> Iterator[Run]:
    """Start a backup on the API of this process; whatever still runs of it at the end is killed."""
    environment = {"PREFECT_API_URL": PREFECT_API_URL.value() or "", "PREFECT_HOME": str(log.parent / "home")}
    known = frozenset(path.name for path in ledger.plan.directory.glob(f"store/{ledger.plan.name}/2*"))
    with log.open("wb") as output:
        process = subprocess.Popen(
            ledger.plan.argv("backup", ledger.plan.name, "--no-verify"),
            env=os.environ | environment,
            stdout=output,
            stderr=output,
            start_new_session=True,
            # a shell's background jobs, this test's run among them, are started with it ignored
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL) and None,
        )
    run = Run(ledger, process, known, log)
    try:
        yield run
    finally:
        for left in run.programs():
            with suppress(psutil.NoSuchProcess):
                left.kill()
        process.kill()
        process.wait()
