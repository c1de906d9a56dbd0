"""The doctor's look at a store: what it writes is removed, or is always the same where nothing can be."""

from datetime import UTC, datetime, timedelta

import pytest

from blocks.errors import StoreForbidden
from blocks.stores.base import StoreProblem
from blocks.stores.memory import MemoryStore
from flows.checks import Check
from flows.store_check import check_store
from tests.servers.plan import PlanOnDisk

END = datetime.now(UTC) + timedelta(days=3)


@pytest.fixture
def locking(monkeypatch: pytest.MonkeyPatch) -> MemoryStore:
    """A store that locks what is put, as a bucket with Object Lock does."""
    monkeypatch.setattr(MemoryStore, "locks_objects", property(lambda _: True))
    monkeypatch.setattr(MemoryStore, "locked_until", lambda *_: END)
    return MemoryStore()


def checked(plan: PlanOnDisk, store: MemoryStore) -> Check:
    (check,) = check_store(plan.loaded, store)
    assert check.name == f"store {store.name}"
    return check


def test_a_store_is_left_as_it_was(plan: PlanOnDisk) -> None:
    store = MemoryStore()
    assert checked(plan, store).message == "memory:memory: writes, reads, lists, deletes"
    assert list(store.list()) == []


def test_nothing_is_deleted_on_a_store_that_is_append_only_and_one_small_object_stays(
    plan: PlanOnDisk,
) -> None:
    store = MemoryStore(append_only=True)
    for _ in range(3):
        check = checked(plan, store)
    assert check.status == "ok"
    assert "append-only" in check.message
    assert "delete" not in {call.operation for call in store.calls}
    (probe,) = store.list()
    assert probe.key.startswith("shop/doctor-")
    assert probe.size_bytes < 20


def test_a_store_that_locks_is_well_if_the_plan_says_so(plan: PlanOnDisk, locking: MemoryStore) -> None:
    for _ in range(3):
        check = checked(plan, locking)
    assert check.status == "ok"
    assert f"locked until {END:%Y-%m-%d}" in check.message
    assert len(list(locking.list())) == 1


def test_a_store_that_locks_unasked_is_a_warning(
    plan: PlanOnDisk, locking: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MemoryStore, "locks_objects", False)
    check = checked(plan, locking)
    assert check.status == "warning"
    assert "longer than the plan's retention" in check.remedy


@pytest.mark.parametrize(("prune", "status"), [("after-backup", "error"), ("separate", "ok")])
def test_a_missing_right_to_delete_matters_where_this_host_prunes(
    plan: PlanOnDisk, prune: str, status: str
) -> None:
    plan.write(prune=prune)
    store = MemoryStore()
    store.fail("delete", StoreForbidden("no"))
    assert checked(plan, store).status == status


@pytest.mark.parametrize(("severity", "probed"), [("error", False), ("warning", True)])
def test_a_store_that_cannot_keep_its_promise_is_not_written_to(
    plan: PlanOnDisk, monkeypatch: pytest.MonkeyPatch, severity: str, probed: bool
) -> None:
    problem = StoreProblem("it has no lock", "switch it on", severity)  # type: ignore[arg-type]
    monkeypatch.setattr(MemoryStore, "problems", lambda _: iter([problem]))
    store = MemoryStore()
    first, *rest = check_store(plan.loaded, store)
    assert (first.status, first.message, first.remedy) == (severity, "it has no lock", "switch it on")
    assert bool(rest) is bool(store.calls) is probed
