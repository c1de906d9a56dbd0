"""How a database is reached, and what our sessions on it are like, on real servers."""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from pydantic import SecretStr

from blocks.errors import ConfigurationError, ConnectionFailed, ConnectionLost, DatabaseError, PoolerInBetween
from blocks.pgcommands import Connection as ClientConnection
from blocks.postgres import PostgresDatabase, Session, pin
from blocks.process import Command, run_checked
from blocks.server_errors import connection_error
from tests.servers.pooler import pooler
from tests.servers.ports import free_port
from tests.servers.postgres import PASSWORD, PostgresServer, programs, start_postgres
from tests.servers.roles import ROLE_PASSWORD, create_limited_role, drop_role
from tests.servers.tls import turn_tls_on

ROLE = "Backup role"


@pytest.fixture
def limited(postgres: PostgresServer) -> Iterator[PostgresDatabase]:
    """A database as seen by a role with short time-outs and an awkward password."""
    create_limited_role(postgres, ROLE)
    yield PostgresDatabase(
        conninfo=SecretStr(postgres.conninfo(user=ROLE, password=ROLE_PASSWORD)), lock_wait_seconds=1
    )
    drop_role(postgres, ROLE)


def _setting(session: Session, name: str) -> str:
    return str(session.execute("SELECT current_setting(%s)", [name]).fetchall()[0][0])


def test_a_database_is_given_as_conninfo_or_in_parts_but_not_both() -> None:
    with pytest.raises(ConfigurationError, match="both as conninfo and in parts") as caught:
        PostgresDatabase(
            conninfo=SecretStr("env:DATABASE_URL"), host="db", password=SecretStr("env:PGPASSWORD")
        )
    assert caught.value.hint == "remove conninfo, or host, password"


def test_a_malformed_pattern_of_a_table_is_refused_before_anything_runs() -> None:
    with pytest.raises(ConfigurationError, match=r"schema\.table: orders"):
        PostgresDatabase(host="db", exclude_tables=["orders"])


def test_a_database_that_is_nowhere_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match="not said where the database is"):
        PostgresDatabase().resolve()


def test_parts_become_parameters(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("from-a-file\n")
    database = PostgresDatabase(
        host="db",
        port=5433,
        dbname="a=b",
        user="ann",
        sslmode="require",
        password=SecretStr(f"file:{tmp_path}/password"),
    )
    target = database.resolve()
    assert target.parameters == {
        "host": "db", "port": "5433", "dbname": "a=b", "user": "ann", "sslmode": "require",
    }  # fmt: skip
    assert target.password == "from-a-file"


def test_a_password_is_looked_up_anew_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    database = PostgresDatabase(host="db", password=SecretStr("env:TOKEN"))
    monkeypatch.setenv("TOKEN", "first-token")
    assert database.resolve().password == "first-token"
    monkeypatch.setenv("TOKEN", "second-token")
    assert database.resolve().password == "second-token"


def test_neither_the_block_nor_what_it_resolves_to_shows_a_password() -> None:
    database = PostgresDatabase(conninfo=SecretStr("host=db password=hunter22"))
    assert "hunter22" not in f"{database!r} {database} {database.resolve()!r} {database.model_dump_json()}"


def test_a_session_is_set_up_alike_whatever_the_role_was_given(limited: PostgresDatabase) -> None:
    expected = {
        "application_name": "pgsalvo", "statement_timeout": "0", "lock_timeout": "0",
        "idle_in_transaction_session_timeout": "0", "idle_session_timeout": "0", "row_security": "off",
        "search_path": "", "DateStyle": "ISO, DMY", "TimeZone": "UTC", "client_encoding": "UTF8",
        "tcp_keepalives_idle": "30",
    }  # fmt: skip
    with limited.connect() as session:
        if session.info.server_version >= 170_000:
            expected["transaction_timeout"] = "0"
        assert {name: _setting(session, name) for name in expected} == expected


def test_a_session_outlives_the_time_outs_of_its_role(limited: PostgresDatabase) -> None:
    with limited.connect() as session:
        time.sleep(0.4)
        session.execute("BEGIN")
        time.sleep(0.4)
        session.execute("SELECT pg_sleep(0.4)")
        session.execute("COMMIT")


def test_a_session_can_be_opened_with_transactions(limited: PostgresDatabase) -> None:
    with limited.connect(autocommit=False) as session:
        session.execute("SELECT 1")
        assert session.info.transaction_status == psycopg.pq.TransactionStatus.INTRANS


def test_options_that_a_conninfo_brings_are_kept(postgres15: PostgresServer) -> None:
    conninfo = make_conninfo(postgres15.conninfo(), options="-c work_mem=7MB", application_name="theirs")
    with PostgresDatabase(conninfo=SecretStr(conninfo)).connect() as session:
        assert _setting(session, "work_mem") == "7MB"
        assert _setting(session, "application_name") == "pgsalvo"


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        pytest.param({"password": "wrong-password"}, "check user and password", id="wrong-password"),
        pytest.param({"user": "nobody-of-this-name"}, "check user and password", id="no-such-user"),
        pytest.param({"dbname": "no such database"}, "check dbname and user", id="no-such-database"),
        pytest.param({"port": "closed"}, "check host and port", id="refused"),
        pytest.param({"host": "/nowhere"}, "check host and port", id="no-such-socket"),
        pytest.param({"host": "no-such-host.invalid"}, "check the host's name", id="no-such-host"),
        pytest.param({"sslmode": "require"}, "check sslmode", id="no-tls"),
        pytest.param({"options": "-c nonsense=1"}, "", id="anything-else"),
    ],
)  # fmt: skip
def test_a_connection_that_fails_says_why_and_what_to_do(
    postgres15: PostgresServer, change: dict[str, str], hint: str
) -> None:
    if "port" in change:
        change = {"port": str(free_port())}
    database = PostgresDatabase(conninfo=SecretStr(make_conninfo(postgres15.conninfo("template1"), **change)))
    with pytest.raises(
        ConnectionFailed, match=r"cannot connect to the database (template1|no such)"
    ) as caught:
        database.connect()
    assert hint in caught.value.hint
    assert "\n" not in caught.value.message
    assert PASSWORD not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    ("said", "kind", "hint"),
    [
        pytest.param(
            'no pg_hba.conf entry for host "10.0.0.1", user "ann", database "shop", no encryption',
            ConnectionFailed, "pg_hba.conf, or try sslmode=require", id="pg_hba",
        ),
        pytest.param("sorry, too many clients already", ConnectionFailed, "connection limit", id="clients"),
        pytest.param('too many connections for role "ann"', ConnectionFailed, "connection limit", id="role"),
        pytest.param("remaining connection slots are", ConnectionFailed, "max_connections", id="slots"),
        pytest.param("unsupported startup parameter: options", PoolerInBetween, "PgBouncer", id="pooler"),
        pytest.param("the database system is starting up", ConnectionLost, "", id="starting-up"),
    ],
)  # fmt: skip
def test_a_refusal_that_no_test_server_gives_has_its_hint(
    said: str, kind: type[DatabaseError], hint: str
) -> None:
    text = f'connection failed: connection to server at "10.0.0.2", port 5432 failed: FATAL:  {said}\nmore'
    error = connection_error(psycopg.OperationalError(text), "shop")
    assert type(error) is kind
    assert error.message == (
        f'cannot connect to the database shop: connection to server at "10.0.0.2", port 5432 failed: {said}'
    )
    assert hint in error.hint


def test_a_pooler_in_between_is_recognised(postgres: PostgresServer) -> None:
    with pooler(postgres.port) as port:
        database = PostgresDatabase(conninfo=SecretStr(make_conninfo(postgres.conninfo(), port=port)))
        with pytest.raises(
            PoolerInBetween, match="pooler stands between us and the database postgres"
        ) as caught:
            database.connect()
    assert "address of the PostgreSQL server itself" in caught.value.hint


def test_later_sessions_go_to_the_server_that_the_first_one_reached(
    postgres15: PostgresServer, postgres17: PostgresServer
) -> None:
    both = make_conninfo(
        postgres15.conninfo(), host="127.0.0.1,localhost", port=f"{postgres15.port},{postgres17.port}"
    )
    database = PostgresDatabase(conninfo=SecretStr(both))
    second = PostgresDatabase(conninfo=SecretStr(postgres17.conninfo()))
    with second.connect() as session:
        pinned = pin(session)
    assert (pinned.hostaddr, pinned.port, pinned.major) == ("127.0.0.1", postgres17.port, 17)
    with database.connect() as first, database.connect(pinned=pinned) as later:
        assert pin(first).port == postgres15.port
        assert pin(later) == pinned
    with database.client_environment(pinned) as client:
        assert _psql(postgres15, client, "SHOW port") == str(postgres17.port)


def test_a_unix_socket_can_be_pinned(postgres: PostgresServer) -> None:
    conninfo = make_conninfo(postgres.conninfo(), host=str(postgres.directory))
    database = PostgresDatabase(conninfo=SecretStr(conninfo))
    with database.connect() as first:
        pinned = pin(first)
        assert (pinned.host, pinned.hostaddr) == (str(postgres.directory), "")
        with database.connect(pinned=pinned) as later:
            assert pin(later) == pinned


@pytest.mark.usefixtures("limited")
@pytest.mark.parametrize(
    "dbname", ["a=b", "two words", "it's", 'say "hi"', "back\\slash", "postgresql://x", "ünï", "x" * 63]
)
def test_programs_reach_a_database_of_any_name(postgres: PostgresServer, dbname: str) -> None:
    with postgres.database(dbname) as conninfo:
        database = _of_role(conninfo)
        with database.connect() as session, database.client_environment(pin(session)) as client:
            assert session.info.dbname == dbname
            assert _psql(postgres, client, "SELECT current_database()") == dbname


@pytest.mark.usefixtures("limited")
def test_every_program_takes_the_connection_and_sees_no_password(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPASSWORD", "of-another-database")
    with postgres.database("a=b") as conninfo:
        postgres.execute(f'GRANT CREATE ON DATABASE "a=b" TO "{ROLE}"')
        with _of_role(conninfo).client_environment() as client:
            _psql(postgres, client, "CREATE SCHEMA mine CREATE TABLE t (a int)")
            dump = _run(postgres, client, "pg_dump", "--format=custom", "--schema=mine")
            _psql(postgres, client, "DROP SCHEMA mine CASCADE")
            _run(postgres, client, "pg_restore", stdin=dump)
            assert _psql(postgres, client, "SELECT count(*) FROM mine.t") == "0"
            everyone = _run(
                postgres, client, "pg_dumpall", "--globals-only", "--no-role-passwords", f"-l{client.dbname}"
            )
    assert f'CREATE ROLE "{ROLE}"' in everyone.decode()
    assert ROLE_PASSWORD not in client.dbname
    assert ROLE_PASSWORD not in " ".join(client.environment.values())


def test_a_program_outlives_the_time_outs_of_its_role(
    postgres: PostgresServer, limited: PostgresDatabase
) -> None:
    with limited.connect() as session, limited.client_environment(pin(session)) as client:
        assert _psql(postgres, client, "SELECT pg_sleep(0.4), 'awake'") == "|awake"
        assert _psql(postgres, client, "SHOW idle_session_timeout") == "0"
        if postgres.major >= 17:
            assert _psql(postgres, client, "SHOW transaction_timeout") == "0"


def test_without_a_password_of_ours_libpq_finds_one_itself() -> None:
    with PostgresDatabase(host="db", dbname="a=b").client_environment() as client:
        assert dict(client.environment) == {}
        assert "password" not in client.dbname


def test_a_pinned_session_still_checks_the_hosts_name_in_the_certificate() -> None:
    server = start_postgres(15, programs(15))
    try:
        root = turn_tls_on(server, "localhost")
        conninfo = make_conninfo(
            server.conninfo(), host="localhost", sslmode="verify-full", sslrootcert=str(root)
        )
        database = PostgresDatabase(conninfo=SecretStr(conninfo))
        with database.connect() as first:
            pinned = pin(first)
        assert (pinned.host, pinned.hostaddr) == ("localhost", "127.0.0.1")
        with database.connect(pinned=pinned) as later, database.client_environment(pinned) as client:
            assert later.pgconn.ssl_in_use
            assert _psql(server, client, "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()") == "t"
        with pytest.raises(ConnectionFailed, match="does not match host name") as caught:
            database.connect(pinned=replace(pinned, host="127.0.0.1"))
        assert "the host's name" in caught.value.hint
    finally:
        server.stop()


def _of_role(conninfo: str) -> PostgresDatabase:
    return PostgresDatabase(conninfo=SecretStr(make_conninfo(conninfo, user=ROLE, password=ROLE_PASSWORD)))


def _run(
    server: PostgresServer, client: ClientConnection, program: str, *options: str, stdin: bytes = b""
) -> bytes:
    argv = (str(server.programs / program), "--no-password", f"--dbname={client.dbname}", *options)
    return run_checked(Command(argv, client.environment, client.pass_fds), stdin=stdin)


def _psql(server: PostgresServer, client: ClientConnection, query: str) -> str:
    return (
        _run(server, client, "psql", "--no-psqlrc", "--tuples-only", "--no-align", f"--command={query}")
        .decode()
        .strip()
    )
