"""The catalogues of all destinations: one that hangs is left out like one that is down."""

from datetime import UTC, datetime, timedelta

import pytest

from blocks.errors import StoreUnreachable
from flows.catalogues import read_all
from tests.servers.backups import store_backup
from tests.servers.plan import PlanOnDisk

LOCAL = {"name": "local", "kind": "local", "path": "store"}
SECOND = {"name": "second", "kind": "local", "path": "second"}

pytestmark = pytest.mark.usefixtures("hanging_second")


def test_what_another_destination_holds_is_read_all_the_same(plan: PlanOnDisk) -> None:
    made = store_backup(plan.store, datetime.now(UTC) - timedelta(days=1))
    plan.write(stores=[SECOND, LOCAL])
    told: list[str] = []
    found = read_all(plan.loaded, lambda _, error: told.append(error.message), seconds=2)
    assert [backup.backup_id for backup in found] == [made]
    assert told == ["second gave no answer within 2 s"]


def test_an_only_destination_that_hangs_is_unreachable(plan: PlanOnDisk) -> None:
    plan.write(stores=[SECOND])
    with pytest.raises(StoreUnreachable, match=r"second gave no answer within 0\.05 s"):
        read_all(plan.loaded, seconds=0.05)
