"""The spool that a backup's archives pass through: with a limit, the writer waits for the slowest reader.

What every reader has taken is let go of when the limit asks for its room, not before: as long as nothing of
a stream is gone, a reader can begin again. Each stream lies in segments, small files that are removed one by
one. That gives room back on any file system; a hole punched into one large file does not, for NFS before 4.2
and SMB refuse it.
"""

import math
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from blocks.errors import SpoolError, StreamAborted
from blocks.spool import CHUNK_BYTES, disk_error

SEGMENTS = 16  # that the limit is cut into: a stream holds up to one of them longer than it must
LARGEST_SEGMENT_BYTES = 64 << 20
LOOK_SECONDS = 1.0


@dataclass
class Segment:
    """A stretch of a stream in a file of its own."""

    path: Path
    start: int
    size_bytes: int = 0

    @property
    def end(self) -> int:
        return self.start + self.size_bytes


class Spool:
    """Streams on local disk that together hold at most so much.

    Args:
        directory: Where they lie; whoever made it removes it.
        max_bytes: How much; None is without a limit.
        stall_seconds: How long a reader may take nothing of what is there for it, before its `on_stall` is
            called. It must leave its streams then.
    """

    def __init__(
        self, directory: Path, max_bytes: int | None = None, stall_seconds: float = math.inf
    ) -> None:
        self.directory = directory
        self.max_bytes = max_bytes
        self.stall_seconds = stall_seconds
        self.segment_bytes = min(max_bytes // SEGMENTS, LARGEST_SEGMENT_BYTES) if max_bytes else sys.maxsize
        self.changed = threading.Condition()
        self.held_bytes = 0
        self.waited_seconds: dict[str, float] = {}
        self._streams: list[SpoolStream] = []

    def file(self, name: str) -> "SpoolStream":
        """Begin a stream; its readers are to be made before it is written to."""
        self._streams.append(SpoolStream(self, name))
        return self._streams[-1]

    def make_room(self, size_bytes: int, writer: "SpoolStream") -> None:
        """Wait until so much more may be written; raise `StreamAborted` if the writer's stream is."""
        while not self._has_made_room(size_bytes, writer):
            self.give_up_stalled()

    def give_up_stalled(self) -> None:
        """Call `on_stall` of every reader that takes nothing of what is there for it."""
        for reader in self._stalled():
            reader.on_stall(self.stall_seconds)

    def _has_made_room(self, size_bytes: int, writer: "SpoolStream") -> bool:
        with self.changed:
            writer.refuse_if_aborted()
            for stream in (writer, *self._streams):
                while not self._has_room(size_bytes) and stream.let_go(own=stream is writer):
                    pass
            if self._has_room(size_bytes):
                self.held_bytes += size_bytes
                return True
            began, slowest = time.monotonic(), self._slowest()
            self.changed.wait(min(LOOK_SECONDS, self.stall_seconds))
            self.waited_seconds.setdefault(slowest, 0.0)
            self.waited_seconds[slowest] += time.monotonic() - began
        return False

    def _has_room(self, size_bytes: int) -> bool:
        return self.max_bytes is None or self.held_bytes + size_bytes <= self.max_bytes

    def _slowest(self) -> str:
        """Return the name of the reader that has most to take."""
        readers = [reader for stream in self._streams for reader in stream.readers]
        return max(readers, key=lambda reader: reader.behind_bytes).name if readers else ""

    def _stalled(self) -> list["SpoolReader"]:
        with self.changed:
            now = time.monotonic()
            return [
                reader
                for stream in self._streams
                for reader in stream.readers
                if reader.behind_bytes and now - reader.busy_since >= self.stall_seconds
            ]


class SpoolStream:
    """What one writer writes and any number of readers read from its beginning meanwhile."""

    def __init__(self, spool: Spool, name: str) -> None:
        self.spool = spool
        self.name = name
        self.size_bytes = 0
        self.readers: list[SpoolReader] = []
        self.committed = False
        self.aborted = False
        self._segments: deque[Segment] = deque()
        self._number = 0

    def reader(self, name: str, on_stall: Callable[[float], None]) -> "SpoolReader":
        """Return a new reader, for which everything is kept until it has taken it.

        Args:
            on_stall: Called with the seconds for which the reader took nothing, in the thread that noticed.
        """
        with self.spool.changed:
            self.readers.append(SpoolReader(self, name, on_stall))
            return self.readers[-1]

    def write(self, chunk: bytes) -> None:
        rest = memoryview(chunk)
        self.refuse_if_aborted()
        while rest:
            filled = self._segments[-1].size_bytes if self._segments else 0
            piece = rest[: self.spool.segment_bytes - filled or self.spool.segment_bytes]
            self.spool.make_room(len(piece), self)
            segment = self._segment_for(len(piece))
            self._append(segment.path, piece)
            with self.spool.changed:
                segment.size_bytes += len(piece)
                self.size_bytes += len(piece)
                self.spool.changed.notify_all()
            rest = rest[len(piece) :]

    def commit(self) -> None:
        """End the stream as a success: readers stop at its last byte."""
        with self.spool.changed:
            self.committed = not self.aborted
            self.spool.changed.notify_all()

    def abort(self, cause: BaseException) -> None:  # noqa: ARG002 - the contract's signature
        """End the stream as a failure; readers and writer raise from now on, committed or not."""
        with self.spool.changed:
            self.aborted = True
            self.spool.changed.notify_all()

    def refuse_if_aborted(self) -> None:
        if self.aborted:
            raise StreamAborted("a reading end gave up")

    @property
    def is_whole(self) -> bool:
        """Return whether nothing of it was let go, so that a reader can begin again."""
        return not self.size_bytes or (bool(self._segments) and self._segments[0].start == 0)

    def let_go(self, *, own: bool) -> bool:
        """Remove the oldest segment if every reader has taken it; return whether there was one.

        Args:
            own: Whether the stream's writer asks; the segment that is being written is its alone.
        """
        if not self._segments or (len(self._segments) == 1 and not (own or self.committed)):
            return False
        taken = min((reader.position for reader in self.readers), default=self.size_bytes)
        if self._segments[0].end > taken:
            return False
        segment = self._segments.popleft()
        segment.path.unlink(missing_ok=True)
        self.spool.held_bytes -= segment.size_bytes
        return True

    def segment_at(self, offset: int) -> Segment:
        return next(segment for segment in self._segments if segment.end > offset)

    def _segment_for(self, size_bytes: int) -> Segment:
        with self.spool.changed:
            last = self._segments[-1] if self._segments else None
            if last is None or last.size_bytes + size_bytes > self.spool.segment_bytes:
                suffix = f".{self._number:06d}" if self.spool.max_bytes else ""
                self._segments.append(Segment(self.spool.directory / f"{self.name}{suffix}", self.size_bytes))
                self._number += 1
            return self._segments[-1]

    def _append(self, path: Path, piece: memoryview) -> None:
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            with os.fdopen(descriptor, "ab", buffering=0) as file:
                while piece:
                    piece = piece[file.write(piece) :]
        except OSError as error:
            raise disk_error(error, path, self.spool.directory.parent) from error


class SpoolReader:
    """One reader of a stream.

    It has *taken* a chunk when it asks for the next one: from then on the chunk is its own to keep.
    """

    def __init__(self, stream: SpoolStream, name: str, on_stall: Callable[[float], None]) -> None:
        self.name = name
        self.on_stall = on_stall
        self.position = 0
        self.busy_since = time.monotonic()
        self._stream = stream
        self._changed = stream.spool.changed
        self._has_left = False

    @property
    def behind_bytes(self) -> int:
        return self._stream.size_bytes - self.position

    def read(self) -> Iterator[bytes]:
        """Yield the stream from its beginning, waiting for its writer; `StreamAborted` if that gave up."""
        if not self.rewind():
            raise SpoolError(f"the spool no longer holds the beginning of {self._stream.name}")
        while segment := self._next():
            chunk = self._load(segment)
            yield chunk
            with self._changed:
                self.position += len(chunk)
                self._changed.notify_all()

    def rewind(self) -> bool:
        """Keep everything from the beginning again; return False if some of it is gone."""
        with self._changed:
            self.busy_since = time.monotonic()
            if self._stream.is_whole:
                self.position = 0
            return self._stream.is_whole

    def leave(self, cause: BaseException | None = None) -> None:  # noqa: ARG002 - as a link's stop
        """Need nothing any more; whoever still reads gets `StreamAborted`."""
        with self._changed:
            self._has_left = True
            if self in self._stream.readers:
                self._stream.readers.remove(self)
            self._changed.notify_all()

    def _next(self) -> Segment | None:
        """Return the segment that holds the next byte, None at the end of a committed stream."""
        with self._changed:
            self.busy_since = math.inf
            self._changed.wait_for(self._is_worth_waking)
            self.busy_since = time.monotonic()
            if self._stream.aborted or self._has_left:
                raise StreamAborted("the writing end gave up")
            return self._stream.segment_at(self.position) if self.behind_bytes else None

    def _is_worth_waking(self) -> bool:
        stream = self._stream
        return bool(stream.aborted or self._has_left or stream.committed or self.behind_bytes)

    def _load(self, segment: Segment) -> bytes:
        offset = self.position - segment.start
        try:
            with segment.path.open("rb", buffering=0) as file:
                file.seek(offset)
                chunk = file.read(min(CHUNK_BYTES, segment.size_bytes - offset))
        except OSError as error:
            if self._has_left or self._stream.aborted:
                raise StreamAborted("the writing end gave up") from error
            raise SpoolError(f"cannot read {segment.path}: {error.strerror}") from error
        if not chunk:
            raise SpoolError(f"{segment.path} became shorter while it was being read")
        return chunk
