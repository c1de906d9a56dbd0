"""PostgreSQL's client programs: run, or in directories of which some are stubs, and PATHs that lack some."""

import os
import shutil
import subprocess
from pathlib import Path

from tests.servers.postgres import PostgresServer

CLIENT_PROGRAMS = ("pg_dump", "pg_dumpall", "pg_restore", "psql")


def run(
    server: PostgresServer, program: str, *arguments: str, stdin: bytes = b"", may_fail: bool = False
) -> bytes:
    """Run a server's own program and return what it wrote to stdout."""
    libraries = {"LD_LIBRARY_PATH": str(server.programs.parent / "lib")}
    done = subprocess.run(
        (server.programs / program, *arguments), input=stdin, env=os.environ | libraries, capture_output=True
    )
    assert may_fail or done.returncode == 0, done.stderr.decode()
    return done.stdout


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
