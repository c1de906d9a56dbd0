"""Watching a run from outside: its child processes, and the moment to do something to them."""

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress

import psutil

POLL_SECONDS = 0.002


def eventually(happened: Callable[[], object], what: str, seconds: float = 60.0) -> None:
    """Look every 2 ms until something has happened; fail loudly after `seconds`."""
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, f"within {seconds:g} s this did not happen: {what}"
        time.sleep(POLL_SECONDS)


def children(name: str, *arguments: str, of: int | None = None) -> list[psutil.Process]:
    """Return the running children of a process, by default of this one, that are called so, oldest first.

    Args:
        arguments: That all of them were given.
    """
    found = []
    with suppress(psutil.NoSuchProcess):
        for child in psutil.Process(of or os.getpid()).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                is_alive = child.status() != psutil.STATUS_ZOMBIE
                if is_alive and child.name() == name and set(arguments) <= set(child.cmdline()):
                    found.append(child)
    return sorted(found, key=lambda child: (child.create_time(), child.pid))


def go_on(stopped: Iterable[psutil.Process]) -> None:
    """Let stopped processes run again, if they are still there."""
    for process in stopped:
        with suppress(psutil.NoSuchProcess):
            process.resume()


@contextmanager
def meanwhile(act: Callable[[], object]) -> Iterator[None]:
    """Run `act` in a thread beside the block, which waits for its end; what it raises fails the test."""
    failures: list[BaseException] = []

    def attempt() -> None:
        try:
            act()
        except BaseException as error:
            failures.append(error)
            go_on(children("gpg"))  # so that the block ends, and tells what failed here

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    try:
        yield
    finally:
        thread.join()
        if failures:  # of which what went wrong in the block is a consequence
            raise failures[0]
