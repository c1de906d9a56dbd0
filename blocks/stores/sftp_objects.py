"""A store's objects over one SFTP session: written whole, read in part, and what a refusal means for them.

The protocol has one word for most failures and one for whatever is missing. So a full disk is told by the
room that is left, and a missing object from a directory that is not mounted by a look at the latter.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from paramiko.sftp_attr import SFTPAttributes

from blocks.errors import ObjectMissing, StoreError, StoreFull, StoreUnreachable
from blocks.stores.base import StoredObject, is_key
from blocks.stores.sftp_errors import translated
from blocks.stores.sftp_tree import Directory, Part


@dataclass(frozen=True)
class Objects:
    """The objects in a directory, for one operation.

    Args:
        location: Where the store lies, as its errors say it.
        what: What failed if something does, such as `cannot write KEY on LOCATION`.
    """

    directory: Directory
    location: str
    what: str

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turn errors of the server and the line into the store's; a line that broke is not used again."""
        try:
            with translated(self.what):
                yield
        except StoreUnreachable:
            self.directory.hang_up()
            raise

    def look_at(self, key: str) -> StoredObject:
        with self._missing(key), self.errors():
            found = self.directory.look_at(key)
        return _stored(key, found)

    def files(self, prefix: str) -> list[StoredObject]:
        """Return the files that can be objects or their parts and whose keys may begin with `prefix`."""
        with self.errors():
            files = [
                _stored(folder + name, found)
                for folder, name, found in self.directory.files(prefix)
                if is_key(folder + name)
            ]
        if not files:
            self.check()
        return files

    def read(self, key: str, start: int, end: int | None) -> Iterator[bytes]:
        """Yield nothing once the object is open, so that `get` can raise at once, and then its bytes."""
        with self._missing(key), self.errors():
            handle, size_bytes = self.directory.open_file(key)
        end = size_bytes if end is None else min(end, size_bytes)
        yield b""
        chunks, rest = self.directory.read(handle, start, end), end - start
        while True:
            with self.errors():
                chunk = next(chunks, None)
            if chunk is None:
                break
            rest -= len(chunk)
            yield chunk
        if rest > 0:
            raise StoreError(f"{self.what}: it ended {rest} bytes before its end")

    @contextmanager
    def part(self, key: str) -> Iterator[Part]:
        """Open a part beside the key's place; if the block fails it is removed, unless the line broke."""
        with self._missing(key), self._writing():
            part = self.directory.open_part(key)
        try:
            yield part
        except BaseException:
            if self.directory.is_reachable:
                with suppress(StoreError), self.errors():
                    part.remove()
                    self.directory.remove_empty(key)
            raise

    def fill(self, part: Part, chunks: Iterable[bytes]) -> int:
        """Write the chunks, whose errors are passed on; return their size, which is the server's as well."""
        size_bytes = 0
        for chunk in chunks:
            with self._writing():
                part.write(chunk)
            size_bytes += len(chunk)
        with self._writing():
            stored_bytes = part.finish()
        if stored_bytes != size_bytes:
            raise StoreError(f"{self.what}: the server holds {stored_bytes} of {size_bytes} bytes")
        return size_bytes

    def remove(self, key: str) -> bool:
        """Remove a file and the directories that it leaves empty; return False if there is none."""
        with self.errors():
            return self.directory.remove(key)

    def clock(self) -> datetime:
        """Return the server's time as a new file shows it, to the second."""
        with self.errors():
            return _utc(self.directory.clock())

    def check(self) -> None:
        """Raise `StoreError` if there is no place for the directory."""
        with self.errors():
            problem = self.directory.problem()
        if problem:
            raise StoreError(
                f"{problem}: {self.location}", "mount or make it on the server, or correct directory"
            )

    @contextmanager
    def _missing(self, key: str) -> Iterator[None]:
        try:
            yield
        except ObjectMissing:
            self.check()
            raise ObjectMissing(f"there is no {key} on {self.location}") from None

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Tell a full disk from other failures."""
        try:
            with self.errors():
                yield
        except StoreError as error:
            if type(error) is StoreError:
                with self.errors():
                    room = self.directory.room()
                if room and room.is_used_up:
                    raise StoreFull(
                        f"{self.what}: no space is left on the server",
                        "make room on the server, or keep fewer backups",
                    ) from None
            raise


def _stored(key: str, found: SFTPAttributes) -> StoredObject:
    return StoredObject(key, found.st_size or 0, _utc(found.st_mtime))


def _utc(timestamp: float | None) -> datetime:
    return datetime.fromtimestamp(timestamp or 0, UTC)
