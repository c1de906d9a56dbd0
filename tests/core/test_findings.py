"""The table of rules is whole, and what findings come to is one of three verdicts."""

import re
from pathlib import Path
from typing import get_args

import pytest

from flows.core.findings import RULES, Check, Finding, Rule, checks_of_all_rules, rules_table, verdict_of
from flows.core.verification import Verdict


def test_every_rule_is_explained_in_sentences() -> None:
    assert tuple(RULES) == get_args(Rule)
    for text in RULES.values():
        for sentence in (text.meaning, text.remedy):
            assert re.fullmatch(r"[A-Za-z][^|\n]*\.", sentence)
            assert ". " not in sentence


def test_a_finding_knows_what_to_do() -> None:
    for rule, text in RULES.items():
        assert Finding(rule, "error", "x", "y").remedy == text.remedy


def test_the_table_has_a_line_a_rule() -> None:
    header, line, *rules = rules_table().splitlines()
    assert (header.count("|"), line) == (5, "| --- | --- | --- | --- |")
    assert [found[1] for rule in rules if (found := re.match(r"\| `(\w+)` \|", rule))] == list(RULES)
    assert {rule.count("|") for rule in rules} == {5}


def finding(rule: Rule, severity: str = "error") -> Finding:
    return Finding(rule, "error" if severity == "error" else "warning", "x", "y")


@pytest.mark.parametrize(
    ("findings", "verdict"),
    [
        ([], Verdict.VERIFIED),
        ([finding("OBJECT_UNEXPECTED", "warning")], Verdict.VERIFIED),
        ([finding("ROWS_DIFFER"), finding("RTO_EXCEEDED", "warning")], Verdict.FAILED),
        ([finding("EXTENSION_ABSENT"), finding("RESTORE_ERROR")], Verdict.UNVERIFIABLE),
        ([finding("COLLATION_UNVERIFIABLE")], Verdict.UNVERIFIABLE),
        ([finding("EXTENSION_ABSENT", "warning"), finding("RESTORE_ERROR")], Verdict.FAILED),
        ([finding("ROLE_ABSENT")], Verdict.FAILED),
    ],
)
def test_findings_come_to_a_verdict(findings: list[Finding], verdict: Verdict) -> None:
    assert verdict_of(findings) is verdict


@pytest.mark.parametrize(
    ("check", "words"),
    [
        (Check(1234), "checked 1,234"),
        (Check(0, "no large objects"), "nothing to check: no large objects"),
        (Check(None, "only definitions were restored"), "not checked: only definitions were restored"),
    ],
)
def test_a_check_that_was_not_made_never_reads_as_passed(check: Check, words: str) -> None:
    assert str(check) == words


def test_a_rule_that_nobody_looked_at_says_so() -> None:
    checks = checks_of_all_rules({"ROWS_DIFFER": Check(3)}, {"INDEX_CORRUPT": Check(0, "no indexes")})
    assert tuple(checks) == get_args(Rule)
    assert str(checks["ROWS_DIFFER"]) == "checked 3"
    assert str(checks["INDEX_CORRUPT"]) == "nothing to check: no indexes"
    assert str(checks["RTO_EXCEEDED"]) == "not checked: not asked for"


def test_readme_shows_the_rules_as_they_are() -> None:
    """After a change write `rules_table()` into README's page on what a green verdict means."""
    readme = Path(__file__).parents[2] / "README.md"
    assert rules_table() in readme.read_text()
