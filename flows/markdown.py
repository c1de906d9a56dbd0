"""Markdown as Prefect's UI shows it, from names that may hold anything."""

import re
from collections.abc import Iterable, Sequence
from datetime import datetime

# Signs of Markdown, and what a bare address becomes a link by.
_SIGNS = re.compile(r"[\\`*_\[\]<>|~&@]|:(?=//)|(?<=www)\.", re.IGNORECASE)


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Return the lines of a table, and an empty one; nothing at all if it has no rows."""
    body = list(rows)
    if not body:
        return []
    lines = [header, ["---"] * len(header), *body]
    return ["| " + " | ".join(str(cell) for cell in line) + " |" for line in lines] + [""]


def escaped(text: str) -> str:
    """Return text that cannot break a table or become a link."""
    flat = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return _SIGNS.sub(r"\\\g<0>", flat)


def count(value: object) -> str:
    """Return a number of pandas, a dash if there is none."""
    return "–" if str(value) == "<NA>" else f"{int(str(value)):,}"


def moment(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S %Z}"
