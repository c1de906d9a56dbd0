"""Names on a store: what is written can be read back, and nothing else is taken for ours."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flows.core import naming
from flows.core.errors import PlanError
from flows.core.naming import BackupId

fast = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
BACKUP_ID = BackupId("20260128T020000Z-4f9c2a")
TAILS = st.text("0123456789abcdef", min_size=6, max_size=6)
MOMENTS = st.datetimes(datetime(2000, 1, 2), datetime(2999, 12, 30), timezones=st.timezones())  # noqa: DTZ001


@fast
@given(MOMENTS, TAILS)
def test_an_id_tells_its_start_to_the_second_whatever_the_time_zone(moment: datetime, tail: str) -> None:
    identifier = naming.backup_id(moment, tail)
    assert naming.is_backup_id(identifier)
    assert naming.started_at(identifier) == moment.astimezone(UTC).replace(microsecond=0)
    assert naming.started_at(identifier).tzinfo is UTC


def test_an_id_is_the_utc_start_and_the_tail() -> None:
    madrid_in_summer = timezone(timedelta(hours=2))
    assert naming.backup_id(datetime(2026, 7, 1, 1, 30, 59, 999999, madrid_in_summer), "00ff00") == (
        "20260630T233059Z-00ff00"
    )


@fast
@given(MOMENTS, MOMENTS, TAILS)
def test_ids_sort_as_their_starts_do(one: datetime, other: datetime, tail: str) -> None:
    earlier, later = sorted((one.astimezone(UTC), other.astimezone(UTC)))
    assert naming.backup_id(earlier, tail) <= naming.backup_id(later, tail)


@pytest.mark.parametrize("tail", ["", "4f9c2", "4f9c2a0", "4F9C2A", "4f9c2g", "4f9c2a\n", "../../"])
def test_a_tail_that_is_not_six_lower_case_hex_digits_is_refused(tail: str) -> None:
    with pytest.raises(ValueError, match="six lower-case hex digits"):
        naming.backup_id(datetime(2026, 1, 28, 2, tzinfo=UTC), tail)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param("20260128T020000Z", id="no-tail"),
        pytest.param("20260128T020000Z-4f9c2a\n", id="newline-after-it"),
        pytest.param("x20260128T020000Z-4f9c2a", id="something-before-it"),
        pytest.param("20260128T020000-4f9c2a", id="no-zone"),
        pytest.param("20260230T020000Z-4f9c2a", id="30-february"),
        pytest.param("20250229T020000Z-4f9c2a", id="no-leap-year"),
        pytest.param("20260128T250000Z-4f9c2a", id="hour-25"),
        pytest.param("20260128T020060Z-4f9c2a", id="second-60"),
        pytest.param("00010101T000000Z-4f9c2a", id="year-1"),
        pytest.param("٢٠٢٦٠١٢٨T٠٢٠٠٠٠Z-4f9c2a", id="arabic-digits"),
    ],
)
def test_what_is_no_id_is_not_taken_for_one(text: str) -> None:
    assert not naming.is_backup_id(text)


def test_a_leap_day_is_an_id() -> None:
    assert naming.is_backup_id("20280229T235959Z-4f9c2a")


@pytest.mark.parametrize("plan", ["shop", "0", "a-b-", "a" * 63])
def test_a_plan_has_a_folder_of_its_own(plan: str) -> None:
    assert naming.plan_prefix(plan) == f"{plan}/"


@pytest.mark.parametrize("plan", ["", "Shop", "-a", "a_b", "a/b", "..", "shop\n", "ñ", "a" * 64])
def test_a_name_that_is_no_slug_is_refused_as_a_plan(plan: str) -> None:
    with pytest.raises(PlanError, match="not a plan's name"):
        naming.plan_prefix(plan)


def test_keys_are_those_of_format_version_1() -> None:
    at = datetime(2026, 1, 28, 3, tzinfo=UTC)
    assert naming.manifest_key("shop", BACKUP_ID) == "shop/20260128T020000Z-4f9c2a/manifest.json"
    assert naming.verification_key("shop", BACKUP_ID, at, "0a1b2c", "verified") == (
        "shop/20260128T020000Z-4f9c2a/verifications/20260128T030000Z-0a1b2c-verified.json"
    )
    assert naming.verification_report_key("shop", BACKUP_ID, at, "0a1b2c") == (
        "shop/20260128T020000Z-4f9c2a/verifications/20260128T030000Z-0a1b2c.report.json.zst.gpg"
    )


@pytest.mark.parametrize(
    "name", [naming.MANIFEST_NAME, naming.MAIN_ARCHIVE, "holds/before-the-migration.json", "a//b", ""]
)
def test_a_key_splits_into_what_it_was_made_of(name: str) -> None:
    assert naming.split_key("shop", naming.object_key("shop", BACKUP_ID, name)) == (BACKUP_ID, name)


@pytest.mark.parametrize(
    "key",
    [
        pytest.param("shop/RESTORE.md", id="the-guide"),
        pytest.param(f"shop/{BACKUP_ID}", id="an-object-called-like-a-backup"),
        pytest.param(f"other/{BACKUP_ID}/manifest.json", id="another-plan"),
        pytest.param(f"shop-2/{BACKUP_ID}/manifest.json", id="a-plan-whose-name-begins-alike"),
        pytest.param(f"{BACKUP_ID}/manifest.json", id="no-plan"),
        pytest.param(f"shop/x/{BACKUP_ID}/manifest.json", id="deeper"),
        pytest.param("shop/20261301T000000Z-4f9c2a/manifest.json", id="month-13"),
    ],
)
def test_a_key_of_no_backup_of_the_plan_does_not_split(key: str) -> None:
    assert naming.split_key("shop", key) is None
