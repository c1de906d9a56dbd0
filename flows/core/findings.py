"""The rules that a restore is held against, and what a broken one is reported as.

Each rule's meaning and remedy are told here once: findings, reports and README's table use these words.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from flows.core.verification import Verdict

Severity = Literal["error", "warning"]
Rule = Literal[
    "ROWS_DIFFER",
    "CONTENT_DIFFERS",
    "OBJECT_MISSING",
    "OBJECT_UNEXPECTED",
    "DEFINITION_DIFFERS",
    "OWNER_DIFFERS",
    "GRANT_DIFFERS",
    "SEQUENCE_BEHIND",
    "SETTING_DIFFERS",
    "MATVIEW_UNPOPULATED",
    "LARGE_OBJECTS_DIFFER",
    "RESTORE_ERROR",
    "EXTENSION_ABSENT",
    "COLLATION_UNVERIFIABLE",
    "ROLE_ABSENT",
    "EMPTY_RESTORE",
    "CONSTRAINT_VIOLATED",
    "INDEX_CORRUPT",
    "RTO_EXCEEDED",
    "ASSERTION_FAILED",
]

_PLAIN_NAME = re.compile(r"[a-z_][a-z0-9_]*")


@dataclass(frozen=True)
class RuleText:
    """What a rule says, in a sentence each; `severity` is the usual one."""

    meaning: str
    remedy: str
    severity: Severity = "error"


RULES: dict[Rule, RuleText] = {
    "ROWS_DIFFER": RuleText(
        "A table came back with more or fewer rows than the snapshot held.",
        "Verify an older backup and keep it, then look in the report for errors of the same table.",
    ),
    "CONTENT_DIFFERS": RuleText(
        "A table came back with as many rows, but they do not hold the same values.",
        "Compare the table with the source, and look for triggers, rules or types whose text form changed.",
    ),
    "OBJECT_MISSING": RuleText(
        "Something that the database held was not restored.",
        "Look in the report for the error it failed with; if that is accepted, ignore it in the plan.",
    ),
    "OBJECT_UNEXPECTED": RuleText(
        "The restored database holds something that the snapshot did not.",
        "Look for what restoring itself creates, such as an extension or an event trigger of the target.",
        "warning",
    ),
    "DEFINITION_DIFFERS": RuleText(
        "An object came back defined otherwise than it was.",
        "Compare both definitions; restored into another major of PostgreSQL, some differ for good reasons.",
    ),
    "OWNER_DIFFERS": RuleText(
        "An object came back as somebody else's.",
        "Create the missing role on the target before the restore, or change the owner afterwards.",
    ),
    "GRANT_DIFFERS": RuleText(
        "A role may do more or less with an object than it might.",
        "Create the missing roles before the restore, then grant or revoke what the report tells.",
    ),
    "SEQUENCE_BEHIND": RuleText(
        "A sequence stands before where it stood, and would hand out values again.",
        "Set it with setval() beyond the largest value of its column before anybody writes.",
    ),
    "SETTING_DIFFERS": RuleText(
        "A setting of the database, or of a role in it, is not what it was.",
        "Set it with ALTER DATABASE or ALTER ROLE IN DATABASE.",
    ),
    "MATVIEW_UNPOPULATED": RuleText(
        "A materialized view that had rows came back without having been filled.",
        "Run REFRESH MATERIALIZED VIEW, and mend what it fails with.",
    ),
    "LARGE_OBJECTS_DIFFER": RuleText(
        "The large objects are not as many, as large or the same as they were.",
        "See whether the plan leaves them out by naming schemas, and look for errors of large objects.",
    ),
    "RESTORE_ERROR": RuleText(
        "pg_restore or psql reported an error.",
        "Read the whole message in the encrypted report; it names the statement that failed.",
    ),
    "EXTENSION_ABSENT": RuleText(
        "An extension that the database uses is not installed where it was restored.",
        "Install the extension's package there, for the same major of PostgreSQL, and verify again.",
    ),
    "COLLATION_UNVERIFIABLE": RuleText(
        "A collation that the database uses does not exist where it was restored.",
        "Generate the locale there, or use a server that is built with ICU, and verify again.",
    ),
    "ROLE_ABSENT": RuleText(
        "A role that owns something or may do something is not in the backup, or not on the target.",
        "Create the role; restore --globals creates those that the backup's globals.sql holds.",
    ),
    "EMPTY_RESTORE": RuleText(
        "The database had tables, and none was restored.",
        "Do not rely on this backup; look for the first error of the restore, and verify an older one.",
    ),
    "CONSTRAINT_VIOLATED": RuleText(
        "Rows break a foreign key or a check that counts as valid.",
        "Look for such rows in the source: they came past the constraint, by disabled triggers for example.",
    ),
    "INDEX_CORRUPT": RuleText(
        "A freshly built index does not fit its table.",
        "Run amcheck on the source, and look for functions in the index that are not immutable.",
    ),
    "RTO_EXCEEDED": RuleText(
        "Restoring took longer than the plan allows.",
        "Give the restore more jobs or a faster disk, or agree on another time.",
        "warning",
    ),
    "ASSERTION_FAILED": RuleText(
        "One of the plan's own questions to the restored database had another answer than expected.",
        "Ask the source the same; if it answers alike, the expectation is wrong.",
    ),
}

# What the host lacks proves nothing about the backup.
HOST_LACKS: frozenset[Rule] = frozenset({"EXTENSION_ABSENT", "COLLATION_UNVERIFIABLE"})


@dataclass(frozen=True)
class Finding:
    """One difference.

    Args:
        object: Written as SQL would: `public.orders`, `"odd.name"."a ""b"`.
        message: For a person; counts, kinds and names only, never a row's value or a setting's.
        kind: The object's, such as `table`; empty where the rule is about no object.
    """

    rule: Rule
    severity: Severity
    object: str
    message: str
    kind: str = ""

    @property
    def remedy(self) -> str:
        return RULES[self.rule].remedy


@dataclass(frozen=True)
class Check:
    """Whether a rule was looked at: nothing that could not run counts as passed.

    Args:
        count: How many objects were held against the rule; None if it was not looked at.
        why: Why none was.
    """

    count: int | None
    why: str = ""

    def __str__(self) -> str:
        if self.count is None:
            return f"not checked: {self.why}"
        return f"checked {self.count:,}" if self.count else f"nothing to check: {self.why}"


def checks_of_all_rules(*parts: Mapping[Rule, Check]) -> dict[Rule, Check]:
    """Return a check for every rule, the last part's that tells of it, else that nobody asked for it."""
    merged: dict[Rule, Check] = {rule: Check(None, "not asked for") for rule in get_args(Rule)}
    for part in parts:
        merged |= part
    return merged


def verdict_of(findings: Iterable[Finding]) -> Verdict:
    """Return what findings come to: an error fails, unless the host lacked what the restore needed.

    What follows from an absent extension cannot be told from a damage: it is unverifiable as a whole.
    """
    errors = {finding.rule for finding in findings if finding.severity == "error"}
    if not errors:
        return Verdict.VERIFIED
    return Verdict.UNVERIFIABLE if errors & HOST_LACKS else Verdict.FAILED


def rules_table() -> str:
    """Return the table of all rules in Markdown, as README shows it."""
    lines = ["| rule | what it means | what to do | usually |", "| --- | --- | --- | --- |"]
    lines += [f"| `{rule}` | {t.meaning} | {t.remedy} | {_usual(rule)} |" for rule, t in RULES.items()]
    return "\n".join(lines) + "\n"


def _usual(rule: Rule) -> str:
    return "unverifiable" if rule in HOST_LACKS else RULES[rule].severity


def quoted(*names: str) -> str:
    """Return a name as SQL would write it, on one line: plain, quoted, or as U&"…" with escapes."""
    return ".".join(_quoted(name) for name in names)


def _quoted(name: str) -> str:
    if _PLAIN_NAME.fullmatch(name):
        return name
    doubled = name.replace('"', '""')
    if name.isprintable():
        return f'"{doubled}"'
    escaped = (c if c.isprintable() and c != "\\" else f"\\+{ord(c):06X}" for c in doubled)
    return f'U&"{"".join(escaped)}"'
