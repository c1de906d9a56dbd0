"""What follows a committed backup: prune, and a verification in a pool of its own."""

import prefect.runtime
from prefect import get_run_logger
from prefect.deployments import run_deployment

from flows import reports
from flows.beside import beside
from flows.core.naming import BackupId
from flows.plan import BackupPlan
from flows.prune import prune_plan
from flows.tasks.options import step

VERIFY_DEPLOYMENT = "verify/on-demand"


@step(name="prune")
def prune_now(plan: BackupPlan, own: BackupId) -> None:
    """Delete what the plan's retention does not keep; never the backup that was just made."""
    reports.publish_prune(plan, prune_plan(plan, own=own), dry_run=False)


def start_verification(plan: BackupPlan, backup_id: BackupId) -> None:
    """Ask the `verify` pool to prove the backup, if the plan wants that and this run is a deployment's.

    This host has no secret key; on the command line, `pgsalvo backup` verifies in the same process.
    """
    if plan.verify.schedule != "after-backup" or not prefect.runtime.deployment.id:
        return
    run = beside(
        "the start of the verification",
        lambda: run_deployment(
            VERIFY_DEPLOYMENT,
            parameters={"plan": plan.name, "backup": backup_id},
            timeout=0,
            as_subflow=False,
        ),
    )
    if run is None:
        get_run_logger().warning("backup %s was not verified: start %s by hand", backup_id, VERIFY_DEPLOYMENT)
