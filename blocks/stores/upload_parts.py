"""How an upload is cut: into parts, each held in memory until the server has it."""

from dataclasses import dataclass

SMALLEST_PART_BYTES = 16 << 20
UNKNOWN_PART_BYTES = 32 << 20
MEMORY_BYTES = 128 << 20
MOST_AT_ONCE = 4


@dataclass(frozen=True)
class Parts:
    """How an upload is cut: the size of a part, and how many are sent at once beside the one being filled."""

    size_bytes: int
    at_once: int

    @property
    def in_flight_bytes(self) -> int:
        return self.size_bytes * (self.at_once + 1)


def cut(expected_bytes: int | None, planned_parts: int) -> Parts:
    """Return how to cut an upload so that it fits `planned_parts`, and 128 MiB of memory.

    Past 64 MiB a part the parts themselves outgrow that memory, and are sent one by one.
    """
    if expected_bytes is None:
        size_bytes = UNKNOWN_PART_BYTES
    else:
        size_bytes = max(SMALLEST_PART_BYTES, _whole_mib(-(-expected_bytes // planned_parts)))
    return Parts(size_bytes, min(MOST_AT_ONCE, max(1, MEMORY_BYTES // size_bytes - 1)))


def _whole_mib(size_bytes: int) -> int:
    return -(-size_bytes >> 20) << 20
