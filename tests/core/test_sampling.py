"""Which tables' rows a cheaper proof restores."""

import pytest

from flows.core.facts import CatalogObject, TableRows
from flows.core.sampling import sample, with_partitions


def _table(name: str, size_bytes: int = 10) -> TableRows:
    schema, _, table = name.partition(".")
    return TableRows(schema_name=schema, table=table, rows=1, size_bytes=size_bytes)


TABLES = [_table(f"app.t{number}") for number in range(20)]


@pytest.mark.parametrize(
    ("patterns", "names"),
    [
        pytest.param(["app.orders"], {"app.orders"}, id="a name"),
        pytest.param(["app.*"], {"app.orders", "app.lines"}, id="a schema"),
        pytest.param(["*.orders", "log.events"], {"app.orders", "log.events"}, id="several"),
        pytest.param(["app.order?"], {"app.orders"}, id="one letter"),
    ],
)
def test_named_tables_are_sampled_however_large(patterns: list[str], names: set[str]) -> None:
    tables = [_table("app.orders", 10**12), _table("app.lines"), _table("log.events")]

    assert sample(tables, patterns, 1, "seed") == {tuple(name.split(".")) for name in names}


def test_no_more_is_sampled_than_the_limit_has_room_for() -> None:
    assert len(sample(TABLES, [], 55, "seed")) == 5


def test_a_table_that_does_not_fit_is_passed_over_for_smaller_ones() -> None:
    tables = [_table("app.huge", 1000), *TABLES]

    assert len(sample(tables, [], 30, "seed")) == 3


def test_a_table_whose_size_nobody_told_is_taken_for_as_large_as_its_rows() -> None:
    loaded = TableRows(schema_name="public", table="loaded", rows=1_000_000, size_bytes=0)
    assert sample([loaded, _table("public.small")], [], 1_000, "seed") == {("public", "small")}


def test_the_same_seed_gives_the_same_sample_in_whatever_order() -> None:
    assert sample(TABLES, [], 50, "a") == sample(reversed(TABLES), [], 50, "a")


def test_other_seeds_reach_every_table_in_time() -> None:
    reached = set().union(*(sample(TABLES, [], 50, str(seed)) for seed in range(60)))

    assert len(reached) == len(TABLES)


def test_partitions_come_with_their_sampled_root_however_deep() -> None:
    def partition(name: str, parent: str) -> CatalogObject:
        properties = {"partition bound": "FOR VALUES IN (1)", "parents": parent}
        return CatalogObject(kind="table", name=("app", name), properties=properties)

    objects = [
        partition("leaf", 'app."Half"'),
        partition("Half", "app.root"),
        partition("other", "app.another"),
        CatalogObject(kind="table", name=("app", "child"), properties={"parents": "app.root"}),
    ]
    found = with_partitions(frozenset({("app", "root")}), objects)
    assert found == {("app", "root"), ("app", "Half"), ("app", "leaf")}


def test_only_stars_and_question_marks_are_wildcards() -> None:
    assert sample([_table("app.a[b]"), _table("app.ab")], ["app.a[b]"], 1, "seed") == {("app", "a[b]")}
