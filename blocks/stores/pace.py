"""How fast bytes may go to a destination and come from it: a token bucket around the chunks of a transfer.

Uploads and downloads of one destination share a bucket, whichever of them run at the same time in this
process. A store that sends parts fills one at this pace and then sends it at once: the limit is that of
the average, and its bursts are as large as a part.
"""

import threading
import time
from collections.abc import Callable, Iterator

from blocks.stores.base import Store

BURST_SECONDS = 1.0
PIECES_A_SECOND = 4


class Pace:
    """Lets bytes through at a rate on average; what was not used within the last second may be made up for.

    Args:
        clock: Seconds of any beginning, never going back.
    """

    def __init__(
        self,
        bytes_per_second: int,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.bytes_per_second = bytes_per_second
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._paid_until = clock() - BURST_SECONDS

    def wait_for(self, size_bytes: int) -> None:
        """Return when so many bytes more may go; those who wait at the same time queue up."""
        with self._lock:
            now = self._clock()
            from_when = max(self._paid_until, now - BURST_SECONDS)
            self._paid_until = from_when + size_bytes / self.bytes_per_second
            seconds = self._paid_until - now
        if seconds > 0:
            self._sleep(seconds)

    def let_through(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        """Pass chunks on in pieces of at most a quarter of a second, each when its time has come."""
        piece_bytes = self.bytes_per_second // PIECES_A_SECOND
        for chunk in chunks:
            for start in range(0, len(chunk), piece_bytes):
                piece = chunk[start : start + piece_bytes]
                self.wait_for(len(piece))
                yield piece


_paces: dict[tuple[str, int], Pace] = {}
_paces_lock = threading.Lock()


def paced(store: Store, chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Return what goes to a store or comes from it, no faster than its `max_bytes_per_second`."""
    limit = store.max_bytes_per_second
    if limit is None or store.moves_whole_files:
        return chunks
    with _paces_lock:
        pace = _paces.setdefault((store.location, limit), Pace(limit))
    return pace.let_through(chunks)
