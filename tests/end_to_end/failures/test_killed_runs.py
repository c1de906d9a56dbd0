"""A run that is killed or cancelled at any moment leaves a whole backup, or litter that prune clears."""

import hashlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

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
from tests.servers.ledger import SCAN_BYTES, SCANS, Ledger, clear_texts
from tests.servers.processes import children, eventually
from tests.servers.runs import Run, started_backup

MOMENTS: dict[str, Callable[[Run], object]] = {
    "a session is open": lambda run: run.ledger.sessions("pgsalvo"),
    "the spool directory is there": lambda run: list(run.ledger.plan.spool.glob("2*")),
    "pg_dump runs": lambda run: children("pg_dump", "--format=custom", of=run.pid),
    "gpg runs": lambda run: children("gpg", "--encrypt", of=run.pid),
    "an upload has begun": lambda run: run.has_stored(".*.part"),
    "half of the rows are encrypted": lambda run: run.spooled_bytes(MAIN_ARCHIVE) > SCANS * SCAN_BYTES / 2,
    "the roles are stored": lambda run: run.has_stored(GLOBALS_ARCHIVE),
    "the rows are stored": lambda run: run.has_stored(MAIN_ARCHIVE),
    "the facts are stored": lambda run: run.has_stored(FACTS_ARCHIVE),
    "the manifest is there": lambda run: run.has_stored(MANIFEST_NAME),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_run_killed_when(ledger: Ledger, tmp_path: Path, moment: str) -> None:
    before = _committed(ledger)
    with started_backup(ledger, tmp_path / "log") as run:
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
    with started_backup(ledger, tmp_path / "log") as run:
        if moment == "amid the rows":
            ledger.halt_in_the_middle(of=run.pid)
        else:
            eventually(lambda: _reached(run, moment), moment)
        end(run)
        assert run.ended() != 0
        assert run.programs() == []
        assert ledger.sessions("pg%") == []
    ledger.assert_at_rest()
    assert ledger.stored() == before
    assert _last_flow_run().state_name == "Crashed"
    assert "Traceback" not in run.log.read_text()


def _reached(run: Run, moment: str) -> object:
    assert run.process.poll() is None, run.log.read_text()
    return MOMENTS[moment](run)


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
