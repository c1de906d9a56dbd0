"""Where PostgreSQL's programs are found: pg_dump and its kin, and a server for the scratch database.

Stands apart because a wrong program shows late: an older pg_dump refuses the server in the night, a newer
one writes what older servers do not take back. So every program is asked for its version before it counts
as found, and an error tells the command that mends it here.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from blocks.errors import ConfigurationError, ProgramError, ProgramMissing, ProgramTooOld, ScratchLacks
from blocks.pgcommands import Connection
from blocks.pgtools_hints import Kind, hint_here
from blocks.pgtools_version import ask_version, parse_version
from blocks.pgtools_wheels import NEEDS, install_wheel, installed_wheels, tools_cache
from blocks.process import Command

__all__ = [
    "ClientPrograms",
    "Origin",
    "Search",
    "ServerPrograms",
    "find_client",
    "find_server",
    "install_wheel",
    "parse_version",
    "tools_cache",
]

Origin = Literal["configured", "PATH", "system", "wheel"]

CLIENT_PROGRAMS = ("pg_dump", "pg_restore", "pg_dumpall", "psql")
SERVER_PROGRAMS = ("postgres", "initdb")
SYSTEM_DIRECTORIES = (
    "/usr/lib/postgresql/*/bin",  # Debian, Ubuntu
    "/usr/pgsql-*/bin",  # PGDG's RPMs
    "/usr/libexec/postgresql*",  # Alpine
    "/opt/homebrew/opt/postgresql@*/bin",
    "/opt/homebrew/opt/libpq/bin",
    "/usr/local/opt/postgresql@*/bin",
    "/usr/local/opt/libpq/bin",
    "/Applications/Postgres.app/Contents/Versions/*/bin",
    "/usr/local/pgsql/bin",
)


@dataclass(frozen=True)
class Programs:
    """A directory whose programs all run and are of one version.

    Args:
        version: As they tell it: `15.18`, `17beta1`.
        library_path: Their own libraries, where these are not the system's.
    """

    bin_directory: Path
    version: str
    major: int
    origin: Origin
    library_path: Path | None = None

    @property
    def environment(self) -> dict[str, str]:
        """What the programs need in their environment."""
        return _environment(self.library_path)


class ClientPrograms(Programs):
    """pg_dump, pg_restore, pg_dumpall and psql of one version."""

    @property
    def pg_dump(self) -> Path:
        return self.bin_directory / "pg_dump"

    @property
    def pg_restore(self) -> Path:
        return self.bin_directory / "pg_restore"

    @property
    def pg_dumpall(self) -> Path:
        return self.bin_directory / "pg_dumpall"

    @property
    def psql(self) -> Path:
        return self.bin_directory / "psql"

    @property
    def place(self) -> str:
        """Where they are, for messages."""
        return str(self.bin_directory)

    @contextmanager
    def reaching(self, reached: Connection) -> Iterator[tuple[Connection, Callable[[Command], Command]]]:
        """Yield the connection as the programs reach it, and how their calls are run: as they are."""
        yield reached.with_environment(self.environment), lambda command: command


class ServerPrograms(Programs):
    """postgres and initdb of one version."""

    @property
    def initdb(self) -> Path:
        return self.bin_directory / "initdb"

    @property
    def postgres(self) -> Path:
        return self.bin_directory / "postgres"


P = TypeVar("P", bound=Programs)


@dataclass(frozen=True)
class Search:
    """Where programs may lie, beside a configured directory, and who knows how to install them.

    Args:
        path: PATH's directories.
        system: Directories of packages, one a major.
        wheels: bin directories of installed wheels, the newest first.
        hint: Tells the command that installs a major's client or server.
    """

    path: tuple[Path, ...] = ()
    system: tuple[Path, ...] = ()
    wheels: tuple[Path, ...] = ()
    hint: Callable[[int, Kind], str] = hint_here

    @classmethod
    def here(cls) -> "Search":
        """The places of this machine."""
        path = tuple(Path(name) for name in os.environ.get("PATH", "").split(os.pathsep) if name)
        system = (found for pattern in SYSTEM_DIRECTORIES for found in Path("/").glob(pattern.lstrip("/")))
        try:
            wheels = installed_wheels(tools_cache())
        except ConfigurationError:  # a user without a home has installed none
            wheels = []
        return cls(path, tuple(system), tuple(wheels))

    def places(self, configured: Path | None) -> Iterator[tuple[Origin, Path]]:
        """Yield every directory in the order they are tried."""
        if configured is not None:
            yield "configured", configured
        yield from (("PATH", directory) for directory in self.path)
        yield from (("system", directory) for directory in self.system)
        yield from (("wheel", directory) for directory in self.wheels)


def find_client(
    server_major: int, *, configured: Path | None = None, search: Search | None = None
) -> tuple[ClientPrograms, str]:
    """Return the client programs for a server, and a warning that is empty if nothing is odd about them.

    The server's major is taken wherever it is found first; else the newest, because pg_dump refuses a
    server that is newer than itself.

    Raises:
        ProgramTooOld: Everything found is older than the server.
        ProgramMissing: Nothing that runs is found.
    """
    search = search or Search.here()
    complaints: list[str] = []
    found: list[ClientPrograms] = []
    for programs in _usable(ClientPrograms, CLIENT_PROGRAMS, search.places(configured), complaints):
        found.append(programs)
        if programs.major == server_major:
            break
    chosen = max(found, key=lambda programs: (programs.major == server_major, programs.major), default=None)
    if chosen is None:
        message = f"no pg_dump that runs was found, PostgreSQL {server_major}'s is needed"
        raise ProgramMissing("; ".join((message, *complaints)), search.hint(server_major, "client"))
    if chosen.major < server_major:
        message = (
            f"the newest pg_dump found is {chosen.version} in {chosen.bin_directory},"
            f" the server needs {server_major} or newer"
        )
        raise ProgramTooOld("; ".join((message, *complaints)), search.hint(server_major, "client"))
    return chosen, "; ".join(_oddities(chosen, server_major, configured, complaints, search))


def find_server(
    major: int, *, configured: Path | None = None, search: Search | None = None
) -> ServerPrograms:
    """Return the server programs of exactly this major.

    Raises:
        ScratchLacks: There are none; its hint is the command that brings them.
    """
    search = search or Search.here()
    complaints: list[str] = []
    found: list[str] = []
    for programs in _usable(ServerPrograms, SERVER_PROGRAMS, search.places(configured), complaints):
        if programs.major == major:
            return programs
        found.append(programs.version)
    message = (
        f"no server of PostgreSQL {major} was found to restore into, only {' and '.join(found) or 'none'}"
    )
    raise ScratchLacks("; ".join((message, *complaints)), search.hint(major, "server"))


def _usable(
    kind: type[P], names: tuple[str, ...], places: Iterable[tuple[Origin, Path]], complaints: list[str]
) -> Iterator[P]:
    """Yield the programs of each place where all of `names` run; add to `complaints` why others are none."""
    seen: set[Path] = set()
    for origin, place in places:
        directory = _home(place / names[0])
        if directory is None and origin == "configured":
            complaints.append(f"there is no {names[0]} of its own in the configured directory {place}")
        if directory is None or directory in seen:
            continue
        seen.add(directory)
        try:
            yield _checked(kind, names, origin, directory)
        except ProgramError as error:
            complaints.append(f"{error.message} ({NEEDS})" if origin == "wheel" else error.message)


def _home(program: Path) -> Path | None:
    """Return the directory that a program really lies in, or None if it is not there.

    Links such as those of `alternatives` lead to the directory of one version, whose programs belong
    together. Debian's pg_wrapper picks a version by itself and is no program.
    """
    real = program.resolve()
    if not os.access(program, os.F_OK) or real.name == "pg_wrapper":
        return None
    return real.parent if real.name == program.name else program.parent.absolute()


def _checked(kind: type[P], names: tuple[str, ...], origin: Origin, directory: Path) -> P:
    """Ask every program for its version; raise `ProgramError` unless all run and agree."""
    libraries = directory.parent / "lib"
    has_own = origin in ("configured", "wheel") and (libraries / "libpq.so.5").exists()
    library_path = libraries if has_own else None
    versions = {ask_version(directory / name, _environment(library_path)) for name in names}
    if len(versions) > 1:
        raise ProgramError(f"{', '.join(names)} in {directory} are of different versions")
    version, major = versions.pop()
    return kind(directory, version, major, origin, library_path)


def _environment(library_path: Path | None) -> dict[str, str]:
    """Name the libraries: without, the wheels' dblink and postgres_fdw load the system's libpq and fail."""
    return {} if library_path is None else {"LD_LIBRARY_PATH": str(library_path)}


def _oddities(
    chosen: ClientPrograms, server_major: int, configured: Path | None, complaints: list[str], search: Search
) -> Iterator[str]:
    if configured is not None and chosen.origin != "configured":
        yield f"{chosen.bin_directory} is used instead of the configured directory {configured}"
    yield from complaints
    if chosen.major != server_major:
        yield (
            f"pg_dump {chosen.version} of {chosen.bin_directory} is newer than the server: only pg_restore"
            f" {chosen.major} or newer reads what it writes, and PostgreSQL {server_major} may not take it"
            f" back cleanly; for programs of {server_major}, {search.hint(server_major, 'client')}"
        )
