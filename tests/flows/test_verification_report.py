"""What an auditor reads: every part is there, no odd name breaks it, and it stays short enough to be read."""

import socket
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

import pytest

from blocks.archive_restore import RestoreOutcome
from blocks.stores import LocalStore
from flows.catalogue import Copy, read_store
from flows.core.comparison import RestoredState, compare
from flows.core.facts import CatalogObject, DatabaseProperties, Facts, TableRows
from flows.core.findings import RULES, Check, Finding, Rule, checks_of_all_rules
from flows.core.ignoring import Ignored
from flows.core.naming import BackupId
from flows.core.verification import Tier, Verdict
from flows.markdown import escaped, table
from flows.proof import Answer, Proof
from flows.verification_report import SHOWN, findings, report, summary
from tests.servers.backups import PLAN, store_backup

STARTED_AT = datetime(2026, 1, 28, 2, tzinfo=UTC)
PROVED_AT = datetime(2026, 1, 28, 3, 4, 5, tzinfo=UTC)
VERIFIER = f"pgsalvo {version('pgsalvo')} on {escaped(socket.gethostname())}"
SECRET = "4111-1111-1111-1111"
VIEW = CatalogObject(kind="view", name=("public", "open_orders"), owner="ann")


def facts(*tables: TableRows, **more: Any) -> Facts:
    return Facts(
        backup_id=BackupId("20260128T020000Z-4f9c2a"),
        plan="shop",
        snapshot_at=STARTED_AT,
        server_version="15.18",
        server_major=15,
        system_identifier="7301",
        dbname="shop",
        properties=DatabaseProperties(encoding="UTF8", collate="C", ctype="C"),
        tables=tables,
        sequences=(),
        settings=(),
        extensions=(),
        roles=(),
        **more,
    )


def rows(table: str, number: int, schema: str = "public") -> TableRows:
    return TableRows(schema_name=schema, table=table, rows=number)


def proof(verdict: Verdict = Verdict.FAILED, **given: Any) -> Proof:
    """Return a proof of two tables and a view, of which a table has lost a row."""
    told = facts(rows("orders", 1_000), rows("customers", 20), objects=(VIEW,))
    state = RestoredState((rows("orders", 999), rows("customers", 20)), objects=(VIEW,))
    comparison = compare(told, state)
    known: dict[str, Any] = {
        "facts": told,
        "comparison": comparison,
        "findings": comparison.findings,
        "checks": checks_of_all_rules(comparison.checks, {"INDEX_CORRUPT": Check(7)}),
    }
    return Proof(verdict, **(known | given))


def ignored(reason: str) -> Ignored:
    return Ignored(rule="ROWS_DIFFER", object="*", reason=reason)


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    store = LocalStore(name="local", path=str(tmp_path))
    store_backup(store, STARTED_AT, label="before 2.0")
    (found,) = read_store(store, PLAN)
    return found


@pytest.fixture
def whole(copy: Copy) -> list[str]:
    """The lines of a report in which there is something of everything."""
    accepted = Finding("OWNER_DIFFERS", "error", "public.old", "ann's, not bob's", "table")
    return report(
        copy,
        proof(
            reason="1 difference: ROWS_DIFFER 1",
            hint="look at the report",
            accepted=[(accepted, ignored("bob left in May"))],
            answers=[Answer("paid orders", "> 0", "41", True), Answer("no orphans", "= 0", "2", False)],
            notes=["an index was left out"],
            restored_into="PostgreSQL 15 without a network (embedded)",
            restore_seconds=61.25,
            seconds=70,
            outcome=RestoreOutcome([f"ERROR:  invalid input: {SECRET}"], 1),
        ),
        PROVED_AT,
    )


@pytest.mark.parametrize(
    ("verdict", "line"),
    [
        (Verdict.VERIFIED, "# ✅ verified: {copy} on local"),
        (Verdict.FAILED, "# ❌ failed: {copy} on local"),
        (Verdict.UNVERIFIABLE, "# ⚠️ unverifiable: {copy} on local"),
    ],
)
def test_the_verdict_comes_first(copy: Copy, verdict: Verdict, line: str) -> None:
    assert report(copy, proof(verdict), PROVED_AT)[0] == line.format(copy=copy.backup_id)


@pytest.mark.parametrize(
    "line",
    [
        pytest.param("**1 difference: ROWS\\_DIFFER 1**", id="the reason"),
        pytest.param("What to do: look at the report", id="the hint"),
        pytest.param(f"| verified at | 2026-01-28 03:04:05 UTC, by {VERIFIER} |", id="when"),
        pytest.param("| backup | of the plan shop, before 2.0, made by pgsalvo 0.1.0 |", id="what"),
        pytest.param("| database | PostgreSQL 15.18, as it was at 2026-01-28 02:00:00 UTC |", id="of when"),
        pytest.param("| tier | **full**: everything was restored |", id="how much"),
        pytest.param("| proof | rows were counted in the dump's own snapshot |", id="by what"),
        pytest.param("| restored into | PostgreSQL 15 without a network (embedded) |", id="where"),
        pytest.param("| restored in | 61.2 s, fetching included; the whole took 70.0 s |", id="how long"),
        pytest.param("| equal | **20 rows of 1 tables** |", id="how many rows"),
        pytest.param("| objects | 1 of 1 are equal in definition, owner and rights |", id="how many objects"),
        pytest.param(
            "| `ROWS_DIFFER` | error | public.orders | 1,000 rows were expected, 999 were restored"
            f" | {RULES['ROWS_DIFFER'].remedy} |",
            id="a finding with its remedy",
        ),
        pytest.param(
            "| `OWNER_DIFFERS` | public.old | ann's, not bob's | bob left in May |", id="what is accepted"
        ),
        pytest.param("| paid orders | \\> 0 | 41 | ✅ |", id="an answer that is met"),
        pytest.param("| no orphans | = 0 | 2 | ❌ |", id="an answer that is not"),
        pytest.param("- an index was left out", id="a note"),
        pytest.param("| `ROWS_DIFFER` | checked 2 | 1 |", id="a broken rule"),
        pytest.param("| `INDEX_CORRUPT` | checked 7 | 0 |", id="a rule that holds"),
        pytest.param("| `RTO_EXCEEDED` | not checked: not asked for | 0 |", id="a rule not looked at"),
        pytest.param("| view | 1 | 1 | 1 | 0 | 0 | 0 |", id="a kind of object"),
        pytest.param("| public.orders | 1,000 | 999 | differs |", id="a table that differs"),
        pytest.param("| public.customers | 20 | 20 | equal |", id="a table that is equal"),
    ],
)
def test_the_report_tells(whole: list[str], line: str) -> None:
    assert whole.count(line) == 1


def test_every_rule_has_its_line(whole: list[str]) -> None:
    lines = whole[whole.index("## Rules") :]
    for rule in get_args(Rule):
        assert sum(line.startswith(f"| `{rule}` |") for line in lines) == 1


def test_the_manifest_that_was_proved_is_named(copy: Copy, whole: list[str]) -> None:
    assert f"| manifest | SHA-256 `{copy.manifest_sha256}` |" in whole


@pytest.mark.parametrize("tier", ["schema", "sample"])
def test_a_cheaper_proof_says_that_it_does_not_count(copy: Copy, tier: Tier) -> None:
    (line,) = [
        line
        for line in summary(copy, proof(tier=tier, restored_into="here"), PROVED_AT)
        if line.startswith("| tier |")
    ]
    assert f"**{tier}**" in line
    assert "does not count for retention" in line


def test_what_the_programs_said_is_not_in_it(whole: list[str]) -> None:
    assert SECRET not in "\n".join(whole)


def test_a_verification_that_came_to_no_comparison_still_has_its_report(copy: Copy) -> None:
    lines = report(copy, Proof(Verdict.UNVERIFIABLE, "no server of 15 here", "install it"), PROVED_AT)
    assert lines[2:5:2] == ["**no server of 15 here**", "What to do: install it"]
    assert not [line for line in lines if line.startswith("## ")]


def test_a_report_without_anything_to_tell_has_no_empty_part(copy: Copy) -> None:
    lines = report(copy, proof(Verdict.VERIFIED, findings=[]), PROVED_AT)
    assert [line for line in lines if line.startswith("## ")] == [
        "## Not checked",
        "## Rules",
        "## Objects",
        "## Tables",
    ]


def test_where_nothing_was_restored_no_tier_is_claimed(copy: Copy) -> None:
    (line,) = [
        line
        for line in summary(copy, Proof(Verdict.UNVERIFIABLE, "no key", ""), PROVED_AT)
        if line.startswith("| tier |")
    ]
    assert line == "| tier | **full** was asked for, but nothing was compared |"


def test_what_could_not_be_looked_at_is_told_with_its_reason(copy: Copy) -> None:
    checks = checks_of_all_rules({"INDEX_CORRUPT": Check(None, "the server has no amcheck")})
    lines = summary(copy, proof(checks=checks), PROVED_AT)
    assert "| `INDEX_CORRUPT` | the server has no amcheck |" in lines


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        pytest.param("a|b", "a\\|b", id="a cell's end"),
        pytest.param("a\nb\r\n| c", "a b \\| c", id="a line's end"),
        pytest.param("[x](http://evil.example)", "\\[x\\](http\\://evil.example)", id="a link"),
        pytest.param("https://evil.example", "https\\://evil.example", id="a bare address"),
        pytest.param("www.evil.example", "www\\.evil.example", id="an address without a scheme"),
        pytest.param("ann@evil.example", "ann\\@evil.example", id="an e-mail"),
        pytest.param("<img src=x>", "\\<img src=x\\>", id="html"),
        pytest.param("&lt;", "\\&lt;", id="an entity"),
        pytest.param("\\`*_~", "\\\\\\`\\*\\_\\~", id="other signs"),
        pytest.param("\x1b[31mred\u202e", "\\[31mred", id="what steers a terminal"),
    ],
)
def test_no_name_breaks_a_table_or_becomes_a_link(copy: Copy, name: str, shown: str) -> None:
    found = proof(
        reason=name,
        hint=name,
        findings=[Finding("RESTORE_ERROR", "error", name, name)],
        accepted=[(Finding("ROWS_DIFFER", "error", name, name), ignored(name))],
        answers=[Answer(name, name, name, True)],
        notes=[name],
        restored_into=name,
    )
    lines = report(copy, found, PROVED_AT)
    assert escaped(name) == shown
    assert sum(line.count(shown) for line in lines) == 12
    assert sum(line.replace(shown, "").count(name) for line in lines) == 0
    for line in lines:
        assert "\n" not in line
        assert "\x1b" not in line


def test_tables_with_odd_names_are_told_apart(copy: Copy) -> None:
    told = facts(rows("c", 1, "a.b"), rows("b.c", 2, "a"), rows("\x1b[2J", 3))
    lines = report(copy, proof(facts=told, comparison=compare(told, RestoredState(told.tables))), PROVED_AT)
    assert '| "a.b".c | 1 | 1 | equal |' in lines
    assert '| a."b.c" | 2 | 2 | equal |' in lines
    assert "\x1b" not in "".join(lines)


def test_long_lists_are_cut_and_say_by_how_much(copy: Copy) -> None:
    many = [Finding("ROWS_DIFFER", "error", f"public.t{n}", "differs") for n in range(SHOWN + 1_234)]
    told = facts(*(rows(f"t{n}", 0) for n in range(SHOWN + 3)))
    lines = report(
        copy,
        proof(
            findings=many,
            accepted=[(found, ignored("known")) for found in many],
            notes=["a note"] * (SHOWN + 1),
            facts=told,
            comparison=compare(told, RestoredState(told.tables)),
        ),
        PROVED_AT,
    )
    rest = "the encrypted report beside the backup holds them all."
    assert [line for line in lines if line.startswith("…")] == [
        f"… and 1,234 more findings; {rest}",
        f"… and 1,234 more findings; {rest}",
        f"… and 1 more notes; {rest}",
        f"… and 3 more tables; {rest}",
    ]
    assert lines.count("- a note") == SHOWN
    assert len(lines) < 5 * SHOWN


def test_a_list_that_fits_is_whole() -> None:
    lines = findings([Finding("ROWS_DIFFER", "error", "public.t", "differs")] * SHOWN)
    assert len(lines) == SHOWN + 3
    assert table(("a",), []) == findings([]) == []
