"""What the copies of a backup together say of it."""

from datetime import UTC, datetime

import pytest

from blocks.errors import ObjectMissing
from blocks.stores.memory import MemoryStore
from flows.catalogue import Backup, Copy
from flows.core.errors import ChecksumMismatch
from flows.core.naming import BackupId
from flows.core.verification import Verdict, VerificationRecord
from flows.verdicts import Verifications, tells_of_damage

MADE = BackupId("20261124T020000Z-0a1b2c")
NOW = datetime.now(UTC)


def copy(
    verdict: Verdict | None = None, *, reason: str = "", problem: str = "", unknown: bool = False
) -> Copy:
    record = None
    if verdict:
        record = VerificationRecord(
            backup_id=MADE, plan="shop", verdict=verdict, destination="local", verified_at=NOW,
            manifest_sha256="0" * 64, reason=reason, seconds=1,
        )  # fmt: skip
    verified = Verifications(record, None if record and tells_of_damage(record) else record)
    return Copy(
        MADE, MemoryStore(name="local"), NOW, {}, verifications=verified, problem=problem, unknown=unknown
    )


VERIFIED = copy(Verdict.VERIFIED)
DIFFERENT = copy(Verdict.FAILED, reason="2 differences")
DAMAGED = copy(Verdict.VERIFIED, problem="facts are missing")
DISPROVED_THEN_DAMAGED = copy(Verdict.FAILED, reason="2 differences", problem="facts are missing")
FOUND_DAMAGED = copy(Verdict.FAILED, reason=ChecksumMismatch.__name__)
FOUND_INCOMPLETE = copy(Verdict.FAILED, reason=ObjectMissing.__name__)
OF_ANOTHER_RELEASE = copy(problem="made by a newer release", unknown=True)


@pytest.mark.parametrize(
    ("copies", "verdict"),
    [
        pytest.param([copy()], None, id="nobody-looked"),
        pytest.param([copy(), VERIFIED], Verdict.VERIFIED, id="one-speaks-for-all"),
        pytest.param([VERIFIED, DIFFERENT], Verdict.FAILED, id="a-restore-that-differed"),
        pytest.param([DAMAGED], Verdict.FAILED, id="damaged"),
        pytest.param([DAMAGED, copy()], None, id="damaged-here-and-unproved-there"),
        pytest.param([DAMAGED, VERIFIED], Verdict.VERIFIED, id="damaged-here-and-verified-there"),
        pytest.param([FOUND_DAMAGED, VERIFIED], Verdict.VERIFIED, id="found-damaged-by-a-verification"),
        pytest.param([FOUND_INCOMPLETE, DAMAGED], Verdict.FAILED, id="damaged-everywhere"),
        pytest.param([DISPROVED_THEN_DAMAGED, copy()], Verdict.FAILED, id="disproved-and-damaged-since"),
        pytest.param([OF_ANOTHER_RELEASE], Verdict.UNVERIFIABLE, id="of-another-release"),
    ],
)
def test_a_damaged_copy_says_nothing_of_a_backup_that_is_whole_elsewhere(
    copies: list[Copy], verdict: Verdict | None
) -> None:
    assert Backup(MADE, copies).verdict == verdict
