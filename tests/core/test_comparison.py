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
from flows.core.facts import (
    CatalogObject,
    DatabaseProperties,
    DatabaseSetting,
    Facts,
    LargeObjects,
    SequenceValue,
    TableRows,
)
from flows.core.naming import BackupId
from flows.core.verification import Verdict

fast = settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
COLUMNS = ["schema_name", "table", "expected", "restored", "difference", "content", "status"]
WITH_PANDAS = ("__init__", "comparison", "row_comparison", "object_comparison")
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
        tables=more.get("tables", tables(counts or {})),
        proof=more.get("proof", "rows"),
        objects=more.get("objects"),
        large_objects=more.get("large_objects"),
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
        ["audit", "log", 0, 0, 0, "equal", "equal"],
        ["public", "gone", 7, None, None, None, "missing"],
        ["public", "items", 5, 8, 3, None, "differs"],
        ["public", "new", None, 2, None, None, "unexpected"],
        ["public", "orders", 1000, 998, -2, None, "differs"],
    ]


@pytest.mark.parametrize(
    ("expected", "restored"),
    [({}, {}), ({("a", "b"): 1}, {}), ({}, {("a", "b"): 1}), ({("a", "b"): 2**62}, {("a", "b"): 0})],
)
def test_the_columns_types_are_the_same_whatever_is_in_them(expected: Counts, restored: Counts) -> None:
    frame = compare_rows(tables(expected), tables(restored))
    assert [str(kind) for kind in frame.dtypes] == ["str", "str", *["Int64"] * 3, "string", "str"]
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
    for key, (wanted, found, difference, content, status) in told.items():
        assert content == ("equal" if wanted == found == 0 else None)
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
            Finding(
                "ROWS_DIFFER",
                "error",
                "public.orders",
                "1,000 rows were expected, 998 were restored",
                "table",
            ),
            id="rows-are-missing",
        ),
        pytest.param(
            {("public", "orders"): 998},
            {("public", "orders"): 1_000},
            Finding(
                "ROWS_DIFFER",
                "error",
                "public.orders",
                "998 rows were expected, 1,000 were restored",
                "table",
            ),
            id="rows-too-many",
        ),
        pytest.param(
            {("a", "b"): 1, ("Sales", "p.q"): 0},
            {("a", "b"): 1},
            Finding(
                "OBJECT_MISSING",
                "error",
                '"Sales"."p.q"',
                "the table was not restored; 0 rows were expected",
                "table",
            ),
            id="an-empty-table-is-missing",
        ),
        pytest.param(
            {("a", "b"): 1},
            {("a", "b"): 1, ("a", "c"): 3},
            Finding(
                "OBJECT_UNEXPECTED",
                "error",
                "a.c",
                "the facts do not know this table; 3 rows were restored",
                "table",
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
                "table",
            ),
            id="an-empty-table-more-is-a-warning",
        ),
        pytest.param(
            {("a", "b"): 1_000, ("a", "c"): 2},
            {},
            Finding(
                "EMPTY_RESTORE",
                "error",
                "shop",
                "no table was restored; 2 with 1,002 rows were expected",
                "database",
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
    assert lines(result.rows) == [["a", "b", 1, None, None, None, "missing"]]
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
        "SEQUENCE_BEHIND",
        "error",
        "public.orders_id_seq",
        "the sequence would hand out values again",
        "sequence",
    )
    assert result.findings == ([] if is_fine else [behind])


def test_sequences_are_matched_by_schema_and_name() -> None:
    expected = (sequence(1, "a.b"), SequenceValue(schema_name="public.a", sequence="b", last_value=1))
    result = compare(facts(sequences=expected), RestoredState((), expected[:1]))
    assert result.findings == [
        Finding("OBJECT_MISSING", "error", '"public.a".b', "the sequence was not restored", "sequence")
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
    others = [f"flows.core.{path.stem}" for path in core.glob("*.py") if path.stem not in WITH_PANDAS]
    code = f"import sys, {', '.join(others)}; sys.exit('pandas' in sys.modules)"
    assert subprocess.run((sys.executable, "-c", code), cwd=core.parents[1], check=False).returncode == 0


def test_thousands_of_tables_are_compared_at_once() -> None:
    counts = {(f"s{number % 7}", f"t{number}"): number for number in range(5_000)}
    result = compared(counts, counts | {("s0", "t0"): 1})
    assert [finding.object for finding in result.findings] == ["s0.t0"]
    assert result.equal_tables == 4_999


def fingerprinted(*rows: tuple[str, int, str | None]) -> tuple[TableRows, ...]:
    return tuple(
        TableRows(schema_name="public", table=table, rows=number, content=content)
        for table, number, content in rows
    )


@pytest.mark.parametrize(
    ("expected", "restored", "content", "status"),
    [
        pytest.param(("t", 3, "17"), ("t", 3, "17"), "equal", "equal", id="the-same-rows"),
        pytest.param(("t", 3, "17"), ("t", 3, "18"), "differs", "differs", id="other-rows"),
        pytest.param(("t", 3, "17"), ("t", 3, None), None, "equal", id="only-counted-here"),
        pytest.param(("t", 3, None), ("t", 3, "17"), None, "equal", id="only-counted-there"),
        pytest.param(("t", 3, None), ("t", 3, None), None, "equal", id="only-counted"),
        pytest.param(("t", 0, None), ("t", 0, None), "equal", "equal", id="no-rows"),
        pytest.param(("t", 3, "17"), ("t", 2, "16"), "differs", "differs", id="other-numbers-too"),
        pytest.param(("t", 3, "0"), ("t", 3, "-0"), "differs", "differs", id="alike-as-numbers"),
    ],
)
def test_equal_rows_are_told_from_rows_that_are_as_many(
    expected: tuple[str, int, str | None], restored: tuple[str, int, str | None], content: str, status: str
) -> None:
    (line,) = lines(compare_rows(fingerprinted(expected), fingerprinted(restored)))
    assert line[5:] == [content, status]


def test_other_rows_of_the_same_number_fail() -> None:
    known = facts(tables=fingerprinted(("t", 3, "17"), ("u", 1, "4")), proof="content")
    result = compare(known, RestoredState(fingerprinted(("t", 3, "18"), ("u", 1, "4"))))
    message = "3 rows were restored, but not the same ones"
    assert result.findings == [Finding("CONTENT_DIFFERS", "error", "public.t", message, "table")]
    assert result.verdict is Verdict.FAILED
    assert (result.equal_tables, result.equal_rows) == (1, 1)
    assert str(result.checks["CONTENT_DIFFERS"]) == "checked 2"


def test_other_numbers_of_rows_are_one_finding_whatever_their_content() -> None:
    known = facts(tables=fingerprinted(("t", 3, "17")), proof="content")
    result = compare(known, RestoredState(fingerprinted(("t", 2, "16"))))
    assert [finding.rule for finding in result.findings] == ["ROWS_DIFFER"]


def test_a_content_that_could_not_be_compared_is_told_and_not_checked() -> None:
    wanted = [(f"t{number}", 1, "5") for number in range(5)]
    known = facts(tables=fingerprinted(*wanted), proof="content")
    one = compare(known, RestoredState(fingerprinted(*wanted[:1], *((n, 1, None) for n, *_ in wanted[1:]))))
    assert str(one.checks["CONTENT_DIFFERS"]) == "checked 1"
    (note,) = one.notes
    assert note.startswith("the content of 4 tables was not read")
    assert note.endswith(": public.t1, public.t2, public.t3 …")
    none = compare(known, RestoredState(fingerprinted(*((name, 1, None) for name, *_ in wanted))))
    assert none.checks["CONTENT_DIFFERS"].count is None
    assert str(none.checks["ROWS_DIFFER"]) == "checked 5"


def test_counted_rows_never_pass_for_compared_content() -> None:
    result = compared({("a", "b"): 1}, {("a", "b"): 1})
    assert str(result.checks["CONTENT_DIFFERS"]).startswith("not checked: rows were counted")


SAMPLE = {("a", "b"): 5, ("a", "c"): 7, ("a", "d"): 9}


def test_of_a_sample_only_the_sampled_tables_are_compared() -> None:
    found = RestoredState(tables({("a", "b"): 5, ("a", "c"): 0, ("a", "d"): 1}))
    result = compare(facts(SAMPLE), found, tier="sample", sampled={("a", "b"), ("a", "d")})
    assert [(finding.rule, finding.object) for finding in result.findings] == [("ROWS_DIFFER", "a.d")]
    assert list(result.rows["status"]) == ["equal", "not compared", "differs"]
    assert lines(result.rows)[1] == ["a", "c", 7, None, None, None, "not compared"]
    assert (result.equal_tables, result.equal_rows) == (1, 5)
    assert str(result.checks["ROWS_DIFFER"]) == "checked 2"
    assert "rows of 1 tables are not part of the sample" in result.notes


def test_a_sampled_table_that_did_not_come_back_is_missing() -> None:
    result = compare(
        facts(SAMPLE), RestoredState(tables({("a", "c"): 0})), tier="sample", sampled={("a", "b")}
    )
    assert [(finding.rule, finding.object) for finding in result.findings] == [("OBJECT_MISSING", "a.b")]


def test_of_definitions_alone_no_value_is_compared() -> None:
    found = RestoredState(
        tables(dict.fromkeys(SAMPLE, 0)),
        (sequence(None),),
        (),
        large_objects=LargeObjects(count=0, size_bytes=0),
    )
    known = facts(SAMPLE, sequences=(sequence(9),), large_objects=LargeObjects(count=2, size_bytes=9))
    result = compare(known, found, tier="schema")
    assert result.findings == []
    assert set(result.rows["status"]) == {"not compared"}
    assert (result.equal_tables, result.equal_rows) == (0, 0)
    for rule in ("ROWS_DIFFER", "CONTENT_DIFFERS", "SEQUENCE_BEHIND", "LARGE_OBJECTS_DIFFER"):
        assert str(result.checks[rule]) == "not checked: only definitions were restored"
    missing = compare(known, RestoredState(tables(SAMPLE)), tier="schema").findings
    assert [finding.message for finding in missing] == ["the sequence was not restored"]


def test_rows_that_nobody_counted_are_not_compared() -> None:
    result = compare(
        facts({("a", "b"): 0}, proof="none"), RestoredState(tables({("a", "b"): 8, ("a", "c"): 1}))
    )
    assert result.findings == []
    assert set(result.rows["status"]) == {"not compared"}
    assert str(result.checks["ROWS_DIFFER"]).startswith("not checked: the source's rows were not counted")


@pytest.mark.parametrize("tier", ["full", "sample", "schema"])
def test_nothing_restored_is_an_empty_restore_in_every_tier(tier: Any) -> None:
    known = facts(SAMPLE, objects=(table("a", "b"),))
    result = compare(known, RestoredState((), objects=()), tier=tier, sampled=set(SAMPLE))
    assert [finding.rule for finding in result.findings] == ["EMPTY_RESTORE"]


def test_whether_anything_came_back_is_unknown_where_nobody_looked() -> None:
    result = compare(facts(SAMPLE), RestoredState(()), tier="schema")
    assert result.findings == []
    assert result.checks["EMPTY_RESTORE"].count is None


def table(schema: str, name: str, **more: Any) -> CatalogObject:
    return CatalogObject(kind="table", name=(schema, name), **more)


def test_a_table_or_sequence_is_told_once_although_rows_and_objects_know_it() -> None:
    objects = (table("a", "b"), table("a", "c"), CatalogObject(kind="sequence", name=("public", "s")))
    known = facts({("a", "b"): 1, ("a", "c"): 2}, objects=objects, sequences=(sequence(1, "s"),))
    found = RestoredState(tables({("a", "b"): 1, ("a", "x"): 3}), objects=(table("a", "b"), table("a", "x")))
    result = compare(known, found)
    assert [(finding.rule, finding.object, finding.message) for finding in result.findings] == [
        ("OBJECT_MISSING", "a.c", "the table was not restored; 2 rows were expected"),
        ("OBJECT_UNEXPECTED", "a.x", "the facts do not know this table; 3 rows were restored"),
        ("OBJECT_MISSING", "public.s", "the sequence was not restored"),
    ]


def test_a_missing_object_that_has_no_rows_is_told_by_the_objects() -> None:
    known = facts({("a", "b"): 1}, objects=(table("a", "b"), CatalogObject(kind="view", name=("a", "c"))))
    result = compare(known, RestoredState(tables({("a", "b"): 1}), objects=(table("a", "b"),)))
    assert [(finding.rule, finding.kind, finding.object) for finding in result.findings] == [
        ("OBJECT_MISSING", "view", "a.c")
    ]
    assert result.kinds["missing"].to_dict() == {"table": 0, "view": 1}


def test_a_table_that_was_dumped_without_its_rows_is_no_surprise() -> None:
    objects = (table("a", "b"), table("a", "big"))
    known = facts({("a", "b"): 1}, objects=objects)
    empty = RestoredState(tables({("a", "b"): 1, ("a", "big"): 0}), objects=objects)
    assert compare(known, empty).findings == []
    filled = RestoredState(tables({("a", "b"): 1, ("a", "big"): 2}), objects=objects)
    assert [(found.rule, found.severity) for found in compare(known, filled).findings] == [
        ("OBJECT_UNEXPECTED", "error")
    ]


def view(**more: Any) -> CatalogObject:
    return CatalogObject(kind="materialized view", name=("a", "v"), properties=more)


def test_an_unfilled_view_counts_unless_only_definitions_were_restored() -> None:
    known = facts(objects=(view(populated="yes"),))
    found = RestoredState((), objects=(view(),))
    assert [finding.rule for finding in compare(known, found).findings] == ["MATVIEW_UNPOPULATED"]
    result = compare(known, found, tier="schema")
    assert result.findings == []
    assert str(result.checks["MATVIEW_UNPOPULATED"]) == "not checked: only definitions were restored"


def test_facts_of_an_older_release_say_what_they_cannot_tell() -> None:
    result = compare(facts({("a", "b"): 1}), RestoredState(tables({("a", "b"): 1}), objects=()))
    for rule in ("DEFINITION_DIFFERS", "OWNER_DIFFERS", "GRANT_DIFFERS", "MATVIEW_UNPOPULATED"):
        assert str(result.checks[rule]).startswith("not checked: the facts are of an older release")
    assert str(result.checks["LARGE_OBJECTS_DIFFER"]) == "not checked: the facts do not tell of large objects"


def test_a_rule_without_anything_to_check_says_so() -> None:
    known = facts(objects=(), large_objects=LargeObjects(count=0, size_bytes=0))
    nothing = LargeObjects(count=0, size_bytes=0)
    result = compare(known, RestoredState((), (), (), objects=(), large_objects=nothing))
    assert result.findings == []
    assert {rule: str(check) for rule, check in result.checks.items()} == {
        "ROWS_DIFFER": "nothing to check: no tables",
        "CONTENT_DIFFERS": "nothing to check: no tables",
        "EMPTY_RESTORE": "nothing to check: no tables",
        "SEQUENCE_BEHIND": "nothing to check: no sequence whose value is known",
        "DEFINITION_DIFFERS": "nothing to check: the database holds no objects",
        "OWNER_DIFFERS": "nothing to check: the database holds no objects",
        "GRANT_DIFFERS": "nothing to check: the database holds no objects",
        "OBJECT_MISSING": "nothing to check: the database holds no objects",
        "OBJECT_UNEXPECTED": "nothing to check: the database holds no objects",
        "MATVIEW_UNPOPULATED": "nothing to check: no materialized views",
        "SETTING_DIFFERS": "nothing to check: the database has no settings of its own",
        "LARGE_OBJECTS_DIFFER": "nothing to check: no large objects",
    }


@pytest.mark.parametrize(
    ("expected", "restored", "message"),
    [
        ((3, 10, "5"), (3, 10, "5"), None),
        ((3, 10, "5"), (2, 8, "4"), "3 with 10 bytes were expected, 2 with 8 were restored"),
        ((3, 1000, None), (3, 999, None), "3 with 1,000 bytes were expected, 3 with 999 were restored"),
        ((0, 0, None), (1, 0, None), "0 with 0 bytes were expected, 1 with 0 were restored"),
        ((3, 10, "5"), (3, 10, "6"), "as many bytes as expected, but not the same"),
        ((3, 10, "5"), (3, 10, None), None),
    ],
)
def test_large_objects_come_back_as_they_were(
    expected: tuple[int, int, str | None], restored: tuple[int, int, str | None], message: str | None
) -> None:
    sides = [
        LargeObjects(count=count, size_bytes=size, content=content)
        for count, size, content in (expected, restored)
    ]
    result = compare(facts(large_objects=sides[0]), RestoredState((), large_objects=sides[1]))
    wanted = Finding("LARGE_OBJECTS_DIFFER", "error", "large objects", message or "", "large object")
    assert result.findings == ([wanted] if message else [])
    is_half = expected[0] and None in (expected[2], restored[2])
    assert any("content of large objects" in note for note in result.notes) is bool(is_half)


def test_large_objects_that_nobody_read_back_are_not_checked() -> None:
    result = compare(facts(large_objects=LargeObjects(count=1, size_bytes=1)), RestoredState(()))
    assert (
        str(result.checks["LARGE_OBJECTS_DIFFER"]) == "not checked: the restored large objects were not read"
    )
