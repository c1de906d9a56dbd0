"""What a sync copies, for any two histories: only what the next prune would keep, so both come to rest."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flows.core import naming
from flows.core.lacking import lacking
from flows.core.retention import CatalogueEntry, RetentionPolicy, retained
from flows.core.verification import Verdict

START = datetime(2025, 10, 1, tzinfo=UTC)
fast = settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])


def entry(hours: int, verdict: Verdict | None, holds: tuple[str, ...]) -> CatalogueEntry:
    started_at = START + timedelta(hours=hours)
    return CatalogueEntry(naming.backup_id(started_at, f"{hours:06x}"), started_at, verdict, holds)


def histories(*verdicts: Verdict | None) -> st.SearchStrategy[list[CatalogueEntry]]:
    """Backups of half a year, some in the same hour on both sides; each id once."""
    entries = st.builds(
        entry,
        st.one_of(st.integers(0, 60), st.integers(0, 24 * 180)),
        st.sampled_from(verdicts),
        st.sampled_from([(), (), (), ("legal",)]),
    )
    return st.lists(entries, max_size=20, unique_by=lambda each: each.backup_id)


SLOTS = st.integers(0, 4)
POLICIES = st.builds(
    RetentionPolicy,
    keep_last=st.integers(0, 2),
    keep_daily=SLOTS,
    keep_weekly=SLOTS,
    keep_monthly=SLOTS,
    min_keep=st.integers(1, 4),
    time_zone=st.sampled_from(["UTC", "Europe/Madrid"]),
)
ANY = histories(None, *Verdict)
NOT_FAILED = histories(None, Verdict.VERIFIED, Verdict.UNVERIFIABLE)
UNVERIFIED = histories(None)


@fast
@given(ANY, ANY, POLICIES)
def test_what_is_copied_was_lacking_and_is_kept_by_the_next_prune(
    here: list[CatalogueEntry], elsewhere: list[CatalogueEntry], policy: RetentionPolicy
) -> None:
    wanted = lacking(here, elsewhere, policy)
    copied = [each for each in elsewhere if each.backup_id in wanted]
    assert sorted(wanted, reverse=True) == wanted
    assert len(copied) == len(wanted)
    assert not {each.backup_id for each in here} & {*wanted}
    assert {*wanted} <= retained([*here, *copied], policy).keys()
    assert lacking([*here, *copied], elsewhere, policy) == []


@fast
@given(NOT_FAILED, UNVERIFIED, POLICIES)
def test_after_a_sync_and_a_prune_nothing_is_lacking(
    here: list[CatalogueEntry], elsewhere: list[CatalogueEntry], policy: RetentionPolicy
) -> None:
    """A hold that was put on one copy only goes to the other by the next sync, and then this holds, too."""
    holds = {each.backup_id: each.holds for each in here}
    elsewhere = [replace(each, holds=holds.get(each.backup_id, each.holds)) for each in elsewhere]
    wanted = lacking(here, elsewhere, policy)
    whole = [*here, *(each for each in elsewhere if each.backup_id in wanted)]
    kept = retained(whole, policy)
    assert lacking([each for each in whole if each.backup_id in kept], elsewhere, policy) == []


@fast
@given(UNVERIFIED, POLICIES)
def test_an_empty_destination_gets_what_retention_keeps_and_no_more(
    elsewhere: list[CatalogueEntry], policy: RetentionPolicy
) -> None:
    assert lacking([], elsewhere, policy) == list(retained(elsewhere, policy))


def test_a_verdict_of_another_destination_would_make_prune_and_sync_undo_each_other() -> None:
    """So whoever asks tells how the backup would stand here: unverified."""
    policy = RetentionPolicy(keep_daily=1, keep_weekly=0, keep_monthly=0, min_keep=1)
    newest, old = entry(100, None, ()), entry(1, Verdict.VERIFIED, ())
    assert lacking([newest], [old], policy) == [old.backup_id]
    assert old.backup_id not in retained([newest, replace(old, verdict=None)], policy)
