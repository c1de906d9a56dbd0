"""A database with one row that is easy to recognise and many that take their time, and its plan.

`failed` runs a backup that must fail, and looks at everything that a failed backup must leave as it was.
"""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from blocks.errors import WorldError
from flows.core.errors import BackupError
from tests.servers.plan import PlanOnDisk
from tests.servers.postgres import PostgresServer
from tests.servers.processes import children, eventually
from tests.servers.programs import stubbed_programs

DBNAME = "ledger"
PLANTED = "planted-row-value-d41c8f"
TABLES = f"""
    CREATE TABLE accounts (id int PRIMARY KEY, owner text NOT NULL);
    INSERT INTO accounts SELECT n, '{PLANTED}-' || n FROM generate_series(1, 500) n;
    CREATE TABLE scans (id serial PRIMARY KEY, page bytea);
    ALTER TABLE scans ALTER page SET STORAGE EXTERNAL;
"""
SCANS = 192
SCAN_BYTES = 64 << 10
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


@dataclass(frozen=True)
class Ledger:
    """The database `ledger` on a server, and a plan for it whose store holds a good backup already."""

    server: PostgresServer
    plan: PlanOnDisk

    def failed(self) -> WorldError | BackupError:
        """Run a backup that must fail and leave nothing behind; return what the run says was its cause."""
        before = self.stored()
        cause = self.failed_somehow()
        assert self.stored() == before
        return cause

    def failed_somehow(self) -> WorldError | BackupError:
        """Run a backup that must fail, but may have stored something; return its cause."""
        from flows.backup import back_up

        state = back_up(self.plan.name, return_state=True)
        assert state.is_failed(), state
        cause = state.result(raise_on_failure=False)
        assert isinstance(cause, (WorldError, BackupError)), repr(cause)
        assert cause.hint
        assert PLANTED not in (state.message or "")
        self.assert_at_rest()
        return cause

    def stored(self) -> dict[str, str]:
        """Return the checksum of every file of the local store by its path, unfinished uploads too."""
        return checksums(contents(self.plan.directory / "store"))

    def assert_at_rest(self) -> None:
        """Nothing runs any more, nothing waits on local disk, and nothing was written in the clear."""
        self.assert_nothing_runs()
        assert list(self.plan.spool.glob("*")) == []
        assert list((self.plan.directory / "tmp").glob("*")) == []
        assert clear_texts(self.plan.directory) == []

    def assert_nothing_runs(self, seconds: float = 15.0) -> None:
        """No program that a backup starts is left, and no session of a backup on the server."""
        programs = ("gpg", "pg_dump", "pg_dumpall")
        eventually(lambda: not any(children(name) for name in programs), "its programs ended", seconds)
        eventually(lambda: not self.sessions("pg%"), "its sessions ended", seconds)

    def sessions(self, application: str = "pg_dump") -> list[int]:
        """Return the server processes of a backup's sessions on the database."""
        return [
            pid
            for (pid,) in self.server.query(
                "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend'"
                f" AND datname = '{DBNAME}' AND application_name LIKE '{application}'"
            )
        ]

    def terminate(self, application: str) -> None:
        """End a backup's sessions as an administrator does."""
        for pid in self.sessions(application):
            self.server.query(f"SELECT pg_terminate_backend({pid})")

    def hold_programs(self) -> None:
        """Let the next run's pg_dump and pg_dumpall wait for `halt_in_the_middle`."""
        self._hold.touch()
        self.plan.write(
            database={"conninfo": "file:database-url", "client_directory": str(self.plan.directory / "held")}
        )

    def let_programs_go(self) -> None:
        self._hold.unlink(missing_ok=True)

    def halt_in_the_middle(self, of: int | None = None) -> list[psutil.Process]:
        """Stop every gpg of a run, so that pg_dump comes to a halt amid its rows; return them, main's first.

        `hold_programs` comes before the run, so that no gpg is over before it is seen.

        Args:
            of: The run's process, by default this one.
        """
        try:
            eventually(lambda: len(children("gpg", "--encrypt", of=of)) == 2, "both gpg wait for their input")
            stopped = children("gpg", "--encrypt", of=of)
            for gpg in stopped:
                gpg.suspend()
        finally:
            self.let_programs_go()
        eventually(self._waits_for_its_reader, "pg_dump came to a halt amid its rows")
        return stopped

    @property
    def _hold(self) -> Path:
        return self.plan.directory / "hold"

    def _waits_for_its_reader(self) -> bool:
        return bool(
            self.server.query(
                "SELECT FROM pg_stat_activity WHERE application_name = 'pg_dump'"
                f" AND datname = '{DBNAME}' AND query LIKE 'COPY %scans%' AND wait_event = 'ClientWrite'"
            )
        )


def make_ledger(server: PostgresServer, directory: Path) -> Ledger:
    """Fill the database, write its plan and make one good backup; Prefect's API must be there."""
    server.execute(TABLES, DBNAME)
    with server.connect(DBNAME) as session, session.cursor().copy("COPY scans (page) FROM STDIN") as rows:
        for _ in range(SCANS):
            rows.write_row([os.urandom(SCAN_BYTES)])
    held = f'while [ -e {directory}/hold ]; do sleep 0.02; done; exec $REAL "$@"'
    stubbed_programs(directory / "held", server.programs, pg_dump=held, pg_dumpall=held)
    return Ledger(server, PlanOnDisk.for_database(directory, server.conninfo(DBNAME)))


def contents(directory: Path) -> dict[str, bytes]:
    """Return every file below a directory by its relative path."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def checksums(bodies: Mapping[str, bytes]) -> dict[str, str]:
    """Return what tells whether bodies differ: in a failed assertion megabytes would be unreadable."""
    return {name: hashlib.sha256(body).hexdigest() for name, body in bodies.items()}


def clear_texts(directory: Path) -> list[str]:
    """Return the files below a directory that hold a row in the clear, or a dump that is not encrypted."""
    return [
        name
        for name, body in contents(directory).items()
        if PLANTED.encode() in body or body.startswith((b"PGDMP", ZSTD_MAGIC))
    ]
