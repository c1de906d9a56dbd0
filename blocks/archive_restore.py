"""pg_restore fed from a stream: the head of an archive to a file, its rows straight into the database.

pg_restore cannot run parallel jobs from a pipe, but definitions need only the table of contents, which is
the beginning of the archive. Rows follow right behind it, so what is kept of it lies in memory.
"""

import os
import re
import tempfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import IO

from blocks import pgcommands
from blocks.errors import StreamDamaged
from blocks.pgcommands import Connection, Section
from blocks.process import STDERR_LINES, Command, Process, program_failed, run_checked, secret_file

_COUNTED = re.compile(r"warning: errors ignored on restore: (\d+)")
_ERROR = re.compile(
    r"^(?:pg_restore|psql)\S*: (?:\[[^]]*\] )?(?:error|fatal)|^(?:ERROR|FATAL):", re.IGNORECASE
)

_NOT_READABLE = re.compile(
    r"valid archive|magic string|unsupported version|end of file|could not read from input|sanity check"
    r"|appears to be a text|unrecognized|failed",
)


@dataclass
class RestoreOutcome:
    """What a restore said: `errors` are its own words, which may hold rows' values; `count` may be shown."""

    errors: list[str] = field(default_factory=list)
    count: int = 0

    def add(self, other: "RestoreOutcome") -> None:
        self.errors += other.errors
        self.count += other.count


@dataclass(frozen=True)
class ArchiveHead:
    """The beginning of an archive, its table of contents and some of the rows behind it."""

    path: Path
    file: IO[bytes]
    pass_fds: tuple[int, ...] = ()

    def passed_to(self, command: Command) -> Command:
        """Return a call that can open `path`."""
        return replace(command, pass_fds=(*command.pass_fds, *self.pass_fds))


@contextmanager
def archive_head() -> Iterator[ArchiveHead]:
    """Yield an empty head: in memory where the system has that, else in a 0600 file that is removed."""
    if hasattr(os, "memfd_create"):
        with os.fdopen(os.memfd_create("pgsalvo-head", 0), "wb") as file:
            yield ArchiveHead(Path(f"/proc/self/fd/{file.fileno()}"), file, (file.fileno(),))
        return
    with tempfile.NamedTemporaryFile("wb") as named:
        yield ArchiveHead(Path(named.name), named.file)


def read_head(pg_restore: Path, connection: Connection, plain: Iterator[bytes], head: ArchiveHead) -> None:
    """Copy the beginning of an archive until pg_restore has seen the whole table of contents.

    Raises:
        StreamDamaged: This is no archive, or none of a version that pg_restore knows.
        ProgramFailed: pg_restore was ended by a signal.
    """
    command = pgcommands.list_archive(pg_restore, connection)
    with Process(command, feed=True) as process:
        reader = threading.Thread(target=lambda: list(process.chunks()), daemon=True)
        reader.start()
        process.feed(_copied(plain, head.file))
        reader.join()
        status = process.wait()
    head.file.flush()
    if status < 0:
        raise program_failed(command.name, status, [])
    if status > 0 and not any(_NOT_READABLE.search(line) for line in process.stderr_lines):
        raise program_failed(command.name, status, process.stderr_lines)
    if status > 0:
        raise StreamDamaged("pg_restore does not know what was dumped for an archive of its own")


def entries_of(
    pg_restore: Path, connection: Connection, section: Section, head: ArchiveHead
) -> tuple[str, ...]:
    """Return the entries of a section, as pg_restore lists them."""
    command = pgcommands.list_archive(pg_restore, connection, section=section, archive=head.path)
    listing = run_checked(head.passed_to(command)).decode(errors="replace")
    return tuple(pgcommands.table_of_contents(listing))


def script_of(pg_restore: Path, connection: Connection, head: ArchiveHead, entry: str) -> str:
    """Return the SQL that one entry is restored by."""
    with _use_list([entry]) as (use_list, pass_fds):
        command = pgcommands.script(pg_restore, connection, head.path, use_list)
        command = replace(command, pass_fds=(*command.pass_fds, *pass_fds))
        return run_checked(head.passed_to(command)).decode(errors="replace")


def restore_rows(
    pg_restore: Path,
    connection: Connection,
    plain: Iterable[bytes],
    *,
    entries: Iterable[str] | None = None,
    no_privileges: bool = False,
) -> RestoreOutcome:
    """Stream an archive's rows into a database; an error of `plain` ends pg_restore and is passed on.

    Args:
        entries: Those of the data that are restored; all if None.
    """
    command = partial(pgcommands.restore, pg_restore, connection, no_privileges=no_privileges)
    if entries is None:
        return _fed(command(section="data"), plain)
    with _use_list(entries) as (use_list, pass_fds):
        call = command(use_list=use_list)
        return _fed(replace(call, pass_fds=(*call.pass_fds, *pass_fds)), plain)


def run_script(psql: Path, connection: Connection, script: Iterable[bytes]) -> RestoreOutcome:
    """Feed a script to psql; an error of `script` ends psql and is passed on."""
    return _fed(pgcommands.run_sql(psql, connection), script)


def restore_section(
    pg_restore: Path, connection: Connection, section: Section, head: ArchiveHead
) -> RestoreOutcome:
    """Restore a section of definitions from an archive's head."""
    command = pgcommands.restore(pg_restore, connection, section=section, archive=head.path)
    return _run(head.passed_to(command))


def restore_entries(
    pg_restore: Path,
    connection: Connection,
    head: ArchiveHead,
    entries: Iterable[str],
    *,
    jobs: int = 1,
    no_owner: bool = False,
    no_tablespaces: bool = False,
) -> RestoreOutcome:
    """Restore the given definitions from an archive's head, in this order."""
    with _use_list(entries) as (use_list, pass_fds):
        command = pgcommands.restore(
            pg_restore,
            connection,
            archive=head.path,
            jobs=jobs,
            use_list=use_list,
            no_owner=no_owner,
            no_tablespaces=no_tablespaces,
        )
        return _run(head.passed_to(replace(command, pass_fds=(*command.pass_fds, *pass_fds))))


@contextmanager
def _use_list(entries: Iterable[str]) -> Iterator[tuple[Path, tuple[int, ...]]]:
    with secret_file("".join(f"{entry}\n" for entry in entries).encode()) as (path, pass_fds):
        yield Path(path), pass_fds


def _run(command: Command) -> RestoreOutcome:
    with Process(command) as process:
        for _ in process.chunks():
            continue
        return _outcome(process)


def _fed(command: Command, chunks: Iterable[bytes]) -> RestoreOutcome:
    with Process(command, feed=True) as process:
        drain = threading.Thread(target=lambda: list(process.chunks()), daemon=True)
        drain.start()
        try:
            if not process.feed(chunks):
                for _ in chunks:  # whether the stream was whole is known at its end only
                    continue
        except BaseException:
            process.kill()
            raise
        drain.join()
        return _outcome(process)


def _outcome(process: Process) -> RestoreOutcome:
    """Return what the program said; a failure that it did not explain still counts as one error.

    Its own count stands only for lines that were not kept: with jobs it counts an error twice.
    """
    status = process.wait()
    lines = process.stderr_lines
    counted = next((int(found[1]) for line in lines if (found := _COUNTED.search(line))), 0)
    told = sum(1 for line in lines if _ERROR.search(line))
    count = told if told > 0 and len(lines) < STDERR_LINES else max(told, counted)
    if status < 0:
        raise program_failed(process.command.name, status, [])
    if status != 0 and not count:
        count = 1
    return RestoreOutcome(lines if count else [], count)


def _copied(chunks: Iterable[bytes], file: IO[bytes]) -> Iterator[bytes]:
    for chunk in chunks:
        file.write(chunk)
        yield chunk
