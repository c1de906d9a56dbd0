"""The check of one stored archive, as thorough as a plan wants it."""

import hashlib
import time
from collections.abc import Iterable, Iterator
from random import SystemRandom

from blocks.stores import Store
from blocks.stores.pace import paced
from flows.core.errors import ChecksumMismatch
from flows.core.manifest import Archive
from flows.core.read_back import BLOCK_BYTES, BlockHasher, BlockHashes, Checked, ReadBack, sampled

MISMATCH_HINT = "find out what changes bytes there, the disk or the server; then back up again"


class Passage:
    """What went to a destination, hashed on its way there; `hashes` is of the last whole passage."""

    def __init__(self) -> None:
        self.hashes: BlockHashes | None = None

    def noted(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """Pass chunks on, hashing them; an upload that is tried again begins anew."""
        self.hashes, hasher = None, BlockHasher()
        for chunk in chunks:
            hasher.update(chunk)
            yield chunk
        self.hashes = hasher.finish()


def check_stored(
    archive: Archive, key: str, store: Store, read_back: ReadBack, hashes: BlockHashes | None
) -> Checked:
    """Check what a store holds, by reading it back or by what the store itself has checked.

    Args:
        hashes: Of what was sent there; without them only a whole reading tells anything.

    Raises:
        ChecksumMismatch: The store does not hold what was written, or was sent something else.
    """
    began, warning = time.monotonic(), _why_not(read_back, key, store)
    if read_back == "always" or warning or hashes is None:
        _reread(archive, key, store)
        return Checked("always", time.monotonic() - began, warning=warning)
    if (hashes.sha256, hashes.size_bytes) != (archive.sha256, archive.size_bytes):
        raise ChecksumMismatch(
            f"{store.name} was sent something else than was encrypted: {archive.name} differs",
            "find out what changes bytes in the spool directory; then back up again",
        )
    _look_at_size(archive, key, store)
    read = _reread_sample(archive, key, store, hashes) if read_back == "sample" else 0
    return Checked(read_back, time.monotonic() - began, hashes.count, read)


def _why_not(read_back: ReadBack, key: str, store: Store) -> str:
    """Return why a store's objects are read back whole against the plan's wish, "" if they need not be."""
    if read_back == "parts" and not store.checks_parts(key):
        return f"{store.name} does not check the parts of an upload: what it holds was read back"
    if read_back == "sample" and store.moves_whole_files:
        return f"{store.name} cannot give a part of an object: what it holds was read back whole"
    return ""


def _reread(archive: Archive, key: str, store: Store) -> None:
    digest, size_bytes = hashlib.sha256(), 0
    for chunk in paced(store, store.get(key)):
        digest.update(chunk)
        size_bytes += len(chunk)
    if (digest.hexdigest(), size_bytes) != (archive.sha256, archive.size_bytes):
        raise _mismatch(archive, store)


def _look_at_size(archive: Archive, key: str, store: Store) -> None:
    if store.stat(key).size_bytes != archive.size_bytes:
        raise _mismatch(archive, store)


def _reread_sample(archive: Archive, key: str, store: Store, hashes: BlockHashes) -> int:
    """Return how many blocks were read and are the same as those that were sent."""
    runs = sampled(hashes.count, SystemRandom().sample)
    for blocks in runs:
        start, end = blocks.start * BLOCK_BYTES, min(blocks.stop * BLOCK_BYTES, hashes.size_bytes)
        hasher = BlockHasher()
        for chunk in paced(store, store.get(key, start=start, end=end)):
            hasher.update(chunk)
        if hasher.finish().digests != hashes.of(blocks):
            raise _mismatch(archive, store)
    return sum(map(len, runs))


def _mismatch(archive: Archive, store: Store) -> ChecksumMismatch:
    return ChecksumMismatch(
        f"{store.name} does not hold what was written to it: {archive.name} differs", MISMATCH_HINT
    )
