"""`pgsalvo apply` on a real server: afterwards everything is there, nothing secret is, and twice is once."""

import json
import subprocess
from pathlib import Path

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate, WorkPoolCreate
from prefect.client.schemas.objects import DeploymentSchedule
from prefect.client.schemas.schedules import CronSchedule
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

from blocks.gpg_keys import GpgRecipients
from deployments.bootstrap import apply, main, portable
from deployments.deploying import make_pool
from flows import plan_file
from flows.plan_source import PlanSource, load_plan, load_secret_key
from flows.schedules import DAILY, NIGHTLY, SCRUB, SYNC, WEEKLY
from tests.servers import keys
from tests.servers.ports import free_port
from tests.servers.prefect import PrefectServer

PASSWORD = "hunter2-of-the-database"
PREFECT = PlanSource("prefect")
TWO = '[{ name = "a", kind = "local", path = "a" }, { name = "b", kind = "local", path = "b" }]'
WEBHOOK = "https://hooks.slack.com/services/T0/B0/hunter2-of-slack"


class PlansFile:
    """A plans.toml; each plan has a password, a store, an alert and a public key's file beside it."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "plans.toml"
        (directory / "ops.asc").write_text(keys.normal().public_text)
        (directory / "password").write_text(PASSWORD)

    def write(self, *plans: str, secret_keys: str = "", **settings: str) -> Path:
        """Write plans of these names, all with the same further settings."""
        self.path.write_text("\n".join(_plan(name, settings) for name in plans) + secret_keys)
        return self.path


def _plan(name: str, settings: dict[str, str]) -> str:
    given = {
        "schedule": '"0 2 * * *"',
        "recipients": '["ops.asc"]',
        "database": '{ dbname = "shop", password = "file:password" }',
        "stores": '[{ name = "local", kind = "local", path = "store" }]',
        "alerts": '[{ kind = "slack", webhook_url = "env:SLACK_WEBHOOK_URL" }]',
    } | settings
    return f"[plans.{name}]\n" + "".join(f"{key} = {value}\n" for key, value in given.items())


@pytest.fixture
def plans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PlansFile:
    monkeypatch.setenv("SLACK_WEBHOOK_URL", WEBHOOK)
    monkeypatch.delenv("AUTO_BACKUP_ENABLED", raising=False)
    return PlansFile(tmp_path)


def changes(path: Path) -> list[str]:
    """Apply a file and return what was changed."""
    return [f"{word} {thing}" for word, thing in apply(path) if word in ("created", "updated", "removed")]


def schedules(client: SyncPrefectClient, deployment: str) -> dict[str | None, DeploymentSchedule]:
    identifier = client.read_deployment_by_name(deployment).id
    return {schedule.slug: schedule for schedule in client.read_deployment_schedules(identifier)}


def stored_texts(server: PrefectServer) -> str:
    """Everything that the server tells of blocks, with their secrets, and of deployments."""
    blocks = server.request("POST", "/block_documents/filter", {"include_secrets": True})
    deployments = server.request("POST", "/deployments/filter", {})
    return json.dumps([blocks, deployments])


@pytest.mark.usefixtures("client")
def test_a_second_time_changes_nothing(server: PrefectServer, plans: PlansFile) -> None:
    path = plans.write("shop", "stock", verify='{ schedule = "0 6 * * 6" }', prune='"separate"')
    first = [thing for word, thing in apply(path) if word != "removed"]  # what other tests left
    before = stored_texts(server)

    again = list(apply(path))

    assert {word for word, _ in again} <= {"unchanged", "kept"}
    assert [thing for _, thing in again] == first
    assert stored_texts(server) == before
    assert len([thing for thing in first if thing.startswith("deployment ")]) == 9
    assert len([thing for thing in first if thing.startswith("schedule ")]) == 8
    assert {"block type backup-plan", "plan shop", "plan stock", "work pool backup", "work pool verify"} <= {
        *first
    }


def test_each_plan_has_a_schedule_of_its_own_with_its_cron_zone_and_name(
    client: SyncPrefectClient, plans: PlansFile
) -> None:
    changes(plans.write("shop", "stock", schedule='"30 1 * * 1-5"', time_zone='"Europe/Madrid"'))

    found = schedules(client, NIGHTLY)

    assert set(found) == {"shop", "stock"}
    assert found["stock"].schedule == CronSchedule(cron="30 1 * * 1-5", timezone="Europe/Madrid")
    assert (found["stock"].active, found["stock"].parameters) == (True, {"plan": "stock"})
    assert schedules(client, WEEKLY) == schedules(client, DAILY) == {}


def test_a_changed_schedule_keeps_its_plan(client: SyncPrefectClient, plans: PlansFile) -> None:
    changes(plans.write("shop"))

    assert changes(plans.write("shop", schedule='"0 3 * * *"')) == [
        "updated plan shop",
        "updated schedule of plan shop, 0 3 * * * UTC, on back-up/nightly",
    ]
    assert schedules(client, NIGHTLY)["shop"].parameters == {"plan": "shop"}


def test_auto_backup_enabled_false_leaves_every_schedule_inactive(
    client: SyncPrefectClient, plans: PlansFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = plans.write("shop", prune='"separate"', verify='{ schedule = "0 6 * * 6" }')

    activities = {}
    for value in ("false", "true"):
        monkeypatch.setenv("AUTO_BACKUP_ENABLED", value)
        changes(path)
        activities[value] = [schedules(client, name)["shop"].active for name in (NIGHTLY, WEEKLY, DAILY)]

    assert activities == {"false": [False] * 3, "true": [True] * 3}


def test_a_schedule_that_a_person_made_stays(client: SyncPrefectClient, plans: PlansFile) -> None:
    changes(plans.write("shop"))
    nightly = client.read_deployment_by_name(NIGHTLY).id
    made = [
        DeploymentScheduleCreate(
            schedule=CronSchedule(cron="0 8 1 1 *"), parameters={"plan": "shop"}, slug=slug
        )
        for slug in (None, "new-year")
    ]
    (nameless, named) = client.create_deployment_schedules(nightly, made)

    try:
        assert [line for line in changes(plans.path) if "schedule" in line] == []
        assert set(schedules(client, NIGHTLY)) == {"shop", None, "new-year"}
    finally:
        client.delete_deployment_schedule(nightly, nameless.id)
        client.delete_deployment_schedule(nightly, named.id)


def test_a_deployment_that_somebody_changed_is_put_right(client: SyncPrefectClient, plans: PlansFile) -> None:
    changes(plans.write("shop"))
    found = client.read_deployment_by_name("back-up/pre-migration")
    client._client.patch(f"/deployments/{found.id}", json={"tags": ["odd"]})

    assert changes(plans.path) == ["updated deployment back-up/pre-migration"]
    assert client.read_deployment_by_name("back-up/pre-migration").tags == ["pgsalvo"]


def test_an_existing_pool_stays_as_it_is(client: SyncPrefectClient) -> None:
    client.create_work_pool(WorkPoolCreate(name="taken", type="kubernetes", base_job_template={}))
    before = client.read_work_pool("taken")

    assert make_pool(client, "taken") == "unchanged"
    assert client.read_work_pool("taken") == before


def test_a_new_pool_runs_processes(client: SyncPrefectClient) -> None:
    assert make_pool(client, "new") == "created"
    assert client.read_work_pool("new").type == "process"
    assert make_pool(client, "new") == "unchanged"


@pytest.mark.parametrize("form", ["armoured", "binary", "fingerprint", "address"])
def test_a_public_key_becomes_its_armoured_text_wherever_it_lies(
    plans: PlansFile, tmp_path: Path, form: str
) -> None:
    key = keys.normal()
    recipients = {"fingerprint": key.fingerprint, "address": key.address}.get(form, "ops.asc")
    settings = {"keyring": f'"{key.homedir}"'} if form in ("fingerprint", "address") else {}
    if form == "binary":
        dearmour = ("gpg", "--homedir", key.homedir, "--dearmor")
        binary = subprocess.run(
            dearmour, input=key.public_text.encode(), capture_output=True, check=True
        ).stdout
        (tmp_path / "ops.asc").write_bytes(binary)
    source = plan_file.read(plans.write("shop", recipients=f'["{recipients}"]', **settings))

    plan, warnings = portable(source.plan("shop"))

    (text,) = plan.recipients.public_keys
    assert text.startswith("-----BEGIN PGP PUBLIC KEY BLOCK-----")
    with GpgRecipients(public_keys=[text]).prepare() as prepared:
        assert prepared.fingerprints == (key.fingerprint,)
    assert warnings == ()


def test_a_plan_that_is_gone_loses_its_schedules_and_keeps_its_block(
    client: SyncPrefectClient, plans: PlansFile
) -> None:
    everything = {"prune": '"separate"', "verify": '{ schedule = "0 6 * * 6" }', "stores": TWO}
    changes(plans.write("shop", "former", **everything))

    found = list(apply(plans.write("shop", verify='{ secret_key = "nowhere" }')))

    assert {thing for word, thing in found if word == "removed"} == {
        "schedule of plan former on back-up/nightly",
        "schedule of plan former on verify/weekly",
        "schedule of plan former on prune/daily",
        "schedule of plan former on sync/daily",
        "schedule of plan former on scrub/weekly",
        "schedule of plan shop on prune/daily",
        "schedule of plan shop on sync/daily",
    }
    scheduled = {name: list(schedules(client, name)) for name in (NIGHTLY, WEEKLY, DAILY, SYNC, SCRUB)}
    assert scheduled == {NIGHTLY: ["shop"], WEEKLY: ["shop"], DAILY: [], SYNC: [], SCRUB: ["shop"]}
    assert load_plan("former", PREFECT).name == "former"
    assert {"kept", "missing"} < {word for word, _ in found}


@pytest.mark.usefixtures("client")
def test_references_are_stored_as_they_are_written_and_no_secret_is(
    server: PrefectServer, plans: PlansFile, tmp_path: Path
) -> None:
    (tmp_path / "ops.secret.asc").write_text(keys.normal().secret_text)
    (tmp_path / "passphrase").write_text(keys.PASSPHRASE)
    place = '[secret_keys.ops]\nkey_file = "ops.secret.asc"\npassphrase = "file:passphrase"\n'
    changes(plans.write("shop", secret_keys=place, verify='{ secret_key = "ops" }'))
    (tmp_path / "ops.asc").unlink()

    texts = stored_texts(server)
    plan = load_plan("shop", PREFECT)

    assert plan.database.password.get_secret_value() == f"file:{tmp_path / 'password'}"
    assert plan.alerts[0].webhook_url.get_secret_value() == "env:SLACK_WEBHOOK_URL"
    assert load_secret_key("ops", PREFECT).key_file == str(tmp_path / "ops.secret.asc")
    assert f"file:{tmp_path / 'password'}" in texts
    assert [each for each in (PASSWORD, WEBHOOK, keys.PASSPHRASE, "BEGIN PGP PRIVATE") if each in texts] == []
    with plan.recipients.prepare() as prepared:
        assert prepared.fingerprints == (keys.normal().fingerprint,)


def test_a_key_that_expires_soon_is_warned_of(plans: PlansFile, tmp_path: Path) -> None:
    path = plans.write("shop")
    (tmp_path / "ops.asc").write_text(keys.expiring().public_text)

    _, (warning,) = portable(plan_file.read(path).plan("shop"))

    assert "expires on" in warning


@pytest.mark.usefixtures("client")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(None, "cannot read the plans in", id="no-file"),
        pytest.param(_plan("b", {"retentoin": "{}"}), "plans.b: unknown key retentoin", id="a-typo"),
        pytest.param(_plan("b", {"recipients": '["nobody.asc"]'}), "cannot read the key", id="no-key"),
        pytest.param(
            _plan("b", {"schedule": '"R R * * *"'}), "plans.b.schedule: not a cron expression", id="cron"
        ),
        pytest.param('[secret_keys.Ops_1]\nkey_file = "a"\n', "secret_keys.Ops_1", id="a-key's-name"),
    ],
)
def test_a_fault_in_the_file_leaves_the_server_as_it_is(
    server: PrefectServer,
    plans: PlansFile,
    capsys: pytest.CaptureFixture[str],
    text: str | None,
    message: str,
) -> None:
    before = stored_texts(server)
    if text is not None:
        plans.path.write_text(_plan("a", {}) + text)

    assert main([str(plans.path)]) == 2

    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("error: ")
    assert message in output.err.splitlines()[0]
    assert stored_texts(server) == before


@pytest.mark.parametrize(
    ("address", "auth", "enabled", "status", "message"),
    [
        pytest.param("", "", "true", 2, "no Prefect API is configured", id="not-configured"),
        pytest.param("http://127.0.0.1:{free}/api", "", "true", 1, "does not answer", id="unreachable"),
        pytest.param("{server}", "admin:wrong", "true", 1, "401 Unauthorized", id="wrong-password"),
        pytest.param(
            "{server}", "{auth}", "perhaps", 2, "AUTO_BACKUP_ENABLED is 'perhaps'", id="neither-nor"
        ),
    ],
)
def test_what_is_wrong_with_prefect_is_said_in_one_line(
    server: PrefectServer,
    plans: PlansFile,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    address: str,
    auth: str,
    enabled: str,
    status: int,
    message: str,
) -> None:
    monkeypatch.setenv("AUTO_BACKUP_ENABLED", enabled)
    settings = {
        PREFECT_API_URL: address.format(free=free_port(), server=server.api_url) or None,
        PREFECT_API_AUTH_STRING: auth.format(auth=server.auth) or None,
    }

    with temporary_settings(settings):
        assert main([str(plans.write("shop"))]) == status

    error, hint = capsys.readouterr().err.splitlines()
    assert error.startswith("error: ")
    assert message in error
    assert hint.startswith("HINT: ")
