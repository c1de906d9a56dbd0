"""Patterns of a plan, against what a database holds."""

import pytest

from blocks.errors import ConfigurationError
from blocks.pgcommands import DumpSelection
from blocks.selection import Kind, Relation, Selection, qualified

SCHEMAS = ["audit", "My.Schema", "public"]
RELATIONS = [
    Relation(1, "audit", "log_2024", "r"),
    Relation(2, "audit", "log_2025", "r"),
    Relation(3, "My.Schema", 'odd "name"', "r"),
    Relation(4, "public", "Orders", "r"),
    Relation(5, "public", "orders", "r"),
    Relation(6, "public", "orders_id_seq", "S", owner_oid=5),
    Relation(7, "public", "events", "p"),
    Relation(8, "public", "events_1", "p", parent_oid=7),
    Relation(9, "audit", "events_1_1", "r", parent_oid=8),
    Relation(10, "public", "line\nbreak", "r"),
    Relation(11, "public", "events_id_seq", "S", owner_oid=7, is_identity=True),
]
ALL = {relation.oid for relation in RELATIONS}
EVENTS = {7, 8, 9, 11}


@pytest.mark.parametrize(
    ("selection", "dumped"),
    [
        pytest.param(Selection(), ALL, id="everything"),
        pytest.param(Selection(include_schemas=("audit",)), {1, 2, 9}, id="a-schema"),
        pytest.param(Selection(include_schemas=('"My.Schema"', "aud*")), {1, 2, 3, 9}, id="schemas"),
        pytest.param(Selection(exclude_schemas=("audit",)), ALL - {1, 2, 9}, id="without-a-schema"),
        pytest.param(
            Selection(include_schemas=("*",), exclude_schemas=("pu?lic",)), {1, 2, 3, 9}, id="both-ways"
        ),
        pytest.param(Selection(include_tables=("public.orders",)), {5, 6}, id="a-table-with-its-sequence"),
        pytest.param(Selection(include_tables=("PUBLIC.ORDERS",)), {5, 6}, id="folded-to-lower-case"),
        pytest.param(Selection(include_tables=('public."Orders"',)), {4}, id="quoted"),
        pytest.param(Selection(include_tables=('"My.Schema"."odd ""name"""',)), {3}, id="quotes-and-dots"),
        pytest.param(Selection(include_tables=('public."l"*',)), {10}, id="wildcard-over-a-line-break"),
        pytest.param(Selection(exclude_tables=('public."*"',)), ALL, id="quoted-wildcards-are-letters"),
        pytest.param(Selection(exclude_tables=("audit.log_202?",)), ALL - {1, 2}, id="question-mark"),
        pytest.param(Selection(exclude_tables=("public.events",)), ALL - EVENTS, id="a-tree-of-partitions"),
        pytest.param(Selection(include_tables=("public.events",)), EVENTS, id="only-a-tree-of-partitions"),
        pytest.param(Selection(exclude_tables=("public.gone",)), ALL, id="excluding-what-is-not-there"),
        pytest.param(
            Selection(include_tables=("*.*",), exclude_tables=("public.*",), exclude_schemas=('"M"*',)),
            {1, 2},
            id="tables-both-ways",
        ),
    ],
)
def test_a_selection_chooses(selection: Selection, dumped: set[int]) -> None:
    assert set(selection.resolve(SCHEMAS, RELATIONS).dumped) == dumped


def test_excluding_the_rows_of_a_partitioned_table_excludes_those_of_its_partitions() -> None:
    choice = Selection(exclude_table_data=("public.events",)).resolve(SCHEMAS, RELATIONS)
    assert set(choice.without_rows) == {7, 8, 9}
    assert set(choice.dumped) == ALL


def test_pg_dump_is_given_exact_names() -> None:
    selection = Selection(
        exclude_schemas=("aud*",), exclude_tables=("public.o?ders",), exclude_table_data=('"My.Schema".*',)
    )
    assert selection.resolve(SCHEMAS, RELATIONS).names == DumpSelection(
        exclude_schemas=("audit",),
        exclude_tables=(("public", "orders"),),
        exclude_table_data=(("My.Schema", 'odd "name"'),),
    )


def test_tables_are_chosen_by_leaving_out_all_others_so_that_their_schemas_and_types_are_dumped() -> None:
    selection = Selection(include_tables=("*.log*", "public.orders"), exclude_schemas=("audit",))
    choice = selection.resolve(SCHEMAS, RELATIONS)
    left_out = {
        (one.schema, one.name)
        for one in RELATIONS
        if one.oid not in choice.dumped and one.schema != "audit" and not one.is_identity
    }
    assert (choice.names.exclude_schemas, choice.names.large_objects) == (("audit",), False)
    assert set(choice.names.exclude_tables) == left_out
    assert ("public", "orders") not in left_out


def test_including_a_partition_includes_the_tables_above_it() -> None:
    parent = Relation(100, "public", "days", "p")
    middle = Relation(101, "public", "days_2026", "p", parent_oid=100)
    leaf = Relation(102, "public", "days_2026_01", "r", parent_oid=101)
    other = Relation(103, "public", "days_2025", "r", parent_oid=100)
    selection = Selection(include_tables=("public.days_2026_01",))
    assert selection.resolve(["public"], [parent, middle, leaf, other]).dumped == {100, 101, 102}


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        pytest.param(Selection(include_schemas=("audits",)), "no schema .* called audits", id="schema"),
        pytest.param(
            Selection(include_tables=("public.Order",)), "no table .* called public.Order", id="table"
        ),
        pytest.param(
            Selection(include_schemas=("audit",), exclude_schemas=("a*",)),
            "excludes again",
            id="no-schema-left",
        ),
        pytest.param(
            Selection(include_tables=("a*.*",), exclude_tables=("a*.*",)),
            "excludes again",
            id="no-table-left",
        ),
    ],
)
def test_including_what_is_not_there_is_an_error(selection: Selection, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        selection.resolve(SCHEMAS, RELATIONS)


@pytest.mark.parametrize(
    "pattern", ["orders", "shop.public.orders", ".orders", "public.", 'public."orders', 'a"".b', ""]
)
def test_a_malformed_pattern_is_an_error(pattern: str) -> None:
    with pytest.raises(ConfigurationError, match=r"not a name of the form schema\.table"):
        Selection(exclude_tables=(pattern,))


def test_schemas_and_tables_cannot_both_be_included() -> None:
    with pytest.raises(ConfigurationError, match="include_schemas and include_tables are both set"):
        Selection(include_schemas=("audit",), include_tables=("public.orders",))


@pytest.mark.parametrize("kind", ["r", "p", "v", "m", "f", "S"])
def test_a_name_for_a_person_chooses_that_relation_again(kind: Kind) -> None:
    odd = Relation(99, 'a"b.c', "Ünï*?", kind)
    selection = Selection(include_tables=(qualified(odd.schema, odd.name),))
    assert selection.resolve(["public"], [*RELATIONS, odd]).dumped == {99}
