"""Fingerprints of rows: one number for all rows of a table, in whatever order they lie.

The number is the same on PostgreSQL 14 to 18, before a dump and after its restore, whatever the server, the
database or the role is set to; a server of another encoding or byte order computes another. It tells apart
what a dump would write differently; only inside an array may the sign of a zero go unseen, or a bit that
changed from one half of an eight-byte integer to the other.

Common built-in types are hashed as they are stored, all others as their output function writes them, which
is what pg_dump writes. Of what came with the database only output functions are called, which nobody but
a superuser can make: no cast, no operator, no operator class, and nothing that a search path leads to.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from psycopg import sql
from psycopg.types.json import Json

from blocks.postgres import Session

_ENTRIES = 1_000  # a ROW holds 1,664 at most
_SETTINGS = {
    "search_path": "",
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "TimeZone": "GMT",  # the one zone that a server knows without files
    "extra_float_digits": "3",
    "bytea_output": "hex",
    "lc_monetary": "C",
    "quote_all_identifiers": "off",
    "jit": "off",  # it compiles a thousand columns for longer than it saves
}
_SET = "SELECT pg_catalog.set_config(key, value, true) FROM pg_catalog.json_each_text(%s)"
_COLUMNS = """
    WITH RECURSIVE bases (domain, base, is_domain) AS (
        SELECT oid, oid, true FROM pg_type WHERE typtype = 'd'
        UNION ALL
        SELECT b.domain, t.oid, t.typtype = 'd'
        FROM bases b
        JOIN pg_type d ON d.oid = b.base
        JOIN pg_type t ON t.oid = d.typbasetype
        WHERE b.is_domain)
    SELECT a.attrelid, a.attname, coalesce(b.base, a.atttypid)
    FROM pg_attribute a
    LEFT JOIN bases b ON b.domain = a.atttypid AND NOT b.is_domain
    WHERE a.attrelid = ANY (%s::oid[])
      AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated <> 'v'"""

_STORED = {
    16: "bool", 17: "bytea", 21: "int2", 23: "int4", 26: "oid", 650: "inet", 774: "macaddr8", 829: "macaddr",
    869: "inet", 1082: "date", 2950: "uuid",
}  # fmt: skip
_TEXTS = (25, 1043)
_FLOATS = {700: "float4", 701: "float8"}
# of eight bytes a hash takes in the halves' difference only; 1.0 equals 1.00, and a day 24 hours
_SENT = {
    18: ('"char"', "charsend"), 20: ("int8", "int8send"), 1083: ("time", "time_send"),
    1114: ("timestamp", "timestamp_send"), 1184: ("timestamptz", "timestamptz_send"),
    1186: ("interval", "interval_send"), 1266: ("timetz", "timetz_send"), 1700: ("numeric", "numeric_send"),
}  # fmt: skip
_ARRAYS = {
    1000: "bool", 1001: "bytea", 1005: "int2", 1007: "int4", 1016: "int8", 1021: "float4", 1022: "float8",
    1028: "oid", 1115: "timestamp", 1182: "date", 1183: "time", 1185: "timestamptz", 2951: "uuid",
}  # fmt: skip
_TEXT_ARRAYS = (1009, 1015)


@dataclass(frozen=True)
class Column:
    """A column that is stored.

    Args:
        type_oid: Of its type; a domain's is that of the type beneath.
    """

    name: str
    type_oid: int


def set_up(session: Session) -> None:
    """Set, until the transaction ends, what output functions heed."""
    session.execute(_SET, [Json(_SETTINGS)])


def columns_of(session: Session, table_oids: Collection[int]) -> dict[int, list[Column]]:
    """Return the columns of each table whose values are stored, in any order."""
    columns: dict[int, list[Column]] = {oid: [] for oid in table_oids}
    for oid, name, type_oid in session.execute(_COLUMNS, [list(table_oids)]):
        columns[oid].append(Column(name, type_oid))
    return columns


def fingerprint(columns: Iterable[Column]) -> sql.Composed:
    """Return the aggregate that fingerprints a table of these columns.

    It adds up, so that partitions can be measured one by one. Columns are taken in the order of their
    names: children of a table come back in another one.
    """
    by_name = sorted(columns, key=lambda column: column.name)
    return sum_of_hashes([entry for column in by_name for entry in _entries(column)])


def sum_of_hashes(entries: Sequence[sql.Composable]) -> sql.Composed:
    """Return the aggregate that adds up a hash of each row; it is NULL if there is no row.

    A record's hash is linear in its fields' hashes: with the bare sum, rows that swapped a field would go
    unseen. So each is hashed once more, as a float, whose hash is the fastest that takes in all bytes, and
    with a seed, so that a row of NULLs counts too.
    """
    return sql.SQL("pg_catalog.sum(pg_catalog.hashfloat8extended({}::pg_catalog.float8, 1))").format(
        _record_hash(entries)
    )


def _record_hash(entries: Sequence[sql.Composable]) -> sql.Composable:
    if len(entries) > _ENTRIES:
        parts = [entries[start : start + _ENTRIES] for start in range(0, len(entries), _ENTRIES)]
        return _record_hash([_record_hash(part) for part in parts])
    return sql.SQL("pg_catalog.hash_record_extended(ROW({}), 0)").format(sql.SQL(", ").join(entries))


def _entries(column: Column) -> list[sql.Composed]:
    """Return what a column brings into its row's hash: NULL for NULL, and for nothing else alone."""
    return [sql.SQL(template).format(sql.Identifier(column.name)) for template in _templates(column.type_oid)]


def _templates(type_oid: int) -> tuple[str, ...]:
    if type_oid in _STORED:
        return (f"{{0}}::pg_catalog.{_STORED[type_oid]}",)
    if type_oid in _TEXTS:
        return (_in_bytes("{0}::pg_catalog.text"),)
    if type_oid in _SENT:
        name, send = _SENT[type_oid]
        return (f"pg_catalog.{send}({{0}}::pg_catalog.{name})",)
    if type_oid in _FLOATS:  # 0 equals -0; but a NaN may be stored in many ways
        value, name = f"{{0}}::pg_catalog.{_FLOATS[type_oid]}", _FLOATS[type_oid]
        is_nan = f"{value} OPERATOR(pg_catalog.=) 'NaN'::pg_catalog.{name}"
        return (f"CASE WHEN {is_nan} THEN ''::pg_catalog.bytea ELSE pg_catalog.{name}send({value}) END",)
    if type_oid in _ARRAYS:
        return _array(f"{{0}}::pg_catalog.{_ARRAYS[type_oid]}[]")
    if type_oid in _TEXT_ARRAYS:
        return _array(_in_bytes("{0}::pg_catalog.text[]"))
    return (_in_bytes("pg_catalog.format('%s', {0})"), "pg_catalog.num_nulls({0})")


def _array(value: str) -> tuple[str, str]:
    """Return an array's hash, which does not know {{1,2}} from {1,2}, and its bounds."""
    return f"pg_catalog.hash_array_extended({value}, 0)", _in_bytes(f"pg_catalog.array_dims({value})")


def _in_bytes(text: str) -> str:
    """Return a text of the C collation: another may take different texts for equal."""
    return f'({text} COLLATE pg_catalog."C")'
