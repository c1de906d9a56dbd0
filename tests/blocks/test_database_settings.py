"""Settings and rights of a database come out as they were, on another database with the same roles."""

from collections.abc import Iterator

import pytest
from pydantic import SecretStr

from blocks.database_settings import apply_privileges, apply_settings
from blocks.errors import DatabaseError
from blocks.identity import database_settings, properties
from blocks.postgres import PostgresDatabase
from tests.servers.postgres import PostgresServer

ROLES = ("plain", '"o""dd = role/x"')
SOURCE = """
    ALTER DATABASE settings_source SET work_mem = '12345kB';
    ALTER DATABASE settings_source SET search_path = "Odd ""schema"" x", public, "$user";
    ALTER DATABASE settings_source SET app.motto = 'it''s, "so" = \\x';
    ALTER ROLE plain IN DATABASE settings_source SET DateStyle = 'SQL, DMY';
    ALTER ROLE "o""dd = role/x" IN DATABASE settings_source SET search_path = '';
    REVOKE ALL ON DATABASE settings_source FROM PUBLIC;
    GRANT CONNECT ON DATABASE settings_source TO plain;
    GRANT CREATE, TEMPORARY ON DATABASE settings_source TO "o""dd = role/x" WITH GRANT OPTION;
"""


@pytest.fixture
def server(postgres15: PostgresServer) -> Iterator[PostgresServer]:
    for role in ROLES:
        postgres15.execute(f"CREATE ROLE {role}")
    with postgres15.database("settings_source"), postgres15.database("settings_target"):
        yield postgres15
    for role in ROLES:
        postgres15.execute(f"DROP ROLE {role}")


def reached(server: PostgresServer, dbname: str) -> PostgresDatabase:
    return PostgresDatabase(conninfo=SecretStr(server.conninfo(dbname)))


def test_settings_of_the_database_and_of_roles_in_it_come_out_as_they_were(server: PostgresServer) -> None:
    server.execute(SOURCE, "settings_source")
    with reached(server, "settings_source").connect() as session:
        settings = database_settings(session)
    with reached(server, "settings_target").connect() as session:
        apply_settings(session, [(one.role, one.name, one.value) for one in settings])
        assert database_settings(session) == settings
    assert len(settings) == 5


def test_rights_on_the_database_come_out_as_they_were(server: PostgresServer) -> None:
    server.execute(SOURCE, "settings_source")
    with reached(server, "settings_source").connect() as session:
        privileges = properties(session).access_privileges
    with reached(server, "settings_target").connect() as session:
        apply_privileges(session, privileges)
        assert properties(session).access_privileges == privileges
    assert len(privileges) == 3


def test_default_rights_stay_the_default(server: PostgresServer) -> None:
    with reached(server, "settings_target").connect() as session:
        apply_privileges(session, ())
        assert properties(session).access_privileges == ()


def test_a_right_of_everybody_is_given_to_everybody(server: PostgresServer) -> None:
    with reached(server, "settings_target").connect() as session:
        apply_privileges(session, ("=c/admin",))
        assert "=c/admin" in properties(session).access_privileges


def test_a_role_that_is_not_there_is_an_error(server: PostgresServer) -> None:
    with (
        reached(server, "settings_target").connect() as session,
        pytest.raises(DatabaseError, match="rights"),
    ):
        apply_privileges(session, ("nobody=c/admin",))
