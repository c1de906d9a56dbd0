"""Where a plan comes from: a file that was asked for, Prefect, ./plans.toml, the environment."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

from flows import environment, plan_source
from flows.core.errors import PlanError
from flows.plan_source import PlanSource, load_plan, load_secret_key
from tests.servers.ports import free_port

ASKED_FOR = PlanSource("file", Path("/elsewhere/plans.toml"))
PREFECT = PlanSource("prefect")
HERE = PlanSource("file", Path("plans.toml"))
ENVIRONMENT = PlanSource("environment")
PLAN = '[plans.shop]\nrecipients = ["ops.asc"]\ndatabase = { host = "db" }\n'
PLAN += '[[plans.shop.stores]]\nkind = "local"\npath = "store"\n'


@contextmanager
def api(url: str) -> Iterator[None]:
    unset = {PREFECT_API_URL, PREFECT_API_AUTH_STRING}
    with temporary_settings({PREFECT_API_URL: url} if url else {}, restore_defaults=unset):
        yield


@pytest.fixture(autouse=True)
def nothing_configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A directory without plans.toml, and neither a file nor a worker nor an API."""
    monkeypatch.chdir(tmp_path)
    for name in ("PGSALVO_PLANS", "PREFECT__FLOW_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    with api(""):
        yield


@pytest.mark.parametrize(
    ("asked_for", "run_id", "url", "file_here", "expected"),
    [
        pytest.param("/elsewhere/plans.toml", "1", "http://x/api", True, ASKED_FOR, id="all-of-them"),
        pytest.param("", "1", "", True, PREFECT, id="a-workers-run"),
        pytest.param("", "", "http://x/api", True, PREFECT, id="an-api-is-configured"),
        pytest.param("", "", "", True, HERE, id="plans.toml-in-this-directory"),
        pytest.param("", "", "", False, ENVIRONMENT, id="nothing-else"),
    ],
)
def test_the_first_of_four_sources_counts(
    monkeypatch: pytest.MonkeyPatch,
    asked_for: str,
    run_id: str,
    url: str,
    file_here: bool,
    expected: PlanSource,
) -> None:
    monkeypatch.setenv("PGSALVO_PLANS", asked_for)
    monkeypatch.setenv("PREFECT__FLOW_RUN_ID", run_id)
    if file_here:
        Path("plans.toml").touch()
    with api(url):
        assert plan_source.plan_source() == expected


def test_a_file_that_was_asked_for_is_the_only_source(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither ./plans.toml nor the environment fills in for a plan that it lacks."""
    Path("plans.toml").write_text(PLAN.replace("shop", "bank"))
    Path("asked.toml").write_text(PLAN)
    environment.use_plans_file(Path("asked.toml"))
    monkeypatch.setenv("DATABASE_URL", "host=db")
    assert load_plan("shop").name == "shop"
    for name in ("bank", "default"):
        with pytest.raises(PlanError, match=f"asked.toml has no plan called {name}"):
            load_plan(name)
    monkeypatch.delenv("PGSALVO_PLANS")


@pytest.mark.parametrize(
    ("source", "told"),
    [
        pytest.param(ASKED_FOR, "/elsewhere/plans.toml", id="file"),
        pytest.param(PREFECT, "Prefect's blocks", id="prefect"),
        pytest.param(ENVIRONMENT, "the environment", id="environment"),
    ],
)
def test_a_source_tells_its_name(source: PlanSource, told: str) -> None:
    assert str(source) == told


def test_the_names_of_a_sources_plans_are_known() -> None:
    Path("plans.toml").write_text(PLAN + PLAN.replace("shop", "bank"))
    assert plan_source.plan_names(HERE) == ["bank", "shop"]
    assert plan_source.plan_names(ENVIRONMENT) == ["default"]


def test_a_prefect_that_does_not_answer_is_named_with_its_address() -> None:
    url = f"http://127.0.0.1:{free_port()}/api"
    with api(url), pytest.raises(PlanError) as caught:
        load_plan("shop")
    assert f"Prefect's API at {url} does not answer" in caught.value.message
    assert "PREFECT_API_URL" in caught.value.hint


def test_a_plan_without_a_secret_key_says_what_to_set() -> None:
    with pytest.raises(PlanError, match="names no secret key") as caught:
        load_secret_key("")
    assert "verify.secret_key" in caught.value.hint
