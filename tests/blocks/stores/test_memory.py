"""What tests of others rely on: failures that are told beforehand, a clock, and a record of the calls."""

from datetime import UTC, datetime

import pytest

from blocks.errors import ObjectMissing, StoreForbidden, StoreUnreachable
from blocks.stores.memory import Call, MemoryStore

MIB = 1 << 20
GONE = StoreUnreachable("gone")


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def test_a_failure_happens_as_often_as_it_was_told_and_only_to_its_keys(store: MemoryStore) -> None:
    store.fail("put", GONE, key_contains="main", times=2)
    store.put("other", [b"x"])
    for _ in range(2):
        with pytest.raises(StoreUnreachable):
            store.put("plan/main", [b"x"])
    store.put("plan/main", [b"x"])
    assert [stored.key for stored in store.list()] == ["other", "plan/main"]


def test_a_failure_for_ever_lasts_until_it_is_mended(store: MemoryStore) -> None:
    store.fail("list", StoreForbidden("no"), times=None)
    for _ in range(3):
        with pytest.raises(StoreForbidden):
            list(store.list())
    store.mend()
    assert list(store.list()) == []


@pytest.mark.parametrize(("leaves_upload", "left"), [(False, []), (True, ["main"])])
def test_a_put_fails_half_way(store: MemoryStore, leaves_upload: bool, left: list[str]) -> None:
    store.fail("put", GONE, after_bytes=2 * MIB, leaves_upload=leaves_upload)
    taken = []
    with pytest.raises(StoreUnreachable):
        store.put("main", (taken.append(number) or bytes(MIB) for number in range(9)))  # type: ignore[func-returns-value]
    assert taken == [0, 1]
    assert [upload.key for upload in store.pending()] == left
    with pytest.raises(ObjectMissing):
        store.stat("main")


def test_a_get_fails_half_way(store: MemoryStore) -> None:
    store.put("main", [bytes(5 * MIB)])
    store.fail("get", GONE, after_bytes=3 * MIB)
    chunks = store.get("main")
    received: list[bytes] = []
    with pytest.raises(StoreUnreachable):
        received.extend(chunks)
    assert sum(map(len, received)) == 3 * MIB


def test_time_is_what_the_clock_says(store: MemoryStore) -> None:
    moment = datetime(2026, 1, 2, tzinfo=UTC)
    store.set_clock(lambda: moment)
    store.put("key", [b"x"])
    assert store.now() == store.stat("key").modified_at == store.begin_upload("other").started_at == moment


def test_calls_are_noted_in_their_order(store: MemoryStore) -> None:
    store.put("a", [b"x"])
    store.create("b", b"x")
    list(store.list("a"))
    store.delete("a")
    assert store.calls == (Call("put", "a"), Call("create", "b"), Call("list", "a"), Call("delete", "a"))


def test_two_stores_share_nothing() -> None:
    one, other = MemoryStore(), MemoryStore(is_local=True)
    one.put("key", [b"x"])
    one.fail("now", GONE)
    assert not other.exists("key")
    assert other.now()
    assert (one.on_this_host, other.on_this_host) == (False, True)
