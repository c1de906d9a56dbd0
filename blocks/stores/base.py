"""The contract of every store: a flat space of keys below one prefix, whole objects only.

- An object becomes visible when it is complete, or never: an error raised by the source of its bytes,
  or a kill, leaves nothing that can be listed or read under its key.
- Memory is constant whatever an object's size.
- `delete` of a missing key is a success. Missing, forbidden and transient are told apart.
- Keys are relative to the store's prefix, use `/`, and never begin with it.
"""

import re
from abc import abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from prefect.blocks.core import Block
from pydantic import Field

from blocks.errors import ObjectExists, ObjectMissing, StoreError

READ_LIMIT_BYTES = 64 << 20
NO_END = datetime.max.replace(tzinfo=UTC)
_UNUSABLE_CHARACTERS = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


@dataclass(frozen=True)
class StoredObject:
    """An object as the store lists it; `modified_at` is UTC-aware and by the store's clock."""

    key: str
    size_bytes: int
    modified_at: datetime


@dataclass(frozen=True)
class PendingUpload:
    """What a killed upload left behind: invisible as an object, yet it takes room (and costs money).

    It may also be one that another run is still sending: `started_at` is when the last of it was written, or
    when it began where the store tells no more (Azure); UTC-aware, by the store's clock.
    """

    key: str
    upload_id: str
    started_at: datetime


@dataclass(frozen=True)
class StoreProblem:
    """Something about how a store is set up that a plan would trip over, and what to do about it.

    Args:
        severity: `error` if it cannot keep what the plan promises, `warning` if it only costs more.
    """

    message: str
    remedy: str
    severity: Literal["error", "warning"] = "error"


class Store(Block):
    """Base of all stores."""

    name: str = Field("store", description="The destination's name within a plan.")
    append_only: bool = Field(
        False, description="Whether backups stay there for ever: pgsalvo never deletes anything."
    )
    max_bytes_per_second: int | None = Field(
        None,
        ge=65_536,
        description="How fast a run may send and read there, on average; as fast as it goes if empty.",
    )

    @property
    @abstractmethod
    def location(self) -> str:
        """Where objects lie, for a person: a path or an URL without credentials."""

    @property
    @abstractmethod
    def on_this_host(self) -> bool:
        """True if losing this machine loses the store."""

    @abstractmethod
    def put(self, key: str, chunks: Iterable[bytes], *, expected_bytes: int | None = None) -> int:
        """Store the chunks as one object, replacing any of the same key, and return its size in bytes.

        Args:
            chunks: Of any length; an exception raised by it aborts the upload and is passed on.
            expected_bytes: A guess of the size, which sets the size of an upload's parts; it may be wrong.
        """

    @abstractmethod
    def create(self, key: str, body: bytes) -> None:
        """Store a small object unless the key is taken.

        Stores that ignore create-only conditions are looked at first. The same bytes already there
        count as success, so that a repeated commit is one.

        Raises:
            ObjectExists: Other bytes are there.
        """

    @abstractmethod
    def get(self, key: str, *, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Yield the object's bytes; raise `ObjectMissing`, also before the first byte is asked for.

        Args:
            start: Of the first byte, counted from 0; behind the object's end there is nothing to yield.
            end: Of the first byte that is not wanted; the object's end if None, or if that comes first.
        """

    @abstractmethod
    def stat(self, key: str) -> StoredObject:
        """Look at one object; raise `ObjectMissing`."""

    @abstractmethod
    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        """Yield every object whose key begins with `prefix`, in the order of their keys.

        `prefix` is a plain string: end it with `/` to mean a folder.
        """

    @abstractmethod
    def delete(self, key: str) -> None:  # type: ignore[override] # hides Block.delete, which removes a block's document
        """Delete one object; a missing one is a success."""

    @abstractmethod
    def now(self) -> datetime:
        """The store's own clock, UTC-aware."""

    @abstractmethod
    def pending(self, prefix: str = "") -> Iterator[PendingUpload]:
        """Yield the uploads that were begun below `prefix` and neither completed nor aborted."""

    @abstractmethod
    def abort_pending(self, upload: PendingUpload) -> None:
        """Clear what an upload left; one that is gone is a success."""

    @property
    def moves_whole_files(self) -> bool:
        """True if objects pass local disk as whole files, also to read a part of one.

        Such a store keeps to `max_bytes_per_second` itself, between the disk and the server.
        """
        return False

    def checks_parts(self, key: str) -> bool:  # noqa: ARG002 - of those that ask their server
        """Return whether the store compares all that it is sent of an object with checksums sent along.

        Args:
            key: Of an object that may be written; whatever is tried under it is invisible and taken back.
        """
        return False

    @property
    def locks_objects(self) -> bool:
        """True if every object is locked for some time as soon as it is written."""
        return False

    def locked_until(self, key: str) -> datetime | None:  # noqa: ARG002 - of those that lock
        """Return until when the store refuses to delete an object, UTC-aware, by the store's clock.

        It may be past; None if there is no lock, `NO_END` if somebody has to take it away.
        """
        return None

    def problems(self) -> Iterator[StoreProblem]:
        """Yield what is wrong with how the store is set up; nothing is written."""
        return iter(())

    def read(self, key: str) -> bytes:
        """Return a small object whole."""
        body = bytearray()
        for chunk in self.get(key):
            body += chunk
            if len(body) > READ_LIMIT_BYTES:
                raise StoreError(f"{key} on {self.location} is larger than {READ_LIMIT_BYTES >> 20} MiB")
        return bytes(body)

    def exists(self, key: str) -> bool:
        try:
            self.stat(key)
        except ObjectMissing:
            return False
        return True

    def refuse_other_bytes(self, key: str, body: bytes) -> bool:
        """Return True if `key` already holds `body`, False if it is free; raise `ObjectExists` otherwise."""
        try:
            present = self.read(key)
        except ObjectMissing:
            return False
        if present != body:
            raise ObjectExists(f"{key} on {self.location} already holds something else")
        return True


def is_key(text: str) -> bool:
    """Return whether `text` can name an object: relative, no empty or dot segment, no control character."""
    return not _UNUSABLE_CHARACTERS.search(text) and not {"", ".", ".."} & set(text.split("/"))


def check_key(key: str) -> None:
    """Raise `StoreError` unless `key` can name an object."""
    if not is_key(key):
        raise StoreError(f"not an object's key: {key!r}")
