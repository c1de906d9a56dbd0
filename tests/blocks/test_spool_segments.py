"""A spool with a limit: the writer waits for the slowest reader, and what all have taken leaves the disk."""

import os
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from blocks.errors import ProgramFailed, SpoolError, SpoolFull, StreamAborted
from blocks.spool_segments import Spool, SpoolReader, SpoolStream
from tests.servers.processes import eventually

LIMIT = 1 << 20
PIECE = b"\xa5" * 65_536
CAUSE = ProgramFailed("pg_dump was ended by SIGKILL")

InThread = Callable[[Callable[[], object]], "Future[object]"]


@pytest.fixture
def in_thread() -> Iterator[InThread]:
    with ThreadPoolExecutor(16) as pool:
        yield pool.submit


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path, LIMIT)


def _never(_: float) -> None:
    raise AssertionError("no reader stalls here")


def _reader(stream: SpoolStream, name: str = "here") -> SpoolReader:
    return stream.reader(name, _never)


def _written(stream: SpoolStream, pieces: int) -> None:
    for _ in range(pieces):
        stream.write(PIECE)
    stream.commit()


def _whole(reader: SpoolReader) -> bytes:
    return b"".join(reader.read())


def _taken(reader: SpoolReader, pause_seconds: float = 0.0) -> int:
    size_bytes = 0
    for chunk in reader.read():
        size_bytes += len(chunk)
        time.sleep(pause_seconds)
    return size_bytes


def _on_disk(spool: Spool) -> int:
    return sum(path.stat().st_size for path in spool.directory.iterdir())


@pytest.mark.parametrize("max_bytes", [None, LIMIT, 64 * LIMIT])
@pytest.mark.parametrize("piece_bytes", [1, 1000, 3 * LIMIT], ids=["bytes", "small", "larger than the limit"])
def test_every_reader_gets_what_was_written(
    tmp_path: Path, in_thread: InThread, max_bytes: int | None, piece_bytes: int
) -> None:
    body = os.urandom(3 * LIMIT if piece_bytes > 1 else 5000)
    stream = Spool(tmp_path, max_bytes).file("archive")
    readers = [_reader(stream, name) for name in ("here", "there")]
    read = [in_thread(partial(_whole, reader)) for reader in readers]
    for start in range(0, len(body), piece_bytes):
        stream.write(body[start : start + piece_bytes])
    stream.commit()
    assert [each.result(60) == body for each in read] == [True, True]


def test_the_disk_and_the_memory_hold_no_more_than_the_limit(spool: Spool, in_thread: InThread) -> None:
    stream = spool.file("archive")
    readers = [_reader(stream), _reader(stream, "slow")]
    tracemalloc.start()
    read = [in_thread(lambda: _taken(readers[0])), in_thread(lambda: _taken(readers[1], 0.002))]
    most = 0
    for _ in range(32 * LIMIT // len(PIECE)):
        stream.write(PIECE)
        most = max(most, _on_disk(spool))
    stream.commit()
    assert [each.result(60) for each in read] == [32 * LIMIT, 32 * LIMIT]
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert LIMIT / 2 < most <= LIMIT
    assert peak_bytes < 16 * LIMIT  # of the whole process, which may do other things beside


def test_the_writer_waits_for_the_slowest_reader_and_says_for_whom(spool: Spool, in_thread: InThread) -> None:
    stream = spool.file("archive")
    fast, slow = _reader(stream, "fast"), _reader(stream, "slow")
    writing, reading = in_thread(lambda: _written(stream, 32)), in_thread(lambda: _taken(fast))
    eventually(lambda: fast.position == LIMIT, "the fast one has taken all that the limit lets through")
    time.sleep(0.1)
    assert (stream.size_bytes, slow.position) == (LIMIT, 0)
    assert _taken(slow) == 2 * LIMIT
    writing.result(60)
    reading.result(60)
    assert spool.waited_seconds["slow"] >= 0.1
    assert spool.waited_seconds.get("fast", 0.0) < spool.waited_seconds["slow"]


def test_without_a_limit_nobody_waits_and_one_file_holds_all(tmp_path: Path) -> None:
    stream = Spool(tmp_path).file("archive")
    reader = _reader(stream)
    _written(stream, 32)
    assert [(path.name, path.stat().st_mode & 0o777) for path in tmp_path.iterdir()] == [("archive", 0o600)]
    assert _taken(reader) == _taken(reader) == 2 * LIMIT


def test_nobody_else_may_read_a_segment(spool: Spool) -> None:
    _written(spool.file("archive"), 2)
    assert {path.stat().st_mode & 0o777 for path in spool.directory.iterdir()} == {0o600}


def test_a_reader_begins_again_as_long_as_nothing_is_gone(spool: Spool) -> None:
    stream = spool.file("archive")
    reader = _reader(stream)
    _written(stream, 16)
    chunks = reader.read()
    for _ in range(8):
        next(chunks)
    assert reader.rewind()
    assert _taken(reader) == LIMIT


def test_what_a_reader_that_begins_again_needs_is_kept_meanwhile(spool: Spool, in_thread: InThread) -> None:
    stream = spool.file("archive")
    reader = _reader(stream)
    for _ in range(16):
        stream.write(PIECE)
    chunks = reader.read()
    for _ in range(8):
        next(chunks)
    assert reader.rewind()
    writing = in_thread(lambda: _written(stream, 1))
    time.sleep(0.1)
    assert not writing.done()
    assert _taken(reader) == LIMIT + len(PIECE)
    writing.result(60)


def test_a_reader_cannot_begin_again_once_the_beginning_is_gone(spool: Spool, in_thread: InThread) -> None:
    stream = spool.file("archive")
    reader = _reader(stream)
    writing = in_thread(lambda: _written(stream, 17))
    assert _taken(reader) == LIMIT + len(PIECE)
    writing.result(60)
    assert not reader.rewind()
    with pytest.raises(SpoolError, match="no longer holds the beginning of archive"):
        next(reader.read())


def test_a_small_stream_is_kept_while_a_large_one_makes_its_own_room(spool: Spool) -> None:
    small, large = spool.file("globals"), spool.file("main")
    of_small, of_large = _reader(small), _reader(large)
    _written(small, 1)
    assert _taken(of_small) == len(PIECE)
    taken = of_large.read()
    for _ in range(8):
        for _ in range(8):
            large.write(PIECE)
        for _ in range(8):
            next(taken)
    assert of_small.rewind()
    assert not of_large.rewind()


def test_what_everybody_has_taken_of_one_stream_makes_room_for_another(spool: Spool) -> None:
    first, second = spool.file("first"), spool.file("second")
    readers = [_reader(first), _reader(second)]
    _written(first, 16)
    assert _taken(readers[0]) == LIMIT
    _written(second, 16)
    assert _taken(readers[1]) == LIMIT
    assert _on_disk(spool) == LIMIT


def test_a_reader_that_leaves_holds_nobody_up_and_reads_no_more(spool: Spool, in_thread: InThread) -> None:
    stream = spool.file("archive")
    lost, left = _reader(stream, "lost"), _reader(stream, "left")
    chunks = lost.read()
    writing, reading = in_thread(lambda: _written(stream, 64)), in_thread(lambda: _taken(left))
    next(chunks)
    lost.leave()
    assert reading.result(60) == 4 * LIMIT
    writing.result(60)
    with pytest.raises(StreamAborted):
        next(chunks)


def test_a_reader_that_waits_is_woken_when_it_leaves(spool: Spool, in_thread: InThread) -> None:
    reader = _reader(spool.file("archive"))
    reading = in_thread(lambda: _taken(reader))
    time.sleep(0.05)
    reader.leave()
    with pytest.raises(StreamAborted):
        reading.result(60)


def test_who_takes_nothing_for_too_long_is_told_of_and_who_is_slow_is_not(
    tmp_path: Path, in_thread: InThread
) -> None:
    stream, stalled = Spool(tmp_path, LIMIT, stall_seconds=3).file("archive"), list[float]()

    def leave(seconds: float) -> None:
        stalled.append(seconds)
        hung.leave()

    hung = stream.reader("hung", leave)
    slow = _reader(stream, "slow")
    writing = in_thread(lambda: _written(stream, 64))
    next(hung.read())
    assert _taken(slow, 0.08) == 4 * LIMIT
    writing.result(60)
    assert stalled == [3]


def test_a_reader_that_never_begins_stalls_as_well(tmp_path: Path) -> None:
    stream = Spool(tmp_path, LIMIT, stall_seconds=0.1).file("archive")
    reader = stream.reader("never", lambda _: reader.leave())
    _written(stream, 64)
    assert stream.size_bytes == 4 * LIMIT


def test_a_reader_that_waits_for_the_writer_never_stalls(tmp_path: Path, in_thread: InThread) -> None:
    stream = Spool(tmp_path, LIMIT, stall_seconds=3).file("archive")
    reader = _reader(stream)
    reading = in_thread(lambda: _taken(reader))
    time.sleep(4)
    _written(stream, 64)
    assert reading.result(60) == 4 * LIMIT


@pytest.mark.parametrize("is_committed", [False, True])
def test_an_aborted_stream_raises_at_both_ends(spool: Spool, is_committed: bool) -> None:
    stream = spool.file("archive")
    reader = _reader(stream)
    stream.write(PIECE)
    if is_committed:
        stream.commit()
    stream.abort(CAUSE)
    with pytest.raises(StreamAborted):
        next(reader.read())
    with pytest.raises(StreamAborted):
        stream.write(PIECE)


def test_a_writer_that_waits_is_woken_by_an_abort(spool: Spool, in_thread: InThread) -> None:
    stream = spool.file("archive")
    _reader(stream)
    writing = in_thread(lambda: _written(stream, 64))
    eventually(lambda: stream.size_bytes == LIMIT, "the writer waits")
    stream.abort(CAUSE)
    with pytest.raises(StreamAborted):
        writing.result(60)


def test_a_full_disk_is_told_as_such(spool: Spool) -> None:
    stream = spool.file("archive")
    (spool.directory / "archive.000000").symlink_to("/dev/full")
    with pytest.raises(SpoolFull, match="no room left in the spool directory"):
        stream.write(PIECE)


def test_many_streams_at_once_never_wait_for_each_other_for_ever(spool: Spool, in_thread: InThread) -> None:
    """A stream whose writer is idle holds at most the segment that it is at."""
    streams = [spool.file(f"{number}") for number in range(8)]
    readers = [_reader(stream) for stream in streams]
    reading = [in_thread(partial(_taken, reader)) for reader in readers]
    start = threading.Barrier(len(streams))

    def write(stream: SpoolStream) -> None:
        start.wait()
        for _ in range(200):
            stream.write(PIECE[:10_007])
        stream.commit()

    with ThreadPoolExecutor(len(streams)) as pool:
        list(pool.map(write, streams))
    assert [each.result(60) for each in reading] == [200 * 10_007] * len(streams)
    assert _on_disk(spool) <= LIMIT
