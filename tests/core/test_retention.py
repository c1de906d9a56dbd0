"""Retention in examples: calendars and their corners, caution, litter, and four hundred nights."""

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from pydantic import ValidationError

from flows.core import naming
from flows.core.errors import PruneRefused
from flows.core.naming import BackupId
from flows.core.retention import CatalogueEntry, Prunable, RetentionPolicy, litter, prunable, retained
from flows.core.verification import Verdict

NOTHING = {
    "keep_last": 0,
    "keep_daily": 0,
    "keep_weekly": 0,
    "keep_monthly": 0,
    "keep_yearly": 0,
    "min_keep": 1,
}
VERDICTS = {"": None, "ok": Verdict.VERIFIED, "bad": Verdict.FAILED, "unsure": Verdict.UNVERIFIABLE}
MADRID = "Europe/Madrid"
NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def policy(**settings: Any) -> RetentionPolicy:
    """Return a policy that keeps nothing but the newest and what is asked for."""
    return RetentionPolicy.model_validate(NOTHING | settings)


def entry(text: str, holds: Iterable[str] = ()) -> CatalogueEntry:
    """Return a backup from its UTC start and its verdict, such as "2026-01-28 02:00 ok"."""
    day, time, *verdict = text.split()
    started_at = datetime.fromisoformat(f"{day}T{time}+00:00")
    return CatalogueEntry(
        naming.backup_id(started_at, "4f9c2a"), started_at, VERDICTS["".join(verdict)], tuple(holds)
    )


def identifier(text: str) -> BackupId:
    return entry(text).backup_id


def reasons(backups: Iterable[CatalogueEntry], kept_by: RetentionPolicy) -> dict[str, list[str]]:
    """Return the reasons by start, such as "2026-01-28 02:00"."""
    return {
        f"{naming.started_at(key):%Y-%m-%d %H:%M}": value for key, value in retained(backups, kept_by).items()
    }


def newest(*slots: str) -> list[str]:
    return ["newest", *slots, "one of the newest 1"]


@pytest.mark.parametrize(
    ("settings", "backups", "expected"),
    [
        pytest.param({"keep_daily": 9}, [], {}, id="no-backup-at-all"),
        pytest.param(
            {}, ["2026-01-27 02:00", "2026-01-28 02:00"], {"2026-01-28 02:00": newest()}, id="no-tier"
        ),
        pytest.param(
            {"keep_daily": 2, "time_zone": MADRID},
            ["2026-01-27 22:30", "2026-01-27 23:30"],
            {
                "2026-01-27 23:30": newest("daily 2026-01-28"),
                "2026-01-27 22:30": ["daily 2026-01-27"],
            },
            id="midnight-in-madrid-parts-two-days",
        ),
        pytest.param(
            {"keep_daily": 2},
            ["2026-01-27 22:30", "2026-01-27 23:30"],
            {"2026-01-27 23:30": newest("daily 2026-01-27")},
            id="in-utc-they-are-one-day",
        ),
        pytest.param(
            {"keep_daily": 3, "time_zone": MADRID},
            ["2026-01-27 22:59", "2026-01-27 23:00", "2026-01-28 22:59", "2026-01-28 23:00"],
            {
                "2026-01-28 23:00": newest("daily 2026-01-29"),
                "2026-01-28 22:59": ["daily 2026-01-28"],
                "2026-01-27 22:59": ["daily 2026-01-27"],
            },
            id="a-day-begins-at-its-first-second",
        ),
        pytest.param(
            {"keep_daily": 3, "time_zone": MADRID},
            ["2026-03-28 22:59", "2026-03-28 23:00", "2026-03-29 21:59", "2026-03-29 22:00"],
            {
                "2026-03-29 22:00": newest("daily 2026-03-30"),
                "2026-03-29 21:59": ["daily 2026-03-29"],
                "2026-03-28 22:59": ["daily 2026-03-28"],
            },
            id="a-day-of-23-hours",
        ),
        pytest.param(
            {"keep_daily": 3, "time_zone": MADRID},
            ["2026-10-24 21:59", "2026-10-24 22:00", "2026-10-25 22:59", "2026-10-25 23:00"],
            {
                "2026-10-25 23:00": newest("daily 2026-10-26"),
                "2026-10-25 22:59": ["daily 2026-10-25"],
                "2026-10-24 21:59": ["daily 2026-10-24"],
            },
            id="a-day-of-25-hours",
        ),
        pytest.param(
            {"keep_daily": 1, "time_zone": MADRID},
            ["2026-10-25 00:30", "2026-10-25 01:30"],
            {"2026-10-25 01:30": newest("daily 2026-10-25")},
            id="half-past-two-twice-keeps-the-second",
        ),
        pytest.param(
            {"keep_daily": 2, "time_zone": "America/St_Johns"},
            ["2010-11-07 02:20", "2010-11-07 02:30", "2010-11-07 02:40"],
            {
                "2010-11-07 02:40": newest("daily 2010-11-06"),
                "2010-11-07 02:30": ["daily 2010-11-07"],
            },
            id="a-clock-that-goes-back-over-midnight",
        ),
        pytest.param(
            {"keep_weekly": 3},
            ["2020-12-27 02:00", "2020-12-28 02:00", "2021-01-03 23:59", "2021-01-04 00:00"],
            {
                "2021-01-04 00:00": newest("weekly 2021-W01"),
                "2021-01-03 23:59": ["weekly 2020-W53"],
                "2020-12-27 02:00": ["weekly 2020-W52"],
            },
            id="week-53-of-2020-ends-in-2021",
        ),
        pytest.param(
            {"keep_weekly": 2, "keep_yearly": 2},
            ["2026-12-31 02:00", "2027-01-03 02:00", "2027-01-04 02:00"],
            {
                "2027-01-04 02:00": newest("weekly 2027-W01", "yearly 2027"),
                "2027-01-03 02:00": ["weekly 2026-W53"],
                "2026-12-31 02:00": ["yearly 2026"],
            },
            id="week-53-of-2026-while-years-are-the-calendars",
        ),
        pytest.param(
            {"keep_weekly": 2},
            ["2024-01-01 02:00", "2024-12-30 02:00"],
            {
                "2024-12-30 02:00": newest("weekly 2025-W01"),
                "2024-01-01 02:00": ["weekly 2024-W01"],
            },
            id="the-first-week-of-2025-begins-in-2024",
        ),
        pytest.param(
            {"keep_daily": 3, "keep_monthly": 2},
            ["2028-02-28 02:00", "2028-02-29 02:00", "2028-03-01 02:00"],
            {
                "2028-03-01 02:00": newest("daily 2028-03-01", "monthly 2028-03"),
                "2028-02-29 02:00": ["daily 2028-02-29", "monthly 2028-02"],
                "2028-02-28 02:00": ["daily 2028-02-28"],
            },
            id="a-leap-day-ends-february",
        ),
        pytest.param(
            {"keep_daily": 2},
            ["2026-01-27 02:00", "2026-01-27 14:00", "2026-01-28 02:00", "2026-01-28 14:00"],
            {
                "2026-01-28 14:00": newest("daily 2026-01-28"),
                "2026-01-27 14:00": ["daily 2026-01-27"],
            },
            id="a-day-with-two-backups-keeps-the-newer",
        ),
        pytest.param(
            {"keep_daily": 1},
            ["2026-01-28 02:00 ok", "2026-01-28 08:00 ok", "2026-01-28 14:00"],
            {
                "2026-01-28 14:00": newest("daily 2026-01-28"),
                "2026-01-28 08:00": ["newest verified", "daily 2026-01-28, verified"],
            },
            id="and-its-newest-verified-one",
        ),
        pytest.param(
            {"keep_weekly": 1},
            ["2026-01-26 02:00 ok", "2026-01-27 02:00 ok", "2026-01-28 02:00 unsure", "2026-01-29 02:00 bad"],
            {
                "2026-01-29 02:00": newest(),
                "2026-01-28 02:00": ["weekly 2026-W05"],
                "2026-01-27 02:00": ["newest verified", "weekly 2026-W05, verified"],
            },
            id="a-week-whose-newest-failed",
        ),
        pytest.param(
            {"keep_daily": 2},
            ["2026-01-20 02:00 ok", "2026-01-25 02:00 ok", "2026-01-26 02:00", "2026-01-27 02:00 bad",
             "2026-01-28 02:00 unsure", "2026-01-29 02:00 bad"],
            {
                "2026-01-29 02:00": newest(),
                "2026-01-28 02:00": ["daily 2026-01-28"],
                "2026-01-26 02:00": ["daily 2026-01-26"],
                "2026-01-25 02:00": ["newest verified", "daily 2026-01-25, verified"],
                "2026-01-20 02:00": ["daily 2026-01-20, verified"],
            },
            id="failed-and-unverified-ones-between-verified-ones",
        ),
        pytest.param(
            {"keep_daily": 3},
            ["2024-02-29 02:00", "2025-06-01 02:00", "2025-11-05 02:00", "2026-01-28 02:00"],
            {
                "2026-01-28 02:00": newest("daily 2026-01-28"),
                "2025-11-05 02:00": ["daily 2025-11-05"],
                "2025-06-01 02:00": ["daily 2025-06-01"],
            },
            id="gaps-use-no-slot",
        ),
        pytest.param(
            {"keep_monthly": 2, "keep_yearly": 3},
            ["2024-05-31 02:00", "2024-06-30 02:00", "2025-12-31 02:00", "2026-01-28 02:00"],
            {
                "2026-01-28 02:00": newest("monthly 2026-01", "yearly 2026"),
                "2025-12-31 02:00": ["monthly 2025-12", "yearly 2025"],
                "2024-06-30 02:00": ["yearly 2024"],
            },
            id="each-tier-counts-on-its-own",
        ),
        pytest.param(
            {"keep_yearly": 2},
            ["2026-01-01 02:00", "2026-01-28 02:00"],
            {"2026-01-28 02:00": newest("yearly 2026")},
            id="the-oldest-is-not-kept-for-being-the-oldest",
        ),
        pytest.param(
            {"keep_last": 2},
            ["2026-01-24 02:00 ok", "2026-01-25 02:00 ok", "2026-01-26 02:00 ok", "2026-01-27 02:00",
             "2026-01-28 02:00 ok", "2026-01-29 02:00 bad"],
            {
                "2026-01-29 02:00": newest(),
                "2026-01-28 02:00": ["newest verified", "one of the last 2"],
                "2026-01-27 02:00": ["one of the last 2"],
                "2026-01-26 02:00": ["one of the last 2 verified"],
            },
            id="the-last-two-and-the-last-two-verified",
        ),
        pytest.param(
            {"min_keep": 3, "keep_daily": 1},
            ["2026-01-25 02:00", "2026-01-26 02:00 bad", "2026-01-27 02:00 bad", "2026-01-28 02:00 bad"],
            {
                "2026-01-28 02:00": ["newest", "one of the newest 3"],
                "2026-01-27 02:00": ["one of the newest 3"],
                "2026-01-26 02:00": ["one of the newest 3"],
                "2026-01-25 02:00": ["daily 2026-01-25"],
            },
            id="min-keep-counts-all-even-failed-ones",
        ),
        pytest.param(
            {},
            ["2020-01-01 02:00 ok", "2020-01-02 02:00 ok", "2026-01-28 02:00 bad"],
            {"2026-01-28 02:00": newest(), "2020-01-02 02:00": ["newest verified"]},
            id="the-newest-verified-one-however-old",
        ),
    ],
)  # fmt: skip
def test_what_is_kept_and_why(
    settings: dict[str, Any], backups: list[str], expected: dict[str, list[str]]
) -> None:
    found = reasons(map(entry, backups), policy(**settings))
    assert found == expected
    assert list(found) == list(expected), "newest first"


def test_a_held_backup_is_kept_and_names_every_hold() -> None:
    held = entry("2020-01-01 02:00 bad", holds=("legal", "before-migration"))
    found = reasons([held, entry("2026-01-28 02:00")], policy())
    assert found["2020-01-01 02:00"] == ["held: before-migration", "held: legal"]


@pytest.mark.parametrize(
    ("verdicts", "counting"),
    [(("", "ok"), "ok"), (("ok", "bad"), "ok"), (("unsure", "bad"), "bad"), (("", "unsure"), "unsure")],
)
def test_of_a_backup_told_twice_the_holds_are_joined_and_the_weightier_verdict_counts(
    verdicts: tuple[str, str], counting: str
) -> None:
    first, second = (entry(f"2026-01-28 02:00 {verdict}", holds=(f"{verdict}?",)) for verdict in verdicts)
    once = entry(f"2026-01-28 02:00 {counting}", holds=tuple(f"{verdict}?" for verdict in verdicts))
    for twice in ([first, second], [second, first]):
        assert retained(twice, policy(keep_daily=1)) == retained([once], policy(keep_daily=1))


def test_of_two_backups_of_the_same_second_the_greater_id_is_the_newer() -> None:
    started_at = datetime(2026, 1, 28, 2, tzinfo=UTC)
    low, high = (
        CatalogueEntry(naming.backup_id(started_at, tail), started_at) for tail in ("000001", "000002")
    )
    assert list(retained([high, low], policy(keep_daily=1))) == [high.backup_id]


def test_the_default_keeps_thirty_days_twelve_weeks_and_twelve_months_in_utc() -> None:
    assert RetentionPolicy().model_dump() == {
        "keep_last": 0, "keep_daily": 30, "keep_weekly": 12, "keep_monthly": 12, "keep_yearly": 0,
        "min_keep": 3, "time_zone": "UTC",
    }  # fmt: skip


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"keep_daily": -1}, id="a-negative-number"),
        pytest.param({"min_keep": 0}, id="no-backup-need-stay"),
        pytest.param({"keep_dayly": 3}, id="a-typo"),
        pytest.param({"keep_daily": "many"}, id="a-word"),
        pytest.param({"time_zone": ""}, id="no-zone"),
        pytest.param({"time_zone": "Europe"}, id="a-directory-of-zones"),
        pytest.param({"time_zone": "Europe/Madrd"}, id="a-misspelt-zone"),
        pytest.param({"time_zone": "../../etc/passwd"}, id="a-path"),
        pytest.param({"time_zone": "x" * 5000}, id="a-very-long-name"),
    ],
)
def test_an_impossible_policy_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        RetentionPolicy.model_validate(settings)


def test_a_policy_explains_each_field_in_a_sentence() -> None:
    for name, field in RetentionPolicy.model_fields.items():
        assert (field.description or "").endswith("."), name


def pruned(
    backups: Iterable[CatalogueEntry],
    kept_by: RetentionPolicy,
    *,
    ages: dict[BackupId, timedelta] | None = None,
    own: BackupId | None = None,
    now: datetime = NOW,
) -> Prunable:
    """Prune a store whose clock is an hour behind, where objects are two days old unless told otherwise."""
    backups = list(backups)
    store_now = NOW - timedelta(hours=1)
    modified_at = {item.backup_id: store_now - (ages or {}).get(item.backup_id, 2 * DAY) for item in backups}
    return prunable(backups, kept_by, now=now, modified_at=modified_at, store_now=store_now, own=own)


OLD = ["2026-05-01 02:00", "2026-05-03 02:00 bad", "2026-05-02 02:00 ok"]
LAST = "2026-05-30 02:00"


def test_what_nobody_needs_is_deletable_oldest_first_and_the_rest_is_kept_newest_first() -> None:
    result = pruned(map(entry, [*OLD, LAST]), policy())
    assert result.deletable == [identifier(OLD[0]), identifier(OLD[1])]
    assert list(result.kept.items()) == [
        (identifier(LAST), ["newest", "one of the newest 1"]),
        (identifier(OLD[2]), ["newest verified"]),
    ]


def test_the_only_verified_backup_is_not_deletable_whatever_came_after() -> None:
    backups = [entry("2020-01-01 02:00 ok"), *(entry(f"2026-05-{day:02} 02:00 bad") for day in range(1, 31))]
    assert backups[0].backup_id not in pruned(backups, policy()).deletable


def test_a_run_never_deletes_its_own_backup() -> None:
    result = pruned(map(entry, [*OLD, LAST]), policy(), own=identifier(OLD[0]))
    assert result.kept[identifier(OLD[0])] == ["this run's own"]
    assert result.deletable == [identifier(OLD[1])]


@pytest.mark.parametrize(
    ("age", "is_deletable"),
    [
        (timedelta(hours=24), True),
        (timedelta(hours=24, microseconds=-1), False),
        (timedelta(0), False),
        (-DAY, False),
    ],
)
def test_the_stores_clock_decides_what_is_too_young_to_delete(age: timedelta, is_deletable: bool) -> None:
    young = identifier(OLD[0])
    result = pruned(map(entry, [*OLD, LAST]), policy(), ages={young: age})
    assert (young in result.deletable) == is_deletable
    assert result.kept.get(young) == (None if is_deletable else ["younger than 24 h on the store"])


def test_a_backup_of_unknown_age_is_kept() -> None:
    backups = [entry(text) for text in (*OLD, LAST)]
    result = prunable(backups, policy(), now=NOW, modified_at={}, store_now=NOW, own=None)
    assert result.deletable == []
    assert result.kept[identifier(OLD[0])] == ["of unknown age on the store"]


def test_caution_is_told_beside_the_policys_reasons() -> None:
    result = pruned(
        [entry(LAST)], policy(keep_daily=1), own=identifier(LAST), ages={identifier(LAST): DAY / 2}
    )
    assert result.kept[identifier(LAST)] == [
        *newest("daily 2026-05-30"),
        "this run's own",
        "younger than 24 h on the store",
    ]


def test_a_backup_from_the_future_stops_every_deletion() -> None:
    ahead = "2026-06-01 13:01"
    with pytest.raises(PruneRefused, match=identifier(ahead)) as caught:
        pruned(map(entry, [*OLD, ahead, LAST]), policy())
    assert "clock" in caught.value.hint


def test_an_hour_ahead_is_tolerated() -> None:
    assert pruned(map(entry, [*OLD, "2026-06-01 13:00"]), policy()).deletable


def test_litter_is_what_has_no_manifest_and_was_not_written_to_for_a_day() -> None:
    ages = {
        identifier("2026-05-03 02:00"): timedelta(hours=24),
        identifier("2026-05-01 02:00"): 30 * DAY,
        identifier("2026-05-02 02:00"): 30 * DAY,
        identifier("2026-05-31 02:00"): timedelta(hours=24, microseconds=-1),
        identifier("2026-05-31 23:00"): -DAY,
    }
    newest_object_at = {key: NOW - age for key, age in ages.items()}
    committed = {identifier("2026-05-02 02:00")}
    assert litter(newest_object_at, committed, NOW) == [
        identifier("2026-05-01 02:00"),
        identifier("2026-05-03 02:00"),
    ]
    assert litter(newest_object_at, committed, NOW, grace=31 * DAY) == []


NIGHTS = [date(2025, 1, 1) + number * DAY for number in range(400)]


def nightly(verdict_of: dict[int, Verdict | None]) -> list[CatalogueEntry]:
    """Back up and prune at 02:00 in Madrid on every night, and return what is there after the last."""
    kept_by = RetentionPolicy(time_zone=MADRID)
    store: dict[BackupId, CatalogueEntry] = {}
    for number, night in enumerate(NIGHTS):
        started_at = datetime(night.year, night.month, night.day, 2, tzinfo=ZoneInfo(MADRID)).astimezone(UTC)
        own = naming.backup_id(started_at, f"{number:06x}")
        store[own] = CatalogueEntry(own, started_at, verdict_of.get(number, Verdict.VERIFIED))
        now = started_at + timedelta(minutes=30)
        modified_at = {key: item.started_at + timedelta(minutes=10) for key, item in store.items()}
        for key in prunable(
            store.values(), kept_by, now=now, modified_at=modified_at, store_now=now, own=own
        ).deletable:
            del store[key]
    return list(store.values())


def iso_week(night: date) -> tuple[int, int]:
    return night.isocalendar()[:2]


def local_date(item: CatalogueEntry) -> date:
    return item.started_at.astimezone(ZoneInfo(MADRID)).date()


def test_four_hundred_nights_leave_a_month_of_days_a_quarter_of_sundays_and_a_year_of_month_ends() -> None:
    days = set(NIGHTS[-30:])
    sundays = {night for night in NIGHTS if night.isoweekday() == 7}
    month_ends = {night for night in NIGHTS if (night + DAY).day == 1}
    expected = days | set(sorted(sundays)[-11:]) | set(sorted(month_ends)[-11:])
    assert NIGHTS[-1].isoweekday() != 7
    assert NIGHTS[-1] not in month_ends
    assert {local_date(item) for item in nightly({})} == expected


def test_four_hundred_nights_with_failures_keep_as_many_verified_periods() -> None:
    failed = dict.fromkeys(range(0, 400, 3), Verdict.FAILED)
    unverified = dict.fromkeys(range(0, 400, 7))
    left = nightly(failed | unverified)
    proved = [local_date(item) for item in left if item.verdict is Verdict.VERIFIED]
    assert len({(night.year, night.month) for night in proved}) == 12
    assert {iso_week(night) for night in proved} >= set(sorted(set(map(iso_week, NIGHTS)))[-12:])
    assert len(proved) >= 30
    assert len(left) <= 2 * (30 + 12 + 12) + 3
    assert sum(item.verdict is Verdict.FAILED for item in left) <= 3
