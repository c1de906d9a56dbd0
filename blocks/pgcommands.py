"""The calls of PostgreSQL's programs, each a pure function to a `Command`."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from blocks.process import Command

Section = Literal["pre-data", "data", "post-data"]


@dataclass(frozen=True)
class Connection:
    """How a program reaches a database: a conninfo without its password, and where that lies.

    Args:
        dbname: A conninfo for `--dbname`; it never holds a password.
        environment: PGPASSFILE and libraries' paths.
        pass_fds: Descriptors that `environment` speaks of.
    """

    dbname: str
    environment: Mapping[str, str] = field(default_factory=dict)
    pass_fds: tuple[int, ...] = ()

    def with_environment(self, added: Mapping[str, str]) -> "Connection":
        """Return the same connection for programs that need `added` in their environment."""
        return replace(self, environment={**self.environment, **added})


@dataclass(frozen=True)
class DumpSelection:
    """What a dump leaves out or is limited to; names are exact (schema, name) pairs.

    Args:
        large_objects: Whether they are dumped, as long as no schema is named.
    """

    include_schemas: tuple[str, ...] = ()
    exclude_schemas: tuple[str, ...] = ()
    exclude_tables: tuple[tuple[str, str], ...] = ()
    exclude_table_data: tuple[tuple[str, str], ...] = ()
    large_objects: bool = True


def dump(
    program: Path,
    connection: Connection,
    *,
    snapshot: str,
    lock_wait_seconds: float,
    selection: DumpSelection,
) -> Command:
    """pg_dump of a snapshot in the custom format, uncompressed, to stdout."""
    names = (
        *(f"--schema={pattern(name)}" for name in selection.include_schemas),
        *(f"--exclude-schema={pattern(name)}" for name in selection.exclude_schemas),
        *(f"--exclude-table={pattern(*name)}" for name in selection.exclude_tables),
        *(f"--exclude-table-data={pattern(*name)}" for name in selection.exclude_table_data),
    )
    return _command(
        program,
        connection,
        "--format=custom",
        "--compress=0",
        f"--snapshot={snapshot}",
        f"--lock-wait-timeout={int(lock_wait_seconds * 1000)}",
        *(("--strict-names",) if names else ()),
        *(() if selection.large_objects else ("--no-blobs",)),
        *names,
    )


def dump_schema(program: Path, connection: Connection) -> Command:
    """pg_dump of the definitions alone, as a trial."""
    return _command(program, connection, "--schema-only", "--format=custom", "--lock-wait-timeout=10000")


def dump_globals(program: Path, connection: Connection, *, passwords: bool) -> Command:
    """pg_dumpall of roles and tablespaces in UTF-8; without `passwords` it does not need pg_authid."""
    entered = f"--database={connection.dbname}"  # else `postgres`, which may be closed to the role
    options = () if passwords else ("--no-role-passwords",)
    return _command(program, connection, entered, "--globals-only", "--encoding=UTF8", *options)


def list_archive(
    program: Path, connection: Connection, *, section: Section | None = None, archive: Path | None = None
) -> Command:
    """pg_restore's table of contents of an archive, or of that on stdin; it reads no further than it must."""
    argv = (
        *(str(program), "--list"),
        *((f"--section={section}",) if section else ()),
        *((str(archive),) if archive else ()),
    )
    return Command(argv, connection.environment)


def script(program: Path, connection: Connection, archive: Path, use_list: Path) -> Command:
    """pg_restore of some entries as SQL to stdout; it connects to nothing."""
    return Command((str(program), "--file=-", f"--use-list={use_list}", str(archive)), connection.environment)


def restore(
    program: Path,
    connection: Connection,
    *,
    section: Section | None = None,
    archive: Path | None = None,
    jobs: int = 1,
    use_list: Path | None = None,
    no_owner: bool = False,
    no_privileges: bool = False,
    no_tablespaces: bool = False,
) -> Command:
    """pg_restore of a section, or of what a list names, from a file, or from stdin when there is none.

    With a list, no section must be named: to pg_restore rights and comments belong to the section of
    whatever the list has before them.

    It goes on after an error: whoever calls reads the errors, and counts any as a failure.
    """
    return _command(
        program,
        connection,
        *((f"--section={section}",) if section else ()),
        *((f"--jobs={jobs}",) if jobs > 1 else ()),
        *((f"--use-list={use_list}",) if use_list else ()),
        *(("--no-owner",) if no_owner else ()),
        *(("--no-privileges",) if no_privileges else ()),
        *(("--no-tablespaces",) if no_tablespaces else ()),
        *((str(archive),) if archive else ()),
    )


def run_sql(program: Path, connection: Connection) -> Command:
    """psql of the script on stdin, going on after errors, without the user's psqlrc."""
    return _command(program, connection, "--no-psqlrc", "--quiet", "--file=-")


def pattern(*parts: str) -> str:
    """Return the psql pattern that matches exactly one name: `schema`, or `schema`.`table`."""
    return ".".join('"' + re.sub('"', '""', part) + '"' for part in parts)


def _command(program: Path, connection: Connection, *options: str) -> Command:
    argv = (str(program), "--no-password", f"--dbname={connection.dbname}", *options)
    return Command(argv, connection.environment, connection.pass_fds)


def table_of_contents(listing: str) -> Iterable[str]:
    """Yield the entries of pg_restore's `--list`, without its comments.

    A line ends at a line feed only: names may hold other characters that count as line breaks elsewhere.
    """
    return (line for line in listing.split("\n") if line and not line.startswith(";"))
