"""Every transfer keeps to its destination's pace: measured, where two thirds are a burst."""

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import pytest

from blocks.spool import SpoolDirectory
from blocks.stores.memory import MemoryStore
from flows.catalogue import Copy
from flows.core.manifest import Archive
from flows.core.naming import BackupId, object_key
from flows.destinations import Destinations
from flows.progress import Progress
from flows.tasks import copies, inbound, outbound
from tests.servers.backups import manifest_of

IDENTIFIER = BackupId("20260128T020000Z-4f9c2a")
LIMIT = 256 << 10
BODY = os.urandom(LIMIT * 3 // 2)
ARCHIVE = Archive(
    name="main.dump.zst.gpg",
    kind="main",
    size_bytes=len(BODY),
    sha256=hashlib.sha256(BODY).hexdigest(),
    plain_bytes=1,
)
KEY = object_key("shop", IDENTIFIER, ARCHIVE.name)
_numbers = count()


class Spooled:
    """An archive in the spool, as an upload reads it."""

    def read(self) -> Iterator[bytes]:
        yield from (BODY[: len(BODY) // 2], BODY[len(BODY) // 2 :])


def store(limit: int | None) -> MemoryStore:
    found = MemoryStore(name=f"paced-{next(_numbers)}", max_bytes_per_second=limit)
    found.put(KEY, [BODY])
    return found


def upload(paced: MemoryStore, _other: MemoryStore, _directory: Path) -> None:
    lost = Destinations([paced], lambda _: None)
    outbound.upload.fn(ARCHIVE.name, KEY, paced, Spooled(), lost, len(BODY))  # type: ignore[arg-type]


def checksum(paced: MemoryStore, _other: MemoryStore, _directory: Path) -> None:
    outbound.checksum.fn(ARCHIVE, KEY, paced, Destinations([paced], lambda _: None))


def rehash(paced: MemoryStore, _other: MemoryStore, _directory: Path) -> None:
    assert copies.rehash.fn(ARCHIVE, KEY, paced, Progress("scrub", 0))


def copy_there(paced: MemoryStore, other: MemoryStore, _directory: Path) -> None:
    copies.copy_archive.fn(ARCHIVE, KEY, copies.Sources([other]), paced, Progress("sync", 0))


def copy_from_there(paced: MemoryStore, other: MemoryStore, _directory: Path) -> None:
    copies.copy_archive.fn(ARCHIVE, KEY, copies.Sources([paced]), other, Progress("sync", 0))


def fetch(paced: MemoryStore, _other: MemoryStore, directory: Path) -> None:
    copy = Copy(IDENTIFIER, paced, datetime.now(UTC), {})
    manifest = manifest_of(IDENTIFIER, datetime.now(UTC))
    with SpoolDirectory(directory, "fetched") as spool:
        inbound.fetch.fn(copy, manifest, ARCHIVE, spool, Progress("fetch", 0))


@pytest.mark.parametrize("transfer", [upload, checksum, rehash, copy_there, copy_from_there, fetch])
def test_a_transfer_keeps_to_the_pace_of_its_destination(
    transfer: Callable[[MemoryStore, MemoryStore, Path], None], tmp_path: Path
) -> None:
    began = time.monotonic()
    transfer(store(LIMIT), store(None), tmp_path)
    assert time.monotonic() - began > 0.45
