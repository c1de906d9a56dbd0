"""Before a backup every destination is looked at: one that hangs counts as one that is down."""

from datetime import UTC, datetime, timedelta

import pytest

from blocks.errors import StoreUnreachable
from flows.tasks import preflight
from tests.servers.backups import store_backup
from tests.servers.plan import PlanOnDisk

LOCAL = {"name": "local", "kind": "local", "path": "store"}
SECOND = {"name": "second", "kind": "local", "path": "second"}

pytestmark = pytest.mark.usefixtures("hanging_second")


def test_beside_another_destination_one_that_hangs_is_warned_of(
    plan: PlanOnDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "LOOK_SECONDS", 2)  # enough for the one that answers
    made = store_backup(plan.store, datetime.now(UTC) - timedelta(days=1))
    plan.write(stores=[SECOND, LOCAL])
    last, warnings = preflight._last_backup(plan.loaded)
    assert last is not None
    assert last.backup_id == made
    assert warnings == ["the store second cannot be read: second gave no answer within 2 s"]


def test_an_only_destination_that_hangs_is_unreachable(
    plan: PlanOnDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "LOOK_SECONDS", 0.05)
    plan.write(stores=[SECOND])
    with pytest.raises(StoreUnreachable, match=r"second gave no answer within 0\.05 s"):
        preflight._last_backup(plan.loaded)
