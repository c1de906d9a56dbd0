"""What runs by itself: the schedules that a plan wants, and whether a Prefect server really has them."""

from collections.abc import Iterator
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas import filters
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.sorting import FlowRunSort

from flows import prefect_api
from flows.checks import Check
from flows.plan import BackupPlan

NIGHTLY = "back-up/nightly"
WEEKLY = "verify/weekly"
DAILY = "prune/daily"
SYNC = "sync/daily"
SCRUB = "scrub/weekly"
VERIFY_CRON = "0 4 * * 0"
PRUNE_CRON = "0 5 * * *"
SYNC_CRON = "30 3 * * *"
SCRUB_CRON = "0 6 * * 6"

ANSWER_SECONDS = 5.0
RUNS_A_PAGE = 200
COMMANDS = {NIGHTLY: "backup", WEEKLY: "verify", DAILY: "prune", SYNC: "sync", SCRUB: "scrub"}


def wanted_schedules(plan: BackupPlan) -> dict[str, str]:
    """Return the deployments that run a plan by a schedule, each with its cron expression.

    A verification or prune that follows each backup needs none. A plan that leaves it to the database's
    size when to verify gets a weekly one, for a large database has no other. What is backed up by hand only
    is also synced and scrubbed by hand.
    """
    by_itself = VERIFY_CRON if plan.verify.secret_key else "never"
    by_schedule = plan.schedule != "never"
    crons = {
        NIGHTLY: plan.schedule,
        WEEKLY: by_itself if plan.verify.schedule == "auto" else plan.verify.schedule,
        DAILY: PRUNE_CRON if plan.prune == "separate" else "after-backup",
        SYNC: SYNC_CRON if by_schedule and len(plan.stores) > 1 else "never",
        SCRUB: SCRUB_CRON if by_schedule and plan.scrub_days else "never",
    }
    return {deployment: cron for deployment, cron in crons.items() if cron not in ("never", "after-backup")}


def check_schedules(plan: BackupPlan) -> Iterator[Check]:
    """Tell whether the plan's schedules are there and active, and when they run next; start no server."""
    wanted = wanted_schedules(plan)
    if NIGHTLY not in wanted:
        yield Check("schedule", "ok", "this plan is backed up by hand only")
    if not prefect_api.api_address():
        yield from (_left_to_cron(plan, deployment, cron) for deployment, cron in wanted.items())
        return
    try:
        with get_client(httpx_settings={"timeout": ANSWER_SECONDS}, sync_client=True) as client:
            checks = [_look(client, plan, deployment.partition("/")[0]) for deployment in wanted]
    except httpx.HTTPError as error:
        message, remedy = prefect_api.explained(error)
        checks = [Check("schedule", "warning", f"{message}; nothing is known of schedules", remedy)]
    yield from checks


def _left_to_cron(plan: BackupPlan, deployment: str, cron: str) -> Check:
    command = COMMANDS[deployment]
    return Check(
        "schedule",
        "warning",
        f"{prefect_api.NOT_CONFIGURED}: no {command} runs by itself",
        "pgsalvo apply plans.toml schedules it on a server;"
        f" without one give cron the line: {cron} pgsalvo {command} {plan.name}",
    )


def _warning(message: str, remedy: str) -> Check:
    return Check("schedule", "warning", message, remedy)


def _look(client: SyncPrefectClient, plan: BackupPlan, flow: str) -> Check:
    """Return what keeps a flow from running for the plan by itself, or when it runs next."""
    of_flow = filters.FlowFilter(name=filters.FlowFilterName(any_=[flow]))
    deployments = client.read_deployments(flow_filter=of_flow)
    scheduled = {deployment.name: _activities(plan, deployment) for deployment in deployments}
    if not any(scheduled.values()):
        return _warning(f"Prefect has no schedule of {flow} for this plan", "pgsalvo apply plans.toml")
    active = [deployment for deployment in deployments if any(scheduled[deployment.name])]
    if not active:
        names = ", ".join(f"{flow}/{name}" for name, activities in scheduled.items() if activities)
        return _warning(
            f"the plan's schedule of {names} is not active",
            "resume it in Prefect's UI; pgsalvo apply does so too, unless AUTO_BACKUP_ENABLED is false",
        )
    names = ", ".join(f"{flow}/{deployment.name}" for deployment in active)
    start = _next_start(client, plan, of_flow)
    if start is None:
        return _warning(
            f"the plan's schedule of {names} is active, but Prefect has planned no run",
            "if that stays so for a minute, see the server's log: its scheduler fails",
        )
    when = f"{start.astimezone(ZoneInfo(plan.time_zone)):%Y-%m-%d %H:%M %Z}"
    if lonely := [pool for pool in _pools(active) if not _has_worker(client, pool)]:
        return _warning(
            f"{names} is due on {when}, but no worker of the pool {lonely[0]} is running",
            f"prefect worker start --pool {lonely[0]}",
        )
    return Check("schedule", "ok", f"{names} runs next on {when}")


def _activities(plan: BackupPlan, deployment: DeploymentResponse) -> list[bool]:
    """Return whether each schedule of a deployment that runs the plan is active."""
    return [
        schedule.active and not deployment.paused
        for schedule in deployment.schedules
        if (deployment.parameters | schedule.parameters).get("plan") == plan.name
    ]


def _next_start(client: SyncPrefectClient, plan: BackupPlan, of_flow: filters.FlowFilter) -> datetime | None:
    coming = filters.FlowRunFilter(
        state=filters.FlowRunFilterState(type=filters.FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
        expected_start_time=filters.FlowRunFilterExpectedStartTime(after_=datetime.now(UTC)),
    )
    offset = 0
    while runs := client.read_flow_runs(
        flow_filter=of_flow,
        flow_run_filter=coming,
        sort=FlowRunSort.EXPECTED_START_TIME_ASC,
        limit=RUNS_A_PAGE,
        offset=offset,
    ):
        for run in runs:
            if run.parameters.get("plan") == plan.name:
                return run.expected_start_time
        offset += RUNS_A_PAGE
    return None


def _pools(deployments: list[DeploymentResponse]) -> list[str]:
    return sorted({deployment.work_pool_name for deployment in deployments if deployment.work_pool_name})


def _has_worker(client: SyncPrefectClient, pool: str) -> bool:
    online = filters.WorkerFilter(status=filters.WorkerFilterStatus(any_=["ONLINE"]))
    return bool(client.read_workers_for_work_pool(pool, worker_filter=online))
