"""Which tables' rows a cheaper proof restores: named ones, or as many as a limit has room for."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from flows.core.facts import TableRows
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
            if any(fnmatchcase(f"{table.schema_name}.{table.table}", pattern) for pattern in wanted)
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


def _draw(table: TableRows, seed: str) -> bytes:
    return hashlib.sha256("\0".join((seed, table.schema_name, table.table)).encode()).digest()
