"""The demo in Prefect's UI: a real server, the plan's deployments, and a worker for each of the two pools.

All of them end with the demo. The server listens on this machine only and asks for no password: it is for
a look, while README shows a server with its door shut.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import cast

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowFilter, FlowFilterName
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.sorting import FlowRunSort
from prefect.deployments import run_deployment
from prefect.settings import PREFECT_API_URL, temporary_settings

from deployments.demo_database import HOST, DemoError, running_server
from deployments.demo_stage import PLAN, set_stage
from deployments.demo_story import copy_of
from deployments.demo_terminal import done, heading, out, short, show_proof, wait_for_interrupt, working
from flows import terminal

PORTS = range(4200, 4300)
POOLS = ("backup", "verify")

_START_SECONDS = 90.0
_RUN_SECONDS = 300.0
_STOP_SECONDS = 15.0
_POLL_SECONDS = 0.5


def show(directory: Path) -> None:
    """Back up and verify by Prefect's workers, and leave the UI up until Ctrl-C."""
    began = time.monotonic()
    terminal.quiet_prefect()
    heading("pgsalvo demo", f"a sample shop is backed up and proved by Prefect, all in {short(directory)}/")
    with ExitStack() as stack:
        with working("starting PostgreSQL"):
            database = stack.enter_context(running_server(directory))
        is_new = set_stage(directory, database)
        logs = directory / "logs"
        logs.mkdir(exist_ok=True)
        address = stack.enter_context(prefect_server(logs))
        environment = _environment(address)
        apply_plans(directory / "plans.toml", environment, logs)
        for pool in POOLS:
            stack.enter_context(worker(pool, environment, logs))
        with (
            temporary_settings({PREFECT_API_URL: f"{address}/api"}),
            get_client(sync_client=True) as client,
        ):
            backup_id = back_up(client, new_source=is_new)
            await_verification(client, backup_id)
        show_proof(copy_of(backup_id), time.monotonic() - began)
        point_to(address)
        wait_for_interrupt()


@contextmanager
def prefect_server(logs: Path) -> Iterator[str]:
    """Start `prefect server start`, and yield the address of its UI once it answers."""
    port = _free_port()
    address = f"http://{HOST}:{port}"
    argv = (*_prefect(), "server", "start", "--host", HOST, "--port", str(port))
    with service("server", argv, _environment(""), logs) as process:
        with working("starting Prefect's server"):
            _wait_until_healthy(address, process, logs)
        done("server", f"{address}, and a worker for each of the pools {' and '.join(POOLS)}")
        yield address


def apply_plans(plans: Path, environment: Mapping[str, str], logs: Path) -> None:
    """Let `pgsalvo apply` save the plan and its deployments to Prefect."""
    log = logs / "apply.log"
    argv = (sys.executable, "-m", "deployments.bootstrap", str(plans))
    with working("applying the plan"), log.open("wb") as output:
        status = subprocess.call(argv, stdout=output, stderr=subprocess.STDOUT, env=environment)
    if status != 0:
        raise DemoError(f"pgsalvo apply failed: {_last_line(log)}", f"all of it is in {short(log)}")
    lines = log.read_text(encoding="utf-8").splitlines()
    done("apply", f"the plan, {sum(' deployment ' in line for line in lines)} deployments, their schedules")


@contextmanager
def worker(pool: str, environment: Mapping[str, str], logs: Path) -> Iterator[None]:
    """Start a process worker of a pool."""
    name = f"worker-{pool}"
    argv = (*_prefect(), "worker", "start", "--type", "process", "--pool", pool, "--name", f"demo-{pool}")
    with service(name, argv, environment, logs):
        yield


@contextmanager
def service(
    name: str, argv: tuple[str, ...], environment: Mapping[str, str], logs: Path
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a program in a process group of its own, of which nothing is left at the end."""
    with (logs / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError, subprocess.TimeoutExpired):
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(_STOP_SECONDS)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def back_up(client: SyncPrefectClient, *, new_source: bool) -> str:
    """Run the deployment back-up/on-demand, and return the backup's id."""
    heading("1 back up", "a run of back-up/on-demand, by the worker of the pool backup")
    parameters = {"plan": PLAN, "label": "demo", "new_source": new_source}
    run = run_deployment("back-up/on-demand", parameters=parameters, timeout=0, as_subflow=False)
    backup_id = _outcome(client, cast(FlowRun, run))
    done("committed", backup_id)
    return backup_id


def await_verification(client: SyncPrefectClient, backup_id: str) -> None:
    """Wait for the verification, which the backup's run started by itself."""
    heading("2 verify", "a run of verify/on-demand that the backup started, by the worker of the pool verify")
    recent = client.read_flow_runs(
        flow_filter=FlowFilter(name=FlowFilterName(any_=["verify"])),
        sort=FlowRunSort.EXPECTED_START_TIME_DESC,
        limit=20,
    )
    runs = [run for run in recent if run.parameters.get("backup") == backup_id]
    if not runs:
        raise DemoError(f"no run verifies the backup {backup_id}", "see the log of the backup's run")
    _outcome(client, runs[0])
    done("verified", backup_id)


def point_to(address: str) -> None:
    """Say where to look."""
    out.print("\n[bold]Look around[/]")
    for what, page in (
        ("the two runs", "runs"),
        ("their reports, and the catalogue", "artifacts"),
        ("start one yourself: Run, with plan = shop", "deployments"),
    ):
        out.print(f"  {address}/{page:<12}  [dim]{what}[/]")


def _outcome(client: SyncPrefectClient, run: FlowRun) -> str:
    """Wait for a run's end, and return what its state says: the backup's id."""
    deadline = time.monotonic() + _RUN_SECONDS
    with working(run.name) as say:
        while run.state is None or not run.state.is_final():
            if time.monotonic() > deadline:
                raise DemoError(f"the run {run.name} did not end within {_RUN_SECONDS:g} s")
            time.sleep(_POLL_SECONDS)
            run = client.read_flow_run(run.id)
            say(f"{run.name} is {_state_name(run)}")
    if not run.state.is_completed():
        raise DemoError(f"the run {run.name} is {_state_name(run)}: {run.state.message or 'no word why'}")
    return run.state.message or ""


def _state_name(run: FlowRun) -> str:
    return run.state.name.lower() if run.state and run.state.name else "new"


def _wait_until_healthy(address: str, process: "subprocess.Popen[bytes]", logs: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(httpx.TransportError):
            if httpx.get(f"{address}/api/health").is_success:
                return
        time.sleep(_POLL_SECONDS)
    log = logs / "server.log"
    raise DemoError(f"Prefect's server did not start: {_last_line(log)}", f"all of it is in {short(log)}")


def _environment(address: str) -> dict[str, str]:
    """Return the environment of Prefect's processes: they log in full, and read plans from blocks."""
    ours = ("PGSALVO_PLANS", "PREFECT_LOGGING_ROOT_LEVEL", "PREFECT_LOGGING_SERVER_LEVEL")
    environment = {name: value for name, value in os.environ.items() if name not in ours}
    if address:
        environment |= {"PREFECT_API_URL": f"{address}/api", "PREFECT_WORKER_QUERY_SECONDS": "2"}
    return environment


def _prefect() -> tuple[str, ...]:
    return (sys.executable, "-m", "prefect")


def _free_port() -> int:
    for port in PORTS:
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, port))
            return port
    raise DemoError(f"no port from {PORTS[0]} to {PORTS[-1]} is free on {HOST}")


def _last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines()]
    return next((line for line in reversed(lines) if line), "without a word")
