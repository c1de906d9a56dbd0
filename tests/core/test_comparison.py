"""The comparison: equal is only what was counted on both sides, and a finding shows no content."""

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import flows.core.comparison
from flows.core.comparison import Comparison, Finding, RestoredState, compare, compare_rows, quoted
from flows.core.facts import DatabaseProperties, DatabaseSetting, Facts, SequenceValue, TableRows
from flows.core.naming import BackupId
from flows.core.verification import Verdict

fast = settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
COLUMNS = ["schema_name", "table", "expected", "restored", "difference", "status"]
Counts = dict[tuple[str, str], int]


def tables(counts: Counts) -> tuple[TableRows, ...]:
    return tuple(
        TableRows(schema_name=schema, table=table, rows=rows) for (schema, table), rows in counts.items()
    )


def sequence(last_value: int | None, name: str = "orders_id_seq", **more: Any) -> SequenceValue:
    return SequenceValue(schema_name="public", sequence=name, last_value=last_value, **more)


def setting(name: str, value: str, role: str | None = None) -> DatabaseSetting:
    return DatabaseSetting(role=role, name=name, value=value)


def facts(counts: Counts | None = None, **more: Any) -> Facts:
    return Facts(
        backup_id=BackupId("20260128T020000Z-4f9c2a"),
        plan="shop",
        snapshot_at=datetime(2026, 1, 28, 2, tzinfo=UTC),
        server_version="15.18",
        server_major=15,
        system_identifier="7301",
        dbname="shop",
        properties=DatabaseProperties(encoding="UTF8", collate="C.UTF-8", ctype="C.UTF-8"),
        tables=tables(counts or {}),
        sequences=more.get("sequences", ()),
        settings=more.get("settings", ()),
        extensions=(),
        roles=(),
    )


def compared(expected: Counts, restored: Counts) -> Comparison:
    return compare(facts(expected), RestoredState(tables(restored)))


def lines(frame: pd.DataFrame) -> list[list[Any]]:
    return [[None if value is pd.NA else value for value in line] for line in frame.to_numpy(object).tolist()]


def test_each_table_is_one_line_with_both_counts_and_what_that_means() -> None:
    frame = compare_rows(
        tables(
            {("public", "orders"): 1000, ("public", "gone"): 7, ("audit", "log"): 0, ("public", "items"): 5}
        ),
        tables(
            {("public", "items"): 8, ("public", "new"): 2, ("audit", "log"): 0, ("public", "orders"): 998}
        ),
    )
    assert list(frame.columns) == COLUMNS
    assert lines(frame) == [
        ["audit", "log", 0, 0, 0, "equal"],
        ["public", "gone", 7, None, None, "missing"],
        ["public", "items", 5, 8, 3, "differs"],
        ["public", "new", None, 2, None, "unexpected"],
        ["public", "orders", 1000, 998, -2, "differs"],
    ]


@pytest.mark.parametrize(
    ("expected", "restored"),
    [({}, {}), ({("a", "b"): 1}, {}), ({}, {("a", "b"): 1}), ({("a", "b"): 2**62}, {("a", "b"): 0})],
)
def test_the_columns_types_are_the_same_whatever_is_in_them(expected: Counts, restored: Counts) -> None:
    frame = compare_rows(tables(expected), tables(restored))
    assert [str(kind) for kind in frame.dtypes] == ["str", "str", "Int64", "Int64", "Int64", "str"]
    assert len(frame) == len(expected | restored)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param(("a.b", "c"), ("a", "b.c"), id="dots"),
        pytest.param(('a"."b', "c"), ("a", 'b"."c'), id="quotes"),
        pytest.param(("a", "b\n"), ("a", "b"), id="newline"),
        pytest.param(("a", " b"), ("a ", "b"), id="spaces"),
        pytest.param(("A", "b"), ("a", "b"), id="case"),
        pytest.param(("a", "é"), ("a", "e\u0301"), id="two-ways-to-write-an-accent"),
        pytest.param(("a", "nan"), ("a", "None"), id="words-for-nothing"),
        pytest.param(("a", ""), ("", "a"), id="empty"),
        pytest.param(("a", "1"), ("a", "1.0"), id="numbers"),
    ],
)
def test_names_that_look_alike_are_two_tables(one: tuple[str, str], other: tuple[str, str]) -> None:
    result = compared({one: 1, other: 2}, {one: 1, other: 2})
    assert (result.equal_tables, result.equal_rows, result.findings) == (2, 3, [])
    rules = {finding.rule for finding in compared({one: 1}, {other: 1}).findings}
    assert rules == {"OBJECT_MISSING", "OBJECT_UNEXPECTED"}


NAMES = st.text(max_size=3) | st.sampled_from(["a", "a.b", "b", '"', "NaN", "None"])
COUNTS = st.dictionaries(st.tuples(NAMES, NAMES), st.integers(0, 3), max_size=12)


@fast
@given(COUNTS, COUNTS)
def test_a_frame_tells_about_each_pair_what_plain_dictionaries_tell(
    expected: Counts, restored: Counts
) -> None:
    frame = compare_rows(tables(expected), tables(restored))
    told = {(schema, table): tuple(rest) for schema, table, *rest in lines(frame)}
    assert list(told) == sorted(expected | restored)
    for key, (wanted, found, difference, status) in told.items():
        assert (wanted, found) == (expected.get(key), restored.get(key))
        if wanted is None or found is None:
            assert (difference, status) == (None, "missing" if found is None else "unexpected")
        else:
            assert (difference, status) == (found - wanted, "equal" if wanted == found else "differs")


@fast
@given(COUNTS)
def test_a_database_that_came_back_whole_is_verified(counts: Counts) -> None:
    result = compared(counts, dict(reversed(counts.items())))
    assert result.findings == []
    assert result.verdict is Verdict.VERIFIED
    assert (result.equal_tables, result.equal_rows) == (len(counts), sum(counts.values()))


@fast
@given(COUNTS.filter(bool), st.data())
def test_a_row_or_table_more_or_less_anywhere_fails(counts: Counts, data: st.DataObject) -> None:
    key = data.draw(st.sampled_from(sorted(counts)))
    more = counts | {key: counts[key] + 1}
    without = {name: rows for name, rows in counts.items() if name != key}
    assert compared(counts, more).verdict is Verdict.FAILED
    assert compared(more, counts).verdict is Verdict.FAILED
    assert compared(counts, without).verdict is Verdict.FAILED
    assert compared(without, more).verdict is Verdict.FAILED


def test_a_table_that_is_told_twice_is_refused() -> None:
    twice = tables({("a", "b"): 1}) * 2
    with pytest.raises(pd.errors.MergeError):
        compare_rows(twice, twice[:1])
    with pytest.raises(pd.errors.MergeError):
        compare_rows(twice[:1], twice)


@pytest.mark.parametrize(
    ("expected", "restored", "finding"),
    [
        pytest.param(
            {("public", "orders"): 1_000},
            {("public", "orders"): 998},
            Finding("ROWS_DIFFER", "error", "public.orders", "1,000 rows were expected, 998 were restored"),
            id="rows-are-missing",
        ),
        pytest.param(
            {("public", "orders"): 998},
            {("public", "orders"): 1_000},
            Finding("ROWS_DIFFER", "error", "public.orders", "998 rows were expected, 1,000 were restored"),
            id="rows-too-many",
        ),
        pytest.param(
            {("a", "b"): 1, ("Sales", "p.q"): 0},
            {("a", "b"): 1},
            Finding(
                "OBJECT_MISSING", "error", '"Sales"."p.q"', "the table was not restored; 0 rows were expected"
            ),
            id="an-empty-table-is-missing",
        ),
        pytest.param(
            {("a", "b"): 1},
            {("a", "b"): 1, ("a", "c"): 3},
            Finding(
                "OBJECT_UNEXPECTED", "error", "a.c", "the facts do not know this table; 3 rows were restored"
            ),
            id="rows-from-nowhere",
        ),
        pytest.param(
            {("a", "b"): 1},
            {("a", "b"): 1, ("a", "c"): 0},
            Finding(
                "OBJECT_UNEXPECTED",
                "warning",
                "a.c",
                "the facts do not know this table; 0 rows were restored",
            ),
            id="an-empty-table-more-is-a-warning",
        ),
        pytest.param(
            {("a", "b"): 1_000, ("a", "c"): 2},
            {},
            Finding(
                "EMPTY_RESTORE", "error", "shop", "no table was restored; 2 with 1,002 rows were expected"
            ),
            id="nothing-came-back",
        ),
    ],
)
def test_a_difference_of_tables_is_one_finding(expected: Counts, restored: Counts, finding: Finding) -> None:
    result = compared(expected, restored)
    assert result.findings == [finding]
    assert result.verdict is (Verdict.FAILED if finding.severity == "error" else Verdict.VERIFIED)


def test_what_differs_does_not_count_as_equal() -> None:
    result = compared({("a", "b"): 10, ("a", "c"): 20, ("a", "d"): 40}, {("a", "b"): 10, ("a", "c"): 21})
    assert (result.equal_tables, result.equal_rows) == (1, 10)


def test_an_empty_restore_still_lists_the_tables() -> None:
    result = compared({("a", "b"): 1}, {})
    assert lines(result.rows) == [["a", "b", 1, None, None, "missing"]]
    assert (result.equal_tables, result.equal_rows) == (0, 0)


DOWN: dict[str, Any] = {"increment": -5}
CYCLE: dict[str, Any] = {"cycles": True}


@pytest.mark.parametrize(
    ("expected", "restored", "is_fine"),
    [
        pytest.param(sequence(41), sequence(41), True, id="where-it-was"),
        pytest.param(sequence(41), sequence(73), True, id="beyond"),
        pytest.param(sequence(41), sequence(40), False, id="behind"),
        pytest.param(sequence(41), sequence(None), False, id="as-if-never-used"),
        pytest.param(sequence(None), sequence(None), True, id="never-used"),
        pytest.param(sequence(None), sequence(1), True, id="first-used-meanwhile"),
        pytest.param(sequence(41), sequence(41, is_called=False), False, id="would-hand-out-41-again"),
        pytest.param(sequence(41, is_called=False), sequence(41), True, id="41-was-handed-out-meanwhile"),
        pytest.param(sequence(41, is_called=False), sequence(41, is_called=False), True, id="set-and-unused"),
        pytest.param(sequence(41), sequence(42, is_called=False), True, id="beyond-and-unused"),
        pytest.param(sequence(41, increment=0), sequence(42), True, id="of-an-unknown-increment"),
        pytest.param(sequence(-10, **DOWN), sequence(-15), True, id="downwards-beyond"),
        pytest.param(sequence(-10, **DOWN), sequence(-10), True, id="downwards-where-it-was"),
        pytest.param(sequence(-10, **DOWN), sequence(-5), False, id="downwards-behind"),
        pytest.param(sequence(-10, **DOWN), sequence(-10, is_called=False), False, id="downwards-again"),
        pytest.param(sequence(99, **CYCLE), sequence(3), True, id="a-cycle-began-anew"),
        pytest.param(sequence(99, **CYCLE), sequence(None), False, id="a-cycle-as-if-never-used"),
    ],
)
def test_a_sequence_may_stand_beyond_but_never_behind(
    expected: SequenceValue, restored: SequenceValue, is_fine: bool
) -> None:
    result = compare(facts(sequences=(expected,)), RestoredState((), (restored,)))
    behind = Finding(
        "SEQUENCE_BEHIND", "error", "public.orders_id_seq", "the sequence would hand out values again"
    )
    assert result.findings == ([] if is_fine else [behind])


def test_sequences_are_matched_by_schema_and_name() -> None:
    expected = (sequence(1, "a.b"), SequenceValue(schema_name="public.a", sequence="b", last_value=1))
    result = compare(facts(sequences=expected), RestoredState((), expected[:1]))
    assert result.findings == [
        Finding("OBJECT_MISSING", "error", '"public.a".b', "the sequence was not restored")
    ]


def test_a_sequence_that_the_facts_do_not_know_is_a_warning() -> None:
    result = compare(facts(), RestoredState((), (sequence(1),)))
    assert [(finding.rule, finding.severity) for finding in result.findings] == [
        ("OBJECT_UNEXPECTED", "warning")
    ]


@pytest.mark.parametrize(
    ("expected", "restored", "findings"),
    [
        pytest.param(
            [setting("a", "1"), setting("b", "2")], [setting("b", "2"), setting("a", "1")], [], id="any-order"
        ),
        pytest.param([setting("a", "1")], [], [("error", "a", "was not restored")], id="missing"),
        pytest.param([], [setting("a", "1")], [("warning", "a", "do not know")], id="unknown"),
        pytest.param(
            [setting("a", "1")], [setting("a", "2")], [("error", "a", "another value")], id="changed"
        ),
        pytest.param(
            [setting("a", "1", role="app")],
            [setting("a", "1")],
            [("warning", "a", "do not know"), ("error", "a of role app", "was not restored")],
            id="of-everybody-instead-of-a-role",
        ),
        pytest.param(
            [setting("a", "1", role="x y")],
            [setting("a", "2", role="x y")],
            [("error", 'a of role "x y"', "another value")],
            id="of-a-role",
        ),
    ],
)
def test_settings_come_back_as_they_were(
    expected: list[DatabaseSetting], restored: list[DatabaseSetting], findings: list[tuple[str, str, str]]
) -> None:
    result = compare(facts(settings=tuple(expected)), RestoredState((), (), tuple(restored)))
    assert [(found.severity, found.object) for found in result.findings] == [told[:2] for told in findings]
    for found, (_, _, words) in zip(result.findings, findings, strict=True):
        assert found.rule == "SETTING_DIFFERS"
        assert words in found.message


def test_a_settings_value_stands_in_no_finding() -> None:
    expected = (setting("app.key", "planted-secret"), setting("app.other", "planted-secret"))
    restored = (setting("app.key", "planted-too"), setting("app.third", "planted-too"))
    result = compare(facts(settings=expected), RestoredState((), (), restored))
    assert len(result.findings) == 3
    assert "planted" not in repr(result.findings)


def test_settings_that_nobody_applied_are_not_compared() -> None:
    assert compare(facts(settings=(setting("a", "1"),)), RestoredState(())).findings == []


def test_a_restore_in_which_nothing_was_counted_never_counts_as_passed() -> None:
    expected = facts({("a", "b"): 0}, sequences=(sequence(1),), settings=(setting("a", "1"),))
    result = compare(expected, RestoredState((), (), ()))
    assert [finding.rule for finding in result.findings] == [
        "EMPTY_RESTORE",
        "OBJECT_MISSING",
        "SETTING_DIFFERS",
    ]
    assert result.verdict is Verdict.FAILED


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        (("public", "orders"), "public.orders"),
        (("a.b", "c"), '"a.b".c'),
        (("a", 'b"c'), 'a."b""c"'),
        (("Año", "2026"), '"Año"."2026"'),
        (("", "a b"), '""."a b"'),
        (("a", "b\nc"), r'a.U&"b\+00000Ac"'),
        (("a", 'b\t"\\'), r'a.U&"b\+000009""\+00005C"'),
        (("a", "\u202eb"), r'a.U&"\+00202Eb"'),
        (("a\n", "b"), r'U&"a\+00000A".b'),
    ],
)
def test_an_object_is_named_as_sql_would_on_one_line(names: tuple[str, str], shown: str) -> None:
    assert quoted(*names) == shown


def test_no_other_module_of_core_needs_pandas() -> None:
    core = Path(flows.core.comparison.__file__).parent
    others = [
        f"flows.core.{path.stem}" for path in core.glob("*.py") if path.stem not in ("__init__", "comparison")
    ]
    code = f"import sys, {', '.join(others)}; sys.exit('pandas' in sys.modules)"
    assert subprocess.run((sys.executable, "-c", code), cwd=core.parents[1], check=False).returncode == 0


def test_thousands_of_tables_are_compared_at_once() -> None:
    counts = {(f"s{number % 7}", f"t{number}"): number for number in range(5_000)}
    result = compared(counts, counts | {("s0", "t0"): 1})
    assert [finding.object for finding in result.findings] == ["s0.t0"]
    assert result.equal_tables == 4_999
