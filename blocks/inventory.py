"""A database's tables and sequences, and what is in them.

The same functions read the source, inside the dump's snapshot, and the scratch database after a restore.
Only counting a table and reading a sequence take a lock, and it is released after each batch: with the
indexes' locks, thousands of tables would overflow the server's lock table.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, cast

from psycopg import sql

from blocks.pgcommands import DumpSelection
from blocks.postgres import Session
from blocks.selection import Kind, Relation, Selection
from blocks.server_errors import translated

EVERYTHING = Selection()
Progress = Callable[[int, int], None]

_BATCH = 100
_BATCH_BYTES = 256 << 20
_RELATIONS = """
    SELECT c.oid, n.nspname, c.relname, c.relkind::text,
           i.inhparent AS parent_oid,
           d.refobjid AS owner_oid,
           coalesce(d.deptype = 'i', false) AS is_identity,
           coalesce(
               has_schema_privilege(n.oid, 'USAGE')
               AND CASE c.relkind WHEN 'S' THEN has_sequence_privilege(c.oid, 'SELECT')
                                  ELSE has_table_privilege(c.oid, 'SELECT') END,
               true) AS may_read,
           c.relpersistence <> 'u' OR NOT pg_is_in_recovery() AS is_here,
           greatest(c.relpages, 0)::int8 * current_setting('block_size')::int8 AS estimated_bytes,
           coalesce(s.seqincrement, 0) AS increment,
           coalesce(s.seqcycle, false) AS cycles,
           EXISTS (SELECT FROM pg_partitioned_table p
                   JOIN pg_opclass o ON o.oid = ANY (p.partclass::oid[])
                   WHERE p.partrelid = c.oid AND p.partstrat = 'h' AND o.opcname = 'enum_ops')
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_inherits i ON i.inhrelid = c.oid AND c.relispartition
    LEFT JOIN pg_depend d ON c.relkind = 'S'
                         AND d.classid = 'pg_class'::regclass AND d.objid = c.oid
                         AND d.refclassid = 'pg_class'::regclass AND d.refobjsubid > 0
                         AND d.deptype IN ('a', 'i')
    LEFT JOIN pg_sequence s ON s.seqrelid = c.oid
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND c.relpersistence <> 't'
      AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
      AND NOT EXISTS (SELECT FROM pg_depend e
                      WHERE e.classid = 'pg_class'::regclass AND e.objid = c.oid AND e.deptype = 'e')
    ORDER BY n.nspname, c.relname"""
_SCHEMAS = "SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'"


@dataclass(frozen=True)
class Table:
    """A table that the dump holds; its name is two strings, never joined.

    Args:
        kind: `r` for a table or a leaf partition, `p` for a partitioned table, which has no rows itself.
        has_rows: Whether the dump holds rows of it.
        counted_at: The partitioned table under whose name its rows count: one hashed by an enum. An enum's
            hash is another after a restore, so that rows may come back in another leaf.
        may_read: Whether the session's role has SELECT on it and USAGE on its schema.
        estimated_bytes: As of the last VACUUM or ANALYZE.
    """

    oid: int
    schema: str
    name: str
    kind: Literal["r", "p"]
    has_rows: bool
    counted_at: tuple[str, str] | None
    may_read: bool
    estimated_bytes: int


@dataclass(frozen=True)
class DumpedSequence:
    """A sequence that the dump holds, not yet read; an unlogged one is not here on a standby."""

    oid: int
    schema: str
    name: str
    increment: int
    cycles: bool
    may_read: bool
    is_here: bool


@dataclass(frozen=True)
class Inventory:
    """What a selection comes to on a database: tables and sequences in the order of their names.

    Args:
        names: What pg_dump is given to dump just these.
    """

    tables: tuple[Table, ...]
    sequences: tuple[DumpedSequence, ...]
    names: DumpSelection


class RowCount(NamedTuple):
    """Rows of one table itself, or of a tree of partitions where `Table.counted_at` says so."""

    schema: str
    table: str
    rows: int


@dataclass(frozen=True)
class SequenceState:
    """Where a sequence stands; `last_value` is None if it may not be read."""

    schema: str
    name: str
    last_value: int | None
    is_called: bool
    increment: int
    cycles: bool


def take_inventory(session: Session, selection: Selection = EVERYTHING) -> Inventory:
    """List the tables and sequences that a dump of `selection` holds; takes no lock.

    Left out is what belongs to an extension, to the system, or to one session. Unlogged tables have no
    rows on a standby.

    Raises:
        ConfigurationError: What the selection includes is not there.
    """
    with translated("listing the tables"):
        rows = [_Row(*row) for row in session.execute(_RELATIONS)]
        schemas = [name for (name,) in session.execute(_SCHEMAS)]
    choice = selection.resolve(schemas, [row.relation for row in rows])
    by_oid = {row.oid: row for row in rows}
    dumped = [row for row in rows if row.oid in choice.dumped]
    return Inventory(
        tuple(row.table(by_oid, choice.without_rows) for row in dumped if row.kind in ("r", "p")),
        tuple(row.sequence() for row in dumped if row.kind == "S"),
        choice.names,
    )


def count_rows(
    session: Session, tables: Iterable[Table], progress: Progress = lambda *_: None
) -> list[RowCount]:
    """Count the rows of every table that has any in the dump, in the order of their names.

    Args:
        progress: Called with the tables counted so far and their number, once before the first batch and
            after each; what it raises ends the counting.
    """
    counted = [table for table in tables if table.has_rows]
    rows: dict[tuple[str, str], int] = {}
    done = 0
    progress(done, len(counted))
    for batch in _batches(counted):
        query = sql.SQL(" UNION ALL ").join(
            sql.SQL("SELECT {}::int4, count(*) FROM ONLY {}").format(
                number, sql.Identifier(table.schema, table.name)
            )
            for number, table in enumerate(batch)
        )
        with translated("counting rows"), session.transaction(force_rollback=True):
            counts = session.execute(query).fetchall()
        for number, count in counts:
            table = batch[number]
            name = table.counted_at or (table.schema, table.name)
            rows[name] = rows.get(name, 0) + count
        done += len(batch)
        progress(done, len(counted))
    return [RowCount(*name, count) for name, count in sorted(rows.items())]


def read_sequences(session: Session, sequences: Collection[DumpedSequence]) -> list[SequenceState]:
    """Read where sequences stand *now*: they heed no snapshot."""
    states: dict[int, tuple[int, bool]] = {}
    readable = [sequence for sequence in sequences if sequence.may_read and sequence.is_here]
    for start in range(0, len(readable), _BATCH):
        query = sql.SQL(" UNION ALL ").join(
            sql.SQL("SELECT {}::oid, last_value, is_called FROM {}").format(
                sequence.oid, sql.Identifier(sequence.schema, sequence.name)
            )
            for sequence in readable[start : start + _BATCH]
        )
        with translated("reading sequences"), session.transaction(force_rollback=True):
            states |= {oid: (last_value, is_called) for oid, last_value, is_called in session.execute(query)}
    return [_state(sequence, *states.get(sequence.oid, (None, False))) for sequence in sequences]


def restored_row_counts(session: Session, progress: Progress = lambda *_: None) -> list[RowCount]:
    """Count every table of a restored database, as `count_rows` counted the source's."""
    return count_rows(session, take_inventory(session).tables, progress)


class _Row(NamedTuple):
    oid: int
    schema: str
    name: str
    kind: Kind
    parent_oid: int | None
    owner_oid: int | None
    is_identity: bool
    may_read: bool
    is_here: bool
    estimated_bytes: int
    increment: int
    cycles: bool
    is_hashed_by_enum: bool

    @property
    def relation(self) -> Relation:
        return Relation(*self[:7])

    def table(self, by_oid: Mapping[int, "_Row"], without_rows: Collection[int]) -> Table:
        return Table(
            oid=self.oid,
            schema=self.schema,
            name=self.name,
            kind=cast(Literal["r", "p"], self.kind),
            has_rows=self.kind == "r" and self.is_here and self.oid not in without_rows,
            counted_at=self.counted_at(by_oid),
            may_read=self.may_read,
            estimated_bytes=self.estimated_bytes,
        )

    def counted_at(self, by_oid: Mapping[int, "_Row"]) -> tuple[str, str] | None:
        """Return the topmost ancestor that is hashed by an enum."""
        found, row = None, self
        while row.parent_oid is not None and row.parent_oid in by_oid:
            row = by_oid[row.parent_oid]
            if row.is_hashed_by_enum:
                found = (row.schema, row.name)
        return found

    def sequence(self) -> DumpedSequence:
        return DumpedSequence(
            self.oid, self.schema, self.name, self.increment, self.cycles, self.may_read, self.is_here
        )


def _state(sequence: DumpedSequence, last_value: int | None, is_called: bool) -> SequenceState:
    return SequenceState(
        sequence.schema, sequence.name, last_value, is_called, sequence.increment, sequence.cycles
    )


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
