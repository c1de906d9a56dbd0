"""What counts as a difference between two catalogues, and how it is told."""

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.core.facts import CatalogObject
from flows.core.findings import Finding
from flows.core.object_comparison import compare_objects

MAJORS = (17, 17)
TABLE = CatalogObject(kind="table", name=("app", "orders"), owner="ann")
PUBLIC = CatalogObject(kind="schema", name=("public",), owner="ann", properties={"comment": "c"})


def made(kind: str, *name: str, **properties: str) -> CatalogObject:
    return CatalogObject(
        kind=kind, name=name, properties={key.replace("_", " "): value for key, value in properties.items()}
    )


def changed(item: CatalogObject, **more: object) -> CatalogObject:
    return item.model_copy(update=more)


def findings(
    expected: list[CatalogObject],
    restored: list[CatalogObject],
    majors: tuple[int, int] = MAJORS,
    ignored_roles: tuple[str, ...] = (),
) -> list[Finding]:
    return compare_objects(expected, restored, majors=majors, ignored_roles=ignored_roles).findings


def test_equal_catalogues_have_no_finding() -> None:
    both = [TABLE, PUBLIC, made("column", "app", "orders", "id", type="integer")]
    assert findings(both, list(reversed(both))) == []
    assert findings([], []) == []


def test_the_counts_tell_of_every_object_by_kind() -> None:
    expected = [
        TABLE,
        made("column", "app", "orders", "id", type="integer"),
        made("view", "app", "v", definition="a"),
    ]
    restored = [made("view", "app", "v", definition="b"), made("rule", "app", "v", "r"), PUBLIC]
    counts = compare_objects([*expected, PUBLIC], restored, majors=MAJORS).counts
    assert list(counts.columns) == ["expected", "restored", "equal", "missing", "unexpected", "different"]
    assert {
        kind: tuple(line) for kind, line in zip(counts.index, counts.to_numpy().tolist(), strict=True)
    } == {
        "column": (1, 0, 0, 1, 0, 0),
        "rule": (0, 1, 0, 0, 1, 0),
        "schema": (1, 1, 1, 0, 0, 0),
        "table": (1, 0, 0, 1, 0, 0),
        "view": (1, 1, 0, 0, 0, 1),
    }


def test_a_missing_table_is_told_once_with_what_belongs_to_it() -> None:
    orders = [
        TABLE,
        made("column", "app", "orders", "id"),
        made("index", "app", "orders", "orders_pkey"),
        made("constraint", "app", "orders", "orders_pkey"),
        made("trigger", "app", "orders", "touch"),
        made("statistics", "other", "guess", table="app.orders"),
        made("sequence", "app", "orders_id_seq", owned_by="app.orders.id"),
    ]
    assert findings([*orders, PUBLIC], [PUBLIC]) == [
        Finding(
            "OBJECT_MISSING",
            "error",
            "app.orders",
            "the table was not restored, nor were 6 objects that belong to it",
            "table",
        )
    ]


def test_a_missing_table_takes_nothing_of_another_with_it() -> None:
    odd = made("table", "app", "orders.x")
    rest = [
        made("column", "app", "orders.x", "id"),
        made("sequence", "app", "s", owned_by='app."orders.x".id'),
    ]
    assert findings([TABLE, odd, *rest], [odd]) == [
        Finding("OBJECT_MISSING", "error", 'app."orders.x".id', "the column was not restored", "column"),
        Finding("OBJECT_MISSING", "error", "app.s", "the sequence was not restored", "sequence"),
        Finding("OBJECT_MISSING", "error", "app.orders", "the table was not restored", "table"),
    ]


def test_a_missing_schema_is_told_once() -> None:
    schema = made("schema", "app")
    inside = [
        TABLE,
        made("column", "app", "orders", "id"),
        made("default privileges", "ann", "tables", "app"),
    ]
    outside = made("publication table", "few", "app", "orders")
    assert [finding.object for finding in findings([schema, *inside, outside], [])] == [
        "app.orders of few",
        "app",
    ]


def test_an_index_is_gone_with_its_constraint() -> None:
    parts = [
        made("index", "app", "orders", "orders_pkey"),
        made("constraint", "app", "orders", "orders_pkey"),
    ]
    assert [finding.object for finding in findings([TABLE, *parts], [TABLE])] == ["orders_pkey on app.orders"]


@pytest.mark.parametrize(
    ("kind", "severity"),
    [
        ("table", "warning"),
        ("index", "warning"),
        ("view", "warning"),
        ("trigger", "error"),
        ("rule", "error"),
        ("policy", "error"),
        ("event trigger", "error"),
        ("function", "error"),
        ("procedure", "error"),
        ("aggregate", "error"),
        ("window function", "error"),
    ],
)
def test_what_nobody_expected_is_an_error_if_it_could_run(kind: str, severity: str) -> None:
    (found,) = findings([], [made(kind, "app", "orders", "x")])
    assert (found.rule, found.severity, found.kind) == ("OBJECT_UNEXPECTED", severity, kind)


def test_an_unexpected_table_hides_no_trigger_on_it() -> None:
    restored = [TABLE, made("column", "app", "orders", "id"), made("trigger", "app", "orders", "touch")]
    assert [(finding.kind, finding.severity) for finding in findings([], restored)] == [
        ("table", "warning"),
        ("trigger", "error"),
    ]


def test_the_schema_public_is_in_every_new_database() -> None:
    assert findings([], [PUBLIC]) == []
    assert len(findings([PUBLIC], [])) == 1


def test_the_names_of_what_differs_are_told_and_no_value() -> None:
    before = made("column", "app", "orders", "id", type="integer", default="'hidden'", comment="hidden")
    after = made("column", "app", "orders", "id", type="bigint", not_null="yes", comment="Hidden")
    assert findings([before], [after]) == [
        Finding(
            "DEFINITION_DIFFERS",
            "error",
            "app.orders.id",
            "not as it was: comment, default, not null, type",
            "column",
        )
    ]


def test_a_definition_is_compared_as_sql_and_a_body_letter_by_letter() -> None:
    view = made("view", "app", "v", definition="SELECT (a)::text")
    body = made("function", "app", "f", "", body="SELECT (a)::text")
    assert findings([view], [made("view", "app", "v", definition="SELECT  a")]) == []
    assert len(findings([body], [made("function", "app", "f", "", body="SELECT  a")])) == 1


def test_definitions_are_compared_more_loosely_across_majors() -> None:
    view = (
        made("view", "app", "v", definition="SELECT t.a FROM app.t"),
        made("view", "app", "v", definition="SELECT a FROM app.t"),
    )
    assert len(findings([view[0]], [view[1]])) == 1
    assert findings([view[0]], [view[1]], (15, 16)) == []


def test_another_owner_is_told_with_both_names() -> None:
    (found,) = findings([TABLE], [changed(TABLE, owner="Bob")])
    assert (found.rule, found.severity) == ("OWNER_DIFFERS", "error")
    assert found.message == 'it belongs to "Bob", ann was expected'


@pytest.mark.parametrize("kind", ["event trigger", "foreign data wrapper", "publication"])
def test_what_is_restored_without_its_owner_may_have_another(kind: str) -> None:
    item = changed(made(kind, "x"), owner="ann")
    assert findings([item], [changed(item, owner="bob")]) == []


def test_grants_are_told_as_lost_and_gained() -> None:
    before = changed(
        TABLE, grants={"": ("-EXECUTE",), "ann": ("-DELETE",), "o'n": ("SELECT with grant option",)}
    )
    after = changed(TABLE, grants={"": ("SELECT",), "o'n": ("SELECT",), "new": ("-USAGE",)})
    (found,) = findings([before], [after])
    assert (found.rule, found.severity, found.object) == ("GRANT_DIFFERS", "error", "app.orders")
    assert found.message == (
        "PUBLIC gained EXECUTE, SELECT; ann gained DELETE; new lost USAGE;"
        ' "o\'n" lost SELECT with grant option and gained SELECT'
    )


def test_roles_of_the_scratch_server_and_those_that_are_left_out_do_not_count() -> None:
    before = changed(TABLE, owner="gone", grants={"gone": ("SELECT",)})
    after = changed(TABLE, owner="ann", grants={"pgsalvo_insiders_1f": ("CREATE", "USAGE")})
    assert findings([before], [after], ignored_roles=("gone", "pgsalvo_insiders_1f")) == []
    assert len(findings([before], [after], ignored_roles=("gone",))) == 1
    assert len(findings([before], [after])) == 2


def test_a_materialized_view_has_to_be_filled_if_it_was() -> None:
    full, empty = (made("materialized view", "app", "v", **more) for more in ({"populated": "yes"}, {}))
    assert [finding.rule for finding in findings([full], [empty])] == ["MATVIEW_UNPOPULATED"]
    assert findings([empty], [full]) == []


def test_another_version_of_an_extension_is_a_warning_and_another_schema_an_error() -> None:
    before = made("extension", "hstore", version="1.7", schema="app")
    after = made("extension", "hstore", version="1.8", schema="app")
    assert [finding.severity for finding in findings([before], [after])] == ["warning"]
    after = made("extension", "hstore", version="1.8", schema="public")
    assert [finding.severity for finding in findings([before], [after])] == ["warning", "error"]


def test_before_15_a_dump_tells_only_of_grants_on_the_schema_public() -> None:
    after = CatalogObject(kind="schema", name=("public",), owner="bob", grants={"bob": ("-CREATE", "-USAGE")})
    assert (
        findings(
            [changed(PUBLIC, grants={"": ("CREATE", "USAGE")})],
            [changed(after, grants={"": ("USAGE",)})],
            (14, 15),
        )
        == []
    )
    assert findings([PUBLIC], [after], (14, 14)) == []
    (found,) = findings([PUBLIC], [changed(after, grants={"": ("USAGE",)})], (14, 14))
    assert (found.rule, found.severity) == ("GRANT_DIFFERS", "warning")
    assert len(findings([PUBLIC], [after], (15, 15))) == 3


def test_what_a_major_brought_counts_only_where_both_servers_know_it() -> None:
    all_rights = changed(TABLE, grants={"ann": ("MAINTAIN",), "bob": ("MAINTAIN with grant option",)})
    sequence = made("sequence", "app", "s")
    unlogged = made("sequence", "app", "s", unlogged="yes")
    assert findings([TABLE, sequence], [all_rights, unlogged], (14, 17)) == []
    assert len(findings([TABLE, sequence], [all_rights, unlogged], (17, 18))) == 2


@pytest.mark.parametrize(
    ("item", "shown"),
    [
        (made("function", "app", "Add", "integer, app.mood"), 'app."Add"(integer, app.mood)'),
        (made("operator", "app", "|+|", "integer", "integer"), "app.|+| (integer, integer)"),
        (made("operator class", "app", "int_ops", "btree"), "app.int_ops using btree"),
        (made("index", "app", "orders", "i"), "app.i"),
        (made("trigger", "app", "orders", "t x"), '"t x" on app.orders'),
        (made("cast", "app.mood", "integer"), "(app.mood as integer)"),
        (made("transform", "app.mood", "plx"), "for app.mood language plx"),
        (made("default privileges", "ann", "tables"), "tables of ann"),
        (made("default privileges", "ann", "tables", "app"), "tables of ann in schema app"),
        (made("publication schema", "all", "app"), "app of all"),
        (made("user mapping", "far", "ann"), "ann of far"),
        (made("foreign server", "far"), "far"),
    ],
)
def test_an_object_is_named_as_sql_would(item: CatalogObject, shown: str) -> None:
    assert [finding.object for finding in findings([item], [])] == [shown]


def test_a_name_that_stands_twice_is_refused() -> None:
    with pytest.raises(pd.errors.MergeError):
        compare_objects([TABLE, TABLE], [TABLE], majors=MAJORS)


objects = st.lists(
    st.builds(
        CatalogObject,
        kind=st.sampled_from(["table", "column", "index", "constraint", "schema", "function"]),
        name=st.lists(st.sampled_from(["a", "b"]), min_size=3, max_size=3).map(tuple),
        owner=st.sampled_from([None, "ann", "bob"]),
        properties=st.dictionaries(st.sampled_from(["type", "comment"]), st.sampled_from(["x", "y"])),
    ),
    unique_by=lambda item: (item.kind, item.name),
)


@given(objects, objects)
def test_counts_add_up_and_only_equal_catalogues_have_nothing_to_tell(
    expected: list[CatalogObject], restored: list[CatalogObject]
) -> None:
    result = compare_objects(expected, restored, majors=MAJORS)
    counts = result.counts.sum()
    assert counts["expected"] == len(expected) == counts["equal"] + counts["missing"] + counts["different"]
    assert counts["restored"] == len(restored) == counts["equal"] + counts["unexpected"] + counts["different"]
    is_equal = {(i.kind, i.name): i for i in expected} == {(i.kind, i.name): i for i in restored}
    assert (result.findings == []) == is_equal
