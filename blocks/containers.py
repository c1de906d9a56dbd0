"""How a container is run, by Docker and by podman alike: pure functions to a `Command`.

A container gets as little as it can do with: our own user instead of root, no capabilities, an image that it
cannot write to. No log driver: Docker's own would write all that a container says to the daemon's disk.
Nothing secret is in argv or in a container's environment, both of which the daemon writes down.
"""

import re
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from blocks.elsewhere import Elsewhere
from blocks.errors import ProgramFailed, ProgramMissing, WorldError
from blocks.process import Command
from blocks.scratch_directory import Account

LABEL = "pgsalvo"
MAJOR_PLACE = "{major}"
PASSWD_NAME = "passwd"  # noqa: S105 - a file's name

_OPTIONS = (
    "--pull=never",  # it may take long; `container_runtime.ensure_image` has done it
    "--log-driver=none",
    "--read-only",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges",
    "--security-opt=label=disable",  # SELinux would keep it from files that lie elsewhere than in an image
)
_CLIENT_FAILED, _NOT_EXECUTABLE, _NOT_FOUND = 125, 126, 127
_BY_SIGNAL = 128
_CLIENT_SAYS = ("docker: ", "podman: ", "Error: ", "Error response from daemon: ")
_LOGGED = re.compile(r'^time=.*\bmsg="((?:[^"\\]|\\.)*)"')
_SAME_FILES = "its daemon must run on this host, and see this host's files"
_IMAGE_GONE = "the image was removed meanwhile: pull it again"
_CLIENT_HINTS = (
    ("bind source path does not exist", _SAME_FILES),
    ("statfs", _SAME_FILES),
    ("permission denied while trying to connect", "let this user use Docker's socket, or choose podman"),
    ("Cannot connect to the Docker daemon", "start it: systemctl start docker"),
    ("error waiting for container", "its daemon ended meanwhile; its log tells why: journalctl -u docker"),
    ("no such image", _IMAGE_GONE),
    ("image not known", _IMAGE_GONE),
    ("cannot allocate memory", "free some memory, or lower `memory`"),
)


@dataclass(frozen=True)
class Runtime:
    """Docker or podman, as it is on this host.

    Args:
        program: `docker`, `podman`, or a path to either.
        environment: What it needs beside the few variables that every program inherits, such as DOCKER_HOST.
        options: What `run` needs here so that numbers of users mean in the container what they mean outside.
        maps_us_to_root: In the container only root is the user that we are.
    """

    program: str = "docker"
    environment: Mapping[str, str] = field(default_factory=dict)
    options: tuple[str, ...] = ()
    maps_us_to_root: bool = False

    def command(self, *arguments: str) -> Command:
        """Return a call of its own."""
        return Command((self.program, *arguments), self.environment)


@dataclass(frozen=True)
class Mount:
    """A file or directory of this host, under the same name in the container if no other is given."""

    source: Path
    target: Path | None = None
    writable: bool = False

    @property
    def option(self) -> str:
        """The value of `--mount`, one line of CSV."""
        values = ["type=bind", f"source={self.source}", f"target={self.target or self.source}"]
        return ",".join((*map(_csv_value, values), *(() if self.writable else ("readonly",))))


@dataclass(frozen=True)
class Container:
    """What a program finds around it.

    Args:
        name: No other container's.
        network: `host`, `none`, or one of the runtime's networks.
        environment: Harmless variables; the daemon writes them down.
        account: User and group, by their numbers on this host.
        memory: The most that it may use, as `--memory` takes it; no limit if empty.
        output: Path of a FIFO that the program writes to instead of stdout.
        directory: Of this host, where podman may leave a file that says that memory ran out.
    """

    name: str
    image: str
    account: Account
    network: str = "host"
    mounts: tuple[Mount, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    memory: str = ""
    output: Path | None = None
    directory: Path | None = None


def image_of(image: str, major: int) -> str:
    """Return an image's name with the server's major filled in."""
    return image.replace(MAJOR_PLACE, str(major))


def run_command(runtime: Runtime, container: Container, argv: tuple[str, ...]) -> Command:
    """Return the call that runs a program of an image, which ends with us.

    Args:
        argv: The program, by its name in the image, and its arguments; never a secret.
    """
    program, *arguments = argv
    account = Account(0, 0) if runtime.maps_us_to_root else container.account
    options = (
        *("--rm", "--interactive", f"--name={container.name}", f"--label={LABEL}={program}", *_OPTIONS),
        *(*runtime.options, f"--user={account.uid}:{account.gid}", f"--network={container.network}"),
        *((f"--memory={container.memory}",) if container.memory else ()),
        *(f"--mount={mount.option}" for mount in container.mounts),
        *(f"--env={name}={value}" for name, value in container.environment.items()),
        f"--entrypoint={program}",
    )
    clean_up = (runtime.program, "rm", "--force", "--volumes", container.name)
    return replace(
        runtime.command("run", *options, container.image, *arguments),
        elsewhere=Elsewhere(Path(program).name, clean_up, container.output, container.directory),
    )


def in_container(
    command: Command,
    *,
    directory: Path,
    image: str,
    runtime: Runtime,
    name: str,
    us: Account,
    mounts: tuple[Mount, ...] = (),
    memory: str = "",
) -> Command:
    """Return the call of one of a scratch server's programs in a container that has no network.

    The program runs as the call's user, or as us, and sees `directory` under the same name. A passwd file in
    it tells the names of both: initdb asks for its own, and `peer` for that of whoever connects.

    Args:
        directory: All that the call's arguments speak of; `PASSWD_NAME` lies in it, see `passwd`.
        us: Who connects to the server.
        mounts: What else it sees.
    """
    account = us if command.uid is None else Account(command.uid, command.gid or command.uid)
    container = Container(
        name,
        image,
        account,
        network="none",
        mounts=(
            Mount(directory, writable=True),
            Mount(directory / PASSWD_NAME, Path("/etc/passwd")),
            *mounts,
        ),
        environment=command.environment,
        memory=memory,
        directory=directory,
    )
    return run_command(runtime, container, command.argv)


def passwd(names: Mapping[Account, str]) -> str:
    """Return a passwd file of these users."""
    return "".join(f"{name}:x:{account.uid}:{account.gid}::/:\n" for account, name in names.items())


def container_error(command: Command, status: int, stderr_lines: list[str]) -> WorldError | None:
    """Return the error if what runs a program in a container failed; None if it was the program itself.

    Docker's and podman's own exit statuses are none of PostgreSQL's programs.

    Args:
        command: As `run_command` made it.
    """
    if command.elsewhere is None or status < _CLIENT_FAILED:
        return None
    name, image = command.name, _image(command)
    if status == _NOT_FOUND:
        return ProgramMissing(
            f"there is no {name} in the image {image}", "choose an image of PostgreSQL's programs"
        )
    if status == _NOT_EXECUTABLE:
        return ProgramMissing(f"{name} of the image {image} cannot be run: {client_said(stderr_lines)}")
    if status == _CLIENT_FAILED:
        said = client_said(stderr_lines)
        return ProgramFailed(f"the container of {name} did not start, or was lost: {said}", client_hint(said))
    if status == _BY_SIGNAL + signal.SIGKILL:
        hint = "if nobody did that on purpose, memory ran out: raise `memory`, or give this host more"
        return ProgramFailed(f"{name} was killed in its container", hint)
    hint = "if nobody did that on purpose, the log of what runs containers may tell why"
    return ProgramFailed(f"{name} was ended in its container by signal {status - _BY_SIGNAL}", hint)


def client_said(stderr_lines: list[str]) -> str:
    """Return what docker or podman complained of, in one line."""
    lines = [line.strip() for line in stderr_lines if line.strip()]
    said = next((line for line in lines if line.startswith(_CLIENT_SAYS)), lines[-1] if lines else "no word")
    if logged := _LOGGED.search(said):
        said = logged[1]
    for prefix in _CLIENT_SAYS:
        said = said.removeprefix(prefix)
    return said.rstrip(".")


def client_hint(said: str) -> str:
    return next((hint for mark, hint in _CLIENT_HINTS if mark.lower() in said.lower()), "")


def _csv_value(value: str) -> str:
    quoted = value.replace('"', '""')
    return f'"{quoted}"' if {",", '"'} & set(value) else value


def _image(command: Command) -> str:
    position = next(i for i, argument in enumerate(command.argv) if argument.startswith("--entrypoint="))
    return command.argv[position + 1]
