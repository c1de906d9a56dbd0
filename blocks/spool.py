"""What lies between two steps that run at the same time: a `Pipe` in memory, a `SpoolFile` on disk.

Both keep one contract: **an end is a success only if the writer committed**. A writer that dies, or
closes without `commit()`, makes every reader raise `StreamAborted`; a reader that gives up makes the
writer raise. A `Chain` ties the links of one attempt together and keeps the first cause.
"""

import errno
import fcntl
import os
import shutil
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol

from blocks.errors import SpoolError, SpoolFull, StreamAborted

CHUNK_BYTES = 1 << 20
LOCK_SUFFIX = ".in-use"


class Sink(Protocol):
    """The writing end that both kinds of link offer."""

    def write(self, chunk: bytes) -> None: ...
    def commit(self) -> None: ...
    def abort(self, cause: BaseException) -> None: ...


class Pipe:
    """A bounded hand-over in memory from one writer to one reader.

    Args:
        depth: Chunks in flight before the writer waits; with chunks of 1 MiB this is MiB of memory.
    """

    def __init__(self, depth: int = 8) -> None:
        self._chunks: deque[bytes] = deque()
        self._depth = depth
        self._changed = threading.Condition()
        self._committed = False
        self._aborted = False

    def write(self, chunk: bytes) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._aborted or len(self._chunks) < self._depth)
            if self._aborted:
                raise StreamAborted("the reading end gave up")
            self._chunks.append(chunk)
            self._changed.notify_all()

    def commit(self) -> None:
        """End the stream as a success."""
        with self._changed:
            self._committed = True
            self._changed.notify_all()

    def abort(self, cause: BaseException) -> None:  # noqa: ARG002 - the contract's signature
        """End the stream as a failure; both ends raise from now on."""
        with self._changed:
            self._aborted = True
            self._chunks.clear()
            self._changed.notify_all()

    def read(self) -> Iterator[bytes]:
        """Yield the chunks in order; raise `StreamAborted` unless the writer committed."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._chunks or self._committed or self._aborted)
                if self._aborted:
                    raise StreamAborted("the writing end gave up")
                if not self._chunks:
                    return
                chunk = self._chunks.popleft()
                self._changed.notify_all()
            yield chunk


class SpoolFile:
    """A file that any number of readers read from its beginning while it is still being written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size_bytes = 0
        self._changed = threading.Condition()
        self._committed = False
        self._aborted = False
        self._file: BinaryIO = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb", 0)

    def write(self, chunk: bytes) -> None:
        if self._aborted:
            raise StreamAborted("a reading end gave up")
        try:
            view = memoryview(chunk)
            while view:
                view = view[self._file.write(view) :]
        except OSError as error:
            raise disk_error(error, self.path, self.path.parent.parent) from error
        with self._changed:
            self.size_bytes += len(chunk)
            self._changed.notify_all()

    def commit(self) -> None:
        """End the file as a success: readers stop at its last byte."""
        with self._changed:
            self._committed = not self._aborted
            self._file.close()
            self._changed.notify_all()

    def abort(self, cause: BaseException) -> None:  # noqa: ARG002 - the contract's signature
        """End the file as a failure; readers and writer raise from now on, committed or not."""
        with self._changed:
            self._aborted = True
            self._changed.notify_all()

    def close(self) -> None:
        """Let go of the file, whose room on the disk is free only then; nobody may write any more."""
        self._file.close()

    def read(self) -> Iterator[bytes]:
        """Yield the file from its beginning, waiting for the writer; raise `StreamAborted` if it gave up."""
        offset = 0
        with self.path.open("rb", buffering=0) as file:
            while True:
                available = self._wait_for_more_than(offset)
                if not available:
                    return
                chunk = file.read(min(CHUNK_BYTES, available))
                if not chunk:
                    raise SpoolError(f"{self.path} became shorter while it was being read")
                offset += len(chunk)
                yield chunk

    def _wait_for_more_than(self, offset: int) -> int:
        """Return how many bytes lie behind `offset`; 0 at the end of a committed file."""
        with self._changed:
            self._changed.wait_for(lambda: self._aborted or self._committed or self.size_bytes > offset)
            if self._aborted:
                raise StreamAborted("the writing end gave up")
            return self.size_bytes - offset


class SpoolDirectory:
    """A run's own directory below `root`, held by a lock beside it and removed at the end.

    A directory that nobody holds belongs to a run that was killed: `sweep` clears it.
    """

    def __init__(self, root: Path, name: str) -> None:
        try:
            root.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock, self._lock_path = _new_lock(root, name)
            self.path = self._lock_path.with_suffix("")
            self.path.mkdir(mode=0o700)
        except OSError as error:
            raise disk_error(error, root, root) from error
        self._files: list[SpoolFile] = []

    def file(self, name: str) -> SpoolFile:
        self._files.append(SpoolFile(self.path / name))
        return self._files[-1]

    def close(self) -> None:
        for file in self._files:
            file.close()
        _remove(self.path, self._lock_path)
        os.close(self._lock)

    def __enter__(self) -> "SpoolDirectory":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def sweep(root: Path) -> list[Path]:
    """Remove the directories below `root` whose run is dead, and return them."""
    removed = []
    for lock_path in sorted(root.glob(f"*{LOCK_SUFFIX}")):
        try:
            descriptor = os.open(lock_path, os.O_RDWR | os.O_NOFOLLOW)
        except OSError:  # somebody else has cleared it, or it is not ours
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        else:
            if _remove(lock_path.with_suffix(""), lock_path):
                removed.append(lock_path.with_suffix(""))
        finally:
            os.close(descriptor)
    return removed


def _new_lock(root: Path, name: str) -> tuple[int, Path]:
    """Return a locked new file; a sweep may take one away between its making and its locking."""
    while True:
        descriptor, path = tempfile.mkstemp(prefix=f"{name}-", suffix=LOCK_SUFFIX, dir=root)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if Path(path).exists():
            return descriptor, Path(path)
        os.close(descriptor)


def _remove(directory: Path, lock_path: Path) -> bool:
    """Remove a directory, and its lock only once that is done: what remains is swept another time."""
    shutil.rmtree(directory, ignore_errors=True)
    if directory.exists():
        return False
    lock_path.unlink(missing_ok=True)
    return True


def free_bytes(directory: Path) -> int:
    """Return how many bytes a user can still put below `directory`, which may not exist yet."""
    existing = next(path for path in (directory, *directory.parents) if path.exists())
    return shutil.disk_usage(existing).free


class Chain:
    """The links of one attempt: the first failure is kept, and it stops every other link."""

    def __init__(self) -> None:
        self.first_cause: BaseException | None = None
        self._stops: list[Callable[[BaseException], None]] = []
        self._lock = threading.Lock()

    def add(self, stop: Callable[[BaseException], None]) -> None:
        """Call `stop(cause)` when a link fails, at once if one already has."""
        with self._lock:
            self._stops.append(stop)
            cause = self.first_cause
        if cause is not None:
            stop(cause)

    def fail(self, cause: BaseException) -> None:
        """Keep `cause` if it is the first that is no consequence of another, and stop every link."""
        with self._lock:
            if self.first_cause is None or isinstance(self.first_cause, StreamAborted):
                self.first_cause = cause
            stops = list(self._stops)
        for stop in stops:
            stop(cause)

    @contextmanager
    def link(self, stop: Callable[[BaseException], None] | None = None) -> Iterator[None]:
        """Run one link: whatever it raises fails the chain; `stop` ends it when another link fails."""
        try:
            if stop is not None:
                self.add(stop)
            yield
        except BaseException as error:
            self.fail(error)
            raise


def disk_error(error: OSError, path: Path, root: Path) -> SpoolError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return SpoolFull(
            f"no room left in the spool directory {root}",
            "free some space there, or set spool_directory to a larger disk",
        )
    return SpoolError(
        f"cannot write to {path}: {error.strerror}",
        "let the user that runs this write there, or set spool_directory to another disk",
    )
