"""What a role lacks for a backup, and that the remedy that is printed mends it, on real servers."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from psycopg.conninfo import make_conninfo
from pydantic import SecretStr

from blocks.postgres import PostgresDatabase
from blocks.rights import RightProblem, check_rights, lock_problems
from blocks.selection import Selection
from tests.servers.postgres import PostgresServer
from tests.servers.roles import ROLE_PASSWORD, create_limited_role, drop_role

ROLE = 'Odd "role"'


@pytest.fixture
def shop(postgres: PostgresServer) -> Iterator[PostgresDatabase]:
    """An empty database as a limited role sees it."""
    create_limited_role(postgres, ROLE)
    with postgres.database("shop") as conninfo:
        yield PostgresDatabase(conninfo=SecretStr(make_conninfo(conninfo, user=ROLE, password=ROLE_PASSWORD)))
    drop_role(postgres, ROLE)


def _problems(database: PostgresDatabase, selection: Selection | None = None) -> list[RightProblem]:
    with database.connect() as session:
        return check_rights(session, selection or Selection(), now=datetime.now(UTC))


def _errors(database: PostgresDatabase, selection: Selection | None = None) -> list[RightProblem]:
    return [problem for problem in _problems(database, selection) if problem.severity == "error"]


MISSING = [
    pytest.param(
        'CREATE SCHEMA "My.Schema"; CREATE TABLE "My.Schema".t (); GRANT SELECT ON "My.Schema".t TO PUBLIC',
        ["may not use the schema My.Schema"],
        id="schema",
    ),
    pytest.param(
        'CREATE TABLE "Odd.Name" (); CREATE TABLE "order" (); CREATE TABLE p (a int) PARTITION BY LIST (a)',
        ['may not read public."Odd.Name", public.order, public.p'],
        id="tables",
    ),
    pytest.param(
        "DO 'BEGIN FOR n IN 100..125 LOOP EXECUTE ''CREATE TABLE t'' || n || '' ()''; END LOOP; END'",
        ["may not read public.t100, public.t101, public.t102, public.t103, public.t104 and 21 more"],
        id="many-tables",
    ),
    pytest.param("CREATE SEQUENCE s", ["may not read public.s"], id="sequence"),
    pytest.param(
        "CREATE TABLE t (id serial); CREATE SCHEMA a; GRANT USAGE ON SCHEMA a TO PUBLIC; CREATE TABLE a.t ()",
        ["may not read a.t", "may not read public.t", "may not read public.t_id_seq"],
        id="one-finding-a-schema-and-kind",
    ),
    pytest.param(
        "CREATE TABLE t (); GRANT SELECT ON t TO PUBLIC; ALTER TABLE t ENABLE ROW LEVEL SECURITY",
        ["row-level security hides rows of public.t"],
        id="row-security",
    ),
    pytest.param(
        "CREATE TABLE t (); GRANT SELECT ON t TO PUBLIC; ALTER TABLE t OWNER TO {role};"
        "ALTER TABLE t ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
        ["row-level security hides rows of public.t"],
        id="forced-row-security",
    ),
    pytest.param("SELECT lo_create(1)", ["may not read the large objects 1"], id="large-object"),
    pytest.param(
        "SELECT lo_create(n) FROM generate_series(5001, 5030) n",
        ["may not read the large objects 5001, 5002, 5003, 5004, 5005 and 25 more"],
        id="large-objects",
    ),
]


@pytest.mark.parametrize(("statements", "messages"), MISSING)
def test_what_is_missing_is_told_and_its_remedy_mends_it(
    postgres: PostgresServer, shop: PostgresDatabase, statements: str, messages: list[str]
) -> None:
    postgres.execute(statements.replace("{role}", '"Odd ""role"""'), "shop")
    errors = _errors(shop)
    assert [
        error.message.replace(f"the role {ROLE} ", "").replace(f" from the role {ROLE}", "")
        for error in errors
    ] == messages
    for error in errors:
        postgres.execute(error.remedy.split(" or")[0], "shop")
    assert _errors(shop) == []


@pytest.mark.parametrize(
    "statements",
    [
        pytest.param("CREATE TABLE t (id serial); GRANT SELECT ON t, t_id_seq TO PUBLIC", id="granted"),
        pytest.param(
            "CREATE TABLE t (); CREATE SEQUENCE s; GRANT pg_read_all_data TO {role}", id="read-all-data"
        ),
        pytest.param(
            "CREATE TABLE t (); ALTER TABLE t ENABLE ROW LEVEL SECURITY, OWNER TO {role}", id="owner"
        ),
        pytest.param("SELECT lo_create(1); GRANT SELECT ON LARGE OBJECT 1 TO PUBLIC", id="large-object"),
        pytest.param("SELECT lo_create(1); ALTER LARGE OBJECT 1 OWNER TO {role}", id="own-large-object"),
        pytest.param(
            "SELECT lo_create(1); ALTER DATABASE shop SET lo_compat_privileges = on", id="compatible"
        ),
        pytest.param("CREATE TABLE t (); ALTER EXTENSION plpgsql ADD TABLE t", id="of-an-extension"),
    ],
)
def test_what_may_be_read_is_no_finding(
    postgres: PostgresServer, shop: PostgresDatabase, statements: str
) -> None:
    postgres.execute(statements.replace("{role}", '"Odd ""role"""'), "shop")
    assert _errors(shop) == []


def test_tables_of_the_future_are_thought_of(postgres: PostgresServer, shop: PostgresDatabase) -> None:
    postgres.execute("CREATE TABLE t ()", "shop")
    (problem,) = _errors(shop)
    assert problem.remedy == (
        'GRANT SELECT ON TABLE "public"."t" TO "Odd ""role""";'
        ' or, for tables to come as well: GRANT pg_read_all_data TO "Odd ""role""";'
    )


def test_row_security_offers_membership_in_the_owner_where_that_helps(
    postgres: PostgresServer, shop: PostgresDatabase
) -> None:
    postgres.execute(
        "CREATE TABLE t (); GRANT SELECT ON t TO PUBLIC; ALTER TABLE t ENABLE ROW LEVEL SECURITY", "shop"
    )
    (problem,) = _errors(shop)
    assert problem.remedy == 'ALTER ROLE "Odd ""role""" BYPASSRLS; or GRANT "admin" TO "Odd ""role""";'


def test_what_the_dump_leaves_out_needs_no_right(postgres: PostgresServer, shop: PostgresDatabase) -> None:
    postgres.execute("CREATE TABLE t (); CREATE SCHEMA b; SELECT lo_create(1)", "shop")
    assert _errors(shop, Selection(include_schemas=("b",))) == []
    assert len(_errors(shop, Selection(exclude_tables=("public.t",)))) == 1


def test_passwords_that_may_not_be_read_are_a_warning(shop: PostgresDatabase) -> None:
    (warning,) = _problems(shop)
    assert warning.severity == "warning"
    assert "passwords may not be read" in warning.message
    assert "pg_authid" in warning.remedy


def test_a_superuser_lacks_nothing(postgres: PostgresServer) -> None:
    with postgres.database("shop") as conninfo:
        postgres.execute(
            "CREATE TABLE t (); ALTER TABLE t ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY", "shop"
        )
        assert _problems(PostgresDatabase(conninfo=SecretStr(conninfo))) == []


def test_a_subscription_that_the_dump_will_not_hold_is_a_warning(
    postgres: PostgresServer, shop: PostgresDatabase
) -> None:
    postgres.execute(
        "CREATE SUBSCRIPTION s CONNECTION 'host=nowhere' PUBLICATION p WITH (connect = false)", "shop"
    )
    messages = [problem.message for problem in _problems(shop)]
    postgres.execute("ALTER SUBSCRIPTION s SET (slot_name = NONE)", "shop")
    postgres.execute("DROP SUBSCRIPTION s", "shop")
    assert (
        "the database has subscriptions, which only a superuser can dump: the backup will not hold them"
        in messages
    )


@pytest.mark.parametrize(
    ("minutes", "severity"),
    [
        pytest.param(-6, ["error"], id="behind"),
        pytest.param(4, [], id="near"),
        pytest.param(6, ["error"], id="ahead"),
    ],
)
def test_clocks_may_differ_by_five_minutes(
    postgres: PostgresServer, minutes: int, severity: list[str]
) -> None:
    with PostgresDatabase(conninfo=SecretStr(postgres.conninfo())).connect() as session:
        problems = check_rights(session, Selection(), now=datetime.now(UTC) + timedelta(minutes=minutes))
    assert [problem.severity for problem in problems] == severity


@pytest.mark.parametrize(
    ("tables", "sequences", "sessions", "severity"),
    [
        pytest.param(5_000, 0, 2, [], id="five-thousand-tables"),
        pytest.param(5_200, 0, 2, ["warning"], id="close"),
        pytest.param(5_000, 5_000, 2, ["error"], id="sequences-count-too"),
        pytest.param(12_000, 0, 2, ["error"], id="twelve-thousand-tables"),
        pytest.param(3_000, 0, 5, ["error"], id="more-sessions"),
    ],
)
def test_the_servers_default_lock_table_has_room_for(
    tables: int, sequences: int, sessions: int, severity: list[str]
) -> None:
    problems = lock_problems(tables, sequences, sessions, max_locks=64, transactions=100)
    assert [problem.severity for problem in problems] == severity


def test_the_number_of_locks_that_is_advised_is_enough() -> None:
    (problem,) = lock_problems(12_000, 0, 2, max_locks=64, transactions=100)
    assert "SET max_locks_per_transaction = 150;" in problem.remedy
    assert lock_problems(12_000, 0, 2, max_locks=150, transactions=100) == []


def test_a_server_with_too_small_a_lock_table_is_found(postgres15: PostgresServer) -> None:
    with PostgresDatabase(conninfo=SecretStr(postgres15.conninfo())).connect() as session:
        session.execute("CREATE TABLE public.t ()")
        try:
            problems = check_rights(session, Selection(), now=datetime.now(UTC), sessions=20_000)
        finally:
            session.execute("DROP TABLE public.t")
    assert [problem.message for problem in problems] == [
        "1 tables and 0 sequences take 20000 locks, the server has room for 13056"
    ]


def test_errors_come_before_warnings(postgres: PostgresServer, shop: PostgresDatabase) -> None:
    postgres.execute("CREATE TABLE t ()", "shop")
    assert [problem.severity for problem in _problems(shop)] == ["error", "warning"]
