"""Watching everything that a run lets out, for secrets and rows' values that were planted."""

import os
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from prefect.logging.handlers import APILogWorker
from prefect.settings import PREFECT_SERVER_DATABASE_CONNECTION_URL

POLL_SECONDS = 0.005
SCRATCH_PREFIX = "pgsalvo-scratch-"  # a scratch server's own files are the only place for rows


@dataclass
class Watch:
    """What was seen, by the place where it was: argv of all programs, and files that came and went.

    Args:
        directories: Whose files are looked at, again and again.
    """

    directories: tuple[Path, ...]
    seen: dict[str, bytes] = field(default_factory=dict)
    _ended: threading.Event = field(default_factory=threading.Event)

    def look(self) -> None:
        for child in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                argv = "\0".join(child.cmdline()).encode()
                self.seen[f"argv of {child.pid}: {argv[:40]!r}"] = argv
        for directory in self.directories:
            for parent, names, files in os.walk(directory):  # which goes on when a directory is gone
                names[:] = [name for name in names if not name.startswith(SCRATCH_PREFIX)]
                for path in (Path(parent, name) for name in files):
                    with suppress(OSError):
                        self.seen[str(path)] = path.read_bytes()

    def go_on(self) -> None:
        while not self._ended.wait(POLL_SECONDS):
            self.look()

    def stop(self) -> None:
        self._ended.set()


@contextmanager
def watched(*directories: Path) -> Iterator[Watch]:
    """Watch while the block runs; at its end Prefect has been told all logs."""
    watch = Watch(directories)
    thread = threading.Thread(target=watch.go_on, daemon=True)
    thread.start()
    try:
        yield watch
    finally:
        watch.stop()
        thread.join()
        APILogWorker.drain_all(timeout=60)
        watch.look()


def prefects_database() -> dict[str, bytes]:
    """Return the files in which Prefect's server keeps parameters, states, logs and artifacts."""
    path = Path(str(PREFECT_SERVER_DATABASE_CONNECTION_URL.value()).partition(":///")[2])
    return {str(file): file.read_bytes() for file in path.parent.glob(f"{path.name}*")}


def leaks(places: dict[str, bytes], secrets: dict[str, str]) -> list[str]:
    """Return which secret was found where, with what stands before it."""
    found = []
    for place, body in places.items():
        for name, secret in secrets.items():
            if match := re.search(rb"(?s).{0,80}" + re.escape(secret.encode()), body):
                found.append(f"{name} in {place}: {match[0]!r}")
    return found


def eventually_in(needle: str, seconds: float = 60.0) -> bool:
    """Wait until Prefect's server has written something that it was told."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if any(needle.encode() in body for body in prefects_database().values()):
            return True
        time.sleep(0.05)
    return False
