"""The migration's gate: it opens for a committed backup only, and says nothing but its id on stdout."""

import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterName
from prefect.client.schemas.objects import FlowRun, State
from prefect.settings import (
    PREFECT_API_AUTH_STRING,
    PREFECT_API_URL,
    PREFECT_CLIENT_MAX_RETRIES,
    temporary_settings,
)
from prefect.states import Cancelled, Completed, Crashed, Failed, Late, Running

from deployments import gate
from deployments.definitions import definitions
from deployments.deploying import deploy, make_pool
from tests.servers.ports import free_port
from tests.servers.prefect import PrefectServer
from tests.servers.s3 import broken_line

EXAMPLE = Path(gate.__file__).with_name("github-actions.yml")
BACKUP_ID = "20260128T020000Z-4f9c2a"

Event = State[Any] | Callable[[], object]


@dataclass
class Clock:
    """Stands in for the gate's `time`: while it sleeps, the next thing happens to the newest run."""

    client: SyncPrefectClient
    events: list[Event]
    now: float = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        if not self.events:
            return
        event = self.events.pop(0)
        if isinstance(event, State):
            self.client.set_flow_run_state(runs(self.client)[-1].id, event, force=True)
        else:
            event()


@pytest.fixture
def clock(client: SyncPrefectClient, monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A deployment in a pool without a worker: what becomes of its runs is up to the test."""
    definition = next(each for each in definitions() if each.name == "pre-migration")
    make_pool(client, "idle")
    _, deployed = deploy(client, replace(definition, name="idle", work_pool="idle"))
    clock = Clock(client, [])
    monkeypatch.setattr(gate, "DEPLOYMENT", deployed.name)
    monkeypatch.setattr(gate, "time", clock)
    return clock


def runs(client: SyncPrefectClient) -> list[FlowRun]:
    """The deployment's runs, oldest first."""
    idle = DeploymentFilter(name=DeploymentFilterName(any_=["idle"]))
    return sorted(client.read_flow_runs(deployment_filter=idle), key=lambda run: str(run.created))


def test_a_completed_backup_opens_the_gate_and_its_id_stands_alone(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    clock.events = [Late(), Running(), Running(), Completed(message=BACKUP_ID)]

    assert gate.main(["shop", "--label", "release 42"]) == 0

    output = capsys.readouterr()
    assert output.out == f"{BACKUP_ID}\n"
    assert runs(clock.client)[-1].parameters == {"plan": "shop", "label": "release 42"}
    waiting, *states = output.err.splitlines()
    assert waiting.startswith("waiting at most 60 minutes, also for a backup of shop that runs already: http")
    assert states == ["Scheduled", "Late, is a worker of the pool backup running?", "Running", "Completed"]


@pytest.mark.parametrize(
    "end",
    [
        pytest.param(Failed(message="no room left"), id="failed"),
        pytest.param(Crashed(message="no room left"), id="crashed"),
        pytest.param(Cancelled(message="no room left"), id="cancelled"),
    ],
)
def test_any_other_end_keeps_it_shut(
    clock: Clock, capsys: pytest.CaptureFixture[str], end: State[Any]
) -> None:
    clock.events = [Running(), end]

    assert gate.main(["shop"]) == 1

    output = capsys.readouterr()
    assert output.out == ""
    assert f"error: there is no backup: {end.name}: no room left" in output.err


def test_after_the_limit_it_stays_shut_and_leaves_the_run(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    clock.events = [Running()]

    assert gate.main(["shop", "--timeout-minutes", "0.5"]) == 1

    output = capsys.readouterr()
    (run,) = runs(clock.client)[-1:]
    assert output.out == ""
    assert 30 < clock.now <= 30 + 2 * gate.POLL_SECONDS
    assert "error: there is no backup after 0.5 minutes" in output.err
    assert f"prefect flow-run cancel {run.id}" in output.err
    assert run.state is not None
    assert run.state.is_running()


def test_the_same_key_awaits_the_same_run(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    before = len(runs(clock.client))

    assert gate.main(["shop", "--key", "pipeline-7", "--timeout-minutes", "0.1"]) == 1
    clock.events = [Completed(message=BACKUP_ID)]
    assert gate.main(["shop", "--key", "pipeline-7"]) == 0

    assert len(runs(clock.client)) == before + 1
    assert capsys.readouterr().out == f"{BACKUP_ID}\n"


def test_it_waits_on_while_the_server_is_away_for_a_moment(
    clock: Clock, server: PrefectServer, capsys: pytest.CaptureFixture[str]
) -> None:
    with broken_line(server.port) as line:
        clock.events = [Running(), line.refuse, line.mend, Completed(message=BACKUP_ID)]
        # Prefect's client would try again by itself for a minute
        settings = {PREFECT_API_URL: f"{line.endpoint_url}/api", PREFECT_CLIENT_MAX_RETRIES: 0}
        with temporary_settings(settings):
            assert gate.main(["shop"]) == 0

    output = capsys.readouterr()
    assert output.out == f"{BACKUP_ID}\n"
    assert "does not answer" in output.err


@pytest.mark.parametrize(
    ("address", "auth", "status", "message"),
    [
        pytest.param("", "", 2, "no Prefect API is configured", id="not-configured"),
        pytest.param("http://127.0.0.1:{free}/api", "", 1, "does not answer", id="unreachable"),
        pytest.param("{server}", "admin:wrong", 1, "401 Unauthorized", id="wrong-password"),
        pytest.param("{server}", "{auth}", 2, "no deployment back-up/nowhere", id="not-deployed"),
    ],
)
def test_what_is_wrong_with_prefect_is_said(
    server: PrefectServer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    address: str,
    auth: str,
    status: int,
    message: str,
) -> None:
    monkeypatch.setattr(gate, "DEPLOYMENT", "back-up/nowhere")
    settings = {
        PREFECT_API_URL: address.format(free=free_port(), server=server.api_url) or None,
        PREFECT_API_AUTH_STRING: auth.format(auth=server.auth) or None,
    }

    with temporary_settings(settings):
        assert gate.main(["shop"]) == status

    output = capsys.readouterr()
    error, hint = output.err.splitlines()
    assert output.out == ""
    assert error.startswith("error: ")
    assert message in error
    assert hint.startswith("HINT: ")


def test_a_wrong_call_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        gate.main([])

    assert caught.value.code == 2
    assert "plan" in capsys.readouterr().err


def test_the_example_migrates_only_behind_the_gate() -> None:
    job = yaml.safe_load(EXAMPLE.read_text(encoding="utf-8"))["jobs"]["migrate"]
    scripts = [step.get("run", "") for step in job["steps"]]
    (gated,) = [index for index, script in enumerate(scripts) if "deployments.gate" in script]
    (migrates,) = [index for index, script in enumerate(scripts) if "migrate.sh" in script]
    (call,) = re.findall(r"-m deployments\.gate (.*)\)", scripts[gated])
    wanted = gate._parser().parse_args(shlex.split(call))

    assert gated < migrates
    assert "if" not in job["steps"][migrates]
    assert "continue-on-error" not in job["steps"][gated]
    assert wanted.timeout_minutes < job["timeout-minutes"]
    assert "GITHUB_RUN_ATTEMPT" in wanted.key, "a repeated job must not await the run that failed"
    assert job["env"]["PREFECT_API_AUTH_STRING"].startswith("${{ secrets.")
