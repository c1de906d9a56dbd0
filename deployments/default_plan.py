"""A build step of prefect.yaml: whether its own schedules, those of the plan `default`, are to be active."""

from flows import environment
from flows.core.errors import PlanError
from flows.plan_source import PlanSource, load_plan
from flows.schedules import wanted_schedules

NAME = "default"


def look_up(deployment: str) -> dict[str, bool]:
    """Return whether a deployment is to run the plan `default` by the schedule that prefect.yaml gives it.

    Prefect's own `{{ $AUTO_BACKUP_ENABLED }}` cannot say it: an unset variable becomes an empty text there.

    Args:
        deployment: As Prefect names it, such as back-up/nightly.
    """
    if not environment.auto_backup_enabled():
        return _inactive(deployment, "AUTO_BACKUP_ENABLED is false")
    try:
        plan = load_plan(NAME, PlanSource("prefect"))
    except PlanError:
        return _inactive(deployment, f"Prefect has no plan {NAME}; pgsalvo apply plans.toml saves plans")
    if deployment not in wanted_schedules(plan):
        return _inactive(deployment, f"the plan {NAME} does not want it")
    return {"scheduled": True}


def _inactive(deployment: str, why: str) -> dict[str, bool]:
    print(f"   the schedule of {deployment} stays inactive: {why}")  # noqa: T201 - for whoever runs prefect deploy
    return {"scheduled": False}
