"""What Docker or podman is like on this host, and whether an image's programs run there.

Everything here is asked before a backup begins: what is missing is said then, with the command that mends it.
"""

import json
import os
import re
import secrets
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from blocks.containers import (
    Container,
    Mount,
    Runtime,
    client_hint,
    client_said,
    container_error,
    run_command,
)
from blocks.errors import ProgramError, ProgramFailed, ProgramMissing
from blocks.pgtools_version import parse_version
from blocks.process import program_failed, run
from blocks.scratch_directory import Account

_ASK_SECONDS = 60.0
_PULL_SECONDS = 1800.0
_INHERITED = re.compile(
    r"DOCKER_(HOST|CONTEXT|CONFIG|CERT_PATH|TLS|TLS_VERIFY|API_VERSION|DEFAULT_PLATFORM)|CONTAINERS_.*"
    r"|CONTAINER_(HOST|CONNECTION|SSHKEY)|REGISTRY_AUTH_FILE|XDG_.*|DBUS_SESSION_BUS_ADDRESS"
    r"|(https?|no)_proxy",
    re.IGNORECASE,
)
_INSTALL = "install it (on Debian and Ubuntu `apt-get install docker.io`, or `podman`), or set `program`"
_ELSEWHERE = "run where the daemon runs on Linux itself, or install PostgreSQL's programs on this host"


def find_runtime(program: str) -> Runtime:
    """Return Docker or podman as it is here.

    Raises:
        ProgramMissing: It is not installed.
        ProgramFailed: Its daemon does not answer, does not let us in, or runs in a virtual machine.
    """
    if (found := shutil.which(program)) is None:
        raise ProgramMissing(f"there is no program {program} here that runs containers", _INSTALL)
    variables = {name: value for name, value in os.environ.items() if _INHERITED.fullmatch(name)}
    runtime = Runtime(str(Path(found).absolute()), variables)
    completed = run(runtime.command("info", "--format={{json .}}"), timeout_seconds=_ASK_SECONDS)
    try:
        information = json.loads(completed.stdout or b"{}")
    except ValueError as error:
        raise ProgramFailed(f"{program} does not tell about itself", _INSTALL) from error
    # Docker before 23 tells of a daemon that does not answer, and exits 0
    complaints = information.get("ServerErrors")
    if complaints or completed.status != 0:
        said = client_said(complaints or completed.stderr_lines)
        raise ProgramFailed(f"{program} does not work here: {said}", client_hint(said))
    return runtime_of(runtime, information, is_root=os.geteuid() == 0)


def runtime_of(runtime: Runtime, information: dict[str, Any], *, is_root: bool) -> Runtime:
    """Return a runtime with what `info` says of it: how users' numbers get into its containers."""
    if "host" in information:  # podman's, even if it is called docker
        options = () if is_root else ("--userns=keep-id",)
        return replace(runtime, options=options)
    if "Docker Desktop" in str(information.get("OperatingSystem", "")):
        raise ProgramFailed("Docker runs in a virtual machine here and sees no FIFO of ours", _ELSEWHERE)
    security = str(information.get("SecurityOptions", ""))
    if "name=rootless" in security:
        return replace(runtime, maps_us_to_root=True)
    return replace(runtime, options=("--userns=host",) if "name=userns" in security else ())


def ensure_image(runtime: Runtime, image: str) -> None:
    """Pull an image unless it is here.

    Raises:
        ProgramMissing: It is not here and cannot be pulled.
    """
    if run(runtime.command("image", "inspect", image), timeout_seconds=_ASK_SECONDS).status == 0:
        return
    pulled = run(runtime.command("pull", "--quiet", image), timeout_seconds=_PULL_SECONDS)
    if pulled.status != 0:
        raise ProgramMissing(
            f"the image {image} is not here and cannot be pulled: {client_said(pulled.stderr_lines)}",
            f"see whether `{Path(runtime.program).name} pull {image}` works where this runs",
        )


def ask_image(
    runtime: Runtime, image: str, program: str, account: Account, mounts: tuple[Mount, ...] = ()
) -> tuple[str, int]:
    """Return the version and the major of a program in an image.

    Args:
        mounts: What must be seen in a container here, so that a daemon on another host shows.

    Raises:
        ProgramMissing: The image has no such program.
        ProgramFailed: No container can be started, or the program does not run in it.
    """
    name = f"pgsalvo-{secrets.token_hex(6)}"
    container = Container(name, image, account, network="none", mounts=mounts)
    command = run_command(runtime, container, (program, "--version"))
    completed = run(command, timeout_seconds=_ASK_SECONDS)
    if error := container_error(command, completed.status, completed.stderr_lines):
        raise error
    if completed.status != 0:
        raise program_failed(f"{program} of the image {image}", completed.status, completed.stderr_lines)
    try:
        return parse_version(completed.stdout.decode(errors="replace"))
    except ProgramError as error:
        raise ProgramMissing(f"{program} of the image {image} does not tell its version") from error
