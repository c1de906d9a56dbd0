"""A plan with a local store, without any server; its backups are made without a database."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from blocks.stores import LocalStore, StoredObject
from flows.tasks import options
from tests.servers.plan import PLANS_VARIABLE, PlanOnDisk

UNREACHABLE = "host=127.0.0.1 port=1 dbname=shop user=ann"


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PlanOnDisk:
    """A plan whose database does not answer; this process reads it."""
    plan = PlanOnDisk.for_database(tmp_path, UNREACHABLE)
    monkeypatch.setenv(PLANS_VARIABLE, str(plan.file))
    return plan


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tried again outside of a run is tried at once."""
    monkeypatch.setattr(options, "TRANSFER_DELAYS_SECONDS", [0.0] * options.TRANSFER_RETRIES)


@pytest.fixture
def hanging_second(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whoever lists the store `second` waits for the test's end."""
    listed, ended = LocalStore.list, threading.Event()

    def hang(store: LocalStore, prefix: str = "") -> Iterator[StoredObject]:
        if store.name == "second":
            ended.wait(60)
        yield from listed(store, prefix)

    monkeypatch.setattr(LocalStore, "list", hang)
    yield
    ended.set()
