"""The catalogue in Prefect's UI: a store that is slow or fails is told as such, and nobody else pays."""

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from prefect.context import FlowRunContext

from blocks.errors import StoreForbidden
from blocks.stores import LocalStore, StoredObject
from flows import beside, reports
from tests.servers.backups import store_backup
from tests.servers.plan import PlanOnDisk

LOCAL = {"name": "local", "kind": "local", "path": "store"}
SECOND = {"name": "second", "kind": "local", "path": "second"}
SOON = 2.0

Published = list[list[dict[str, Any]]]


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> Published:
    """The tables that a run publishes; Prefect takes each at once."""
    tables: Published = []
    monkeypatch.setattr(FlowRunContext, "get", classmethod(lambda cls: cls.model_construct()))
    monkeypatch.setattr(beside._Api, "asked_again_at", 0.0)
    monkeypatch.setattr(reports, "create_table_artifact", lambda table, **_: tables.append(table))
    monkeypatch.setattr(reports, "READ_SECONDS", SOON)
    return tables


@pytest.fixture
def hang() -> Iterator[Callable[[], object]]:
    ended = threading.Event()
    yield lambda: ended.wait(60)
    ended.set()


def listing(monkeypatch: pytest.MonkeyPatch, before: Callable[[], object]) -> None:
    """Let something happen before `second` is listed."""
    listed = LocalStore.list

    def changed(store: LocalStore, prefix: str = "") -> Iterator[StoredObject]:
        if store.name == "second":
            before()
        yield from listed(store, prefix)

    monkeypatch.setattr(LocalStore, "list", changed)


def refuse() -> None:
    raise StoreForbidden("second refuses")


def break_down() -> None:
    raise RuntimeError("nobody foresaw this")


def test_a_store_that_hangs_is_left_out_and_prefect_not_blamed(
    plan: PlanOnDisk,
    published: Published,
    hang: Callable[[], object],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    made = store_backup(plan.store, datetime.now(UTC) - timedelta(days=1))
    plan.write(stores=[SECOND, LOCAL])
    listing(monkeypatch, hang)
    monkeypatch.setattr(beside, "LIMIT_SECONDS", SOON / 2)
    reports.publish_catalogue(plan.loaded)
    ((row,),) = published
    assert (row["backup"], row["on"]) == (made, "local")
    assert [record.getMessage() for record in caplog.records] == [
        "the catalogue in Prefect lacks second: second gave no answer within 2 s"
    ]
    assert beside.worth_asking()


@pytest.mark.parametrize(
    ("happens", "told"),
    [
        (refuse, "the catalogue in Prefect lacks second: second refuses"),
        (break_down, "the catalogue is not published: RuntimeError: nobody foresaw this"),
    ],
    ids=["refuses", "unforeseen"],
)
def test_stores_that_cannot_be_read_fail_no_run_and_publish_no_empty_table(
    plan: PlanOnDisk,
    published: Published,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    happens: Callable[[], None],
    told: str,
) -> None:
    plan.write(stores=[SECOND])
    listing(monkeypatch, happens)
    reports.publish_catalogue(plan.loaded)
    assert published == []
    assert [record.getMessage() for record in caplog.records] == [told]
    assert beside.worth_asking()


@pytest.mark.usefixtures("published")
def test_what_cancels_itself_beside_a_run_does_not_cancel_the_run(caplog: pytest.LogCaptureFixture) -> None:
    def leave() -> None:
        raise SystemExit

    assert beside.beside("the report", leave) is None
    assert "Prefect did not take the report; the work goes on without it: SystemExit" in caplog.text


def test_no_store_is_read_while_prefect_is_not_asked(
    plan: PlanOnDisk, published: Published, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    plan.write(stores=[SECOND])
    listing(monkeypatch, break_down)
    monkeypatch.setattr(beside._Api, "asked_again_at", float("inf"))
    reports.publish_catalogue(plan.loaded)
    assert (published, caplog.records) == ([], [])


def test_a_prefect_that_hangs_is_told_as_such_and_left_alone_for_a_while(
    plan: PlanOnDisk,
    published: Published,
    hang: Callable[[], object],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(reports, "create_table_artifact", lambda **_: hang())
    monkeypatch.setattr(beside, "LIMIT_SECONDS", 0.05)
    reports.publish_catalogue(plan.loaded)
    assert [record.getMessage() for record in caplog.records] == [
        "Prefect did not take the catalogue; the work goes on without it: no answer within 0.05 s"
    ]
    assert published == []
    assert not beside.worth_asking()
