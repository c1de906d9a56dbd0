"""What a scrub reads and remembers: nothing stays unread for too long, and no damage is forgotten."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flows.core import naming
from flows.core.errors import ManifestUnreadable
from flows.core.naming import BackupId
from flows.core.scrubs import (
    EVERY,
    NEVER,
    Look,
    ScrubRecord,
    StoredArchive,
    decode,
    due,
    is_intact_since,
    known_damage,
    last_scrub_at,
    newest_looks,
    superseded,
)
from tests.servers.backups import manifest_of

DAY, WEEK = timedelta(days=1), timedelta(weeks=1)
NOW = datetime(2026, 1, 28, 6, tzinfo=UTC)
NAMES = ("main.dump.zst.gpg", "facts.json.zst.gpg")

fast = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])


def identifier(number: int) -> BackupId:
    return naming.backup_id(NOW - number * DAY, f"{number:06x}")


def archives_of(drawn: list[tuple[int, int, bool]]) -> list[StoredArchive]:
    """Return archives from (age in days, size, whether it is intact)."""
    return [
        StoredArchive(identifier(number), NAMES[0], size, NOW - age * DAY, intact)
        for number, (age, size, intact) in enumerate(drawn)
    ]


ARCHIVES = st.lists(
    st.tuples(st.integers(0, 40), st.integers(1, 10**6), st.sampled_from([True, True, True, False])),
    max_size=25,
).map(archives_of)
LOOKS = st.builds(
    Look,
    backup_id=st.integers(0, 3).map(identifier),
    archive=st.sampled_from(NAMES),
    manifest_sha256=st.just("0" * 64),
    read_at=st.integers(0, 20).map(lambda days: NOW - days * DAY),
    intact=st.booleans(),
)
RECORDS = st.dictionaries(
    st.text("abcdef", min_size=1, max_size=3),
    st.builds(
        ScrubRecord,
        plan=st.just("shop"),
        destination=st.just("local"),
        by=st.sampled_from(["scrub", "sync"]),
        looks=st.lists(LOOKS, max_size=4).map(tuple),
    ),
    max_size=8,
)


@fast
@given(ARCHIVES, st.integers(1, 60), st.lists(st.integers(0, 3), min_size=8, max_size=8))
def test_with_a_scrub_a_week_nothing_is_unread_for_longer_than_the_plan_says(
    archives: list[StoredArchive], days: int, made_a_week: list[int]
) -> None:
    within = timedelta(days=days)
    held = {archive.backup_id: archive for archive in archives}
    now, scrubbed_at = NOW, None
    for week, made in enumerate(made_a_week):
        if week:
            assert all(now - archive.read_at <= max(within, WEEK) for archive in held.values())
        for archive in due(held.values(), now, within=within, scrubbed_at=scrubbed_at):
            held[archive.backup_id] = StoredArchive(archive.backup_id, archive.name, archive.size_bytes, now)
        for number in range(made):
            new = naming.backup_id(now, f"{number:06x}")
            held[new] = StoredArchive(new, NAMES[0], 1000, now)
        scrubbed_at, now = now, now + WEEK


@fast
@given(ARCHIVES, st.integers(9, 60))
def test_what_no_deadline_asks_for_is_spread_over_the_weeks(archives: list[StoredArchive], days: int) -> None:
    within = timedelta(days=days)
    chosen = due(archives, NOW, within=within, scrubbed_at=NOW - WEEK)
    share = sum(archive.size_bytes for archive in archives) * (WEEK / within)
    optional = [archive for archive in chosen if archive.intact and NOW + EVERY - archive.read_at <= within]
    assert not optional or sum(archive.size_bytes for archive in chosen[:-1]) < share


@fast
@given(ARCHIVES, st.integers(1, 60))
def test_known_damage_is_read_first_and_every_time(archives: list[StoredArchive], days: int) -> None:
    chosen = due(archives, NOW, within=timedelta(days=days), scrubbed_at=NOW)
    damaged = [archive for archive in archives if not archive.intact]
    assert {each.backup_id for each in chosen[: len(damaged)]} == {each.backup_id for each in damaged}
    assert len({each.backup_id for each in chosen}) == len(chosen)


def test_a_scrub_right_after_another_reads_nothing_that_can_wait() -> None:
    archives = archives_of([(1, 100, True), (2, 100, True)])
    assert due(archives, NOW, within=30 * DAY, scrubbed_at=NOW) == []
    assert due(archives, NOW, within=30 * DAY, scrubbed_at=None) == [archives[1]]


def test_what_is_said_to_be_read_at_a_time_yet_to_come_is_read_first() -> None:
    archives = archives_of([(20, 100, True), (-400, 100, True)])
    assert [each.backup_id for each in due(archives, NOW, within=30 * DAY, scrubbed_at=NOW)] == [
        identifier(1)
    ]


HOUR, SECOND = timedelta(hours=1), timedelta(seconds=1)


@dataclass(frozen=True)
class Host:
    """Whose clock is ahead of the store's by so much."""

    ahead: timedelta

    def record(self, read_at: datetime, intact: bool, written_after: timedelta = SECOND) -> ScrubRecord:
        """Return what the store gives of a look; both moments are by the store's clock."""
        look = Look(
            backup_id=identifier(0),
            archive=NAMES[0],
            manifest_sha256="0" * 64,
            read_at=read_at + self.ahead,
            intact=intact,
        )
        written_at = read_at + written_after
        named_at = (written_at + self.ahead).replace(microsecond=0)
        record = ScrubRecord(plan="shop", destination="local", looks=(look,))
        return record.by_stores_clock(written_at.replace(microsecond=0), named_at)


GOOD, SLOW, FAST, STOPPED = (Host(ahead) for ahead in (timedelta(), -2 * HOUR, 400 * DAY, -9000 * DAY))


def is_damaged(*records: ScrubRecord) -> bool:
    return known_damage(manifest_of(identifier(0), NOW), "0" * 64, newest_looks(records)) != ""


@pytest.mark.parametrize(
    ("earlier", "later", "damaged"),
    [
        pytest.param(GOOD.record(NOW - HOUR, True), SLOW.record(NOW, False), True, id="found-by-slow"),
        pytest.param(GOOD.record(NOW - HOUR, False), SLOW.record(NOW, True), False, id="healed-by-slow"),
        pytest.param(FAST.record(NOW - HOUR, True), GOOD.record(NOW, False), True, id="found-after-fast"),
        pytest.param(FAST.record(NOW - HOUR, False), GOOD.record(NOW, True), False, id="healed-after-fast"),
        pytest.param(GOOD.record(NOW - HOUR, True), STOPPED.record(NOW, False), True, id="found-by-stopped"),
        pytest.param(SLOW.record(NOW - HOUR, False), SLOW.record(NOW, True), False, id="both-slow"),
        pytest.param(
            SLOW.record(NOW - HOUR, False, 3 * HOUR), GOOD.record(NOW, True), False, id="scrub-outlasts-heal"
        ),
        pytest.param(
            GOOD.record(NOW - HOUR, True, 3 * HOUR), SLOW.record(NOW, False), True, id="scrub-outlasts-damage"
        ),
    ],
)
def test_the_look_that_began_last_counts_whoevers_clock_is_wrong(
    earlier: ScrubRecord, later: ScrubRecord, damaged: bool
) -> None:
    assert is_damaged(earlier, later) is is_damaged(later, earlier) is damaged


@fast
@given(
    st.lists(st.timedeltas(-23 * HOUR, 400 * DAY).map(Host), min_size=2, max_size=2),
    st.timedeltas(10 * SECOND, 9 * DAY),
    st.lists(st.timedeltas(timedelta(), 9 * DAY), min_size=2, max_size=2),
    st.booleans(),
)
def test_no_clock_and_no_late_record_changes_which_look_counts(
    hosts: list[Host], apart: timedelta, written_after: list[timedelta], intact: bool
) -> None:
    earlier = hosts[0].record(NOW - apart, not intact, written_after[0])
    assert is_damaged(earlier, hosts[1].record(NOW, intact, written_after[1])) is not intact


def test_a_store_whose_objects_a_copy_dated_anew_forgets_no_damage_and_takes_nothing_for_read() -> None:
    copied = STOPPED  # looks the same: the objects' dates are far later than their names
    assert is_damaged(copied.record(NOW, False), copied.record(NOW - SECOND, True))
    (look,) = copied.record(NOW, True).looks
    assert look.read_at == NOW + STOPPED.ahead
    assert not is_damaged(copied.record(NOW, False), GOOD.record(NOW + HOUR, True))


@pytest.mark.parametrize(
    ("read_at", "named_at", "counts_as"),
    [
        pytest.param(NOW + 400 * DAY, NOW, NOW + SECOND, id="read-after-it-was-written"),
        pytest.param(NOW + 400 * DAY, None, NOW + SECOND, id="no-name"),
        pytest.param(NOW - DAY, None, NOW - DAY, id="no-name-but-possible"),
        pytest.param(NOW - DAY, NOW - 2 * SECOND, NOW - DAY, id="clocks-agree"),
        pytest.param(NOW - DAY, NOW + HOUR, NOW - DAY - HOUR - SECOND, id="fast"),
        pytest.param(datetime.max.replace(tzinfo=UTC), NOW - HOUR, NOW + SECOND, id="latest-there-is"),
        pytest.param(NEVER, NOW + HOUR, NEVER, id="earliest-there-is"),
    ],
)
def test_no_look_is_from_later_than_its_record(
    read_at: datetime, named_at: datetime | None, counts_as: datetime
) -> None:
    look = Look(backup_id=identifier(0), archive=NAMES[0], manifest_sha256="", read_at=read_at, intact=True)
    record = ScrubRecord(plan="shop", destination="local", looks=(look,))
    (dated,) = record.by_stores_clock(NOW, named_at).looks
    assert dated.read_at == counts_as


@pytest.mark.parametrize(("verified_ago", "intact"), [(HOUR, True), (-HOUR, False)])
def test_what_a_slow_host_read_after_a_verification_is_intact_since(
    verified_ago: timedelta, intact: bool
) -> None:
    manifest = manifest_of(identifier(0), NOW)
    (look,) = SLOW.record(NOW, True).looks
    looks = {
        (identifier(0), archive.name): look.model_copy(update={"archive": archive.name})
        for archive in manifest.archives
    }
    assert is_intact_since(manifest, "0" * 64, looks, NOW - verified_ago) is intact


@fast
@given(RECORDS, st.sets(st.integers(0, 3).map(identifier)))
def test_clearing_superseded_records_changes_nothing_that_counts(
    records: dict[str, ScrubRecord], present: set[BackupId]
) -> None:
    gone = superseded(records, present)
    left = {name: record for name, record in records.items() if name not in gone}

    def counting(some: dict[str, ScrubRecord]) -> dict[tuple[BackupId, str], Look]:
        return {place: look for place, look in newest_looks(some.values()).items() if place[0] in present}

    assert counting(left) == counting(records)
    assert superseded(left, present) == []


def test_a_record_of_what_is_gone_is_superseded_and_one_of_what_is_there_is_not() -> None:
    look = Look(backup_id=identifier(0), archive=NAMES[0], manifest_sha256="", read_at=NOW, intact=False)
    records = {"a": ScrubRecord(plan="shop", destination="local", looks=(look,))}
    assert superseded(records, {identifier(0)}) == []
    assert superseded(records, {identifier(1)}) == ["a"]


@fast
@given(RECORDS)
def test_the_newest_look_counts_and_of_two_at_once_the_damage(records: dict[str, ScrubRecord]) -> None:
    for place, counting in newest_looks(records.values()).items():
        others = [look for each in records.values() for look in each.looks if look.place == place]
        latest = [look for look in others if look.read_at == max(other.read_at for other in others)]
        assert counting in latest
        assert counting.intact == all(look.intact for look in latest)


@fast
@given(RECORDS)
def test_a_record_is_read_back_as_it_was_written(records: dict[str, ScrubRecord]) -> None:
    for record in records.values():
        assert decode(record.encode()) == record


def test_what_a_sync_looked_at_is_no_scrub() -> None:
    look = Look(backup_id=identifier(0), archive=NAMES[0], manifest_sha256="", read_at=NOW, intact=True)
    synced = ScrubRecord(plan="shop", destination="local", by="sync", looks=(look,))
    assert last_scrub_at([synced]) is None
    assert last_scrub_at([synced, synced.model_copy(update={"by": "scrub"})]) == NOW


@pytest.mark.parametrize("body", [b"", b"\xff", b"{}", b"null", b'{"format_version": 2, "looks": []}'])
def test_what_is_no_record_tells_of_no_look(body: bytes) -> None:
    with pytest.raises(ManifestUnreadable, match="not readable"):
        decode(body)


def test_a_records_key_belongs_to_no_backup() -> None:
    key = naming.scrub_key("shop", NOW, "0a1b2c")
    assert key == "shop/scrubs/20260128T060000Z-0a1b2c.json"
    assert naming.split_key("shop", key) is None


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        pytest.param(
            {},
            "main.dump.zst.gpg: its checksum was not the manifest's when it was read again at"
            " 2026-01-28 06:00:00 UTC",
            id="damaged",
        ),
        pytest.param({"intact": True}, "", id="intact"),
        pytest.param({"manifest_sha256": "1" * 64}, "", id="of-another-manifest"),
        pytest.param({"backup_id": identifier(1)}, "", id="of-another-backup"),
        pytest.param({"archive": "gone.dump.zst.gpg"}, "", id="of-no-archive-of-it"),
    ],
)
def test_damage_is_known_of_the_archives_of_this_very_manifest(changed: dict[str, object], said: str) -> None:
    look = Look(
        backup_id=identifier(0), archive=NAMES[0], manifest_sha256="0" * 64, read_at=NOW, intact=False
    ).model_copy(update=changed)
    manifest = manifest_of(identifier(0), NOW)
    assert known_damage(manifest, "0" * 64, {look.place: look}) == said
