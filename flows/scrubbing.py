"""What a flow or a task raises goes verbatim into states, logs, the UI and alerts: nothing may pass unread.

Our own errors are written for that, and redacted all the same. Any other is put into words of ours, without
its cause, whose text may hold a secret or a row's value: Prefect logs a traceback with all causes.
"""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import psycopg

from blocks.errors import WorldError
from blocks.references import redact
from flows.core.errors import BackupError

P = ParamSpec("P")
R = TypeVar("R")


class UnexpectedError(BackupError):
    """Something that pgsalvo did not foresee."""


def scrubbed(function: Callable[P, R]) -> Callable[P, R]:
    """Let only our own errors out of a flow or task; any other becomes an `UnexpectedError` in one line."""

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except (WorldError, BackupError, ExceptionGroup) as error:
            _redact(error)
            raise
        except Exception as error:
            raise _unexpected(error).with_traceback(error.__traceback__) from None

    return run


def _unexpected(error: Exception) -> UnexpectedError:
    kind = type(error).__name__
    if isinstance(error, psycopg.Error):  # its text may hold a row's value
        return UnexpectedError(f"{kind} {error.sqlstate or ''}".strip(), "please report this")
    said = redact(str(error)).splitlines() or [""]
    return UnexpectedError(f"{kind}: {said[0]}", "please report this")


def _redact(error: BaseException) -> None:
    """Take secrets out of an error of ours, and out of what it was raised from."""
    if isinstance(error, ExceptionGroup):
        for each in error.exceptions:
            _redact(each)
    elif isinstance(error, WorldError | BackupError):
        error.message, error.hint = redact(error.message), redact(error.hint)
        error.args = (error.message, error.hint)
    cause = error.__cause__
    if cause is None:
        return
    if isinstance(cause, WorldError | BackupError):
        _redact(cause)
    elif isinstance(cause, psycopg.Error) or redact(str(cause)) != str(cause):
        error.__cause__ = None  # and with it the context stays untold
