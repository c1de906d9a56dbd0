"""What runs by itself: which schedules a plan wants, and what the doctor says of them."""

import re
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.schedules import CronSchedule
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

from deployments.definitions import definitions
from deployments.deploying import deploy, make_pool, reconcile
from flows.checks import Check
from flows.plan import BackupPlan
from flows.schedules import (
    DAILY,
    NIGHTLY,
    PRUNE_CRON,
    SCRUB,
    SCRUB_CRON,
    SYNC,
    SYNC_CRON,
    VERIFY_CRON,
    WEEKLY,
    check_schedules,
    wanted_schedules,
)
from tests.servers.ports import free_port, wait_until
from tests.servers.prefect import PrefectServer

NIGHT = "0 2 * * *"
TWO = [{"name": name, "kind": "local", "path": f"/{name}"} for name in ("here", "there")]


def plan(**settings: object) -> BackupPlan:
    return BackupPlan.model_validate(
        {
            "name": "night-shift",
            "database": {"dbname": "shop"},
            "recipients": {"public_keys": ["ops.asc"]},
            "stores": [{"kind": "local", "path": "/backups"}],
            "scrub_days": 0,
        }
        | settings
    )


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        pytest.param({}, {NIGHTLY: NIGHT}, id="by-default"),
        pytest.param({"schedule": "15 1 * * *"}, {NIGHTLY: "15 1 * * *"}, id="its-own-hour"),
        pytest.param({"schedule": "never"}, {}, id="by-hand-only"),
        pytest.param({"prune": "separate"}, {NIGHTLY: NIGHT, DAILY: PRUNE_CRON}, id="prunes-apart"),
        pytest.param(
            {"verify": {"schedule": "0 6 * * 6", "secret_key": "ops"}},
            {NIGHTLY: NIGHT, WEEKLY: "0 6 * * 6"},
            id="verifies-by-cron",
        ),
        pytest.param(
            {"verify": {"secret_key": "ops"}}, {NIGHTLY: NIGHT, WEEKLY: VERIFY_CRON}, id="verifies-by-size"
        ),
        pytest.param(
            {"verify": {"schedule": "after-backup", "secret_key": "ops"}},
            {NIGHTLY: NIGHT},
            id="verifies-at-once",
        ),
        pytest.param({"verify": {"schedule": "never"}}, {NIGHTLY: NIGHT}, id="never-verifies"),
        pytest.param({"stores": TWO}, {NIGHTLY: NIGHT, SYNC: SYNC_CRON}, id="two-stores"),
        pytest.param({"scrub_days": 30}, {NIGHTLY: NIGHT, SCRUB: SCRUB_CRON}, id="scrubs"),
        pytest.param({"stores": TWO, "scrub_days": 30, "schedule": "never"}, {}, id="all-by-hand"),
    ],
)
def test_a_plan_wants_schedules(settings: dict[str, object], expected: dict[str, str]) -> None:
    assert wanted_schedules(plan(**settings)) == expected


def checks(**settings: object) -> list[Check]:
    return list(check_schedules(plan(**settings)))


def test_without_prefect_nothing_runs_by_itself() -> None:
    with temporary_settings({PREFECT_API_URL: None}):
        (nightly, daily, sync, scrub) = checks(prune="separate", stores=TWO, scrub_days=7)

    assert (nightly.status, nightly.message) == (
        "warning", "no Prefect API is configured: no backup runs by itself"
    )  # fmt: skip
    assert f"{NIGHT} pgsalvo backup night-shift" in nightly.remedy
    assert f"{PRUNE_CRON} pgsalvo prune night-shift" in daily.remedy
    assert f"{SYNC_CRON} pgsalvo sync night-shift" in sync.remedy
    assert f"{SCRUB_CRON} pgsalvo scrub night-shift" in scrub.remedy


def test_a_plan_that_is_backed_up_by_hand_wants_no_server() -> None:
    with temporary_settings({PREFECT_API_URL: None}):
        assert [check.status for check in checks(schedule="never")] == ["ok"]


@pytest.mark.parametrize(
    ("address", "auth", "message"),
    [
        pytest.param("http://127.0.0.1:{free}/api", "", "does not answer", id="unreachable"),
        pytest.param("{server}", "admin:wrong", "401 Unauthorized", id="wrong-password"),
        pytest.param("{server}/oops", "{auth}", "404 Not Found", id="wrong-address"),
    ],
)
def test_a_server_that_does_not_tell_is_a_warning(
    server: PrefectServer, address: str, auth: str, message: str
) -> None:
    settings = {
        PREFECT_API_URL: address.format(free=free_port(), server=server.api_url),
        PREFECT_API_AUTH_STRING: auth.format(auth=server.auth) or None,
    }
    with temporary_settings(settings):
        (check,) = checks()

    assert check.status == "warning"
    assert message in check.message
    assert check.remedy


def schedule(cron: str, *, active: bool = True) -> DeploymentScheduleCreate:
    return DeploymentScheduleCreate(
        schedule=CronSchedule(cron=cron, timezone="Europe/Madrid"),
        active=active,
        parameters={"plan": "night-shift"},
        slug="night-shift",
    )


def test_the_doctor_says_what_keeps_a_backup_from_running(
    client: SyncPrefectClient, server: PrefectServer
) -> None:
    nightly = next(definition for definition in definitions() if definition.name == "nightly")
    make_pool(client, "lonely")
    _, deployment = deploy(client, replace(nightly, name="night-shift", work_pool="lonely"))
    in_half_a_year = f"0 2 1 {(datetime.now(UTC).month + 5) % 12 + 1} *"  # further than Prefect plans ahead

    said = [*checks()]
    list(reconcile(client, deployment, {"night-shift": schedule(NIGHT, active=False)}))
    said += checks()
    list(reconcile(client, deployment, {"night-shift": schedule(in_half_a_year)}))
    said += checks()
    list(reconcile(client, deployment, {"night-shift": schedule(NIGHT)}))
    wait_until(lambda: "no run" not in checks()[0].message, "the night's run")
    said += checks()
    server.request("POST", "/work_pools/lonely/workers/heartbeat", {"name": "somebody"})
    said += checks(time_zone="Europe/Madrid")
    list(reconcile(client, deployment, {}))
    said += checks()

    assert [check.status for check in said] == ["warning"] * 4 + ["ok", "warning"]
    missing, inactive, unplanned, lonely, good, gone = (check.message for check in said)
    assert missing == gone == "Prefect has no schedule of back-up for this plan"
    assert inactive == "the plan's schedule of back-up/night-shift is not active"
    assert unplanned.endswith("is active, but Prefect has planned no run")
    assert lonely.endswith("but no worker of the pool lonely is running")
    assert re.fullmatch(r"back-up/night-shift runs next on 20..-..-.. 02:00 CES?T", good)
