"""What a run did, told to whoever started it in this process before the run tells what failed."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from blocks.errors import WorldError
from blocks.references import redact
from flows.core.errors import BackupError

Failures = list[WorldError | BackupError]
Listener = Callable[[list[Any]], None]

_listeners: list[Listener] = []


@contextmanager
def told_to(listener: Listener) -> Iterator[None]:
    """Call `listener` with what each run did that ends within the block, one value a destination."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def tell(done: list[Any]) -> None:
    for listener in _listeners:
        listener(done)


def told(cause: BaseException) -> str:
    """Return an error in one line, without its hint and without secrets."""
    return redact(str(getattr(cause, "message", type(cause).__name__)))


def summed(failures: Sequence[WorldError | BackupError]) -> Failures:
    """Return the first of many failures of one kind of work, which tells how many more there were."""
    if len(failures) > 1:
        failures[0].message += f" (and {len(failures) - 1} more)"
    return list(failures[:1])


def raise_all(doing: str, failures: Sequence[WorldError | BackupError]) -> None:
    """Raise what failed on any destination, after all of them were tried; nothing if nothing did.

    Args:
        doing: What failed and on what, such as `syncing shop`.
    """
    if len(failures) == 1:
        raise failures[0]
    if failures:
        raise ExceptionGroup(f"{doing} failed {len(failures)} times, first: {told(failures[0])}", failures)
