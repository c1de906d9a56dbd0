"""The scratch server: a PostgreSQL of its own that a verification restores into, and that ends with it.

What is restored was written by others and runs here, so the server is kept apart. Started as root it runs
as a user who can read nothing of ours; its environment is empty; it listens on no network; its superuser
bears a random name. All it writes lies in one directory that is destroyed at the end, or by the next
`sweep_scratch` if the run was killed.
"""

import os
import pwd
import secrets
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psycopg
from psycopg import errors, sql
from psycopg.conninfo import make_conninfo

from blocks.errors import ProgramError, ScratchError
from blocks.pgtools import ServerPrograms
from blocks.process import Command, Process, run_checked
from blocks.scratch_commands import PORT, initdb_command, server_command
from blocks.scratch_directory import (
    DATA_NAME,
    Account,
    held_directory,
    private_directory,
    scratch_root,
    server_account,
    sweep_scratch,
    within_reach,
)

__all__ = ["ScratchServer", "scratch_root", "sweep_scratch"]

MAINTENANCE_DATABASE = "template1"  # `postgres` may be the name of what is restored

_LONGEST_SOCKET_PATH = 100
_STOP_SECONDS = 10.0


class ScratchServer:
    """A running scratch server; use it as a context manager.

    Args:
        programs: Of the source's major.
        root: Directory that it lies below; see `scratch_root`.
        jobs: How many connections restore at the same time.
        start_seconds: How long initdb, and then the start, may take.
    """

    def __init__(
        self, programs: ServerPrograms, root: Path, *, jobs: int = 2, start_seconds: float = 60.0
    ) -> None:
        self.superuser = f"pgsalvo_scratch_{secrets.token_hex(4)}"
        self.restorer = f"pgsalvo_restorer_{secrets.token_hex(4)}"
        self.insiders = f"pgsalvo_insiders_{secrets.token_hex(4)}"
        self.port = PORT
        self._programs = programs
        self._root = root
        self._jobs = jobs
        self._start_seconds = start_seconds

    def __enter__(self) -> "ScratchServer":
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

    @contextmanager
    def connect(self, dbname: str) -> "Iterator[psycopg.Connection[tuple[Any, ...]]]":
        """Open a session of the superuser, in autocommit mode, to whom the restored names mean nothing.

        Whatever was restored, an operator of a schema on the search path for example, must not be called by
        the superuser's own queries; nor may settings that restored code gave the database hold here.

        Its errors become `ScratchError`s without their cause, whose DETAIL may hold rows' values.
        """
        try:
            conninfo = make_conninfo(self.conninfo(dbname), options="-c search_path=")
            with psycopg.connect(conninfo, autocommit=True) as session:
                yield session
        except psycopg.Error as error:
            said = error.diag.message_primary or type(error).__name__
            raise ScratchError(f"the scratch server failed: {said}") from None

    def create_database(self, dbname: str, encoding: str, collate: str, ctype: str, owner: str) -> list[str]:
        """Create an empty database as the source's is, and return notes on what had to differ.

        A locale that is not installed here becomes C; the owner becomes a stand-in.
        """
        self.create_stand_in_roles([owner])
        with self.connect(MAINTENANCE_DATABASE) as session:
            if dbname == "postgres":
                session.execute("DROP DATABASE IF EXISTS postgres")
            try:
                session.execute(_create_database(dbname, encoding, collate, ctype, owner))
            except (errors.WrongObjectType, errors.InvalidParameterValue):
                session.execute(_create_database(dbname, encoding, "C", "C", owner))
                return [f"the locale {collate} ({ctype}) is not here with {encoding}: sorted by C instead"]
        return []

    def create_stand_in_roles(self, names: Iterable[str]) -> None:
        """Create roles that bear the source's names and cannot log in; pg_* are PostgreSQL's own.

        On the source they may be superusers or members of others, so that views over others' tables are
        theirs. Here each of them may read and write every row, and do nothing else.
        """
        create = sql.SQL("CREATE ROLE {} NOLOGIN BYPASSRLS IN ROLE {}")
        insiders = sql.Identifier(self.insiders)
        with self.connect(MAINTENANCE_DATABASE) as session:
            existing = {name for (name,) in session.execute("SELECT rolname FROM pg_roles")}
            wanted = dict.fromkeys(name for name in names if not name.startswith("pg_"))
            with session.transaction():
                if self.insiders not in existing:
                    session.execute(create.format(insiders, sql.SQL("pg_read_all_data, pg_write_all_data")))
                for name in wanted:
                    if name not in existing:
                        session.execute(create.format(sql.Identifier(name), insiders))

    def create_restorer(self) -> str:
        """Create the role that restores rows and what follows them, or join it to new stand-ins.

        It logs in as itself and is no superuser, so that restored code has nothing to go back to by
        RESET ROLE. As a member of every stand-in it may do to their objects what an owner may.

        Returns:
            Its name.
        """
        restorer = sql.Identifier(self.restorer)
        options = " WITH INHERIT TRUE, SET TRUE" if self._programs.major >= 16 else ""
        with self.connect(MAINTENANCE_DATABASE) as session:
            roles = session.execute("SELECT rolname, rolsuper, rolcanlogin FROM pg_roles").fetchall()
            if self.restorer not in {name for name, _, _ in roles}:
                session.execute(sql.SQL("CREATE ROLE {} LOGIN NOSUPERUSER BYPASSRLS").format(restorer))
            groups = [name for name, is_superuser, may_log_in in roles if not is_superuser and not may_log_in]
            stand_ins = [name for name in groups if not name.startswith("pg_")]
            members_of = sql.SQL(", ").join(map(sql.Identifier, stand_ins))
            session.execute(sql.SQL("GRANT {} TO {}{}").format(members_of, restorer, sql.SQL(options)))
        return self.restorer

    def available_extensions(self) -> set[str]:
        """Return the names of the extensions that CREATE EXTENSION finds."""
        with self.connect(MAINTENANCE_DATABASE) as session:
            return {name for (name,) in session.execute("SELECT name FROM pg_available_extensions")}

    def has_icu(self) -> bool:
        """Tell whether the server was built with ICU: only then does initdb import its collations."""
        query = r"SELECT EXISTS (SELECT FROM pg_collation WHERE collname LIKE '%\-x\-icu')"
        with self.connect(MAINTENANCE_DATABASE) as session:
            return session.execute(query).fetchone() == (True,)

    def _start(self, stack: ExitStack, account: Account | None) -> None:
        self.directory = stack.enter_context(held_directory(scratch_root(self._root, account), account))
        self.socket_directory = self._make_socket_directory(stack, account)
        programs = within_reach(self._programs, self.directory, account)
        data = private_directory(self.directory / DATA_NAME, account)
        self._initialise(programs, data, account)
        command = server_command(programs, data, self.socket_directory, account, jobs=self._jobs)
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

    def _initialise(self, programs: ServerPrograms, data: Path, account: Account | None) -> None:
        """Run initdb, and let in only whoever the kernel says is us.

        `peer` rather than `trust`: as root, even code that runs inside the server (as another user) cannot
        come back to the socket as the superuser, by dblink for example.
        """
        try:
            run_checked(
                initdb_command(programs, data, self.superuser, account), timeout_seconds=self._start_seconds
            )
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


def _create_database(dbname: str, encoding: str, collate: str, ctype: str, owner: str) -> sql.Composed:
    return sql.SQL(
        "CREATE DATABASE {} OWNER {} TEMPLATE template0 ENCODING {} LC_COLLATE {} LC_CTYPE {}"
    ).format(
        sql.Identifier(dbname),
        sql.Identifier(owner),
        sql.Literal(encoding),
        sql.Literal(collate),
        sql.Literal(ctype),
    )


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
