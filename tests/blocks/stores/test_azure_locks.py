"""What versions, immutability policies and legal holds of Azure do to backups; see azure_immutability.py."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest
from azure.storage.blob import ContainerSasPermissions, generate_container_sas
from pydantic import ValidationError

from blocks.errors import ObjectMissing, StoreError, StoreForbidden, StoreLocked
from blocks.stores import AzureStore, azure_versions, upload_parts
from blocks.stores.base import NO_END
from tests.servers.azure import ACCOUNT_KEY, ACCOUNT_NAME, AzureServer
from tests.servers.azure_immutability import POLICY_END, Container, ImmutableAzure, immutable_azure
from tests.servers.s3_script import Answer, scripted_s3

MIB = 1 << 20
DAY = timedelta(days=1)
LOCK = {"immutability_mode": "unlocked", "immutability_days": 30}
WRITES: list[tuple[str, Callable[[AzureStore], object]]] = [
    ("put", lambda store: store.put("key", [b"body"])),
    ("create", lambda store: store.create("key", b"body")),
]
every_write = pytest.mark.parametrize("write", [pytest.param(write, id=name) for name, write in WRITES])
_numbers = count()


@pytest.fixture(scope="session")
def relay(azure_server: AzureServer) -> Iterator[ImmutableAzure]:
    with immutable_azure(azure_server) as relay:
        yield relay


@pytest.fixture
def container(relay: ImmutableAzure) -> Container:
    """A new container with version-level immutability."""
    return relay.make_container(f"immutable-{next(_numbers)}", version_level=True)


@pytest.fixture
def locked(relay: ImmutableAzure, container: Container) -> AzureStore:
    """A store that locks what it writes for 30 days."""
    return relay.store(container.name, prefix="pg", **LOCK)


@pytest.fixture
def unlocking(relay: ImmutableAzure, container: Container) -> AzureStore:
    """A store in the same container that locks nothing."""
    return relay.store(container.name, prefix="pg")


@pytest.fixture
def plain(relay: ImmutableAzure) -> tuple[AzureStore, Container]:
    """A store in a container that keeps versions and cannot lock them."""
    container = relay.make_container(f"versioned-{next(_numbers)}")
    return relay.store(container.name), container


@every_write
@pytest.mark.parametrize("mode", ["unlocked", "locked"])
def test_an_object_is_locked_for_its_days_as_soon_as_it_is_written(
    relay: ImmutableAzure, container: Container, mode: str, write: Callable[[AzureStore], object]
) -> None:
    store = relay.store(container.name, prefix="pg", **(LOCK | {"immutability_mode": mode}))
    write(store)
    found = container.current["pg/key"]
    assert found.mode == mode
    assert found.until
    assert abs(found.until - (datetime.now(UTC) + 30 * DAY)) < timedelta(minutes=1)
    assert store.locked_until("key") == found.until
    assert container.all_names() == ["pg/key"]


def test_a_small_object_brings_its_lock_along_so_that_no_kill_comes_between(
    relay: ImmutableAzure, locked: AzureStore
) -> None:
    locked.create("manifest.json", b"{}")
    (written,) = [each for each in relay.requests if each.method == "PUT" and not each.query
                  and each.container == locked.container]  # fmt: skip
    assert POLICY_END in written.headers


def test_an_object_of_many_blocks_is_locked_too(locked: AzureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload_parts, "SMALLEST_PART_BYTES", MIB)
    locked.put("main", [bytes(MIB)] * 3, expected_bytes=1)
    assert locked.stat("main").size_bytes == 3 * MIB
    assert locked.locked_until("main")


@pytest.mark.parametrize("hides", [False, True])
def test_a_locked_object_is_not_deleted_and_the_error_tells_until_when(
    container: Container, locked: AzureStore, hides: bool
) -> None:
    container.hides = hides
    locked.put("key", [b"body"])
    with pytest.raises(StoreLocked) as caught:
        locked.delete("key")
    assert caught.value.until == locked.locked_until("key")
    assert f"{caught.value.until:%Y-%m-%d}" in caught.value.message
    assert locked.read("key") == b"body"
    assert container.all_names() == ["pg/key"]


def test_an_older_version_that_is_locked_keeps_the_newer_that_is_not(
    container: Container, locked: AzureStore, unlocking: AzureStore
) -> None:
    locked.put("key", [b"old"])
    unlocking.put("key", [b"new"])
    assert unlocking.locked_until("key")
    with pytest.raises(StoreLocked):
        unlocking.delete("key")
    assert unlocking.read("key") == b"new"
    assert container.all_names() == ["pg/key"] * 2


def test_an_object_whose_lock_has_ended_is_deleted(container: Container, locked: AzureStore) -> None:
    locked.put("key", [b"body"])
    container.let_locks_end()
    locked.delete("key")
    assert container.all_names() == []
    assert not locked.exists("key")


def test_a_legal_hold_on_an_object_has_no_end(container: Container, unlocking: AzureStore) -> None:
    unlocking.put("key", [b"body"])
    container.current["pg/key"].held = True
    assert unlocking.locked_until("key") == NO_END
    with pytest.raises(StoreLocked) as caught:
        unlocking.delete("key")
    assert caught.value.until == NO_END


@pytest.mark.parametrize(
    ("kept", "until", "hint"),
    [
        ("BlobImmutableDueToLegalHold", NO_END, "take it away"),
        ("BlobImmutableDueToPolicy", None, "wait until its time is over"),
    ],
)
def test_what_the_container_as_a_whole_keeps_is_neither_deleted_nor_replaced(
    container: Container, unlocking: AzureStore, kept: str, until: datetime | None, hint: str
) -> None:
    unlocking.put("key", [b"body"])
    container.kept = kept
    # when a container's policy ends is not told
    assert unlocking.locked_until("key") == until
    for use in (unlocking.delete, lambda key: unlocking.put(key, [b"other"])):
        with pytest.raises(StoreLocked) as caught:
            use("key")
        assert caught.value.until == NO_END
        assert hint in caught.value.hint
    assert unlocking.read("key") == b"body"
    container.kept = ""
    unlocking.delete("key")
    assert container.all_names() == []


def test_the_lock_of_another_key_that_begins_alike_does_not_count(
    locked: AzureStore, unlocking: AzureStore
) -> None:
    unlocking.put("plan/main", [b"x"])
    for key in ("plan/main.2", "plan/main/below"):
        locked.put(key, [b"x"])
    assert unlocking.locked_until("plan/main") is None
    assert unlocking.locked_until("plan/mai") is None
    unlocking.delete("plan/main")
    assert not unlocking.exists("plan/main")


def test_a_commit_that_died_before_its_lock_is_locked_when_it_is_repeated(
    container: Container, locked: AzureStore, unlocking: AzureStore
) -> None:
    unlocking.create("manifest.json", b"{}")
    assert unlocking.locked_until("manifest.json") is None
    locked.create("manifest.json", b"{}")
    assert locked.locked_until("manifest.json")
    assert container.all_names() == ["pg/manifest.json"]


def test_a_policy_that_is_there_becomes_neither_shorter_nor_weaker(
    container: Container, locked: AzureStore
) -> None:
    locked.create("manifest.json", b"{}")
    there = container.current["pg/manifest.json"]
    end = datetime.now(UTC).replace(microsecond=0) + 90 * DAY
    for mode in ("unlocked", "locked"):
        there.until, there.mode = end, mode
        locked.create("manifest.json", b"{}")
        assert (there.until, there.mode) == (end, mode)
    there.until = datetime.now(UTC).replace(microsecond=0) + DAY
    locked.create("manifest.json", b"{}")
    assert there.until > datetime.now(UTC) + 29 * DAY
    assert there.mode == "locked"


@every_write
def test_a_container_that_cannot_lock_is_refused_before_anything_is_written(
    plain: tuple[AzureStore, Container], write: Callable[[AzureStore], object]
) -> None:
    store, container = plain
    with pytest.raises(StoreError, match="no version-level immutability") as caught:
        write(store.model_copy(update=LOCK))
    assert "immutability_mode" in caught.value.hint
    assert container.all_names() == []


@every_write
def test_a_container_that_cannot_be_asked_whether_it_locks_is_refused(
    relay: ImmutableAzure, container: Container, write: Callable[[AzureStore], object]
) -> None:
    token = generate_container_sas(
        ACCOUNT_NAME,
        container.name,
        account_key=ACCOUNT_KEY,
        permission=ContainerSasPermissions(read=True, write=True, delete=True, list=True),
        expiry=datetime.now(UTC) + timedelta(hours=1),
    )
    store = relay.store(container.name, account_key="", sas_token=token, **LOCK)
    with pytest.raises(StoreForbidden) as caught:
        write(store)
    assert "an account's token" in caught.value.hint
    assert container.all_names() == []


@every_write
def test_a_lock_that_fails_fails_the_write(
    plain: tuple[AzureStore, Container],
    monkeypatch: pytest.MonkeyPatch,
    write: Callable[[AzureStore], object],
) -> None:
    store, container = plain
    # as if it had been switched off after it was asked for
    monkeypatch.setattr(azure_versions, "check_lock", lambda *_: None)
    with pytest.raises(StoreError, match="cannot lock key"):
        write(store.model_copy(update=LOCK))
    assert container.all_names() == ["key"]


@pytest.mark.parametrize(("version_level", "fields", "said"), [
    (False, {}, []),
    (True, LOCK, []),
    (False, LOCK, ["no version-level immutability"]),
])  # fmt: skip
def test_a_container_that_cannot_lock_is_told_with_the_remedy(
    relay: ImmutableAzure, version_level: bool, fields: dict[str, Any], said: list[str]
) -> None:
    container = relay.make_container(f"asked-{next(_numbers)}", version_level=version_level)
    found = list(relay.store(container.name, **fields).problems())
    assert len(found) == len(said)
    for problem, words in zip(found, said, strict=True):
        assert words in problem.message
        assert problem.severity == "error"
        assert "--enable-vlw" in problem.remedy


def test_a_deletion_leaves_no_version_behind(plain: tuple[AzureStore, Container]) -> None:
    store, container = plain
    for number in range(3):
        store.put("plan/main", [bytes([number])])
    for key in ("plan/main.2", "plan/main/below", "other"):
        store.put(key, [b"x"])
    assert container.all_names().count("plan/main") == 3
    store.delete("plan/main")
    store.delete("plan/main")
    store.delete("never/there")
    assert container.all_names() == ["other", "plan/main.2", "plan/main/below"]


def test_what_a_plain_deletion_left_is_cleared(plain: tuple[AzureStore, Container]) -> None:
    store, container = plain
    store.put("key", [b"old"])
    store._asking.delete_blob("key")
    assert container.all_names() == ["key"]
    store.delete("key")
    assert container.all_names() == []


def test_an_object_is_listed_for_as_long_as_an_older_version_is_left(
    plain: tuple[AzureStore, Container], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, container = plain
    for body in (b"old", b"new"):
        store.put("key", [body])
    container.previous["key"][0].held = True
    # as if the hold came between looking and deleting
    monkeypatch.setattr(azure_versions, "last_lock", lambda _: None)
    with pytest.raises(StoreLocked):
        store.delete("key")
    assert store.read("key") == b"new"


def test_clearing_an_upload_leaves_no_version_behind(plain: tuple[AzureStore, Container]) -> None:
    store, container = plain
    store._asking.get_blob_client("key").stage_block("0" * 20, b"x")
    (left,) = store.pending()
    store.abort_pending(left)
    assert container.all_names() == []
    assert list(store.pending()) == []


def test_an_account_that_cannot_keep_versions_is_deleted_from_all_the_same() -> None:
    with scripted_s3() as script:
        code = "FeatureNotYetSupportedForHierarchicalNamespaceAccounts"
        script.answers = {
            "GET": [Answer(409, code, headers={"x-ms-error-code": code})], "DELETE": [Answer(202)]
        }  # fmt: skip
        store = AzureStore(
            account_name="shop", container="pg", account_key=ACCOUNT_KEY,
            endpoint_url=f"{script.endpoint_url}/shop",
        )  # fmt: skip
        store.delete("key")
        assert [request.path for request in script.requests if request.method == "DELETE"] == ["/shop/pg/key"]


@pytest.mark.parametrize(
    "fields",
    [
        {"immutability_mode": "locked"},
        {"immutability_days": 3},
        {"immutability_mode": "locked", "immutability_days": -1},
        {"immutability_mode": "mutable", "immutability_days": 3},
    ],
    ids=str,
)
def test_a_lock_without_days_or_of_an_unknown_mode_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="immutability_"):
        AzureStore(account_name="shop", container="pg", **fields)


def test_a_missing_object_has_no_lock(locked: AzureStore) -> None:
    assert locked.locked_until("key") is None
    locked.delete("key")
    with pytest.raises(ObjectMissing):
        locked.stat("key")
