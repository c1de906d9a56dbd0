"""The streams between steps: an end is a success only if it was committed, and the first cause is kept."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from blocks.errors import ProgramFailed, StreamAborted
from blocks.spool import Chain, Pipe, SpoolFile

CHUNKS = [b"one", b"two", b"three"]
CAUSE = ProgramFailed("pg_dump was ended by SIGKILL")

Stream = Pipe | SpoolFile
Make = Callable[[Path], Stream]


@pytest.fixture(params=["pipe", "file"])
def stream(request: pytest.FixtureRequest, tmp_path: Path) -> Stream:
    return Pipe() if request.param == "pipe" else SpoolFile(tmp_path / "archive")


def _written(stream: Stream) -> None:
    for chunk in CHUNKS:
        stream.write(chunk)


def test_what_was_committed_is_read_whole(stream: Stream) -> None:
    _written(stream)
    stream.commit()
    assert b"".join(stream.read()) == b"".join(CHUNKS)


def test_a_reader_that_is_ahead_waits_for_the_writer(stream: Stream) -> None:
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.extend(stream.read()))
    reader.start()
    _written(stream)
    stream.commit()
    reader.join(10)
    assert b"".join(read) == b"".join(CHUNKS)


def test_an_aborted_stream_raises_at_both_ends(stream: Stream) -> None:
    _written(stream)
    stream.abort(CAUSE)
    with pytest.raises(StreamAborted):
        list(stream.read())
    with pytest.raises(StreamAborted):
        stream.write(b"more")
    _let_go(stream)


def test_a_reader_that_waits_is_woken_by_an_abort(stream: Stream) -> None:
    failures: list[StreamAborted] = []

    def read() -> None:
        try:
            list(stream.read())
        except StreamAborted as error:
            failures.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    stream.abort(CAUSE)
    reader.join(10)
    assert len(failures) == 1
    _let_go(stream)


def test_an_abort_stops_who_still_reads_what_was_committed(tmp_path: Path) -> None:
    """An upload must not go on for hours after the backup that it belongs to has failed."""
    file = SpoolFile(tmp_path / "archive")
    _written(file)
    file.commit()
    chunks = file.read()
    file.abort(CAUSE)
    with pytest.raises(StreamAborted):
        next(chunks)


def test_a_full_pipe_holds_the_writer_up() -> None:
    pipe = Pipe(depth=2)
    written: list[bytes] = []

    def write() -> None:
        for chunk in CHUNKS:
            pipe.write(chunk)
            written.append(chunk)
        pipe.commit()

    writer = threading.Thread(target=write)
    writer.start()
    chunks = pipe.read()
    assert next(chunks) == CHUNKS[0]
    assert len(written) <= 3
    assert list(chunks) == CHUNKS[1:]
    writer.join(10)


def test_the_first_failure_is_the_cause_and_stops_every_link() -> None:
    chain, stopped = Chain(), list[BaseException]()
    chain.add(stopped.append)
    later = ProgramFailed("gpg was ended by SIGKILL")
    chain.fail(CAUSE)
    chain.fail(later)
    assert chain.first_cause is CAUSE
    assert stopped == [CAUSE, later]


def test_a_consequence_that_is_told_first_is_not_the_cause() -> None:
    chain = Chain()
    chain.fail(StreamAborted("the writing end gave up"))
    chain.fail(CAUSE)
    assert chain.first_cause is CAUSE


def test_a_link_that_comes_late_is_stopped_at_once() -> None:
    chain, stopped = Chain(), list[BaseException]()
    chain.fail(CAUSE)
    chain.add(stopped.append)
    assert stopped == [CAUSE]


def _let_go(stream: Stream) -> None:
    if isinstance(stream, SpoolFile):
        stream.close()
