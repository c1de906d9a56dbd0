"""A catalogue that was dumped and restored: only what was changed since is a difference."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from psycopg import sql
from pydantic import SecretStr

from blocks.objects import read_objects
from blocks.postgres import PostgresDatabase, Session
from flows.core.facts import CatalogObject
from flows.core.findings import Finding
from flows.core.object_comparison import compare_objects
from tests.servers.every_feature import DATABASE, ROLES, every_feature
from tests.servers.odd_definitions import OF_SUPERUSERS
from tests.servers.odd_expressions import ODD_EXPRESSIONS
from tests.servers.postgres import PostgresServer, programs, start_postgres
from tests.servers.programs import run

RESTORED = "every_restored"
MAJORS = (14, 15, 16, 17, 18)
# The wheels have no ICU.
WITHOUT_ICU = "DROP TABLE IF EXISTS app.german; DROP COLLATION IF EXISTS app.by_icu"

CHANGES = {
    "table": ("DROP TABLE app.no_columns", ["OBJECT_MISSING table app.no_columns"]),
    "table-with-all-on-it": (
        "DROP TABLE app.orders CASCADE",
        [
            "OBJECT_MISSING function app.all_orders()",
            "OBJECT_MISSING materialized view private.of_totals",
            "OBJECT_MISSING materialized view public.totals",
            "OBJECT_MISSING publication table app.orders of few",
            "OBJECT_MISSING table app.orders",
            "OBJECT_MISSING view app.called",
            "OBJECT_MISSING view app.joined",
            "OBJECT_MISSING function app.of_call(app.called)",
        ],
    ),
    "domain-default": ("ALTER DOMAIN app.code SET DEFAULT 'ac'", ["DEFINITION_DIFFERS domain app.code"]),
    "domain-not-null": ("ALTER DOMAIN app.short DROP NOT NULL", ["DEFINITION_DIFFERS domain app.short"]),
    "storage": (
        "ALTER TABLE app.written ALTER big SET STORAGE MAIN",
        ["DEFINITION_DIFFERS column app.written.big"],
    ),
    "compression": (
        "ALTER TABLE app.written ALTER small SET COMPRESSION default",
        ["DEFINITION_DIFFERS column app.written.small"],
    ),
    "statistics-target": (
        "ALTER TABLE app.written ALTER kind SET STATISTICS -1",
        ["DEFINITION_DIFFERS column app.written.kind"],
    ),
    "column-option": (
        "ALTER TABLE app.written ALTER amount RESET (n_distinct)",
        ["DEFINITION_DIFFERS column app.written.amount"],
    ),
    "logged": (
        "ALTER TABLE app.unlogged SET LOGGED",
        ["DEFINITION_DIFFERS sequence app.unlogged_id_seq", "DEFINITION_DIFFERS table app.unlogged"],
    ),
    "access-method": (
        "ALTER TABLE private.other_heap SET ACCESS METHOD heap",
        ["DEFINITION_DIFFERS table private.other_heap"],
    ),
    "cost": (
        "ALTER FUNCTION app.many(varchar, app.mood[]) COST 8",
        ["DEFINITION_DIFFERS function app.many(character varying, app.mood[])"],
    ),
    "function-setting": (
        "ALTER FUNCTION app.many(varchar, app.mood[]) RESET work_mem",
        ["DEFINITION_DIFFERS function app.many(character varying, app.mood[])"],
    ),
    "column": ("ALTER TABLE app.orders ADD x int", ["OBJECT_UNEXPECTED column app.orders.x"]),
    "type": (
        "ALTER TABLE app.unlogged ALTER v TYPE varchar(9)",
        ["DEFINITION_DIFFERS column app.unlogged.v"],
    ),
    "default": (
        "ALTER TABLE app.orders ALTER total SET DEFAULT 1",
        ["DEFINITION_DIFFERS column app.orders.total"],
    ),
    "not-null": (
        "ALTER TABLE app.orders ALTER during DROP NOT NULL",
        ["DEFINITION_DIFFERS column app.orders.during"],
    ),
    "identity": (
        "ALTER TABLE app.orders ALTER id SET GENERATED ALWAYS",
        ["DEFINITION_DIFFERS column app.orders.id"],
    ),
    "generated": (
        "ALTER TABLE app.customers ALTER doubled DROP EXPRESSION",
        ["DEFINITION_DIFFERS column app.customers.doubled"],
    ),
    "index": ("DROP INDEX app.written_parts", ["OBJECT_MISSING index app.written_parts"]),
    "index-without-its-fillfactor": (
        "DROP INDEX app.written_by_code; CREATE UNIQUE INDEX written_by_code ON app.written (code)",
        ["DEFINITION_DIFFERS index app.written_by_code"],
    ),
    "constraint": (
        'ALTER TABLE app.orders DROP CONSTRAINT "checked later"',
        ['OBJECT_MISSING constraint "checked later" on app.orders'],
    ),
    "constraint-with-its-index": (
        "ALTER TABLE app.written DROP CONSTRAINT written_kind_amount_key",
        ["OBJECT_MISSING constraint written_kind_amount_key on app.written"],
    ),
    "not-valid": (
        'ALTER TABLE app.orders VALIDATE CONSTRAINT "checked later"',
        ['DEFINITION_DIFFERS constraint "checked later" on app.orders'],
    ),
    "trigger-enabled": (
        "ALTER TABLE app.customers ENABLE TRIGGER touch",
        ["DEFINITION_DIFFERS trigger touch on app.customers"],
    ),
    "trigger-disabled": (
        "ALTER TABLE app.written DISABLE TRIGGER deferred",
        ["DEFINITION_DIFFERS trigger deferred on app.written"],
    ),
    "trigger-of-a-partition": (
        "ALTER TABLE app.day_1 ENABLE TRIGGER each_day",
        ["OBJECT_MISSING trigger each_day on app.day_1"],
    ),
    "trigger-more": (
        "CREATE TRIGGER more BEFORE INSERT ON app.orders FOR EACH ROW EXECUTE FUNCTION app.touch()",
        ["OBJECT_UNEXPECTED trigger more on app.orders"],
    ),
    "policy": ("DROP POLICY own ON app.customers", ["OBJECT_MISSING policy own on app.customers"]),
    "policy-changed": (
        "ALTER POLICY mixed ON app.written USING (true)",
        ["DEFINITION_DIFFERS policy mixed on app.written"],
    ),
    "row-security": (
        "ALTER TABLE app.customers DISABLE ROW LEVEL SECURITY",
        ["DEFINITION_DIFFERS table app.customers"],
    ),
    "owner": ("ALTER TABLE app.no_columns OWNER TO app_auditor", ["OWNER_DIFFERS table app.no_columns"]),
    "grant": ("REVOKE SELECT ON app.orders FROM app_auditor CASCADE", ["GRANT_DIFFERS table app.orders"]),
    "grant-option": (
        "REVOKE GRANT OPTION FOR INSERT ON app.orders FROM app_auditor",
        ["GRANT_DIFFERS table app.orders"],
    ),
    "grant-to-public": ("GRANT SELECT ON app.orders TO PUBLIC", ["GRANT_DIFFERS table app.orders"]),
    "default-right": (
        "GRANT EXECUTE ON FUNCTION private.secret TO PUBLIC",
        ["GRANT_DIFFERS function private.secret(integer)"],
    ),
    "column-grant": (
        'REVOKE UPDATE (nick) ON app.customers FROM "say ""hi"" twice"',
        ["GRANT_DIFFERS column app.customers.nick"],
    ),
    "view": (
        "CREATE OR REPLACE VIEW app.plain_view AS SELECT w.id, w.kind AS renamed, w.amount + 1"
        " FROM app.written w WHERE w.kind IN ('a', 'c')",
        ["DEFINITION_DIFFERS view app.plain_view"],
    ),
    "view-option": ("ALTER VIEW app.happy RESET (security_barrier)", ["DEFINITION_DIFFERS view app.happy"]),
    "body": (
        "CREATE OR REPLACE FUNCTION app.twice(n int) RETURNS int IMMUTABLE STRICT LANGUAGE sql"
        " AS 'SELECT 3 * n'",
        ["DEFINITION_DIFFERS function app.twice(integer)"],
    ),
    "sql-body": (
        "CREATE OR REPLACE FUNCTION app.add(a int, b int DEFAULT 1) RETURNS int IMMUTABLE LANGUAGE sql"
        " RETURN a - b",
        ["DEFINITION_DIFFERS function app.add(integer, integer)"],
    ),
    "security-definer": (
        "ALTER FUNCTION private.secret SECURITY INVOKER",
        ["DEFINITION_DIFFERS function private.secret(integer)"],
    ),
    "volatility": ("ALTER FUNCTION app.twice STABLE", ["DEFINITION_DIFFERS function app.twice(integer)"]),
    "enum-value": ("ALTER TYPE app.mood ADD VALUE 'new'", ["DEFINITION_DIFFERS type app.mood"]),
    "enum-renamed": (
        "ALTER TYPE app.mood RENAME VALUE 'ok' TO 'fine'",
        ["DEFINITION_DIFFERS column app.customers.mood", "DEFINITION_DIFFERS type app.mood"],
    ),
    "attribute": ("ALTER TYPE app.described ADD ATTRIBUTE c int", ["DEFINITION_DIFFERS type app.described"]),
    "domain-check": (
        "ALTER DOMAIN app.code DROP CONSTRAINT known",
        ["OBJECT_MISSING constraint known on app.code"],
    ),
    "comment": ("COMMENT ON TABLE app.written IS NULL", ["DEFINITION_DIFFERS table app.written"]),
    "comment-on-public": ("COMMENT ON SCHEMA public IS NULL", ["DEFINITION_DIFFERS schema public"]),
    "rule": ('DROP RULE "no delete" ON app.happy', ['OBJECT_MISSING rule "no delete" on app.happy']),
    "publication": (
        "ALTER PUBLICATION plain SET (publish = 'insert')",
        ["DEFINITION_DIFFERS publication plain"],
    ),
    "publication-filter": (
        "ALTER PUBLICATION few SET TABLE app.orders (id, customer)",
        ["DEFINITION_DIFFERS publication table app.orders of few"],
    ),
    "publication-table": (
        "ALTER PUBLICATION plain DROP TABLE app.typed",
        ["OBJECT_MISSING publication table app.typed of plain"],
    ),
    "event-trigger": ("ALTER EVENT TRIGGER noticed DISABLE", ["DEFINITION_DIFFERS event trigger noticed"]),
    "increment": ("ALTER SEQUENCE app.unused INCREMENT 2", ["DEFINITION_DIFFERS sequence app.unused"]),
    "owned-by": ("ALTER SEQUENCE app.owned OWNED BY NONE", ["DEFINITION_DIFFERS sequence app.owned"]),
    "unpopulated": (
        "REFRESH MATERIALIZED VIEW public.totals WITH NO DATA",
        ["MATVIEW_UNPOPULATED materialized view public.totals"],
    ),
    "populated-though-it-was-not": ("REFRESH MATERIALIZED VIEW app.never_filled", []),
    "partition-detached": (
        "ALTER TABLE app.by_mood DETACH PARTITION app.mood_1",
        ["DEFINITION_DIFFERS index app.mood_1_n_idx", "DEFINITION_DIFFERS table app.mood_1"],
    ),
    "inheritance": ("ALTER TABLE app.child NO INHERIT app.parent", ["DEFINITION_DIFFERS table app.child"]),
    "statistics": ("DROP STATISTICS app.mcv", ["OBJECT_MISSING statistics app.mcv"]),
    "default-privileges": (
        "ALTER DEFAULT PRIVILEGES FOR ROLE app_owner IN SCHEMA app GRANT INSERT ON TABLES TO app_readers",
        ["GRANT_DIFFERS default privileges tables of app_owner in schema app"],
    ),
    "default-privileges-gone": (
        "ALTER DEFAULT PRIVILEGES FOR ROLE app_owner GRANT EXECUTE ON FUNCTIONS TO PUBLIC",
        ["OBJECT_MISSING default privileges functions of app_owner"],
    ),
    "server-option": (
        "ALTER SERVER far_away OPTIONS (SET a '3')",
        ["DEFINITION_DIFFERS foreign server far_away"],
    ),
    "user-mapping": (
        "DROP USER MAPPING FOR PUBLIC SERVER far_away",
        ["OBJECT_MISSING user mapping public of far_away"],
    ),
    "replica-identity": (
        "ALTER TABLE app.customers REPLICA IDENTITY DEFAULT",
        ["DEFINITION_DIFFERS table app.customers"],
    ),
    "storage-parameter": (
        "ALTER TABLE app.customers SET (fillfactor = 80)",
        ["DEFINITION_DIFFERS table app.customers"],
    ),
    "mapping": (
        "ALTER TEXT SEARCH CONFIGURATION private.mixed DROP MAPPING FOR word",
        ["DEFINITION_DIFFERS text search configuration private.mixed"],
    ),
    "operator": ("DROP OPERATOR app.|+| (int, int)", ["OBJECT_MISSING operator app.|+| (integer, integer)"]),
    "operator-family": (
        "ALTER OPERATOR FAMILY app.loose USING btree DROP FUNCTION 1 (int, bigint)",
        ["DEFINITION_DIFFERS operator family app.loose using btree"],
    ),
    "cast": ("DROP CAST (app.mood AS int)", ["OBJECT_MISSING cast (app.mood as integer)"]),
    "aggregate": (
        "CREATE OR REPLACE AGGREGATE app.total (int) (SFUNC = app.add, STYPE = int, INITCOND = '1')",
        ["DEFINITION_DIFFERS aggregate app.total(integer)"],
    ),
    "transform": (
        "DROP TRANSFORM FOR app.mood LANGUAGE handmade",
        ["OBJECT_MISSING transform for app.mood language handmade"],
    ),
    "extension": ("DROP EXTENSION dblink", ["OBJECT_MISSING extension dblink"]),
    "schema-with-all-in-it": (
        'DROP SCHEMA "Odd.Schema ""x"" y" CASCADE',
        ['OBJECT_MISSING schema "Odd.Schema ""x"" y"'],
    ),
}


class Servers:
    """One server of each major, started when it is first asked for."""

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self._request = request
        self._started: dict[int, PostgresServer] = {}

    def __getitem__(self, major: int) -> PostgresServer:
        if major in (15, 17):
            server: PostgresServer = self._request.getfixturevalue(f"postgres{major}")
            return server
        if major not in self._started:
            self._started[major] = start_postgres(major, programs(major))
        return self._started[major]

    def stop(self) -> None:
        for server in self._started.values():
            server.stop()


@pytest.fixture(scope="module")
def servers(request: pytest.FixtureRequest) -> Iterator[Servers]:
    started = Servers(request)
    yield started
    started.stop()


@contextmanager
def everything(server: PostgresServer) -> Iterator[str]:
    with every_feature(server) as conninfo:
        server.execute(WITHOUT_ICU, DATABASE)
        server.execute(OF_SUPERUSERS + ODD_EXPRESSIONS, DATABASE)
        yield conninfo


@contextmanager
def roles(server: PostgresServer) -> Iterator[None]:
    names = [sql.Identifier(role) for role in ROLES]
    with server.connect() as session:
        for name in names:
            session.execute(sql.SQL("CREATE ROLE {}").format(name))
        try:
            yield
        finally:
            for name in names:
                session.execute(sql.SQL("DROP ROLE {}").format(name))


def dumped(server: PostgresServer, conninfo: str) -> bytes:
    return run(server, "pg_dump", "--format=custom", "--no-subscriptions", f"--dbname={conninfo}")


@contextmanager
def restored(server: PostgresServer, archive: bytes) -> Iterator[str]:
    server.execute("GRANT pg_read_all_data TO app_auditor")  # who refreshes a view of others' tables
    with server.database(RESTORED) as conninfo:
        run(server, "pg_restore", "--no-tablespaces", f"--dbname={conninfo}", stdin=archive)
        yield conninfo


def connected(conninfo: str) -> Session:
    return PostgresDatabase(conninfo=SecretStr(conninfo)).connect()


def objects(session: Session) -> list[CatalogObject]:
    return [CatalogObject(**vars(item)) for item in read_objects(session)]


def objects_of(conninfo: str) -> list[CatalogObject]:
    with connected(conninfo) as session:
        return objects(session)


@pytest.mark.parametrize("major", MAJORS)
def test_a_dump_that_is_restored_has_no_finding_on_its_major_nor_on_the_next(
    servers: Servers, major: int
) -> None:
    source = servers[major]
    with everything(source) as conninfo:
        expected = objects_of(conninfo)
        archive = dumped(source, conninfo)
        with restored(source, archive) as copy:
            same = compare_objects(expected, objects_of(copy), majors=(major, major))
    assert len({item.kind for item in expected}) >= 40
    assert same.findings == []
    if major + 1 in MAJORS:
        following = servers[major + 1]
        with roles(following), restored(following, archive) as copy:
            next_one = compare_objects(expected, objects_of(copy), majors=(major, major + 1))
        assert [finding for finding in next_one.findings if finding.kind != "extension"] == []
        assert {finding.severity for finding in next_one.findings} <= {"warning"}


@pytest.mark.parametrize("major", [14, 15])
@pytest.mark.parametrize(
    "statements",
    [
        pytest.param("ALTER SCHEMA public OWNER TO app_owner", id="another-owner"),
        pytest.param(
            "ALTER SCHEMA public OWNER TO app_owner; REVOKE ALL ON SCHEMA public FROM PUBLIC;"
            "GRANT USAGE ON SCHEMA public TO app_readers",
            id="rights",
        ),
        pytest.param("GRANT CREATE ON SCHEMA public TO PUBLIC", id="a-right-more"),
        pytest.param("COMMENT ON SCHEMA public IS NULL", id="no-comment"),
        pytest.param("DROP SCHEMA public", id="gone"),
        pytest.param("DROP EXTENSION plpgsql", id="no-plpgsql"),
        pytest.param("DROP EXTENSION plpgsql; CREATE EXTENSION plpgsql", id="plpgsql-anew"),
    ],
)
def test_what_every_database_begins_with_may_be_changed_without_a_finding(
    servers: Servers, major: int, statements: str
) -> None:
    server = servers[major]
    with roles(server), server.database("source") as conninfo:
        server.execute(statements, "source")
        with restored(server, dumped(server, conninfo)) as copy:
            result = compare_objects(objects_of(conninfo), objects_of(copy), majors=(major, major))
    assert result.findings == []


@pytest.fixture(scope="module")
def pair(servers: Servers) -> Iterator[tuple[list[CatalogObject], Session]]:
    """The source's objects, and a session on what was restored of it."""
    server = servers[17]
    with everything(server) as conninfo:
        expected = objects_of(conninfo)
        with restored(server, dumped(server, conninfo)) as copy, connected(copy) as session:
            yield expected, session


@pytest.mark.parametrize(("change", "findings"), CHANGES.values(), ids=CHANGES)
def test_a_change_is_found_by_its_rule(
    pair: tuple[list[CatalogObject], Session], change: str, findings: list[str]
) -> None:
    expected, session = pair
    session.execute("BEGIN")
    try:
        session.execute(change.encode())
        found = compare_objects(expected, objects(session), majors=(17, 17)).findings
    finally:
        session.execute("ROLLBACK")
    assert sorted(map(brief, found)) == sorted(findings)


def brief(finding: Finding) -> str:
    return f"{finding.rule} {finding.kind} {finding.object}"
