"""Retention's invariants, on any history: what must never be lost, and what must not matter."""

from collections import defaultdict
from collections.abc import Callable, Hashable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random
from zoneinfo import ZoneInfo

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flows.core import naming
from flows.core.naming import BackupId
from flows.core.retention import DAMAGED, GRACE, CatalogueEntry, RetentionPolicy, litter, prunable, retained
from flows.core.verification import Verdict

EPOCH = datetime(2025, 10, 1, tzinfo=UTC)
NOW = EPOCH + timedelta(days=2000)
TIERS = ("daily", "weekly", "monthly", "yearly")
PERIODS: dict[str, Callable[[datetime], Hashable]] = {
    "daily": lambda at: at.date(),
    "weekly": lambda at: at.isocalendar()[:2],
    "monthly": lambda at: (at.year, at.month),
    "yearly": lambda at: at.year,
}

fast = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def histories(draw: st.DrawFn) -> list[CatalogueEntry]:
    """Backups dense in days or spread over years, some in the same second, oldest first."""
    hours = draw(st.sampled_from([1, 9, 24, 24 * 9]))
    drawn = draw(
        st.lists(
            st.tuples(
                st.integers(0, 200),
                st.sampled_from([None, *Verdict]),
                st.sampled_from([(), (), (), (), ("legal",)]),
            ),
            max_size=25,
        )
    )
    entries = []
    for number, (step, verdict, holds) in enumerate(drawn):
        started_at = EPOCH + timedelta(hours=step * hours)
        entries.append(
            CatalogueEntry(naming.backup_id(started_at, f"{number:06x}"), started_at, verdict, holds)
        )
    return sorted(entries, key=lambda entry: (entry.started_at, entry.backup_id))


HISTORIES = histories()
SLOTS = st.integers(0, 4)
POLICIES = st.builds(
    RetentionPolicy,
    keep_last=st.integers(0, 2),
    keep_daily=SLOTS,
    keep_weekly=SLOTS,
    keep_monthly=SLOTS,
    keep_yearly=SLOTS,
    min_keep=st.integers(1, 4),
    time_zone=st.sampled_from(["UTC", "Europe/Madrid", "Pacific/Auckland", "America/St_Johns"]),
)


@st.composite
def partly_damaged(draw: st.DrawFn) -> list[CatalogueEntry]:
    """Histories in which any backup may be damaged, whatever its verdict."""
    return [replace(entry, damaged=draw(st.booleans())) for entry in draw(HISTORIES)]


DAMAGED_HISTORIES = partly_damaged()


def sound(backups: list[CatalogueEntry]) -> list[CatalogueEntry]:
    return [entry for entry in backups if entry.verdict is not Verdict.FAILED]


def verified(backups: list[CatalogueEntry]) -> list[CatalogueEntry]:
    return [entry for entry in backups if entry.verdict is Verdict.VERIFIED]


def newest_of_periods(
    backups: list[CatalogueEntry], tier: str, policy: RetentionPolicy
) -> list[CatalogueEntry]:
    """Return the newest backup of every period that holds one, newest first."""
    periods = defaultdict(list)
    for entry in backups:
        periods[PERIODS[tier](entry.started_at.astimezone(ZoneInfo(policy.time_zone)))].append(entry)
    return sorted((entries[-1] for entries in periods.values()), key=backups.index, reverse=True)


def slots(backups: list[CatalogueEntry], policy: RetentionPolicy) -> list[tuple[str, BackupId]]:
    """Return which backup holds which slot, without the reasons that count failed backups too."""
    return [
        (reason, backup_id)
        for backup_id, reasons in retained(backups, policy).items()
        for reason in reasons
        if reason.startswith((*TIERS, "one of the last"))
    ]


def keep(policy: RetentionPolicy, tier: str) -> int:
    number: int = getattr(policy, f"keep_{tier}")
    return number


@fast
@given(HISTORIES, POLICIES)
def test_exactly_what_the_rule_says_is_kept(backups: list[CatalogueEntry], policy: RetentionPolicy) -> None:
    expected = {*backups[-1:], *verified(backups)[-1:], *backups[-policy.min_keep :]}
    expected |= {entry for entry in backups if entry.holds}
    for group in (sound(backups), verified(backups)):
        expected |= set(group[-policy.keep_last :] if policy.keep_last else [])
        for tier in TIERS:
            expected |= set(newest_of_periods(group, tier, policy)[: keep(policy, tier)])
    assert set(retained(backups, policy)) == {entry.backup_id for entry in expected}


@fast
@given(HISTORIES.filter(bool), POLICIES)
def test_the_newest_the_newest_verified_and_the_held_are_always_kept(
    backups: list[CatalogueEntry], policy: RetentionPolicy
) -> None:
    kept = retained(backups, policy)
    assert "newest" in kept[backups[-1].backup_id]
    for entry in verified(backups)[-1:]:
        assert "newest verified" in kept[entry.backup_id]
    assert all("held: legal" in kept[entry.backup_id] for entry in backups if entry.holds)


@fast
@given(HISTORIES, POLICIES)
def test_never_fewer_than_min_keep_are_left(backups: list[CatalogueEntry], policy: RetentionPolicy) -> None:
    kept = retained(backups, policy)
    assert all(entry.backup_id in kept for entry in backups[-policy.min_keep :])


@fast
@given(DAMAGED_HISTORIES, POLICIES)
def test_every_kept_backup_is_one_of_them_has_its_reasons_once_and_comes_newest_first(
    backups: list[CatalogueEntry], policy: RetentionPolicy
) -> None:
    kept = retained(backups, policy)
    assert list(kept) == [entry.backup_id for entry in reversed(backups) if entry.backup_id in kept]
    for reasons in kept.values():
        assert reasons
        assert len(set(reasons)) == len(reasons)


@fast
@given(DAMAGED_HISTORIES, POLICIES, st.randoms(use_true_random=False))
def test_order_and_duplicates_do_not_matter(
    backups: list[CatalogueEntry], policy: RetentionPolicy, random: Random
) -> None:
    shuffled = [*backups, *random.sample(backups, len(backups) // 2)]
    random.shuffle(shuffled)
    kept = retained(backups, policy)
    again = retained(iter(shuffled), policy)
    assert list(again.items()) == list(kept.items())


@fast
@given(DAMAGED_HISTORIES, POLICIES)
def test_what_was_kept_is_kept_again_for_the_same_reasons(
    backups: list[CatalogueEntry], policy: RetentionPolicy
) -> None:
    kept = retained(backups, policy)
    assert retained([entry for entry in backups if entry.backup_id in kept], policy) == kept


@fast
@given(DAMAGED_HISTORIES, POLICIES)
def test_pruning_after_every_backup_leaves_what_pruning_once_leaves(
    backups: list[CatalogueEntry], policy: RetentionPolicy
) -> None:
    left: list[CatalogueEntry] = []
    for entry in backups:
        left.append(entry)
        kept = retained(left, policy)
        left = [survivor for survivor in left if survivor.backup_id in kept]
    assert [entry.backup_id for entry in reversed(left)] == list(retained(backups, policy))


@fast
@given(HISTORIES, POLICIES)
def test_a_failed_backup_takes_no_slot(backups: list[CatalogueEntry], policy: RetentionPolicy) -> None:
    assert slots(backups, policy) == slots(sound(backups), policy)


@fast
@given(DAMAGED_HISTORIES, POLICIES)
def test_no_sound_backup_is_kept_or_deleted_for_another_reason_because_of_a_damaged_one(
    backups: list[CatalogueEntry], policy: RetentionPolicy
) -> None:
    whole = [entry for entry in backups if not entry.damaged]
    damaged = {entry.backup_id for entry in backups if entry.damaged}
    kept = retained(backups, policy)
    assert {key: reasons for key, reasons in kept.items() if key not in damaged} == retained(whole, policy)


@fast
@given(DAMAGED_HISTORIES, POLICIES)
def test_damage_deletes_nothing_that_would_be_kept_without_it_and_keeps_no_damaged_backup_longer(
    backups: list[CatalogueEntry], policy: RetentionPolicy
) -> None:
    damaged = {entry.backup_id for entry in backups if entry.damaged}
    kept = retained(backups, policy)
    if_sound = retained([replace(entry, damaged=False) for entry in backups], policy).keys()
    assert if_sound <= kept.keys()
    assert kept.keys() & damaged == if_sound & damaged
    assert all(kept[backup_id] == [DAMAGED] for backup_id in kept.keys() & damaged)


@fast
@given(HISTORIES.filter(bool), POLICIES, st.data())
def test_a_backup_that_turns_out_bad_costs_no_other_backup(
    backups: list[CatalogueEntry], policy: RetentionPolicy, data: st.DataObject
) -> None:
    bad = data.draw(st.sampled_from(backups))
    after = [replace(entry, verdict=Verdict.FAILED) if entry == bad else entry for entry in backups]
    assert set(retained(backups, policy)) - set(retained(after, policy)) <= {bad.backup_id}


@fast
@given(HISTORIES.filter(bool), POLICIES, st.data())
def test_a_backup_that_is_kept_stays_kept_when_it_is_proved(
    backups: list[CatalogueEntry], policy: RetentionPolicy, data: st.DataObject
) -> None:
    proved = data.draw(st.sampled_from(backups))
    after = [replace(entry, verdict=Verdict.VERIFIED) if entry == proved else entry for entry in backups]
    if proved.backup_id in retained(backups, policy):
        assert proved.backup_id in retained(after, policy)


@fast
@given(HISTORIES, POLICIES, st.sampled_from(TIERS), st.integers(0, 300))
def test_a_new_verified_backup_pushes_at_most_the_oldest_slot_out_of_a_tier(
    backups: list[CatalogueEntry], policy: RetentionPolicy, tier: str, hours: int
) -> None:
    started_at = (backups[-1].started_at if backups else EPOCH) + timedelta(hours=hours)
    new = CatalogueEntry(naming.backup_id(started_at, "ffffff"), started_at, Verdict.VERIFIED)
    before, after = (
        [
            slot
            for slot, _ in slots(history, policy)
            if slot.startswith(tier) and not slot.endswith("verified")
        ]
        for history in (backups, [*backups, new])
    )
    lost = [slot for slot in before if slot not in after]
    assert lost in ([], before[-1:])


@fast
@given(HISTORIES, POLICIES, st.sampled_from(TIERS))
def test_a_period_that_is_kept_keeps_its_newest_verified_backup_too(
    backups: list[CatalogueEntry], policy: RetentionPolicy, tier: str
) -> None:
    zone, period, kept = ZoneInfo(policy.time_zone), PERIODS[tier], retained(backups, policy)
    for newest in newest_of_periods(sound(backups), tier, policy)[: keep(policy, tier)]:
        assert newest.backup_id in kept
        of_period = [
            entry
            for entry in verified(backups)
            if period(entry.started_at.astimezone(zone)) == period(newest.started_at.astimezone(zone))
        ]
        assert all(entry.backup_id in kept for entry in of_period[-1:])


@fast
@given(HISTORIES, POLICIES, st.sampled_from(TIERS))
def test_only_periods_that_hold_a_backup_use_a_slot(
    backups: list[CatalogueEntry], policy: RetentionPolicy, tier: str
) -> None:
    taken = {slot.removesuffix(", verified") for slot, _ in slots(sound(backups), policy)}
    proved = {slot for slot, _ in slots(verified(backups), policy) if slot.startswith(tier)}
    assert len(proved) == min(keep(policy, tier), len(newest_of_periods(verified(backups), tier, policy)))
    assert proved <= taken


@fast
@given(
    DAMAGED_HISTORIES,
    POLICIES,
    st.sampled_from(["keep_last", "min_keep", *(f"keep_{tier}" for tier in TIERS)]),
)
def test_a_larger_number_never_deletes_more(
    backups: list[CatalogueEntry], policy: RetentionPolicy, field: str
) -> None:
    larger = policy.model_copy(update={field: getattr(policy, field) + 1})
    assert set(retained(backups, policy)) <= set(retained(backups, larger))


MODIFIED = st.dictionaries(st.integers(0, 24), st.integers(-48, 72).map(lambda hours: timedelta(hours=hours)))


@fast
@given(DAMAGED_HISTORIES, POLICIES, MODIFIED, st.integers(0, 24))
def test_own_young_and_undated_backups_are_never_deletable_nor_is_what_the_policy_keeps(
    backups: list[CatalogueEntry], policy: RetentionPolicy, ages: dict[int, timedelta], own_number: int
) -> None:
    own = backups[own_number].backup_id if own_number < len(backups) else None
    age = {entry.backup_id: ages[number] for number, entry in enumerate(backups) if number in ages}
    modified_at = {backup_id: NOW - old for backup_id, old in age.items()}
    result = prunable(backups, policy, now=NOW, modified_at=modified_at, store_now=NOW, own=own)

    kept_by_policy = retained(backups, policy)
    assert result.deletable == [
        entry.backup_id
        for entry in backups
        if entry.backup_id not in kept_by_policy
        and entry.backup_id != own
        and age.get(entry.backup_id, timedelta(0)) >= GRACE
    ]
    assert [*reversed(result.deletable)] == [
        entry.backup_id for entry in reversed(backups) if entry.backup_id not in result.kept
    ]
    assert all(result.kept.values())
    assert all(set(reasons) <= set(result.kept[key]) for key, reasons in kept_by_policy.items())


@fast
@given(DAMAGED_HISTORIES, POLICIES)
def test_a_second_prune_finds_nothing_to_delete(
    backups: list[CatalogueEntry], policy: RetentionPolicy
) -> None:
    modified_at = {entry.backup_id: entry.started_at for entry in backups}
    first = prunable(backups, policy, now=NOW, modified_at=modified_at, store_now=NOW, own=None)
    left = [entry for entry in backups if entry.backup_id in first.kept]
    second = prunable(left, policy, now=NOW, modified_at=modified_at, store_now=NOW, own=None)
    assert second.deletable == []
    assert second.kept == first.kept


@fast
@given(HISTORIES, st.sets(st.integers(0, 24)))
def test_a_committed_backup_is_never_litter(backups: list[CatalogueEntry], uncommitted: set[int]) -> None:
    written_at = {entry.backup_id: entry.started_at for entry in backups}
    committed = [entry.backup_id for number, entry in enumerate(backups) if number not in uncommitted]
    found = litter(written_at, committed, NOW)
    assert sorted([*found, *committed]) == sorted(written_at)
