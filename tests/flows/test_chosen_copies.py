"""Which of a backup's copies is verified next, and which is restored."""

from datetime import UTC, datetime, timedelta

import pytest

from blocks.stores import Store
from blocks.stores.memory import MemoryStore
from flows import restore, verify
from flows.core import naming
from flows.core.naming import BackupId
from flows.core.verification import Verdict
from flows.plan import BackupPlan
from tests.servers.backups import PLAN, store_backup
from tests.servers.plan import PlanOnDisk

NOW = datetime.now(UTC) - timedelta(days=1)


def with_copies(plan: PlanOnDisk, *verdicts: Verdict | None) -> tuple[BackupPlan, BackupId]:
    """Return a plan with a store for each verdict, and the backup that lies on all of them."""
    stores: list[Store] = [MemoryStore(name=f"store-{number}") for number, _ in enumerate(verdicts)]
    (made,) = {
        store_backup(store, NOW, verdict=verdict) for store, verdict in zip(stores, verdicts, strict=True)
    }
    return plan.loaded.model_copy(update={"stores": stores}), made


@pytest.mark.parametrize("wanted", ["latest", "oldest-unverified"])
def test_a_damaged_copy_is_verified_last(plan: PlanOnDisk, wanted: str) -> None:
    loaded, made = with_copies(plan, None, Verdict.UNVERIFIABLE, None)
    loaded.stores[0].delete(naming.object_key(PLAN, made, naming.FACTS_ARCHIVE))
    assert verify._chosen(loaded, wanted, "").store.name == "store-2"


def test_a_verified_copy_is_restored_rather_than_one_that_failed(plan: PlanOnDisk) -> None:
    loaded, _ = with_copies(plan, Verdict.FAILED, Verdict.UNVERIFIABLE, None, Verdict.VERIFIED)
    assert restore._chosen(loaded, "latest", "").store.name == "store-3"
