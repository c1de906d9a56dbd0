"""The doctor on a real server: what is well, and what is not with its remedy."""

import os
import re
import tomllib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from blocks import pgtools
from blocks.docker_client import DockerPostgresClient
from blocks.stores import LocalStore
from flows.checks import Check
from flows.core.verification import Verdict
from flows.doctor import examine
from flows.plan_file import read
from tests.servers import keys
from tests.servers.backups import store_backup
from tests.servers.plan import PlanOnDisk
from tests.servers.postgres import PostgresServer
from tests.servers.roles import ROLE_PASSWORD, create_limited_role, drop_role


@pytest.fixture
def plan(postgres15: PostgresServer, tmp_path: Path) -> "PlanOnDisk":
    return PlanOnDisk.for_database(tmp_path, postgres15.conninfo("postgres"))


def checks(plan: PlanOnDisk) -> list[Check]:
    return list(examine(read(plan.file).plan(plan.name)))


def named(found: list[Check], name: str) -> list[Check]:
    return [check for check in found if check.name == name]


def test_a_plan_that_is_well_has_a_line_for_each_thing_that_was_looked_at(plan: PlanOnDisk) -> None:
    found = checks(plan)
    assert [check for check in found if check.status == "error"] == []
    well = {check.name for check in found if check.status == "ok"}
    assert {"connection", "pg_dump", "trial dump", "recipients", "spool", "store local"} <= well
    assert plan.objects() == []


def test_all_copies_on_this_host_are_a_warning_with_its_name(plan: PlanOnDisk) -> None:
    (copies,) = named(checks(plan), "copies")
    assert copies.status == "warning"
    assert copies.message.startswith("OFFSITE_MISSING")
    assert 'kind = "s3"' in copies.remedy


def test_a_destination_that_lacks_what_another_holds_is_told_with_what_fills_it(plan: PlanOnDisk) -> None:
    second = {"name": "second", "kind": "local", "path": "second"}
    plan.write(stores=[*plan.settings["stores"], second])
    store_backup(plan.store, datetime.now(UTC))
    lacking = [check for check in named(checks(plan), "copies") if "second" in check.message]
    assert [(check.status, check.remedy) for check in lacking] == [("warning", "pgsalvo sync shop")]


def test_a_plan_without_a_backup_or_an_alert_is_told_so(plan: PlanOnDisk) -> None:
    found = checks(plan)
    assert named(found, "verification")[0].message == "there is no backup yet"
    assert named(found, "alerts")[0].status == "warning"


@pytest.mark.parametrize("verdict", [Verdict.FAILED, Verdict.UNVERIFIABLE])
def test_a_newest_backup_that_is_not_verified_is_told_beside_the_verified_one(
    plan: PlanOnDisk, verdict: Verdict
) -> None:
    store = read(plan.file).plan(plan.name).stores[0]
    assert isinstance(store, LocalStore)
    older = store_backup(store, datetime.now(UTC) - timedelta(days=2), verdict=Verdict.VERIFIED)
    assert named(checks(plan), "verification")[0].message == f"the newest verified backup is {older}"
    newest = store_backup(store, datetime.now(UTC) - timedelta(days=1), verdict=verdict)
    told = named(checks(plan), "verification")[0]
    assert (told.status, told.remedy) == ("warning", f"pgsalvo verify {plan.name}")
    assert told.message == (f"the newest backup {newest} is {verdict}; the newest verified one is {older}")


@pytest.mark.parametrize(
    ("settings", "name", "said", "remedy"),
    [
        pytest.param(
            {"recipients": [str(keys.expired().public_file)]}, "recipients", "expired", "", id="expired-key"
        ),
        pytest.param(
            {"stores": [{"name": "local", "kind": "local", "path": "/proc/nowhere/store"}]},
            "store local",
            "",
            "",
            id="store-that-is-not-there",
        ),
        pytest.param(
            {"database": {"conninfo": "host=127.0.0.1 port=1 dbname=x user=y"}},
            "database",
            "cannot connect",
            "",
            id="server-gone",
        ),
    ],
)
def test_what_is_not_well_is_an_error_and_the_rest_is_looked_at_all_the_same(
    plan: PlanOnDisk, settings: dict[str, object], name: str, said: str, remedy: str
) -> None:
    plan.write(**settings)
    found = checks(plan)
    errors = [check for check in found if check.status == "error"]
    assert [check.name for check in errors if check.name == name], errors
    assert said in errors[0].message
    assert errors[0].remedy
    assert remedy in errors[0].remedy
    assert named(found, "spool")[0].status == "ok"


def test_a_missing_pg_dump_is_found_by_day(plan: PlanOnDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = pgtools.Search()
    monkeypatch.setattr(pgtools.Search, "here", classmethod(lambda _: nowhere))
    errors = [check for check in checks(plan) if check.status == "error"]
    assert any("pg_dump" in check.message and check.remedy for check in errors)


@pytest.mark.parametrize(
    ("running", "proposed"),
    [
        pytest.param(["docker", "podman"], {"image": "postgres:{major}"}, id="both"),
        pytest.param(
            ["podman"],
            {"image": "docker.io/library/postgres:{major}", "program": "podman"},
            id="podman, and a docker whose daemon does not answer",
        ),
        pytest.param([], None, id="neither"),
    ],
)
def test_where_no_pg_dump_is_but_containers_run_the_remedy_tells_how_one_dumps(
    plan: PlanOnDisk,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    running: list[str],
    proposed: dict[str, str] | None,
) -> None:
    nowhere = pgtools.Search(hint=lambda major, _: f"install it with `install {major}`")
    monkeypatch.setattr(pgtools.Search, "here", classmethod(lambda _: nowhere))
    monkeypatch.setenv("PATH", f"{containers_run_by(tmp_path, running)}:{os.environ['PATH']}")
    (missing,) = [check for check in checks(plan) if "no pg_dump that runs" in check.message]
    assert missing.remedy.startswith("install it with `install 15`")
    line = re.search(r"write `(client = .*)` below \[plans\.shop\]", missing.remedy)
    assert (line is None) is (proposed is None)
    if line and proposed:
        plan.write(client=tomllib.loads(line[1])["client"])
        assert read(plan.file).plan("shop").client == DockerPostgresClient(**proposed)
        assert not any("below [plans.shop]" in check.remedy for check in checks(plan))


def test_a_table_that_may_not_be_read_comes_with_the_grant(
    plan: PlanOnDisk, postgres15: PostgresServer
) -> None:
    with postgres15.database("doctored"):
        postgres15.execute("CREATE TABLE secret (x int)", "doctored")
        create_limited_role(postgres15, "watcher")
        try:
            conninfo = postgres15.conninfo("doctored", user="watcher", password=ROLE_PASSWORD)
            (plan.directory / "database-url").write_text(conninfo)
            (wrong, *_) = [
                check for check in checks(plan) if check.name == "rights" and check.status == "error"
            ]
            assert "secret" in wrong.message
            assert "GRANT" in wrong.remedy
        finally:
            drop_role(postgres15, "watcher")


def test_what_could_use_a_network_that_is_not_cut_off_is_found_by_day(
    plan: PlanOnDisk, postgres15: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("blocks.scratch_launch.can_do_without_network", lambda _: False)
    with postgres15.database("reaching"):
        (plan.directory / "database-url").write_text(postgres15.conninfo("reaching"))
        (harmless,) = named(checks(plan), "scratch server")
        postgres15.execute(
            "CREATE EXTENSION dblink; CREATE FOREIGN DATA WRAPPER w; CREATE SERVER s FOREIGN DATA WRAPPER w;"
            "CREATE FUNCTION f() RETURNS int LANGUAGE c AS '$libdir/lo', 'lo_manage'",
            "reaching",
        )
        (reaching,) = named(checks(plan), "scratch server")

    assert harmless.status == "ok"
    assert reaching.status == "warning"
    said = "the extension dblink, the language c, 1 foreign data wrappers, 1 foreign servers"
    assert reaching.message.endswith(said)
    assert reaching.remedy


def test_code_that_no_scratch_server_may_run_is_found_by_day(
    plan: PlanOnDisk, postgres15: PostgresServer
) -> None:
    with postgres15.database("checking"):
        (plan.directory / "database-url").write_text(postgres15.conninfo("checking"))
        postgres15.execute(
            "CREATE FUNCTION valid(text[], oid) RETURNS void LANGUAGE plpgsql AS 'BEGIN END';"
            "CREATE FOREIGN DATA WRAPPER w VALIDATOR valid",
            "checking",
        )
        (checked,) = named(checks(plan), "scratch server")
    assert checked.status == "warning"
    assert "checks the foreign data wrapper w" in checked.message


def containers_run_by(directory: Path, running: list[str]) -> Path:
    """Make a directory with a docker and a podman, of which only these work."""
    for name in ("docker", "podman"):
        answer = "echo '{}'" if name in running else "exit 1"
        (directory / name).write_text(f"#!/bin/sh\n{answer}\n")
        (directory / name).chmod(0o755)
    return directory
