"""A key that must not be used any more, and a local disk without room."""

import pytest

from blocks.errors import KeyUnusable, SpoolFull
from flows.tasks import preflight
from tests.servers import keys
from tests.servers.disk import small_disk
from tests.servers.ledger import Ledger

WITHOUT_SCANS = {"conninfo": "file:database-url", "exclude_table_data": ["public.scans"]}


@pytest.mark.parametrize("state", ["expired", "revoked"])
def test_a_key_that_must_not_be_used_any_more_is_refused_by_name(ledger: Ledger, state: str) -> None:
    key = keys.expired() if state == "expired" else keys.revoked()
    ledger.plan.write(recipients=[str(keys.normal().public_file), str(key.public_file)])
    cause = ledger.failed()
    assert isinstance(cause, KeyUnusable)
    assert state in cause.message
    assert key.fingerprint in cause.message
    assert cause.hint


def test_a_disk_without_room_is_found_before_anything_begins(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "free_bytes", lambda _: 1 << 10)
    cause = ledger.failed()
    assert isinstance(cause, SpoolFull)
    assert "0 MiB free, a backup needs about" in cause.message
    assert "spool_directory" in cause.hint


def test_a_disk_that_is_full_half_way_ends_the_backup(ledger: Ledger) -> None:
    everything = ledger.plan.settings["database"]
    ledger.plan.write(database=WITHOUT_SCANS)
    ledger.plan.back_up()  # a small one, so that a large one is not expected
    with small_disk(ledger.plan.directory / "disk", 4 << 20) as spool:
        ledger.plan.write(spool_directory=str(spool), database=everything)
        cause = ledger.failed()
        assert list(spool.iterdir()) == []
    assert isinstance(cause, SpoolFull)
    assert cause.message == f"no room left in the spool directory {spool}"
    assert "spool_directory" in cause.hint
