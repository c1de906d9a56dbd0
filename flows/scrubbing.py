"""What a flow raises goes verbatim into its state, the UI and alerts: nothing may pass unread.

Our own errors are written for that. Any other is put into words of ours, without its cause, whose text and
traceback may hold a secret or a row's value.
"""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from blocks.errors import WorldError
from blocks.references import redact
from flows.core.errors import BackupError

P = ParamSpec("P")
R = TypeVar("R")


class UnexpectedError(BackupError):
    """Something that pgsalvo did not foresee."""


def scrubbed(flow_function: Callable[P, R]) -> Callable[P, R]:
    """Let only our own errors out of a flow; any other becomes an `UnexpectedError` in one redacted line."""

    @wraps(flow_function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return flow_function(*args, **kwargs)
        except (WorldError, BackupError, ExceptionGroup):
            raise
        except Exception as error:
            said = redact(str(error)).splitlines() or [""]
            raise UnexpectedError(f"{type(error).__name__}: {said[0]}", "please report this") from None

    return run
