"""pg_restore fed from a stream: the head of an archive to a file, its rows straight into the database.

pg_restore cannot run parallel jobs from a pipe, but definitions need only the table of contents, which is
the beginning of the archive.
"""

import os
import re
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from blocks import pgcommands
from blocks.errors import StreamDamaged
from blocks.pgcommands import Connection, Section
from blocks.process import Command, Process, program_failed

_COUNTED = re.compile(r"warning: errors ignored on restore: (\d+)")
_ERROR = re.compile(
    r"^(?:pg_restore|psql)\S*: (?:\[[^]]*\] )?(?:error|fatal)|(?:^|\s)(?:ERROR|FATAL):", re.IGNORECASE
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
    """A file that begins with an archive's table of contents, and the entries that this lists."""

    path: Path
    entries: tuple[str, ...]


def read_head(pg_restore: Path, connection: Connection, plain: Iterator[bytes], path: Path) -> ArchiveHead:
    """Copy the beginning of an archive to a 0600 file until pg_restore has seen the whole table of contents.

    Raises:
        StreamDamaged: This is no archive, or none of a version that pg_restore knows.
        ProgramFailed: pg_restore was ended by a signal.
    """
    command = pgcommands.list_archive(pg_restore, connection)
    with Process(command, feed=True) as process, _private_file(path) as file:
        listing: list[bytes] = []
        reader = threading.Thread(target=lambda: listing.extend(process.chunks()), daemon=True)
        reader.start()
        process.feed(_copied(plain, file))
        reader.join()
        status = process.wait()
    if status < 0:
        raise program_failed(command.name, status, [])
    if status > 0:
        raise StreamDamaged("pg_restore does not know what was dumped for an archive of its own")
    return ArchiveHead(path, tuple(pgcommands.table_of_contents(b"".join(listing).decode(errors="replace"))))


def restore_rows(pg_restore: Path, connection: Connection, plain: Iterable[bytes]) -> RestoreOutcome:
    """Stream an archive's rows into a database; an error of `plain` ends pg_restore and is passed on."""
    return _fed(pgcommands.restore(pg_restore, connection, section="data"), plain)


def run_script(psql: Path, connection: Connection, script: Iterable[bytes]) -> RestoreOutcome:
    """Feed a script to psql; an error of `script` ends psql and is passed on."""
    return _fed(pgcommands.run_sql(psql, connection), script)


def restore_section(
    pg_restore: Path,
    connection: Connection,
    section: Section,
    head: ArchiveHead,
    *,
    entries: Iterable[str] | None = None,
    jobs: int = 1,
    no_owner: bool = False,
) -> RestoreOutcome:
    """Restore definitions from an archive's head, only the given entries if there are any."""
    use_list = None
    if entries is not None:
        use_list = head.path.with_suffix(".list")
        with _private_file(use_list) as file:
            file.write("".join(f"{entry}\n" for entry in entries).encode())
    command = pgcommands.restore(
        pg_restore,
        connection,
        section=section,
        archive=head.path,
        jobs=jobs,
        use_list=use_list,
        no_owner=no_owner,
    )
    try:
        with Process(command) as process:
            for _ in process.chunks():
                continue
            return _outcome(process)
    finally:
        if use_list is not None:
            use_list.unlink()


def _fed(command: Command, chunks: Iterable[bytes]) -> RestoreOutcome:
    with Process(command, feed=True) as process:
        drain = threading.Thread(target=lambda: list(process.chunks()), daemon=True)
        drain.start()
        try:
            process.feed(chunks)
        except BaseException:
            process.kill()
            raise
        drain.join()
        return _outcome(process)


def _outcome(process: Process) -> RestoreOutcome:
    """Return what the program said; a failure that it did not explain still counts as one error."""
    status = process.wait()
    lines = process.stderr_lines
    counted = next((int(found[1]) for line in lines if (found := _COUNTED.search(line))), 0)
    count = max(counted, sum(1 for line in lines if _ERROR.search(line)))
    if status < 0:
        raise program_failed(process.command.name, status, [])
    if status != 0 and not count:
        count = 1
    return RestoreOutcome(lines if count else [], count)


def _copied(chunks: Iterable[bytes], file: BinaryIO) -> Iterator[bytes]:
    for chunk in chunks:
        file.write(chunk)
        yield chunk


def _private_file(path: Path) -> BinaryIO:
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")
