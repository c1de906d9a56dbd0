"""The rows of a dump's tables: how many there are, and a fingerprint of what they hold.

The same functions read the source, inside the dump's snapshot, and the scratch database after a restore.
A table's lock is released after each batch: with the indexes' locks, thousands of tables would overflow
the server's lock table.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal, NamedTuple

from psycopg import sql

from blocks import fingerprints
from blocks.fingerprints import Column
from blocks.postgres import Session
from blocks.server_errors import translated

Progress = Callable[[int, int], None]

_BATCH = 100
_BATCH_BYTES = 256 << 20
_QUERY_COLUMNS = 2_000
_LEAST_BYTES = 1 << 16  # what a table costs however small it is


@dataclass(frozen=True)
class Table:
    """A table that the dump holds; its name is two strings, never joined.

    Args:
        kind: `r` for a table or a leaf partition, `p` for a partitioned table, which has no rows itself.
        has_rows: Whether the dump holds rows of it.
        counted_at: The partitioned table under whose name its rows count: one hashed by an enum. An enum's
            hash is another after a restore, so that rows may come back in another leaf.
        may_read: Whether the session's role has SELECT on it and USAGE on its schema.
        estimated_bytes: As of the last VACUUM or ANALYZE, with what is stored out of line.
        of_extension: Whether it is an extension's own, so that the dump holds rows and no definition.
        condition: Which of its rows the dump holds, as the extension words it: empty, or `WHERE …`.
    """

    oid: int
    schema: str
    name: str
    kind: Literal["r", "p"]
    has_rows: bool
    counted_at: tuple[str, str] | None
    may_read: bool
    estimated_bytes: int
    of_extension: bool = False
    condition: str = ""


class RowCount(NamedTuple):
    """Rows of one table itself, or of a tree of partitions where `Table.counted_at` says so.

    Args:
        content: Their fingerprint, a decimal number; None where none was taken.
    """

    schema: str
    table: str
    rows: int
    content: str | None = None
    size_bytes: int = 0


class _Counted(NamedTuple):
    table: Table
    rows: int
    hashes: Decimal | None


@dataclass
class Counting:
    """A counting that is shared out among sessions: what is to be done, and what came of it.

    Args:
        shares: Each session's tables, largest first. A session counts its own, and whoever holds the locks
            of all tables may count what others leave.
    """

    shares: list[list[Table]]
    progress: Progress
    content: bool = False
    is_ended: threading.Event = field(default_factory=threading.Event)
    _batches: list[deque[list[Table]]] = field(init=False)
    _rows: dict[tuple[str, str], RowCount] = field(default_factory=dict)
    _done: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._batches = [deque(_batches(share)) for share in self.shares]
        self._add([])

    def count_share(self, session: Session, share: int) -> None:
        """Count one share, or what is left of it, unless the counting is ended meanwhile."""
        while not self.is_ended.is_set():
            try:
                batch = self._batches[share].popleft()
            except IndexError:
                return
            self._add(_count(session, batch, content=self.content))

    def count_rest(self, session: Session) -> None:
        """Count the first share, then whatever of the others nobody has begun."""
        for share in range(len(self.shares)):
            self.count_share(session, share)

    @property
    def rows(self) -> list[RowCount]:
        """What was counted, in the order of the names."""
        return sorted(self._rows.values())

    def _add(self, counted: list[_Counted]) -> None:
        with self._lock:
            for table, rows, hashes in counted:
                name = table.counted_at or (table.schema, table.name)
                before = self._rows.get(name, RowCount(*name, 0))
                summed = str(int(before.content or 0) + int(hashes or 0)) if self.content else None
                size_bytes = before.size_bytes + table.estimated_bytes
                self._rows[name] = RowCount(*name, before.rows + rows, summed, size_bytes)
            self._done += len(counted)
            self.progress(self._done, sum(map(len, self.shares)))


def count_rows(
    session: Session,
    tables: Iterable[Table],
    progress: Progress = lambda *_: None,
    *,
    content: bool = False,
) -> list[RowCount]:
    """Count the rows of every table that has any in the dump, in the order of their names.

    Args:
        progress: Called with the tables counted so far and their number, once before the first batch and
            after each; what it raises ends the counting.
        content: Whether to fingerprint the rows as well.
    """
    counting = Counting(shared_out(tables, 1), progress, content)
    counting.count_rest(session)
    return counting.rows


def shared_out(tables: Iterable[Table], shares: int) -> list[list[Table]]:
    """Share out the tables that have rows, the largest first, each to whom has least yet.

    Only the first share may be empty: with few tables there are fewer shares.
    """
    shared: list[list[Table]] = [[] for _ in range(shares)]
    sizes = [0] * shares
    for table in sorted(tables, key=lambda table: -table.estimated_bytes):
        if table.has_rows:
            least = sizes.index(min(sizes))
            shared[least].append(table)
            sizes[least] += table.estimated_bytes + _LEAST_BYTES
    return shared[:1] + [share for share in shared[1:] if share]


def _count(session: Session, batch: list[Table], *, content: bool) -> list[_Counted]:
    with translated("counting rows"), session.transaction(force_rollback=True):
        columns: dict[int, list[Column]] = {}
        if content:
            fingerprints.set_up(session)
            columns = fingerprints.columns_of(session, [table.oid for table in batch])
        found = [row for query in _queries(batch, columns) for row in session.execute(query)]
    return [_Counted(batch[number], rows, hashes) for number, rows, hashes in found]


def _queries(batch: list[Table], columns: dict[int, list[Column]]) -> Iterator[sql.Composed]:
    """Yield one query for the whole batch, or several where tables have many columns."""
    parts: list[sql.Composed] = []
    width = 0
    for number, table in enumerate(batch):
        parts.append(_query(number, table, columns.get(table.oid)))
        width += len(columns.get(table.oid, ()))
        if width >= _QUERY_COLUMNS or number == len(batch) - 1:
            yield sql.SQL(" UNION ALL ").join(parts)
            parts, width = [], 0


def _query(number: int, table: Table, columns: list[Column] | None) -> sql.Composed:
    content = sql.NULL if columns is None else fingerprints.fingerprint(columns)
    rows: sql.Composable = sql.SQL("ONLY {}").format(sql.Identifier(table.schema, table.name))
    if table.condition:  # or whatever else may end a SELECT
        rows = sql.SQL("(SELECT * FROM {} {}) AS rows").format(rows, sql.SQL(table.condition))
    return sql.SQL("SELECT {}::int4, count(*), {} FROM {}").format(number, content, rows)


def _batches(tables: Iterable[Table]) -> Iterator[list[Table]]:
    """Split into batches that end soon, so that progress is seen: large tables end theirs."""
    batch: list[Table] = []
    for table in tables:
        batch.append(table)
        if len(batch) == _BATCH or sum(one.estimated_bytes for one in batch) >= _BATCH_BYTES:
            yield batch
            batch = []
    if batch:
        yield batch
