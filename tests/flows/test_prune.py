"""Prune on a real store, by its clock: what goes, what stays and why, and what makes it refuse."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from blocks.errors import ConfigurationError, StoreError
from blocks.stores import LocalStore, Store
from blocks.stores.memory import MemoryStore
from flows.catalogue import Copy, read_store
from flows.core import manifest as manifests
from flows.core import naming
from flows.core.errors import ChecksumMismatch, PruneRefused
from flows.core.naming import BackupId
from flows.core.retention import DAMAGED, prunable
from flows.core.scrubs import Look, ScrubRecord
from flows.core.verification import Tier, Verdict
from flows.prune import Pruned, prune_plan
from flows.removing import delete_backup
from tests.servers.backups import PLAN, make_older, store_backup
from tests.servers.plan import PlanOnDisk

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
NOW = (datetime.now(UTC) - DAY).replace(hour=12)  # at noon, so that an hour leads into no other day
FEW = {"keep_daily": 3, "keep_weekly": 0, "keep_monthly": 0, "min_keep": 1}


@pytest.fixture
def few(plan: PlanOnDisk) -> PlanOnDisk:
    """The plan keeps three days."""
    plan.write(retention=FEW)
    return plan


def one_a_day(store: Store, days: int, **given: Verdict) -> list[BackupId]:
    """Store one backup a day, newest first."""
    return [store_backup(store, NOW - number * DAY, **given) for number in range(1, days + 1)]  # type: ignore[arg-type]


def pruned(plan: PlanOnDisk, *, dry_run: bool = False) -> Pruned:
    (done,) = prune_plan(plan.loaded, own=None, dry_run=dry_run)
    return done


def left(plan: PlanOnDisk) -> list[BackupId]:
    """Return the backups of which anything is left, newest first."""
    return sorted({BackupId(key.split("/")[1]) for key in plan.objects()}, reverse=True)


def test_the_newest_backup_of_each_of_the_last_days_is_kept(few: PlanOnDisk) -> None:
    made = one_a_day(few.store, 6)
    second_that_day = store_backup(few.store, NOW - 2 * DAY + HOUR)
    done = pruned(few)
    assert left(few) == [made[0], second_that_day, made[2]]
    assert sorted(done.deleted) == sorted([made[1], *made[3:]])
    assert done.kept[second_that_day] == [f"daily {NOW - 2 * DAY:%Y-%m-%d}"]


def test_the_last_verified_backup_outlives_every_newer_one(few: PlanOnDisk) -> None:
    verified = store_backup(few.store, NOW - 40 * DAY, verdict=Verdict.VERIFIED)
    store_backup(few.store, NOW - 50 * DAY, verdict=Verdict.VERIFIED)
    made = one_a_day(few.store, 5)
    store_backup(few.store, NOW - 20 * DAY, verdict=Verdict.FAILED)
    done = pruned(few)
    assert left(few)[:3] == made[:3]
    assert verified in left(few)
    assert "newest verified" in done.kept[verified]


@pytest.mark.parametrize("tier", ["schema", "sample"])
def test_a_cheaper_proof_verifies_no_backup_but_fails_one(few: PlanOnDisk, tier: Tier) -> None:
    cheap = store_backup(few.store, NOW - 41 * DAY, verdict=Verdict.VERIFIED, tier=tier)
    whole = store_backup(few.store, NOW - 42 * DAY, verdict=Verdict.VERIFIED)
    failed = store_backup(few.store, NOW - 43 * DAY, verdict=Verdict.FAILED, tier=tier)
    verdicts = {copy.backup_id: copy.verdict for copy in read_store(few.store, PLAN)}
    one_a_day(few.store, 5)
    done = pruned(few)
    assert verdicts == {cheap: None, whole: Verdict.VERIFIED, failed: Verdict.FAILED}
    assert cheap not in done.kept
    assert "newest verified" in done.kept[whole]


def test_a_copy_under_suspicion_takes_no_slot_and_stays_as_long_as_a_sound_one(few: PlanOnDisk) -> None:
    """A verification could not fetch it right; whether its bytes are wrong, a scrub tells later."""
    newest = store_backup(few.store, NOW - DAY)
    suspect = store_backup(few.store, NOW - 2 * DAY, verdict=Verdict.FAILED, reason=ChecksumMismatch.__name__)
    sound = [store_backup(few.store, NOW - days * DAY) for days in (3, 4)]
    store_backup(few.store, NOW - 5 * DAY, verdict=Verdict.FAILED, reason=ChecksumMismatch.__name__)
    done = pruned(few)
    assert left(few) == [newest, suspect, *sound]
    assert done.kept[suspect] == [DAMAGED]


def test_a_day_keeps_its_newest_verified_backup_beside_its_newest(few: PlanOnDisk) -> None:
    newest = store_backup(few.store, NOW - DAY)
    verified = store_backup(few.store, NOW - DAY - HOUR, verdict=Verdict.VERIFIED)
    store_backup(few.store, NOW - DAY - 2 * HOUR, verdict=Verdict.VERIFIED)
    pruned(few)
    assert left(few) == [newest, verified]


def test_a_hold_keeps_a_backup_for_as_long_as_it_lies_there(few: PlanOnDisk) -> None:
    held = store_backup(few.store, NOW - 30 * DAY, holds=("audit-2026",))
    made = one_a_day(few.store, 3)
    done = pruned(few)
    assert done.kept[held] == ["held: audit-2026"]
    few.store.delete(naming.object_key(PLAN, held, "holds/audit-2026.json"))
    pruned(few)
    assert left(few) == made


def test_a_hold_that_comes_while_prune_runs_still_counts(
    few: PlanOnDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = store_backup(few.store, NOW - 30 * DAY)
    one_a_day(few.store, 3)

    def decide_and_be_overtaken(*args: object, **kwargs: object) -> object:
        decision = prunable(*args, **kwargs)  # type: ignore[arg-type]
        few.store.create(naming.object_key(PLAN, old, "holds/late.json"), b"{}")
        return decision

    monkeypatch.setattr("flows.prune.prunable", decide_and_be_overtaken)
    assert pruned(few).kept[old] == ["held meanwhile"]
    assert old in left(few)


@pytest.mark.parametrize(
    ("age", "stays"),
    [pytest.param(23 * HOUR, True, id="under a day"), pytest.param(25 * HOUR, False, id="over a day")],
)
def test_nothing_that_the_store_dates_under_a_day_is_deleted(
    few: PlanOnDisk, age: timedelta, stays: bool
) -> None:
    """A backup's id may tell any time; the store's clock dates what was written."""
    one_a_day(few.store, 3)
    old = store_backup(few.store, NOW - 30 * DAY)
    make_older(few.store, old, age)
    done = pruned(few)
    assert (old in left(few)) is stays
    assert done.kept.get(old) == (["younger than 24 h on the store"] if stays else None)


@pytest.mark.parametrize(
    ("age", "stays"),
    [pytest.param(23 * HOUR, True, id="under a day"), pytest.param(25 * HOUR, False, id="over a day")],
)
def test_what_a_killed_run_left_is_cleared_after_a_day(few: PlanOnDisk, age: timedelta, stays: bool) -> None:
    made = one_a_day(few.store, 2)
    litter = store_backup(few.store, NOW - 2 * DAY - HOUR, committed=False)
    make_older(few.store, litter, age)
    done = pruned(few)
    assert done.litter == ([] if stays else [litter])
    assert left(few) == [*made, *([litter] if stays else [])]


@pytest.mark.parametrize("committed", [pytest.param(True, id="done"), pytest.param(False, id="at-it")])
def test_what_a_sync_takes_up_while_prune_runs_is_no_litter(
    few: PlanOnDisk, monkeypatch: pytest.MonkeyPatch, committed: bool
) -> None:
    one_a_day(few.store, 2)
    taken_up = store_backup(few.store, NOW - 2 * DAY - HOUR, committed=False)

    def look_and_be_overtaken(*_: object) -> str:
        store_backup(few.store, NOW - 2 * DAY - HOUR, committed=committed)
        make_older(few.store, taken_up, 2 * DAY if committed else HOUR)
        return ""

    monkeypatch.setattr("flows.prune.why_undeletable", look_and_be_overtaken)
    done = pruned(few)
    assert done.litter == []
    assert done.kept[taken_up] == ["never finished", "taken up meanwhile"]
    assert taken_up in left(few)


def test_what_a_sync_takes_longer_than_a_day_to_send_is_no_litter(few: PlanOnDisk) -> None:
    memory = MemoryStore(name="memory")
    one_a_day(memory, 2)
    begun = store_backup(memory, NOW - 2 * DAY - HOUR, committed=False)
    sent = memory.begin_upload(naming.object_key(PLAN, begun, naming.MAIN_ARCHIVE))
    (done,) = prune_plan(few.loaded, [memory], own=None)
    assert (done.litter, done.pending) == ([], 0)
    assert done.kept[begun] == ["never finished", "taken up meanwhile"]
    memory.abort_pending(sent)
    (done,) = prune_plan(few.loaded, [memory], own=None)
    assert done.litter == [begun]


def test_a_damaged_backup_takes_no_slot_and_stays_as_long_as_if_it_were_sound(few: PlanOnDisk) -> None:
    made = one_a_day(few.store, 6)
    for identifier in (made[1], made[4]):
        few.store.delete(naming.object_key(PLAN, identifier, naming.FACTS_ARCHIVE))
    done = pruned(few)
    assert left(few) == made[:4]
    assert done.kept[made[1]] == [DAMAGED]
    assert done.kept[made[3]] == [f"daily {NOW - 4 * DAY:%Y-%m-%d}"]
    assert done.deleted == [made[5], made[4]]


def test_one_bad_reading_of_every_verified_backup_deletes_none_that_was_kept(few: PlanOnDisk) -> None:
    made = one_a_day(few.store, 3, verdict=Verdict.VERIFIED)
    looks = [bad_look(copy) for copy in read_store(few.store, PLAN)]
    record = ScrubRecord(plan=PLAN, destination="local", looks=tuple(looks))
    few.store.create(naming.scrub_key(PLAN, datetime.now(UTC), "0a1b2c"), record.encode())
    done = pruned(few)
    assert done.deleted == []
    assert done.kept == {identifier: [DAMAGED] for identifier in made}


def bad_look(copy: Copy) -> Look:
    return Look(
        backup_id=copy.backup_id,
        archive=naming.MAIN_ARCHIVE,
        manifest_sha256=copy.manifest_sha256,
        read_at=datetime.now(UTC),
        intact=False,
    )


def with_second(plan: PlanOnDisk, **fields: object) -> LocalStore:
    """Give the plan a second destination, which keeps five days."""
    store = {"name": "second", "kind": "local", "path": "second", "keep": FEW | {"keep_daily": 5}}
    plan.write(stores=[*plan.settings["stores"], store | fields])
    return LocalStore(name="second", path=str(plan.directory / "second"))


def test_what_another_destination_has_yet_to_get_is_kept_until_it_has_it(few: PlanOnDisk) -> None:
    second = with_second(few)
    made = one_a_day(few.store, 7)
    one_a_day(second, 1)
    first, _ = prune_plan(few.loaded, own=None)
    assert left(few) == made[:5]
    assert [first.kept[identifier] for identifier in made[3:5]] == [["not yet on second"]] * 2

    one_a_day(second, 5)
    first, _ = prune_plan(few.loaded, own=None)
    assert first.deleted == [*reversed(made[3:5])]


def test_a_destination_that_does_not_answer_is_taken_to_lack_all_that_it_would_keep(few: PlanOnDisk) -> None:
    with_second(few, path="plans.toml/second")
    made = one_a_day(few.store, 7)
    with pytest.raises(StoreError, match=r"plans\.toml"):
        prune_plan(few.loaded, own=None)
    assert left(few) == made[:5]


def test_a_destination_that_is_not_pruned_now_is_taken_to_lack_all_and_is_not_asked(few: PlanOnDisk) -> None:
    with_second(few, path="plans.toml/second")
    made = one_a_day(few.store, 7)
    prune_plan(few.loaded, [few.store], own=None)
    assert left(few) == made[:5]


def test_what_no_destination_wants_a_copy_of_is_not_kept_for_another(few: PlanOnDisk) -> None:
    second = with_second(few)
    made = one_a_day(few.store, 3)
    failed = store_backup(few.store, NOW - 5 * DAY, verdict=Verdict.FAILED)
    one_a_day(second, 3)
    first, _ = prune_plan(few.loaded, own=None)
    assert first.deleted == [failed]
    assert left(few) == made


def test_a_dry_run_tells_the_same_and_deletes_nothing(few: PlanOnDisk) -> None:
    one_a_day(few.store, 6)
    store_backup(few.store, NOW - 9 * DAY, committed=False)
    before = few.objects()
    told = pruned(few, dry_run=True)
    assert few.objects() == before
    assert pruned(few) == told
    assert few.objects() != before


def test_the_manifest_goes_first(few: PlanOnDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    one_a_day(few.store, 3)
    store_backup(few.store, NOW - 30 * DAY)
    deleted: list[str] = []
    monkeypatch.setattr(LocalStore, "delete", lambda _, key: deleted.append(key.split("/")[2]))
    pruned(few)
    assert deleted[0] == "manifest.json"
    assert len(deleted) > 3


def test_a_backup_whose_manifest_nobody_understands_is_never_deleted(few: PlanOnDisk) -> None:
    one_a_day(few.store, 3)
    newer = store_backup(few.store, NOW - 30 * DAY)
    path = few.directory / "store" / naming.manifest_key(PLAN, newer)
    path.write_text(path.read_text().replace('"format_version": 1', '"format_version": 2'))
    make_older(few.store, newer, 30 * DAY)
    done = pruned(few)
    assert done.kept[newer][0].startswith("not understood, so never deleted: ")
    assert newer in left(few)


@pytest.mark.parametrize("acknowledged", [False, True])
def test_two_databases_in_one_folder_are_pruned_only_if_a_person_said_that_it_is_right(
    few: PlanOnDisk, acknowledged: bool
) -> None:
    made = one_a_day(few.store, 4)
    other = store_backup(
        few.store,
        NOW - HOUR,
        source=manifests.source_of("1", "other"),
        new_source=acknowledged,
    )
    if acknowledged:
        assert pruned(few).deleted
        return
    with pytest.raises(PruneRefused, match="holds backups of two databases") as refused:
        pruned(few)
    assert "a plan of its own" in refused.value.hint
    assert left(few) == [other, *made]


def test_a_backup_from_the_future_stops_the_prune(few: PlanOnDisk) -> None:
    made = one_a_day(few.store, 6)
    future = store_backup(few.store, datetime.now(UTC) + 2 * HOUR)
    with pytest.raises(PruneRefused, match="was started in the future"):
        pruned(few)
    assert left(few) == [future, *made]


def test_each_destination_is_pruned_by_its_own_catalogue(few: PlanOnDisk, tmp_path: Path) -> None:
    second = LocalStore(name="second", path=str(tmp_path / "second"))
    few.write(stores=[*few.settings["stores"], {"name": "second", "kind": "local", "path": "second"}])
    made = one_a_day(few.store, 4)
    only_there = one_a_day(second, 2)
    first, other = prune_plan(few.loaded, own=None)
    assert (first.deleted, other.deleted) == ([made[3]], [])
    assert sorted(other.kept) == sorted(only_there)


def test_a_destination_that_fails_does_not_keep_the_others_from_it(few: PlanOnDisk) -> None:
    one_a_day(few.store, 4)
    broken = {"name": "broken", "kind": "local", "path": "plans.toml/store"}
    few.write(stores=[broken, *few.settings["stores"]])
    with pytest.raises(StoreError, match=r"plans\.toml"):
        prune_plan(few.loaded, own=None)
    assert len(left(few)) == 3


def test_a_destination_that_is_not_set_up_here_does_not_keep_the_others_from_it(few: PlanOnDisk) -> None:
    one_a_day(few.store, 4)
    elsewhere = MemoryStore(name="elsewhere")
    elsewhere.fail("list", ConfigurationError("OFFSITE_KEY is not set"), times=None)
    plan = few.loaded.model_copy(update={"stores": [elsewhere, few.store]})
    with pytest.raises(ConfigurationError, match="OFFSITE_KEY"):
        prune_plan(plan, own=None)
    assert len(left(few)) == 3


def test_the_runs_own_backup_is_never_deleted(few: PlanOnDisk) -> None:
    made = one_a_day(few.store, 3)
    own = store_backup(few.store, NOW - 30 * DAY)
    (done,) = prune_plan(few.loaded, own=own)
    assert done.kept[own] == ["this run's own"]
    assert left(few) == [*made, own]


def test_what_another_prune_takes_at_the_same_time_is_gone_and_no_failure(few: PlanOnDisk) -> None:
    made = store_backup(few.store, NOW)
    (copy,) = read_store(few.store, PLAN)
    few.store.delete(naming.manifest_key(PLAN, made))
    assert delete_backup(few.loaded, copy) == ""
    assert list(few.store.list(naming.backup_prefix(PLAN, made))) == []
