"""The deployments at work: a real server with a password, workers elsewhere, a database, a store, Slack."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from blocks.stores import LocalStore
from flows.catalogue import committed_backups, read_store
from flows.core.naming import MAIN_ARCHIVE, BackupId, backup_prefix
from flows.core.verification import Verdict
from tests.servers import keys
from tests.servers.postgres import PASSWORD, SUPERUSER, PostgresServer
from tests.servers.prefect import BIN, PrefectServer, Worker
from tests.servers.programs import stubbed_programs
from tests.servers.slack import SlackStub, slack_stub

pytestmark = pytest.mark.timeout(600)  # a server, two workers and their first runs on a busy machine

ROOT = Path(__file__).parents[2]
LEADS_SECONDS = (100, 160, 220, 280)
LEAST_LEAD_SECONDS = 20
ROWS = """
    CREATE TABLE goods (id serial PRIMARY KEY, name text NOT NULL);
    INSERT INTO goods (name) SELECT 'thing ' || n FROM generate_series(1, 5000) n;
"""
PLAN = """
[plans.{name}]
schedule = "{schedule}"
recipients = ["ops.asc"]
database = {{ host = "127.0.0.1", port = {port}, dbname = "{dbname}", user = "{user}",\
 password = "env:{password}", client_directory = "{programs}" }}
stores = [{{ name = "local", kind = "local", path = "store" }}]
alerts = [{{ kind = "slack", webhook_url = "env:SLACK_WEBHOOK_URL" }}]
verify = {{ schedule = "{verify}", secret_key = "ops" }}
attempts = 1
"""
SECRET_KEYS = '[secret_keys.ops]\nkey_file = "{}"\n'
FINAL = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
STATES = ("SCHEDULED", "PENDING", "RUNNING", *FINAL)
TOLD = (
    "block_documents", "variables", "deployments", "flows", "flow_runs", "task_runs", "artifacts", "logs",
    "work_pools", "automations",
)  # fmt: skip


@dataclass
class Site:
    """Four plans on a server: `default` and `stock` are good, `broken` has a wrong password, `slow` waits.

    Only the backup worker knows passwords. Only the verify worker asks for the secret key.
    """

    server: PrefectServer
    postgres: PostgresServer
    slack: SlackStub
    directory: Path
    backup_worker: Worker = field(init=False)

    def apply(self, schedule: str, **environment: str) -> None:
        """Give all plans but `slow` this schedule, as `pgsalvo apply` does it."""
        programs = self.postgres.programs
        plans = (
            ("default", schedule, "shop", "PASSWORD", "after-backup", programs),
            ("stock", schedule, "stock", "PASSWORD", "never", programs),
            ("broken", schedule, "shop", "WRONG_PASSWORD", "never", programs),
            ("slow", "never", "shop", "PASSWORD", "never", self.directory / "slow-programs"),
        )
        text = SECRET_KEYS.format(keys.normal().secret_file)
        for name, cron, dbname, password, verify, place in plans:
            text += PLAN.format(
                name=name, schedule=cron, port=self.postgres.port, dbname=dbname, user=SUPERUSER,
                password=password, verify=verify, programs=place,
            )  # fmt: skip
        (self.directory / "plans.toml").write_text(text)
        (self.directory / "ops.asc").write_text(keys.normal().public_text)
        command = (sys.executable, "-m", "deployments.bootstrap", self.directory / "plans.toml")
        done = self.server.run(command, environment)
        assert done.returncode == 0, done.stderr

    def start(self, deployment: str, **parameters: str) -> str:
        """Start a run as anybody does with curl, and return its id."""
        found = self.server.request("GET", f"/deployments/name/{deployment}")
        path = f"/deployments/{found['id']}/create_flow_run"
        return str(self.server.request("POST", path, {"parameters": parameters})["id"])

    def end_of(self, run: str) -> dict[str, Any]:
        """Wait for a run's end, and return its state."""
        state: dict[str, Any] = {}

        def has_ended() -> bool:
            state.update(self.server.request("GET", f"/flow_runs/{run}")["state"])
            return state["type"] in FINAL

        wait(has_ended, f"the end of the run {run}")
        return state

    def runs(self, flow: str, *states: str) -> list[dict[str, Any]]:
        """Return a flow's runs in these states."""
        where = {
            "flows": {"name": {"any_": [flow]}},
            "flow_runs": {"state": {"type": {"any_": states}}},
        }
        found: list[dict[str, Any]] = self.server.request("POST", "/flow_runs/filter", where)
        return found

    def back_up(self, plan: str) -> BackupId:
        """Make a backup by a run of its own, and return its id."""
        state = self.end_of(self.start("back-up/on-demand", plan=plan))
        assert state["type"] == "COMPLETED", self.backup_worker.output
        return BackupId(state["message"])

    def backups(self, plan: str) -> dict[BackupId, Verdict | None]:
        """Return the plan's committed backups and their verdicts, as the store has them."""
        store = LocalStore(name="local", path=str(self.directory / "store"))
        return {backup.backup_id: backup.verdict for backup in committed_backups(read_store(store, plan))}

    def all_that_prefect_tells(self) -> Iterator[str]:
        """Yield every text that the API gives, with the blocks' secrets."""
        for kind in TOLD:
            body = {"include_secrets": True} if kind == "block_documents" else {}
            yield from texts(self.server.request("POST", f"/{kind}/filter", body))

    def all_that_the_backup_worker_has(self) -> Iterator[str]:
        worker = psutil.Process(self.backup_worker.process.pid)
        for process in (worker, *worker.children(recursive=True)):
            yield from texts(process.environ())


def wait(happened: Callable[[], object], what: str, seconds: float = 90.0) -> None:
    """Look twice a second until something has happened; fail loudly after `seconds`."""
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, f"within {seconds:g} s this did not happen: {what}"
        time.sleep(0.5)


def texts(answer: object) -> Iterator[str]:
    """Yield every text in a JSON document, names included."""
    if isinstance(answer, str):
        yield answer
    elif isinstance(answer, dict):
        yield from texts([*answer.keys(), *answer.values()])
    elif isinstance(answer, list):
        for each in answer:
            yield from texts(each)


@pytest.fixture(scope="module")
def site(
    server: PrefectServer, postgres15: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("site")
    slow = f'touch {directory}/started; until [ -e {directory}/go ]; do sleep 0.1; done; exec $REAL "$@"'
    stubbed_programs(directory / "slow-programs", postgres15.programs, pg_dump=slow)
    with ExitStack() as stack:
        slack = stack.enter_context(slack_stub())
        for dbname in ("shop", "stock"):
            stack.enter_context(postgres15.database(dbname))
            postgres15.execute(ROWS, dbname)
        site = Site(server, postgres15, slack, directory)
        site.apply("never")
        everybody = {
            "SLACK_WEBHOOK_URL": slack.url,
            "PATH": f"{postgres15.programs}{os.pathsep}{server.environment['PATH']}",
        }
        passwords = {"PASSWORD": PASSWORD, "WRONG_PASSWORD": "not-the-password"}
        site.backup_worker = server.start_worker("backup", everybody | passwords)
        stack.callback(site.backup_worker.stop)
        stack.callback(server.start_worker("verify", everybody).stop)
        yield site


@pytest.fixture(scope="module")
def due_at(site: Site) -> datetime:
    """The minute at which three plans are due, once; what other tests do until then costs no waiting.

    Prefect must hear of it some time before: later than that, the next such minute is in a year.
    """
    for lead in LEADS_SECONDS:
        at = (datetime.now(UTC) + timedelta(seconds=lead)).replace(second=0, microsecond=0)
        site.apply(f"{at.minute} {at.hour} {at.day} {at.month} *")
        if _seconds_until(at) >= LEAST_LEAD_SECONDS:
            return at
    raise AssertionError(f"to apply the plans took longer than {LEADS_SECONDS[-1] - 60} s")


def _seconds_until(at: datetime) -> float:
    return (at - datetime.now(UTC)).total_seconds()


def test_prefect_yaml_deployed_by_prefect_itself_makes_runs_of_the_plan_default(site: Site) -> None:
    site.apply("0 2 * * *", AUTO_BACKUP_ENABLED="false")
    deploy = (BIN / "prefect", "--no-prompt", "deploy", "--all")

    off = site.server.run(deploy, {"AUTO_BACKUP_ENABLED": "false"}, cwd=ROOT)
    runs_when_off = site.runs("back-up", "SCHEDULED")
    on = site.server.run(deploy, cwd=ROOT)
    wait(lambda: site.runs("back-up", "SCHEDULED"), "a scheduled run")

    assert (off.returncode, on.returncode) == (0, 0), off.stderr + on.stderr
    assert "AUTO_BACKUP_ENABLED is false" in off.stdout
    assert runs_when_off == []
    runs = site.runs("back-up", "SCHEDULED")
    assert {run["parameters"]["plan"] for run in runs} == {"default"}
    assert {run["expected_start_time"][11:16] for run in runs} == {"02:00"}


@pytest.mark.parametrize(
    ("deployment", "required"),
    [
        pytest.param("back-up/on-demand", ["plan"], id="back-up"),
        pytest.param("verify/on-demand", ["plan"], id="verify"),
        pytest.param("prune/daily", ["plan"], id="prune"),
        pytest.param("sync/daily", ["plan"], id="sync"),
        pytest.param("scrub/weekly", ["plan"], id="scrub"),
        pytest.param("restore/on-demand", ["plan", "into"], id="restore"),
    ],
)
@pytest.mark.usefixtures("due_at")
def test_the_run_form_asks_for_the_plan_and_describes_every_field(
    site: Site, deployment: str, required: list[str]
) -> None:
    schema = site.server.request("GET", f"/deployments/name/{deployment}")["parameter_openapi_schema"]

    assert schema["required"] == required
    assert schema["properties"]["plan"]["description"] == "Name of the backup plan."
    assert [name for name, field in schema["properties"].items() if not field.get("description")] == []


@pytest.mark.parametrize("auth", [None, ("admin", "wrong")], ids=["nobody", "wrong-password"])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/deployments/name/back-up/on-demand"),
        ("POST", "/deployments/{id}/create_flow_run"),
        ("POST", "/block_documents/filter"),
    ],
)
def test_without_the_password_nobody_is_let_in(
    site: Site, auth: tuple[str, str] | None, method: str, path: str
) -> None:
    found = site.server.request("GET", "/deployments/name/back-up/on-demand")
    address = site.server.api_url + path.format(id=found["id"])

    answer = httpx.request(method, address, json={}, auth=auth, timeout=30, trust_env=False)

    assert answer.status_code == 401


@pytest.mark.usefixtures("due_at")
def test_a_run_started_over_the_api_tells_its_backup_which_is_then_verified(site: Site) -> None:
    made = site.back_up("default")

    assert made in site.backups("default")
    (verification,) = [run for run in site.runs("verify", *STATES) if run["parameters"].get("backup") == made]
    proved = site.end_of(verification["id"])
    assert (proved["type"], proved["message"]) == ("COMPLETED", made)
    assert site.backups("default")[made] is Verdict.VERIFIED


@pytest.mark.usefixtures("due_at")
def test_the_gate_opens_for_a_real_backup(site: Site) -> None:
    passed = site.server.run((sys.executable, "-m", "deployments.gate", "stock", "--label", "release 42"))

    assert passed.returncode == 0, passed.stderr
    assert passed.stdout.removesuffix("\n") in site.backups("stock")


def test_of_three_plans_at_the_same_minute_one_fails_and_one_message_tells_it(
    site: Site, due_at: datetime
) -> None:
    def ended() -> list[dict[str, Any]]:
        return [
            run
            for run in site.runs("back-up", *FINAL)
            if run["auto_scheduled"] and run["expected_start_time"].startswith(f"{due_at:%Y-%m-%dT%H:%M:00}")
        ]

    def failed() -> int:
        """How often: also at an earlier minute, if that had come before a later one was chosen."""
        return len([run for run in site.runs("back-up", "FAILED") if run["auto_scheduled"]])

    wait(lambda: len(ended()) == 3, "the end of three runs", max(_seconds_until(due_at), 0) + 180)
    wait(lambda: len(site.slack.texts) >= failed(), "a message")

    runs = {run["parameters"]["plan"]: run["state"] for run in ended()}
    states = {plan: state["type"] for plan, state in runs.items()}
    assert states == {"default": "COMPLETED", "stock": "COMPLETED", "broken": "FAILED"}
    for plan in ("default", "stock"):
        assert runs[plan]["message"] in site.backups(plan)
    assert site.backups("broken") == {}
    assert len(site.slack.texts) == failed()
    for text in site.slack.texts:
        assert text.startswith("BACKUP_FAILED: plan broken, ")
        assert "password authentication failed" in text


def test_the_backup_worker_and_prefect_together_cannot_decrypt_a_backup(site: Site, tmp_path: Path) -> None:
    made = site.back_up("stock")
    archive = site.directory / "store" / backup_prefix("stock", made) / MAIN_ARCHIVE
    known = "\n".join((*site.all_that_prefect_tells(), *site.all_that_the_backup_worker_has()))
    materials = re.findall(r"-----BEGIN PGP .*?-----END PGP [A-Z ]+-----", known, re.DOTALL)

    tried = _decrypted(archive, tmp_path / "theirs", *materials)
    control = _decrypted(archive, tmp_path / "ours", *materials, keys.normal().secret_text)

    assert "env:SLACK_WEBHOOK_URL" in known, "the blocks are among it"
    assert PASSWORD in known, "the worker's environment is among it"
    assert any("PUBLIC KEY" in material for material in materials)
    assert tried.returncode != 0
    assert b"NO_SECKEY" in tried.stderr
    assert control.returncode == 0
    assert b"DECRYPTION_OKAY" in control.stderr


def _decrypted(archive: Path, homedir: Path, *materials: str) -> "subprocess.CompletedProcess[bytes]":
    """Try to decrypt with whatever keys are among the materials."""
    homedir.mkdir(mode=0o700)
    gpg = ("gpg", "--homedir", homedir, "--batch", "--no-tty", "--status-fd", "2")
    for material in materials:
        subprocess.run((*gpg, "--import"), input=material.encode(), capture_output=True, check=True)
    done = subprocess.run((*gpg, "--decrypt", archive), capture_output=True)
    subprocess.run(("gpgconf", "--homedir", homedir, "--kill", "gpg-agent"), check=True)
    return done


def test_a_backup_is_committed_although_the_server_died_in_mid_dump(site: Site) -> None:
    site.start("back-up/on-demand", plan="slow")
    wait((site.directory / "started").exists, "the dump's start")
    said_before = len(site.backup_worker.output)

    site.server.kill()
    try:
        (site.directory / "go").touch()
        wait(lambda: site.backups("slow"), "the commit without a server")
        wait(lambda: "the work goes on without it" in site.backup_worker.output[said_before:], "a warning")
    finally:
        site.server.start()
