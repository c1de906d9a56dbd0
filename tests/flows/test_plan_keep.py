"""`keep` on a destination: what it says, what it takes over from the plan, and what is refused."""

import pytest
from pydantic import ValidationError

from flows.core.errors import PlanError
from flows.core.retention import RetentionPolicy
from flows.plan import BackupPlan
from tests.servers.plan import PlanOnDisk

LOCAL = {"name": "local", "kind": "local", "path": "store"}


def with_keep(plan: PlanOnDisk, keep: object, **settings: object) -> BackupPlan:
    plan.write(stores=[LOCAL | {"keep": keep}, {"kind": "s3", "bucket": "acme"}], **settings)
    return plan.loaded


def test_a_destination_keeps_by_its_own_numbers_and_the_plans_others(plan: PlanOnDisk) -> None:
    loaded = with_keep(
        plan, {"keep_daily": 7}, retention={"keep_daily": 90, "min_keep": 5}, time_zone="Europe/Madrid"
    )
    here, offsite = loaded.stores
    assert loaded.policy_of(here) == RetentionPolicy(keep_daily=7, min_keep=5, time_zone="Europe/Madrid")
    assert loaded.policy_of(offsite) == loaded.policy
    assert loaded.policy == RetentionPolicy(keep_daily=90, min_keep=5, time_zone="Europe/Madrid")


def test_a_destination_without_a_name_has_its_kinds(plan: PlanOnDisk) -> None:
    plan.write(stores=[LOCAL, {"kind": "s3", "bucket": "acme", "keep": {"keep_last": 1}}])
    assert list(plan.loaded.keep) == ["s3"]


def test_a_stored_plan_says_the_same(plan: PlanOnDisk) -> None:
    loaded = with_keep(plan, {"keep_daily": 7})
    stored = BackupPlan.model_validate(loaded.model_dump())
    assert stored.policy_of(stored.stores[0]) == loaded.policy_of(loaded.stores[0])


@pytest.mark.parametrize(
    ("keep", "message", "hint"),
    [
        ({"keep_dayly": 7}, "stores.local.keep: unknown key keep_dayly", "did you mean keep_daily?"),
        ({"keep_daily": -1}, "stores.local.keep.keep_daily", ""),
        ({"time_zone": "UTC"}, "stores.local.keep: unknown key time_zone", "belongs to the plan"),
        (7, "stores.local.keep must be a table", "keep = { keep_daily = 7 }"),
    ],
    ids=str,
)
def test_a_wrong_word_is_told_with_its_place_and_the_nearest(
    plan: PlanOnDisk, keep: object, message: str, hint: str
) -> None:
    with pytest.raises(PlanError) as caught:
        with_keep(plan, keep)
    assert f"{plan.file}: plans.shop.{message}" in caught.value.message
    assert hint in caught.value.hint


def test_a_misspelt_keep_is_told(plan: PlanOnDisk) -> None:
    plan.write(stores=[LOCAL | {"kep": {"keep_daily": 7}}])
    with pytest.raises(PlanError, match="unknown key kep") as caught:
        _ = plan.loaded
    assert caught.value.hint == "did you mean keep?"


def test_keep_belongs_to_a_store(plan: PlanOnDisk) -> None:
    plan.write(keep={"local": {"keep_daily": 7}})
    with pytest.raises(PlanError, match=r"plans\.shop: unknown key keep"):
        _ = plan.loaded


def test_a_plan_that_keeps_on_a_store_that_it_has_not_is_refused(plan: PlanOnDisk) -> None:
    data = plan.loaded.model_dump()
    with pytest.raises(ValidationError, match=r"keep names locl, .* did you mean local"):
        BackupPlan.model_validate(data | {"keep": {"locl": RetentionPolicy()}})
