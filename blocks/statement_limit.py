"""A limit on how long one restored statement may run, held from outside.

pg_restore sets statement_timeout to 0 itself, and restored code could do so too. So a session of ours
watches theirs: what runs for too long is cancelled, and what catches that and goes on loses its session.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import psycopg

from blocks.errors import ScratchError

_EVERY_SECONDS = 1.0
_CANCELS = 5  # before the whole session is ended

_OVERDUE = """
    SELECT pid, query_start, extract(epoch FROM clock_timestamp() - query_start)::float8
    FROM pg_stat_activity
    WHERE usename = %s AND state = 'active' AND backend_type = 'client backend'
      AND clock_timestamp() - query_start > make_interval(secs => %s)"""

Connect = Callable[[], AbstractContextManager["psycopg.Connection[tuple[Any, ...]]"]]


@dataclass
class Exceeded:
    """Statements that ran for too long: for how many seconds each had run when it was first cancelled."""

    exceeded: list[float] = field(default_factory=list)


@contextmanager
def statement_limit(connect: Connect, role: str, seconds: float) -> Iterator[Exceeded]:
    """While the context lasts, cancel whatever statement of `role` runs longer than `seconds`.

    A statement is what a client sent: loading a table or building an index is one. What it calls
    counts to it.

    Args:
        connect: Opens a superuser's session in a database where nothing is restored.
        role: Whose sessions are watched, by the name that they logged in with.

    Raises:
        ScratchError: The watch itself broke, so nothing is known of the limit.
    """
    found = Exceeded()
    ended = threading.Event()
    failures: list[ScratchError] = []

    def watch() -> None:
        try:
            with connect() as session:
                _watch(session, role, seconds, found, ended)
        except ScratchError as error:
            failures.append(error)

    watcher = threading.Thread(target=watch, name="statement-limit", daemon=True)
    watcher.start()
    try:
        yield found
    finally:
        ended.set()
        watcher.join()
    if failures:
        raise failures[0]


def _watch(
    session: "psycopg.Connection[tuple[Any, ...]]",
    role: str,
    seconds: float,
    found: Exceeded,
    ended: threading.Event,
) -> None:
    cancelled: dict[tuple[int, datetime], int] = {}
    while not ended.wait(min(_EVERY_SECONDS, seconds)):
        for pid, began_at, running in session.execute(_OVERDUE, [role, seconds]).fetchall():
            times = cancelled[pid, began_at] = cancelled.get((pid, began_at), 0) + 1
            if times == 1:
                found.exceeded.append(running)
            how = "pg_cancel_backend" if times <= _CANCELS else "pg_terminate_backend"
            session.execute(f"SELECT {how}(%s)".encode(), [pid])
