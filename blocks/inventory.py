"""A database's tables and sequences, as a dump holds them.

The same functions list the source, inside the dump's snapshot, and the scratch database after a restore.
Only reading a sequence takes a lock, and it is released after each batch.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, cast

from psycopg import sql

from blocks.counting import Progress, RowCount, Table, count_rows
from blocks.pgcommands import DumpSelection
from blocks.postgres import Session
from blocks.selection import Kind, Relation, Selection
from blocks.server_errors import translated

__all__ = [
    "EVERYTHING",
    "DumpedSequence",
    "Inventory",
    "Progress",
    "RowCount",
    "SequenceState",
    "Table",
    "count_rows",
    "read_sequences",
    "restored_inventory",
    "restored_row_counts",
    "take_inventory",
]

EVERYTHING = Selection()

_BATCH = 100
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
           (greatest(c.relpages, 0)::int8 + coalesce(greatest(toast.relpages, 0), 0))
               * current_setting('block_size')::int8 AS estimated_bytes,
           coalesce(s.seqincrement, 0) AS increment,
           coalesce(s.seqcycle, false) AS cycles,
           EXISTS (SELECT FROM pg_partitioned_table p
                   JOIN pg_opclass o ON o.oid = ANY (p.partclass::oid[])
                   WHERE p.partrelid = c.oid AND p.partstrat = 'h' AND o.opcname = 'enum_ops'),
           x.condition AS extension_condition
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_class toast ON toast.oid = c.reltoastrelid
    LEFT JOIN (SELECT u.oid, u.condition
               FROM pg_extension e, unnest(e.extconfig, e.extcondition) AS u (oid, condition)) x
           ON x.oid = c.oid AND c.relkind IN ('r', 'S')
    LEFT JOIN pg_inherits i ON i.inhrelid = c.oid AND c.relispartition
    LEFT JOIN pg_depend d ON c.relkind = 'S'
                         AND d.classid = 'pg_class'::regclass AND d.objid = c.oid
                         AND d.refclassid = 'pg_class'::regclass AND d.refobjsubid > 0
                         AND d.deptype IN ('a', 'i')
    LEFT JOIN pg_sequence s ON s.seqrelid = c.oid
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND c.relpersistence <> 't'
      AND (x.oid IS NOT NULL
           OR n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
              AND NOT EXISTS (SELECT FROM pg_depend e
                              WHERE e.classid = 'pg_class'::regclass AND e.objid = c.oid AND e.deptype = 'e'))
    ORDER BY n.nspname, c.relname"""
_SCHEMAS = "SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'"


@dataclass(frozen=True)
class DumpedSequence:
    """A sequence that the dump holds, not yet read; an unlogged one is not here on a standby.

    Args:
        of_extension: Whether it is an extension's own, so that the dump holds its value only.
    """

    oid: int
    schema: str
    name: str
    increment: int
    cycles: bool
    may_read: bool
    is_here: bool
    of_extension: bool = False


@dataclass(frozen=True)
class Inventory:
    """What a selection comes to on a database: tables and sequences in the order of their names.

    Args:
        names: What pg_dump is given to dump just these.
    """

    tables: tuple[Table, ...]
    sequences: tuple[DumpedSequence, ...]
    names: DumpSelection


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

    Left out is what belongs to the system or to one session. Of an extension's own, the dump holds what
    the extension itself declares to be its users' configuration. Unlogged tables have no rows on a standby.

    Raises:
        ConfigurationError: What the selection includes is not there.

    Source: pg_dump's `processExtensionTables`.
    """
    with translated("listing the tables"):
        rows = [_Row(*row) for row in session.execute(_RELATIONS)]
        schemas = [name for (name,) in session.execute(_SCHEMAS)]
    choice = selection.resolve(schemas, [row.relation for row in rows])
    by_oid = {row.oid: row for row in rows}
    dumped = [row for row in rows if row.oid in choice.dumped]
    names = choice.names
    if selection.include_schemas:  # then pg_dump leaves extensions out, but not the rows of their tables
        unwanted = tuple((row.schema, row.name) for row in dumped if row.of_extension)
        names = replace(names, exclude_tables=names.exclude_tables + unwanted)
        dumped = [row for row in dumped if not row.of_extension]
    return Inventory(
        tuple(row.table(by_oid, choice.without_rows) for row in dumped if row.kind in ("r", "p")),
        tuple(row.sequence() for row in dumped if row.kind == "S"),
        names,
    )


def restored_inventory(session: Session, known: Collection[tuple[str, str]] | None = None) -> Inventory:
    """List the tables and sequences of a restored database.

    Args:
        known: The names of all tables and sequences that the dump held. Extensions come with their own
            tables, whether or not the dump held rows of them: those that are not named are left out.
    """
    found = take_inventory(session)
    if known is None:
        return found
    names = frozenset(known)
    return replace(
        found,
        tables=tuple(one for one in found.tables if not one.of_extension or (one.schema, one.name) in names),
        sequences=tuple(
            one for one in found.sequences if not one.of_extension or (one.schema, one.name) in names
        ),
    )


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


def restored_row_counts(
    session: Session,
    progress: Progress = lambda *_: None,
    *,
    content: bool = False,
    known: Collection[tuple[str, str]] | None = None,
) -> list[RowCount]:
    """Count every table of a restored database, as `count_rows` counted the source's.

    Args:
        content: Whether to fingerprint the rows as well.
        known: As of `restored_inventory`.
    """
    return count_rows(session, restored_inventory(session, known).tables, progress, content=content)


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
    extension_condition: str | None

    @property
    def of_extension(self) -> bool:
        return self.extension_condition is not None

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
            of_extension=self.of_extension,
            condition=self.extension_condition or "",
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
            oid=self.oid,
            schema=self.schema,
            name=self.name,
            increment=self.increment,
            cycles=self.cycles,
            may_read=self.may_read,
            is_here=self.is_here,
            of_extension=self.of_extension,
        )


def _state(sequence: DumpedSequence, last_value: int | None, is_called: bool) -> SequenceState:
    return SequenceState(
        sequence.schema, sequence.name, last_value, is_called, sequence.increment, sequence.cycles
    )
