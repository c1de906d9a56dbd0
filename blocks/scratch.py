"""A scratch server that is started for one restore and ends with it: a PostgreSQL of its own.

What is restored was written by others and runs here, so the server is kept apart. Started as root it runs
as a user who can read nothing of ours; its environment is empty; it has no network; its superuser bears a
random name. All it writes lies in one directory that is destroyed at the end, or by the next
`sweep_scratch` if the run was killed.
"""

import os
import pwd
import re
import secrets
import signal
import subprocess
import tempfile
import time
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Self

import psycopg
from psycopg.conninfo import make_conninfo

from blocks.errors import ProgramError, ScratchError, ScratchLacks
from blocks.pgcommands import Connection
from blocks.pgtools import ServerPrograms
from blocks.process import Command, Process, run_checked
from blocks.scratch_collations import ProviderLocale
from blocks.scratch_commands import PORT, initdb_command, server_command
from blocks.scratch_directory import (
    DATA_NAME,
    Account,
    held_directory,
    private_directory,
    scratch_root,
    server_account,
    sweep_scratch,
)
from blocks.scratch_launch import HostLauncher, Launcher
from blocks.scratch_preload import package_of, preload_settings
from blocks.scratch_roles import NO_SEARCH_PATH, Scratch, Session, quiet_options, scratch_errors

__all__ = ["ScratchServer", "scratch_root", "sweep_scratch"]

MAINTENANCE_DATABASE = "template1"  # `postgres` may be the name of what is restored
SCRATCH_DATABASE = "restored"

_NO_LIBRARY = re.compile(r'FATAL:  could not access file "(?:.*/)?(\w+)": ')
_LONGEST_SOCKET_PATH = 100
_STOP_SECONDS = 10.0


class ScratchServer(Scratch):
    """A running scratch server; use it as a context manager.

    Args:
        programs: Of the source's major; or who runs them, if that is not this host itself.
        root: Directory that it lies below; see `scratch_root`.
        jobs: How many connections restore at the same time.
        start_seconds: How long initdb, and then the start, may take.
        preload: The libraries that it loads as it starts.

    Raises:
        ScratchLacks: At its start, if it has not got one of these.
    """

    maintenance_database = MAINTENANCE_DATABASE
    dbname = SCRATCH_DATABASE

    def __init__(
        self,
        programs: ServerPrograms | Launcher,
        root: Path,
        *,
        jobs: int = 2,
        start_seconds: float = 60.0,
        preload: Collection[str] = (),
    ) -> None:
        self.superuser = f"pgsalvo_scratch_{secrets.token_hex(4)}"
        self.restorer = f"pgsalvo_restorer_{secrets.token_hex(4)}"
        self.insiders = f"pgsalvo_insiders_{secrets.token_hex(4)}"
        self.port = PORT
        self._launcher = HostLauncher(programs) if isinstance(programs, ServerPrograms) else programs
        self.major = self._launcher.major
        self._root = root
        self._jobs = jobs
        self._start_seconds = start_seconds
        self._preload = preload

    def __enter__(self) -> Self:
        sweep_scratch(self._root)
        try:
            with ExitStack() as stack:
                self._start(stack, server_account())
                self._closing = stack.pop_all()
        except OSError as error:
            raise ScratchError(f"the scratch server's files cannot be laid out: {error}") from error
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    @property
    def log_lines(self) -> list[str]:
        """The last lines of the server's log."""
        return self._process.stderr_lines

    def conninfo(self, dbname: str, user: str | None = None) -> str:
        """Return how to reach a database, as the superuser if no user is given; there is no password.

        What PGOPTIONS and PGCHANNELBINDING ask of the source does not hold here.
        """
        return make_conninfo(
            host=str(self.socket_directory),
            port=self.port,
            dbname=dbname,
            user=user or self.superuser,
            channel_binding="disable",
            options="",
        )

    def connect(self, dbname: str) -> AbstractContextManager[Session]:
        return _connected(self.conninfo(dbname), quiet_options(self.major))

    def connect_as_restorer(self, dbname: str) -> AbstractContextManager[Session]:
        return _connected(self.conninfo(dbname, self.restorer), NO_SEARCH_PATH)

    @contextmanager
    def client(self, dbname: str, user: str | None = None) -> Iterator[Connection]:
        yield Connection(self.conninfo(dbname, user))

    def create_database(
        self,
        dbname: str,
        encoding: str,
        collate: str,
        ctype: str,
        owner: str,
        own: ProviderLocale | None = None,
    ) -> list[str]:
        if dbname == "postgres":
            with self.connect(MAINTENANCE_DATABASE) as session:
                session.execute("DROP DATABASE IF EXISTS postgres")
        return super().create_database(dbname, encoding, collate, ctype, owner, own)

    def _start(self, stack: ExitStack, account: Account | None) -> None:
        self.directory = stack.enter_context(held_directory(scratch_root(self._root, account), account))
        self.socket_directory = self._make_socket_directory(stack, account)
        programs = self._launcher.programs(self.directory, account)
        data = private_directory(self.directory / DATA_NAME, account)
        self._initialise(initdb_command(programs, data, self.superuser, account), data)
        preload = preload_settings(self._preload, self.dbname)
        command = server_command(
            programs, data, self.socket_directory, account, jobs=self._jobs, preload=preload
        )
        command, self.is_off_network = self._launcher.server(command, self.directory)
        self._process = stack.enter_context(_running(command))
        self._wait_until_ready()

    def _make_socket_directory(self, stack: ExitStack, account: Account | None) -> Path:
        """Make the socket's directory, in the temporary one if clients could not name it below `root`.

        A socket's path has room for 107 bytes, and libpq takes a comma for the end of a host.
        """
        directory = self.directory
        path = os.fsencode(directory / "socket" / f".s.PGSQL.{PORT}")
        if len(path) > _LONGEST_SOCKET_PATH or b"," in path:
            short_root = scratch_root(Path(tempfile.gettempdir()), account)
            directory = stack.enter_context(held_directory(short_root, account))
        return private_directory(directory / "socket", account)

    def _initialise(self, initdb: Command, data: Path) -> None:
        """Run initdb, and let in only whoever the kernel says is us.

        `peer` rather than `trust`: as root, even code that runs inside the server (as another user) cannot
        come back to the socket as the superuser, by dblink for example.
        """
        try:
            command = self._launcher.initdb(initdb, self.directory)
            run_checked(command, timeout_seconds=self._start_seconds)
            us = pwd.getpwuid(os.geteuid()).pw_name
        except ProgramError as error:
            raise ScratchError(f"the scratch server was not set up: {error.message}", error.hint) from error
        except KeyError as error:
            raise ScratchError(f"the user {os.geteuid()} has no name", "add it to /etc/passwd") from error
        (data / "pg_hba.conf").write_text("local all all peer map=us\n")
        roles = (self.superuser, self.restorer)
        (data / "pg_ident.conf").write_text("".join(f'us "{us}" {role}\n' for role in roles))

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + self._start_seconds
        while True:
            if (status := _ended(self._process, 0.02)) is not None:
                self._refuse_missing_library()
                last = (self.log_lines or ["without a word"])[-1].strip()
                raise ScratchError(f"the scratch server ended with exit status {status}: {last}")
            try:
                psycopg.connect(self.conninfo(MAINTENANCE_DATABASE)).close()
            except psycopg.OperationalError as error:
                if time.monotonic() > deadline:
                    said = str(error).strip().splitlines()[0]
                    raise ScratchError(
                        f"the scratch server did not answer within {self._start_seconds:g} s: {said}"
                    ) from None
            else:
                return

    def _refuse_missing_library(self) -> None:
        absent = (_NO_LIBRARY.match(line) for line in self.log_lines)
        for name in [found[1] for found in absent if found and found[1] in self._preload]:
            raise ScratchLacks(
                f"the scratch server of PostgreSQL {self.major} has no library {name}, which it must preload",
                f"install it where it runs, for example: apt-get install {package_of(name, self.major)}",
            )


@contextmanager
def _connected(conninfo: str, options: str) -> Iterator[Session]:
    with (
        scratch_errors(),
        psycopg.connect(make_conninfo(conninfo, options=options), autocommit=True) as session,
    ):
        yield session


@contextmanager
def _running(command: Command) -> Iterator[Process]:
    """Run the server and end it at once, without waiting for its sessions: SIGTERM would."""
    with Process(command) as process:
        try:
            yield process
        finally:
            if _ended(process, 0) is None:
                os.kill(process.pid, signal.SIGQUIT)
                if _ended(process, _STOP_SECONDS) is None:
                    process.kill()


def _ended(process: Process, within_seconds: float) -> int | None:
    try:
        return process.wait(within_seconds)
    except subprocess.TimeoutExpired:
        return None
