"""Who runs a scratch server's two programs: this host itself, or whoever else can (a container, say)."""

from pathlib import Path
from typing import Protocol

from blocks.isolation import can_do_without_network, without_network
from blocks.pgtools import ServerPrograms
from blocks.process import Command
from blocks.scratch_directory import Account, within_reach


class Launcher(Protocol):
    """Turns the calls of initdb and postgres into those that run them where they belong.

    Both run as the call's user and find `directory`, with all below it, under the same name; the socket's
    directory may lie elsewhere. SIGQUIT to the process that is started must end the server at once.
    """

    @property
    def major(self) -> int:
        """The programs' major."""

    def programs(self, directory: Path, account: Account | None) -> ServerPrograms:
        """Return the programs by the names under which they are found; they may be copied to `directory`."""

    def initdb(self, command: Command, directory: Path) -> Command:
        """Return the call that makes the cluster."""

    def server(self, command: Command, directory: Path) -> tuple[Command, bool]:
        """Return the call that starts the server, and whether it has no network then."""


class HostLauncher:
    """Runs a major's programs on this host, the server without a network if that can be had."""

    def __init__(self, programs: ServerPrograms) -> None:
        self._programs = programs

    @property
    def major(self) -> int:
        return self._programs.major

    def programs(self, directory: Path, account: Account | None) -> ServerPrograms:
        return within_reach(self._programs, directory, account)

    def initdb(self, command: Command, directory: Path) -> Command:  # noqa: ARG002
        return command

    def server(self, command: Command, directory: Path) -> tuple[Command, bool]:  # noqa: ARG002
        if can_do_without_network(command):
            return without_network(command), True
        return command, False
