"""A real PostgreSQL for tests: TCP with passwords on a free port, in a temporary directory, not as root."""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from blocks.pgtools import install_wheel
from tests.servers.ports import free_port, wait_until

WHEELS = Path(__file__).parents[2] / ".cache" / "postgresql"
SUPERUSER = "admin"
PASSWORD = "tests-admin-password"
UNPRIVILEGED_UID = 65534
FAST = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "max_wal_size": "4GB",
    "shared_buffers": "64MB",
    "log_statement": "none",
}


@dataclass(frozen=True)
class PostgresServer:
    """A running server and how to reach it."""

    major: int
    programs: Path
    directory: Path
    port: int
    process: "subprocess.Popen[bytes]"

    def conninfo(self, dbname: str = "postgres", user: str = SUPERUSER, password: str = PASSWORD) -> str:
        return make_conninfo(host="127.0.0.1", port=self.port, dbname=dbname, user=user, password=password)

    def connect(self, dbname: str = "postgres", **options: str) -> "psycopg.Connection[tuple[Any, ...]]":
        return psycopg.connect(self.conninfo(dbname, **options), autocommit=True)

    def execute(self, statements: str, dbname: str = "postgres", **options: str) -> None:
        with self.connect(dbname, **options) as connection:
            connection.execute(statements.encode())

    def query(self, statement: str, dbname: str = "postgres", **options: str) -> list[tuple[Any, ...]]:
        with self.connect(dbname, **options) as connection:
            return connection.execute(statement.encode()).fetchall()

    @contextmanager
    def database(self, name: str = "shop", **options: str) -> Iterator[str]:
        """Create a database, yield its conninfo, drop it."""
        self.create_database(name, **options)
        try:
            yield self.conninfo(name)
        finally:
            self.drop_database(name)

    def create_database(self, name: str, **options: str) -> None:
        with self.connect() as connection:
            clauses: list[sql.Composable] = [
                sql.SQL("{} {}").format(sql.SQL(key), sql.Literal(value)) for key, value in options.items()
            ]
            if clauses:
                clauses.append(sql.SQL("TEMPLATE template0"))
            connection.execute(
                sql.SQL("CREATE DATABASE {} {}").format(sql.Identifier(name), sql.SQL(" ").join(clauses))
            )

    def drop_database(self, name: str) -> None:
        with self.connect() as connection:
            connection.execute(
                sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
            )

    def stop(self) -> None:
        self.process.send_signal(signal.SIGINT)  # SIGTERM would wait for every session to end
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)


def programs(major: int) -> Path:
    """Return the directory of a major's programs: the system's, else the wheel's, installed once."""
    system = Path(f"/usr/lib/postgresql/{major}/bin")
    return system if (system / "postgres").exists() else install_wheel(major, WHEELS)


def start_postgres(major: int, programs: Path, settings: Mapping[str, str] | None = None) -> PostgresServer:
    """Initialise and start a server of `major` with the programs of a bin directory.

    The wheel's programs may lie where the unprivileged user cannot go: they are copied then.
    """
    directory = _directory()
    if not str(programs).startswith("/usr/"):
        shutil.copytree(programs.parent, directory / "pg", symlinks=True)
        programs = directory / "pg" / "bin"
    _give_away(directory / "password", PASSWORD)
    _run(
        programs,
        ("initdb", "-D", directory / "data", "-U", SUPERUSER, "--no-sync", "-E", "UTF8",
         "--locale=C.UTF-8", "-A", "scram-sha-256", f"--pwfile={directory / 'password'}"),
    )  # fmt: skip
    return _serve(major, programs, directory, settings or {})


def start_standby(primary: PostgresServer, settings: Mapping[str, str] | None = None) -> PostgresServer:
    """Start a hot standby that follows `primary`; stop it first."""
    directory = _directory()
    _run(
        primary.programs,
        ("pg_basebackup", "-D", directory / "data", "-R", "--checkpoint=fast", "--no-sync",
         f"--dbname={primary.conninfo()}"),
    )  # fmt: skip
    return _serve(primary.major, primary.programs, directory, settings or {})


def _directory() -> Path:
    directory = Path(tempfile.mkdtemp(prefix="pgsalvo-test-"))
    if os.geteuid() == 0:
        os.chown(directory, UNPRIVILEGED_UID, UNPRIVILEGED_UID)
    return directory


def _give_away(path: Path, text: str) -> None:
    path.write_text(text)
    if os.geteuid() == 0:
        os.chown(path, UNPRIVILEGED_UID, UNPRIVILEGED_UID)


def _identity(programs: Path) -> dict[str, Any]:
    """Return how subprocess starts a server's program: as nobody, with the wheel's own libraries."""
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}
    if not str(programs).startswith("/usr/"):
        environment["LD_LIBRARY_PATH"] = str(programs.parent / "lib")
    nobody: dict[str, Any] = {"user": UNPRIVILEGED_UID, "group": UNPRIVILEGED_UID, "extra_groups": []}
    return {"env": environment, "cwd": "/"} | (nobody if os.geteuid() == 0 else {})


def _run(programs: Path, command: tuple[Any, ...]) -> None:
    done = subprocess.run(
        (programs / command[0], *command[1:]), capture_output=True, check=False, **_identity(programs)
    )
    assert done.returncode == 0, done.stderr.decode()


def _serve(major: int, programs: Path, directory: Path, settings: Mapping[str, str]) -> PostgresServer:
    port = free_port()
    options = {"port": str(port), "listen_addresses": "127.0.0.1", "unix_socket_directories": str(directory)}
    flags = [f"--{name}={value}" for name, value in (FAST | options | dict(settings)).items()]
    with (directory / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [programs / "postgres", "-D", directory / "data", *flags],
            stdout=log,
            stderr=log,
            **_identity(programs),
        )
    server = PostgresServer(major, programs, directory, port, process)
    wait_until(lambda: _answers(server), f"PostgreSQL {major}")
    return server


def _answers(server: PostgresServer) -> bool:
    assert server.process.poll() is None, (server.directory / "server.log").read_text()
    try:
        server.connect().close()
    except psycopg.OperationalError:
        return False
    return True
