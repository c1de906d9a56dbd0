"""Databases, schemas and tables with names that break careless programs, and databases of odd shapes."""

from collections.abc import Callable
from pathlib import Path

import pytest
from psycopg import sql

from flows.core.verification import Verdict
from tests.servers.contents import contents
from tests.servers.plan import PlanOnDisk
from tests.servers.postgres import PostgresServer

Planned = Callable[..., PlanOnDisk]

LONGEST = 63
NAMES = (
    "with.dots",
    'say "hi"',
    "it's",
    "-rf --help",
    "a,b;c",
    "back\\slash",
    "Ünïcode ñ 漢字",
    "line\nbreak",
    "tab\tand\rreturn",
    "UPPER",
    "select",
    "*",
    "?",
    "$1",
    "%s %(x)s",
    "public.t",
    "é" * (LONGEST // 2) + "x",
)
LARGE_OBJECTS = """
    SELECT lo_from_bytea(1, ''), lo_from_bytea(2, decode(repeat('00ff', 300000), 'hex'));
    SELECT lo_create(n) FROM generate_series(100, 150) n;
    CREATE TABLE pictures (id int PRIMARY KEY, picture oid);
    INSERT INTO pictures VALUES (1, 1), (2, 2);
"""
WITHOUT_COLUMNS = """
    CREATE TABLE nothing ();
    INSERT INTO nothing DEFAULT VALUES; INSERT INTO nothing DEFAULT VALUES;
    INSERT INTO nothing DEFAULT VALUES;
    CREATE TABLE never ();
    CREATE TABLE dropped (a int);
    INSERT INTO dropped SELECT generate_series(1, 7);
    ALTER TABLE dropped DROP a;
"""


def odd_relations(server: PostgresServer, dbname: str) -> None:
    """Create a schema of each odd name, and in it a table, a column, an index and a sequence of it."""
    with server.connect(dbname) as session:
        for number, name in enumerate(NAMES, start=1):
            odd, schema = sql.Identifier(name), sql.Identifier(name + "s" if len(name) < 20 else name)
            session.execute(sql.SQL("CREATE SCHEMA {}").format(schema))
            table = sql.Identifier(schema.as_string()[1:-1].replace('""', '"'), name)
            session.execute(sql.SQL("CREATE TABLE {} ({} serial, t text)").format(table, odd))
            session.execute(
                sql.SQL("INSERT INTO {} (t) SELECT n FROM generate_series(1, {}) n").format(table, number)
            )
            session.execute(sql.SQL("CREATE INDEX {} ON {} ({})").format(odd_index(name), table, odd))
    return


def odd_index(name: str) -> sql.Identifier:
    return sql.Identifier("i" + name[: LONGEST // 2 - 1])


@pytest.mark.parametrize(
    "dbname",
    [
        pytest.param("a=b", id="equals-sign"),
        pytest.param("postgresql://x:y@z/w?v", id="looks-like-a-url"),
        pytest.param(" 'quotes' \"and\" \\ spaces ", id="quotes-and-spaces"),
        pytest.param("Ünïcode ab" + "漢" * 17, id="longest-unicode"),
        pytest.param("-d\nline", id="option-and-line-break"),
    ],
)
def test_a_database_of_any_name_is_backed_up_verified_and_restored(
    planned: Planned, postgres15: PostgresServer, dbname: str
) -> None:
    with postgres15.database(dbname) as conninfo:
        postgres15.execute("CREATE TABLE t AS SELECT generate_series(1, 5) AS n", dbname)
        postgres15.execute("SELECT set_config('x.y', 'z', false)", dbname)
        plan = planned(conninfo)
        _verified_and_restored(plan, postgres15, dbname, tables=1, rows=5)


def test_schemas_tables_and_columns_of_any_name_come_back(
    planned: Planned, postgres15: PostgresServer
) -> None:
    with postgres15.database("odd") as conninfo:
        odd_relations(postgres15, "odd")
        rows = sum(range(1, len(NAMES) + 1))
        _verified_and_restored(planned(conninfo), postgres15, "odd", tables=len(NAMES), rows=rows)


@pytest.mark.parametrize(
    ("statements", "tables", "rows"),
    [
        pytest.param("", 0, 0, id="an-empty-database"),
        pytest.param("DROP SCHEMA public", 0, 0, id="not-even-a-schema"),
        pytest.param(WITHOUT_COLUMNS, 3, 10, id="tables-without-columns"),
        pytest.param(LARGE_OBJECTS, 1, 2, id="large-objects"),
    ],
)
def test_a_database_of_any_shape_comes_back(
    planned: Planned, postgres17: PostgresServer, statements: str, tables: int, rows: int
) -> None:
    with postgres17.database("shape") as conninfo:
        if statements:
            postgres17.execute(statements, "shape")
        _verified_and_restored(planned(conninfo), postgres17, "shape", tables=tables, rows=rows)


def _verified_and_restored(
    plan: PlanOnDisk, server: PostgresServer, dbname: str, *, tables: int, rows: int
) -> None:
    made = plan.back_up()
    assert plan.verify() == made
    (backup,) = plan.backups()
    record = backup.copies[0].verification
    assert record is not None
    assert (record.verdict, record.tables, record.rows) == (Verdict.VERIFIED, tables, rows)
    target = f"2 {dbname[:18]}"
    with server.database(target, LC_COLLATE="C.UTF-8"):
        url = Path(plan.directory / "target-url")
        url.write_text(server.conninfo(target))
        assert plan.restore(f"file:{url}") == made
        assert contents(server, target) == contents(server, dbname)
