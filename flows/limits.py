"""What may never answer, as a mount whose server is gone, is waited for so long and no longer."""

import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import TypeVar

from blocks.errors import StoreUnreachable
from blocks.stores import Store
from flows.scrubbing import scrubbed

Result = TypeVar("Result")


class NoAnswer(Exception):
    """It took longer than it may."""


def within(seconds: float, act: Callable[[], Result]) -> Result:
    """Return what `act` returns, or raise what it raises.

    What takes longer goes on by itself, unheard, in a thread that keeps no process from ending.

    Raises:
        NoAnswer: It took longer.
    """
    outcome: Future[Result] = Future()

    def run() -> None:
        try:
            outcome.set_result(act())
        except BaseException as error:  # raised again by whoever waits
            outcome.set_exception(error)

    threading.Thread(target=contextvars.copy_context().run, args=(run,), daemon=True).start()
    wait([outcome], seconds)
    if not outcome.done():
        raise NoAnswer(f"no answer within {seconds:g} s")
    return outcome.result()


def asked(store: Store, act: Callable[[], Result], seconds: float) -> Result:
    """Return what `act` gets from a store; let only our own errors out of it.

    Raises:
        StoreUnreachable: The store did not answer in time.
    """
    try:
        return within(seconds, scrubbed(act))
    except NoAnswer as error:
        raise StoreUnreachable(
            f"{store.name} gave {error}", "see whether its mount or the network to it hangs"
        ) from None
