"""The command: one line for an error, one JSON document for a program, and Prefect only where needed."""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from rich.console import Console

from blocks.stores import LocalStore
from flows import cli, terminal
from flows.core import naming
from flows.core.verification import Verdict
from tests.servers.backups import PLAN, store_backup
from tests.servers.plan import PlanOnDisk

DAY = timedelta(days=1)


@dataclass(frozen=True)
class Ended:
    """How a command ended, and what it said on both ways."""

    status: int
    out: str
    err: str


Run = Callable[..., Ended]


@pytest.fixture
def pgsalvo(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the command in this process."""
    for variable in cli.EPHEMERAL_SERVER:
        monkeypatch.setenv(variable, "")
    monkeypatch.setenv("PGSALVO_PLANS", "")
    monkeypatch.setattr(terminal, "quiet_prefect", lambda: None)

    def run(*arguments: str) -> Ended:
        monkeypatch.setattr(sys, "argv", ["pgsalvo", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        return Ended(int(ended.value.code or 0), out, err)

    return run


def unreachable_store() -> dict[str, str]:
    """A destination under whose directory a file lies in the way."""
    return {"name": "offsite", "kind": "local", "path": "plans.toml/store"}


@pytest.mark.parametrize(
    ("arguments", "said", "hint"),
    [
        pytest.param(["list"], "missing argument 'plan'", "pgsalvo list --help", id="no-plan"),
        pytest.param(
            ["lst", "shop"], "no such command 'lst'. Did you mean 'list'?", "--help", id="no-command"
        ),
        pytest.param(["list", "shop", "--jsn"], "no such option: --jsn", "list --help", id="no-option"),
        pytest.param(["list", "shop", "more"], "unexpected extra argument", "list --help", id="one-too-many"),
        pytest.param(
            ["tools", "install", "x"], "invalid value for 'major'", "install --help", id="no-number"
        ),
        pytest.param(["delete", "shop", "ID"], "--reason is missing", "say why", id="no-reason"),
        pytest.param(
            ["delete", "shop", "ID", "--reason", " "], "--reason is missing", "why", id="blank-reason"
        ),
        pytest.param(["restore", "shop"], "--into is missing", 'such as --into "host=', id="into-nowhere"),
        pytest.param(["list", "shp"], "has no plan called shp", "did you mean shop?", id="unknown-plan"),
        pytest.param(["list", "shop\nx"], "has no plan called shop x", "shop", id="a-line-break-in-a-name"),
        pytest.param(["keys", "new", "a/b"], "not a key's name: 'a/b'", "use letters", id="a-key's-name"),
        pytest.param(
            ["keys", "new", "ops", "--passphrase-file", "/no/where"],
            "cannot read the secret file /no/where",
            "",
            id="no-passphrase-file",
        ),
    ],
)
def test_bad_usage_ends_with_2_and_one_line(
    pgsalvo: Run, plan: PlanOnDisk, arguments: list[str], said: str, hint: str
) -> None:
    ended = pgsalvo("--plans", str(plan.file), *arguments)
    lines = ended.err.splitlines()
    assert (ended.status, ended.out) == (2, "")
    assert lines[0].startswith("error: ")
    assert said in lines[0]
    assert [line[:6] for line in lines[1:]] == (["HINT: "] if hint else [])
    assert hint in lines[-1]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param(None, "No such file", id="no-file"),
        pytest.param("[plans.shop", "is not TOML", id="not-toml"),
        pytest.param("[plans.shop]\nrecipient = []\n", "unknown key recipient", id="a-typo"),
    ],
)
def test_a_file_that_cannot_be_used_ends_with_2(
    pgsalvo: Run, tmp_path: Path, text: str | None, said: str
) -> None:
    path = tmp_path / "plans.toml"
    if text is not None:
        path.write_text(text)
    ended = pgsalvo("--plans", str(path), "list", "shop")
    assert ended.status == 2
    assert said in ended.err.splitlines()[0]
    assert "Traceback" not in ended.err


def test_the_command_alone_shows_its_help(pgsalvo: Run) -> None:
    ended = pgsalvo()
    assert ended.status == 2
    assert "doctor" in ended.out + ended.err
    assert "error:" not in ended.err


def test_an_unforeseen_error_is_one_line_without_a_secret(
    pgsalvo: Run, plan: PlanOnDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("cannot reach postgresql://ann:hunter2@db/shop\nDETAIL: a row's value")

    monkeypatch.setattr(cli, "load_plan", fail)
    ended = pgsalvo("--plans", str(plan.file), "list", "shop")
    assert ended.status == 1
    assert ended.err == "error: RuntimeError: cannot reach postgresql://ann:***@db/shop\n"


def test_a_prefect_that_does_not_start_in_time_says_what_to_do(plan: PlanOnDisk) -> None:
    ended = plan.command(
        "sync",
        "shop",
        PREFECT_API_URL="",
        PREFECT_HOME=str(plan.directory),
        PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS="0",
    )
    assert ended.returncode == 1
    assert "error: RuntimeError: Timed out while attempting to connect to ephemeral" in ended.stderr
    assert "HINT: try again when this machine is less busy" in ended.stderr


def test_the_first_line_tells_where_the_plan_comes_from(pgsalvo: Run, plan: PlanOnDisk) -> None:
    ended = pgsalvo("--plans", str(plan.file), "list", "shop")
    assert ended.status == 0
    assert ended.err == f"plan shop from {plan.file}\n"
    assert ended.out == "no backup yet; make one with: pgsalvo backup shop\n"


def test_a_list_shows_each_backup_with_its_verdict_and_why_it_is_kept(pgsalvo: Run, plan: PlanOnDisk) -> None:
    verified = store_backup(plan.store, datetime.now(UTC) - DAY, verdict=Verdict.VERIFIED, label="[v1]")
    held = store_backup(plan.store, datetime.now(UTC) - 2 * DAY, holds=("audit",))
    ended = pgsalvo("--plans", str(plan.file), "list", "shop", "--json")
    assert (ended.status, ended.err) == (0, "")
    document = json.loads(ended.out)
    assert document["plan"] == "shop"
    newest, older = document["backups"]
    assert (newest["backup_id"], newest["verdict"], newest["label"]) == (verified, "verified", "[v1]")
    assert {"newest", "newest verified"} <= set(newest["kept_because"])
    assert (older["backup_id"], older["verdict"], older["holds"]) == (held, None, ["audit"])
    assert "held: audit" in older["kept_because"]
    assert set(newest) >= {"started_at", "size_bytes", "destinations"}

    table = pgsalvo("--plans", str(plan.file), "list", "shop").out
    for word in (verified, held, "verified", "not verified", "held: audit", "[v1]"):
        assert word in table


def test_a_damaged_backup_is_listed_as_failed_and_the_others_as_they_are(
    pgsalvo: Run, plan: PlanOnDisk
) -> None:
    whole = store_backup(plan.store, datetime.now(UTC) - DAY, verdict=Verdict.VERIFIED)
    cut = store_backup(plan.store, datetime.now(UTC) - 2 * DAY, verdict=Verdict.VERIFIED)
    (plan.directory / "store" / "shop" / cut / "main.dump.zst.gpg").write_bytes(b"the dump")
    document = json.loads(pgsalvo("--plans", str(plan.file), "list", "shop", "--json").out)
    told = {row["backup_id"]: (row["verdict"], row["problems"]) for row in document["backups"]}
    assert told == {
        whole: ("verified", []),
        cut: ("failed", ["local: main.dump.zst.gpg has 8 bytes instead of 19"]),
    }


def test_of_a_backup_that_is_damaged_on_one_destination_the_list_names_that_one(
    pgsalvo: Run, plan: PlanOnDisk
) -> None:
    second = {"name": "second", "kind": "local", "path": "second"}
    plan.write(stores=[*plan.settings["stores"], second])
    there = LocalStore(name="second", path=str(plan.directory / "second"))
    made = store_backup(plan.store, datetime.now(UTC), verdict=Verdict.VERIFIED)
    for found in plan.store.list():
        there.put(found.key, plan.store.get(found.key))
    there.delete(naming.object_key(PLAN, made, naming.MAIN_ARCHIVE))
    (row,) = json.loads(pgsalvo("--plans", str(plan.file), "list", "shop", "--json").out)["backups"]
    assert [(copy["destination"], copy["verdict"]) for copy in row["copies"]] == [
        ("local", "verified"),
        ("second", "failed"),
    ]
    assert row["verdict"] == "verified"
    shown = pgsalvo("--plans", str(plan.file), "list", "shop").out
    assert "second ✗" in shown
    assert f"✗ {made} on second: main.dump.zst.gpg is missing" in shown


def test_a_list_fits_into_80_columns(pgsalvo: Run, plan: PlanOnDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal, "out", Console(width=80, soft_wrap=True, highlight=False))
    made = store_backup(plan.store, datetime.now(UTC), label="before the release of the new shop")
    (cut,) = {store_backup(plan.store, datetime.now(UTC) - DAY)}
    plan.store.delete(naming.object_key(PLAN, cut, naming.MAIN_ARCHIVE))
    lines = pgsalvo("--plans", str(plan.file), "list", "shop").out.splitlines()
    assert max(len(line) for line in lines if not line.startswith(("✗", "    →"))) <= 80
    (first,) = [line for line in lines if made in line]
    assert "not verified" in first


def test_a_destination_that_does_not_answer_is_left_out_of_the_list_with_a_warning(
    pgsalvo: Run, plan: PlanOnDisk
) -> None:
    made = store_backup(plan.store, datetime.now(UTC) - DAY)
    plan.write(stores=[*plan.settings["stores"], unreachable_store()])
    ended = pgsalvo("--plans", str(plan.file), "list", "shop", "--json")
    document = json.loads(ended.out)
    assert [row["backup_id"] for row in document["backups"]] == [made]
    assert document["unread"].keys() == {"offsite"}
    assert ended.err.startswith("warning: the store offsite is left out: ")


def test_nothing_is_deleted_while_a_destination_does_not_answer(pgsalvo: Run, plan: PlanOnDisk) -> None:
    store_backup(plan.store, datetime.now(UTC) - DAY)
    made = store_backup(plan.store, datetime.now(UTC) - 2 * DAY)
    before = plan.objects()
    plan.write(stores=[*plan.settings["stores"], unreachable_store()])
    ended = pgsalvo("--plans", str(plan.file), "delete", "shop", made, "--reason", "room")
    assert ended.status == 1
    assert plan.objects() == before


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        pytest.param(["scrub", "shop", "--all"], "damaged", id="scrub"),
        pytest.param(["sync", "shop"], "lacking", id="sync"),
    ],
)
@pytest.mark.usefixtures("prefect")
def test_what_was_done_is_one_document_also_if_something_failed(
    pgsalvo: Run, plan: PlanOnDisk, arguments: list[str], told: str
) -> None:
    made = store_backup(plan.store, datetime.now(UTC) - DAY)
    plan.store.delete(naming.object_key(PLAN, made, naming.MAIN_ARCHIVE))
    ended = pgsalvo(*arguments, "--json")
    (destination,) = json.loads(ended.out)["destinations"]
    assert (ended.status, destination[told].keys()) == (1, {made})


@pytest.mark.parametrize("arguments", [["scrub", "shop"], ["sync", "shop"], ["prune", "shop"]])
@pytest.mark.usefixtures("prefect")
def test_a_destination_that_could_not_be_read_stands_in_the_document_with_the_reason(
    pgsalvo: Run, plan: PlanOnDisk, arguments: list[str]
) -> None:
    plan.write(stores=[unreachable_store(), *plan.settings["stores"]])
    ended = pgsalvo(*arguments, "--json")
    told = {row["destination"]: row["error"] for row in json.loads(ended.out)["destinations"]}
    assert ended.status == 1
    assert list(told) == ["offsite", "local"]
    assert "plans.toml" in told["offsite"]
    assert told["local"] == ""
    assert "there is no" in pgsalvo(*arguments).out


def test_a_backup_is_deleted_with_a_reason(pgsalvo: Run, plan: PlanOnDisk) -> None:
    kept = store_backup(plan.store, datetime.now(UTC) - DAY)
    gone = store_backup(plan.store, datetime.now(UTC) - 2 * DAY)
    ended = pgsalvo("--plans", str(plan.file), "delete", "shop", gone, "--reason", "a customer's request")
    assert (ended.status, ended.out) == (0, f"deleted {gone} on local: a customer's request\n")
    assert {key.split("/")[1] for key in plan.objects()} == {kept}


@pytest.mark.parametrize(
    ("verdict", "holds", "said"),
    [
        pytest.param(None, ("audit",), "is held: audit", id="held"),
        pytest.param(Verdict.VERIFIED, (), "is the last verified one", id="the-last-verified"),
    ],
)
def test_a_backup_that_is_needed_is_not_deleted_by_hand(
    pgsalvo: Run, plan: PlanOnDisk, verdict: Verdict | None, holds: tuple[str, ...], said: str
) -> None:
    store_backup(plan.store, datetime.now(UTC) - DAY)
    needed = store_backup(plan.store, datetime.now(UTC) - 2 * DAY, verdict=verdict, holds=holds)
    before = plan.objects()
    ended = pgsalvo("--plans", str(plan.file), "delete", "shop", needed, "--reason", "room")
    assert ended.status == 1
    assert said in ended.err
    assert plan.objects() == before


def test_deleting_needs_an_id(pgsalvo: Run, plan: PlanOnDisk) -> None:
    """`latest` may be another backup than the one that a person looked at."""
    store_backup(plan.store, datetime.now(UTC) - DAY)
    before = plan.objects()
    ended = pgsalvo("--plans", str(plan.file), "delete", "shop", "latest", "--reason", "room")
    assert ended.status == 2
    assert plan.objects() == before


def test_a_new_key_pair_says_where_each_half_belongs(pgsalvo: Run, tmp_path: Path) -> None:
    ended = pgsalvo("keys", "new", "ops", "--directory", str(tmp_path / "keys"))
    assert ended.status == 0
    assert f'recipients = ["{tmp_path}/keys/ops.public.asc"]' in ended.out
    assert "PRIVATE KEY" in (tmp_path / "keys" / "ops.secret.asc").read_text()
    again = pgsalvo("keys", "new", "ops", "--directory", str(tmp_path / "keys"))
    assert again.status == 2
    assert "already exists" in again.err


@pytest.mark.parametrize(
    ("arguments", "status", "key"),
    [
        pytest.param(["list", "shop", "--json"], 0, "backups", id="list"),
        pytest.param(["doctor", "shop", "--json"], 1, "checks", id="doctor"),
        pytest.param(["prune", "shop", "--dry-run", "--json"], 0, "destinations", id="prune"),
        pytest.param(["keys", "new", "ops", "--directory", "keys"], 0, "", id="keys"),
        pytest.param(["delete", "shop", "ID", "--reason", "room"], 2, "", id="delete"),
    ],
)
def test_prefects_api_is_not_started_for(
    plan: PlanOnDisk, tmp_path: Path, arguments: list[str], status: int, key: str
) -> None:
    """Its database would lie in PREFECT_HOME."""
    store_backup(plan.store, datetime.now(UTC) - DAY)
    home = tmp_path / "prefect-home"
    ended = plan.command(*arguments, PREFECT_HOME=str(home), cwd=tmp_path)
    assert ended.returncode == status, ended.stderr
    assert list(home.rglob("*.db")) == []
    assert "Traceback" not in ended.stderr
    if key:
        assert json.loads(ended.stdout)[key]
        assert ended.stderr == ""
