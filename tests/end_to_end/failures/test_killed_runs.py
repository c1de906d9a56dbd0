"""A run that is killed or cancelled at any moment leaves a whole backup, or litter that prune clears."""

import hashlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.sorting import FlowRunSort

from flows.catalogue import Copy, read_store
from flows.core.naming import (
    FACTS_ARCHIVE,
    GLOBALS_ARCHIVE,
    MAIN_ARCHIVE,
    MANIFEST_NAME,
    BackupId,
    object_key,
)
from tests.servers.ledger import Ledger, clear_texts
from tests.servers.plan import PlanOnDisk
from tests.servers.processes import children, eventually
from tests.servers.runs import Run, started_backup

Settings = dict[str, Any]

GONE_SECONDS = 15.0  # the server may show a session for a little longer than it lasts


def _at_most(bytes_per_second: int) -> Settings:
    """Settings of a store that takes, and gives back, no more than that after a first second's worth."""
    return {
        "stores": [
            {"name": "local", "kind": "local", "path": "store", "max_bytes_per_second": bytes_per_second}
        ]
    }


SLOW_UPLOAD = _at_most(1 << 20)  # so that a starved poller, too, sees the moment
SLOW_DUMP = SLOW_UPLOAD | {"spool_max_bytes": 1 << 20}  # whoever fills a full spool waits for the upload
SLOW_CHECK = _at_most(4 << 20)  # of what is read back between the archives and the manifest

MOMENTS: dict[str, tuple[Settings, Callable[[Run], object]]] = {
    "a session is open": (SLOW_DUMP, lambda run: run.ledger.sessions("pgsalvo")),
    "the spool directory is there": (SLOW_UPLOAD, lambda run: list(run.ledger.plan.spool.glob("2*"))),
    "pg_dump runs": (SLOW_DUMP, lambda run: children("pg_dump", "--format=custom", of=run.pid)),
    "gpg runs": (SLOW_DUMP, lambda run: children("gpg", "--encrypt", of=run.pid)),
    "an upload has begun": (SLOW_UPLOAD, lambda run: run.has_stored(".*.part")),
    # a segment is as large as a scan, of which there are 192: from the 100th on it is one of .0001..
    "half of the rows are encrypted": (SLOW_DUMP, lambda run: run.spooled_bytes(f"{MAIN_ARCHIVE}.0001*")),
    "the roles are stored": (SLOW_UPLOAD, lambda run: run.has_stored(GLOBALS_ARCHIVE)),
    "the rows are stored": (SLOW_CHECK, lambda run: run.has_stored(MAIN_ARCHIVE)),
    "the facts are stored": (SLOW_CHECK, lambda run: run.has_stored(FACTS_ARCHIVE)),
    "the manifest is there": ({}, lambda run: run.has_stored(MANIFEST_NAME)),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_run_killed_when(ledger: Ledger, tmp_path: Path, moment: str) -> None:
    before = _committed(ledger)
    with _slowed(ledger.plan, moment), started_backup(ledger, tmp_path / "log") as run:
        eventually(lambda: _reached(run, moment), moment)
        run.process.kill()
        run.ended()
        eventually(lambda: not run.programs(), "the programs of the killed run ended")
        eventually(lambda: not ledger.sessions("pg%"), "its sessions ended")
    assert clear_texts(ledger.plan.directory) == []
    committed = _committed(ledger)
    # from the other two it is only a short way to the manifest
    if moment not in ("the rows are stored", "the facts are stored"):
        assert len(committed - before) == (moment == "the manifest is there")

    _make_older(run.left_in_store(), hours=25)
    following = ledger.plan.back_up()
    ledger.assert_at_rest()
    ledger.plan.prune()
    assert _committed(ledger) == {copy.backup_id for copy in _copies(ledger)} == committed | {following}
    assert list(ledger.plan.store.pending()) == []


@pytest.mark.parametrize(
    ("moment", "end"),
    [
        pytest.param("amid the rows", lambda run: run.process.terminate(), id="amid the rows"),
        pytest.param("the roles are stored", lambda run: run.process.terminate(), id="roles stored"),
        pytest.param("amid the rows", lambda run: os.killpg(run.pid, signal.SIGINT), id="by Ctrl-C"),
    ],
)
def test_a_cancelled_run_ends_pg_dump_on_the_server_and_leaves_nothing(
    ledger: Ledger, tmp_path: Path, moment: str, end: Callable[[Run], None]
) -> None:
    before = ledger.stored()
    if moment == "amid the rows":
        ledger.hold_programs()
    else:
        ledger.plan.write(**MOMENTS[moment][0])
    with started_backup(ledger, tmp_path / "log") as run:
        if moment == "amid the rows":
            ledger.halt_in_the_middle(of=run.pid)
        else:
            eventually(lambda: _reached(run, moment), moment)
        end(run)
        assert run.ended() != 0
        eventually(lambda: not run.programs(), "its programs ended", GONE_SECONDS)
        eventually(lambda: not ledger.sessions("pg%"), "its sessions ended", GONE_SECONDS)
    ledger.assert_at_rest()
    assert ledger.stored() == before
    assert _last_flow_run().state_name == "Crashed"
    assert "Traceback" not in run.log.read_text()


@contextmanager
def _slowed(plan: PlanOnDisk, moment: str) -> Iterator[None]:
    """Let backups within the block be so slow that the moment lasts for seconds."""
    settings = dict(plan.settings)
    plan.write(**MOMENTS[moment][0])
    try:
        yield
    finally:
        plan.settings = settings
        plan.write()


def _reached(run: Run, moment: str) -> object:
    _, happens = MOMENTS[moment]
    seen = happens(run)
    # what is stored stays so: it may be seen only once the run is over
    assert seen or run.process.poll() is None, run.log.read_text()
    return seen


def _copies(ledger: Ledger) -> list[Copy]:
    return read_store(ledger.plan.store, ledger.plan.name)


def _committed(ledger: Ledger) -> set[BackupId]:
    """Return the backups that exist, after a look at every byte that their manifests tell of."""
    committed = [copy for copy in _copies(ledger) if copy.committed]
    for copy in committed:
        assert copy.manifest is not None, copy.problem
        for archive in copy.manifest.archives:
            body = copy.store.read(object_key(ledger.plan.name, copy.backup_id, archive.name))
            assert hashlib.sha256(body).hexdigest() == archive.sha256
    return {copy.backup_id for copy in committed}


def _make_older(files: list[Path], hours: float) -> None:
    for path in files:
        os.utime(path, (time.time() - 3600 * hours,) * 2)


def _last_flow_run() -> FlowRun:
    with get_client(sync_client=True) as client:
        return client.read_flow_runs(sort=FlowRunSort.START_TIME_DESC, limit=1)[0]
