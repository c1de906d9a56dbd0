"""Sessions that count beside the one that holds the snapshot, each a share of the tables.

They import its snapshot and take all their locks in their first statement: whoever comes later queues
behind a migration that waits for our locks. One that finds such a migration in front of it is given up, and
the session that holds the snapshot, and with it all locks, counts its share too.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import partial

import psycopg
from psycopg import sql

from blocks.counting import Counting, Table
from blocks.errors import ConnectionFailed, ConnectionLost, LockNotGranted
from blocks.locks import lock_tables
from blocks.postgres import Pin, PostgresDatabase, Session
from blocks.server_errors import LOST_HINT, translated

LOCK_WAIT_SECONDS = 3.0
_CANCEL_SECONDS = 5.0


@dataclass
class FactSessions:
    """The sessions of one snapshot that count, the exporting one among them.

    Args:
        exporting: Holds the snapshot and the locks of all tables.
        snapshot: The name under which others import it.
    """

    database: PostgresDatabase
    pin: Pin
    exporting: Session
    snapshot: str
    _open: list[Session] = field(default_factory=list, repr=False)
    _counting: Counting | None = field(default=None, repr=False)
    _causes: list[BaseException] = field(default_factory=list, repr=False)

    def count(self, counting: Counting) -> None:
        """Count what each share holds, or whatever can be until `cancel` is called.

        Raises:
            DatabaseError: The first error of any session; it ends the others.
        """
        self._counting, self._causes, self._open = counting, [], []
        others = range(1, len(counting.shares))
        with ThreadPoolExecutor(max(1, len(others)), "facts") as pool:
            for share in others:
                pool.submit(self._ending_the_others, partial(self._count_beside, counting, share))
            self._ending_the_others(partial(counting.count_rest, self.exporting))
        if self._causes:
            raise self._causes[0]

    def cancel(self) -> None:
        """End the counting, from any thread."""
        if self._counting is not None:
            self._counting.is_ended.set()
        for session in (self.exporting, *self._open):
            with suppress(psycopg.Error):
                session.cancel_safe(timeout=_CANCEL_SECONDS)

    def _ending_the_others(self, count: Callable[[], None]) -> None:
        try:
            count()
        except BaseException as error:
            self._causes.append(error)
            self.cancel()

    def _count_beside(self, counting: Counting, share: int) -> None:
        """Count a share in a session of its own, if it gets one and the locks."""
        try:
            session = self.database.connect(pinned=self.pin)
        except ConnectionFailed:
            return
        with closing(session):
            self._open.append(session)
            try:
                self._take_over_snapshot(session, counting.shares[share])
            except LockNotGranted:
                return
            counting.count_share(session, share)

    def _take_over_snapshot(self, session: Session, tables: list[Table]) -> None:
        with translated("beginning"):
            session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        try:
            session.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(self.snapshot))
        except psycopg.Error:
            raise ConnectionLost(
                "the snapshot's session ended before another one took the snapshot over", LOST_HINT
            ) from None
        lock_tables(session, tables, LOCK_WAIT_SECONDS)
