"""How far long work has come: counted by the steps, shown on the terminal and in Prefect's UI.

Showing runs beside the work: if Prefect's API does not answer, the work goes on and one warning says so.
"""

import contextvars
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import cast
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact

from flows.beside import beside

SECONDS_BETWEEN_UPDATES = 2.0


@dataclass
class Progress:
    """One counted piece of work.

    Args:
        what: What is counted, for a person: "dump", "restore".
        expected: The likely total in `unit`; it may be wrong, or 0 if nobody knows.
        unit: "bytes" or "rows".
        where: On which destination, if there are several to be done one after the other.
    """

    what: str
    expected: int
    unit: str = "bytes"
    where: str = ""
    done: int = 0
    finished: bool = False
    begun: threading.Event = field(default_factory=threading.Event, repr=False)
    ended: threading.Event = field(default_factory=threading.Event, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, amount: int) -> None:
        with self._lock:
            self.done += amount
        self.begun.set()

    def at(self, done: int, expected: int) -> None:
        """Take over how far a step says that it has come."""
        with self._lock:
            self.done, self.expected = done, expected

    @property
    def title(self) -> str:
        """What is done and where, for a person."""
        return f"{self.what} {self.where}".rstrip()

    @property
    def percent(self) -> float:
        """0 to 100; it stays below 100 until the work is finished."""
        if self.finished:
            return 100.0
        return min(99.0, 100.0 * self.done / self.expected) if self.expected else 0.0

    @property
    def done_text(self) -> str:
        """How much is done, for a person."""
        return human_bytes(self.done) if self.unit == "bytes" else f"{self.done:,} {self.unit}"

    def counted(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        """Pass chunks on, counting them."""
        for chunk in chunks:
            self.add(len(chunk))
            yield chunk


def human_bytes(size: int) -> str:
    """Return a size for a person, in binary units."""
    amount = float(size)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"


Listener = Callable[[Progress], None]

_listeners: list[Listener] = []


def listen(listener: Listener) -> None:
    """Call `listener` with every progress that begins, so that a terminal can show it."""
    _listeners.append(listener)


@contextmanager
def shown(progress: Progress) -> Iterator[Progress]:
    """Show a progress while the block runs."""
    for listener in _listeners:
        listener(progress)
    context = contextvars.copy_context()
    threading.Thread(target=context.run, args=(_publish, progress), daemon=True).start()
    try:
        yield progress
        progress.finished = True
    finally:
        progress.ended.set()


def _publish(progress: Progress) -> None:
    artifact = beside(
        "the progress artifact",
        lambda: cast(UUID, create_progress_artifact(0.0, key=f"{progress.what}-progress")),
    )
    while artifact is not None:
        ended = progress.ended.wait(SECONDS_BETWEEN_UPDATES)
        sent = beside("the progress artifact", partial(update_progress_artifact, artifact, progress.percent))
        if ended or sent is None:
            return
