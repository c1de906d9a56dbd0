"""What is read of a catalogue: just what a dump with the same selection holds, whoever reads it."""

from collections.abc import Iterator

import pytest
from psycopg.errors import UniqueViolation
from pydantic import SecretStr

from blocks.errors import ConnectionLost
from blocks.inventory import take_inventory
from blocks.objects import DatabaseObject, read_objects
from blocks.objects.scope import differences
from blocks.pgcommands import DumpSelection, pattern
from blocks.postgres import PostgresDatabase, Session
from blocks.selection import Selection
from tests.servers.every_feature import every_feature
from tests.servers.postgres import PostgresServer
from tests.servers.programs import run
from tests.servers.roles import ROLE_PASSWORD, create_limited_role, drop_role

# Two schemas that do not need each other, and what belongs to none.
TWO_SCHEMAS = """
    CREATE SCHEMA sales; CREATE SCHEMA stock;
    CREATE TYPE sales.state AS ENUM ('new', 'old');
    CREATE FUNCTION sales.noted() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
    CREATE TABLE sales.orders (id serial PRIMARY KEY, at int GENERATED ALWAYS AS IDENTITY, state sales.state);
    CREATE TABLE sales.lines (id serial PRIMARY KEY, words text);
    CREATE TABLE sales.days (day int) PARTITION BY RANGE (day);
    CREATE TABLE sales.day_1 PARTITION OF sales.days FOR VALUES FROM (0) TO (9);
    CREATE INDEX ON sales.days (day);
    CREATE TRIGGER noted BEFORE INSERT ON sales.lines FOR EACH ROW EXECUTE FUNCTION sales.noted();
    CREATE POLICY own ON sales.lines USING (true);
    CREATE RULE quiet AS ON DELETE TO sales.lines DO INSTEAD NOTHING;
    CREATE STATISTICS sales.guess ON id, words FROM sales.lines;
    CREATE SEQUENCE sales.numbers OWNED BY sales.lines.id;
    CREATE MATERIALIZED VIEW sales.states AS SELECT state FROM sales.orders;
    CREATE TABLE stock.items (id int PRIMARY KEY);
    CREATE VIEW stock.few AS SELECT * FROM stock.items LIMIT 3;
    CREATE FUNCTION stock.one() RETURNS int LANGUAGE sql AS 'SELECT 1';
    CREATE FUNCTION public.noticed() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN RETURN; END';
    CREATE EVENT TRIGGER noticed ON ddl_command_end EXECUTE FUNCTION public.noticed();
    CREATE EXTENSION btree_gin SCHEMA public;
    CREATE FOREIGN DATA WRAPPER nowhere; CREATE SERVER far FOREIGN DATA WRAPPER nowhere;
    CREATE USER MAPPING FOR PUBLIC SERVER far;
    CREATE PUBLICATION changes FOR TABLE sales.lines, stock.items;
    ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC;
    ALTER DEFAULT PRIVILEGES IN SCHEMA sales GRANT INSERT ON TABLES TO PUBLIC;
    ALTER DEFAULT PRIVILEGES IN SCHEMA stock GRANT INSERT ON TABLES TO PUBLIC;
    GRANT CREATE ON SCHEMA public TO PUBLIC;
"""
NOT_OF_A_DUMP = """
    CREATE EXTENSION hstore;
    CREATE TABLE of_an_extension (id int PRIMARY KEY, v int CHECK (v > 0));
    ALTER EXTENSION hstore ADD TABLE of_an_extension;
    CREATE TEMPORARY TABLE temporary (id serial);
    CREATE TEMPORARY VIEW passing AS SELECT 1 AS one;
    CREATE SUBSCRIPTION sub CONNECTION 'host=127.0.0.1 password=pw-of-sub' PUBLICATION p
        WITH (connect = false);
    CREATE TABLE twice AS SELECT n % 1 AS id FROM generate_series(1, 2) n;
"""


@pytest.fixture
def session(postgres: PostgresServer) -> Iterator[Session]:
    with postgres.database("shop") as conninfo, connected(conninfo) as session:
        yield session


def connected(conninfo: str) -> Session:
    return PostgresDatabase(conninfo=SecretStr(conninfo)).connect()


def names(objects: list[DatabaseObject]) -> set[str]:
    return {f"{item.kind} {'.'.join(item.name)}" for item in objects}


def only(objects: list[DatabaseObject], kind: str, *name: str) -> DatabaseObject:
    (found,) = (item for item in objects if (item.kind, item.name) == (kind, name))
    return found


@pytest.mark.parametrize(
    "selection",
    [
        pytest.param(Selection(), id="everything"),
        pytest.param(Selection(include_schemas=("sales",)), id="a-schema"),
        pytest.param(Selection(include_schemas=("public", "stock")), id="schemas-with-public"),
        pytest.param(Selection(exclude_schemas=("stock",)), id="not-a-schema"),
        pytest.param(Selection(exclude_tables=("sales.lines",)), id="not-a-table"),
        pytest.param(Selection(exclude_tables=("sales.orders", "sales.states")), id="not-a-view"),
        pytest.param(Selection(exclude_tables=("sales.day?",)), id="not-a-tree"),
        pytest.param(Selection(exclude_tables=("stock.few", "sales.numbers")), id="not-a-sequence"),
        pytest.param(Selection(include_tables=("sales.day_1", "stock.items")), id="tables"),
        pytest.param(
            Selection(include_schemas=("sales",), exclude_tables=("sales.lines",)),
            id="a-schema-without-a-table",
        ),
        pytest.param(Selection(exclude_table_data=("sales.states",)), id="not-a-view's-rows"),
    ],
)
def test_the_objects_of_a_selection_are_those_that_pg_dump_takes(
    postgres: PostgresServer, selection: Selection
) -> None:
    with postgres.database("source") as source, postgres.database("target") as target:
        postgres.execute(TWO_SCHEMAS, "source")
        with connected(source) as session:
            choice = take_inventory(session, selection).names
            expected = read_objects(session, choice)
        archive = run(postgres, "pg_dump", "--format=custom", *options(choice), f"--dbname={source}")
        # where public is asked for by name, it is created though it is there already
        may_fail = "public" in selection.include_schemas
        run(postgres, "pg_restore", f"--dbname={target}", stdin=archive, may_fail=may_fail)
        with connected(target) as session:
            found = read_objects(session)
    is_dumped = "schema public" in names(expected)
    assert [item for item in found if is_dumped or item.name != ("public",)] == expected


def options(choice: DumpSelection) -> list[str]:
    return [
        *(f"--schema={pattern(name)}" for name in choice.include_schemas),
        *(f"--exclude-schema={pattern(name)}" for name in choice.exclude_schemas),
        *(f"--exclude-table={pattern(*name)}" for name in choice.exclude_tables),
        *(f"--exclude-table-data={pattern(*name)}" for name in choice.exclude_table_data),
    ]


def test_what_no_dump_holds_is_left_out(session: Session) -> None:
    before = read_objects(session)
    session.execute("SET search_path = public")
    session.execute(NOT_OF_A_DUMP.encode())
    with pytest.raises(UniqueViolation):
        session.execute("CREATE UNIQUE INDEX CONCURRENTLY failed ON twice (id)")
    added = names(read_objects(session)) - names(before)
    session.execute("ALTER SUBSCRIPTION sub SET (slot_name = NONE); DROP SUBSCRIPTION sub")
    assert added == {"extension hstore", "table public.twice", "column public.twice.id"}


def test_an_empty_database_has_the_schema_public_alone(session: Session) -> None:
    assert names(read_objects(session)) == {"schema public"}


def test_a_role_without_power_reads_the_same_but_for_what_is_secret(postgres: PostgresServer) -> None:
    create_limited_role(postgres, "limited")
    with every_feature(postgres) as conninfo:
        limited = postgres.conninfo("every", user="limited", password=ROLE_PASSWORD)
        with connected(conninfo) as powerful, connected(limited) as session:
            everything, found = read_objects(powerful), read_objects(session)
    drop_role(postgres, "limited")
    mapping = ("elsewhere", "app_owner")
    assert only(everything, "user mapping", *mapping).properties == {"options": "password, user"}
    assert only(found, "user mapping", *mapping).properties == {}
    assert [item for item in found if item.kind != "user mapping"] == [
        item for item in everything if item.kind != "user mapping"
    ]


def test_of_a_user_mapping_only_the_names_of_its_options_are_read(session: Session) -> None:
    session.execute(
        "CREATE FOREIGN DATA WRAPPER nowhere; CREATE SERVER far FOREIGN DATA WRAPPER nowhere;"
        "CREATE USER MAPPING FOR PUBLIC SERVER far OPTIONS (word 'hush=hush', account 'a')"
    )
    mapping = only(read_objects(session), "user mapping", "far", "public")
    assert mapping.properties == {"options": "account, word"}


def test_names_are_qualified_whatever_the_search_path_and_the_transaction_is_as_before(
    session: Session,
) -> None:
    session.execute("CREATE TABLE public.a (id int); CREATE VIEW public.b AS SELECT id FROM public.a")
    session.execute("SET search_path = public; BEGIN")
    view = only(read_objects(session), "view", "public", "b")
    (path,) = session.execute("SHOW search_path").fetchone() or ("",)
    kept = session.execute(
        "SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND relation >= 16384"
    ).fetchall()
    assert "FROM public.a" in view.properties["definition"]
    assert (path, kept) == ("public", [(0,)])


def test_a_session_that_is_closed_is_a_lost_connection(session: Session) -> None:
    session.close()
    with pytest.raises(ConnectionLost, match="while reading the catalogue"):
        read_objects(session)


def test_objects_tell_their_owner_and_properties_only_where_they_are_not_the_default(
    session: Session,
) -> None:
    session.execute(
        "CREATE TABLE public.a (id int, b text NOT NULL DEFAULT 'x'); COMMENT ON COLUMN public.a.b IS 'c'"
    )
    objects = read_objects(session)
    assert only(objects, "table", "public", "a") == DatabaseObject("table", ("public", "a"), "admin", {}, {})
    assert only(objects, "column", "public", "a", "id") == DatabaseObject(
        "column", ("public", "a", "id"), None, {}, {"type": "integer"}
    )
    assert only(objects, "column", "public", "a", "b").properties == {
        "type": "text",
        "not null": "yes",
        "default": "'x'::text",
        "comment": "c",
    }


def test_grants_tell_what_differs_from_the_default_rights(session: Session) -> None:
    session.execute(
        "CREATE ROLE reader; CREATE FUNCTION public.f() RETURNS int LANGUAGE sql RETURN 1;"
        "CREATE TABLE public.a (id int); CREATE TABLE public.b (id int);"
        "REVOKE EXECUTE ON FUNCTION public.f() FROM PUBLIC; GRANT SELECT, INSERT ON public.a TO reader;"
        "GRANT INSERT ON public.a TO reader WITH GRANT OPTION; REVOKE DELETE ON public.a FROM admin;"
        "GRANT ALL ON public.b TO reader; REVOKE ALL ON public.b FROM reader;"
    )
    objects = read_objects(session)
    session.execute("DROP OWNED BY reader; DROP ROLE reader")
    assert only(objects, "function", "public", "f", "").grants == {"": ("-EXECUTE",)}
    assert only(objects, "table", "public", "a").grants == {
        "admin": ("-DELETE",),
        "reader": ("INSERT with grant option", "SELECT"),
    }
    assert only(objects, "table", "public", "b").grants == {}


@pytest.mark.parametrize(
    ("granted", "by_default", "expected"),
    [
        pytest.param([(1, "SELECT", False)], [(1, "SELECT", False)], {}, id="the-default"),
        pytest.param([(1, "SELECT", True)], [(1, "SELECT", False)], {}, id="the-owner-may-grant-anyway"),
        pytest.param([], [(0, "USAGE", False)], {0: ("-USAGE",)}, id="taken-from-public"),
        pytest.param(
            [(2, "SELECT", False), (2, "SELECT", True)],
            [],
            {2: ("SELECT with grant option",)},
            id="granted-twice",
        ),
    ],
)
def test_rights_are_told_as_a_difference(
    granted: list[tuple[int, str, bool]],
    by_default: list[tuple[int, str, bool]],
    expected: dict[int, tuple[str, ...]],
) -> None:
    assert differences(granted, by_default, owner=1) == expected
