"""What runs beside a backup and must never cost one: artifacts, progress, the report in Prefect's UI."""

import contextvars
import logging
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from prefect.context import FlowRunContext, TaskRunContext

from blocks.references import redact

Result = TypeVar("Result")

LIMIT_SECONDS = 20.0
PAUSE_SECONDS = 300.0


class _Api:
    """Whether Prefect's API is worth asking: not before `asked_again_at`, by the monotonic clock."""

    asked_again_at = 0.0


logger = logging.getLogger("prefect.pgsalvo")


def beside(what: str, act: Callable[[], Result], *, always: bool = False) -> Result | None:
    """Return what `act` returns; if it fails, or takes longer than 20 s, log a warning and return None.

    Prefect's API is not the truth about a backup: with the API gone the backup still counts, so whatever
    its client raises here ends here. Once it did not answer, it is not asked again for five minutes, and
    outside of a run, as in `pgsalvo restore`, never.

    Args:
        always: Ask even so soon after it did not answer.
    """
    if FlowRunContext.get() is None and TaskRunContext.get() is None:
        return None
    if not always and time.monotonic() < _Api.asked_again_at:
        return None
    results: list[Result] = []
    failures: list[str] = []

    def attempt() -> None:
        try:
            results.append(act())
        except Exception as error:
            failures.append(f"{type(error).__name__}: {error}")

    thread = threading.Thread(target=contextvars.copy_context().run, args=(attempt,), daemon=True)
    thread.start()
    thread.join(LIMIT_SECONDS)
    if results:
        return results[0]
    why = failures[0] if failures else f"no answer within {LIMIT_SECONDS:g} s"
    _Api.asked_again_at = time.monotonic() + PAUSE_SECONDS
    logger.warning(
        "Prefect did not take %s; the work goes on without it: %s", what, redact(why).splitlines()[0]
    )
    return None
