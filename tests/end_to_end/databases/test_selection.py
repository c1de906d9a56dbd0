"""A part of a database: what a plan leaves out is neither dumped nor missed, and the rest is verified."""

from collections.abc import Callable, Iterator

import pytest

from blocks.errors import ConfigurationError
from flows.core.verification import Verdict
from tests.servers.plan import PlanOnDisk
from tests.servers.postgres import PostgresServer

Planned = Callable[..., PlanOnDisk]

TABLES = """
    CREATE SCHEMA app;
    CREATE SCHEMA audit;
    CREATE SCHEMA "Odd.Schema";
    CREATE TABLE app.users (id serial PRIMARY KEY, name text);
    CREATE TABLE app.orders (id serial PRIMARY KEY, user_id int REFERENCES app.users, at date);
    CREATE TABLE app."Log.2026" (at timestamptz, line text);
    CREATE TABLE app.days (day date, n int) PARTITION BY RANGE (day);
    CREATE TABLE app.days_2025 PARTITION OF app.days FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
    CREATE TABLE app.days_2026 PARTITION OF app.days FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
    CREATE TABLE audit.entries (id bigserial, what text);
    CREATE TABLE "Odd.Schema".t (x int);
    CREATE SEQUENCE app.invoice_number;
    INSERT INTO app.users (name) SELECT 'u' || n FROM generate_series(1, 10) n;
    INSERT INTO app.orders (user_id) SELECT n FROM generate_series(1, 10) n;
    INSERT INTO app."Log.2026" SELECT now(), 'line ' || n FROM generate_series(1, 50) n;
    INSERT INTO app.days SELECT '2025-06-01'::date + n * 10, n FROM generate_series(1, 40) n;
    INSERT INTO audit.entries (what) SELECT 'w' FROM generate_series(1, 30);
    INSERT INTO "Odd.Schema".t VALUES (1), (2);
    SELECT nextval('app.invoice_number');
    SELECT lo_from_bytea(99, 'abc');
"""
APP = {"users": 10, "orders": 10, "Log.2026": 50, "days_2025": 21, "days_2026": 19}
EVERYTHING = APP | {"entries": 30, "t": 2}


@pytest.fixture
def parts(postgres15: PostgresServer) -> Iterator[str]:
    with postgres15.database("parts") as conninfo:
        postgres15.execute(TABLES, "parts")
        yield conninfo


@pytest.mark.parametrize(
    ("chosen", "rows"),
    [
        pytest.param({"include_schemas": ["app"]}, APP, id="one-schema"),
        pytest.param(
            {"exclude_schemas": ["au*", '"Odd.Schema"'], "exclude_tables": ["app.days"]},
            {"users": 10, "orders": 10, "Log.2026": 50},
            id="without-schemas-and-a-partitioned-table",
        ),
        pytest.param(
            {"include_tables": ["app.users", 'app."Log.2026"', "app.days_2026", "audit.*"]},
            {"users": 10, "Log.2026": 50, "days_2026": 19, "entries": 30},
            id="tables",
        ),
        pytest.param(
            {"exclude_table_data": ['app."Log.2026"', "app.days", "audit.entries"]},
            {"users": 10, "orders": 10, "t": 2},
            id="without-the-rows-of-some",
        ),
    ],
)
def test_a_part_of_a_database_is_backed_up_and_verified(
    planned: Planned, parts: str, chosen: dict[str, list[str]], rows: dict[str, int]
) -> None:
    plan = planned(parts)
    plan.write(database=plan.settings["database"] | chosen)
    made = plan.back_up()
    assert plan.verify() == made
    (backup,) = plan.backups()
    record = backup.copies[0].verification
    assert record is not None
    assert {table.table: table.rows for table in plan.facts(made).tables} == rows
    assert (record.verdict, record.tables, record.rows) == (Verdict.VERIFIED, len(rows), sum(rows.values()))


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        pytest.param(
            {"include_schemas": ["ap"]}, "no schema of the database is called ap", id="no-such-schema"
        ),
        pytest.param(
            {"include_tables": ["app.user"]}, "no table of the database is called app.user", id="no-table"
        ),
        pytest.param(
            {"include_schemas": ["app"], "exclude_schemas": ["a*"]}, "it excludes again", id="nothing-left"
        ),
    ],
)
def test_a_selection_that_finds_nothing_is_an_error(
    planned: Planned, parts: str, chosen: dict[str, list[str]], said: str
) -> None:
    plan = planned(parts)
    plan.write(database=plan.settings["database"] | chosen)
    with pytest.raises(ConfigurationError, match=said):
        plan.back_up()
    assert plan.objects() == []
