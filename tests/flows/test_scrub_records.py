"""Records of looks: whatever a writer's clock says, they are read back by the store's."""

from datetime import UTC, datetime, timedelta

import pytest

from blocks.stores.memory import MemoryStore
from flows import scrub_records
from flows.catalogue import read_store
from flows.core import naming
from flows.core.naming import BackupId
from flows.core.scrubs import Look, ScrubRecord
from flows.scrub_records import records_on, write_look
from tests.servers.backups import PLAN, store_backup

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
NOW = datetime(2026, 1, 28, 6, tzinfo=UTC)


class Host:
    """Its clock, as it stands in for `datetime` where records are written."""

    def __init__(self, moment: datetime) -> None:
        self.moment = moment

    def now(self, zone: object) -> datetime:
        assert zone is UTC
        return self.moment


@pytest.mark.parametrize("found", [False, True], ids=["damage", "heal"])
@pytest.mark.parametrize("slow", [2 * HOUR, -2 * HOUR], ids=["slow", "fast"])
def test_what_a_host_with_a_wrong_clock_found_last_counts(
    monkeypatch: pytest.MonkeyPatch, slow: timedelta, found: bool
) -> None:
    store = MemoryStore(name="memory")
    made = store_backup(store, NOW - DAY)
    (copy,) = read_store(store, PLAN)
    for moment, behind, intact in [(NOW - HOUR, timedelta(), not found), (NOW, slow, found)]:
        store.set_clock(lambda at=moment: at)  # type: ignore[misc]
        monkeypatch.setattr(scrub_records, "datetime", Host(moment - behind))
        look = look_at(made, moment - behind, copy.manifest_sha256, intact)
        assert write_look(store, PLAN, "scrub", look) is None
    (copy,) = read_store(store, PLAN)
    assert (copy.problem == "") is found


@pytest.mark.parametrize(
    ("name", "read_at"),
    [
        pytest.param("20260128T040000Z-0a1b2c.json", NOW - timedelta(seconds=1), id="of-a-slow-host"),
        pytest.param("19700101T000000Z-0a1b2c.json", NOW - 2 * HOUR, id="of-a-stopped-clock"),
        pytest.param("copy of a record.json", NOW - 2 * HOUR, id="of-no-time"),
    ],
)
def test_a_records_name_tells_its_writers_clock(name: str, read_at: datetime) -> None:
    store = MemoryStore(name="memory")
    store.set_clock(lambda: NOW)
    look = look_at(naming.backup_id(NOW - DAY, "0a1b2c"), NOW - 2 * HOUR, "0" * 64, True)
    record = ScrubRecord(plan=PLAN, destination="memory", looks=(look,))
    store.create(naming.scrubs_prefix(PLAN) + name, record.encode())
    ((read,),) = (each.looks for each in records_on(store, PLAN).values())
    assert read.read_at == read_at


def look_at(made: BackupId, read_at: datetime, manifest_sha256: str, intact: bool) -> Look:
    return Look(
        backup_id=made,
        archive=naming.MAIN_ARCHIVE,
        manifest_sha256=manifest_sha256,
        read_at=read_at,
        intact=intact,
    )
