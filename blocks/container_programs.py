"""pg_dump and pg_dumpall in a container, given what they would find on the host itself.

The same user, network and passwords, the files of TLS, the directory of a Unix socket; and a FIFO, by which
a dump comes to us past the daemon.
"""

import itertools
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeAlias

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from blocks.container_connection import explicit_parameters, libpq_variables, mounts_of, password_file
from blocks.containers import Container, Mount, Runtime, run_command
from blocks.elsewhere import Watchdog
from blocks.pgcommands import Connection
from blocks.process import Command
from blocks.scratch_directory import Account

Launched: TypeAlias = Callable[[Command], Command]

SHARED = Path("/run/pgsalvo")  # in the container
_PASSFILE = "passfile"
_IN_MEMORY = Path("/dev/shm")  # noqa: S108 - a private directory is made there


@dataclass(frozen=True)
class ContainerPrograms:
    """pg_dump and pg_dumpall of an image: what `ClientPrograms` are on a host that has them."""

    image: str
    version: str
    major: int
    runtime: Runtime
    network: str = "host"
    memory: str = ""
    pg_dump: Path = field(default=Path("pg_dump"), init=False)
    pg_dumpall: Path = field(default=Path("pg_dumpall"), init=False)

    @property
    def place(self) -> str:
        """Where they are, for messages."""
        return f"the image {self.image}"

    @contextmanager
    def reaching(self, reached: Connection) -> Iterator[tuple[Connection, Launched]]:
        """Yield the same connection as the programs in a container reach it, and how their calls are run.

        The password lies in memory, in a file that only we and they can read, while the context lasts.
        """
        given = conninfo_to_dict(reached.dbname)
        parameters = explicit_parameters(given, libpq_variables(), Path.home() / ".postgresql")
        mounts = mounts_of(parameters)
        with shared_directory() as directory:
            (directory / _PASSFILE).touch(mode=0o600)
            (directory / _PASSFILE).write_bytes(password_file(reached.environment, given))
            prefix, numbers = f"pgsalvo-{secrets.token_hex(6)}", itertools.count(1)

            def launched(command: Command) -> Command:
                container = Container(
                    f"{prefix}-{next(numbers)}",
                    self.image,
                    our_account(),
                    network=self.network,
                    mounts=(Mount(directory, SHARED), *mounts),
                    memory=self.memory,
                )
                return dumping(command, self.runtime, container, directory)

            yield Connection(make_conninfo(**parameters)), launched


def our_account() -> Account:
    return Account(os.geteuid(), os.getegid())


def dumping(command: Command, runtime: Runtime, container: Container, directory: Path) -> Command:
    """Return the call of pg_dump or pg_dumpall in a container, with its output in a FIFO in `directory`.

    Args:
        command: As `pgcommands` makes it; its program is called by its name in the image.
        directory: Of this host; the container sees it.
    """
    program, *arguments = command.argv
    # a dump's file is synced at its end, which a FIFO does not take
    options = (f"--file={SHARED / container.name}", "--no-sync")
    environment = {"PGPASSFILE": str(SHARED / _PASSFILE), "LC_ALL": "C.UTF-8"}
    return run_command(
        runtime,
        replace(container, environment=environment, output=directory / container.name, directory=directory),
        (program, *arguments, *options),
    )


@contextmanager
def shared_directory() -> Iterator[Path]:
    """Make a private directory that containers see; it is removed even if we are killed."""
    place = _IN_MEMORY if os.access(_IN_MEMORY, os.W_OK | os.X_OK) else None
    directory = Path(tempfile.mkdtemp(prefix="pgsalvo-container-", dir=place))
    watchdog = Watchdog(("rm", "-rf", "--", str(directory)), {"PATH": os.defpath})
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        watchdog.dismiss()
