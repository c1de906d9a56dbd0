"""The destinations of one attempt: which still count, how these were checked, why the others do not."""

import threading
from collections import defaultdict
from collections.abc import Callable, Sequence

from blocks.stores import Store
from flows.core.read_back import Checked
from flows.outcomes import told


class Destinations:
    """Gives up destinations one by one; when the last is gone, the whole attempt fails with its cause."""

    def __init__(self, stores: Sequence[Store], on_last_lost: Callable[[BaseException], None]) -> None:
        self._stores = tuple(stores)
        self._on_last_lost = on_last_lost
        self._lock = threading.Lock()
        self._stops: dict[str, list[Callable[[BaseException], None]]] = defaultdict(list)
        self.lost: dict[str, BaseException] = {}
        self.checks: dict[str, list[Checked]] = {}
        self.notes: list[str] = []

    @property
    def live(self) -> list[Store]:
        return [store for store in self._stores if store.name not in self.lost]

    @property
    def warnings(self) -> list[str]:
        """One sentence for each destination that was given up, and whatever else was noted."""
        lost = [f"{name} does not hold this backup: {told(cause)}" for name, cause in self.lost.items()]
        return [*lost, *self.notes]

    def note(self, store: Store, check: Checked) -> None:
        """Remember how an archive was checked there, and why it was not as the plan wants."""
        with self._lock:
            self.checks.setdefault(store.name, []).append(check)
            if check.warning and check.warning not in self.notes:
                self.notes.append(check.warning)

    def when_lost(self, store: Store, stop: Callable[[BaseException], None]) -> None:
        """Call `stop(cause)` when a destination is given up, at once if it already is."""
        with self._lock:
            self._stops[store.name].append(stop)
            cause = self.lost.get(store.name)
        if cause is not None:
            stop(cause)

    def give_up(self, store: Store, cause: BaseException) -> None:
        with self._lock:
            self.lost.setdefault(store.name, cause)
            none_left = len(self.lost) == len(self._stores)
            stops = self._stops.pop(store.name, [])
        if none_left:
            self._on_last_lost(cause)
        for stop in stops:
            stop(cause)
