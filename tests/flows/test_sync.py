"""Sync: what is copied, from where and in what order, what is left alone, and what a kill leaves."""

import hashlib
import subprocess
import sys
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count
from pathlib import Path

import pytest
from pydantic import PrivateAttr

from blocks.errors import ConfigurationError, StoreError, StoreForbidden, StoreUnreachable, WorldError
from blocks.stores import LocalStore, Store
from blocks.stores.memory import Failure, MemoryStore, Operation
from flows.catalogue import Copy, read_store
from flows.core import manifest as manifests
from flows.core import naming
from flows.core.errors import BackupError, ChecksumMismatch
from flows.core.manifest import Manifest
from flows.core.naming import BackupId
from flows.core.retention import DAMAGED
from flows.core.verification import Verdict
from flows.outcomes import told
from flows.plan import BackupPlan
from flows.progress import Progress
from flows.prune import prune_plan
from flows.recording import record
from flows.scrub import scrub_stores
from flows.sync import Synced, sync_stores
from flows.tasks.copies import Sources, copy_archive
from flows.verify import _proof
from tests.servers.backups import BODIES, PLAN, make_older, store_backup
from tests.servers.plan import PlanOnDisk
from tests.servers.processes import eventually

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
NOW = (datetime.now(UTC) - DAY).replace(hour=12)
FEW = {"keep_daily": 3, "keep_weekly": 0, "keep_monthly": 0, "min_keep": 1}
RUN = """
from flows.plan_source import load_plan
from flows.sync import sync_stores
sync_stores(load_plan("shop"))
"""


class Killed(BaseException):
    """Stands for the end of the process."""


class Dying(MemoryStore):
    """Works for so many operations, or for ever."""

    _block_type_name = "DyingStore"
    _block_type_slug = "dying-store"

    _left: int | None = PrivateAttr(None)

    def _asked(self, operation: Operation, key: str) -> Failure | None:
        if self._left is not None:
            self._left -= 1
            if self._left < 0:
                raise Killed
        return super()._asked(operation, key)


class Changing(MemoryStore):
    """Stores other bytes than those of an archive that it is given."""

    _block_type_name = "ChangingStore"
    _block_type_slug = "changing-store"

    def put(self, key: str, chunks: Iterable[bytes], *, expected_bytes: int | None = None) -> int:
        body = b"".join(chunks)
        return super().put(key, [body[::-1]], expected_bytes=expected_bytes)


@pytest.fixture
def memory() -> MemoryStore:
    return MemoryStore(name="memory")


def among(plan: PlanOnDisk, *stores: Store) -> BackupPlan:
    """Return the plan with these destinations after its own."""
    return plan.loaded.model_copy(update={"stores": [*plan.loaded.stores, *stores]})


def another(plan: PlanOnDisk, name: str) -> LocalStore:
    return LocalStore(name=name, path=str(plan.directory / name))


def synced(plan: BackupPlan) -> dict[str, Synced]:
    """Sync without any failure."""
    done, failures = sync_stores(plan)
    assert failures == []
    return {destination.destination: destination for destination in done}


def copies(store: Store) -> dict[BackupId, Copy]:
    return {copy.backup_id: copy for copy in read_store(store, PLAN) if copy.committed}


def copied(destination: Synced) -> list[BackupId]:
    return [each.backup_id for each in destination.copied]


def flip(store: Store, identifier: BackupId, name: str = naming.MAIN_ARCHIVE) -> None:
    key = naming.object_key(PLAN, identifier, name)
    body = store.read(key)
    store.put(key, [body[:-1] + bytes([body[-1] ^ 1])])


def test_a_destination_gets_the_same_bytes_newest_first_and_no_verdict(
    plan: PlanOnDisk, memory: MemoryStore
) -> None:
    old = store_backup(plan.store, NOW - DAY, verdict=Verdict.VERIFIED, holds=("audit",))
    new = store_backup(plan.store, NOW)
    done = synced(among(plan, memory))
    assert copied(done["memory"]) == [new, old]
    assert copied(done["local"]) == []
    assert [each.sources for each in done["memory"].copied] == [["local"]] * 2
    theirs = [key for key in plan.objects() if "/verifications/" not in key]
    assert {key: memory.read(key) for key in theirs} == {key: plan.store.read(key) for key in theirs}
    assert [copy.verdict for copy in copies(memory).values()] == [None, None]
    assert copies(memory)[old].holds == ("audit",)
    assert memory.exists("shop/RESTORE.md")
    assert copied(synced(among(plan, memory))["memory"]) == []


def test_the_manifest_comes_last(plan: PlanOnDisk, memory: MemoryStore) -> None:
    made = store_backup(plan.store, NOW, holds=("audit",))
    synced(among(plan, memory))
    written = [call.key for call in memory.calls if call.operation in ("put", "create")]
    of_backup = [key.removeprefix(f"shop/{made}/") for key in written if made in key]
    assert of_backup[-2:] == ["holds/audit.json", "manifest.json"]
    assert {*of_backup[:-2]} == {*BODIES}


def test_nothing_is_copied_that_the_destinations_retention_would_not_keep(
    plan: PlanOnDisk, memory: MemoryStore
) -> None:
    plan.write(retention=FEW, stores=[{**plan.settings["stores"][0], "keep": {"keep_daily": 30}}])
    made = [store_backup(plan.store, NOW - number * DAY) for number in range(6)]
    loaded = among(plan, memory)
    assert copied(synced(loaded)["memory"]) == made[:3]
    memory.set_clock(lambda: datetime.now(UTC) + 2 * DAY)
    pruned = {each.destination: each.deleted for each in prune_plan(loaded, own=None)}
    assert pruned == {"local": [], "memory": []}
    assert copied(synced(loaded)["memory"]) == []


def test_a_backup_verified_elsewhere_only_is_not_copied_back_and_forth(
    plan: PlanOnDisk, memory: MemoryStore
) -> None:
    """Its verdict keeps it where it was given, and would not keep a copy."""
    plan.write(retention=FEW)
    verified = store_backup(plan.store, NOW - 40 * DAY, verdict=Verdict.VERIFIED)
    made = [store_backup(plan.store, NOW - number * DAY) for number in range(3)]
    assert copied(synced(among(plan, memory))["memory"]) == made
    assert verified in copies(plan.store)


@pytest.mark.parametrize("committed", [True, False], ids=["damaged", "unfinished"])
def test_what_lies_there_and_is_right_is_not_copied_again(
    plan: PlanOnDisk, memory: MemoryStore, committed: bool
) -> None:
    made = store_backup(plan.store, NOW)
    synced(among(plan, memory))
    memory.delete(naming.object_key(PLAN, made, naming.MAIN_ARCHIVE))
    if not committed:
        memory.delete(naming.manifest_key(PLAN, made))
    before = len(memory.calls)
    (again,) = synced(among(plan, memory))["memory"].copied
    put = [call.key for call in memory.calls[before:] if call.operation == "put"]
    assert put == [naming.object_key(PLAN, made, naming.MAIN_ARCHIVE)]
    assert again.healed is committed
    assert copies(memory)[made].problem == ""


def test_what_a_killed_copy_left_without_its_lock_is_copied_again(
    plan: PlanOnDisk, memory: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = store_backup(plan.store, NOW)
    synced(among(plan, memory))
    memory.delete(naming.manifest_key(PLAN, made))
    unlocked, locked = (
        naming.object_key(PLAN, made, name)
        for name in BODIES
        if name in (naming.MAIN_ARCHIVE, naming.GLOBALS_ARCHIVE)
    )
    memory.lock(locked, NOW + 30 * DAY)
    monkeypatch.setattr(MemoryStore, "locks_objects", property(lambda store: store is memory))
    before = len(memory.calls)
    synced(among(plan, memory))
    put = {call.key for call in memory.calls[before:] if call.operation == "put"}
    assert unlocked in put
    assert locked not in put


def damaged_manifest(store: MemoryStore, identifier: BackupId) -> None:
    key = naming.manifest_key(PLAN, identifier)
    store.put(key, [store.read(key).replace(b'"label": ""', b'"label": "x"')])


def lost_archive(store: MemoryStore, identifier: BackupId) -> None:
    store.delete(naming.object_key(PLAN, identifier, naming.FACTS_ARCHIVE))


def short_archive(store: MemoryStore, identifier: BackupId) -> None:
    store.put(naming.object_key(PLAN, identifier, naming.GLOBALS_ARCHIVE), [b"the"])


@pytest.mark.parametrize("damage", [damaged_manifest, lost_archive, short_archive])
def test_a_damaged_copy_is_healed(
    plan: PlanOnDisk, memory: MemoryStore, damage: Callable[[MemoryStore, BackupId], None]
) -> None:
    made = store_backup(plan.store, NOW)
    synced(among(plan, memory))
    damage(memory, made)
    assert copies(memory)[made].problem
    assert [each.healed for each in synced(among(plan, memory))["memory"].copied] == [True]
    assert copies(memory)[made].problem == ""
    assert memory.read(naming.manifest_key(PLAN, made)) == plan.store.read(naming.manifest_key(PLAN, made))


def test_a_copy_that_another_release_wrote_is_left_alone(plan: PlanOnDisk, memory: MemoryStore) -> None:
    made = store_backup(plan.store, NOW)
    synced(among(plan, memory))
    key = naming.manifest_key(PLAN, made)
    later = memory.read(key).replace(b'"format_version": 1', b'"format_version": 2')
    memory.put(key, [later])
    assert copied(synced(among(plan, memory))["memory"]) == []
    assert memory.read(key) == later


def test_if_the_first_source_is_damaged_the_next_is_read_and_the_damage_is_told(
    plan: PlanOnDisk, memory: MemoryStore
) -> None:
    second = another(plan, "second")
    made = store_backup(plan.store, NOW)
    synced(among(plan, second))
    flip(plan.store, made)
    done, (told,) = sync_stores(among(plan, second, memory))
    (at,) = done[2].copied
    assert (at.sources, copies(memory)[made].problem) == (["local", "second"], "")
    assert isinstance(told, ChecksumMismatch)
    assert f"backup {made} on local is damaged: main.dump.zst.gpg: its checksum was not" in told.message
    assert copies(plan.store)[made].verdict is Verdict.FAILED

    healed = synced(among(plan, second, memory))
    assert [each.healed for each in healed["local"].copied] == [True]
    assert copies(plan.store)[made].problem == ""


def test_damage_that_a_sync_finds_is_told_once_and_healed_where_that_comes_later(
    plan: PlanOnDisk, memory: MemoryStore
) -> None:
    second, third = another(plan, "second"), MemoryStore(name="third")
    made = store_backup(plan.store, NOW)
    synced(among(plan, second))
    flip(plan.store, made)
    stores = [memory, plan.store, second, third]
    done, failures = sync_stores(plan.loaded.model_copy(update={"stores": stores}))
    assert [f"{each.destination} {one.sources}" for each in done for one in each.copied] == [
        "memory ['local', 'second']", "local ['second']", "third ['second']",
    ]  # fmt: skip
    assert len(failures) == 1
    assert copies(plan.store)[made].problem == ""


def test_a_copy_that_failed_its_verification_is_no_source(plan: PlanOnDisk, memory: MemoryStore) -> None:
    store_backup(plan.store, NOW, verdict=Verdict.FAILED)
    assert copied(synced(among(plan, memory))["memory"]) == []


def test_what_is_damaged_everywhere_is_not_committed_and_the_others_are_copied(
    plan: PlanOnDisk, memory: MemoryStore
) -> None:
    old, broken, new = (store_backup(plan.store, NOW - number * DAY) for number in (2, 1, 0))
    flip(plan.store, broken)
    done, failures = sync_stores(among(plan, memory))
    assert copied(done[1]) == [new, old]
    assert done[1].lacking.keys() == {broken}
    assert len(failures) == 2
    assert broken not in copies(memory)
    assert not memory.exists(naming.object_key(PLAN, broken, naming.MAIN_ARCHIVE))


def test_a_destination_that_changes_what_it_is_given_gets_no_manifest(plan: PlanOnDisk) -> None:
    changing = Changing(name="changing")
    made = store_backup(plan.store, NOW)
    done, (told,) = sync_stores(among(plan, changing))
    assert isinstance(told, ChecksumMismatch)
    assert "changing does not hold what was written to it" in told.message
    assert done[1].lacking.keys() == {made}
    assert copies(changing) == {}
    assert copies(plan.store)[made].problem == ""


@pytest.mark.parametrize("operation", ["list", "put", "create"])
def test_a_destination_that_fails_does_not_keep_the_others_from_it(
    plan: PlanOnDisk, memory: MemoryStore, operation: str
) -> None:
    broken = MemoryStore(name="broken")
    broken.fail(operation, StoreForbidden("broken refuses"), times=None)  # type: ignore[arg-type]
    made = store_backup(plan.store, NOW)
    done, failures = sync_stores(among(plan, broken, memory))
    assert [error.message for error in failures] == ["broken refuses"]
    assert made in copies(memory)
    assert [each.destination for each in done if each.lacking] == ([] if operation == "list" else ["broken"])


def test_a_source_that_dies_half_way_is_followed_by_the_next(plan: PlanOnDisk, memory: MemoryStore) -> None:
    first = MemoryStore(name="first", is_local=True)
    made = store_backup(plan.store, NOW)
    synced(among(plan, first))
    first.fail("get", StoreUnreachable("first broke"), key_contains="main", after_bytes=5)
    plan_of_three = among(plan, memory).model_copy(update={"stores": [first, plan.store, memory]})
    assert synced(plan_of_three)["memory"].copied[0].sources == ["first", "local"]
    assert copies(memory)[made].problem == copies(first)[made].problem == ""


def test_backups_of_two_databases_are_not_mixed(plan: PlanOnDisk, memory: MemoryStore) -> None:
    second = another(plan, "second")
    store_backup(plan.store, NOW)
    store_backup(second, NOW - DAY, source=manifests.source_of("1", "other"))
    with pytest.raises(BackupError, match="hold backups of two databases"):
        sync_stores(among(plan, second, memory))
    assert copies(memory) == {}


def test_of_two_manifests_for_one_backup_neither_is_copied(plan: PlanOnDisk, memory: MemoryStore) -> None:
    second = another(plan, "second")
    made = store_backup(plan.store, NOW)
    synced(among(plan, second))
    body = plan.store.read(naming.manifest_key(PLAN, made))
    other = manifests.encode(manifests.decode(body).model_copy(update={"label": "another"}))
    second.put(naming.manifest_key(PLAN, made), [other])
    done, (told,) = sync_stores(among(plan, second, memory))
    assert told.message == f"backup {made} is not the same on local and second"
    assert done[2].lacking.keys() == {made}


def test_a_backup_that_runs_is_not_touched(plan: PlanOnDisk, memory: MemoryStore) -> None:
    running = store_backup(plan.store, NOW, committed=False)
    old = store_backup(plan.store, NOW - DAY)
    memory.put(naming.object_key(PLAN, running, naming.MAIN_ARCHIVE), [b"half"])
    synced(among(plan, memory))
    assert list(copies(memory)) == [old]
    assert memory.read(naming.object_key(PLAN, running, naming.MAIN_ARCHIVE)) == b"half"
    assert [key for key in plan.objects() if running in key and "manifest" in key] == []


@pytest.mark.parametrize("healing", [False, True], ids=["copying", "healing"])
def test_a_sync_killed_at_any_moment_is_finished_by_the_next(plan: PlanOnDisk, healing: bool) -> None:
    made = store_backup(plan.store, NOW, holds=("audit",))
    for moment in count():
        target = Dying(name="dying")
        if healing:
            synced(among(plan, target))
            damaged_manifest(target, made)
            short_archive(target, made)
        finished = ends_after(moment, target, partial(sync_stores, among(plan, target)))
        for copy in copies(target).values():
            assert copy.problem or all(
                target.read(naming.object_key(PLAN, made, name)) == body for name, (_, body) in BODIES.items()
            )
        synced(among(plan, target))
        assert copies(target)[made].problem == ""
        assert copies(target)[made].holds == ("audit",)
        if finished:
            break
    assert moment > 10


def ends_after(operations: int, target: Dying, act: Callable[[], object]) -> bool:
    """Let a store die after so many operations; return whether `act` came to its end before that."""
    target._left = operations
    try:
        act()
    except Killed:
        return False
    finally:
        target._left = None
    return True


def test_a_sync_whose_process_is_killed_amid_an_archive_is_finished_by_the_next(plan: PlanOnDisk) -> None:
    plan.write(stores=[*plan.settings["stores"], {"name": "second", "kind": "local", "path": "second"}])
    second = another(plan, "second")
    made = store_backup(plan.store, NOW)
    large_main(plan.store, made, 128 << 20)
    process = subprocess.Popen((sys.executable, "-c", RUN), cwd=Path(__file__).parents[2])
    try:
        eventually(lambda: has_part(plan.directory / "second"), "an archive is being written")
    finally:
        process.kill()
        process.wait()
    assert copies(second) == {}
    assert copied(synced(plan.loaded)["second"]) == [made]
    assert copies(second)[made].problem == ""


def large_main(store: LocalStore, identifier: BackupId, size: int) -> None:
    """Replace a backup's main archive by one of `size` zeros."""
    piece = bytes(1 << 20)
    digest = hashlib.sha256()
    for _ in range(size >> 20):
        digest.update(piece)
    store.put(naming.object_key(PLAN, identifier, naming.MAIN_ARCHIVE), (piece for _ in range(size >> 20)))
    key = naming.manifest_key(PLAN, identifier)
    manifest = manifests.decode(store.read(key))
    archives = tuple(
        archive.model_copy(update={"size_bytes": size, "sha256": digest.hexdigest()})
        if archive.name == naming.MAIN_ARCHIVE
        else archive
        for archive in manifest.archives
    )
    store.put(key, [manifests.encode(manifest.model_copy(update={"archives": archives}))])


def has_part(directory: Path) -> bool:
    return any(path.stat().st_size > 1 << 20 for path in directory.rglob("*.part*") if path.exists())


@pytest.mark.parametrize("error", [StoreError("no answer"), ConfigurationError("no answer")])
def test_a_destination_that_cannot_be_read_is_no_source_and_no_target(
    plan: PlanOnDisk, memory: MemoryStore, error: WorldError
) -> None:
    made = store_backup(plan.store, NOW)
    unreadable = MemoryStore(name="unreadable")
    unreadable.fail("list", error, times=None)
    done, failures = sync_stores(among(plan, unreadable, memory))
    assert [(each.destination, each.error) for each in done] == [
        ("local", ""),
        ("unreadable", "no answer"),
        ("memory", ""),
    ]
    assert copied(done[2]) == [made]
    assert failures == [error]


def test_a_backup_that_cannot_be_copied_does_not_keep_older_ones_from_it(
    plan: PlanOnDisk, memory: MemoryStore
) -> None:
    older, newer = (store_backup(plan.store, NOW - days * timedelta(days=1)) for days in (1, 0))
    memory.fail("put", StoreError("odd"), key_contains=newer, times=None)
    done, failures = sync_stores(among(plan, memory))
    assert copied(done[1]) == [older]
    assert [told(failure) for failure in failures] == ["odd"]


def test_the_largest_archive_is_sent_first(plan: PlanOnDisk, memory: MemoryStore) -> None:
    """What lies there alone would grow old meanwhile, and be litter to a prune."""
    store_backup(plan.store, NOW)
    synced(among(plan, memory))
    sent = [call.key.rpartition("/")[2] for call in memory.calls if call.operation == "put"]
    sizes = [len(BODIES[name][1]) for name in sent if name in BODIES]
    assert sizes == sorted(sizes, reverse=True)
    assert len(sizes) == len(BODIES)


def test_a_heal_that_fails_leaves_the_damaged_manifest(plan: PlanOnDisk, memory: MemoryStore) -> None:
    """Without any manifest, the archives that are right would be litter."""
    made = store_backup(plan.store, NOW)
    synced(among(plan, memory))
    damaged_manifest(memory, made)
    lost_archive(memory, made)
    memory.fail("put", StoreForbidden("no"), key_contains=naming.FACTS_ARCHIVE)
    _, failures = sync_stores(among(plan, memory))
    assert [error.message for error in failures] == ["no"]
    assert copies(memory).keys() == {made}


@pytest.mark.parametrize("what", [naming.MANIFEST_NAME, naming.MAIN_ARCHIVE])
def test_nothing_is_replaced_where_nothing_is_deleted(plan: PlanOnDisk, what: str) -> None:
    memory = MemoryStore(name="memory", append_only=True)
    made = store_backup(plan.store, NOW)
    synced(among(plan, memory))
    flip(memory, made, what)
    scrub_stores(among(plan, memory), [memory], everything=True)
    before = len(memory.calls)
    _, (told,) = sync_stores(among(plan, memory))
    assert "nothing is ever replaced there" in told.message
    assert "by hand" in told.hint
    assert {call.operation for call in memory.calls[before:]} <= {"list", "get"}


def test_a_verification_that_failed_for_damage_does_not_count_once_it_is_healed(
    plan: PlanOnDisk, memory: MemoryStore
) -> None:
    made = store_backup(plan.store, NOW, verdict=Verdict.VERIFIED)
    synced(among(plan, memory))
    flip(plan.store, made)
    copy = copies(plan.store)[made]
    record(plan.loaded, copy, _proof(plan.loaded, copy, "full"), datetime.now(UTC), "0a1b2c")
    assert copies(plan.store)[made].verdict is Verdict.FAILED
    assert [each.healed for each in synced(among(plan, memory))["local"].copied] == [True]
    assert copies(plan.store)[made].verdict is Verdict.VERIFIED


@pytest.mark.parametrize("verdict", [Verdict.VERIFIED, None], ids=["verified-before", "never-verified"])
def test_what_a_verification_found_damaged_is_kept_until_it_is_healed(
    plan: PlanOnDisk, memory: MemoryStore, verdict: Verdict | None
) -> None:
    """Else this store deleted it as failed, and the other in its own time: it was gone everywhere."""
    for days in range(5):
        store_backup(plan.store, NOW - days * DAY)
    made = store_backup(plan.store, NOW - 8 * DAY, verdict=verdict)
    destinations = among(plan, memory)
    synced(destinations)
    flip(plan.store, made)
    record(plan.loaded, copies(plan.store)[made], _proof(plan.loaded, copies(plan.store)[made], "full"),
           datetime.now(UTC), "0a1b2c")  # fmt: skip
    make_older(plan.store, made, 8 * DAY)
    kept, _ = prune_plan(destinations, own=None)
    assert DAMAGED in kept.kept[made]
    assert copies(plan.store)[made].is_damaged
    assert [each.backup_id for each in synced(destinations)["local"].copied if each.healed] == [made]
    assert copies(plan.store)[made].verdict is verdict


@pytest.mark.parametrize(
    "error",
    [StoreForbidden("no right"), StoreError("input/output error"), StoreUnreachable("no answer")],
    ids=["forbidden", "bad-sector", "no-answer"],
)
def test_what_a_source_cannot_give_does_not_keep_others_from_being_copied(
    plan: PlanOnDisk, memory: MemoryStore, error: StoreError
) -> None:
    source = MemoryStore(name="source")
    new, old = store_backup(source, NOW), store_backup(source, NOW - DAY)
    source.fail("get", error, key_contains=f"{new}/main", times=None)
    (_, done), failures = sync_stores(plan.loaded.model_copy(update={"stores": [source, memory]}))
    assert copied(done) == [old]
    assert done.lacking.keys() == {new}
    assert failures[0] is error
    assert bool(copies(source)[new].problem) == (type(error) is StoreError)


def test_a_hold_that_a_source_cannot_give_does_not_keep_others_from_being_copied(
    plan: PlanOnDisk, memory: MemoryStore
) -> None:
    source = MemoryStore(name="source")
    new, old = store_backup(source, NOW, holds=("audit",)), store_backup(source, NOW - DAY)
    source.fail("get", StoreForbidden("no right"), key_contains="holds/", times=None)
    (_, done), (told,) = sync_stores(plan.loaded.model_copy(update={"stores": [source, memory]}))
    assert copied(done) == [old]
    assert done.lacking == {new: "a hold cannot be copied from source: no right"}
    assert told.message == done.lacking[new]


def test_one_bad_reading_of_a_source_is_no_damage(plan: PlanOnDisk, memory: MemoryStore) -> None:
    source = MemoryStore(name="source")
    made = store_backup(source, NOW)
    source.fail("get", StoreError("input/output error"), key_contains="main")
    sync_stores(plan.loaded.model_copy(update={"stores": [source, memory]}))
    assert copies(source)[made].problem == ""


def test_what_is_damaged_and_whole_nowhere_is_told_at_every_sync(
    plan: PlanOnDisk, memory: MemoryStore
) -> None:
    made = store_backup(plan.store, NOW)
    synced(among(plan, memory))
    for store in (plan.store, memory):
        flip(store, made)
    scrub_stores(among(plan, memory), [plan.store, memory], everything=True)
    done, failures = sync_stores(among(plan, memory))
    assert [each.lacking.keys() for each in done] == [{made}, {made}]
    assert [isinstance(error, ChecksumMismatch) for error in failures] == [True, True]
    assert f"backup {made} on local is damaged, and no destination" in failures[0].message


def test_passing_trouble_of_one_source_comes_before_damage_of_another(
    plan: PlanOnDisk, memory: MemoryStore
) -> None:
    """Only what may pass by itself is tried again."""
    second = MemoryStore(name="second")
    made = store_backup(plan.store, NOW)
    synced(among(plan, second))
    flip(plan.store, made)
    second.fail("get", StoreUnreachable("blip"), key_contains="main")
    sources = Sources([plan.store, second])
    (archive,) = (each for each in manifests_of(second, made).archives if each.name == naming.MAIN_ARCHIVE)
    key = naming.object_key(PLAN, made, archive.name)
    with pytest.raises(StoreUnreachable, match="blip"):
        copy_archive.fn(archive, key, sources, memory, Progress("sync", 0))
    assert copy_archive.fn(archive, key, sources, memory, Progress("sync", 0)) == "second"


def test_another_manifest_is_not_replaced_because_an_archive_is_missing_too(
    plan: PlanOnDisk, memory: MemoryStore
) -> None:
    made = store_backup(plan.store, NOW)
    synced(among(plan, memory))
    other = manifests.encode(manifests_of(memory, made).model_copy(update={"label": "another"}))
    memory.put(naming.manifest_key(PLAN, made), [other])
    lost_archive(memory, made)
    _, (told,) = sync_stores(among(plan, memory))
    assert told.message == f"backup {made} is not the same on local and memory"
    assert memory.read(naming.manifest_key(PLAN, made)) == other


def manifests_of(store: Store, identifier: BackupId) -> Manifest:
    return manifests.decode(store.read(naming.manifest_key(PLAN, identifier)))
