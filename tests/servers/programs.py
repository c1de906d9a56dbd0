"""Directories of PostgreSQL's client programs of which some are stubs, and PATHs that lack some."""

import shutil
from pathlib import Path

CLIENT_PROGRAMS = ("pg_dump", "pg_dumpall", "pg_restore", "psql")


def stubbed_programs(directory: Path, real: Path, **scripts: str) -> Path:
    """Make a directory of client programs that run the real ones, or shell scripts where given.

    Args:
        scripts: By the program's name; the real program is `$REAL` in it, and answers `--version`.
    """
    directory.mkdir()
    for name in CLIENT_PROGRAMS:
        script = scripts.get(name, 'exec $REAL "$@"')
        _write(directory / name, f'REAL={real / name}\n[ "$1" = --version ] && exec $REAL $1\n{script}')
    return directory


def old_programs(directory: Path, version: str) -> Path:
    """Make a directory of client programs that tell this version and do nothing else."""
    directory.mkdir()
    for name in CLIENT_PROGRAMS:
        _write(directory / name, f'echo "{name} (PostgreSQL) {version}"')
    return directory


def path_with_only(directory: Path, *names: str) -> str:
    """Return a PATH that leads to these of the system's programs and to no others."""
    directory.mkdir()
    for name in names:
        found = shutil.which(name)
        assert found, f"{name} is not installed"
        (directory / name).symlink_to(found)
    return str(directory)


def _write(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
