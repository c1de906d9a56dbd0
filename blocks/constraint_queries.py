"""For each valid foreign key and check of a database the query that finds the rows which break it.

What is compared and how is read from the catalogue, as PostgreSQL's own triggers read it: the constraint's
own operators, the referenced column's collation, and whether partitions or children belong to a table.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import Literal, NamedTuple

from psycopg import sql

from blocks.postgres import Session

Kind = Literal["foreign key", "check"]
Name = tuple[str, str]

_CHECKS = """
    SELECT n.nspname, r.relname, c.conname, pg_get_expr(c.conbin, c.conrelid)
    FROM pg_constraint c
    JOIN pg_class r ON r.oid = c.conrelid
    JOIN pg_namespace n ON n.oid = r.relnamespace
    WHERE c.contype = 'c' AND c.convalidated AND r.relkind = 'r' AND r.relpersistence <> 't'
      AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
    ORDER BY n.nspname, r.relname, c.conname"""
# A cast names the type itself: what format_type calls `character` would be one character long.
_FOREIGN_KEYS = """
    SELECT c.oid::int8, ARRAY[n.nspname, r.relname], c.conname, r.relkind = 'p',
           ARRAY[pn.nspname, p.relname], p.relkind = 'p', c.confmatchtype = 'f',
           fa.attname, pa.attname, ARRAY[opn.nspname, o.oprname],
           CASE WHEN lt.oid <> pa.atttypid THEN ARRAY[ltn.nspname, lt.typname] END,
           CASE WHEN rt.oid <> fa.atttypid THEN ARRAY[rtn.nspname, rt.typname] END,
           CASE WHEN pa.attcollation <> fa.attcollation THEN ARRAY[cn.nspname, co.collname] END
    FROM pg_constraint c
    JOIN pg_class r ON r.oid = c.conrelid
    JOIN pg_namespace n ON n.oid = r.relnamespace
    JOIN pg_class p ON p.oid = c.confrelid
    JOIN pg_namespace pn ON pn.oid = p.relnamespace
    CROSS JOIN LATERAL
        unnest(c.conkey, c.confkey, c.conpfeqop) WITH ORDINALITY AS k (fk, pk, operator, number)
    JOIN pg_attribute fa ON fa.attrelid = c.conrelid AND fa.attnum = k.fk
    JOIN pg_attribute pa ON pa.attrelid = c.confrelid AND pa.attnum = k.pk
    JOIN pg_operator o ON o.oid = k.operator
    JOIN pg_namespace opn ON opn.oid = o.oprnamespace
    JOIN pg_type lt ON lt.oid = o.oprleft
    JOIN pg_namespace ltn ON ltn.oid = lt.typnamespace
    JOIN pg_type rt ON rt.oid = o.oprright
    JOIN pg_namespace rtn ON rtn.oid = rt.typnamespace
    LEFT JOIN pg_collation co ON co.oid = pa.attcollation
    LEFT JOIN pg_namespace cn ON cn.oid = co.collnamespace
    WHERE c.contype = 'f' AND c.convalidated AND c.conparentid = 0
      AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
      AND NOT coalesce((to_jsonb(c) ->> 'conperiod')::bool, false)
    ORDER BY n.nspname, r.relname, c.conname, c.oid, k.number"""
_LEFT_OUT = """
    SELECT n.nspname, r.relname, c.conname,
           CASE WHEN NOT coalesce((to_jsonb(c) ->> 'conenforced')::bool, true) THEN 'it is not enforced' END
    FROM pg_constraint c
    JOIN pg_class r ON r.oid = c.conrelid
    JOIN pg_namespace n ON n.oid = r.relnamespace
    WHERE c.contype IN ('c', 'f') AND c.conparentid = 0
      AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
      AND (NOT coalesce((to_jsonb(c) ->> 'conenforced')::bool, true)
           OR c.contype = 'f' AND c.convalidated AND coalesce((to_jsonb(c) ->> 'conperiod')::bool, false))
    ORDER BY n.nspname, r.relname, c.conname"""


@dataclass(frozen=True)
class Constraint:
    """A constraint and the query, of columns that do not matter, that returns every row which breaks it."""

    table: Name
    name: str
    kind: Kind
    violating_rows: sql.Composable


def constraints(session: Session) -> list[Constraint]:
    """List the valid constraints of tables that hold rows, in the order of their names."""
    return [*_checks(session), *_foreign_keys(session)]


def left_out(session: Session) -> list[tuple[Name, str, str]]:
    """List (table, constraint, why) of what claims nothing of its rows, or what operators cannot tell of."""
    rows = session.execute(_LEFT_OUT).fetchall()
    return [((schema, table), name, why or "it is about periods") for schema, table, name, why in rows]


def _checks(session: Session) -> Iterator[Constraint]:
    for schema, table, name, expression in session.execute(_CHECKS).fetchall():
        query = sql.SQL("SELECT FROM ONLY {} WHERE NOT ({})").format(
            sql.Identifier(schema, table), sql.SQL(expression)
        )
        yield Constraint((schema, table), name, "check", query)


class _Column(NamedTuple):
    """One pair of columns of a foreign key; whatever tells of the whole key is the same in all its pairs."""

    oid: int
    child: list[str]
    name: str
    child_is_partitioned: bool
    parent: list[str]
    parent_is_partitioned: bool
    matches_full: bool
    column: str
    parent_column: str
    operator: list[str]
    parent_cast: list[str] | None
    child_cast: list[str] | None
    collation: list[str] | None

    @property
    def is_equal(self) -> sql.Composable:
        left = _cast(sql.Identifier("parent", self.parent_column), self.parent_cast)
        right = _cast(sql.Identifier("child", self.column), self.child_cast)
        if self.collation:
            right = sql.SQL("{} COLLATE {}").format(right, sql.Identifier(*self.collation))
        schema, sign = self.operator
        is_equal = sql.SQL("{} OPERATOR({}.{}) {}")
        return is_equal.format(left, sql.Identifier(schema), sql.SQL(sign), right)

    @property
    def is_there(self) -> sql.Composable:
        """A composite value counts as there even if each of its fields is NULL."""
        return sql.SQL("{} IS DISTINCT FROM NULL").format(sql.Identifier("child", self.column))


def _foreign_keys(session: Session) -> Iterator[Constraint]:
    pairs = [_Column(*row) for row in session.execute(_FOREIGN_KEYS).fetchall()]
    for _, group in groupby(pairs, attrgetter("oid")):
        columns = list(group)
        key = columns[0]
        schema, table = key.child
        yield Constraint((schema, table), key.name, "foreign key", _orphans(key, columns))


def _orphans(key: _Column, columns: list[_Column]) -> sql.Composable:
    """Return the query of rows whose parent is not there, or whose key is there in part but must be whole."""
    conjunction = sql.SQL(" AND ")
    all_there = conjunction.join(column.is_there for column in columns)
    any_there = sql.SQL(" OR ").join(column.is_there for column in columns)
    has_parent = sql.SQL("EXISTS (SELECT FROM {}{} AS parent WHERE {})").format(
        _only(key.parent_is_partitioned),
        sql.Identifier(*key.parent),
        conjunction.join(column.is_equal for column in columns),
    )
    broken = (
        sql.SQL("({}) AND (NOT ({}) OR NOT {})").format(any_there, all_there, has_parent)
        if key.matches_full and len(columns) > 1
        else sql.SQL("{} AND NOT {}").format(all_there, has_parent)
    )
    child = sql.Identifier(*key.child)
    return sql.SQL("SELECT FROM {}{} AS child WHERE {}").format(
        _only(key.child_is_partitioned), child, broken
    )


def _only(is_partitioned: bool) -> sql.SQL:
    """A table that inherits is another table, its rows count neither as children nor as parents."""
    return sql.SQL("" if is_partitioned else "ONLY ")


def _cast(value: sql.Composable, kind: list[str] | None) -> sql.Composable:
    return sql.SQL("{}::{}").format(value, sql.Identifier(*kind)) if kind else value
