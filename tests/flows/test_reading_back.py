"""The check of a stored archive: how much is read, what is found, and what it falls back to."""

import hashlib
import os
from collections.abc import Iterator

import pytest
from pydantic import PrivateAttr

from blocks.errors import StoreUnreachable
from blocks.stores.memory import MemoryStore
from flows.core import read_back
from flows.core.errors import ChecksumMismatch, PlanError
from flows.core.manifest import Archive
from flows.core.read_back import BlockHashes, Checked, ReadBack
from flows.tasks import reading_back
from flows.tasks.reading_back import Passage, check_stored
from tests.servers.plan import PlanOnDisk

BLOCK = 100
BODY = os.urandom(BLOCK * 199 + 7)
KEY = "shop/20260128T020000Z-4f9c2a/main.dump.zst.gpg"
ARCHIVE = Archive(
    name="main.dump.zst.gpg",
    kind="main",
    size_bytes=len(BODY),
    sha256=hashlib.sha256(BODY).hexdigest(),
    plain_bytes=1,
)


class Counting(MemoryStore):
    """Counts the bytes that are read, and checks parts if it is told to."""

    _block_type_name = "CountingStore"
    _block_type_slug = "counting-store"

    checks: bool = True
    _read_bytes: int = PrivateAttr(0)

    def checks_parts(self, key: str) -> bool:  # noqa: ARG002
        return self.checks

    def get(self, key: str, *, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        for chunk in super().get(key, start=start, end=end):
            self._read_bytes += len(chunk)
            yield chunk


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_back, "BLOCK_BYTES", BLOCK)
    monkeypatch.setattr(reading_back, "BLOCK_BYTES", BLOCK)


@pytest.fixture
def store() -> Counting:
    return Counting(name="offsite")


def sent(store: MemoryStore, body: bytes = BODY) -> BlockHashes:
    """Send an archive, and return what was noted of it."""
    passage = Passage()
    store.put(KEY, passage.noted([body[:1000], body[1000:]]))
    assert passage.hashes is not None
    return passage.hashes


def check(store: MemoryStore, way: ReadBack, hashes: BlockHashes | None) -> Checked:
    return check_stored(ARCHIVE, KEY, store, way, hashes)


def test_always_reads_everything(store: Counting) -> None:
    done = check(store, "always", sent(store))
    assert (done.way, done.warning, store._read_bytes) == ("always", "", len(BODY))


def test_a_sample_reads_a_twentieth_and_the_last_block(store: Counting) -> None:
    done = check(store, "sample", sent(store))
    assert (done.way, done.read, done.blocks) == ("sample", 10, 200)
    assert store._read_bytes == 9 * BLOCK + 7


def test_parts_read_nothing(store: Counting) -> None:
    done = check(store, "parts", sent(store))
    assert (done.way, done.read, done.blocks) == ("parts", 0, 200)
    assert store._read_bytes == 0


def test_a_store_that_checks_no_parts_is_read_back_whole_with_a_warning(store: Counting) -> None:
    store.checks = False
    done = check(store, "parts", sent(store))
    assert (done.way, store._read_bytes) == ("always", len(BODY))
    assert done.warning == "offsite does not check the parts of an upload: what it holds was read back"


def test_a_store_that_gives_no_part_of_an_object_is_read_back_once_and_whole(
    store: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Counting, "moves_whole_files", True)
    done = check(store, "sample", sent(store))
    assert (done.way, store._read_bytes) == ("always", len(BODY))
    assert done.warning == "offsite cannot give a part of an object: what it holds was read back whole"


@pytest.mark.parametrize("way", ["sample", "parts"])
def test_without_hashes_of_what_was_sent_everything_is_read(store: Counting, way: ReadBack) -> None:
    sent(store)
    assert check(store, way, None).way == "always"
    assert store._read_bytes == len(BODY)


def damaged(at: int) -> bytes:
    return BODY[:at] + bytes([BODY[at] ^ 1]) + BODY[at + 1 :]


def test_damage_is_found_where_the_sample_looks(store: Counting) -> None:
    hashes = sent(store)
    store.put(KEY, [damaged(len(BODY) - 1)])
    with pytest.raises(ChecksumMismatch, match="does not hold what was written to it"):
        check(store, "sample", hashes)


def test_damage_anywhere_is_found_by_a_sample_sooner_or_later(store: Counting) -> None:
    hashes = sent(store)
    store.put(KEY, [damaged(5 * BLOCK)])
    found = 0
    for _ in range(400):
        try:
            check(store, "sample", hashes)
        except ChecksumMismatch:
            found += 1
    # 400 times 9 of 199 in the mean: 18, and none at all once in 100 million
    assert 0 < found < 60


@pytest.mark.parametrize("way", ["always", "sample", "parts"])
@pytest.mark.parametrize("body", [BODY[:-1], BODY + b"x"], ids=["shorter", "longer"])
def test_another_size_is_always_found(store: Counting, way: ReadBack, body: bytes) -> None:
    hashes = sent(store)
    store.put(KEY, [body])
    with pytest.raises(ChecksumMismatch):
        check(store, way, hashes)


@pytest.mark.parametrize("way", ["always", "sample", "parts"])
def test_bytes_that_changed_before_they_were_sent_are_found(store: Counting, way: ReadBack) -> None:
    hashes = sent(store, damaged(BLOCK))
    with pytest.raises(ChecksumMismatch):
        check(store, way, hashes)


def test_an_upload_that_failed_leaves_no_hashes_and_the_next_begins_anew(store: Counting) -> None:
    passage = Passage()
    store.fail("put", StoreUnreachable("gone"), after_bytes=1)
    with pytest.raises(StoreUnreachable):
        store.put(KEY, passage.noted([BODY[:1000], BODY[1000:]]))
    store.put(KEY, [BODY])
    assert check(store, "sample", passage.hashes).way == "always"
    store.put(KEY, passage.noted([BODY]))
    assert check(store, "sample", passage.hashes).way == "sample"


def test_hashes_of_an_earlier_passage_do_not_stand_for_one_that_was_cut_short() -> None:
    passage = Passage()
    list(passage.noted([BODY]))
    next(passage.noted([BODY]))
    assert passage.hashes is None


def test_a_plan_reads_everything_back_unless_it_says_otherwise(plan: PlanOnDisk) -> None:
    loaded = plan.loaded
    plan.write(read_back="sample")
    assert (loaded.read_back, plan.loaded.read_back) == ("always", "sample")


def test_a_way_to_read_back_that_nobody_knows_is_refused(plan: PlanOnDisk) -> None:
    plan.write(read_back="part")
    with pytest.raises(PlanError, match=r"plans\.shop\.read_back: there is no such word") as refused:
        _ = plan.loaded
    assert refused.value.hint == "did you mean parts?"


def test_a_plan_that_stores_where_nothing_can_be_read_at_once_is_refused_with_the_reason(
    plan: PlanOnDisk,
) -> None:
    plan.write(stores=[{"kind": "s3", "bucket": "b", "storage_class": "DEEP_ARCHIVE"}])
    with pytest.raises(PlanError, match=r"storage_class: .*cannot be read back, verified"):
        _ = plan.loaded
