"""A gate for migrations: it opens, with exit code 0, only when a fresh backup of the plan is committed.

    backup_id=$(python -m deployments.gate shop --label "$GITHUB_SHA")

The backup's id is all that is printed on stdout. Exit codes: 0 committed, 1 no backup within the limit,
2 bad usage or configuration.
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

from flows import prefect_api

DEPLOYMENT = "back-up/pre-migration"
POLL_SECONDS = 3.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Start a backup, wait for its end, and return the exit code."""
    wanted = _parser().parse_args(arguments)
    limit = f"{wanted.timeout_minutes:g} minutes"
    if not prefect_api.api_address():
        return _closed(2, prefect_api.NOT_CONFIGURED, prefect_api.CONFIGURE)
    try:
        parameters = {"plan": wanted.plan, "label": wanted.label}
        started = run_deployment(
            DEPLOYMENT, parameters=parameters, timeout=0, as_subflow=False, idempotency_key=wanted.key or None
        )
        run = cast(FlowRun, started)
        _tell(
            f"waiting at most {limit}, also for a backup of {wanted.plan} that runs already: {url_for(run)}"
        )
        run = _awaited(run, time.monotonic() + 60 * wanted.timeout_minutes)
    except ObjectNotFound:
        return _closed(2, f"Prefect has no deployment {DEPLOYMENT}", "pgsalvo apply plans.toml makes it")
    except httpx.HTTPError as error:
        return _closed(1, *prefect_api.explained(error))
    if run.state is None or not run.state.is_final():
        hint = f"the run goes on: await it with the same --key, or end it: prefect flow-run cancel {run.id}"
        return _closed(1, f"there is no backup after {limit}", hint)
    if not run.state.is_completed():
        return _closed(1, f"there is no backup: {run.state.name}: {run.state.message}", "do not migrate")
    print(run.state.message)  # noqa: T201
    return 0


def _awaited(run: FlowRun, deadline: float) -> FlowRun:
    """Return the run as it is at its end or at the deadline, telling each new state of it."""
    told = None
    with get_client(sync_client=True) as client:
        while True:
            try:
                run = client.read_flow_run(run.id)
            except httpx.TransportError as error:
                _tell(f"{prefect_api.explained(error)[0]}; asking again")
            if run.state and run.state.name != told:
                told = run.state.name
                _tell(f"{told}{', is a worker of the pool backup running?' if told == 'Late' else ''}")
            if (run.state and run.state.is_final()) or time.monotonic() > deadline:
                return run
            time.sleep(POLL_SECONDS)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("gate", description="Back up a plan now; exit 0 only if that succeeded.")
    parser.add_argument("plan", help="name of the backup plan")
    parser.add_argument("--label", default="", help="free words to find the backup by")
    parser.add_argument("--timeout-minutes", type=float, default=60.0, help="how long to wait (default: 60)")
    parser.add_argument("--key", default="", help="the same key awaits the same run")
    return parser


def _closed(status: int, message: str, hint: str) -> int:
    _tell(f"error: {message}")
    _tell(f"HINT: {hint}")
    return status


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
