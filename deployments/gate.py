"""A gate for migrations: it opens, with exit code 0, only when a fresh backup of the plan is committed.

    backup_id=$(python -m deployments.gate shop --label "$GITHUB_SHA")

The backup's id is all that is printed on stdout. Exit codes: 0 committed, 1 no backup, or not within the
limit, 2 bad usage or configuration.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from typing import cast

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from prefect.utilities.urls import url_for

from flows import prefect_api, terminal

DEPLOYMENT = "back-up/pre-migration"
POLL_SECONDS = 3.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Start a backup, wait for its end, and return the exit code."""
    wanted = _parser().parse_args(arguments)
    if not prefect_api.api_address():
        return _closed(2, prefect_api.NOT_CONFIGURED, prefect_api.CONFIGURE)
    deadline = time.monotonic() + 60 * wanted.timeout_minutes
    try:
        parameters = {"plan": wanted.plan, "label": wanted.label}
        run = cast(
            FlowRun,
            run_deployment(
                DEPLOYMENT, parameters=parameters, timeout=0, as_subflow=False, idempotency_key=wanted.key
            ),
        )
        _tell(f"run {run.name}, {url_for(run)}: waiting at most {wanted.timeout_minutes:g} minutes,")
        _tell(f"also for another backup of {wanted.plan} that may be running")
        run = _awaited(run, deadline)
    except ObjectNotFound:
        return _closed(2, f"Prefect has no deployment {DEPLOYMENT}", "pgsalvo apply plans.toml")
    except httpx.HTTPError as error:
        return _closed(1, *prefect_api.explained(error))
    if run.state is None or not run.state.is_final():
        hint = f"wait for it, or end it: prefect flow-run cancel {run.id}"
        return _closed(1, f"no backup after {wanted.timeout_minutes:g} minutes; the run goes on", hint)
    if not run.state.is_completed():
        return _closed(1, f"no backup, the run is {run.state.name}: {run.state.message}", "do not migrate")
    print(run.state.message)  # noqa: T201
    return 0


def _awaited(run: FlowRun, deadline: float) -> FlowRun:
    """Return the run as it is at its end or at the deadline, telling each new state on the way."""
    told = ""
    with get_client(sync_client=True) as client:
        while time.monotonic() < deadline:
            try:
                run = client.read_flow_run(run.id)
            except httpx.TransportError as error:
                _tell(prefect_api.explained(error)[0])
            if run.state is not None and run.state.name != told:
                told = run.state.name or ""
                _tell(f"the run is {told}")
            if run.state is not None and run.state.is_final():
                break
            time.sleep(POLL_SECONDS)
    return run


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m deployments.gate", description="Back up before a migration.")
    parser.add_argument("plan", help="name of the backup plan")
    parser.add_argument("--label", default="", help="free words to find the backup by, such as a release")
    parser.add_argument("--timeout-minutes", type=float, default=60.0, help="how long to wait (60)")
    parser.add_argument("--key", help="the same key gives the same run, so that a CI job can be repeated")
    return parser


def _tell(line: str) -> None:
    print(line, file=sys.stderr)  # noqa: T201


def _closed(status: int, message: str, hint: str) -> int:
    terminal.say_error(message, hint)
    return status


if __name__ == "__main__":
    sys.exit(main())
