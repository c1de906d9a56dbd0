"""Findings that the plan knows of and accepts, each with the reason why."""

import difflib
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator

from flows.core.findings import Finding, Rule


class Ignored(BaseModel):
    """Findings of one rule about some objects, which then do not count; the report still shows them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rule: Rule = Field(description="The rule, such as OWNER_DIFFERS.")
    object: str = Field(
        min_length=1, description="The finding's object, such as public.orders; * and ? are wildcards."
    )
    reason: str = Field(description="Why it is accepted, for whoever reads the report.")

    @field_validator("rule", mode="before")
    @classmethod
    def _known_rule(cls, value: Any) -> Any:
        known = get_args(Rule)
        if value == "EMPTY_RESTORE":
            raise ValueError("EMPTY_RESTORE cannot be ignored; a restore without any table proves nothing")
        if value in known or not isinstance(value, str):
            return value
        close = difflib.get_close_matches(value.upper(), known, 1)
        raise ValueError(
            f"no rule is called {value!r}; "
            + (f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}")
        )

    @field_validator("reason")
    @classmethod
    def _has_a_reason(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("the reason is empty; say why the finding is accepted")
        return value

    def covers(self, finding: Finding) -> bool:
        """Tell whether a finding is meant; one about no object tells nothing that could be accepted."""
        return self.rule == finding.rule and bool(finding.object) and matches(finding.object, self.object)


class Judged(NamedTuple):
    """Findings, parted into those that count and those that are ignored.

    Args:
        unused: What ignored nothing.
    """

    counting: list[Finding]
    set_aside: list[tuple[Finding, Ignored]]
    unused: list[Ignored]

    @property
    def warnings(self) -> list[str]:
        """What to tell of ignores that match nothing: they would hide what has yet to come."""
        return [
            f"nothing is ignored by {ignored.rule} of {ignored.object} ({ignored.reason}):"
            " take it out of the plan, for it would hide what comes later"
            for ignored in self.unused
        ]


def matches(name: str, pattern: str) -> bool:
    """Tell whether a name is of a pattern's form, in which only * and ? are wildcards."""
    return fnmatchcase(name, pattern.replace("[", "[[]"))


def judged(findings: Sequence[Finding], ignored: Sequence[Ignored]) -> Judged:
    """Part findings by what the plan ignores; of several ignores that match, the first gives the reason."""
    counting: list[Finding] = []
    set_aside: list[tuple[Finding, Ignored]] = []
    used: set[int] = set()
    for finding in findings:
        matching = [number for number, one in enumerate(ignored) if one.covers(finding)]
        used.update(matching)
        if matching and finding.rule != "EMPTY_RESTORE":
            set_aside.append((finding, ignored[matching[0]]))
        else:
            counting.append(finding)
    return Judged(counting, set_aside, [one for number, one in enumerate(ignored) if number not in used])
