"""A store in memory for tests: it keeps the contract, and fails when it is told to."""

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from typing import Literal

from pydantic import Field, PrivateAttr

from blocks.errors import ObjectExists, ObjectMissing, StoreLocked
from blocks.stores.base import PendingUpload, Store, StoredObject, check_key

CHUNK_BYTES = 1 << 20

Operation = Literal["put", "create", "get", "stat", "list", "delete", "now", "pending", "abort_pending"]


@dataclass
class Failure:
    """An error that is yet to happen.

    Args:
        after_bytes: How many bytes of a put or get go through first.
        times: How often; None is for ever.
        leaves_upload: A put that fails leaves an unfinished upload, as when the server could not be told.
    """

    operation: Operation
    error: Exception
    key_contains: str = ""
    after_bytes: int = 0
    times: int | None = 1
    leaves_upload: bool = False


@dataclass(frozen=True)
class Call:
    """One operation that was asked for; `key` is a prefix where the operation takes one."""

    operation: Operation
    key: str


class MemoryStore(Store):
    """Keeps objects in memory, for tests.

    Example:
        Load a stored block, which begins empty:
        ```python
        from blocks.stores.memory import MemoryStore

        memory_store = MemoryStore.load("BLOCK_NAME")
        memory_store.create("a", b"bytes")
        ```
    """

    _block_type_name = "MemoryStore"
    _block_type_slug = "memory-store"
    _documentation_url = "https://docs.prefect.io/v3/concepts/blocks"  # type: ignore[assignment]

    kind: Literal["memory"] = Field("memory", description="Tells this kind of store from others.")
    name: str = Field("memory", description="The destination's name within a plan.")
    is_local: bool = Field(False, description="Whether losing this host is to lose the store.")

    _objects: dict[str, tuple[bytes, datetime]] = PrivateAttr(default_factory=dict)
    _locks: dict[str, datetime] = PrivateAttr(default_factory=dict)
    _uploads: dict[str, PendingUpload] = PrivateAttr(default_factory=dict)
    _failures: list[Failure] = PrivateAttr(default_factory=list)
    _calls: list[Call] = PrivateAttr(default_factory=list)
    _clock: Callable[[], datetime] = PrivateAttr(default_factory=lambda: _now)
    _numbers: Iterator[int] = PrivateAttr(default_factory=count)
    _lock: threading.RLock = PrivateAttr(default_factory=threading.RLock)

    @property
    def calls(self) -> tuple[Call, ...]:
        """What was asked for so far, in order."""
        return tuple(self._calls)

    def set_clock(self, clock: Callable[[], datetime]) -> None:
        """Tell the time by `clock`, which returns UTC-aware datetimes."""
        self._clock = clock

    def fail(
        self,
        operation: Operation,
        error: Exception,
        *,
        key_contains: str = "",
        after_bytes: int = 0,
        times: int | None = 1,
        leaves_upload: bool = False,
    ) -> None:
        """Let the next `times` matching operations raise `error`; see `Failure`."""
        self._failures.append(Failure(operation, error, key_contains, after_bytes, times, leaves_upload))

    def mend(self) -> None:
        """Forget the failures that are yet to happen."""
        self._failures.clear()

    def lock(self, key: str, until: datetime) -> None:
        """Refuse to delete an object before `until`, by the store's clock."""
        self._locks[key] = until

    def begin_upload(self, key: str) -> PendingUpload:
        """Leave an unfinished upload, as a kill does."""
        upload = PendingUpload(key, f"upload-{next(self._numbers)}", self._clock())
        self._uploads[upload.upload_id] = upload
        return upload

    @property
    def location(self) -> str:
        return f"memory:{self.name}"

    @property
    def on_this_host(self) -> bool:
        return self.is_local

    def put(self, key: str, chunks: Iterable[bytes], *, expected_bytes: int | None = None) -> int:  # noqa: ARG002
        check_key(key)
        failure = self._asked("put", key)
        upload = self.begin_upload(key)
        try:
            body = self._received(chunks, failure)
        finally:
            if not (failure and failure.leaves_upload):
                self._uploads.pop(upload.upload_id, None)
        self._objects[key] = (body, self._clock())
        return len(body)

    def create(self, key: str, body: bytes) -> None:
        check_key(key)
        self._raise("create", key)
        with self._lock:
            present, _ = self._objects.setdefault(key, (body, self._clock()))
        if present != body:
            raise ObjectExists(f"{key} on {self.location} already holds something else")

    def get(self, key: str, *, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        check_key(key)
        failure = self._asked("get", key)
        if failure and not failure.after_bytes:
            raise failure.error
        return self._chunks(self._present(key)[0][start:end], failure)

    def stat(self, key: str) -> StoredObject:
        check_key(key)
        self._raise("stat", key)
        body, modified_at = self._present(key)
        return StoredObject(key, len(body), modified_at)

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        self._raise("list", prefix)
        with self._lock:
            found = sorted((key, *value) for key, value in self._objects.items() if key.startswith(prefix))
        for key, body, modified_at in found:
            yield StoredObject(key, len(body), modified_at)

    def delete(self, key: str) -> None:  # type: ignore[override] # see Store.delete
        check_key(key)
        self._raise("delete", key)
        if (until := self.locked_until(key)) and until > self._clock():
            raise StoreLocked(f"{key} on {self.location} is locked", "", until)
        self._objects.pop(key, None)

    def locked_until(self, key: str) -> datetime | None:
        return self._locks.get(key)

    def now(self) -> datetime:
        self._raise("now", "")
        return self._clock()

    def pending(self, prefix: str = "") -> Iterator[PendingUpload]:
        self._raise("pending", prefix)
        yield from [upload for upload in tuple(self._uploads.values()) if upload.key.startswith(prefix)]

    def abort_pending(self, upload: PendingUpload) -> None:
        self._raise("abort_pending", upload.key)
        self._uploads.pop(upload.upload_id, None)

    def _present(self, key: str) -> tuple[bytes, datetime]:
        try:
            return self._objects[key]
        except KeyError:
            raise ObjectMissing(f"there is no {key} on {self.location}") from None

    def _received(self, chunks: Iterable[bytes], failure: Failure | None) -> bytes:
        body = bytearray()
        if failure and not failure.after_bytes:
            raise failure.error
        for chunk in chunks:
            body += chunk
            if failure and len(body) >= failure.after_bytes:
                raise failure.error
        if failure:
            raise failure.error
        return bytes(body)

    def _chunks(self, body: bytes, failure: Failure | None) -> Iterator[bytes]:
        end = min(len(body), failure.after_bytes) if failure else len(body)
        for start in range(0, end, CHUNK_BYTES):
            yield body[start : min(start + CHUNK_BYTES, end)]
        if failure:
            raise failure.error

    def _raise(self, operation: Operation, key: str) -> None:
        if failure := self._asked(operation, key):
            raise failure.error

    def _asked(self, operation: Operation, key: str) -> Failure | None:
        """Note the call, and return the failure that is to happen to it."""
        with self._lock:
            self._calls.append(Call(operation, key))
            for failure in self._failures:
                if failure.operation == operation and failure.key_contains in key and failure.times != 0:
                    if failure.times is not None:
                        failure.times -= 1
                    return failure
        return None


def _now() -> datetime:
    return datetime.now(UTC)
