"""The destinations of one attempt: which still count, and why the others do not."""

import threading
from collections.abc import Callable, Sequence

from blocks.stores import Store


class Destinations:
    """Gives up destinations one by one; when the last is gone, the whole attempt fails with its cause."""

    def __init__(self, stores: Sequence[Store], on_last_lost: Callable[[BaseException], None]) -> None:
        self._stores = tuple(stores)
        self._on_last_lost = on_last_lost
        self._lock = threading.Lock()
        self.lost: dict[str, BaseException] = {}

    @property
    def live(self) -> list[Store]:
        return [store for store in self._stores if store.name not in self.lost]

    @property
    def warnings(self) -> list[str]:
        """One sentence for each destination that was given up."""
        return [f"{name} does not hold this backup: {told(cause)}" for name, cause in self.lost.items()]

    def give_up(self, store: Store, cause: BaseException) -> None:
        with self._lock:
            self.lost.setdefault(store.name, cause)
            none_left = len(self.lost) == len(self._stores)
        if none_left:
            self._on_last_lost(cause)


def told(cause: BaseException) -> str:
    """Return an error in one line, without its hint."""
    return str(getattr(cause, "message", type(cause).__name__))
