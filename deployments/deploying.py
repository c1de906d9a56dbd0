"""Work pools, deployments and schedules on a Prefect server: made or changed only where they differ."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate, DeploymentUpdate, WorkPoolCreate
from prefect.client.schemas.objects import DeploymentSchedule
from prefect.client.schemas.schedules import CronSchedule
from prefect.exceptions import ObjectNotFound
from prefect.utilities.callables import parameter_schema
from prefect.workers.process import ProcessWorker

from deployments.definitions import Definition


@dataclass(frozen=True)
class Deployed:
    """A deployment as the server knows it, by its id and by flow/name."""

    identifier: UUID
    name: str


def make_pool(client: SyncPrefectClient, name: str) -> str:
    """Make a work pool of processes, unless one of that name is there, whatever its type."""
    try:
        client.read_work_pool(name)
    except ObjectNotFound:
        template = ProcessWorker.get_default_base_job_template()
        client.create_work_pool(WorkPoolCreate(name=name, type="process", base_job_template=template))
        return "created"
    return "unchanged"


def deploy(client: SyncPrefectClient, definition: Definition) -> tuple[str, Deployed]:
    """Make a deployment as prefect.yaml has it, without touching its schedules."""
    flow = definition.flow()
    name = f"{flow.name}/{definition.name}"
    wanted: dict[str, Any] = {
        "version": flow.version,
        "description": definition.description,
        "tags": list(definition.tags),
        "entrypoint": definition.entrypoint,
        "work_pool_name": definition.work_pool,
        "parameter_openapi_schema": parameter_schema(flow).model_dump(exclude_unset=True),
        "enforce_parameter_schema": True,
        "pull_steps": [],
    }
    try:
        present = client.read_deployment_by_name(name)
    except ObjectNotFound:
        flow_id = client.create_flow_from_name(flow.name)
        return "created", Deployed(client.create_deployment(flow_id, definition.name, **wanted), name)
    if all(getattr(present, field) == value for field, value in wanted.items()):
        return "unchanged", Deployed(present.id, name)
    client.update_deployment(present.id, DeploymentUpdate(**wanted))
    return "updated", Deployed(present.id, name)


def reconcile(
    client: SyncPrefectClient, deployment: Deployed, wanted: Mapping[str, DeploymentScheduleCreate]
) -> Iterator[tuple[str, str]]:
    """Give each plan its one schedule, and take away those of other plans; a person's own stay.

    Args:
        wanted: By the plans' names, which are the schedules' slugs.
    """
    found = client.read_deployment_schedules(deployment.identifier)
    present = {schedule.slug: schedule for schedule in found if schedule.slug}
    for plan, schedule in wanted.items():
        yield _set(client, deployment, present.pop(plan, None), schedule), f"{plan}, {_described(schedule)},"
    for plan, gone in present.items():
        if gone.parameters.get("plan") == plan:
            client.delete_deployment_schedule(deployment.identifier, gone.id)
            yield "removed", plan


def _set(
    client: SyncPrefectClient,
    deployment: Deployed,
    present: DeploymentSchedule | None,
    wanted: DeploymentScheduleCreate,
) -> str:
    if present is None:
        client.create_deployment_schedules(deployment.identifier, [wanted])
        return "created"
    if _settings(present) == _settings(wanted):
        return "unchanged"
    # whole, because the server resets what is left out: without parameters a run would have no plan
    client.update_deployment_schedule(deployment.identifier, present.id, **_settings(wanted))
    return "updated"


def _settings(schedule: DeploymentSchedule | DeploymentScheduleCreate) -> dict[str, Any]:
    return {field: getattr(schedule, field) for field in ("schedule", "active", "parameters", "slug")}


def _described(schedule: DeploymentScheduleCreate) -> str:
    cron = schedule.schedule
    when = f"{cron.cron} {cron.timezone}" if isinstance(cron, CronSchedule) else type(cron).__name__
    return when if schedule.active else f"{when}, inactive as AUTO_BACKUP_ENABLED says"
