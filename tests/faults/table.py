"""Which proof finds which fault: the words that the tables of faults are written in.

A level is what a plan's verification can be set to. Each restores something else, so that each has its own
expectations; what a level is blind to is told as plainly as what it finds.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

Level = Literal["schema", "sample", "rows", "content"]
LEVELS: tuple[Level, ...] = get_args(Level)

EVERY = LEVELS
WITH_ROWS: tuple[Level, ...] = ("sample", "rows", "content")
FULL: tuple[Level, ...] = ("rows", "content")
NOT_A_SAMPLE: tuple[Level, ...] = ("schema", "rows", "content")
READ: tuple[Level, ...] = ("sample", "content")
CONTENT: tuple[Level, ...] = ("content",)

WARNING = "warning: "


@dataclass(frozen=True)
class Fault:
    """Something that is wrong with a restored database.

    Args:
        name: In a few words, for a person.
        plant: The SQL that makes it, as a superuser.
        found: By finding, as `RULE kind object`, the levels that have it.
        why: Why no level can see it, if none can.
    """

    name: str
    plant: str
    found: Mapping[str, Iterable[Level]] = field(default_factory=dict)
    why: str = ""

    def found_at(self, level: Level) -> set[str]:
        return {finding for finding, levels in self.found.items() if level in levels}


def changed(name: str, plant: str, *findings: str) -> Fault:
    """Return a fault of a definition, which every level looks at."""
    return Fault(name, plant, dict.fromkeys(findings, EVERY))


def seen(findings: Iterable[str]) -> str:
    """Return what a level's findings come to, for a table's cell."""
    errors = [finding for finding in findings if not finding.startswith(WARNING)]
    return "found" if errors else "warns" if findings else "–"


def lines(faults: Iterable[Fault]) -> list[str]:
    """Return a Markdown table of faults, level by level."""
    head = ["fault", *LEVELS, "as, or why not"]
    rows = [
        [fault.name, *(seen(fault.found_at(level)) for level in LEVELS), _rules(fault) or fault.why]
        for fault in faults
    ]
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]


def _rules(fault: Fault) -> str:
    rules = (finding.removeprefix(WARNING).split()[0] for finding in fault.found)
    return ", ".join(f"`{rule}`" for rule in dict.fromkeys(rules))
