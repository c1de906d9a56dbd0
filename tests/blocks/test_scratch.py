"""The scratch server, on real servers of two majors: what it grants, refuses and leaves behind."""

import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from blocks import scratch_launch
from blocks.errors import ScratchError, ScratchLacks
from blocks.pgtools import Search, ServerPrograms, find_server
from blocks.scratch import ScratchServer, scratch_root, sweep_scratch
from blocks.scratch_commands import server_command
from blocks.scratch_directory import Account, server_account
from blocks.scratch_preload import package_of, preload_settings, refusing
from tests.servers.ports import wait_until
from tests.servers.postgres import programs as bin_directory

AS_ROOT = os.geteuid() == 0
REPOSITORY = Path(__file__).parents[2]


def server_programs(major: int) -> ServerPrograms:
    return find_server(major, configured=bin_directory(major), search=Search())


@pytest.fixture(scope="module")
def open_root() -> Iterator[Path]:
    """A directory that the server's user can enter, unlike pytest's own."""
    path = Path(tempfile.mkdtemp(prefix="pgsalvo-roots-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def root(open_root: Path, request: pytest.FixtureRequest) -> Path:
    path = open_root / str(abs(hash(request.node.name)))
    path.mkdir()
    path.chmod(0o755)
    return path


@pytest.fixture(scope="module", params=[15, 17])
def scratch(request: pytest.FixtureRequest, open_root: Path) -> Iterator[ScratchServer]:
    """A running server with the roles `shop` and `audit`, the restorer, and shop's database `shop`."""
    with ScratchServer(server_programs(request.param), open_root) as server:
        server.create_stand_in_roles(["shop", "audit"])
        server.create_database("shop", "UTF8", "C.UTF-8", "C.UTF-8", "shop")
        server.create_restorer()
        yield server


def connect(
    server: ScratchServer, user: str | None = None, dbname: str = "shop"
) -> "psycopg.Connection[tuple[object, ...]]":
    return psycopg.connect(server.conninfo(dbname, user), autocommit=True)


def value(server: ScratchServer, query: str, user: str | None = None, dbname: str = "shop") -> object:
    with connect(server, user, dbname) as connection:
        row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return row[0]


def postmaster(server: ScratchServer) -> psutil.Process:
    return psutil.Process(int((server.directory / "data" / "postmaster.pid").read_text().split("\n")[0]))


def stub_programs(directory: Path, initdb: str = "", postgres: str = "") -> ServerPrograms:
    """Programs of a major that nobody has; initdb ends well unless told otherwise."""
    directory.mkdir()
    directory.chmod(0o755)
    for name, body in (("initdb", initdb or "exit 0"), ("postgres", postgres)):
        (directory / name).write_text(f"#!/bin/sh\n{body}\n")
        (directory / name).chmod(0o755)
    return ServerPrograms(directory, "16.0", 16, "configured")


def test_the_server_is_of_the_asked_major_and_its_superuser_has_a_random_name(scratch: ScratchServer) -> None:
    names = {ScratchServer(server_programs(15), Path("/tmp")).superuser for _ in range(3)} | {
        scratch.superuser
    }
    assert len(names) == 4
    assert all(name.startswith("pgsalvo_scratch_") for name in names)
    assert value(scratch, "SELECT rolname FROM pg_roles WHERE rolsuper") == scratch.superuser
    assert "password" not in scratch.conninfo("shop")


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("fsync", "off"),
        ("autovacuum", "off"),
        ("jit", "off"),
        ("wal_level", "minimal"),
        ("listen_addresses", ""),
        ("log_statement", "none"),
        ("max_locks_per_transaction", "1024"),
        ("dynamic_shared_memory_type", "mmap"),
    ],
)
def test_the_server_is_fast_and_forgetful(scratch: ScratchServer, setting: str, expected: str) -> None:
    assert value(scratch, f"SHOW {setting}") == expected


def test_no_process_of_the_server_listens_on_a_network(scratch: ScratchServer) -> None:
    """Sockets of all kinds are listed for its namespace, in which nobody else is; a list has a heading."""
    network = Path(f"/proc/{postmaster(scratch).pid}/net")
    assert scratch.is_off_network
    assert network.joinpath("tcp").read_text() != Path("/proc/net/tcp").read_text()
    for name in ("tcp", "tcp6", "udp", "udp6", "raw"):
        assert len(network.joinpath(name).read_text().splitlines()) == 1


def test_where_no_namespace_can_be_had_the_server_runs_and_tells(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scratch_launch, "can_do_without_network", lambda _: False)
    with ScratchServer(server_programs(17), root) as server:
        assert not server.is_off_network
        assert value(server, "SELECT 1", dbname="template1") == 1
        namespaces = [
            Path(f"/proc/{process}/ns/net").readlink() for process in (postmaster(server).pid, "self")
        ]
        assert namespaces[0] == namespaces[1]


def test_nobody_else_can_enter_the_servers_directories(scratch: ScratchServer) -> None:
    for path in (scratch.directory, scratch.directory / "data", scratch.socket_directory):
        assert stat.S_IMODE(path.stat().st_mode) & 0o007 == 0
    groups = {path.stat().st_gid for path in (scratch.directory, scratch.socket_directory)}
    assert groups == {postmaster(scratch).gids().real}
    if AS_ROOT:
        assert not groups & {0, 65534}


def test_the_servers_user_is_not_root_and_cannot_read_what_is_private(
    scratch: ScratchServer, root: Path
) -> None:
    private = root / "key"
    private.write_text("secret")
    private.chmod(0o600 if AS_ROOT else 0)
    assert set(postmaster(scratch).uids()) != {0}
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        value(scratch, f"SELECT pg_read_file('{private}')")


def test_the_server_inherits_nothing_of_our_environment(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planted = {
        "PGPASSWORD": "planted-secret",
        "PGOPTIONS": "-c role=nobody",
        "PGPORT": "1",
        "PGDATA": "/nowhere",
        "PGCHANNELBINDING": "require",
        "AWS_SECRET_ACCESS_KEY": "planted-secret",
    }
    for name, content in planted.items():
        monkeypatch.setenv(name, content)
    with ScratchServer(server_programs(15), root) as server:
        inherited = postmaster(server).environ()
        assert value(server, "SELECT 1", dbname="postgres") == 1
    assert set(inherited) - {"PGDATA", "PG_GRANDPARENT_PID", "PGLOCALEDIR", "PGSYSCONFDIR"} <= {
        "PATH",
        "LC_ALL",
        "TZ",
        "LD_LIBRARY_PATH",
    }
    assert inherited.get("PGDATA") != "/nowhere"


@pytest.mark.parametrize(
    ("dbname", "encoding", "locale", "used", "notes"),
    [
        pytest.param("utf8", "UTF8", "C.UTF-8", "C.UTF-8", [], id="as it was"),
        pytest.param("latin", "LATIN1", "C", "C", [], id="latin1"),
        pytest.param("postgres", "UTF8", "C", "C", [], id="the maintenance database's name"),
        pytest.param(
            "far",
            "UTF8",
            "tlh_QO.UTF-8",
            "C",
            ["the locale tlh_QO.UTF-8 (tlh_QO.UTF-8) is not here with UTF8: sorted by C instead"],
            id="a locale that is not here",
        ),
        pytest.param(
            "unfit",
            "LATIN1",
            "C.UTF-8",
            "C",
            ["the locale C.UTF-8 (C.UTF-8) is not here with LATIN1: sorted by C instead"],
            id="a locale of another encoding",
        ),
        pytest.param("a=b 'c' \"d\" ñ\n,", "UTF8", "C", "C", [], id="odd name"),
    ],
)
def test_a_database_is_created_as_the_source_was(
    scratch: ScratchServer, dbname: str, encoding: str, locale: str, used: str, notes: list[str]
) -> None:
    assert scratch.create_database(dbname, encoding, locale, locale, 'own"er') == notes
    with connect(scratch, dbname=dbname) as connection:
        row = connection.execute(
            "SELECT datname, pg_encoding_to_char(encoding), datcollate, datctype, pg_get_userbyid(datdba)"
            " FROM pg_database WHERE datname = current_database()"
        ).fetchone()
    assert row == (dbname, encoding, used, used, 'own"er')


def test_a_database_that_cannot_be_created_is_an_error_with_the_servers_words(scratch: ScratchServer) -> None:
    with pytest.raises(ScratchError, match=r"the scratch server failed: .*KLINGON"):
        scratch.create_database("other", "KLINGON", "C", "C", "shop")


ODD_NAMES = [
    "o'brien",
    'say "hi"',
    "Ünïcode ñ",
    "with.dot",
    "x" * 63,
    "new\nline",
    "select",
    "postgres",
    "a=b, c",
]


def test_stand_ins_bear_odd_names_and_have_no_power_but_over_rows(scratch: ScratchServer) -> None:
    scratch.create_stand_in_roles([*ODD_NAMES, "pg_monitor", "pg_of_another_major"])
    scratch.create_stand_in_roles(ODD_NAMES)
    with connect(scratch) as connection:
        rows = connection.execute(
            "SELECT rolname, rolcanlogin OR rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication"
            " FROM pg_roles WHERE rolname = ANY(%s)",
            [[*ODD_NAMES, "pg_of_another_major"]],
        ).fetchall()
    assert sorted(rows) == sorted((name, False) for name in ODD_NAMES)
    with pytest.raises(psycopg.OperationalError):
        connect(scratch, "shop")


def test_the_restorer_may_do_to_a_stand_ins_objects_what_their_owner_may(scratch: ScratchServer) -> None:
    scratch.create_stand_in_roles(["late comer"])
    assert scratch.create_restorer() == scratch.restorer
    with connect(scratch) as connection:
        connection.execute(
            'CREATE SCHEMA own AUTHORIZATION "late comer";'
            "CREATE TABLE own.t (id serial PRIMARY KEY, other int REFERENCES own.t, v text);"
            'ALTER TABLE own.t OWNER TO "late comer";'
            "ALTER TABLE own.t ENABLE ROW LEVEL SECURITY; ALTER TABLE own.t FORCE ROW LEVEL SECURITY;"
            "SELECT lo_create(4711); ALTER LARGE OBJECT 4711 OWNER TO audit;"
        )
    with connect(scratch, scratch.restorer) as connection:
        with connection.cursor().copy("COPY own.t (id, v) FROM STDIN") as copy:
            copy.write_row((1, "one"))
        connection.execute("SELECT setval('own.t_id_seq', 9), lo_put(4711, 0, 'x')")
        connection.execute("CREATE INDEX ON own.t (v); ALTER TABLE own.t ADD CHECK (id > 0)")
        connection.execute('SET ROLE "late comer"; DROP INDEX own.t_v_idx; RESET ROLE')
        assert connection.execute("SELECT count(*) FROM own.t").fetchone() == (1,)
    with connect(scratch) as connection:
        connection.execute("DROP SCHEMA own CASCADE")


@pytest.mark.parametrize(
    "statement",
    [
        "SET SESSION AUTHORIZATION {superuser}",
        "SET ROLE {superuser}",
        "ALTER ROLE {restorer} SUPERUSER",
        "GRANT {superuser} TO {restorer}",
        "UPDATE pg_authid SET rolsuper = true",
        "COPY (SELECT 1) TO PROGRAM 'true'",
        "COPY (SELECT 1) TO '/tmp/pgsalvo-escaped'",
        "SELECT pg_read_file('/etc/hostname')",
        "SELECT lo_import('/etc/hostname')",
        "SHOW unix_socket_directories",
        "CREATE FUNCTION escape() RETURNS int LANGUAGE c AS 'libc', 'getpid'",
        "ALTER SYSTEM SET archive_command = 'true'",
    ],
)
def test_the_restorer_does_not_become_superuser_nor_touch_the_host(
    scratch: ScratchServer, statement: str
) -> None:
    with (
        connect(scratch, scratch.restorer) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute(statement.format(superuser=scratch.superuser, restorer=scratch.restorer).encode())


def test_reset_role_leads_the_restorer_back_to_itself(scratch: ScratchServer) -> None:
    with connect(scratch, scratch.restorer) as connection:
        connection.execute("SET ROLE shop")
        connection.execute("RESET ROLE; RESET SESSION AUTHORIZATION")
        row = connection.execute(
            "SELECT session_user::text, current_user::text, rolsuper FROM pg_roles"
            " WHERE rolname = current_user"
        ).fetchone()
    assert row == (scratch.restorer, scratch.restorer, False)


def test_restored_code_does_not_come_back_to_the_socket_as_superuser(scratch: ScratchServer) -> None:
    """Not by dblink, which asks for a password; nor as root if the dump itself hands out dblink_connect_u."""
    back = f"host={scratch.socket_directory} port={scratch.port} dbname=shop user={scratch.superuser}"
    with connect(scratch) as connection:
        connection.execute(
            "CREATE EXTENSION dblink; GRANT EXECUTE ON FUNCTION dblink_connect_u(text) TO PUBLIC"
        )
    try:
        with connect(scratch, scratch.restorer) as connection:
            with pytest.raises(psycopg.Error, match="password"):
                connection.execute("SELECT dblink_connect(%s)", [back])
            if AS_ROOT:
                with pytest.raises(psycopg.errors.SqlclientUnableToEstablishSqlconnection):
                    connection.execute("SELECT dblink_connect_u(%s)", [back])
    finally:
        with connect(scratch) as connection:
            connection.execute("DROP EXTENSION dblink")


def test_the_available_extensions_are_known(scratch: ScratchServer) -> None:
    assert {"hstore", "pg_trgm", "plpgsql"} < scratch.available_extensions()
    assert "timescaledb" not in scratch.available_extensions()


def test_a_wheel_has_no_icu(scratch: ScratchServer) -> None:
    has_icu = value(scratch, "SELECT setting LIKE '%with-icu%' FROM pg_config WHERE name = 'CONFIGURE'")
    assert scratch.has_icu() is has_icu
    if value(scratch, "SHOW server_version_num") >= "170000":  # type: ignore[operator]
        assert not scratch.has_icu()


def test_the_log_holds_no_rows_value(scratch: ScratchServer) -> None:
    with connect(scratch) as connection:
        connection.execute("CREATE TABLE strict (v text CHECK (v = 'x'))")
        with pytest.raises(psycopg.errors.CheckViolation):
            connection.execute("INSERT INTO strict VALUES ('planted-row-value')")
        connection.execute("DROP TABLE strict")
        with pytest.raises(psycopg.errors.InvalidTextRepresentation):
            connection.execute("SELECT 'planted-row-value'::int")
    assert scratch.log_lines
    assert not [line for line in scratch.log_lines if "planted-row-value" in line]


def test_the_end_does_not_wait_for_sessions_and_leaves_nothing(root: Path) -> None:
    with ScratchServer(server_programs(15), root) as server:
        process = postmaster(server)
        busy = connect(server, dbname="postgres")
        started = time.monotonic()
    assert time.monotonic() - started < 8
    assert not process.is_running()
    assert list(root.iterdir()) == []
    busy.close()


def test_programs_that_the_servers_user_cannot_reach_are_copied(root: Path) -> None:
    """As those of a wheel in root's home; with their libraries, which postgres_fdw needs."""
    wheel = server_programs(17)
    home = root / "home"
    shutil.copytree(wheel.bin_directory.parent, home / "17", symlinks=True)
    home.chmod(0o700)
    installed = find_server(17, configured=home / "17" / "bin", search=Search())
    (root / "scratch").mkdir()
    with ScratchServer(installed, root / "scratch") as server:
        program = Path(postmaster(server).exe())
        with connect(server, dbname="postgres") as connection:
            connection.execute("CREATE EXTENSION postgres_fdw; LOAD 'postgres_fdw'")
        assert program.is_relative_to(server.directory if AS_ROOT else home)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("deep/" * 20, id="too long"),
        pytest.param("a, b", id="comma"),
        pytest.param('a "b" c', id="quotes"),
    ],
)
def test_a_root_of_any_name_gets_a_socket_that_clients_can_name(name: str, root: Path) -> None:
    place = root / name
    with ScratchServer(server_programs(15), place) as server:
        assert server.directory.parent == place
        assert len(os.fsencode(server.socket_directory / ".s.PGSQL.5432")) <= 100
        assert value(server, "SELECT 1", dbname="postgres") == 1
        socket_directory = server.socket_directory
    assert not socket_directory.parent.exists()


def test_a_root_that_the_servers_user_cannot_enter_gives_way_to_the_temporary_directory(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = root / "closed"
    closed.mkdir(mode=0o700)
    stranger = Account(uid=os.geteuid() + 1, gid=61184)
    assert scratch_root(root, stranger) == root
    assert scratch_root(closed, stranger) == Path(tempfile.gettempdir())
    monkeypatch.setattr(tempfile, "tempdir", str(closed))
    with pytest.raises(
        ScratchError, match=r"can enter neither .*closed nor the temporary directory(?s:.*)chmod o\+x"
    ):
        scratch_root(closed, Account(uid=1, gid=61184))


def test_a_server_started_by_root_runs_as_a_user_that_exists() -> None:
    account = server_account()
    assert (account is not None) == AS_ROOT
    assert account is None or (account.uid != 0 and account.gid != 0)


KILLED_RUNNER = """
import sys, time
from pathlib import Path
from blocks.pgtools import Search, find_server
from blocks.scratch import ScratchServer
programs = find_server(15, configured=Path(sys.argv[1]), search=Search())
with ScratchServer(programs, Path(sys.argv[2])) as server:
    print(server.directory, server.socket_directory, flush=True)
    time.sleep(600)
"""


def test_what_a_killed_run_left_is_stopped_and_removed_by_the_next_sweep(root: Path) -> None:
    place = (
        root
        / "deep"
        / "enough"
        / "that"
        / "the"
        / "socket"
        / "must"
        / "lie"
        / "in"
        / "a"
        / "directory"
        / "of"
        / "its"
    )
    runner = subprocess.Popen(
        (sys.executable, "-c", KILLED_RUNNER, bin_directory(15), place),
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
    )
    assert runner.stdout is not None
    directory, socket_directory = map(Path, runner.stdout.readline().split())
    runner.stdout.close()
    server = psutil.Process(int((directory / "data" / "postmaster.pid").read_text().split("\n")[0]))
    assert sweep_scratch(place) == []
    runner.send_signal(signal.SIGKILL)
    runner.wait()
    assert server.is_running()
    assert set(sweep_scratch(place)) == {directory, socket_directory.parent}
    wait_until(lambda: not server.is_running() or server.status() == psutil.STATUS_ZOMBIE, "the server's end")
    assert list(place.iterdir()) == []
    assert not socket_directory.exists()


def test_a_start_sweeps_before(root: Path) -> None:
    litter = litter_in(root)
    with ScratchServer(server_programs(15), root):
        assert not litter.exists()


def test_a_sweep_leaves_a_running_server_alone(scratch: ScratchServer) -> None:
    assert sweep_scratch(scratch.directory.parent) == []
    assert value(scratch, "SELECT 1") == 1


def test_a_sweep_does_not_stop_another_process_that_has_the_number_now(root: Path) -> None:
    bystander = subprocess.Popen(("sleep", "600"), cwd="/")
    try:
        litter = litter_in(root)
        (litter / "data").mkdir()
        (litter / "data" / "postmaster.pid").write_text(f"{bystander.pid}\n{litter / 'data'}\n")
        assert sweep_scratch(root) == [litter]
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_a_sweep_leaves_what_another_user_owns(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    litter = litter_in(root)
    monkeypatch.setattr(os, "geteuid", lambda: 4242)
    assert sweep_scratch(root) == []
    assert litter.exists()


def litter_in(root: Path) -> Path:
    directory = root / "pgsalvo-scratch-dead"
    directory.mkdir()
    (root / "pgsalvo-scratch-dead.lock").touch(0o600)
    return directory


@pytest.mark.parametrize(
    ("initdb", "postgres", "start_seconds", "said"),
    [
        pytest.param(
            "echo 'initdb: error: no room' >&2; exit 1",
            "",
            60,
            "was not set up: .*initdb: error: no room",
            id="initdb fails",
        ),
        pytest.param(
            "exec sleep 60", "", 1, "was not set up: initdb did not end within 1 s", id="initdb hangs"
        ),
        pytest.param(
            "",
            "echo LOG: begun >&2; echo 'FATAL:  no memory' >&2; exit 2",
            60,
            "ended with exit status 2: FATAL:  no memory",
            id="start fails",
        ),
        pytest.param("", "exit 3", 60, "ended with exit status 3: without a word", id="start fails silently"),
        pytest.param("", "exec sleep 60", 3, "did not answer within 3 s", id="start hangs"),
    ],
)
def test_a_server_that_does_not_come_up_is_a_clear_error_and_leaves_nothing(
    initdb: str, postgres: str, start_seconds: float, said: str, root: Path
) -> None:
    programs = stub_programs(root / "bin", initdb, postgres)
    (root / "scratch").mkdir()
    with (
        pytest.raises(ScratchError, match=said),
        ScratchServer(programs, root / "scratch", start_seconds=start_seconds),
    ):
        pytest.fail("a stub came up")
    assert list((root / "scratch").iterdir()) == []


def test_what_must_be_preloaded_is_and_does_no_work_by_itself(root: Path) -> None:
    """Left to itself, pg_prewarm's library has a worker of its own."""
    with (
        ScratchServer(server_programs(17), root, preload=("pg_prewarm", "pg_stat_statements")) as server,
        server.connect(server.maintenance_database) as session,
    ):
        session.execute("CREATE EXTENSION pg_stat_statements SCHEMA public")
        session.execute("SELECT count(*) FROM public.pg_stat_statements")
        session.execute("CREATE EXTENSION pg_prewarm SCHEMA public")
        with pytest.raises(psycopg.Error, match="could not register background process"):
            session.execute("SELECT public.autoprewarm_start_worker()")


def test_a_library_that_is_not_here_is_lacking_and_its_package_named(root: Path) -> None:
    with (
        pytest.raises(ScratchLacks, match="PostgreSQL 15 has no library far_away") as caught,
        ScratchServer(server_programs(15), root, preload=("far_away",)),
    ):
        pytest.fail("it came up")
    assert caught.value.hint.endswith("apt-get install postgresql-15-far-away")
    assert list(root.iterdir()) == []


def test_pg_cron_is_told_the_database_in_which_it_may_be_created() -> None:
    assert preload_settings(refusing(["plpgsql", "pg_cron", "pg_stat_statements"]), "restored") == {
        "shared_preload_libraries": "pg_cron",
        "max_worker_processes": "0",
        "cron.database_name": "restored",
    }
    assert preload_settings(refusing(["plpgsql", "pg_stat_statements"]), "restored") == {}
    assert package_of("timescaledb", 15) == "timescaledb-2-postgresql-15"


def test_a_root_that_cannot_be_made_is_a_clear_error(root: Path) -> None:
    (root / "file").touch()
    with (
        pytest.raises(ScratchError, match="cannot make the directory"),
        ScratchServer(server_programs(15), root / "file" / "x"),
    ):
        pytest.fail("it came up")


def test_the_call_makes_room_for_its_jobs() -> None:
    command = server_command(server_programs(15), Path("/d"), Path('/s "x"'), Account(65534, 61200), jobs=8)
    assert command.argv[1:3] == ("-D", "/d")
    assert {"--max_connections=26", '--unix_socket_directories="/s ""x"""', "--listen_addresses="} < set(
        command.argv
    )
    assert (command.uid, command.gid, command.isolated) == (65534, 61200, True)
