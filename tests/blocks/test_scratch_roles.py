"""What every scratch server does in SQL, on two majors: collations, event triggers, TimescaleDB."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from blocks import timescale
from blocks.errors import ScratchError
from blocks.pgtools import Search, find_server
from blocks.scratch import ScratchServer
from blocks.scratch_collations import OwnCollation, ProviderLocale, collation_version, lacking_collations
from blocks.scratch_roles import without_event_triggers
from tests.blocks.test_scratch import connect, server_programs, value
from tests.servers.postgres import programs as bin_directory


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="pgsalvo-roots-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module", params=[15, 17])
def server(request: pytest.FixtureRequest, root: Path) -> Iterator[ScratchServer]:
    with ScratchServer(server_programs(request.param), root) as server:
        server.create_restorer()
        yield server


@pytest.fixture
def scratch(server: ScratchServer) -> Iterator[ScratchServer]:
    """A running server with an empty database, `restored`."""
    server.create_database(server.dbname, "UTF8", "C.UTF-8", "C.UTF-8", server.restorer)
    yield server
    drop(server, server.dbname)


def drop(server: ScratchServer, dbname: str) -> None:
    with connect(server, dbname="template1") as session:
        session.execute(f'DROP DATABASE "{dbname}" WITH (FORCE)'.encode())


@pytest.mark.parametrize(
    ("own", "since"),
    [
        pytest.param(ProviderLocale("i", "de-DE"), 15, id="ICU"),
        pytest.param(ProviderLocale("i", "de-DE", "&a < b"), 16, id="ICU with rules"),
        pytest.param(ProviderLocale("b", "C.UTF-8"), 17, id="builtin"),
        pytest.param(ProviderLocale("b", "tlh_QO"), 99, id="no such builtin one"),
    ],
)
def test_a_database_sorts_by_the_sources_own_provider_or_it_is_said(
    own: ProviderLocale, since: int, server: ScratchServer
) -> None:
    is_here = server.major >= since and (own.provider == "b" or server.has_icu())
    notes = server.create_database("own", "UTF8", "tlh_QO.UTF-8", "C.UTF-8", server.restorer, own)
    provider = value(
        server, "SELECT datlocprovider::text FROM pg_database WHERE datname = 'own'", dbname="own"
    )
    drop(server, "own")
    assert provider == (own.provider if is_here else "c")
    assert notes == ([] if is_here else [f"the locale {own.name} is not here with UTF8: sorted by C instead"])


def test_a_collation_that_is_not_here_is_found_before_anything_is_restored(scratch: ScratchServer) -> None:
    icu = OwnCollation("icu", "i", locale="de-DE")
    made = [
        OwnCollation("far", "c", collate="tlh_QO.UTF-8", ctype="tlh_QO.UTF-8"),
        OwnCollation("near", "c", collate="C.UTF-8", ctype="C.UTF-8"),
        OwnCollation("the default's", "d"),
        icu,
    ]
    used = ['"C"', '"tlh_QO"', 'app."german x"', '"a.b""c"', "app.own"]
    with scratch.connect(scratch.dbname) as session:
        lacking = lacking_collations(session, used, made)
        assert session.execute("SELECT FROM pg_collation WHERE collname = 'tried'").fetchall() == []
    assert lacking == ['"a.b""c"', '"tlh_QO"', "far", *([] if scratch.has_icu() else ["icu"])]


def test_the_version_of_what_a_database_sorts_by_is_known(scratch: ScratchServer) -> None:
    with scratch.connect(scratch.dbname) as session:
        assert collation_version(session) is None  # C.UTF-8 has none
        (known,) = session.execute(
            "SELECT pg_collation_actual_version('\"C\"'::regcollation)"
        ).fetchone() or ("",)
        assert known is None
    if scratch.has_icu():
        scratch.create_database("own", "UTF8", "C", "C", scratch.restorer, ProviderLocale("i", "de-DE"))
        with scratch.connect("own") as session:
            assert collation_version(session)
        drop(scratch, "own")


EVENT_TRIGGERS = """
    CREATE SCHEMA app;
    CREATE TABLE app.fired (name text);
    CREATE FUNCTION app.fire() RETURNS event_trigger LANGUAGE plpgsql AS
        $$ BEGIN INSERT INTO app.fired VALUES (tg_event || ' as ' || current_user); END $$;
    CREATE EVENT TRIGGER ordinary ON ddl_command_start EXECUTE FUNCTION app.fire();
    CREATE EVENT TRIGGER insistent ON ddl_command_end EXECUTE FUNCTION app.fire();
    CREATE EVENT TRIGGER replicas ON sql_drop EXECUTE FUNCTION app.fire();
    CREATE EVENT TRIGGER off ON ddl_command_end EXECUTE FUNCTION app.fire();
    ALTER EVENT TRIGGER insistent ENABLE ALWAYS;
    ALTER EVENT TRIGGER replicas ENABLE REPLICA;
    ALTER EVENT TRIGGER off DISABLE;
"""
ON = "-c event_triggers=on"


@pytest.fixture
def triggered(scratch: ScratchServer) -> ScratchServer:
    """A server whose restored database has event triggers of every sort."""
    with connect(scratch, dbname=scratch.dbname) as session:
        session.execute(EVENT_TRIGGERS.encode())
        if scratch.major >= 17:
            session.execute("CREATE EVENT TRIGGER log_in ON login EXECUTE FUNCTION app.fire()")
            session.execute("ALTER EVENT TRIGGER log_in ENABLE ALWAYS")
            session.execute("ALTER DATABASE restored SET event_triggers = on")
    return scratch


def fired(server: ScratchServer) -> list[str]:
    with server.connect(server.dbname) as session:
        return sorted(name for (name,) in session.execute("SELECT name FROM app.fired"))


def test_a_superusers_session_sets_off_no_ordinary_event_trigger(triggered: ScratchServer) -> None:
    """From 17 on, none at all, though the database's own settings switch them on; nor by logging in."""
    with triggered.connect(triggered.dbname) as session:
        session.execute("CREATE TABLE app.t (n int)")
    expected = [f"ddl_command_end as {triggered.superuser}"] if triggered.major < 17 else []
    assert fired(triggered) == expected


def test_no_event_trigger_fires_where_we_say_so_and_all_are_as_they_were(triggered: ScratchServer) -> None:
    states = "SELECT evtname, evtenabled FROM pg_event_trigger ORDER BY evtname"
    with triggered.connect(triggered.dbname) as session:
        before = session.execute(states).fetchall()
        with without_event_triggers(session):
            session.execute(
                "CREATE SCHEMA ours; CREATE EXTENSION amcheck SCHEMA ours; DROP SCHEMA ours CASCADE"
            )
        assert session.execute(states).fetchall() == before
    assert fired(triggered) == []


def test_an_ordinary_superuser_sets_them_off(triggered: ScratchServer) -> None:
    """The control: else the tests above could not fail."""
    conninfo = psycopg.conninfo.make_conninfo(triggered.conninfo(triggered.dbname), options="")
    with psycopg.connect(conninfo, autocommit=True) as session:
        session.execute("CREATE TABLE app.t (n int)")
    events = {name.split()[0] for name in fired(triggered)}
    assert events == {"ddl_command_start", "ddl_command_end"} | (
        {"login"} if triggered.major >= 17 else set()
    )


CONTROL = "default_version = '1'\n"
TIMESCALE = """
    CREATE TABLE @extschema@.called (name text);
    CREATE FUNCTION @extschema@.timescaledb_pre_restore() RETURNS bool LANGUAGE sql AS
        $$ INSERT INTO @extschema@.called VALUES ('before'); SELECT true $$;
    CREATE FUNCTION @extschema@.timescaledb_post_restore() RETURNS bool LANGUAGE sql AS
        $$ INSERT INTO @extschema@.called VALUES ('after'); SELECT true $$;
"""
IMPOSTOR = """
    CREATE FUNCTION public.timescaledb_pre_restore() RETURNS void LANGUAGE sql AS
        $$ INSERT INTO "odd schema".called VALUES ('impostor') $$;
"""


def test_timescales_own_two_steps_are_taken_by_the_superuser(root: Path) -> None:
    """A stub of the extension in a copy of the wheel; a function that only bears the name is not called."""
    installed = root / "with-timescale"
    shutil.copytree(bin_directory(17).parent, installed, symlinks=True)
    (installed / "share" / "extension" / "timescaledb.control").write_text(CONTROL)
    (installed / "share" / "extension" / "timescaledb--1.sql").write_text(TIMESCALE)
    programs = find_server(17, configured=installed / "bin", search=Search())
    with ScratchServer(programs, root) as scratch:
        assert "timescaledb" in scratch.available_extensions()
        scratch.create_database("restored", "UTF8", "C", "C", scratch.create_restorer())
        with connect(scratch, dbname="restored") as session:
            timescale.before_rows(session)  # nothing to call yet
            session.execute('CREATE SCHEMA "odd schema"; CREATE EXTENSION timescaledb SCHEMA "odd schema"')
            session.execute(IMPOSTOR.encode())
            timescale.before_rows(session)
            timescale.after_restore(session)
            assert session.execute('SELECT name FROM "odd schema".called').fetchall() == [
                ("before",),
                ("after",),
            ]
            session.execute(
                "DROP FUNCTION public.timescaledb_pre_restore; CREATE OR REPLACE FUNCTION "
                '"odd schema".timescaledb_pre_restore() RETURNS bool LANGUAGE sql AS $$ SELECT 1/0 = 1 $$'
            )
        with pytest.raises(ScratchError, match="division by zero"), scratch.connect("restored") as session:
            timescale.before_rows(session)


def test_a_database_without_timescale_is_let_be(scratch: ScratchServer) -> None:
    with connect(scratch, dbname=scratch.dbname) as session:
        session.execute(
            "CREATE FUNCTION public.timescaledb_post_restore() RETURNS int LANGUAGE sql AS 'SELECT 1/0'"
        )
        timescale.after_restore(session)
