"""What every store promises (blocks/stores/base.py), on each of them."""

import hashlib
import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import product
from typing import Self

import pytest

from blocks.errors import ObjectExists, ObjectMissing, StoreError
from blocks.stores import Store
from blocks.stores.memory import MemoryStore
from tests.blocks.stores.subjects import Subject

MIB = 1 << 20
LOOKS_EVERY = 6  # a look may take as long as the start of two programs
ODD_KEYS = [
    pytest.param(";%2F%20", id="looks-percent-encoded"),
    pytest.param("días/été/日本語/😀.gpg", id="unicode"),
    pytest.param("e\u0301 and é", id="two-forms-of-one-letter"),
    pytest.param("#50%/a+b=c&d/question?hash#semi;colon:at@", id="url-characters"),
    pytest.param(
        'with space/and  two/quote\'d "twice" `thrice`/back\\slash[brackets]{braces}<angles>|~^*!$(),',
        id="shell-characters",
    ),
    pytest.param(".hidden/..two-dots/three...", id="dots"),
    pytest.param("a/" * 20 + "deep", id="deep"),
    pytest.param("n" * 200, id="long"),
]
PARTS = [(0, None), (3, None), (0, 4), (3, 7), (9, 10), (9, 99), (10, None), (99, None), (4, 4), (0, 0)]
WRONG_KEYS = [
    "",
    "/",
    "/etc/passwd",
    "../x",
    "a/../../x",
    "a/..",
    "./a",
    "a//b",
    "a/",
    "a\x00b",
    "a\nb",
    "\udc80",
]


class SourceError(Exception):
    """The source of an upload's bytes failed."""


class Tomorrow(datetime):
    """A clock that is a day ahead."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Self:
        return super().now(tz) + timedelta(days=1)


def keys(store: Store, prefix: str = "") -> list[str]:
    return [stored.key for stored in store.list(prefix)]


def breaking_after(size_mib: int) -> Iterator[bytes]:
    for _ in range(size_mib):
        yield b"x" * MIB
    raise SourceError


def test_what_was_put_can_be_read_listed_and_looked_at(store: Store) -> None:
    before = datetime.now(UTC) - timedelta(seconds=2)
    size_bytes = store.put("plan/backup/main", iter([b"one ", b"", b"two"]))
    stored = store.stat("plan/backup/main")
    assert size_bytes == stored.size_bytes == 7
    assert store.read("plan/backup/main") == b"one two"
    (listed,) = store.list()
    assert (listed.key, listed.size_bytes) == (stored.key, stored.size_bytes)
    # S3 tells seconds when it is asked for one object, and fractions in a list
    assert abs(listed.modified_at - stored.modified_at) < timedelta(seconds=1)
    assert before <= stored.modified_at <= datetime.now(UTC) + timedelta(seconds=2)
    assert stored.modified_at.utcoffset() == timedelta(0)


def test_a_part_of_an_object_can_be_read(store: Store) -> None:
    store.put("digits", [b"0123456789"])
    for start, end in PARTS:
        assert b"".join(store.get("digits", start=start, end=end)) == b"0123456789"[start:end], (start, end)
    for start, end in ((3, 7), (0, 0)):
        with pytest.raises(ObjectMissing):
            store.get("nothing", start=start, end=end)


def test_an_empty_object_is_an_object(store: Store) -> None:
    assert store.put("empty", []) == 0
    assert store.stat("empty").size_bytes == 0
    assert store.read("empty") == b""


def test_an_object_of_many_parts_comes_back_whole(store: Store) -> None:
    block = os.urandom(MIB)
    sent, received, most = hashlib.sha256(), hashlib.sha256(), 0

    def source() -> Iterator[bytes]:
        for number in range(40):
            chunk = block[number:] + bytes([number]) * number
            sent.update(chunk)
            yield chunk

    assert store.put("large", source(), expected_bytes=10) == 40 * MIB
    for chunk in store.get("large"):
        received.update(chunk)
        most = max(most, len(chunk))
    assert received.hexdigest() == sent.hexdigest()
    assert most <= 2 * MIB


@pytest.mark.parametrize("size_mib", [pytest.param(1, id="small"), pytest.param(40, id="many-parts")])
def test_a_source_that_breaks_leaves_nothing_and_its_error_is_passed_on(store: Store, size_mib: int) -> None:
    with pytest.raises(SourceError):
        store.put("plan/broken", breaking_after(size_mib))
    assert keys(store) == []
    assert list(store.pending()) == []
    with pytest.raises(ObjectMissing):
        store.get("plan/broken")


@pytest.mark.parametrize("error", [FileNotFoundError("x"), OSError(28, "x"), ValueError("x")], ids=repr)
def test_an_error_of_the_source_is_not_taken_for_one_of_the_store(store: Store, error: Exception) -> None:
    def source() -> Iterator[bytes]:
        yield b"x"
        raise error

    with pytest.raises(type(error)) as caught:
        store.put("key", source())
    assert caught.value is error


def test_a_source_that_breaks_leaves_the_older_object_as_it_was(store: Store) -> None:
    store.put("key", [b"old"])
    with pytest.raises(SourceError):
        store.put("key", breaking_after(20))
    assert store.read("key") == b"old"


def test_an_object_is_replaced_only_when_the_new_one_is_complete(store: Store) -> None:
    seen = []

    def source() -> Iterator[bytes]:
        for number in range(20):
            if number % LOOKS_EVERY == 0:
                seen.append(store.read("key"))
            yield b"x" * MIB

    store.put("key", [b"old"])
    store.put("key", source())
    assert set(seen) == {b"old"}
    assert store.stat("key").size_bytes == 20 * MIB


def test_an_object_is_invisible_until_it_is_complete(store: Store) -> None:
    seen: list[list[str]] = []

    def source() -> Iterator[bytes]:
        for number in range(20):
            if number % LOOKS_EVERY == 0:
                seen.append(keys(store))
            yield b"x" * MIB

    store.put("plan/key", source())
    assert not any(seen)
    assert keys(store) == ["plan/key"]


def test_create_stores_and_repeats_but_never_replaces(store: Store) -> None:
    store.create("plan/manifest.json", b"one")
    store.create("plan/manifest.json", b"one")
    with pytest.raises(ObjectExists):
        store.create("plan/manifest.json", b"two")
    assert store.read("plan/manifest.json") == b"one"
    assert keys(store) == ["plan/manifest.json"]
    assert list(store.pending()) == []


def test_create_does_not_replace_what_was_put(store: Store) -> None:
    store.put("key", [b"archive"])
    with pytest.raises(ObjectExists):
        store.create("key", b"manifest")
    assert store.read("key") == b"archive"


@pytest.mark.parametrize("key", ["missing", "folder", "folder/object/below", "folder/objec"])
def test_a_missing_object_is_told_at_once(subject: Subject, key: str) -> None:
    subject.seed(["folder/object"])
    for operation in (subject.store.get, subject.store.stat, subject.store.read):
        with pytest.raises(ObjectMissing):
            operation(key)
    assert not subject.store.exists(key)


def test_delete_removes_one_object_and_repeats(store: Store) -> None:
    store.put("plan/a", [b"a"])
    store.put("plan/b", [b"b"])
    store.delete("plan/a")
    store.delete("plan/a")
    store.delete("never/there")
    assert keys(store) == ["plan/b"]
    store.delete("plan/b")
    assert keys(store) == []


def test_a_prefix_is_a_plain_string(store: Store) -> None:
    names = ["shop", "shop-2/a", "shop.txt", "shop/a", "shop/ab", "shop/abc/d", "shopping/a", "other/shop/a"]
    for name in names[1:3] + names[4:]:
        store.put(name, [b"x"])
    assert keys(store, "shop/") == ["shop/ab", "shop/abc/d"]
    assert keys(store, "shop/ab") == ["shop/ab", "shop/abc/d"]
    assert keys(store, "shop/abc") == ["shop/abc/d"]
    assert keys(store, "shop/abc/d") == ["shop/abc/d"]
    assert keys(store, "shop") == ["shop-2/a", "shop.txt", "shop/ab", "shop/abc/d", "shopping/a"]
    assert (
        keys(store, "nothing/") == keys(store, "shop/abc/d/") == keys(store, "../") == keys(store, "/") == []
    )
    assert keys(store) == ["other/shop/a", *keys(store, "shop")]


def test_thousands_of_objects_are_listed_completely_and_in_order(subject: Subject) -> None:
    expected = sorted(f"plan/{number % 50:02}/{number}.gpg" for number in range(5_000))
    subject.seed(expected)
    assert keys(subject.store) == expected
    assert keys(subject.store, "plan/07/") == [key for key in expected if key.startswith("plan/07/")]


@pytest.mark.parametrize("key", ODD_KEYS)
def test_odd_characters_come_back_as_they_went(subject: Subject, key: str) -> None:
    store = subject.store
    store.put(key, [key.encode()])
    assert keys(store) == keys(store, key) == [key]
    assert store.read(key) == key.encode()
    assert store.stat(key).size_bytes == len(key.encode())
    store.create(key, key.encode())
    store.delete(key)
    assert not store.exists(key)
    subject.begin_upload(key)
    assert [upload.key for upload in store.pending(key)] == ([key] if subject.lists_uploads else [])


def test_a_key_that_could_escape_is_refused(store: Store) -> None:
    uses: list[Callable[[str], object]] = [
        lambda key: store.put(key, [b"x"]),
        lambda key: store.create(key, b"x"),
        lambda key: store.get(key),
        lambda key: store.stat(key),
        lambda key: store.delete(key),
    ]
    for key, use in product(WRONG_KEYS, uses):
        with pytest.raises(StoreError, match="not an object's key"):
            use(key)
    assert keys(store) == []


def test_unfinished_uploads_are_listed_and_cleared(subject: Subject) -> None:
    store = subject.store
    for key in ("plan/a/main", "plan/b/main", "planned/main"):
        subject.begin_upload(key)
    found = list(store.pending("plan/"))
    if not subject.lists_uploads:
        assert found == [] == keys(store)
        return
    assert [upload.key for upload in found] == ["plan/a/main", "plan/b/main"]
    assert all(abs(store.now() - upload.started_at) < timedelta(seconds=10) for upload in found)
    assert keys(store) == []
    store.abort_pending(found[0])
    store.abort_pending(found[0])
    assert [upload.key for upload in store.pending()] == ["plan/b/main", "planned/main"]


def test_the_stores_clock_is_told_in_utc(store: Store) -> None:
    # servers tell whole seconds, and their clock may be a little off
    tolerance = timedelta(seconds=2)
    store.put("key", [b"x"])
    before = datetime.now(UTC)
    told = store.now()
    assert before - tolerance <= told <= datetime.now(UTC) + tolerance
    assert told.utcoffset() == timedelta(0)
    assert store.stat("key").modified_at <= store.now() + timedelta(seconds=1)


def test_the_clock_that_is_told_is_the_stores_and_not_ours(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here it is tomorrow, but for the store in memory, which has no other clock than ours."""
    for name, module in list(sys.modules.items()):
        if (
            name.startswith("blocks.stores.")
            and name != MemoryStore.__module__
            and hasattr(module, "datetime")
        ):
            monkeypatch.setattr(module, "datetime", Tomorrow)
    store.put("key", [b"x"])
    assert abs(store.now() - store.stat("key").modified_at) < timedelta(hours=1)


def test_several_threads_use_one_store(store: Store) -> None:
    meeting = threading.Barrier(4)

    def use(number: int) -> bytes:
        meeting.wait()
        store.put(f"folder-{number % 2}/{number}", [bytes([number])] * 3)
        store.create(f"folder-{number % 2}/{number}.json", b"{}")
        return store.read(f"folder-{number % 2}/{number}")

    with ThreadPoolExecutor(4) as pool:
        for _ in range(2):
            assert list(pool.map(use, range(4))) == [bytes([number]) * 3 for number in range(4)]
    assert len(keys(store)) == 8


def test_an_object_that_is_not_read_to_its_end_is_let_go(store: Store) -> None:
    store.put("key", [b"x" * MIB] * 3)
    store.get("key")
    chunks = store.get("key")
    assert next(chunks)
    del chunks
    assert store.stat("key").size_bytes == 3 * MIB
