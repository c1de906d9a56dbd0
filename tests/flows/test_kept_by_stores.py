"""What a destination does not let go of (append-only, locked, refused), and that the rest goes anyway."""

import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from blocks.errors import StoreError, StoreForbidden, StoreUnreachable
from blocks.stores import LocalStore, Store, StoredObject
from blocks.stores.base import NO_END
from blocks.stores.memory import Call, MemoryStore
from flows.backup import _clear
from flows.catalogue import read_store
from flows.catalogues import read_all
from flows.core import naming
from flows.core.errors import BackupNotFound, PruneRefused
from flows.core.naming import BackupId
from flows.core.verification import Verdict
from flows.deletion import delete_by_hand
from flows.plan import BackupPlan
from flows.prune import Pruned, prune_plan
from flows.reports import catalogue_rows
from tests.servers.backups import PLAN, store_backup
from tests.servers.ministack import MiniStack, start_ministack
from tests.servers.plan import PlanOnDisk

DAY = timedelta(days=1)
NOW = (datetime.now(UTC) - DAY).replace(hour=12)
FEW = {"keep_daily": 2, "keep_weekly": 0, "keep_monthly": 0, "min_keep": 1}
REFUSED = StoreForbidden("no right to delete", "allow it")


@pytest.fixture
def few(plan: PlanOnDisk) -> PlanOnDisk:
    """The plan keeps two days."""
    plan.write(retention=FEW)
    return plan


@pytest.fixture(scope="module")
def ministack() -> Iterator[MiniStack]:
    server = start_ministack()
    yield server
    server.stop()


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def one_a_day(store: Store, days: int) -> list[BackupId]:
    """Store one backup a day, newest first."""
    return [store_backup(store, NOW - number * DAY) for number in range(1, days + 1)]


def pruned(plan: PlanOnDisk, store: MemoryStore, *, dry_run: bool = False) -> Pruned:
    (done,) = prune_plan(plan.loaded, [store], own=None, dry_run=dry_run)
    return done


def left(store: Store) -> list[BackupId]:
    """Return the backups of which anything is left, newest first."""
    return sorted({BackupId(found.key.split("/")[1]) for found in store.list()}, reverse=True)


def lock(store: MemoryStore, identifier: BackupId, name: str, until: datetime) -> None:
    store.lock(naming.object_key(PLAN, identifier, name), until)


def deletions(store: MemoryStore) -> list[Call]:
    return [call for call in store.calls if call.operation in ("delete", "abort_pending")]


def test_nothing_is_ever_deleted_on_a_store_that_is_append_only(few: PlanOnDisk) -> None:
    store = MemoryStore(append_only=True)
    made = one_a_day(store, 4)
    litter = store_backup(store, NOW - 9 * DAY, committed=False)
    store.set_clock(lambda: NOW - 9 * DAY)
    store.begin_upload(f"{PLAN}/{litter}/main")
    store.set_clock(lambda: datetime.now(UTC))
    done = pruned(few, store)
    assert deletions(store) == []
    assert (done.deleted, done.litter, done.pending) == ([], [], 0)
    assert list(done.kept) == [*made, litter]
    assert done.kept[litter] == ["never finished", "the store is append-only"]
    assert done.kept[made[0]][0] == "newest"
    assert done.kept[made[0]][-1] == "the store is append-only"
    assert done.kept[made[3]] == ["the store is append-only"]


def test_a_backup_of_which_one_object_is_locked_is_kept_whole_until_then(
    few: PlanOnDisk, store: MemoryStore
) -> None:
    one_a_day(store, 2)
    old = [store_backup(store, NOW - days * DAY) for days in (20, 21, 22)]
    until = datetime.now(UTC) + 30 * DAY
    lock(store, old[1], naming.MAIN_ARCHIVE, until)
    before = [found.key for found in store.list(naming.backup_prefix(PLAN, old[1]))]
    done = pruned(few, store)
    assert sorted(done.deleted) == sorted([old[0], old[2]])
    assert done.kept[old[1]] == [f"locked until {until:%Y-%m-%d} on the store"]
    assert [found.key for found in store.list(naming.backup_prefix(PLAN, old[1]))] == before

    store.set_clock(lambda: until + timedelta(seconds=1))
    assert pruned(few, store).deleted == [old[1]]


def test_a_bucket_with_object_lock_is_pruned_when_its_locks_end(
    few: PlanOnDisk, ministack: MiniStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.core.retention.GRACE", -DAY)
    bucket = ministack.make_bucket("vault", lock=True)
    store = ministack.store(bucket, object_lock_mode="governance", object_lock_days=3)
    made = one_a_day(store, 3)
    before = ministack.versions(bucket)
    (done,) = prune_plan(few.loaded, [store], own=None)
    assert done.deleted == []
    (why,) = done.kept[made[2]]
    assert why.startswith("locked until ")
    assert ministack.versions(bucket) == before

    ministack.let_locks_end(bucket)
    (done,) = prune_plan(few.loaded, [store], own=None)
    assert done.deleted == [made[2]]
    assert ministack.versions(bucket) == [key for key in before if made[2] not in key]


def test_a_dry_run_tells_of_locks_too(few: PlanOnDisk, store: MemoryStore) -> None:
    one_a_day(store, 2)
    old = store_backup(store, NOW - 20 * DAY)
    litter = store_backup(store, NOW - 30 * DAY, committed=False)
    for identifier in (old, litter):
        lock(store, identifier, naming.MAIN_ARCHIVE, NO_END)
    told = pruned(few, store, dry_run=True)
    assert told == pruned(few, store)
    assert told.kept[old] == ["kept by a legal hold or a policy on the store"]
    assert told.kept[litter] == ["never finished", "kept by a legal hold or a policy on the store"]
    assert told.litter == []
    assert deletions(store) == []


def test_a_lock_that_nobody_could_see_before_keeps_the_backup(
    few: PlanOnDisk, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_a_day(store, 2)
    old = store_backup(store, NOW - 20 * DAY)
    lock(store, old, naming.MANIFEST_NAME, NO_END)
    monkeypatch.setattr("flows.prune.why_undeletable", lambda *_: "")
    done = pruned(few, store)
    assert done.kept[old] == ["kept by a legal hold or a policy on the store"]
    assert [copy.committed for copy in read_store(store, PLAN)] == [True] * 3


def test_an_archive_with_a_lock_that_nobody_could_see_keeps_the_backup_whole(
    few: PlanOnDisk, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_a_day(store, 2)
    old = store_backup(store, NOW - 20 * DAY)
    before = [*store.list(naming.backup_prefix(PLAN, old))]
    lock(store, old, naming.FACTS_ARCHIVE, NO_END)
    monkeypatch.setattr("flows.prune.why_undeletable", lambda *_: "")
    monkeypatch.setattr("flows.deletion.why_undeletable", lambda *_: "")
    assert pruned(few, store).kept[old] == ["kept by a legal hold or a policy on the store"]
    plan = few.loaded.model_copy(update={"stores": [store]})
    assert deleted_by_hand(plan, old) == [
        f"kept {old} on memory: kept by a legal hold or a policy on the store"
    ]
    after = [*store.list(naming.backup_prefix(PLAN, old))]
    assert [(found.key, found.size_bytes) for found in after] == [
        (found.key, found.size_bytes) for found in before
    ]


def test_the_largest_object_is_deleted_first_since_a_lock_on_it_keeps_the_most(
    few: PlanOnDisk, store: MemoryStore
) -> None:
    old = store_backup(store, NOW - 20 * DAY, committed=False)
    store.set_clock(lambda: NOW - 20 * DAY)
    store.put(naming.object_key(PLAN, old, naming.MAIN_ARCHIVE), [b"large" * 99])
    store.set_clock(lambda: datetime.now(UTC))
    one_a_day(store, 1)
    assert pruned(few, store).litter == [old]
    assert deletions(store)[0].key == naming.object_key(PLAN, old, naming.MAIN_ARCHIVE)


def test_a_refusal_does_not_keep_the_other_backups_from_being_deleted(
    few: PlanOnDisk, store: MemoryStore
) -> None:
    made = one_a_day(store, 2)
    old = [store_backup(store, NOW - days * DAY) for days in (20, 21, 22)]
    store.fail("delete", REFUSED, key_contains=old[1], times=None)
    with pytest.raises(StoreForbidden, match="no right to delete"):
        pruned(few, store)
    assert left(store) == [*made, old[1]]
    # its manifest was refused first, so it is whole
    assert all(copy.committed for copy in read_store(store, PLAN))


def test_refusals_are_told_together(few: PlanOnDisk, store: MemoryStore) -> None:
    made = one_a_day(store, 2)
    old = [store_backup(store, NOW - days * DAY) for days in (20, 21, 22)]
    other = MemoryStore(name="other")
    other.fail("list", REFUSED)
    for identifier in old[:2]:
        store.fail("delete", REFUSED, key_contains=identifier, times=None)
    with pytest.raises(ExceptionGroup) as raised:
        prune_plan(few.loaded, [store, other], own=None)
    assert raised.value.exceptions == (REFUSED, REFUSED, REFUSED)
    assert raised.value.message == "pruning shop failed 3 times, first: no right to delete"
    assert left(store) == [*made, *old[:2]]


def test_a_backup_of_which_the_archive_may_not_be_deleted_stays_whole(
    few: PlanOnDisk, store: MemoryStore
) -> None:
    one_a_day(store, 2)
    old = store_backup(store, NOW - 20 * DAY)
    before = [found.key for found in store.list()]
    largest = max(store.list(naming.backup_prefix(PLAN, old)), key=lambda found: found.size_bytes).key
    store.fail("delete", REFUSED, key_contains=largest)
    with pytest.raises(StoreForbidden):
        pruned(few, store)
    assert [found.key for found in store.list()] == before
    assert pruned(few, store).deleted == [old]


def test_a_destination_that_is_gone_is_not_asked_for_every_backup(
    few: PlanOnDisk, store: MemoryStore
) -> None:
    one_a_day(store, 9)
    store.fail("delete", StoreUnreachable("gone"), times=None)
    with pytest.raises(StoreUnreachable):
        pruned(few, store)
    assert len(deletions(store)) == 1


def two_destinations(plan: PlanOnDisk, **fields: object) -> tuple[BackupPlan, LocalStore]:
    """Return the plan with a second store of these fields, and that store."""
    plan.write(
        stores=[*plan.settings["stores"], {"name": "second", "kind": "local", "path": "second", **fields}]
    )
    return plan.loaded, LocalStore(name="second", path=str(plan.directory / "second"))


def test_each_destination_is_pruned_and_listed_by_its_own_retention(few: PlanOnDisk) -> None:
    plan, second = two_destinations(few, keep={"keep_daily": 4})
    for store in (few.store, second):
        made = one_a_day(store, 6)
    kept = {row["backup_id"]: row["kept_because"] for row in catalogue_rows(plan, read_all(plan))}
    assert kept[made[3]] == [f"daily {NOW - 4 * DAY:%Y-%m-%d}"]
    assert kept[made[4]] == []
    prune_plan(plan, own=None)
    assert left(few.store) == made[:2]
    assert left(second) == made[:4]


def test_the_list_tells_that_a_store_is_append_only(few: PlanOnDisk) -> None:
    plan, second = two_destinations(few, append_only=True)
    made = one_a_day(second, 3)
    rows = catalogue_rows(plan, read_all(plan))
    assert [row["kept_because"] for row in rows][2] == ["the store is append-only"]
    assert [row["backup_id"] for row in json.loads(json.dumps(rows))] == made


def deleted_by_hand(plan: BackupPlan, backup: str) -> list[str]:
    lines: list[str] = []
    delete_by_hand(plan, backup, "room", lines.append)
    return lines


def test_a_whole_copy_is_not_deleted_for_the_sake_of_a_damaged_one(few: PlanOnDisk) -> None:
    plan, second = two_destinations(few)
    for store in (few.store, second):
        (_, damaged) = one_a_day(store, 2)
    second.delete(naming.object_key(PLAN, damaged, naming.MAIN_ARCHIVE))
    with pytest.raises(PruneRefused, match="is damaged on second and whole elsewhere") as refused:
        deleted_by_hand(plan, damaged)
    assert refused.value.hint == "say which copy goes: --destination second"
    assert damaged in left(second)

    delete_by_hand(plan, damaged, "room", print, "second")
    assert damaged not in left(second)
    assert damaged in left(few.store)
    with pytest.raises(BackupNotFound, match="on second"):
        delete_by_hand(plan, damaged, "room", print, "second")


def test_a_hold_on_any_destination_keeps_every_copy_from_being_deleted_by_hand(few: PlanOnDisk) -> None:
    plan, second = two_destinations(few)
    held = store_backup(second, NOW - DAY, holds=("audit",))
    store_backup(few.store, NOW - DAY)
    with pytest.raises(PruneRefused, match="is held: audit"):
        delete_by_hand(plan, held, "room", print, "local")
    assert held in left(few.store)


def test_a_destination_that_fails_does_not_keep_the_others_from_deleting_by_hand(few: PlanOnDisk) -> None:
    stores = [MemoryStore(name=name) for name in ("first", "second", "third")]
    for store in stores:
        (_, gone) = one_a_day(store, 2)
    stores[1].fail("delete", StoreUnreachable("no answer"), times=None)
    lines: list[str] = []
    with pytest.raises(StoreUnreachable, match="no answer"):
        delete_by_hand(few.loaded.model_copy(update={"stores": stores}), gone, "room", lines.append)
    assert lines == [f"deleted {gone} on first: room", f"deleted {gone} on third: room"]


def test_of_a_backup_that_was_halved_before_a_lock_was_met_the_manifest_stays_away(
    few: PlanOnDisk, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_a_day(store, 2)
    old = store_backup(store, NOW - 20 * DAY)
    smallest = min(store.list(naming.backup_prefix(PLAN, old)), key=lambda found: found.size_bytes)
    store.lock(smallest.key, NO_END)
    monkeypatch.setattr("flows.prune.why_undeletable", lambda *_: "")
    told = pruned(few, store).kept[old]
    assert told == ["half deleted, the rest is kept by a legal hold or a policy on the store"]
    assert [copy.committed for copy in read_store(store, PLAN) if copy.backup_id == old] == [False]


def test_a_backup_is_deleted_by_hand_where_it_may_be_and_the_rest_is_told(few: PlanOnDisk) -> None:
    plan, second = two_destinations(few, append_only=True)
    for store in (few.store, second):
        (_, gone) = one_a_day(store, 2)
    assert deleted_by_hand(plan, gone) == [
        f"deleted {gone} on local: room",
        f"kept {gone} on second: the store is append-only; pgsalvo sync copies it to the others again",
    ]
    assert gone not in left(few.store)
    assert gone in left(second)


def test_a_backup_that_no_destination_lets_go_of_is_not_deleted_by_hand(few: PlanOnDisk) -> None:
    few.write(stores=[few.settings["stores"][0] | {"append_only": True}])
    (_, asked) = one_a_day(few.store, 2)
    store_backup(few.store, NOW - 5 * DAY, verdict=Verdict.VERIFIED)
    with pytest.raises(PruneRefused, match="cannot be deleted on local: the store is append-only"):
        deleted_by_hand(few.loaded, asked)
    assert asked in left(few.store)


@pytest.mark.parametrize("append_only", [True, False])
def test_what_a_failed_backup_wrote_stays_only_where_the_store_is_append_only(
    few: PlanOnDisk, monkeypatch: pytest.MonkeyPatch, append_only: bool
) -> None:
    monkeypatch.setattr("flows.backup.get_run_logger", logging.getLogger)
    few.write(stores=[few.settings["stores"][0] | {"append_only": append_only}])
    litter = store_backup(few.store, NOW, committed=False)
    _clear(few.loaded, litter, "local")
    assert left(few.store) == ([litter] if append_only else [])


def test_what_a_sync_completed_is_not_cleared_as_what_a_failed_backup_wrote(
    few: PlanOnDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.backup.get_run_logger", logging.getLogger)
    identifier = store_backup(few.store, NOW, committed=False)
    listed = LocalStore.list

    def list_and_be_overtaken(store: LocalStore, prefix: str = "") -> list[StoredObject]:
        monkeypatch.setattr(LocalStore, "list", listed)
        found = [*store.list(prefix)]
        store_backup(store, NOW)
        return found

    monkeypatch.setattr(LocalStore, "list", list_and_be_overtaken)
    _clear(few.loaded, identifier, "local")
    (copy,) = read_store(few.store, PLAN)
    assert copy.manifest
    assert not copy.problem


def test_a_failure_of_the_store_itself_still_stops_its_prune(few: PlanOnDisk, store: MemoryStore) -> None:
    one_a_day(store, 4)
    store.fail("pending", StoreError("broken"))
    with pytest.raises(StoreError, match="broken"):
        pruned(few, store)
