"""When a run is cancelled, its steps are stopped and waited for: what is cleared then nobody writes anew."""

from typing import Any, cast

import pytest

from blocks.spool import Chain
from flows.attempt import Attempt


class _Step:
    """A step that ends only when it was stopped."""

    _final_state = None

    def __init__(self, chain: Chain) -> None:
        self._stopped = False
        self.ended = False
        chain.add(self._stop)

    def _stop(self, _: BaseException) -> None:
        self._stopped = True

    def wait(self, timeout: float | None = None) -> None:  # noqa: ARG002 - a future's
        assert self._stopped, "waited for before it was stopped: this would last for ever"
        self.ended = True


def test_a_cancelled_attempt_ends_only_after_its_steps_have() -> None:
    chain = Chain()
    nothing = cast(Any, None)
    attempt = Attempt(nothing, nothing, nothing, nothing, nothing, nothing, chain, nothing)
    step = _Step(chain)
    with pytest.raises(KeyboardInterrupt), attempt.stopped_with(cast(Any, step)):
        raise KeyboardInterrupt
    assert step.ended
    assert isinstance(chain.first_cause, KeyboardInterrupt)
