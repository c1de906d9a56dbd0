"""The pace of a destination: on average no faster than it is told, whoever shares it."""

import threading
import time
from pathlib import Path

import pytest
from pydantic import ValidationError

from blocks.stores import LocalStore, Store
from blocks.stores.memory import MemoryStore
from blocks.stores.pace import BURST_SECONDS, Pace, paced

MIB = 1 << 20


class Clock:
    """Tells the time that was slept."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pace(clock: Clock) -> Pace:
    """A pace of 1 MiB a second."""
    return Pace(MIB, lambda: clock.now, clock.sleep)


def test_bytes_take_their_time_but_for_one_burst(clock: Clock, pace: Pace) -> None:
    began = clock.now
    for _ in pace.let_through(iter([bytes(MIB)] * 10)):
        pass
    assert clock.now - began == pytest.approx(10 - BURST_SECONDS)


def test_nothing_is_lost_and_no_piece_is_longer_than_a_quarter_of_a_second(pace: Pace) -> None:
    chunks = [bytes([number]) * size for number, size in enumerate((0, 1, MIB, 3 * MIB + 7))]
    pieces = list(pace.let_through(iter(chunks)))
    assert b"".join(pieces) == b"".join(chunks)
    assert max(map(len, pieces)) == MIB // 4


def test_a_source_that_was_slow_may_not_make_up_for_more_than_a_second(clock: Clock, pace: Pace) -> None:
    clock.now += 3600
    began = clock.now
    for _ in range(3):
        pace.wait_for(MIB)
    assert clock.now - began == pytest.approx(2)


def test_a_source_slower_than_the_pace_never_waits(clock: Clock, pace: Pace) -> None:
    for _ in range(20):
        clock.now += 1
        pace.wait_for(MIB - 1)
    assert clock.slept == []


def test_an_error_of_the_source_comes_through(pace: Pace) -> None:
    def source() -> "list[bytes]":
        raise RuntimeError("the dump died")

    with pytest.raises(RuntimeError, match="the dump died"):
        list(pace.let_through(chunk for chunk in source()))


def test_without_a_limit_the_chunks_are_left_alone() -> None:
    chunks = iter([b"bytes"])
    assert paced(MemoryStore(), chunks) is chunks


def test_a_store_that_moves_whole_files_is_not_slowed_down_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MemoryStore, "moves_whole_files", True)
    chunks = iter([b"bytes"])
    assert paced(MemoryStore(max_bytes_per_second=65_536), chunks) is chunks


def test_transfers_of_one_destination_share_its_pace(tmp_path: Path) -> None:
    """Measured: 4 of them, and 6 MiB at 4 MiB a second in all, of which 4 are a burst."""
    stores = [LocalStore(path=str(tmp_path), max_bytes_per_second=4 * MIB) for _ in range(4)]
    began = time.monotonic()
    threads = [
        threading.Thread(target=carry, args=(store, f"object-{number}"))
        for number, store in enumerate(stores)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert time.monotonic() - began > 0.45
    assert sum(found.size_bytes for found in stores[0].list()) == 6 * MIB


def carry(store: Store, key: str) -> None:
    store.put(key, paced(store, iter([bytes(MIB), bytes(MIB // 2)])))


@pytest.mark.parametrize("limit", [0, -1, 65_535, True, 100_000.5])
def test_a_limit_below_64_kib_a_second_or_that_is_no_number_of_bytes_is_refused(limit: float) -> None:
    with pytest.raises(ValidationError, match="max_bytes_per_second"):
        MemoryStore(max_bytes_per_second=limit)
