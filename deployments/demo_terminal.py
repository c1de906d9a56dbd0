"""How the demo looks on a terminal: headings, lines with a tick, a spinner while something takes long."""

import shlex
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import NoReturn

import psycopg
from prefect.exceptions import TerminationSignal
from rich import box
from rich.markup import escape
from rich.table import Table

from blocks.errors import WorldError
from blocks.references import redact
from deployments.demo_database import DemoError
from flows import terminal
from flows.catalogue import Copy
from flows.checks import Check
from flows.core.errors import BackupError
from flows.core.manifest import Manifest
from flows.core.verification import VerificationRecord
from flows.progress import human_bytes

out = terminal.out

_interrupted = threading.Event()


class Ending:
    """How the demo ended, as an exit status."""

    status = 1


def heading(title: str, text: str) -> None:
    """Print the heading of a step, and what happens in it."""
    out.print(f"\n[bold]{title}[/]   [dim]{escape(text)}[/]")


def done(what: str, text: str) -> None:
    """Print that one thing is done."""
    out.print(f"  {terminal.check_line(Check(what, 'ok', text))}")


@contextmanager
def working(what: str) -> Iterator[Callable[[str], None]]:
    """Show a spinner on a terminal; yield what changes its words."""
    with out.status(f"[dim]{what} …[/]", spinner_style="dim") as status:
        yield lambda words: status.update(f"[dim]{words} …[/]")


def show_proof(copy: Copy, seconds: float) -> None:
    """Show what the store's own records, manifest and verdict, say of a backup."""
    if copy.manifest is None or copy.verification is None:
        raise DemoError(f"the store does not hold both backup {copy.backup_id} and its verdict")
    table = Table(box=box.ROUNDED, show_header=False, padding=(0, 2))
    for row in proof_rows(copy.manifest, copy.verification, Path(copy.store.location), seconds):
        table.add_row(*row)
    heading("The proof", "in the words of the store's own records")
    out.print(table)


def proof_rows(
    manifest: Manifest, record: VerificationRecord, store: Path, seconds: float
) -> list[tuple[str, str]]:
    """Return the lines of the closing table."""
    size, dumped = manifest.size_bytes, sum(archive.plain_bytes for archive in manifest.archives)
    backup_seconds = (manifest.finished_at - manifest.started_at).total_seconds()
    return [
        ("backup", manifest.backup_id),
        ("stored in", f"{short(store / manifest.plan / manifest.backup_id)}/"),
        ("size", f"{human_bytes(size)}, compressed and encrypted, of {human_bytes(dumped)} dumped"),
        (
            record.verdict,
            f"[green]{record.rows:,} rows of {record.tables} tables came back equal[/],"
            f" and {record.objects} definitions",
        ),
        (
            "time",
            f"backup {backup_seconds:.1f} s, verification {record.seconds:.1f} s, all of it {seconds:.0f} s",
        ),
    ]


def commands(title: str, lines: list[tuple[str, str]]) -> None:
    """Print commands to copy, each with what it does as a comment, so that whole lines can be copied too."""
    width = max(len(command) for command, what in lines if what)
    out.print(f"\n[bold]{title}[/]")
    for command, what in lines:
        comment = f"{' ' * (width - len(command))}   [dim]# {escape(what)}[/]" if what else ""
        out.print(f"  {escape(command)}{comment}")


def short(path: Path) -> str:
    """Return a path as short as it can be typed where the demo was started."""
    start = Path.cwd().parent  # the demo works in .demo/
    return shlex.quote(str(path.relative_to(start) if path.is_relative_to(start) else path))


def pgsalvo() -> str:
    """Return how the command is typed here."""
    script = Path(sys.executable).with_name("pgsalvo")
    found = shutil.which("pgsalvo")
    return "pgsalvo" if found and Path(found) == script else short(script)


def program(path: Path) -> str:
    """Return how a program is typed: by its name alone if the shell finds one."""
    return path.name if shutil.which(path.name) else shlex.quote(str(path))


def wait_for_interrupt() -> None:
    """Wait until Ctrl-C, or a signal to end."""
    out.print()
    with suppress(KeyboardInterrupt), out.status("Ctrl-C stops everything", spinner_style="dim"):
        threading.Event().wait()
    out.print("[dim]stopping …[/]")


def interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    """Treat every polite request to end as Ctrl-C, so that all that was started is stopped."""
    _interrupted.set()
    raise KeyboardInterrupt


@contextmanager
def errors_in_one_line() -> Iterator[Ending]:
    """Say whatever ends the demo in one line, and what to do about it in another."""
    ending = Ending()
    try:
        yield ending
        ending.status = 0
    except (Exception, KeyboardInterrupt, TerminationSignal) as error:
        # what an interrupted run fails of does not matter
        if _interrupted.is_set() or not isinstance(error, Exception):
            terminal.say_error(
                "interrupted", "all that was started is stopped; start the demo again any time"
            )
            ending.status = 130
        else:
            terminal.say_error(*explained(error))


def explained(error: Exception) -> tuple[str, str]:
    """Return (what went wrong in one line, what to do)."""
    match error:
        case WorldError() | BackupError():
            return error.message, error.hint
        case psycopg.Error():
            return f"the sample database: {error.diag.message_primary or type(error).__name__}", ""
        case OSError():
            return f"{error.filename or 'the demo'}: {error.strerror or error}", ""
    return f"{type(error).__name__}: {redact(str(error)).partition(chr(10))[0]}", ""
