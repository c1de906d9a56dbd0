"""Hours of the day in which something may be done."""

from datetime import UTC, datetime

import pytest

from flows.core.windows import is_within, parse_window


@pytest.mark.parametrize(
    ("window", "clock", "expected"),
    [
        pytest.param("22:00-06:00", "22:00", True, id="the beginning belongs to it"),
        pytest.param("22:00-06:00", "23:59", True, id="before midnight"),
        pytest.param("22:00-06:00", "00:00", True, id="midnight"),
        pytest.param("22:00-06:00", "05:59", True, id="after midnight"),
        pytest.param("22:00-06:00", "06:00", False, id="the end does not"),
        pytest.param("22:00-06:00", "21:59", False, id="before"),
        pytest.param("09:00-17:00", "12:00", True, id="within a day"),
        pytest.param("09:00-17:00", "08:59", False, id="too early"),
        pytest.param("09:00-17:00", "17:00", False, id="too late"),
    ],
)
def test_a_window_may_pass_midnight(window: str, clock: str, expected: bool) -> None:
    at = datetime.fromisoformat(f"2026-01-28T{clock}:00+00:00")

    assert is_within(window, at, "UTC") is expected


def test_the_hours_are_those_of_the_time_zone() -> None:
    at = datetime(2026, 7, 1, 20, 30, tzinfo=UTC)

    assert is_within("22:00-06:00", at, "Europe/Madrid")
    assert not is_within("22:00-06:00", at, "UTC")


@pytest.mark.parametrize(
    "text", ["", "22-06", "22:00", "24:00-06:00", "22:60-06:00", "6:00-7:00", "05:00-05:00"]
)
def test_what_is_no_stretch_of_hours_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="write it as 22:00-06:00"):
        parse_window(text)
