"""Scrub: any flipped byte is found, counts against its copy, and is forgotten once it is healed."""

import json
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import PrivateAttr

from blocks.errors import StoreError, StoreForbidden, StoreUnreachable
from blocks.stores import Store
from blocks.stores.memory import MemoryStore
from flows import scrub_records
from flows.catalogue import Copy, read_store
from flows.catalogues import read_all
from flows.core import manifest as manifests
from flows.core import naming
from flows.core.errors import ChecksumMismatch
from flows.core.naming import BackupId
from flows.core.retention import DAMAGED
from flows.core.scrubs import Look, ScrubRecord
from flows.core.verification import Verdict
from flows.plan import BackupPlan
from flows.prune import prune_plan
from flows.reports import catalogue_rows
from flows.scrub import Scrubbed, damage, scrub_stores
from flows.scrub_records import records_on
from flows.sync import sync_stores
from tests.servers.backups import BODIES, PLAN, make_older, store_backup
from tests.servers.plan import PlanOnDisk

DAY = timedelta(days=1)
NOW = (datetime.now(UTC) - DAY).replace(hour=12)
FEW = {"keep_daily": 3, "keep_weekly": 0, "keep_monthly": 0, "min_keep": 1}


def scrubbed(plan: BackupPlan, *, everything: bool = True) -> list[Scrubbed]:
    """Scrub without anything that cannot be read."""
    done, failures = scrub_stores(plan, plan.stores, everything=everything)
    assert failures == []
    return done


def only(plan: PlanOnDisk, store: Store) -> BackupPlan:
    return plan.loaded.model_copy(update={"stores": [store]})


def flip(store: Store, identifier: BackupId, name: str, place: int = 0) -> None:
    key = naming.object_key(PLAN, identifier, name)
    body = bytearray(store.read(key))
    body[place] ^= 1
    store.put(key, [bytes(body)])


def copies(store: Store) -> dict[BackupId, Copy]:
    return {copy.backup_id: copy for copy in read_store(store, PLAN)}


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("place", [0, -1])
def test_a_flipped_byte_is_found_and_the_copy_has_failed(plan: PlanOnDisk, name: str, place: int) -> None:
    made = store_backup(plan.store, NOW, verdict=Verdict.VERIFIED)
    flip(plan.store, made, name, place)
    assert copies(plan.store)[made].verdict is Verdict.VERIFIED
    (done,) = scrubbed(plan.loaded)
    assert (done.archives, done.read, done.read_bytes) == (
        3,
        3,
        sum(len(body) for _, body in BODIES.values()),
    )
    (problem,) = done.damaged.values()
    assert problem.startswith(f"{name}: its checksum was not the manifest's when it was read again at 20")
    assert (copies(plan.store)[made].verdict, copies(plan.store)[made].problem) == (Verdict.FAILED, problem)
    (row,) = catalogue_rows(plan.loaded, read_all(plan.loaded))
    assert row["problems"] == [f"local: {problem}"]
    told = damage(plan.loaded, [done])
    assert told is not None
    assert made in told.message
    assert "pgsalvo sync shop" in told.hint


def test_what_is_whole_is_not_damaged(plan: PlanOnDisk) -> None:
    made = store_backup(plan.store, NOW)
    store_backup(plan.store, NOW - DAY, committed=False)
    (done,) = scrubbed(plan.loaded)
    assert (done.archives, done.damaged, damage(plan.loaded, [done])) == (3, {}, None)
    assert copies(plan.store)[made].problem == ""


def test_a_copy_found_damaged_takes_no_slot_of_retention(plan: PlanOnDisk) -> None:
    plan.write(retention=FEW)
    made = [store_backup(plan.store, NOW - number * DAY) for number in range(5)]
    flip(plan.store, made[1], naming.MAIN_ARCHIVE)
    make_older(plan.store, made[1], 3 * DAY)
    scrubbed(plan.loaded)
    (pruned,) = prune_plan(plan.loaded, own=None)
    assert list(pruned.kept) == made[:4]
    assert pruned.kept[made[1]] == [DAMAGED]


def test_a_copy_that_a_verification_found_damaged_is_read_first(plan: PlanOnDisk) -> None:
    suspect = store_backup(plan.store, NOW, verdict=Verdict.FAILED, reason=ChecksumMismatch.__name__)
    store_backup(plan.store, NOW - 20 * DAY)
    assert copies(plan.store)[suspect].is_suspect
    flip(plan.store, suspect, naming.FACTS_ARCHIVE)
    (done,) = scrubbed(plan.loaded, everything=False)
    assert done.damaged.keys() == {suspect}


def test_a_later_good_look_clears_what_an_earlier_one_found(plan: PlanOnDisk) -> None:
    made = store_backup(plan.store, NOW)
    flip(plan.store, made, naming.MAIN_ARCHIVE)
    scrubbed(plan.loaded)
    flip(plan.store, made, naming.MAIN_ARCHIVE)  # back
    assert copies(plan.store)[made].problem
    (again,) = scrubbed(plan.loaded, everything=False)
    assert (again.read, again.damaged) == (1, {})
    assert copies(plan.store)[made].problem == ""


def test_damage_is_healed_by_a_sync_and_told_until_then(plan: PlanOnDisk) -> None:
    memory = MemoryStore(name="memory")
    made = store_backup(plan.store, NOW, verdict=Verdict.VERIFIED)
    loaded = plan.loaded.model_copy(update={"stores": [plan.store, memory]})
    sync_stores(loaded)
    flip(plan.store, made, naming.FACTS_ARCHIVE)
    for _ in range(2):
        assert damage(loaded, scrubbed(loaded, everything=False))
    done, failures = sync_stores(loaded)
    assert failures == []
    assert [(each.healed, each.sources) for each in done[0].copied] == [(True, ["memory"])]
    assert copies(plan.store)[made].problem == ""
    assert damage(loaded, scrubbed(loaded, everything=False)) is None
    assert copies(plan.store)[made].verdict is Verdict.VERIFIED


def test_scrubs_go_on_where_the_last_one_stopped(plan: PlanOnDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = MemoryStore(name="memory")
    for number in range(10):
        store_backup(memory, NOW - number * DAY)
    whole = 10 * sum(len(body) for _, body in BODIES.values())
    looked: set[tuple[BackupId, str]] = set()
    clock = Clock(monkeypatch)
    memory.set_clock(lambda: clock.now(UTC))
    for _ in range(5):
        before = len(looked)
        (done,) = scrubbed(only(plan, memory), everything=False)
        looked |= {look.place for record in records_on(memory, PLAN).values() for look in record.looks}
        assert len(looked) == before + done.read or len(looked) == 30
        assert done.read_bytes < whole / 2
        clock.advance(7 * DAY)
    assert len(looked) == 30


class Clock:
    """The time as scrubs see it."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.ahead = timedelta()
        for module in ("flows.scrub", "flows.looking", "flows.scrub_records"):
            patch.setattr(f"{module}.datetime", self)

    def now(self, zone: object) -> datetime:
        assert zone is UTC
        return datetime.now(UTC) + self.ahead

    def advance(self, by: timedelta) -> None:
        self.ahead += by


def test_a_scrub_that_is_killed_keeps_what_it_found(
    plan: PlanOnDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = MemoryStore(name="memory")
    made = [store_backup(plan.store, NOW - number * DAY) for number in range(3)]
    sync_stores(plan.loaded.model_copy(update={"stores": [plan.store, memory]}))
    monkeypatch.setattr(scrub_records, "SECONDS_BETWEEN_RECORDS", 0.0)
    flip(memory, made[2], naming.MAIN_ARCHIVE)
    memory.fail("get", KeyboardInterrupt(), key_contains=f"{made[0]}/main")  # type: ignore[arg-type]
    with pytest.raises(KeyboardInterrupt):
        scrub_stores(only(plan, memory), [memory], everything=True)
    assert {backup_id for backup_id, copy in copies(memory).items() if copy.problem} == {made[2]}


def test_prune_clears_records_that_tell_nothing_any_more(plan: PlanOnDisk) -> None:
    made = store_backup(plan.store, NOW)
    flip(plan.store, made, naming.MAIN_ARCHIVE)
    for _ in range(3):
        scrubbed(plan.loaded)
    assert len(records_on(plan.store, PLAN)) == 6  # damage is written at once, the rest at the end
    (told,) = prune_plan(plan.loaded, own=None, dry_run=True)
    (done,) = prune_plan(plan.loaded, own=None)
    assert (told.records, done.records) == (4, 4)
    assert len(records_on(plan.store, PLAN)) == 2
    assert copies(plan.store)[made].problem


def test_records_name_archives_and_ids_only(plan: PlanOnDisk) -> None:
    made = store_backup(plan.store, NOW, label="release 42")
    scrubbed(plan.loaded)
    (key,) = records_on(plan.store, PLAN)
    document = json.loads(plan.store.read(key))
    assert document.keys() == {"format_version", "plan", "destination", "by", "looks"}
    assert {*document["looks"][0]} == {"backup_id", "archive", "manifest_sha256", "read_at", "intact"}
    assert {look["backup_id"] for look in document["looks"]} == {made}
    assert {look["archive"] for look in document["looks"]} == {*BODIES}


@pytest.mark.parametrize("body", [b"", b"{}", b"\xff" * 100], ids=["empty", "no-record", "no-text"])
def test_what_is_no_record_changes_nothing(plan: PlanOnDisk, body: bytes) -> None:
    made = store_backup(plan.store, NOW)
    plan.store.put(naming.scrub_key(PLAN, NOW, "0a1b2c"), [body])
    scrubbed(plan.loaded)
    assert copies(plan.store)[made].problem == ""
    prune_plan(plan.loaded, own=None)
    assert plan.store.exists(naming.scrub_key(PLAN, NOW, "0a1b2c"))


def test_a_backup_that_is_pruned_meanwhile_is_nobodys_loss(plan: PlanOnDisk) -> None:
    class Pruning(MemoryStore):
        _block_type_name = "PruningStore"
        _block_type_slug = "pruning-store"

        def get(self, key: str, *, start: int = 0, end: int | None = None) -> Iterable[bytes]:  # type: ignore[override]
            if gone in key and key.endswith(".gpg"):
                for found in list(self.list(f"{PLAN}/{gone}/")):
                    self.delete(found.key)
            return super().get(key, start=start, end=end)

    gone = ""
    store = Pruning(name="pruning")
    old, new = store_backup(plan.store, NOW - DAY), store_backup(plan.store, NOW)
    sync_stores(plan.loaded.model_copy(update={"stores": [plan.store, store]}))
    gone = old
    done, failures = scrub_stores(only(plan, store), [store], everything=True)
    assert failures == []
    assert done[0].damaged == {}
    assert list(copies(store)) == [new]
    assert all(look.intact for record in records_on(store, PLAN).values() for look in record.looks)


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(StoreForbidden("no"), id="no-right"),
        pytest.param(StoreUnreachable("timed out"), id="no-answer"),
    ],
)
def test_what_cannot_be_read_is_told_and_does_not_keep_others_from_being_read(
    plan: PlanOnDisk, error: StoreError
) -> None:
    memory = MemoryStore(name="memory")
    made = [store_backup(plan.store, NOW - number * DAY) for number in range(2)]
    loaded = plan.loaded.model_copy(update={"stores": [memory, plan.store]})
    sync_stores(loaded)
    memory.fail("get", error, key_contains=f"{made[0]}/main", times=None)
    done, failures = scrub_stores(loaded, loaded.stores, everything=True)
    assert failures == [error]
    assert [(each.destination, each.read) for each in done] == [("memory", 5), ("local", 6)]
    assert not copies(memory)[made[0]].problem


def test_a_destination_that_is_gone_is_not_asked_for_the_next_archive(plan: PlanOnDisk) -> None:
    class Going(MemoryStore):
        _block_type_name = "GoingStore"
        _block_type_slug = "going-store"

        def get(self, key: str, *, start: int = 0, end: int | None = None) -> Iterator[bytes]:
            if key.endswith(".gpg"):
                self.fail("list", StoreUnreachable("gone"), times=None)
                raise StoreUnreachable("timed out")
            return super().get(key, start=start, end=end)

    store = Going(name="going")
    store_backup(store, NOW)
    _, failures = scrub_stores(only(plan, store), [store], everything=True)
    assert [error.message for error in failures] == ["timed out", "gone"]


def test_an_unreadable_manifest_is_damage_and_a_later_releases_is_not(plan: PlanOnDisk) -> None:
    made, later = store_backup(plan.store, NOW), store_backup(plan.store, NOW - DAY)
    for identifier, old, new in (
        (made, b'"label": ""', b'"label": "x"'),
        (later, b'"format_version": 1', b'"format_version": 2'),
    ):
        key = naming.manifest_key(PLAN, identifier)
        plan.store.put(key, [plan.store.read(key).replace(old, new)])
    (done,) = scrubbed(plan.loaded)
    assert done.damaged.keys() == {made}


def test_a_plan_that_scrubs_by_hand_only_reads_everything(plan: PlanOnDisk) -> None:
    store_backup(plan.store, NOW)
    plan.write(scrub_days=0)
    assert [done.read for done in scrubbed(plan.loaded, everything=False)] == [3]


class Misreading(MemoryStore):
    """Gives other bytes of an archive than it holds, so many times."""

    _block_type_name = "MisreadingStore"
    _block_type_slug = "misreading-store"

    _left: int = PrivateAttr(0)

    def get(self, key: str, *, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        for chunk in super().get(key, start=start, end=end):
            is_wrong = self._left > 0 and key.endswith(".gpg")
            self._left -= is_wrong
            yield chunk[::-1] if is_wrong else chunk


@pytest.mark.parametrize(("times", "damaged"), [(1, 0), (2, 1)], ids=["one", "both"])
def test_one_bad_reading_is_no_damage(plan: PlanOnDisk, times: int, damaged: int) -> None:
    store = Misreading(name="misreading")
    store_backup(store, NOW)
    store._left = times
    (done,) = scrubbed(only(plan, store))
    assert len(done.damaged) == damaged


def test_damage_is_told_also_where_it_cannot_be_written_down(plan: PlanOnDisk) -> None:
    memory = MemoryStore(name="memory")
    made = [store_backup(memory, NOW - number * DAY) for number in range(3)]
    flip(memory, made[1], naming.MAIN_ARCHIVE)
    memory.fail("create", StoreForbidden("no right"), key_contains="scrubs/", times=None)
    (done,), failures = scrub_stores(only(plan, memory), [memory], everything=True)
    assert (list(done.damaged), done.read) == ([made[1]], 9)
    assert [error.message for error in failures] == ["no right"]


def test_damage_is_told_also_where_the_catalogue_cannot_be_read_again(plan: PlanOnDisk) -> None:
    memory = MemoryStore(name="memory")
    made = store_backup(memory, NOW)
    flip(memory, made, naming.FACTS_ARCHIVE)
    memory.fail("get", StoreUnreachable("gone"), key_contains="scrubs/")
    (done,), failures = scrub_stores(only(plan, memory), [memory], everything=True)
    assert done.damaged.keys() == {made}
    assert [error.message for error in failures] == ["gone"]


def test_a_look_of_a_host_whose_clock_was_ahead_hides_no_later_damage(plan: PlanOnDisk) -> None:
    memory = MemoryStore(name="memory")
    made = store_backup(memory, NOW)
    digest = manifests.sha256(memory.read(naming.manifest_key(PLAN, made)))
    look = Look(
        backup_id=made,
        archive=naming.MAIN_ARCHIVE,
        manifest_sha256=digest,
        read_at=NOW + 400 * DAY,
        intact=True,
    )
    memory.set_clock(lambda: NOW)
    record = ScrubRecord(plan=PLAN, destination="memory", looks=(look,))
    memory.create(naming.scrub_key(PLAN, NOW, "0a1b2c"), record.encode())
    memory.set_clock(lambda: datetime.now(UTC))
    flip(memory, made, naming.MAIN_ARCHIVE)
    (done,) = scrubbed(only(plan, memory))
    assert done.damaged.keys() == {made}


def test_a_bad_sector_is_damage_and_a_sync_heals_it(plan: PlanOnDisk) -> None:
    class BadSector(MemoryStore):
        _block_type_name = "BadSectorStore"
        _block_type_slug = "bad-sector-store"

        def put(self, key: str, chunks: Iterable[bytes], *, expected_bytes: int | None = None) -> int:
            self.mend()
            return super().put(key, chunks, expected_bytes=expected_bytes)

    store = BadSector(name="bad")
    made = store_backup(plan.store, NOW)
    loaded = plan.loaded.model_copy(update={"stores": [plan.store, store]})
    sync_stores(loaded)
    store.fail("get", StoreError("input/output error"), key_contains=f"{made}/main", times=None)
    done = scrubbed(only(plan, store))
    assert done[0].damaged.keys() == {made}
    (_, healed), failures = sync_stores(loaded)
    assert failures == []
    assert [each.healed for each in healed.copied] == [True]
    assert copies(store)[made].problem == ""


def test_a_copy_that_is_healed_while_it_is_read_is_sound(plan: PlanOnDisk) -> None:
    class Healing(MemoryStore):
        _block_type_name = "HealingStore"
        _block_type_slug = "healing-store"

        _then: Callable[[], object] | None = PrivateAttr(None)

        def get(self, key: str, *, start: int = 0, end: int | None = None) -> Iterator[bytes]:
            chunks = list(super().get(key, start=start, end=end))
            yield from chunks
            if self._then and reading and naming.MAIN_ARCHIVE in key:
                reading.pop()
                if not reading:
                    self._then()

    reading: list[int] = []
    store = Healing(name="healing")
    made = store_backup(plan.store, NOW)
    loaded = plan.loaded.model_copy(update={"stores": [plan.store, store]})
    sync_stores(loaded)
    flip(store, made, naming.MAIN_ARCHIVE)
    scrubbed(only(plan, store))
    store._then, reading[:] = lambda: sync_stores(loaded), [1, 2]
    scrubbed(only(plan, store))
    assert copies(store)[made].problem == ""


def test_what_nobody_read_back_when_it_was_made_is_read_first(plan: PlanOnDisk) -> None:
    memory = MemoryStore(name="memory")
    store_backup(memory, NOW - 5 * DAY)
    made = store_backup(memory, NOW)
    key = naming.manifest_key(PLAN, made)
    manifest = manifests.decode(memory.read(key)).model_copy(update={"read_back": "parts"})
    memory.put(key, [manifests.encode(manifest)])
    scrubbed(only(plan, memory), everything=False)
    (record,) = records_on(memory, PLAN).values()
    assert {look.backup_id for look in record.looks} == {made}


def test_where_nothing_is_deleted_a_scrub_leaves_one_record(
    plan: PlanOnDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = MemoryStore(name="memory", append_only=True)
    store_backup(memory, NOW)
    monkeypatch.setattr(scrub_records, "SECONDS_BETWEEN_RECORDS", 0.0)
    scrubbed(only(plan, memory))
    assert len(records_on(memory, PLAN)) == 1
