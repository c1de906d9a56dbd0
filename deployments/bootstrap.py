"""`pgsalvo apply plans.toml`: what a Prefect server has to know, made so; a second time changes nothing.

The file describes all plans of the server: the schedules of plans that are not in it are removed. Their
blocks stay, so that their backups can still be listed, verified and restored. Nothing secret is copied:
references stay as they are written, and of the keys only the public ones are stored.
"""

import argparse
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.schedules import CronSchedule
from pydantic import ValidationError

import blocks
from blocks.errors import WorldError
from blocks.gpg_keys import GpgRecipients, GpgSecretKey
from blocks.gpg_program import run_gpg
from deployments.definitions import definitions
from deployments.deploying import deploy, make_pool, reconcile
from deployments.saved_blocks import names, register, save
from flows import environment, plan_file, prefect_api, terminal
from flows.core.errors import BackupError, PlanError
from flows.plan import BackupPlan
from flows.plan_file import PlanFile
from flows.schedules import wanted_schedules

BLOCK_TYPES = [*(getattr(blocks, name) for name in blocks.__all__), BackupPlan]
ARMOUR = b"-----BEGIN PGP PUBLIC KEY BLOCK-----"
BLOCK_NAME = re.compile(r"[a-z0-9-]+")

Line = tuple[str, str]


def main(arguments: Sequence[str] | None = None) -> int:
    """Apply a file of plans and return the exit code: 0 done, 1 Prefect failed, 2 the plans are wrong."""
    parser = argparse.ArgumentParser(
        "pgsalvo apply", description="Save plans, pools and schedules to Prefect."
    )
    parser.add_argument("plans", nargs="?", type=Path, default=Path("plans.toml"), help="the file of plans")
    try:
        for word, thing in apply(parser.parse_args(arguments).plans):
            terminal.out.print(f"{word:<10} {thing}", markup=False)
    except (BackupError, WorldError) as error:
        terminal.say_error(error.message, error.hint)
        return 2
    except httpx.HTTPError as error:
        terminal.say_error(*prefect_api.explained(error))
        return 1
    return 0


def apply(path: Path) -> Iterator[Line]:
    """Make Prefect know the plans of a file; yield what became of each thing, and the thing.

    Raises:
        PlanError: Something in the file is wrong; nothing was changed.
        httpx.HTTPError: Prefect's API is not there, or refuses; doing it again is safe.
    """
    if not prefect_api.api_address():
        raise PlanError(prefect_api.NOT_CONFIGURED, prefect_api.CONFIGURE)
    source = plan_file.read(path)
    active = environment.auto_backup_enabled()
    plans, warnings = _portable_plans(source)
    yield from (("warning", warning) for warning in warnings)
    keys = _secret_keys(source)
    schedules = {plan.name: _schedules(plan, active, path) for plan in plans}
    with get_client(sync_client=True) as client:
        for kind in BLOCK_TYPES:
            yield register(client, kind), f"block type {kind.get_block_type_slug()}"
        for name, key in keys.items():
            yield save(client, key, name), f"secret key's place {name}"
        for plan in plans:
            yield save(client, plan, plan.name), f"plan {plan.name}"
        yield from _absent(plans, names(client, BackupPlan), names(client, GpgSecretKey))
        wanted = definitions()
        for pool in sorted({definition.work_pool for definition in wanted}):
            yield make_pool(client, pool), f"work pool {pool}"
        for definition in wanted:
            word, deployment = deploy(client, definition)
            yield word, f"deployment {deployment.name}"
            theirs = {
                plan: crons[deployment.name] for plan, crons in schedules.items() if deployment.name in crons
            }
            for word, schedule in reconcile(client, deployment, theirs):
                yield word, f"schedule of plan {schedule} on {deployment.name}"


def portable(plan: BackupPlan) -> tuple[BackupPlan, tuple[str, ...]]:
    """Return a plan that needs no key's file, for workers elsewhere, and warnings about its keys."""
    with plan.recipients.prepare() as prepared:
        keys = [_armoured(prepared.homedir, file) for file in prepared.files]
        warnings = prepared.warnings
    return plan.model_copy(update={"recipients": GpgRecipients(public_keys=keys)}), warnings


def _armoured(homedir: Path, file: Path) -> str:
    body = file.read_bytes()
    if ARMOUR not in body:
        body = run_gpg(homedir, "--no-default-keyring", "--keyring", str(file), "--armor", "--export").stdout
    return body.decode()


def _portable_plans(source: PlanFile) -> tuple[list[BackupPlan], list[str]]:
    plans, warnings = [], []
    for name in source.plan_names:
        plan, about_keys = portable(source.plan(name))
        plans.append(plan)
        warnings += [f"plan {name}: {warning}" for warning in about_keys]
    return plans, warnings


def _secret_keys(source: PlanFile) -> dict[str, GpgSecretKey]:
    for name in source.secret_keys:
        if not BLOCK_NAME.fullmatch(name):
            raise PlanError(
                f"{source.path}: secret_keys.{name}: Prefect cannot store this name",
                "use lower-case letters, digits and dashes",
            )
    return {name: source.secret_key(name) for name in sorted(source.secret_keys)}


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


def _absent(plans: Sequence[BackupPlan], stored_plans: set[str], stored_keys: set[str]) -> Iterator[Line]:
    """Name the stored plans that the file does not hold, and the secret keys that plans ask for in vain."""
    for name in sorted(stored_plans - {plan.name for plan in plans}):
        yield "kept", f"plan {name}, which is not in the file: its backups can still be verified and restored"
    for plan in plans:
        if plan.verify.secret_key and plan.verify.secret_key not in stored_keys:
            yield (
                "missing",
                f"secret key's place {plan.verify.secret_key}: plan {plan.name} cannot be verified",
            )


if __name__ == "__main__":
    sys.exit(main())
