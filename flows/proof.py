"""What a verification found: the verdict, and everything that led to it."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from blocks.archive_restore import RestoreOutcome
from flows.core.facts import Facts
from flows.core.verification import Verdict

if TYPE_CHECKING:
    from flows.core.comparison import Comparison


@dataclass
class Proof:
    """A verdict with its grounds; `facts` and `comparison` are None if it never came to a comparison.

    Args:
        reason: For a person; it may name what is inside the database, as no plain object on a store may.
        error: The kind of error that ended it, if one did; it names nothing.
    """

    verdict: Verdict
    reason: str = ""
    hint: str = ""
    error: str = ""
    facts: Facts | None = None
    comparison: "Comparison | None" = None
    outcome: RestoreOutcome = field(default_factory=RestoreOutcome)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def findings(self) -> dict[str, int]:
        """How often each rule was broken."""
        counts: dict[str, int] = {"RESTORE_ERROR": self.outcome.count} if self.outcome.count else {}
        for finding in self.comparison.findings if self.comparison else ():
            counts[finding.rule] = counts.get(finding.rule, 0) + 1
        return counts
