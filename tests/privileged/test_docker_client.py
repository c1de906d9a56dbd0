"""pg_dump in a container: whole, discreet, and never there for longer than we are."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import pytest
from psycopg.conninfo import make_conninfo
from pydantic import SecretStr

from blocks import pgcommands
from blocks.container_programs import ContainerPrograms
from blocks.containers import container_error
from blocks.docker_client import DockerPostgresClient
from blocks.dump_errors import dump_error
from blocks.errors import ConnectionFailed, ProgramFailed, ProgramMissing, ProgramTooOld
from blocks.pgcommands import DumpSelection
from blocks.postgres import PostgresDatabase
from blocks.process import Command, Process, run
from tests.servers.docker import Engine
from tests.servers.postgres import PASSWORD, SUPERUSER, PostgresServer, programs, start_postgres
from tests.servers.processes import eventually
from tests.servers.programs import run as run_program
from tests.servers.tls import turn_tls_on

ROOT = Path(__file__).parents[2]
IMAGE = "localhost/pgsalvo-client:{major}"
ROW = "planted-row-value-7f21d4"
ROWS = 20_000
PEOPLE = f"""
    CREATE TABLE people AS SELECT n, '{ROW}' AS name, repeat(md5(n::text), 30) AS noise
    FROM generate_series(1, {ROWS}) n"""
SESSIONS = "SELECT FROM pg_stat_activity WHERE application_name IN ('pg_dump', 'pg_dumpall')"
BACKING_UP = """
import os, signal, subprocess, sys
from pydantic import SecretStr
from blocks import pgcommands
from blocks.docker_client import DockerPostgresClient
from blocks.postgres import PostgresDatabase
from blocks.process import Process
conninfo, image, program, moment = sys.argv[1:]
programs, _ = DockerPostgresClient(image=image, program=program).find(15)
with PostgresDatabase(conninfo=SecretStr(conninfo)).client_environment() as reached:
    with programs.reaching(reached) as (connection, launched):
        process = Process(launched(pgcommands.dump_schema(programs.pg_dump, connection)))
        if moment == "at once":
            os.kill(process.pid, signal.SIGKILL)
            os.kill(os.getpid(), signal.SIGKILL)
        print("started", flush=True)
        process.wait()
"""


@dataclass(frozen=True)
class Shop:
    """A database on a real server, and the programs of an image that dump it."""

    conninfo: str
    server: PostgresServer
    engine: Engine
    programs: ContainerPrograms
    there_before: frozenset[Path]

    @contextmanager
    def dump(self, conninfo: str = "", schema: str = "") -> Iterator[Command]:
        """Yield the call of a dump, of all if no schema is given."""
        database = PostgresDatabase(conninfo=SecretStr(conninfo or self.conninfo))
        with (
            self.server.connect("shop") as session,
            database.client_environment() as reached,
            self.programs.reaching(reached) as (connection, launched),
        ):
            session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
            ((snapshot,),) = session.execute("SELECT pg_export_snapshot()").fetchall()
            yield launched(
                pgcommands.dump(
                    self.programs.pg_dump,
                    connection,
                    snapshot=snapshot,
                    lock_wait_seconds=60,
                    selection=DumpSelection(include_schemas=(schema,) if schema else ()),
                )
            )

    def is_left_alone(self) -> bool:
        """Return whether nothing of a dump is there any more: no container, session or file."""
        directories = self.engine.shared_directories() - self.there_before
        return not (self.engine.containers() or self.server.query(SESSIONS) or directories)


@pytest.fixture
def shop(engine: Engine, postgres15: PostgresServer) -> Iterator[Shop]:
    programs, warning = DockerPostgresClient(image=IMAGE, program=engine.program).find(15)
    assert (warning, programs.major) == ("", 15)
    with postgres15.database("shop") as conninfo:
        postgres15.execute(PEOPLE, "shop")
        yield Shop(conninfo, postgres15, engine, programs, engine.shared_directories())


def test_a_dump_comes_back_as_it_was(shop: Shop) -> None:
    with shop.dump() as command:
        archive = run(command).stdout
    with shop.server.database("restored"):
        target = f"--dbname={shop.server.conninfo('restored')}"
        run_program(shop.server, "pg_restore", "--exit-on-error", target, stdin=archive)
        assert shop.server.query("SELECT count(*) FROM people", "restored") == [(ROWS,)]
    assert shop.is_left_alone()


def test_a_dump_is_whole_even_for_a_reader_that_pauses_at_its_end(shop: Shop) -> None:
    """By its daemon Docker loses the last of what a slow reader has not taken, and exits 0.

    It does so only if pg_dump ends while all buffers on the way are just full: with some of these sizes.
    """
    with ExitStack() as stack:
        running = {}
        for rows in range(1530, 1670, 20):
            copy = f"CREATE SCHEMA s{rows}; CREATE TABLE s{rows}.people AS TABLE people LIMIT {rows}"
            shop.server.execute(copy, "shop")
            command = stack.enter_context(shop.dump(schema=f"s{rows}"))
            running[rows] = stack.enter_context(Process(command))
        begun = {rows: next(process.chunks()) for rows, process in running.items()}
        time.sleep(4)
        archives = {rows: begun[rows] + b"".join(process.chunks()) for rows, process in running.items()}
        for process in running.values():
            process.check()
    found = {
        rows: run_program(shop.server, "pg_restore", "--file=-", stdin=archive).decode().count(ROW)
        for rows, archive in archives.items()
    }
    assert found == {rows: rows for rows in archives}


def test_roles_are_dumped_too(shop: Shop) -> None:
    database = PostgresDatabase(conninfo=SecretStr(shop.conninfo))
    with database.client_environment() as reached, shop.programs.reaching(reached) as (connection, launched):
        globals_command = pgcommands.dump_globals(shop.programs.pg_dumpall, connection, passwords=True)
        completed = run(launched(globals_command))
    assert completed.status == 0
    assert f"CREATE ROLE {SUPERUSER};" in completed.stdout.decode()


def test_a_unix_socket_of_the_host_is_reached(shop: Shop) -> None:
    shop.server.directory.chmod(0o711)
    conninfo = make_conninfo(shop.conninfo, host=str(shop.server.directory))
    with shop.dump(conninfo) as command:
        assert run(command).stdout.count(ROW.encode()) == ROWS


def test_a_host_is_reached_by_name_and_proved_by_the_hosts_own_certificate(shop: Shop) -> None:
    server = start_postgres(15, programs(15))
    try:
        root = turn_tls_on(server, "localhost")
        with server.database("shop") as conninfo:
            by_name = make_conninfo(conninfo, host="localhost", sslmode="verify-full", sslrootcert=str(root))
            with replace(shop, server=server).dump(by_name) as command:
                assert run(command).stdout.startswith(b"PGDMP")
    finally:
        server.stop()


def test_neither_password_nor_rows_are_seen_by_others_or_kept_by_the_engine(shop: Shop) -> None:
    with shop.dump() as command, Process(command) as process:
        archive = next(process.chunks())  # it waits for us to read on
        eventually(lambda: shop.server.query(SESSIONS), "pg_dump is connected")
        (name,) = shop.engine.containers()
        places = {
            "inspect": shop.engine.run("inspect", name).encode(),
            "logs": shop.engine.run("logs", name, may_fail=True).encode(),
            "argv": b"".join(map(_argv, psutil.pids())),
        } | dict(_files(shop.engine.directory))
        archive += b"".join(process.chunks())
        process.check()
    places |= dict(_files(shop.engine.directory))
    assert name in places["inspect"].decode()
    assert b"--dbname=user=admin" in places["argv"]
    assert ROW.encode() in archive
    assert [place for place, body in places.items() if PASSWORD.encode() in body] == []
    assert [place for place, body in places.items() if ROW.encode() in body] == []


def test_a_stopped_dump_cancels_on_the_server_and_leaves_no_container(shop: Shop) -> None:
    with shop.dump() as command, Process(command) as process:
        next(process.chunks())
        process.stop()
        for _ in process.chunks():
            continue
        status = process.wait()
    assert "ended by SIGTERM" in str(dump_error(command.name, status, process.stderr_lines))
    assert shop.is_left_alone()


def test_a_killed_dump_leaves_no_container(shop: Shop) -> None:
    with shop.dump() as command, Process(command) as process:
        next(process.chunks())
        process.kill()
        assert shop.engine.containers() == []
    eventually(shop.is_left_alone, "its session ends", 10)


@pytest.mark.parametrize("moment", ["at once", "while it waits"])
def test_a_killed_run_leaves_neither_container_nor_session_nor_password(shop: Shop, moment: str) -> None:
    """While it waits for a lock, or together with its docker before there is a container."""
    argv = (sys.executable, "-c", BACKING_UP, shop.conninfo, IMAGE, shop.engine.program, moment)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with (
        shop.server.connect("shop") as migration,
        subprocess.Popen(argv, env=environment, cwd=ROOT, stdout=subprocess.PIPE) as backup,
    ):
        migration.execute("BEGIN; LOCK TABLE people")
        if moment == "while it waits":
            assert backup.stdout is not None
            assert backup.stdout.readline() == b"started\n"
            eventually(lambda: shop.server.query(f"{SESSIONS} AND wait_event_type = 'Lock'"), "it waits")
            assert not shop.is_left_alone()
            backup.kill()
        assert backup.wait(60) == -signal.SIGKILL
        eventually(lambda: not shop.engine.containers(), "its container ends", 10)
        migration.execute("ROLLBACK")  # only then does the server see that its client is gone
    eventually(shop.is_left_alone, "nothing stays", 10)
    time.sleep(1.5)
    assert shop.is_left_alone(), "it came late"


def test_an_error_of_pg_dump_is_told_as_on_the_host(shop: Shop) -> None:
    with shop.dump(make_conninfo(shop.conninfo, dbname="no-such-database")) as command:
        failed = run(command)
    assert container_error(command, failed.status, failed.stderr_lines) is None
    error = dump_error(command.name, failed.status, failed.stderr_lines)
    assert isinstance(error, ConnectionFailed)
    assert error.message.startswith("pg_dump cannot connect to the database: ")


def test_an_image_that_vanished_is_no_error_of_pg_dump(shop: Shop) -> None:
    with shop.dump() as command:
        gone = tuple(part.replace("pgsalvo-client:15", "pgsalvo-client:gone") for part in command.argv)
        gone_command = Command(gone, command.environment, elsewhere=command.elsewhere)
        failed = run(gone_command)
    error = container_error(gone_command, failed.status, failed.stderr_lines)
    assert isinstance(error, ProgramFailed)
    assert "did not start" in error.message
    assert "pull it again" in error.hint


def test_an_image_that_is_nowhere_is_said_before_a_backup_begins(engine: Engine) -> None:
    client = DockerPostgresClient(image="localhost/no-such-image:{major}", program=engine.program)
    with pytest.raises(ProgramMissing, match="no-such-image:15 is not here and cannot be pulled") as caught:
        client.find(15)
    assert "pull localhost/no-such-image:15" in caught.value.hint


def test_an_image_without_pg_dump_is_said_before_a_backup_begins(engine: Engine) -> None:
    image = engine.build("localhost/pgsalvo-psql:15", 15, ("psql",))
    with pytest.raises(ProgramMissing, match="no pg_dump in the image localhost/pgsalvo-psql:15"):
        DockerPostgresClient(image=image, program=engine.program).find(15)


def test_an_older_pg_dump_is_refused_and_a_newer_one_warned_of(engine: Engine) -> None:
    client = DockerPostgresClient(image=IMAGE.replace("{major}", "15"), program=engine.program)
    with pytest.raises(ProgramTooOld, match="the server needs 16 or newer"):
        client.find(16)
    programs, warning = client.find(14)
    assert programs.major == 15
    assert "newer than the server" in warning


def test_a_limit_of_memory_is_told_from_an_error_of_pg_dump(shop: Shop) -> None:
    large = "DO $$ BEGIN EXECUTE format('COMMENT ON TABLE people IS %L', repeat('x', 20000000)); END $$"
    shop.server.execute(large, "shop")
    client = DockerPostgresClient(image=IMAGE, program=shop.engine.program, memory="6m")
    with pytest.raises(ProgramFailed, match="killed in its container") as caught:
        _dump_all(shop, client)
    assert "memory" in caught.value.hint


def test_a_daemon_that_is_not_there_is_said_with_how_to_start_it(
    docker: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{docker.directory}/no.sock")
    with pytest.raises(ProgramFailed, match="Cannot connect to the Docker daemon") as caught:
        DockerPostgresClient(program=docker.program).find(15)
    assert "systemctl start docker" in caught.value.hint


def _dump_all(shop: Shop, client: DockerPostgresClient) -> None:
    programs, _ = client.find(15)
    limited = replace(shop, programs=programs)
    with limited.dump() as command:
        failed = run(command)
    if error := container_error(command, failed.status, failed.stderr_lines):
        raise error


def _argv(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _files(directory: Path) -> Iterator[tuple[str, bytes]]:
    """Yield each file on the engine's disk."""
    for parent, _, names in os.walk(directory):
        for path in (Path(parent, name) for name in names):
            with suppress(OSError):  # namespaces, sockets, and what is gone already
                if path.is_file() and not path.is_symlink():
                    yield str(path), path.read_bytes()
