"""What tells one database from another, on real servers."""

from collections.abc import Iterator

import pytest
from psycopg.conninfo import make_conninfo
from pydantic import SecretStr

from blocks.identity import (
    InstalledExtension,
    Setting,
    database_settings,
    extensions,
    identity,
    properties,
    roles,
    sizes,
)
from blocks.postgres import PostgresDatabase, Session
from tests.servers.postgres import PostgresServer
from tests.servers.roles import ROLE_PASSWORD, create_limited_role, drop_role

ROLE = "Odd role"


@pytest.fixture
def session(postgres: PostgresServer) -> Iterator[Session]:
    with postgres.database("a=b") as conninfo, _connect(conninfo) as session:
        yield session


def _connect(conninfo: str) -> Session:
    return PostgresDatabase(conninfo=SecretStr(conninfo)).connect()


def test_a_database_is_identified_by_its_server_and_name(postgres: PostgresServer, session: Session) -> None:
    ((identifier, version),) = postgres.query(
        "SELECT system_identifier::text, current_setting('server_version') FROM pg_control_system()"
    )
    found = identity(session)
    assert (found.system_identifier, found.dbname, found.major) == (identifier, "a=b", postgres.major)
    assert found.server_version == version.split()[0]
    assert not found.in_recovery


def test_a_role_that_may_not_ask_for_the_system_identifier_gets_a_stable_one(
    postgres: PostgresServer,
) -> None:
    create_limited_role(postgres, ROLE)
    with postgres.database("one") as one, postgres.database("two") as two:
        for dbname in ("one", "two"):
            postgres.execute("REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC", dbname)
        found = []
        for conninfo in (one, one, two):
            with _connect(make_conninfo(conninfo, user=ROLE, password=ROLE_PASSWORD)) as session:
                found.append(identity(session).system_identifier)
    drop_role(postgres, ROLE)
    assert found[0] == found[1] != found[2]
    assert found[0].startswith("host-")


def test_properties_are_what_a_database_must_be_created_with(postgres: PostgresServer) -> None:
    options = {"ENCODING": "LATIN1", "LC_COLLATE": "C", "LC_CTYPE": "C"}
    with postgres.database("latin", **options) as conninfo, _connect(conninfo) as session:
        postgres.execute(
            "REVOKE ALL ON DATABASE latin FROM PUBLIC; GRANT CONNECT ON DATABASE latin TO pg_monitor"
        )
        found = properties(session)
        assert (found.encoding, found.collate, found.ctype, found.locale_provider) == (
            "LATIN1",
            "C",
            "C",
            "c",
        )
        assert not found.needs_icu
        assert set(found.access_privileges) == {"admin=CTc/admin", "pg_monitor=c/admin"}


def test_a_database_with_default_rights_has_no_access_privileges(session: Session) -> None:
    assert properties(session).access_privileges == ()


def test_a_builtin_locale_is_told_with_its_provider(postgres17: PostgresServer) -> None:
    options = {"LOCALE_PROVIDER": "builtin", "BUILTIN_LOCALE": "C.UTF-8"}
    with postgres17.database("built_in", **options) as conninfo, _connect(conninfo) as session:
        found = properties(session)
    assert (found.locale_provider, found.locale, found.needs_icu) == ("b", "C.UTF-8", False)


@pytest.mark.parametrize(
    ("statement", "needs_icu"),
    [
        pytest.param("SELECT 1", False, id="nothing"),
        pytest.param('CREATE TABLE t (a text COLLATE "C")', False, id="libc"),
        pytest.param('CREATE TABLE t (a text COLLATE "de-x-icu")', True, id="a-column"),
        pytest.param("CREATE VIEW v AS SELECT 'a'::text COLLATE \"de-x-icu\" AS a", True, id="a-view"),
        pytest.param("CREATE COLLATION mine (provider = icu, locale = 'de')", True, id="a-collation"),
    ],
)
def test_a_use_of_icu_is_noticed(postgres15: PostgresServer, statement: str, needs_icu: bool) -> None:
    with postgres15.database("shop") as conninfo, _connect(conninfo) as session:
        postgres15.execute(statement, "shop")
        assert properties(session).needs_icu is needs_icu


def test_an_icu_database_needs_icu(postgres15: PostgresServer) -> None:
    options = {"LOCALE_PROVIDER": "icu", "ICU_LOCALE": "de", "LOCALE": "C.UTF-8"}
    with postgres15.database("icu", **options) as conninfo, _connect(conninfo) as session:
        found = properties(session)
    assert (found.locale_provider, found.locale, found.needs_icu) == ("i", "de", True)


def test_settings_of_the_database_and_of_roles_in_it_are_listed_and_no_others(
    postgres: PostgresServer, session: Session
) -> None:
    create_limited_role(postgres, ROLE)
    postgres.execute(
        'ALTER DATABASE "a=b" SET search_path = app, public; ALTER DATABASE "a=b" SET app.key = \'x=y\';'
        f'ALTER ROLE "{ROLE}" IN DATABASE "a=b" SET work_mem = \'7MB\''
    )
    found = database_settings(session)
    postgres.execute(f'ALTER ROLE "{ROLE}" IN DATABASE "a=b" RESET ALL')
    drop_role(postgres, ROLE)
    assert found == [
        Setting(None, "app.key", "x=y"),
        Setting(None, "search_path", "app, public"),
        Setting(ROLE, "work_mem", "7MB"),
    ]


def test_extensions_are_listed_with_their_versions(session: Session) -> None:
    assert extensions(session) == [InstalledExtension("plpgsql", "1.0")]


def test_roles_are_listed_without_those_of_postgresql_itself(
    postgres: PostgresServer, session: Session
) -> None:
    create_limited_role(postgres, ROLE)
    found = roles(session)
    drop_role(postgres, ROLE)
    assert {"admin", ROLE} <= set(found)
    assert not [name for name in found if name.startswith("pg_")]


def test_sizes_name_the_largest_tables_with_their_toast(session: Session) -> None:
    session.execute("CREATE TABLE public.small AS SELECT 1 AS id")
    session.execute(
        "CREATE TABLE public.large AS SELECT string_agg(md5(n::text), '') FROM generate_series(1, 20000) n"
    )
    session.execute("VACUUM public.large, public.small")
    found = sizes(session, largest=1)
    assert found.database_bytes > 5_000_000
    ((schema, name, size),) = found.largest_tables
    assert (schema, name) == ("public", "large")
    assert 400_000 < size < 1_000_000
