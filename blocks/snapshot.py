"""Locks, then the snapshot: one session that holds everything still for as long as a backup reads.

MVCC does not shield from TRUNCATE and ALTER TABLE. So all tables are locked first, which takes no
snapshot, and only then is the snapshot taken: whoever waited for a lock saw the other's work committed,
and nobody changes a table after that. The session stays open to the end and counts rows itself: it alone
never queues behind a migration that waits for our locks.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

from blocks import large_objects
from blocks.counting import Counting, Progress, RowCount, Table, shared_out
from blocks.errors import RightsMissing, StreamAborted, TablesChanged
from blocks.fact_sessions import FactSessions
from blocks.inventory import Inventory, SequenceState, read_sequences, take_inventory
from blocks.large_objects import LargeObjectTotals
from blocks.locks import lock_tables, take_backup_lock
from blocks.pgcommands import DumpSelection
from blocks.postgres import Pin, PostgresDatabase, Session, pin
from blocks.selection import qualified
from blocks.server_errors import translated

ATTEMPTS = 3
_STOP_SECONDS = 10.0
_NAMED = 5


@dataclass
class Snapshot:
    """A moment of the database that other sessions can import while this one lives.

    Args:
        name: For `pg_dump --snapshot`.
        taken_at: By the server's clock; all that was committed before it is in the snapshot.
        sequences: As they stood just after; they heed no snapshot, so a dump holds these values or later.
        selection: The exact names that make pg_dump dump the tables that are locked here, and no others.
    """

    name: str
    taken_at: datetime
    connection: Session
    pin: Pin
    tables: tuple[Table, ...]
    sequences: tuple[SequenceState, ...]
    selection: DumpSelection
    sessions: FactSessions
    is_released: bool = False
    _began: float = field(default_factory=time.monotonic, repr=False)
    _busy: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _cancelled: threading.Event = field(default_factory=threading.Event, repr=False)

    @property
    def age_seconds(self) -> float:
        """How long ago the snapshot was taken; no row that died since can be vacuumed away."""
        return time.monotonic() - self._began

    def count_rows(
        self, progress: Progress = lambda *_: None, *, content: bool = False, sessions: int = 1
    ) -> list[RowCount]:
        """Count the rows that the dump holds of each table, in the order of the tables' names.

        Args:
            content: Whether to fingerprint the rows as well.
            sessions: How many may count at once; the others are opened now, and are less if they get no
                connection, or a table's lock not at once. An error of any ends all.

        Raises:
            StreamAborted: `cancel` was called.
            ConnectionLost: The server ended a session; a standby may do so when it falls behind.
        """
        with self._cancellable():
            shares = shared_out(self.tables, sessions)
            counting = Counting(shares, partial(self._go_on, progress), content)
            self.sessions.count(counting)
            self._raise_if_cancelled()
            return counting.rows

    def measure_large_objects(self, *, content: bool = False) -> LargeObjectTotals:
        """Measure all large objects, whether or not the dump holds them.

        Raises:
            StreamAborted: `cancel` was called.
            RightsMissing: The role may not read one of them.
        """
        with self._cancellable():
            return large_objects.measure(self.connection, content=content)

    def cancel(self, cause: BaseException | None = None) -> None:  # noqa: ARG002 - a Chain's stop
        """End the counting and measuring, from any thread; a no-op when none is going on."""
        self._cancelled.set()
        self.sessions.cancel()

    def check(self) -> None:
        """Raise `ConnectionLost` unless the session lives and still holds its locks and its snapshot."""
        with self._busy, translated("holding the snapshot"):
            self.connection.execute("SELECT 1")

    def release(self) -> None:
        """Let the tables go, and with them the snapshot; the session stays, and with it the backup's lock.

        Raises:
            ConnectionLost: The session was ended before, so nobody knows what happened to the tables.
        """
        with self._busy, translated("holding the snapshot"):
            self.connection.execute("COMMIT")
        self.is_released = True

    def stop(self) -> None:
        """End a counting that still goes on, and wait until it has."""
        if self._busy.locked():
            self.cancel()
        if self._busy.acquire(timeout=_STOP_SECONDS):
            self._busy.release()

    @contextmanager
    def _cancellable(self) -> Iterator[None]:
        with self._busy:
            self._raise_if_cancelled()
            try:
                yield
            except Exception:
                self._raise_if_cancelled()
                raise

    def _go_on(self, progress: Progress, done: int, total: int) -> None:
        self._raise_if_cancelled()
        progress(done, total)

    def _raise_if_cancelled(self) -> None:
        if self._cancelled.is_set():
            raise StreamAborted("the counting of rows was cancelled") from None


@contextmanager
def locked_snapshot(
    database: PostgresDatabase,
    *,
    lock_name: str,
    busy_timeout_seconds: float,
    on_wait: Callable[[str], None],
) -> Iterator[Snapshot]:
    """Hold a snapshot of the database with every dumped table locked, in ACCESS SHARE mode, before it.

    Args:
        lock_name: Of the advisory lock that only one backup of a database holds at a time.
        busy_timeout_seconds: How long to wait for another backup that holds it.
        on_wait: Told who holds it, at first and then once a minute.

    Raises:
        BackupLockHeld: The other backup did not end in time.
        LockNotGranted: A table stayed locked for longer than the database's `lock_wait_seconds`.
        TablesChanged: Tables came and went, three times over.
        RightsMissing: The role may not read a table.
        ConnectionLost: The session was ended; also when that is found at the end only, unless the snapshot
            was released before.
    """
    session = database.connect()
    try:
        take_backup_lock(session, lock_name, busy_timeout_seconds, on_wait)
        snapshot = _take_snapshot(session, database)
        try:
            yield snapshot
            if not snapshot.is_released:
                snapshot.check()
        finally:
            snapshot.stop()
    finally:
        session.close()


def _take_snapshot(session: Session, database: PostgresDatabase) -> Snapshot:
    for _ in range(ATTEMPTS):
        listed = take_inventory(session, database.selection)
        _refuse_unreadable(listed.tables)
        with translated("beginning"):
            session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        with suppress(TablesChanged):
            lock_tables(session, listed.tables, database.lock_wait_seconds)
            with translated("taking the snapshot"):
                row = session.execute("SELECT pg_export_snapshot(), statement_timestamp()").fetchone()
            found = take_inventory(session, database.selection)
            if row is not None and _names(found) == _names(listed):
                states = tuple(read_sequences(session, found.sequences))
                server = pin(session)
                sessions = FactSessions(database, server, session, snapshot=row[0])
                return Snapshot(row[0], row[1], session, server, found.tables, states, found.names, sessions)
        with translated("starting over"):
            session.execute("ROLLBACK")
    raise TablesChanged(
        f"tables came and went while they were being locked, {ATTEMPTS} times over",
        "run the backup when no migration runs",
    )


def _names(inventory: Inventory) -> set[tuple[int, str, str]]:
    return {(table.oid, table.schema, table.name) for table in inventory.tables}


def _refuse_unreadable(tables: Sequence[Table]) -> None:
    refused = [qualified(table.schema, table.name) for table in tables if not table.may_read]
    if refused:
        more = f" and {len(refused) - _NAMED} more" if len(refused) > _NAMED else ""
        raise RightsMissing(
            f"the role may not read {', '.join(refused[:_NAMED])}{more}",
            "run `pgsalvo doctor`, which prints the GRANT statements that are missing",
        )
