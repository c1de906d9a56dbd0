"""What follows a committed backup: an alert of missing copies, prune, a verification in a pool of its own."""

from collections.abc import Sequence

import prefect.runtime
from prefect import get_run_logger
from prefect.deployments import run_deployment

from blocks.alerts import Alert
from blocks.errors import WorldError
from blocks.references import redact
from blocks.stores import Store
from flows import hooks, outcomes, reports
from flows.beside import beside
from flows.core import naming
from flows.core.errors import BackupError
from flows.core.naming import BackupId
from flows.destinations import Destinations
from flows.outcomes import told
from flows.plan import BackupPlan
from flows.prune import prune_plan
from flows.tasks.options import step

VERIFY_DEPLOYMENT = "verify/on-demand"


@step(name="prune")
def prune_now(plan: BackupPlan, stores: Sequence[Store], own: BackupId) -> None:
    """Delete what the plan's retention does not keep; never the backup that was just made.

    Args:
        stores: The destinations that hold it; the others stay as they are.
    """
    with outcomes.told_to(lambda done: reports.publish_prune(plan, done, dry_run=False)):
        prune_plan(plan, stores, own=own)


def prune_or_tell(plan: BackupPlan, stores: Sequence[Store], own: BackupId) -> None:
    """Prune after a backup; a prune that fails is alerted as such, for the backup itself is committed."""
    try:
        prune_now(plan, stores, own)
    except (WorldError, BackupError, ExceptionGroup) as error:
        cause = told(error)
        get_run_logger().error(
            "backup %s is committed, but pruning failed: %s", own, cause, extra={hooks.ON_TERMINAL: True}
        )
        next_step = (
            getattr(error, "hint", "") or f"pgsalvo prune {plan.name} --dry-run shows what it would do"
        )
        alert = Alert("PRUNE_FAILED", plan.name, "prune", redact(cause), hooks.own_address(), next_step)
        hooks.send(plan, alert, get_run_logger())


def tell_of_missing_copies(plan: BackupPlan, backup_id: BackupId, destinations: Destinations) -> None:
    """Alert that some destinations do not hold a backup that enough others do: it counts, and is not lost."""
    if not destinations.lost:
        return
    told_each = "; ".join(f"{name}: {told(cause)}" for name, cause in destinations.lost.items())
    cause = f"backup {backup_id} is committed, but {len(destinations.lost)} destinations lack it: {told_each}"
    remedy = f"mend {', '.join(destinations.lost)}; then pgsalvo sync {plan.name} copies the backup there"
    alert = Alert("COPY_MISSING", plan.name, "upload", redact(cause), hooks.own_address(), remedy)
    hooks.send(plan, alert, get_run_logger())


def start_verification(plan: BackupPlan, backup_id: BackupId, database_bytes: int) -> None:
    """Ask the `verify` pool to prove the backup, if the plan wants that and this run is a deployment's.

    This host has no secret key; on the command line, `pgsalvo backup` verifies in the same process.
    """
    if not plan.verify.is_due_after_backup(database_bytes) or not prefect.runtime.deployment.id:
        return
    if not plan.verify.secret_key:
        get_run_logger().warning("backup %s is never verified: the plan names no secret key", backup_id)
        return
    tier = plan.tier_at(naming.started_at(backup_id))
    run = beside(
        "the start of the verification",
        lambda: run_deployment(
            VERIFY_DEPLOYMENT,
            parameters={"plan": plan.name, "backup": backup_id, "tier": tier},
            timeout=0,
            as_subflow=False,
        ),
        always=True,
    )
    if run is None:
        get_run_logger().warning("backup %s was not verified: start %s by hand", backup_id, VERIFY_DEPLOYMENT)
        cause = f"the verification of backup {backup_id} could not be started"
        remedy = f"start {VERIFY_DEPLOYMENT} by hand, and see whether it is deployed: pgsalvo apply"
        alert = Alert("VERIFY_NOT_STARTED", plan.name, "verify", cause, hooks.own_address(), remedy)
        hooks.send(plan, alert, get_run_logger())
