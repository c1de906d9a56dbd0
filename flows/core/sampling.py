"""Which tables' rows a cheaper proof restores: named ones, or as many as a limit has room for."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from flows.core.facts import CatalogObject, TableRows
from flows.core.ignoring import matches
from flows.core.object_places import parts
from flows.core.verification import FULL, Tier

Sample = frozenset[tuple[str, str]]


@dataclass(frozen=True)
class Portion:
    """How much of a dump a proof restores; `tables` are those of a sample, whose rows come too."""

    tier: Tier = FULL
    tables: Sample = frozenset()


EVERYTHING = Portion()
GUESSED_ROW_BYTES = 200


def sample(tables: Iterable[TableRows], patterns: Iterable[str], max_bytes: int, seed: str) -> Sample:
    """Return (schema, table) of the sampled tables.

    Without patterns every table has the same chance, whatever its name, and a table that does not fit is
    passed over for a smaller one; another seed, such as the next backup's id, gives another sample.

    Args:
        patterns: Of `schema.table`, with `*` and `?`; if there is any, `max_bytes` does not count.
        max_bytes: Of all sampled tables together, as large as they were on the source.
    """
    tables = list(tables)
    wanted = list(patterns)
    if wanted:
        return frozenset(
            (table.schema_name, table.table)
            for table in tables
            if any(matches(f"{table.schema_name}.{table.table}", pattern) for pattern in wanted)
        )
    chosen, room = set(), max_bytes
    for table in sorted(tables, key=lambda table: _draw(table, seed)):
        if (size_bytes := _size(table)) <= room:
            chosen.add((table.schema_name, table.table))
            room -= size_bytes
    return frozenset(chosen)


def _size(table: TableRows) -> int:
    """Return the size that the source told, or a guess of a table that was never analysed there."""
    return table.size_bytes or table.rows * GUESSED_ROW_BYTES


def with_partitions(tables: Sample, objects: Iterable[CatalogObject]) -> Sample:
    """Add the partitions of sampled tables, for a dump holds rows by their names, wherever they count."""
    parents = {
        (item.name[0], item.name[1]): parts(item.properties["parents"])
        for item in objects
        if item.kind == "table" and "partition bound" in item.properties
    }
    found = set(tables)
    while more := {name for name, parent in parents.items() if parent in found and name not in found}:
        found |= more
    return frozenset(found)


def _draw(table: TableRows, seed: str) -> bytes:
    return hashlib.sha256("\0".join((seed, table.schema_name, table.table)).encode()).digest()
