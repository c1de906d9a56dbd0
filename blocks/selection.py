"""Which relations a dump holds: a plan's patterns, resolved against the server's own list.

A pattern is a name as SQL writes it: folded to lower case unless it stands in double quotes. Outside
quotes `*` stands for any characters and `?` for one. pg_dump is then given exact names only, so that
what is locked, counted and dumped is one list.
"""

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from blocks.errors import ConfigurationError
from blocks.pgcommands import DumpSelection

Kind = Literal["r", "p", "v", "m", "f", "S"]

_PLAIN = re.compile(r"[a-z_][a-z0-9_$]*")
_TOKEN = re.compile(r'"(?P<quoted>(?:[^"]|"")+)"|(?P<dot>\.)|(?P<plain>[^".]+)')
_LOWER_CASE = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}
_QUOTING = 'put names with capitals, dots or other signs into double quotes, such as public."Order.Items"'


@dataclass(frozen=True)
class Relation:
    """A relation that no extension owns.

    Args:
        kind: pg_class.relkind.
        parent_oid: Of the partitioned table that this is a partition of.
        owner_oid: Of the table whose column a sequence belongs to.
        is_identity: The sequence of an identity column, which pg_dump treats as part of its table.
    """

    oid: int
    schema: str
    name: str
    kind: Kind
    parent_oid: int | None = None
    owner_oid: int | None = None
    is_identity: bool = False


@dataclass(frozen=True)
class Selection:
    """What a plan includes and leaves out; nothing set means everything.

    Naming a partitioned table means its partitions too; including a partition, the empty tables above it.

    Raises:
        ConfigurationError: A pattern is malformed, or schemas and tables are both included.
    """

    include_schemas: tuple[str, ...] = ()
    exclude_schemas: tuple[str, ...] = ()
    include_tables: tuple[str, ...] = ()
    exclude_tables: tuple[str, ...] = ()
    exclude_table_data: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for pattern in (*self.include_schemas, *self.exclude_schemas):
            _parts(pattern, ("schema",))
        for pattern in (*self.include_tables, *self.exclude_tables, *self.exclude_table_data):
            _parts(pattern, ("schema", "table"))
        if self.include_schemas and self.include_tables:
            raise ConfigurationError(
                "include_schemas and include_tables are both set",
                "include tables only, and write schema.* for a whole schema",
            )

    def resolve(self, schemas: Collection[str], relations: Sequence[Relation]) -> "Choice":
        """Return what these patterns choose from all that a database holds.

        Raises:
            ConfigurationError: What is to be included is not there. What is to be left out may be missing.
        """
        left_out = _matching_schemas(self.exclude_schemas, schemas)
        included_schemas = _matching_schemas(self.include_schemas, schemas, required=True) - left_out
        excluded = _matching(self.exclude_tables, relations)
        included = _matching(self.include_tables, relations, required=True) - excluded
        included = _with_ancestors(included, relations)
        dumped = [
            relation
            for relation in relations
            if relation.schema not in left_out
            and relation.oid not in excluded
            and (not self.include_schemas or relation.schema in included_schemas)
            and (not self.include_tables or relation.oid in included)
        ]
        if (self.include_schemas and not included_schemas) or (self.include_tables and not dumped):
            raise ConfigurationError("whatever the plan includes, it excludes again")
        without_rows = _matching(self.exclude_table_data, relations)
        kept = _with_owned_sequences(dumped, relations)
        # With --table, pg_dump would leave out schemas and types, without which no table can be restored:
        # the other relations are left out instead.
        unwanted = [
            relation
            for relation in relations
            if relation.oid not in kept and relation.schema not in left_out and not relation.is_identity
        ]
        names = DumpSelection(
            include_schemas=tuple(sorted(included_schemas)),
            exclude_schemas=tuple(sorted(left_out)),
            exclude_tables=_names(
                unwanted if self.include_tables else (one for one in relations if one.oid in excluded)
            ),
            exclude_table_data=_names(relation for relation in relations if relation.oid in without_rows),
            large_objects=not self.include_tables,
        )
        return Choice(names, kept, without_rows)


@dataclass(frozen=True)
class Choice:
    """What a selection comes to on one database: `dumped` and `without_rows` hold OIDs."""

    names: DumpSelection
    dumped: Collection[int]
    without_rows: Collection[int]


def qualified(schema: str, name: str) -> str:
    """Return a relation's name for a person, quoted as SQL needs it; `Selection` reads it back."""
    return ".".join(part if _PLAIN.fullmatch(part) else quoted(part) for part in (schema, name))


def quoted(identifier: str) -> str:
    """Return an SQL identifier in double quotes."""
    return '"' + identifier.replace('"', '""') + '"'


def _with_owned_sequences(dumped: Iterable[Relation], relations: Iterable[Relation]) -> frozenset[int]:
    oids = {relation.oid for relation in dumped}
    for relation in relations:
        if relation.owner_oid in oids:
            oids.add(relation.oid)
        elif relation.is_identity:
            oids.discard(relation.oid)
    return frozenset(oids)


def _matching_schemas(
    patterns: Iterable[str], schemas: Iterable[str], *, required: bool = False
) -> frozenset[str]:
    found: set[str] = set()
    for pattern in patterns:
        (regex,) = _parts(pattern, ("schema",))
        matching = {schema for schema in schemas if regex.fullmatch(schema)}
        if required and not matching:
            raise ConfigurationError(f"no schema of the database is called {pattern}", _QUOTING)
        found |= matching
    return frozenset(found)


def _matching(
    patterns: Iterable[str], relations: Sequence[Relation], *, required: bool = False
) -> frozenset[int]:
    found: set[int] = set()
    for pattern in patterns:
        schema, name = _parts(pattern, ("schema", "table"))
        matching = {one.oid for one in relations if schema.fullmatch(one.schema) and name.fullmatch(one.name)}
        if required and not matching:
            raise ConfigurationError(f"no table of the database is called {pattern}", _QUOTING)
        found |= matching
    return _with_partitions(found, relations)


def _with_partitions(oids: set[int], relations: Iterable[Relation]) -> frozenset[int]:
    children: dict[int, list[int]] = {}
    for relation in relations:
        if relation.parent_oid is not None:
            children.setdefault(relation.parent_oid, []).append(relation.oid)
    reached: set[int] = set()
    waiting = list(oids)
    while waiting:
        oid = waiting.pop()
        if oid not in reached:
            reached.add(oid)
            waiting += children.get(oid, [])
    return frozenset(reached)


def _with_ancestors(oids: Collection[int], relations: Iterable[Relation]) -> frozenset[int]:
    """Add the partitioned tables above: a partition is restored by attaching it to them."""
    parents = {relation.oid: relation.parent_oid for relation in relations}
    reached = set(oids)
    for oid in oids:
        parent = parents[oid]
        while parent is not None:
            reached.add(parent)
            parent = parents.get(parent)
    return frozenset(reached)


def _names(relations: Iterable[Relation]) -> tuple[tuple[str, str], ...]:
    return tuple((relation.schema, relation.name) for relation in relations)


def _parts(pattern: str, shape: tuple[str, ...]) -> list["re.Pattern[str]"]:
    """Return a regular expression for each part of a dotted pattern."""
    parts, end = [""], 0
    for token in _TOKEN.finditer(pattern):
        if token.start() != end:
            break
        end = token.end()
        if token["dot"]:
            parts.append("")
        elif token["quoted"]:
            parts[-1] += re.escape(token["quoted"].replace('""', '"'))
        else:
            folded = re.escape(token["plain"].translate(_LOWER_CASE))
            parts[-1] += folded.replace(r"\*", ".*").replace(r"\?", ".")
    if end != len(pattern) or len(parts) != len(shape) or not all(parts):
        raise ConfigurationError(f"not a name of the form {'.'.join(shape)}: {pattern}", _QUOTING)
    return [re.compile(part, re.DOTALL) for part in parts]
