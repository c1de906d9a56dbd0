"""A store's objects over one job of rsync: names below a prefix, and what a missing one means."""

import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from blocks.errors import ObjectMissing, StoreError, StoreUnreachable, WorldError
from blocks.stores.base import StoredObject, is_key
from blocks.stores.rsync_commands import Address, Listed, meant_name
from blocks.stores.rsync_runs import Job

CHUNK_BYTES = 1 << 20
CLOCK = "clock"
ABANDONED_AFTER = timedelta(days=1)


@dataclass(frozen=True)
class Objects:
    """The objects below a prefix, for one operation.

    Args:
        location: Where the store lies, as its errors say it.
        what: What failed if something does, such as `cannot write KEY on LOCATION`.
    """

    job: Job
    address: Address
    prefix: str
    location: str
    what: str

    def put(self, key: str, chunks: Iterable[bytes]) -> int:
        size_bytes = self.job.collect(self._name(key), chunks)
        with self._missing(key):
            self.job.send(self._name(key), self.what)
        self._check_sent(key, size_bytes)
        return size_bytes

    def create(self, key: str, body: bytes) -> None:
        """Store a small object unless the key is taken."""
        self.job.collect(self._name(key), [body])
        with self._missing(key):
            self.job.create(self._name(key), self.what)

    def look_at(self, key: str) -> StoredObject:
        with self._missing(key):
            found = self.job.list(self._name(key), self.what)
        for each in found:
            if each.name == self._name(key):
                return _stored(key, each)
        raise self._no(key)

    def read(self, key: str, start: int, end: int | None) -> Iterator[bytes]:
        """Yield nothing once the object has been fetched, so that `get` can raise at once, then its bytes."""
        path = self._fetch(key)
        yield b""
        with self.job.local_disk(), path.open("rb", buffering=0) as file:
            size_bytes = os.fstat(file.fileno()).st_size
            rest = min(size_bytes, size_bytes if end is None else end) - file.seek(start)
            while rest > 0 and (chunk := file.read(min(CHUNK_BYTES, rest))):
                rest -= len(chunk)
                yield chunk

    def files(self, folder: str) -> list[StoredObject]:
        """Return the files below a folder that can be objects or rsync's hidden ones."""
        root = self._name("")
        try:
            found = self.job.list(self._name(folder) or ".", self.what, recursive=True)
        except ObjectMissing:
            self._check()
            return []
        named = [(each.name.removeprefix(root), each) for each in found if each.name.startswith(root)]
        return [
            _stored(key, each) for key, each in named if is_key(key) and not key.startswith("lost+found/")
        ]

    def delete(self, key: str) -> None:
        """Delete a file; a missing one is a success."""
        try:
            self.job.delete(self._name(key), self.what)
        except ObjectMissing:
            self._check()

    def clock(self) -> datetime:
        """Return the server's time as a new file shows it, to the second.

        A kill leaves that file, which is empty, to the first call that comes more than a day later.
        """
        # the name of an unfinished upload: no list of objects shows it
        key = f".{CLOCK}.{secrets.token_hex(3)}"
        self.job.collect(self._name(key), [b""])
        try:
            self.job.send(self._name(key), self.what)
            return self._told_by(key)
        finally:
            with suppress(WorldError):
                self.delete(key)

    def _told_by(self, probe: str) -> datetime:
        """Return when a probe of the clock was written; delete those that are more than a day older."""
        root = self._name("")
        listed = self.job.list(root, self.what)
        written_at = {each.name.removeprefix(root): each.modified_at for each in listed}
        if probe not in written_at:
            raise self._no(probe)
        with suppress(StoreError):
            for key, at in written_at.items():
                if meant_key(key) == CLOCK and written_at[probe] - at > ABANDONED_AFTER:
                    self.delete(key)
        return written_at[probe]

    def _fetch(self, key: str) -> Path:
        size_bytes = self.look_at(key).size_bytes
        with self._missing(key):
            return self.job.fetch(self._name(key), size_bytes, self.what)

    def _name(self, key: str) -> str:
        """Return the name that rsync knows: `key` below the prefix, or what they all begin with."""
        return "".join(f"{folder}/" for folder in (self.address.folder, self.prefix) if folder) + key

    @contextmanager
    def _missing(self, key: str) -> Iterator[None]:
        try:
            yield
        except ObjectMissing:
            self._check()
            raise self._no(key) from None

    def _check_sent(self, key: str, size_bytes: int) -> None:
        """Raise `StoreError` unless the object is there: rsync also ends with 0 if it had nothing to send."""
        try:
            found_bytes = self.look_at(key).size_bytes
        except ObjectMissing:
            found_bytes = None
        if found_bytes != size_bytes:
            raise StoreUnreachable(
                f"{self.what}: it is not there as it was sent",
                "try again; let nobody else write to the directory",
            )

    def _no(self, key: str) -> ObjectMissing:
        return ObjectMissing(f"there is no {key} on {self.location}")

    def _check(self) -> None:
        """Raise `StoreError` if there is no place for the directory; one that will be made is no problem."""
        if (above := self.address.above) is None:
            return
        try:
            self.job.list(".", self.what, address=above)
        except ObjectMissing:
            raise StoreError(
                f"{self.what}: there is no directory {above.path} on the server",
                "mount it or make it there, or correct the address",
            ) from None


def meant_key(key: str) -> str | None:
    """Return the key that a hidden file was to get, or None if `key` is not such a file's."""
    folder, slash, name = key.rpartition("/")
    meant = meant_name(name)
    return f"{folder}{slash}{meant}" if meant else None


def _stored(key: str, found: Listed) -> StoredObject:
    return StoredObject(key, found.size_bytes, found.modified_at)
