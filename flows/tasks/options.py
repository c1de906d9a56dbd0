"""The options that tasks share, declared once."""

import time
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

import prefect.runtime
from prefect import Task, task
from prefect.cache_policies import NO_CACHE
from prefect.context import FlowRunContext
from prefect.futures import PrefectFuture
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from blocks.errors import WorldError
from blocks.references import redact
from flows.beside import logger
from flows.scrubbing import scrubbed

P = ParamSpec("P")
R = TypeVar("R")

TRANSFER_RETRIES = 3
TRANSFER_DELAYS_SECONDS = [2.0, 10.0, 30.0]


def threads(at_once: int) -> TaskRunner[PrefectFuture[Any]]:
    """Run a flow's tasks in threads; linked ones must never wait for a free one."""
    return cast(TaskRunner[PrefectFuture[Any]], ThreadPoolTaskRunner(max_workers=at_once))


def step(*, name: str, run_name: str | None = None) -> Callable[[Callable[P, R]], Task[P, R]]:
    """Declare a task with side effects: never cached, never tried again by itself."""
    declared = task(name=name, task_run_name=run_name, cache_policy=NO_CACHE, persist_result=False, retries=0)
    return lambda function: declared(scrubbed(function))


def transfer(*, name: str, run_name: str | None = None) -> Callable[[Callable[P, R]], Task[P, R]]:
    """Declare a task that talks to a store: tried again after a passing trouble."""
    declared = task(
        name=name,
        task_run_name=run_name,
        cache_policy=NO_CACHE,
        persist_result=False,
        retries=TRANSFER_RETRIES,
        retry_delay_seconds=TRANSFER_DELAYS_SECONDS,
        retry_condition_fn=is_transient,
    )
    return lambda function: declared(scrubbed(function))


def performed(step: Task[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Perform a step as a task of the running flow, or outside of a run by itself, without Prefect's API.

    There too a transfer is tried again after a passing trouble.
    """
    if FlowRunContext.get():
        return step(*args, **kwargs)
    for delay in TRANSFER_DELAYS_SECONDS if step.retries else ():
        try:
            return step.fn(*args, **kwargs)
        except WorldError as error:
            if not error.transient:
                raise
            logger.warning("%s; trying again in %.0f s", redact(error.message), delay)
            time.sleep(delay)
    return step.fn(*args, **kwargs)


def is_transient(_task: Any, _run: Any, state: Any) -> bool:
    """Return whether what a task raised may pass by itself."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, WorldError) and error.transient


def is_last_try() -> bool:
    """Return whether the running transfer will not be tried again."""
    return (prefect.runtime.task_run.run_count or 1) > TRANSFER_RETRIES
