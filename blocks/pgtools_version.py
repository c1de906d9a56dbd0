"""What version a program of PostgreSQL is, as it tells itself: the only proof that it runs here."""

import re
from collections.abc import Mapping
from pathlib import Path

from blocks.errors import ProgramError, ProgramFailed
from blocks.process import Command, run

_ASK_SECONDS = 10.0
_VERSION = re.compile(r"(?:^|\) )(?P<version>(?P<major>\d+)[0-9a-z.]*)")


def parse_version(text: str) -> tuple[str, int]:
    """Return version and major that a program's `--version`, or a server's server_version, tells.

    Raises:
        ProgramError: No version is told.
    """
    told = _VERSION.search(text)
    if told is None:
        raise ProgramError(f"not a version of PostgreSQL: {text.strip()[:80]!r}")
    return told["version"], int(told["major"])


def ask_version(program: Path, environment: Mapping[str, str]) -> tuple[str, int]:
    """Run `program --version`; a program that does not run, for whatever reason, is a `ProgramFailed`."""
    try:
        completed = run(Command((str(program), "--version"), environment), timeout_seconds=_ASK_SECONDS)
    except ProgramError as error:
        raise ProgramFailed(f"{program} does not run: {error.message}") from error
    if completed.status != 0:
        said = (completed.stderr_lines or [f"exit status {completed.status}"])[-1].strip()
        raise ProgramFailed(f"{program} does not run: {said}")
    return parse_version(completed.stdout.decode(errors="replace"))
