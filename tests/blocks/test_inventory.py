"""What is found in a database and counted, on real servers and after a real restore."""

import re
from collections.abc import Iterator
from dataclasses import replace

import pytest
from pydantic import SecretStr

from blocks.counting import RowCount, count_rows
from blocks.errors import ConnectionLost, TablesChanged
from blocks.inventory import (
    SequenceState,
    read_sequences,
    restored_inventory,
    restored_row_counts,
    take_inventory,
)
from blocks.pgcommands import Connection, dump
from blocks.postgres import PostgresDatabase, Session
from blocks.process import Command, run_checked
from blocks.selection import Selection
from tests.servers.postgres import PostgresServer

TABLES = """
    CREATE TABLE plain AS SELECT generate_series(1, 3) AS id;
    CREATE TABLE child () INHERITS (plain);
    INSERT INTO child SELECT generate_series(1, 5);
    CREATE UNLOGGED TABLE unlogged AS SELECT 1 AS id;
    CREATE TEMPORARY TABLE temporary AS SELECT 1 AS id;
    CREATE TABLE of_an_extension AS SELECT 1 AS id;
    ALTER EXTENSION plpgsql ADD TABLE of_an_extension;
    CREATE VIEW a_view AS SELECT 1 AS id;
    CREATE MATERIALIZED VIEW materialized AS SELECT 1 AS id;
    CREATE FOREIGN DATA WRAPPER nowhere;
    CREATE SERVER far FOREIGN DATA WRAPPER nowhere;
    CREATE FOREIGN TABLE foreigner (id int) SERVER far;
    CREATE TABLE ranges (id int) PARTITION BY RANGE (id);
    CREATE TABLE ranges_1 PARTITION OF ranges FOR VALUES FROM (0) TO (10);
    INSERT INTO ranges SELECT generate_series(1, 2);
"""
HASHED_BY_ENUM = """
    CREATE TYPE colour AS ENUM ('red', 'green', 'blue', 'black', 'white', 'grey', 'pink', 'violet');
    CREATE TABLE paints (year int, colour colour) PARTITION BY LIST (year);
    CREATE TABLE paints_of_2024 PARTITION OF paints FOR VALUES IN (2024);
    CREATE TABLE paints_of_2025 PARTITION OF paints FOR VALUES IN (2025) PARTITION BY HASH (colour);
    CREATE TABLE paints_a PARTITION OF paints_of_2025 FOR VALUES WITH (MODULUS 2, REMAINDER 0);
    CREATE TABLE paints_b PARTITION OF paints_of_2025 FOR VALUES WITH (MODULUS 2, REMAINDER 1);
    INSERT INTO paints
    SELECT year, colour
    FROM generate_series(2024, 2025) AS year,
         unnest(enum_range(NULL::colour)) WITH ORDINALITY AS colours (colour, nth),
         generate_series(1, 1 << nth::int);
"""

CONFIGURED = """
    CREATE SCHEMA app;
    CREATE TABLE app.orders AS SELECT 1 AS id;
    CREATE EXTENSION hstore SCHEMA app;
    CREATE TABLE app.rules (id serial, name text, is_ours bool DEFAULT true);
    CREATE TABLE app.jobs (id int); CREATE TABLE app.cache AS SELECT 1 AS id;
    ALTER EXTENSION hstore ADD TABLE app.rules; ALTER EXTENSION hstore ADD SEQUENCE app.rules_id_seq;
    ALTER EXTENSION hstore ADD TABLE app.jobs; ALTER EXTENSION hstore ADD TABLE app.cache;
    UPDATE pg_extension
    SET extconfig = ARRAY['app.rules', 'app.jobs', 'app.rules_id_seq']::regclass[]::oid[],
        extcondition = ARRAY['WHERE NOT (is_ours)', 'WHERE ''%s {}'' <> ''"'' ORDER BY id LIMIT 2', '']
    WHERE extname = 'hstore';
    INSERT INTO app.rules (name) VALUES ('came with it');
"""


@pytest.fixture
def session(postgres: PostgresServer) -> Iterator[Session]:
    with (
        postgres.database("shop") as conninfo,
        PostgresDatabase(conninfo=SecretStr(conninfo)).connect() as session,
    ):
        session.execute("SET search_path = public")
        yield session


def test_tables_with_rows_of_their_own_are_counted_each_by_itself(session: Session) -> None:
    session.execute(TABLES.encode())
    assert count_rows(session, take_inventory(session).tables) == [
        RowCount("public", "child", 5),
        RowCount("public", "plain", 3),
        RowCount("public", "ranges_1", 2),
        RowCount("public", "unlogged", 1),
    ]


def test_partitioned_tables_are_dumped_and_locked_though_they_have_no_rows(session: Session) -> None:
    session.execute(TABLES.encode())
    tables = {table.name: table for table in take_inventory(session).tables}
    assert set(tables) == {"child", "plain", "ranges", "ranges_1", "unlogged"}
    assert (tables["ranges"].kind, tables["ranges"].has_rows) == ("p", False)


def test_a_tree_that_is_hashed_by_an_enum_is_counted_under_its_root(session: Session) -> None:
    session.execute(HASHED_BY_ENUM.encode())
    assert count_rows(session, take_inventory(session).tables) == [
        RowCount("public", "paints_of_2024", 510),
        RowCount("public", "paints_of_2025", 510),
    ]


def test_a_restored_database_counts_the_same_though_leaves_swapped_rows(postgres: PostgresServer) -> None:
    with postgres.database("source") as source, postgres.database("target") as target:
        postgres.execute(TABLES + HASHED_BY_ENUM, "source")
        archive = _program(postgres, "pg_dump", "--format=custom", source)
        postgres.execute("CREATE TYPE between AS ENUM ('other', 'oids')", "target")
        _program(postgres, "pg_restore", "--dbname", target, stdin=archive)
        with _connect(source) as before, _connect(target) as after:
            expected = count_rows(before, take_inventory(before).tables)
            assert restored_row_counts(after) == expected


def test_fingerprints_of_a_tree_that_is_hashed_by_an_enum_add_up(postgres: PostgresServer) -> None:
    """Leaves are hashed by OIDs, which are others after a restore."""
    with postgres.database("source") as source, postgres.database("target") as target:
        postgres.execute(HASHED_BY_ENUM, "source")
        postgres.execute("CREATE TYPE between AS ENUM ('other', 'oids')", "target")
        postgres.execute(HASHED_BY_ENUM, "target")
        with _connect(source) as one, _connect(target) as another:
            first = count_rows(one, take_inventory(one).tables, content=True)
            assert count_rows(another, take_inventory(another).tables, content=True) == first
            another.execute("UPDATE public.paints SET colour = 'red' WHERE year = 2025 AND colour = 'blue'")
            second = count_rows(another, take_inventory(another).tables, content=True)
    assert [(count.table, count.rows) for count in second] == [(count.table, count.rows) for count in first]
    assert [now.content == before.content for now, before in zip(second, first, strict=True)] == [True, False]


def test_of_an_extensions_tables_those_rows_count_that_it_declares_to_be_configuration(
    session: Session,
) -> None:
    session.execute(CONFIGURED.encode())
    session.execute("INSERT INTO app.rules (name, is_ours) VALUES ('a', false), ('b', false)")
    session.execute("INSERT INTO app.jobs VALUES (1), (2), (3)")
    inventory = take_inventory(session)
    assert count_rows(session, inventory.tables) == [
        RowCount("app", "jobs", 2),
        RowCount("app", "orders", 1),
        RowCount("app", "rules", 2),
    ]
    assert [one.name for one in inventory.sequences] == ["rules_id_seq"]
    before = count_rows(session, inventory.tables, content=True)
    session.execute("UPDATE app.rules SET name = 'other' WHERE is_ours; INSERT INTO app.jobs VALUES (4)")
    assert count_rows(session, inventory.tables, content=True) == before
    session.execute("UPDATE app.rules SET name = 'other' WHERE NOT is_ours")
    assert count_rows(session, inventory.tables, content=True) != before


@pytest.mark.parametrize(
    ("selection", "tables", "sequences"),
    [
        pytest.param(Selection(), ["jobs", "orders", "rules"], ["rules_id_seq"], id="everything"),
        pytest.param(Selection(include_schemas=("app",)), ["orders"], [], id="schemas-and-no-extension"),
        pytest.param(Selection(exclude_schemas=("app",)), [], [], id="not-its-schema"),
        pytest.param(Selection(include_tables=("app.orders",)), ["orders"], [], id="one-table"),
        pytest.param(Selection(include_tables=("app.jobs",)), ["jobs"], [], id="its-table"),
        pytest.param(Selection(exclude_tables=("app.rules*",)), ["jobs", "orders"], [], id="not-its-table"),
        pytest.param(
            Selection(exclude_table_data=("app.jobs",)), ["orders", "rules"], ["rules_id_seq"], id="no-rows"
        ),
    ],
)
def test_pg_dump_dumps_of_an_extension_what_is_counted(
    postgres: PostgresServer, session: Session, selection: Selection, tables: list[str], sequences: list[str]
) -> None:
    session.execute(CONFIGURED.encode())
    inventory = take_inventory(session, selection)
    assert [count.table for count in count_rows(session, inventory.tables)] == tables
    assert [one.name for one in inventory.sequences] == sequences
    command = dump(
        postgres.programs / "pg_dump",
        Connection(postgres.conninfo("shop")),
        snapshot="",
        lock_wait_seconds=1,
        selection=inventory.names,
    )
    archive = run_checked(replace(command, argv=tuple(x for x in command.argv if x != "--snapshot=")))
    listing = _program(postgres, "pg_restore", "--list", stdin=archive).decode()
    assert sorted(re.findall(r" TABLE DATA app (\w+)", listing)) == tables
    assert re.findall(r" SEQUENCE SET app (\w+)", listing) == sequences


def test_a_restored_database_counts_an_extensions_tables_if_the_facts_name_them(session: Session) -> None:
    session.execute(CONFIGURED.encode())
    assert [count.table for count in restored_row_counts(session)] == ["jobs", "orders", "rules"]
    assert [count.table for count in restored_row_counts(session, known=[("app", "jobs")])] == [
        "jobs",
        "orders",
    ]
    assert restored_inventory(session, [("app", "orders")]).sequences == ()


def test_a_table_without_rows_in_the_dump_is_listed_and_not_counted(session: Session) -> None:
    session.execute(TABLES.encode())
    tables = take_inventory(session, Selection(exclude_table_data=("public.plain", "public.ranges"))).tables
    assert [count.table for count in count_rows(session, tables)] == ["child", "unlogged"]
    assert {table.name for table in tables} >= {"plain", "ranges", "ranges_1"}


def test_an_empty_database_has_nothing(session: Session) -> None:
    inventory = take_inventory(session)
    assert (inventory.tables, inventory.sequences) == ((), ())
    assert count_rows(session, inventory.tables) == []


def test_large_tables_end_their_batch_so_that_progress_is_seen(session: Session) -> None:
    session.execute("CREATE TABLE a (); CREATE TABLE b (); CREATE TABLE c ()")
    session.execute("UPDATE pg_class SET relpages = 1 << 20 WHERE relname = 'a'")
    progress: list[int] = []
    count_rows(session, take_inventory(session).tables, lambda done, _: progress.append(done))
    assert progress == [0, 1, 3]


def test_what_progress_raises_ends_the_counting(session: Session) -> None:
    def stop(done: int, _: int) -> None:
        if done:
            raise ZeroDivisionError

    session.execute("CREATE TABLE a ()")
    with pytest.raises(ZeroDivisionError):
        count_rows(session, take_inventory(session).tables, stop)


def test_a_table_that_is_gone_by_now_is_a_passing_error(session: Session) -> None:
    session.execute("CREATE TABLE a ()")
    tables = take_inventory(session).tables
    session.execute("DROP TABLE a")
    with pytest.raises(TablesChanged, match=r'counting rows: relation "public\.a" does not exist') as caught:
        count_rows(session, tables)
    assert caught.value.transient
    assert caught.value.__cause__ is None  # psycopg's error may hold row values
    assert caught.value.__suppress_context__


def test_a_session_that_is_closed_is_a_lost_connection(session: Session) -> None:
    session.close()
    with pytest.raises(ConnectionLost, match="while listing the tables"):
        take_inventory(session)


def test_sequences_are_read_with_their_direction(session: Session) -> None:
    session.execute(
        "CREATE TABLE t (a serial, b int GENERATED ALWAYS AS IDENTITY); INSERT INTO t DEFAULT VALUES;"
        "CREATE SEQUENCE down INCREMENT -2 CYCLE START -1; SELECT nextval('down'), nextval('down');"
        "CREATE SEQUENCE never START 7;"
        "CREATE TEMPORARY SEQUENCE temporary; CREATE SEQUENCE of_an_extension;"
        "ALTER EXTENSION plpgsql ADD SEQUENCE of_an_extension"
    )
    assert read_sequences(session, take_inventory(session).sequences) == [
        SequenceState("public", "down", -3, True, -2, True),
        SequenceState("public", "never", 7, False, 1, False),
        SequenceState("public", "t_a_seq", 1, True, 1, False),
        SequenceState("public", "t_b_seq", 1, True, 1, False),
    ]


def test_a_sequence_belongs_to_the_dump_as_its_table_does(session: Session) -> None:
    session.execute("CREATE TABLE t (a serial, b int GENERATED ALWAYS AS IDENTITY); CREATE SEQUENCE alone")

    def names(selection: Selection) -> list[str]:
        return [sequence.name for sequence in take_inventory(session, selection).sequences]

    assert names(Selection()) == ["alone", "t_a_seq", "t_b_seq"]
    assert names(Selection(include_tables=("public.t",))) == ["t_a_seq", "t_b_seq"]
    assert names(Selection(exclude_tables=("public.t",))) == ["alone", "t_a_seq"]


def test_a_sequence_that_may_not_be_read_has_no_value(session: Session) -> None:
    session.execute("CREATE SEQUENCE secret; SELECT nextval('secret'); CREATE ROLE reader")
    session.execute("SET ROLE reader")
    state = read_sequences(session, take_inventory(session).sequences)
    session.execute("RESET ROLE; DROP ROLE reader")
    assert state == [SequenceState("public", "secret", None, False, 1, False)]


def test_thousands_of_sequences_take_no_lasting_lock(session: Session) -> None:
    session.execute(
        "BEGIN; DO 'BEGIN FOR n IN 1..250 LOOP EXECUTE ''CREATE SEQUENCE s'' || n; END LOOP; END'; COMMIT"
    )
    session.execute("BEGIN")
    states = read_sequences(session, take_inventory(session).sequences)
    kept = session.execute("SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND relation >= 16384")
    assert kept.fetchall() == [(0,)]
    assert len(states) == 250


def _connect(conninfo: str) -> Session:
    return PostgresDatabase(conninfo=SecretStr(conninfo)).connect()


def _program(server: PostgresServer, name: str, *arguments: str, stdin: bytes = b"") -> bytes:
    return run_checked(Command((str(server.programs / name), *arguments)), stdin=stdin)
