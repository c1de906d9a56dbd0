"""prefect.yaml holds nothing that Prefect would pass over in silence: unknown words, lost variables."""

import inspect
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from pkgutil import resolve_name
from typing import Any
from zoneinfo import available_timezones

import pytest
import yaml
from croniter import croniter
from prefect import Flow
from prefect.cli.deploy._models import (
    ConcurrencyLimitSpec,
    DeploymentConfig,
    PrefectYamlModel,
    RawScheduleConfig,
    WorkPoolConfig,
)
from prefect.client.schemas.objects import ConcurrencyLimitStrategy
from pydantic import BaseModel

from deployments.default_plan import NAME, look_up
from deployments.definitions import definitions
from flows.after_backup import VERIFY_DEPLOYMENT
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
)

ROOT = Path(__file__).parents[2]
FILE = ROOT / "prefect.yaml"
POOLS = {
    "back-up": "backup",
    "prune": "backup",
    "sync": "backup",
    "scrub": "backup",
    "verify": "verify",
    "restore": "verify",
}
PLACEHOLDER = re.compile(r"{{\s*(.*?)\s*}}")

Document = dict[str, Any]


def faults(whole: Document) -> Iterator[str]:
    """Yield what Prefect would not say of a prefect.yaml."""
    top = words(PrefectYamlModel) | {"definitions"}
    yield from unknown(whole, top, "prefect.yaml")
    if whole.get("pull") != []:
        yield "pull is not the empty list: workers elsewhere would look for this directory"
    seen: set[str] = set()
    for deployment in whole["deployments"]:
        flow = flow_of(deployment)
        name = f"{flow.name if flow else '?'}/{deployment.get('name')}"
        yield from (f"{name}: {fault}" for fault in deployment_faults(deployment, flow))
        if name in seen:
            yield f"{name} stands there twice"
        seen.add(name)


def deployment_faults(deployment: Document, flow: "Flow[Any, Any] | None") -> Iterator[str]:
    yield from unknown(deployment, words(DeploymentConfig), "deployment")
    yield from unknown(deployment.get("work_pool", {}), words(WorkPoolConfig), "work_pool")
    limit = deployment.get("concurrency_limit")
    if isinstance(limit, dict):
        yield from unknown(limit, words(ConcurrencyLimitSpec), "concurrency_limit")
        if limit.get("collision_strategy") not in [strategy.value for strategy in ConcurrencyLimitStrategy]:
            yield f"no such collision_strategy: {limit.get('collision_strategy')}"
    if flow is None:
        yield f"no flow at {deployment.get('entrypoint')}"
        return
    if deployment.get("work_pool", {}).get("name") != POOLS[flow.name]:
        yield f"not in the pool {POOLS[flow.name]}"
    parameters = inspect.signature(flow.fn).parameters
    yield from unknown(deployment.get("parameters", {}), set(parameters), "parameter")
    slugs = [schedule.get("slug") for schedule in deployment.get("schedules", [])]
    if len(set(slugs)) < len(slugs):
        yield "two schedules have the same slug"
    for schedule in deployment.get("schedules", []):
        given = deployment.get("parameters", {}) | schedule.get("parameters", {})
        yield from unknown(given, set(parameters), "parameter")
        yield from missing(given, parameters)
        yield from schedule_faults(schedule)
    yield from step_faults(deployment)


def schedule_faults(schedule: Document) -> Iterator[str]:
    yield from unknown(schedule, words(RawScheduleConfig), "schedule")
    if not schedule.get("slug"):
        yield "a schedule without a slug is made anew at each deploy"
    if not croniter.is_valid(str(schedule.get("cron"))) or len(str(schedule.get("cron")).split()) != 5:
        yield f"not a cron expression: {schedule.get('cron')}"
    if schedule.get("timezone") not in available_timezones():
        yield f"no such time zone: {schedule.get('timezone')}"


def step_faults(deployment: Document) -> Iterator[str]:
    """Every placeholder must be an output of a build step whose function takes the inputs it is given."""
    outputs: set[str] = set()
    for step in deployment.get("build", []):
        for path, inputs in step.items():
            function = resolved(path)
            if not inspect.isfunction(function):
                yield f"no build step at {path}"
                continue
            yield from unknown(inputs, set(inspect.signature(function).parameters) | {"id"}, "input")
            outputs |= {f"{inputs.get('id')}.scheduled"} if function is look_up else set()
    for placeholder in PLACEHOLDER.findall(yaml.safe_dump(deployment)):
        if placeholder not in outputs:
            yield f"nothing fills {{{{ {placeholder} }}}}"


def words(model: type[BaseModel]) -> set[str]:
    return {field.alias or name for name, field in model.model_fields.items()}


def unknown(table: Mapping[str, Any], known: set[str], what: str) -> Iterator[str]:
    return (f"{what}: unknown word {word}" for word in table if word not in known)


def missing(given: Mapping[str, Any], parameters: Mapping[str, inspect.Parameter]) -> Iterator[str]:
    for name, parameter in parameters.items():
        if parameter.default is inspect.Parameter.empty and name not in given:
            yield f"a scheduled run has no {name}"


def flow_of(deployment: Document) -> "Flow[Any, Any] | None":
    """The flow of a dotted entry point; one by file would load its module twice."""
    found = resolved(str(deployment.get("entrypoint")))
    return found if isinstance(found, Flow) else None


def resolved(path: str) -> object:
    try:
        return resolve_name(path) if ":" not in path else None
    except (ImportError, AttributeError, ValueError):
        return None


def test_the_file_has_no_fault_that_prefect_would_pass_over() -> None:
    assert list(faults(yaml.safe_load(FILE.read_text()))) == []


def test_the_file_deploys_what_the_readme_names() -> None:
    deployed = [f"{definition.flow().name}/{definition.name}" for definition in definitions()]

    assert deployed == [
        "back-up/nightly", "back-up/on-demand", "back-up/pre-migration",
        "verify/weekly", "verify/on-demand", "prune/daily", "sync/daily", "scrub/weekly",
        "restore/on-demand",
    ]  # fmt: skip
    assert {NIGHTLY, WEEKLY, DAILY, SYNC, SCRUB, VERIFY_DEPLOYMENT} <= set(deployed)


def test_its_schedules_are_those_that_the_plan_default_gets_from_apply() -> None:
    crons = {
        f"{flow.name}/{deployment['name']}": schedule["cron"]
        for deployment in yaml.safe_load(FILE.read_text())["deployments"]
        for schedule in deployment.get("schedules", [])
        if (flow := flow_of(deployment)) and schedule["slug"] == schedule["parameters"]["plan"] == NAME
    }

    assert crons == {
        NIGHTLY: "0 2 * * *",
        WEEKLY: VERIFY_CRON,
        DAILY: PRUNE_CRON,
        SYNC: SYNC_CRON,
        SCRUB: SCRUB_CRON,
    }


def test_the_installed_package_holds_this_very_file() -> None:
    assert (ROOT / "deployments" / "prefect.yaml").read_bytes() == FILE.read_bytes()


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        pytest.param("pull: []", "pul: []", "prefect.yaml: unknown word pul", id="a-word-at-the-top"),
        pytest.param("pull: []", "pull: null", "pull is not the empty list", id="the-default-pull-step"),
        pytest.param("tags: *tags", "tag: *tags", "deployment: unknown word tag", id="a-deployment's-word"),
        pytest.param("name: backup }", "pool: backup }", "work_pool: unknown word pool", id="a-pool's-word"),
        pytest.param("name: backup }", "name: verify }", "not in the pool backup", id="another-pool"),
        pytest.param("name: pre-migration", "name: nightly", "nightly stands there twice", id="a-name-twice"),
        pytest.param("backup.back_up", "backup.backup", "no flow at flows.backup.backup", id="no-such-flow"),
        pytest.param("backup.back_up", "back.up", "no flow at flows.back.up", id="no-such-module"),
        pytest.param("backup.back_up", "backup:back_up", "no flow at flows.backup:back_up", id="not-dotted"),
        pytest.param("{ plan:", "{ plans:", "parameter: unknown word plans", id="an-unknown-parameter"),
        pytest.param("{ plan: default }", "{}", "a scheduled run has no plan", id="a-parameter-is-missing"),
        pytest.param("timezone:", "zone:", "schedule: unknown word zone", id="a-schedule's-word"),
        pytest.param("timezone: UTC", "", "no such time zone: None", id="no-time-zone"),
        pytest.param("timezone: UTC", "timezone: Europe/Madird", "zone: Europe/Madird", id="a-wrong-zone"),
        pytest.param("0 2 * * *", "0 25 * * *", "not a cron expression: 0 25 * * *", id="a-wrong-cron"),
        pytest.param("0 2 * * *", "0 0 2 * * *", "not a cron expression: 0 0 2 * * *", id="a-cron-of-six"),
        pytest.param("slug: default", "max_scheduled_runs: 1", "a schedule without a slug", id="no-slug"),
        pytest.param(
            "- slug: default",
            "- { slug: default }\n      - slug: default",
            "two schedules have the same slug",
            id="a-slug-twice",
        ),
        pytest.param(
            "name: nightly",
            "concurrency_limit: { limit: 1, collision_strategy: WAIT }",
            "no such collision_strategy: WAIT",
            id="a-wrong-collision-strategy",
        ),
        pytest.param(
            "name: nightly",
            "concurrency_limit: { max: 1, collision_strategy: ENQUEUE }",
            "concurrency_limit: unknown word max",
            id="a-limit's-word",
        ),
        pytest.param(
            "default-plan.scheduled",
            "$ENABLED",
            "nothing fills {{ $ENABLED }}",
            id="a-variable-that-may-be-unset",
        ),
        pytest.param(
            "description: Backs",
            "version: '{{ prefect.blocks.secret.a }}' # ",
            "nothing fills {{ prefect.blocks.secret.a }}",
            id="a-secret-in-the-clear",
        ),
        pytest.param(
            "id: default-plan", "id: other", "nothing fills {{ default-plan", id="a-step's-other-id"
        ),
        pytest.param(
            "look_up:", "find:", "no build step at deployments.default_plan.find", id="no-such-step"
        ),
        pytest.param("deployment: back", "flow: back", "input: unknown word flow", id="a-step's-input"),
    ],
)
def test_a_broken_file_is_found_out(old: str, new: str, fault: str) -> None:
    text = FILE.read_text(encoding="utf-8")
    assert old in text

    found = list(faults(yaml.safe_load(text.replace(old, new, 1))))

    assert any(fault in each for each in found), found
