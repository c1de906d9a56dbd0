"""When a run is cancelled, its steps are stopped and waited for: what is cleared then nobody writes anew."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import pytest

from blocks.errors import StoreUnreachable
from blocks.spool import Chain
from blocks.spool_segments import Spool
from blocks.stores.memory import MemoryStore
from flows import attempt as attempts
from flows.attempt import Attempt
from flows.destinations import Destinations


class _Step:
    """A step that ends only when it was stopped."""

    def __init__(self, chain: Chain) -> None:
        self.task_run_id = uuid4()
        self._stopped = False
        self.ended = False
        chain.add(self._stop)

    def _stop(self, _: BaseException) -> None:
        self._stopped = True

    def add_done_callback(self, on_end: Callable[["_Step"], None]) -> None:
        assert self._stopped, "waited for before it was stopped: this would last for ever"
        self.ended = True
        on_end(self)


class _HungStep:
    """An upload that never ends."""

    def __init__(self) -> None:
        self.task_run_id = uuid4()

    def add_done_callback(self, on_end: Callable[["_HungStep"], None]) -> None:
        pass

    def result(self, **_: object) -> None:
        raise TimeoutError


def test_a_cancelled_attempt_ends_only_after_its_steps_have(tmp_path: Path) -> None:
    chain = Chain()
    nothing = cast(Any, None)
    attempt = Attempt(nothing, nothing, nothing, nothing, Spool(tmp_path), nothing, chain, nothing)
    step = _Step(chain)
    with pytest.raises(KeyboardInterrupt), attempt.stopped_with(cast(Any, step)):
        raise KeyboardInterrupt
    assert step.ended
    assert isinstance(chain.first_cause, KeyboardInterrupt)


def test_an_upload_that_hangs_on_a_lost_destination_does_not_keep_the_others_from_being_committed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempts, "LOST_SECONDS", 0.05)
    monkeypatch.setattr(attempts, "LOOK_SECONDS", 0.01)
    hung, well = MemoryStore(name="hung"), MemoryStore(name="well")
    chain, nothing = Chain(), cast(Any, None)
    destinations = Destinations([hung, well], chain.fail)
    attempt = Attempt(nothing, nothing, nothing, nothing, Spool(tmp_path), nothing, chain, destinations)
    step = cast(Any, _HungStep())
    attempt.transfer(step, hung)
    destinations.give_up(hung, StoreUnreachable("hung took nothing for 900 s"))
    attempt.finish([step])
    assert [store.name for store in destinations.live] == ["well"]
    assert chain.first_cause is None
