"""How a command ends: an error is one line, a hint and an exit code, never a traceback.

Exit codes: 0 done, 1 failed, 2 bad usage or configuration, 3 unverifiable.
"""

import sys
from collections.abc import Callable
from typing import Any

import typer

from blocks.errors import ConfigurationError, WorldError
from flows import terminal
from flows.core.errors import BackupError, BackupNotFound, PlanError, Unverifiable

INTERRUPTED = 130
SLOW = "ephemeral Prefect API server"  # as Prefect says when its own server does not start in time
PREFECT_IS_SLOW = (
    "try again when this machine is less busy; PREFECT_API_URL names a server that runs already, and"
    " PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS=300 waits longer"
)
OF_CONFIGURATION = (PlanError, ConfigurationError, BackupNotFound)
UsageError: Any = typer.BadParameter.__base__  # click's, which newer releases of typer bring themselves


def run(command: Callable[[], int | None]) -> None:
    """Run a command to its end, and leave the process with its exit code."""
    try:
        sys.exit(command())
    except UsageError as error:
        _refuse_usage(error)
    except typer.Abort:
        sys.exit(INTERRUPTED)
    except Unverifiable as error:
        _leave(error, 3)
    except OF_CONFIGURATION as error:
        _leave(error, 2)
    except (BackupError, WorldError) as error:
        _leave(error, 1)
    except ExceptionGroup as group:
        for each in group.exceptions:
            terminal.say_error(getattr(each, "message", str(each)), getattr(each, "hint", ""))
        sys.exit(2 if all(isinstance(each, OF_CONFIGURATION) for each in group.exceptions) else 1)
    except Exception as error:
        said = str(error).partition("\n")[0] or "no message"
        terminal.say_error(f"{type(error).__name__}: {said}", PREFECT_IS_SLOW if SLOW in said else "")
        sys.exit(1)


def _refuse_usage(error: Any) -> None:
    """Say in one line what is wrong on the command line; without any command, the help was shown."""
    said = str(error.format_message())
    if "\n" in said:  # older releases of typer leave the help to be shown here
        terminal.err.print(said, markup=False)
    elif said:
        command = error.ctx.command_path if error.ctx else "pgsalvo"
        terminal.say_error(said[:1].lower() + said[1:], f"{command} --help shows what can be said")
    sys.exit(2)


def _leave(error: BackupError | WorldError, status: int) -> None:
    terminal.say_error(error.message, error.hint)
    sys.exit(status)
