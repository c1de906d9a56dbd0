"""A store that hangs is waited for so long and no longer, and keeps no process from ending."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar

import pytest

from blocks.errors import StoreForbidden, StoreUnreachable
from blocks.stores.memory import MemoryStore
from flows.limits import NoAnswer, asked, within
from flows.scrubbing import UnexpectedError

STORE = MemoryStore(name="second")
SOON = 0.05


@pytest.fixture
def hang() -> Iterator[Callable[[], object]]:
    """Does not return before the test's end."""
    ended = threading.Event()
    yield lambda: ended.wait(60)
    ended.set()


def test_what_answers_in_time_is_returned_and_sees_the_callers_context() -> None:
    run = ContextVar("run", default="none")
    run.set("nightly")
    assert within(60, run.get) == "nightly"


def test_what_it_raises_is_raised() -> None:
    def refuse() -> None:
        raise TimeoutError("its own")

    with pytest.raises(TimeoutError, match="its own"):
        within(60, refuse)


def test_what_hangs_is_left_alone(hang: Callable[[], object]) -> None:
    with pytest.raises(NoAnswer, match=r"no answer within 0\.05 s"):
        within(SOON, hang)


def test_a_process_ends_though_a_store_still_hangs() -> None:
    program = (
        "import time\nfrom flows.limits import NoAnswer, within\n"
        "try: within(0.1, lambda: time.sleep(120))\nexcept NoAnswer: print('left alone')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "left alone\n")


def test_a_store_that_hangs_counts_as_unreachable(hang: Callable[[], object]) -> None:
    with pytest.raises(StoreUnreachable) as raised:
        asked(STORE, hang, SOON)
    assert raised.value.message == "second gave no answer within 0.05 s"
    assert "mount" in raised.value.hint


def test_a_stores_own_error_is_passed_on_and_any_other_put_into_words() -> None:
    refusal = StoreForbidden("not yours")

    def refuse() -> None:
        raise refusal

    with pytest.raises(StoreForbidden) as raised:
        asked(STORE, refuse, 60)
    assert raised.value is refusal
    with pytest.raises(UnexpectedError, match="ZeroDivisionError"):
        asked(STORE, lambda: 1 / 0, 60)
