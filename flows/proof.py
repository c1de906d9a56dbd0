"""What a verification found: the verdict, and everything that led to it."""

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from blocks.archive_restore import RestoreOutcome
from flows.core.facts import Facts
from flows.core.findings import Check, Finding, Rule
from flows.core.verification import FULL, Tier, Verdict

if TYPE_CHECKING:
    from flows.core.comparison import Comparison
    from flows.core.ignoring import Ignored


@dataclass(frozen=True)
class Answer:
    """What the restored database answered to one of the plan's questions: a value, never a row."""

    name: str
    expect: str
    shown: str
    is_met: bool


@dataclass
class Proof:
    """A verdict with its grounds; `facts` and `comparison` are None if it never came to a comparison.

    Args:
        reason: For a person; it may name what is inside the database, as no plain object on a store may.
        error: The kind of error that ended it, if one did; it names nothing.
        findings: Those that count, errors and warnings.
        accepted: Those that the plan ignores, with its reasons.
        checks: Of every rule, whether it was looked at.
        restore_seconds: From fetching to the last index.
        seconds: All that the verification took.
    """

    verdict: Verdict
    reason: str = ""
    hint: str = ""
    error: str = ""
    tier: Tier = FULL
    facts: Facts | None = None
    comparison: "Comparison | None" = None
    outcome: RestoreOutcome = field(default_factory=RestoreOutcome)
    findings: list[Finding] = field(default_factory=list)
    accepted: "list[tuple[Finding, Ignored]]" = field(default_factory=list)
    checks: dict[Rule, Check] = field(default_factory=dict)
    answers: list[Answer] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    restored_into: str = ""
    restore_seconds: float = 0.0
    seconds: float = 0.0

    @property
    def counts(self) -> dict[str, int]:
        """How often each rule was broken."""
        return dict(Counter(finding.rule for finding in self.findings))
