"""`pgsalvo apply plans.toml`: what a Prefect server has to know, made so; a second time changes nothing.

The file describes all plans of the server: the schedules of plans that are not in it are removed. Their
blocks stay, so that their backups can still be listed, verified and restored. Nothing secret is copied:
references stay as they are written, and of the keys only the public ones are stored.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
from prefect.blocks.core import Block
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate, DeploymentUpdate, WorkPoolCreate
from prefect.client.schemas.objects import DeploymentSchedule
from prefect.client.schemas.schedules import CronSchedule
from prefect.exceptions import ObjectNotFound
from prefect.utilities.callables import parameter_schema
from prefect.workers.process import ProcessWorker
from pydantic import ValidationError

import blocks
from blocks.errors import WorldError
from blocks.gpg_keys import GpgRecipients, GpgSecretKey
from blocks.gpg_program import run_gpg
from deployments.definitions import Definition, definitions
from flows import environment, plan_file, prefect_api, terminal
from flows.core.errors import BackupError, PlanError
from flows.plan import BackupPlan
from flows.schedules import wanted_schedules

BLOCK_TYPES: list[type[Block]] = [*(getattr(blocks, name) for name in blocks.__all__), BackupPlan]
ARMOUR = b"-----BEGIN PGP PUBLIC KEY BLOCK-----"
BLOCK_NAME = re.compile(r"[a-z0-9-]+")


def main(arguments: Sequence[str] | None = None) -> int:
    """Apply a file of plans and return the exit code: 0 done, 1 Prefect failed, 2 the plans are wrong."""
    parser = argparse.ArgumentParser(
        "pgsalvo apply", description="Save plans, pools and schedules to Prefect."
    )
    parser.add_argument("plans", nargs="?", type=Path, default=Path("plans.toml"), help="the file of plans")
    try:
        apply(parser.parse_args(arguments).plans)
    except (BackupError, WorldError) as error:
        terminal.say_error(error.message, error.hint)
        return 2
    except httpx.HTTPError as error:
        terminal.say_error(*prefect_api.explained(error))
        return 1
    return 0


def apply(path: Path) -> None:
    """Make Prefect know the plans of a file, saying a line for each thing.

    Raises:
        PlanError: Something in the file is wrong; nothing was changed.
        httpx.HTTPError: Prefect's API is not there, or refuses; doing it again is safe.
    """
    if not prefect_api.api_address():
        raise PlanError(prefect_api.NOT_CONFIGURED, prefect_api.CONFIGURE)
    active = environment.auto_backup_enabled()
    source = plan_file.read(path)
    plans = [portable(source.plan(name)) for name in source.plan_names]
    secret_keys = {_block_name(path, name): source.secret_key(name) for name in sorted(source.secret_keys)}
    schedules = [(plan, _schedules(plan, active, path)) for plan in plans]
    with get_client(sync_client=True) as client:
        for kind in BLOCK_TYPES:
            _register(client, kind)
        for name, key in secret_keys.items():
            _save(client, key, name)
        for plan in plans:
            _save(client, plan, plan.name)
        _tell_of_others(client, plans)
        deployments = definitions()
        for pool in sorted({definition.work_pool for definition in deployments}):
            _make_pool(client, pool)
        for definition in deployments:
            identifier, full_name = _deploy(client, definition)
            wanted = {plan.name: crons[full_name] for plan, crons in schedules if full_name in crons}
            _reconcile(client, identifier, full_name, wanted)


def portable(plan: BackupPlan) -> BackupPlan:
    """Return a plan with its public keys' armoured text instead of their files, for workers elsewhere."""
    with plan.recipients.prepare() as prepared:
        for warning in prepared.warnings:
            _say("warning", f"plan {plan.name}: {warning}")
        keys = [_armoured(prepared.homedir, file) for file in prepared.files]
    return plan.model_copy(update={"recipients": GpgRecipients(public_keys=keys)})


def _armoured(homedir: Path, file: Path) -> str:
    body = file.read_bytes()
    if ARMOUR not in body:
        body = run_gpg(homedir, "--no-default-keyring", "--keyring", str(file), "--armor", "--export").stdout
    return body.decode()


def _block_name(path: Path, name: str) -> str:
    if not BLOCK_NAME.fullmatch(name):
        raise PlanError(
            f"{path}: secret_keys.{name}: Prefect cannot store this name",
            "use lower-case letters, digits and dashes",
        )
    return name


def _schedules(plan: BackupPlan, active: bool, path: Path) -> dict[str, DeploymentScheduleCreate]:
    """Return the plan's schedules by the deployments that they belong to."""
    try:
        return {
            deployment: DeploymentScheduleCreate(
                schedule=CronSchedule(cron=cron, timezone=plan.time_zone),
                active=active,
                parameters={"plan": plan.name},
                slug=plan.name,
            )
            for deployment, cron in wanted_schedules(plan).items()
        }
    except ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise PlanError(f"{path}: plans.{plan.name}: Prefect cannot run its schedule: {reason}") from error


def _register(client: SyncPrefectClient, kind: type[Block]) -> None:
    before = _registered(client, kind)
    kind.register_type_and_schema()
    after = _registered(client, kind)
    _say(_change(before, after), f"block type {kind.get_block_type_slug()}")


def _registered(client: SyncPrefectClient, kind: type[Block]) -> Any:
    """Return what tells one version of a registered block type from another; None if it is not there."""
    try:
        found = client.read_block_type_by_slug(kind.get_block_type_slug())
    except ObjectNotFound:
        return None
    schema = client.get_most_recent_block_schema_for_block_type(found.id)
    return found.updated, schema.checksum if schema else ""


def _save(client: SyncPrefectClient, block: BackupPlan | GpgSecretKey, name: str) -> None:
    before = _stored(client, type(block), name)
    if before != _content(block):
        block.save(name, overwrite=True)
    thing = "plan" if isinstance(block, BackupPlan) else "secret key's place"
    _say(_change(before, _content(block)), f"{thing} {name}")


def _stored(client: SyncPrefectClient, kind: type[Block], name: str) -> Any:
    """Return a stored block's content; what does not fit its present fields is returned as it is."""
    try:
        document = client.read_block_document_by_name(name, kind.get_block_type_slug())
    except ObjectNotFound:
        return None
    try:
        return _content(kind.model_validate(document.data))
    except (ValueError, BackupError, WorldError):
        return document.data


def _content(block: Block) -> Any:
    return block.model_dump(mode="json", context={"include_secrets": True})


def _tell_of_others(client: SyncPrefectClient, plans: Sequence[BackupPlan]) -> None:
    """Name the stored plans that the file does not hold."""
    slug = BackupPlan.get_block_type_slug()
    stored = {document.name or "" for document in client.read_block_documents_by_type(slug)}
    for name in sorted(stored - {plan.name for plan in plans} - {""}):
        _say("kept", f"plan {name}, which is not in the file: its backups can still be verified and restored")


def _make_pool(client: SyncPrefectClient, name: str) -> None:
    """Make a work pool unless one of that name is there, whatever its type."""
    try:
        client.read_work_pool(name)
    except ObjectNotFound:
        template = ProcessWorker.get_default_base_job_template()
        client.create_work_pool(WorkPoolCreate(name=name, type="process", base_job_template=template))
        _say("created", f"work pool {name}")
    else:
        _say("unchanged", f"work pool {name}")


def _deploy(client: SyncPrefectClient, definition: Definition) -> tuple[UUID, str]:
    """Make a deployment as prefect.yaml has it, without touching its schedules; return its id and name."""
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
        identifier = client.create_deployment(
            client.create_flow_from_name(flow.name), definition.name, **wanted
        )
        _say("created", f"deployment {name}")
        return identifier, name
    changed = any(getattr(present, field) != value for field, value in wanted.items())
    if changed:
        client.update_deployment(present.id, DeploymentUpdate(**wanted))
    _say("updated" if changed else "unchanged", f"deployment {name}")
    return present.id, name


def _reconcile(
    client: SyncPrefectClient, deployment: UUID, full_name: str, wanted: dict[str, DeploymentScheduleCreate]
) -> None:
    """Give each plan its one schedule, and take away those of other plans; a person's own stay."""
    present = {found.slug: found for found in client.read_deployment_schedules(deployment) if found.slug}
    for plan, schedule in wanted.items():
        thing = f"schedule of plan {plan} on {full_name}: {_described(schedule)}"
        found = present.pop(plan, None)
        if found is None:
            client.create_deployment_schedules(deployment, [schedule])
            _say("created", thing)
        elif _settings(found) != _settings(schedule):
            # whole, because what is left out is reset: without parameters a run would have no plan
            client.update_deployment_schedule(deployment, found.id, **_settings(schedule))
            _say("updated", thing)
        else:
            _say("unchanged", thing)
    for plan, found in present.items():
        if found.parameters.get("plan") == plan:
            client.delete_deployment_schedule(deployment, found.id)
            _say("removed", f"schedule of plan {plan} on {full_name}")


def _settings(schedule: DeploymentSchedule | DeploymentScheduleCreate) -> dict[str, Any]:
    return {field: getattr(schedule, field) for field in ("schedule", "active", "parameters", "slug")}


def _described(schedule: DeploymentScheduleCreate) -> str:
    cron = schedule.schedule
    assert isinstance(cron, CronSchedule)  # noqa: S101 - no other kind is made here
    return f"{cron.cron} {cron.timezone}" + (
        "" if schedule.active else ", inactive: AUTO_BACKUP_ENABLED is false"
    )


def _change(before: object, after: object) -> str:
    if before is None:
        return "created"
    return "unchanged" if before == after else "updated"


def _say(word: str, thing: str) -> None:
    terminal.out.print(f"{word:<10} {thing}", markup=False)


if __name__ == "__main__":
    sys.exit(main())
