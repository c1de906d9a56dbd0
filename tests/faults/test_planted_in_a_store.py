"""Faults planted in really stored backups: the whole verification says of each what the table says."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.core import verification
from flows.core.errors import VerificationFailed
from flows.core.verification import Verdict
from tests.faults.stored import DBNAME, LATER, OTHER, STORED, TABLES, Stored, StoredFault
from tests.servers.forgery import StoredBackup
from tests.servers.plan import PLANS_VARIABLE, PlanOnDisk
from tests.servers.postgres import PostgresServer

VERIFY = {"secret_key": "ops", "schedule": "never", "proof": "content"}


@pytest.fixture(scope="module")
def source(
    prefect: None,  # noqa: ARG001 - its API must be there
    postgres15: PostgresServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[PlanOnDisk]:
    """The plan of a database, and two backups of it."""
    with (
        postgres15.database(DBNAME) as conninfo,
        postgres15.database(OTHER),
        pytest.MonkeyPatch.context() as patch,
    ):
        plan = PlanOnDisk.for_database(tmp_path_factory.mktemp("stored"), conninfo, verify=VERIFY)
        patch.setenv(PLANS_VARIABLE, str(plan.file))
        postgres15.execute(TABLES, DBNAME)
        postgres15.execute(f"{TABLES}; DELETE FROM accounts WHERE id > 1000", OTHER)
        plan.back_up()
        postgres15.execute(LATER, DBNAME)
        plan.back_up()
        yield plan


@pytest.fixture
def plan(source: PlanOnDisk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PlanOnDisk:
    """A plan with the same two backups on a store of its own."""
    plan = PlanOnDisk(tmp_path, source.settings, source.secret_keys)
    shutil.copyfile(source.directory / "database-url", tmp_path / "database-url")
    shutil.copytree(source.directory / "store", tmp_path / "store")
    plan.write()
    monkeypatch.setenv(PLANS_VARIABLE, str(plan.file))
    return plan


def test_an_unspoilt_backup_is_verified(plan: PlanOnDisk) -> None:
    _, newer = _backups(plan)
    plan.verify(newer.backup_id)
    assert (_record(newer).verdict, _record(newer).findings) == (Verdict.VERIFIED, {})


@pytest.mark.parametrize("fault", STORED, ids=lambda fault: fault.name)
def test_of_a_spoilt_backup_a_verification_says_what_the_table_says(
    plan: PlanOnDisk, postgres15: PostgresServer, fault: StoredFault
) -> None:
    spoilt = fault.spoil(Stored(postgres15, *_backups(plan)))
    said = ""
    try:
        plan.verify(spoilt.backup_id)
    except VerificationFailed as failure:
        said = failure.message
    record = _record(spoilt)
    assert set(record.findings) == fault.found, said
    assert fault.refused in said
    is_found = bool(fault.found or fault.refused)
    assert record.verdict is (Verdict.FAILED if is_found else Verdict.VERIFIED)


def _backups(plan: PlanOnDisk) -> list[StoredBackup]:
    """Return the older and the newer."""
    return [StoredBackup(path) for path in sorted((plan.directory / "store" / plan.name).glob("2*"))]


def _record(stored: StoredBackup) -> verification.VerificationRecord:
    (record,) = stored.folder.glob("verifications/*.json")
    return verification.decode(record.read_bytes())
