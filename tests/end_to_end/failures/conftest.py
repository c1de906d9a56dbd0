"""One database with a good backup for all tests of failures: each of them must leave that as it is."""

import shutil
import tempfile
from collections.abc import Iterator

import pytest

from tests.servers.ledger import DBNAME, Ledger, make_ledger
from tests.servers.plan import PLANS_VARIABLE
from tests.servers.postgres import PostgresServer


@pytest.fixture(scope="session")
def ledger_with_a_backup(
    prefect: None,  # noqa: ARG001 - its API must be there
    postgres15: PostgresServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Ledger]:
    """The database, its plan and one good backup, made once."""
    with postgres15.database(DBNAME):
        made = make_ledger(postgres15, tmp_path_factory.mktemp("ledger"))
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(PLANS_VARIABLE, str(made.plan.file))
            made.plan.back_up()
        yield made


@pytest.fixture
def ledger(ledger_with_a_backup: Ledger, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ledger]:
    """The same, with the plan's own settings; temporary files of this process lie in the plan's `tmp`.

    Backups that a test makes are removed after it.
    """
    plan = ledger_with_a_backup.plan
    settings = dict(plan.settings)
    folders = plan.directory / "store" / plan.name
    known = set(folders.iterdir())
    temporary = plan.directory / "tmp"
    temporary.mkdir(exist_ok=True)
    monkeypatch.setenv(PLANS_VARIABLE, str(plan.file))
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    yield ledger_with_a_backup
    ledger_with_a_backup.let_programs_go()
    plan.settings = settings
    plan.write()
    for made in set(folders.iterdir()) - known:
        shutil.rmtree(made)
