"""A verification's record: three verdicts, read back as written, and nothing else is taken for one."""

from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flows.core.errors import ManifestUnreadable
from flows.core.naming import BackupId
from flows.core.verification import Verdict, VerificationRecord, decode

fast = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
RECORD = VerificationRecord(
    backup_id=BackupId("20260128T020000Z-4f9c2a"),
    plan="shop",
    verdict=Verdict.FAILED,
    destination="offsite",
    verified_at=datetime(2026, 1, 28, 3, tzinfo=UTC),
    manifest_sha256="0" * 64,
    tables=12,
    rows=200_000,
    findings={"ROWS_DIFFER": 2},
    reason="2 tables differ",
    seconds=12.5,
)


def test_there_are_three_verdicts() -> None:
    assert [str(verdict) for verdict in Verdict] == ["verified", "failed", "unverifiable"]


@fast
@given(st.sampled_from(Verdict), st.integers(0), st.floats(0, 1e6))
def test_a_record_is_read_back_as_it_was_written(verdict: Verdict, rows: int, seconds: float) -> None:
    record = RECORD.model_copy(update={"verdict": verdict, "rows": rows, "seconds": seconds})
    assert decode(record.encode()) == record


def test_fields_of_a_later_release_are_kept() -> None:
    body = RECORD.encode().replace(b'"tables": 12', b'"tables": 12, "columns": 40')
    assert b'"columns": 40' in decode(body).encode()


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\xff", id="not-utf-8"),
        pytest.param(b"[" * 100_000, id="deep"),
        pytest.param(b"{}", id="no-fields"),
        pytest.param(b"null", id="null"),
        pytest.param(RECORD.encode().replace(b'"failed"', b'"green"'), id="a-fourth-verdict"),
        pytest.param(RECORD.encode().replace(b'"failed"', b"true"), id="a-verdict-that-is-no-word"),
        pytest.param(
            RECORD.encode().replace(b'"format_version": 1', b'"format_version": 2'), id="a-later-format"
        ),
        pytest.param(RECORD.encode()[:-10], id="truncated"),
    ],
)
def test_what_is_no_record_is_never_a_verdict(body: bytes) -> None:
    with pytest.raises(ManifestUnreadable, match="not readable"):
        decode(body)
