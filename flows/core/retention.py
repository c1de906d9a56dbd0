"""Which backups are kept, and why: grandfather, father, son, and never without a verified one.

Pure: whoever calls tells the clocks. A backup that failed its verification takes no slot of any tier,
and the verified ones have tiers of their own, so that a day, week or month keeps its newest verified
backup as well as its newest. A damaged one takes no slot either, but stays as long as if it were sound:
it may be healed, and what found the damage may have been wrong.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ConfigDict, Field, field_validator

from flows.core.errors import PruneRefused
from flows.core.naming import BackupId
from flows.core.verification import Verdict

GRACE = timedelta(hours=24)
CLOCK_TOLERANCE = timedelta(hours=1)
DAMAGED = "damaged: kept for a scrub to make sure and sync to heal, or to be deleted by hand"
_WEIGHT = {Verdict.VERIFIED: 3, Verdict.FAILED: 2, Verdict.UNVERIFIABLE: 1, None: 0}


class RetentionPolicy(BaseModel):
    """How long the backups of a plan are kept.

    Each number counts twice: over all backups that did not fail, and over the verified ones alone.
    A period without a backup does not use up a slot.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    keep_last: int = Field(0, ge=0, description="How many of the newest backups to keep.")
    keep_daily: int = Field(30, ge=0, description="For how many days to keep the day's newest backup.")
    keep_weekly: int = Field(12, ge=0, description="For how many ISO weeks to keep the week's newest backup.")
    keep_monthly: int = Field(12, ge=0, description="For how many months to keep the month's newest backup.")
    keep_yearly: int = Field(0, ge=0, description="For how many years to keep the year's newest backup.")
    min_keep: int = Field(3, ge=1, description="The newest backups that stay whatever else is said here.")
    time_zone: str = Field("UTC", description="IANA time zone in which days, weeks, months and years begin.")

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError, OSError):  # OSError: a directory of zones, as in "Europe"
            raise ValueError(f"no such time zone: {value!r}; write one such as Europe/Madrid") from None
        return value


@dataclass(frozen=True)
class CatalogueEntry:
    """A committed backup, as far as retention looks at it.

    Args:
        started_at: UTC-aware.
        verdict: The one that counts of this backup; None if it was never verified.
        holds: Names of the holds that are in force.
        damaged: Some of its bytes are known to be lost or wrong; the verdict is as if they were not.
    """

    backup_id: BackupId
    started_at: datetime
    verdict: Verdict | None = None
    holds: tuple[str, ...] = ()
    damaged: bool = False


@dataclass(frozen=True)
class Prunable:
    """What a prune may delete, oldest first, and what it keeps, newest first, with the reasons."""

    deletable: list[BackupId]
    kept: dict[BackupId, list[str]]


def retained(backups: Iterable[CatalogueEntry], policy: RetentionPolicy) -> dict[BackupId, list[str]]:
    """Return the backups to keep, newest first, each with the reasons it is kept.

    For each period the newest backup of each of the last `keep_<period>` days, ISO weeks, months
    or years that hold one is kept; an empty period does not use up a slot. This is counted twice: over
    all backups that did not fail, and over the verified ones alone. Damaged ones do not count; of them
    those are kept that would be if none were damaged.

    Args:
        backups: Committed backups of one plan; any order, duplicates allowed (a backup's holds are
            joined, a verdict `verified` counts before `failed`, and that before any other, and damage
            counts before soundness).
        policy: How many of each period to keep; periods are counted in its time zone.

    Source: restic's `forget`, without its keep-the-oldest clause.
    """
    newest_first = _newest_first(backups)
    reasons = defaultdict(list)
    for backup_id, reason in _reasons([entry for entry in newest_first if not entry.damaged], policy):
        reasons[backup_id].append(reason)
    kept_if_sound = {backup_id for backup_id, _ in _reasons(newest_first, policy)}
    for entry in newest_first:
        if entry.damaged and entry.backup_id in kept_if_sound:
            reasons[entry.backup_id].append(DAMAGED)
    return {entry.backup_id: reasons[entry.backup_id] for entry in newest_first if entry.backup_id in reasons}


def prunable(
    backups: Iterable[CatalogueEntry],
    policy: RetentionPolicy,
    *,
    now: datetime,
    modified_at: Mapping[BackupId, datetime],
    store_now: datetime,
    own: BackupId | None,
) -> Prunable:
    """Return which backups of one store may be deleted: those that neither the policy nor caution keeps.

    Args:
        backups: As for `retained`; all those of the plan on this store.
        now: UTC-aware, by the clock that also dates new backups.
        modified_at: When each backup's newest object was written, by the store's clock; a backup
            that is not in it is kept.
        store_now: The store's clock.
        own: The backup that this very run made.

    Raises:
        PruneRefused: A backup was started more than an hour from `now` in the future: some clock is
            wrong, and with it the order in which backups would be deleted.
    """
    newest_first = _newest_first(backups)
    _check_clocks(newest_first, now)
    reasons = retained(newest_first, policy)
    for entry in newest_first:
        if caution := list(_cautions(entry.backup_id, modified_at, store_now, own)):
            reasons[entry.backup_id] = [*reasons.get(entry.backup_id, ()), *caution]
    ordered = [entry.backup_id for entry in newest_first]
    return Prunable(
        deletable=[backup_id for backup_id in reversed(ordered) if backup_id not in reasons],
        kept={backup_id: reasons[backup_id] for backup_id in ordered if backup_id in reasons},
    )


def litter(
    newest_object_at: Mapping[BackupId, datetime],
    committed: Collection[BackupId],
    store_now: datetime,
    grace: timedelta = GRACE,
) -> list[BackupId]:
    """Return the ids, oldest first, below which objects but no manifest lie and nothing was written lately.

    Args:
        newest_object_at: When the newest object below each id was written, by the store's clock.
        committed: The ids that have a manifest on this store.
        store_now: The store's clock.
        grace: A younger id may belong to a backup that is still being uploaded.
    """
    return sorted(
        backup_id
        for backup_id, written_at in newest_object_at.items()
        if backup_id not in committed and store_now - written_at >= grace
    )


def _newest_first(backups: Iterable[CatalogueEntry]) -> list[CatalogueEntry]:
    """Return every backup once; of two that started in the same second the id decides."""
    merged: dict[BackupId, CatalogueEntry] = {}
    for entry in backups:
        known = merged.get(entry.backup_id, entry)
        merged[entry.backup_id] = CatalogueEntry(
            entry.backup_id,
            max(known.started_at, entry.started_at),
            max(known.verdict, entry.verdict, key=_WEIGHT.__getitem__),
            tuple(sorted({*known.holds, *entry.holds})),
            known.damaged or entry.damaged,
        )
    return sorted(merged.values(), key=lambda entry: (entry.started_at, entry.backup_id), reverse=True)


def _reasons(newest_first: list[CatalogueEntry], policy: RetentionPolicy) -> Iterator[tuple[BackupId, str]]:
    """Yield every reason to keep one of the backups, the simplest first."""
    sound = [entry for entry in newest_first if entry.verdict is not Verdict.FAILED]
    verified = [entry for entry in newest_first if entry.verdict is Verdict.VERIFIED]
    for entry in newest_first[:1]:
        yield entry.backup_id, "newest"
    for entry in verified[:1]:
        yield entry.backup_id, "newest verified"
    for entry in newest_first:
        yield from ((entry.backup_id, f"held: {name}") for name in entry.holds)
    last = sound[: policy.keep_last]
    yield from ((entry.backup_id, f"one of the last {policy.keep_last}") for entry in last)
    for entry in verified[: policy.keep_last]:
        if entry not in last:
            yield entry.backup_id, f"one of the last {policy.keep_last} verified"
    of_sound, of_verified = dict(_slots(sound, policy)), dict(_slots(verified, policy))
    yield from ((backup_id, slot) for slot, backup_id in of_sound.items())
    for slot, backup_id in of_verified.items():
        if of_sound.get(slot) != backup_id:
            yield backup_id, f"{slot}, verified"
    for entry in newest_first[: policy.min_keep]:
        yield entry.backup_id, f"one of the newest {policy.min_keep}"


def _slots(newest_first: list[CatalogueEntry], policy: RetentionPolicy) -> Iterator[tuple[str, BackupId]]:
    """Yield each slot of each tier, such as "weekly 2026-W53", with the newest backup in it."""
    zone = ZoneInfo(policy.time_zone)
    for tier, period, keep in (
        ("daily", "%Y-%m-%d", policy.keep_daily),
        ("weekly", "%G-W%V", policy.keep_weekly),
        ("monthly", "%Y-%m", policy.keep_monthly),
        ("yearly", "%Y", policy.keep_yearly),
    ):
        newest: dict[str, BackupId] = {}
        for entry in newest_first:
            newest.setdefault(f"{tier} {entry.started_at.astimezone(zone):{period}}", entry.backup_id)
        yield from islice(newest.items(), keep)


def _check_clocks(newest_first: list[CatalogueEntry], now: datetime) -> None:
    for entry in newest_first[:1]:
        if entry.started_at > now + CLOCK_TOLERANCE:
            raise PruneRefused(
                f"backup {entry.backup_id} was started in the future: it is {now:%Y-%m-%d %H:%M %Z} now",
                "set the clock of this host, or of the host that made the backup, and prune again; "
                "a backup with a wrong time is best deleted by its id",
            )


def _cautions(
    backup_id: BackupId,
    modified_at: Mapping[BackupId, datetime],
    store_now: datetime,
    own: BackupId | None,
) -> Iterator[str]:
    if backup_id == own:
        yield "this run's own"
    if backup_id not in modified_at:
        yield "of unknown age on the store"
    elif store_now - modified_at[backup_id] < GRACE:
        yield "younger than 24 h on the store"
