"""A scratch server's programs in a container: of any major, off every network, seeing little of this host.

The container's image brings the programs, and extensions that this host may not have. The data and the
socket lie in the scratch server's own directory, under the same name on both sides.
"""

import pwd
import re
import secrets
from pathlib import Path

from blocks.container_programs import our_account
from blocks.container_runtime import ask_image, ensure_image, find_runtime
from blocks.containers import PASSWD_NAME, Mount, Runtime, image_of, in_container, passwd
from blocks.errors import ProgramError, ScratchLacks
from blocks.pgtools import ServerPrograms
from blocks.process import Command
from blocks.scratch_directory import Account, server_account

_SERVER_NAME = "scratch"
_SOCKET_DIRECTORY = re.compile(r'--unix_socket_directories="(.*)"')


def container_launcher(image: str, program: str, major: int, *, memory: str = "") -> "ContainerLauncher":
    """Return who runs the programs of an image, which is pulled if it is not here.

    Args:
        image: May have `{major}` in its name.
        program: `docker`, `podman`, or a path to either.
        memory: The most that the server may use, such as `2g`.

    Raises:
        ScratchLacks: No container can be started here, or the image has no server of this major.
    """
    image = image_of(image, major)
    try:
        runtime = find_runtime(program)
        ensure_image(runtime, image)
        version, found = ask_image(runtime, image, "postgres", server_account() or our_account())
    except ProgramError as error:
        raise ScratchLacks(f"no scratch server in a container: {error.message}", error.hint) from error
    if runtime.maps_us_to_root:
        raise ScratchLacks(
            "rootless Docker makes us root in its containers, where PostgreSQL's server refuses to run",
            "use podman, or programs on this host",
        )
    if found != major:
        raise ScratchLacks(
            f"the image {image} holds PostgreSQL {version}, not {major}", "choose one of the source's major"
        )
    return ContainerLauncher(runtime, image, major, version, memory)


class ContainerLauncher:
    """Runs the programs of an image in containers that have no network: a scratch server's `Launcher`."""

    def __init__(self, runtime: Runtime, image: str, major: int, version: str, memory: str = "") -> None:
        self.major = major
        self._runtime = runtime
        self._image = image
        self._version = version
        self._memory = memory

    def programs(self, directory: Path, account: Account | None) -> ServerPrograms:
        """Return the programs by their names in the image, and tell it who runs them."""
        us = our_account()
        users = {us: pwd.getpwuid(us.uid).pw_name} | ({account: _SERVER_NAME} if account else {})
        (directory / PASSWD_NAME).write_text(passwd(users))
        (directory / PASSWD_NAME).chmod(0o644)
        return ServerPrograms(Path(), self._version, self.major, "configured")

    def initdb(self, command: Command, directory: Path) -> Command:
        return self._contained(command, directory, ())

    def server(self, command: Command, directory: Path) -> tuple[Command, bool]:
        """Return the call, with the socket's directory seen in the container wherever it lies."""
        sockets = [found[1] for argument in command.argv if (found := _SOCKET_DIRECTORY.fullmatch(argument))]
        elsewhere = [Path(name) for name in sockets if directory not in Path(name).parents]
        mounts = tuple(Mount(path, writable=True) for path in elsewhere)
        return self._contained(command, directory, mounts), True

    def _contained(self, command: Command, directory: Path, mounts: tuple[Mount, ...]) -> Command:
        return in_container(
            command,
            directory=directory,
            image=self._image,
            runtime=self._runtime,
            name=f"pgsalvo-{secrets.token_hex(6)}",
            us=our_account(),
            mounts=mounts,
            memory=self._memory,
        )
