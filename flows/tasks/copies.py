"""Steps on whole copies: read a stored archive again, or carry it from one destination to another."""

import hashlib
from collections.abc import Iterator, Sequence

from blocks.errors import ObjectMissing, StoreError
from blocks.stores import Store
from blocks.stores.pace import paced
from flows.core.errors import ChecksumMismatch
from flows.core.manifest import Archive
from flows.progress import Progress
from flows.tasks.options import transfer
from flows.tasks.reading_back import Passage


class Sources:
    """The destinations that an archive may be read from; one that seems damaged is not asked again.

    `failed` tells whether the last copy was ended by them, and not by where they were copied to.
    """

    def __init__(self, stores: Sequence[Store]) -> None:
        self._stores = tuple(stores)
        self.damaged: dict[str, Archive] = {}
        self.failed = False

    @property
    def sound(self) -> list[Store]:
        return [store for store in self._stores if store.name not in self.damaged]


class CheckedStream:
    """An archive's bytes as a destination gives them; their end comes only if the checksum is right.

    `failure` is what went wrong on this side, as against what went wrong where they were written to.
    """

    def __init__(self, archive: Archive, key: str, store: Store) -> None:
        self._archive, self._key, self._store = archive, key, store
        self.failure: StoreError | ChecksumMismatch | None = None

    def chunks(self) -> Iterator[bytes]:
        digest, size = hashlib.sha256(), 0
        try:
            for chunk in paced(self._store, self._store.get(self._key)):
                digest.update(chunk)
                size += len(chunk)
                yield chunk
            if (digest.hexdigest(), size) != (self._archive.sha256, self._archive.size_bytes):
                raise ChecksumMismatch(
                    f"{self._archive.name} on {self._store.name} is not what the manifest says",
                    "find out what changes bytes there, the disk or the server",
                )
        except (StoreError, ChecksumMismatch) as error:
            self.failure = error
            raise


def is_damage(error: StoreError | ChecksumMismatch) -> bool:
    """Return whether reading an archive failed for what lies there, not for rights, room or the way there.

    An I/O error has no class of its own.
    """
    return isinstance(error, ChecksumMismatch | ObjectMissing) or type(error) is StoreError


@transfer(name="rehash", run_name="rehash-{archive.name}-on-{store.name}")
def rehash(archive: Archive, key: str, store: Store, progress: Progress) -> bool:
    """Read a stored archive again and return whether all of it is there and what the manifest says.

    Raises:
        StoreError: That cannot be told, as the store does not answer or a right is missing.
    """
    stream = CheckedStream(archive, key, store)
    try:
        for _ in progress.counted(stream.chunks()):
            pass
    except (StoreError, ChecksumMismatch) as error:
        if not is_damage(error):
            raise
        return False
    return True


@transfer(name="copy", run_name="copy-{archive.name}-to-{target.name}")
def copy_archive(
    archive: Archive,
    key: str,
    sources: Sources,
    target: Store,
    progress: Progress,
    passage: Passage | None = None,
) -> str:
    """Carry an archive to another destination, and return the name of the one that it came from.

    What fails at a source aborts the upload, and the next source is tried.

    Args:
        passage: Is told what is sent, where not all of it is going to be read back.

    Raises:
        ChecksumMismatch: It is damaged on every source.
        StoreError: The target failed, or a source that may have it whole; `sources.failed` tells which.
    """
    sources.failed = False
    failures: list[StoreError | ChecksumMismatch] = []
    for source in sources.sound:
        stream = CheckedStream(archive, key, source)
        try:
            sent = passage.noted(stream.chunks()) if passage else stream.chunks()
            target.put(key, paced(target, progress.counted(sent)), expected_bytes=archive.size_bytes)
        except (StoreError, ChecksumMismatch):
            if stream.failure is None:
                raise
            if is_damage(stream.failure):
                sources.damaged[source.name] = archive
            failures.append(stream.failure)
        else:
            return source.name
    sources.failed = True
    passing = [error for error in failures if isinstance(error, StoreError) and error.transient]
    nowhere = ChecksumMismatch(f"no destination has {archive.name} whole", "back up again")
    raise next(iter((*passing, *failures)), nowhere)  # what may pass comes first: only that is tried again
