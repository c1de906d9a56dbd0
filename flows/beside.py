"""What runs beside a backup and must never cost one: artifacts, progress, the report in Prefect's UI."""

import logging
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from prefect.context import FlowRunContext, TaskRunContext

from blocks.references import redact
from flows.limits import NoAnswer, within

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
    if not worth_asking(always=always):
        return None
    try:
        return within(LIMIT_SECONDS, partial(_unconcerned, act))
    except NoAnswer as error:
        why = str(error)
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
    _Api.asked_again_at = time.monotonic() + PAUSE_SECONDS
    logger.warning(
        "Prefect did not take %s; the work goes on without it: %s", what, redact(why).splitlines()[0]
    )
    return None


def _unconcerned(act: Callable[[], Result]) -> Result:
    """Keep to itself that `act` was cancelled, or left the process as it thought."""
    try:
        return act()
    except Exception:
        raise
    except BaseException as error:
        raise NoAnswer(type(error).__name__) from None


def worth_asking(*, always: bool = False) -> bool:
    """Return whether Prefect's API is asked at all: in a run, and not soon after it did not answer."""
    if FlowRunContext.get() is None and TaskRunContext.get() is None:
        return False
    return always or time.monotonic() >= _Api.asked_again_at
