"""From evidence to a verdict: rules that no comparison tells, what is accepted, what was not looked at."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, get_args

import pytest

from blocks.amcheck import CorruptIndex, IndexesChecked
from blocks.archive_restore import RestoreOutcome
from blocks.assertions import AssertionOutcome
from blocks.soundness import ConstraintsChecked, ViolatedConstraint
from flows.core.assertions import Assertion
from flows.core.comparison import RestoredState, compare
from flows.core.facts import CatalogObject, DatabaseProperties, Extension, Facts, TableRows
from flows.core.findings import Rule
from flows.core.ignoring import Ignored
from flows.core.naming import BackupId
from flows.core.verification import Tier, Verdict
from flows.judging import proof_of
from flows.proof import Answer, Proof
from flows.proving import Evidence
from flows.scratch_needs import PreparedScratch
from flows.verify_settings import VerifySettings

TABLES = (TableRows(schema_name="public", table="orders", rows=10),)
LOST = (TableRows(schema_name="public", table="orders", rows=9),)
FACTS = Facts(
    backup_id=BackupId("20260128T020000Z-4f9c2a"),
    plan="shop",
    snapshot_at=datetime(2026, 1, 28, 2, tzinfo=UTC),
    server_version="15.18",
    server_major=15,
    system_identifier="7301",
    dbname="shop",
    properties=DatabaseProperties(encoding="UTF8", collate="C", ctype="C"),
    tables=TABLES,
    sequences=(),
    settings=(),
    extensions=(),
    roles=(),
)
RESTORED_SECONDS = 90.0
ORPHANS = ViolatedConstraint("public", "orders", "fk", "foreign key", 1_000)
QUESTION = Assertion(name="open orders", sql="SELECT count(*) FROM orders", expect="> 5")
NO_TABLE = 'pg_restore: error: could not execute query: ERROR:  relation "secret_table" does not exist'
NO_EXTENSION = 'pg_restore: error: could not execute query: ERROR:  extension "postgis" is not available'
OUT_OF_REACH = [
    'pg_restore: error: could not execute query: ERROR:  could not connect to server "far"',
    "Command was: REFRESH MATERIALIZED VIEW public.fetched;",
]


def view(name: str, **properties: str) -> CatalogObject:
    return CatalogObject(kind="materialized view", name=("public", name), properties=properties)


def evidence(tables: tuple[TableRows, ...] = TABLES, facts: Facts = FACTS, **seen: Any) -> Evidence:
    """Return what is seen of a restore where nothing is wrong but what is given."""
    given: dict[str, Any] = {
        "outcome": RestoreOutcome(),
        "prepared": PreparedScratch("scratch", "restorer"),
        "tier": "full",
    }
    given |= {"restore_seconds": RESTORED_SECONDS} | seen
    comparison = compare(facts, RestoredState(tables), tier=given["tier"])
    return Evidence(facts=facts, comparison=comparison, **given)


def judged(seen: Evidence, **settings: Any) -> Proof:
    return proof_of(seen, VerifySettings(**settings), fetch_seconds=30)


def failed_with(*lines: str) -> RestoreOutcome:
    return RestoreOutcome(list(lines), len(lines))


def ignored(rule: Rule, name: str = "*") -> Ignored:
    return Ignored(rule=rule, object=name, reason="known since May")


def test_a_restore_without_a_difference_is_verified() -> None:
    proof = judged(evidence())
    assert (proof.verdict, proof.reason, proof.hint) == (Verdict.VERIFIED, "", "")
    assert (proof.findings, proof.accepted, proof.notes) == ([], [], [])
    assert proof.restore_seconds == 120


@pytest.mark.parametrize(
    ("seen", "settings", "verdict", "told"),
    [
        pytest.param(
            evidence(LOST),
            {},
            Verdict.FAILED,
            ("ROWS_DIFFER", "error", "public.orders", "10 rows were expected, 9 were restored"),
            id="the comparison",
        ),
        pytest.param(
            evidence(constraints=ConstraintsChecked(3, [ORPHANS], [])),
            {},
            Verdict.FAILED,
            (
                "CONSTRAINT_VIOLATED",
                "error",
                "fk on public.orders",
                "rows that break this foreign key: 1,000 or more",
            ),
            id="a broken reference",
        ),
        pytest.param(
            evidence(indexes=IndexesChecked(2, [CorruptIndex("public", "Odd", "orders")], [])),
            {},
            Verdict.FAILED,
            ("INDEX_CORRUPT", "error", 'public."Odd"', "the index does not fit its table public.orders"),
            id="a corrupt index",
        ),
        pytest.param(
            evidence(outcome=failed_with(NO_TABLE)),
            {},
            Verdict.FAILED,
            ("RESTORE_ERROR", "error", "", 'relation "secret_table" does not exist'),
            id="pg_restore's stderr",
        ),
        pytest.param(
            evidence(outcome=RestoreOutcome([], 2)),
            {},
            Verdict.FAILED,
            ("RESTORE_ERROR", "error", "", "2 more errors of which no words were kept"),
            id="errors without words",
        ),
        pytest.param(
            evidence(answers=((QUESTION, AssertionOutcome(1, 1, 4)),)),
            {"assertions": [QUESTION]},
            Verdict.FAILED,
            ("ASSERTION_FAILED", "error", "open orders", "> 5 was expected, not 4"),
            id="an answer",
        ),
        pytest.param(
            evidence(answers=((QUESTION, AssertionOutcome(error="42P01 UndefinedTable")),)),
            {"assertions": [QUESTION]},
            Verdict.FAILED,
            ("ASSERTION_FAILED", "error", "open orders", "the SQL failed: 42P01 UndefinedTable"),
            id="no answer",
        ),
        pytest.param(
            evidence(lacking_roles=("Ann",)),
            {},
            Verdict.FAILED,
            (
                "ROLE_ABSENT",
                "error",
                '"Ann"',
                "it owns something or may do something, but the backup's globals.sql does not create it",
            ),
            id="a role that nobody creates",
        ),
        pytest.param(
            evidence(outcome=failed_with(NO_EXTENSION)),
            {},
            Verdict.UNVERIFIABLE,
            ("EXTENSION_ABSENT", "error", "postgis", "the extension is not there"),
            id="an absent extension",
        ),
        pytest.param(
            evidence(),
            {"rto_minutes": 1.5},
            Verdict.VERIFIED,
            ("RTO_EXCEEDED", "warning", "shop", "restoring took 2.0 minutes; the plan allows 1.5"),
            id="fetching counts to the time",
        ),
        pytest.param(
            evidence(prepared=PreparedScratch("s", "r", unverifiable_collations=["es_ES is not here"])),
            {},
            Verdict.VERIFIED,
            ("COLLATION_UNVERIFIABLE", "warning", "shop", "es_ES is not here"),
            id="another sorting",
        ),
    ],
)
def test_each_rule_is_told_once_and_weighs_what_it_should(
    seen: Evidence, settings: dict[str, Any], verdict: Verdict, told: tuple[str, str, str, str]
) -> None:
    proof = judged(seen, **settings)
    (found,) = proof.findings
    assert (found.rule, found.severity, found.object, found.message) == told
    assert proof.verdict is verdict
    assert proof.counts == {found.rule: 1}


def test_a_view_over_another_server_is_excused_and_no_other() -> None:
    full = (view("fetched", populated="yes"), view("totals", populated="yes"))
    facts = FACTS.model_copy(update={"objects": full})
    state = RestoredState(TABLES, objects=(view("fetched"), view("totals")))
    seen = evidence(facts=facts, outcome=RestoreOutcome(OUT_OF_REACH, 1))
    proof = judged(replace(seen, comparison=compare(facts, state)))
    weights = {finding.object: finding.severity for finding in proof.findings}
    assert weights == {"public.fetched": "warning", "public.totals": "error"}
    assert proof.counts == {"MATVIEW_UNPOPULATED": 2}


def test_a_time_that_is_kept_is_no_finding() -> None:
    assert judged(evidence(), rto_minutes=2).findings == []


def test_a_question_that_only_warns_fails_nothing() -> None:
    asked = QUESTION.model_copy(update={"severity": "warning"})
    proof = judged(evidence(answers=((asked, AssertionOutcome(1, 1, 4)),)), assertions=[asked])
    assert (proof.verdict, proof.counts) == (Verdict.VERIFIED, {"ASSERTION_FAILED": 1})


def test_answers_are_shown_whether_or_not_they_are_met() -> None:
    other = Assertion(name="any orders", sql="SELECT 1")
    answers = ((QUESTION, AssertionOutcome(1, 1, 4)), (other, AssertionOutcome(1, 1, 10)))
    proof = judged(evidence(answers=answers), assertions=[QUESTION, other])
    assert proof.answers == [
        Answer("open orders", "> 5", "4", is_met=False),
        Answer("any orders", "> 0", "10", is_met=True),
    ]


def test_what_the_plan_accepts_turns_the_verdict_and_stays_in_sight_with_its_reason() -> None:
    proof = judged(evidence(LOST), ignore=[ignored("ROWS_DIFFER", "public.*")])
    assert (proof.verdict, proof.reason, proof.counts) == (Verdict.VERIFIED, "", {})
    ((finding, accepted),) = proof.accepted
    assert (finding.rule, finding.object, accepted.reason) == (
        "ROWS_DIFFER",
        "public.orders",
        "known since May",
    )


def test_what_is_not_accepted_still_fails() -> None:
    seen = evidence(LOST, constraints=ConstraintsChecked(3, [ORPHANS], []))
    proof = judged(seen, ignore=[ignored("CONSTRAINT_VIOLATED")])
    assert (proof.verdict, proof.counts) == (Verdict.FAILED, {"ROWS_DIFFER": 1})
    assert len(proof.accepted) == 1


def test_an_ignore_that_ignores_nothing_is_told() -> None:
    proof = judged(evidence(), ignore=[ignored("OWNER_DIFFERS", "public.gone")])
    (note,) = proof.notes
    assert "OWNER_DIFFERS of public.gone (known since May)" in note


@pytest.mark.parametrize("settings", [{}, {"ignore": [ignored("ROWS_DIFFER")]}])
def test_a_cancelled_statement_is_unverifiable_whatever_else_was_found(settings: dict[str, Any]) -> None:
    proof = judged(evidence(LOST, overdue_seconds=(61.4, 70.0)), **settings)
    assert proof.verdict is Verdict.UNVERIFIABLE
    assert proof.reason == "a statement was cancelled after 61 s, the plan's limit"
    assert "statement_limit_seconds" in proof.hint


def test_a_question_that_was_not_answered_in_time_says_nothing() -> None:
    late = ((QUESTION, AssertionOutcome(error="57014 QueryCanceled")),)
    proof = judged(evidence(answers=late), assertions=[QUESTION])
    assert (proof.verdict, proof.findings) == (Verdict.UNVERIFIABLE, [])
    assert str(proof.checks["ASSERTION_FAILED"]) == "not checked: none was answered in time"
    assert judged(evidence(LOST, answers=late), assertions=[QUESTION]).verdict is Verdict.FAILED


def test_after_a_fall_back_to_another_locale_no_difference_proves_anything() -> None:
    prepared = PreparedScratch("s", "r", unverifiable_collations=["es_ES is not here"])
    proof = judged(evidence(LOST, prepared=prepared))
    assert proof.verdict is Verdict.UNVERIFIABLE
    assert "locale" in proof.hint


def test_a_reason_counts_the_rules_and_names_nothing_of_the_database() -> None:
    seen = evidence(
        LOST,
        outcome=failed_with(NO_TABLE, NO_TABLE),
        constraints=ConstraintsChecked(3, [ORPHANS], []),
    )
    proof = judged(seen)
    assert proof.reason == "4 differences: RESTORE_ERROR 2, ROWS_DIFFER 1, CONSTRAINT_VIOLATED 1"
    assert "encrypted" in proof.hint


def test_one_difference_is_one() -> None:
    assert judged(evidence(LOST)).reason == "1 difference: ROWS_DIFFER 1"


def test_an_absent_extension_says_what_to_install_and_names_nothing_either() -> None:
    proof = judged(evidence(LOST, outcome=failed_with(NO_EXTENSION)))
    assert proof.reason == "2 differences: ROWS_DIFFER 1, EXTENSION_ABSENT 1"
    assert proof.hint.startswith("Install the extension's package there")


def test_every_rule_is_told_of() -> None:
    assert set(judged(evidence()).checks) == set(get_args(Rule))


@pytest.mark.parametrize(
    ("seen", "rule", "check"),
    [
        pytest.param(
            evidence(constraints=ConstraintsChecked(3, [], [])),
            "CONSTRAINT_VIOLATED",
            "checked 3",
            id="looked",
        ),
        pytest.param(
            evidence(constraints=ConstraintsChecked(0, [], [])),
            "CONSTRAINT_VIOLATED",
            "nothing to check: no foreign keys and no checks",
            id="none there",
        ),
        pytest.param(
            evidence(constraints=ConstraintsChecked(0, [], ["constraint fk was not checked: too slow"])),
            "CONSTRAINT_VIOLATED",
            "not checked: none could be, as the notes tell",
            id="all refused",
        ),
        pytest.param(
            evidence(indexes=IndexesChecked(0, [], ["no index was checked: the server has no amcheck"])),
            "INDEX_CORRUPT",
            "not checked: none could be, as the notes tell",
            id="no amcheck",
        ),
        pytest.param(evidence(), "RTO_EXCEEDED", "not checked: the plan names no limit", id="no limit"),
        pytest.param(
            evidence(), "ASSERTION_FAILED", "nothing to check: the plan asks nothing", id="no question"
        ),
        pytest.param(evidence(), "EXTENSION_ABSENT", "nothing to check: no extensions", id="no extension"),
        pytest.param(
            evidence(facts=FACTS.model_copy(update={"extensions": (Extension(name="a", version="1"),)})),
            "EXTENSION_ABSENT",
            "checked 1",
            id="an extension",
        ),
        pytest.param(
            evidence(),
            "CONTENT_DIFFERS",
            "not checked: rows were counted, but their content was not read",
            id="rows only",
        ),
    ],
)
def test_nothing_that_could_not_run_counts_as_passed(seen: Evidence, rule: Rule, check: str) -> None:
    assert str(judged(seen).checks[rule]) == check


@pytest.mark.parametrize("tier", ["schema", "sample"])
def test_a_cheaper_proof_checks_no_constraint_and_asks_nothing_and_says_so(tier: Tier) -> None:
    checks = judged(evidence(tier=tier), assertions=[QUESTION]).checks
    for rule in ("CONSTRAINT_VIOLATED", "ASSERTION_FAILED"):
        assert str(checks[rule]) == "not checked: not all rows were restored"


def test_what_was_left_out_of_a_check_is_noted() -> None:
    seen = evidence(
        prepared=PreparedScratch("s", "r", ["another version of the locale"]),
        constraints=ConstraintsChecked(1, [], ["one constraint was not"]),
        indexes=IndexesChecked(1, [], ["one index was not"]),
    )
    assert judged(seen).notes == [
        "another version of the locale",
        "one constraint was not",
        "one index was not",
    ]


def test_a_proof_carries_what_it_rests_on() -> None:
    seen = replace(evidence(tier="schema"), restored_into="PostgreSQL 15")
    proof = judged(seen)
    assert (proof.tier, proof.restored_into) == ("schema", "PostgreSQL 15")
    assert (proof.facts, proof.comparison, proof.outcome) == (FACTS, seen.comparison, seen.outcome)
