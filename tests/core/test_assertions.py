"""What an answer has to be: the grammar, and that nothing which cannot be compared ever passes."""

from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from flows.core.assertions import FORMS, Assertion, judge, meets
from flows.core.findings import Finding

NOON = datetime(2026, 1, 28, 12, tzinfo=UTC)


@dataclass(frozen=True)
class Answer:
    value: object = None
    rows: int = 1
    columns: int = 1
    error: str = ""


@pytest.mark.parametrize(
    ("expect", "value", "is_met"),
    [
        ("> 0", 1, True),
        ("> 0", 0, False),
        (">= 5", Decimal("5.0"), True),
        ("<10", 9.5, True),
        ("<= 10", 11, False),
        ("= 5", Decimal("5.00"), True),
        ("= 0.1", 0.1, True),
        ("!= 5", 5, False),
        ("!= 5", 6, True),
        ("< 10", float("-inf"), True),
        ("> 12345678901234567890", 12345678901234567891, True),
        ("between 1 and 5", 1, True),
        ("between 1 and 5", 5, True),
        ("between 1 and 5", 6, False),
        ("between 'a' and 'c'", "b", True),
        ("= open", "open", True),
        ("= open", "Open", False),
        ("= two words", "two words", True),
        ("= 'it''s'", "it's", True),
        ("= ''", "", True),
        ("= '> 0'", "> 0", True),
        ("!= open", "shut", True),
        ("= 5", "5", True),
        ("> 'a'", "b", True),
        ("true", True, True),
        ("true", False, False),
        ("false", False, True),
        ("= true", True, True),
        ("!= true", True, False),
        ("> 2026-01-27", date(2026, 1, 28), True),
        ("> 2026-01-28", date(2026, 1, 28), False),
        ("> 2026-01-28", NOON, True),
        ("< 2026-01-28 12:00+02:00", NOON, False),
        ("between '2026-01-28 11:00' and '2026-01-28 13:00'", NOON.replace(tzinfo=None), True),
        ("= 00000000-0000-0000-0000-000000000001", UUID(int=1), True),
        (" >  0 ", 1, True),
    ],
)
def test_an_answer_is_compared_as_what_it_is(expect: str, value: object, is_met: bool) -> None:
    assert meets(expect, value) is is_met


@pytest.mark.parametrize(
    ("expect", "value"),
    [
        ("> 0", None),
        ("!= x", None),
        ("= NULL", None),
        ("> 0", "abc"),
        ("> 0", "5"),
        ("!= open", 5),
        ("> 0", True),
        ("true", 1),
        ("true", "true "),
        ("!= 5", float("nan")),
        ("< NaN", 5),
        ("= NaN", Decimal("NaN")),
        ("> yesterday", NOON),
        ("> 2026-02-30", date(2026, 1, 1)),
        ("empty", 0),
        ("empty", None),
    ],
)
def test_what_cannot_be_compared_meets_nothing(expect: str, value: object) -> None:
    assert not meets(expect, value)


@given(st.decimals(allow_nan=False, allow_infinity=False, places=2), st.decimals(allow_nan=False, places=2))
def test_numbers_have_their_order(limit: Decimal, value: Decimal) -> None:
    assert meets(f"> {limit}", value) is (value > limit)
    assert meets(f"between {limit} and {limit}", value) is (value == limit)


@pytest.mark.parametrize(
    "expect",
    ["", "5", "=", "> ", "~ 3", "=> 3", "<> 3", "between 1", "between 1 and", "= 'x", "= 'a' b", "none"],
)
def test_an_unknown_form_names_the_known_ones(expect: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Assertion(name="n", sql="SELECT 1", expect=expect)
    (error,) = caught.value.errors()
    assert error["loc"] == ("expect",)
    assert error["msg"] == f"Value error, not an expectation: {expect!r}; write one of {FORMS}"


def test_every_named_form_is_one() -> None:
    for form in FORMS.split(", "):
        assert Assertion(name="n", sql="SELECT 1", expect=form).expect == form


@pytest.mark.parametrize(
    ("expect", "answer", "message"),
    [
        ("> 0", Answer(1), None),
        ("> 0", Answer(0), "> 0 was expected, not 0"),
        ("= open", Answer("shut\nup"), "= open was expected, not shut up"),
        ("true", Answer(False), "true was expected, not false"),
        ("> 0", Answer(None), "> 0 was expected, not NULL"),
        ("= x", Answer("y" * 81), f"= x was expected, not {'y' * 79}…"),
        ("= x", Answer("y" * 80), f"= x was expected, not {'y' * 80}"),
        ("> 0", Answer(rows=0), "> 0 was expected, but there is no row"),
        ("> 0", Answer(rows=2), "the SQL returns more than one row: write one that returns a single value"),
        ("> 0", Answer(columns=3), "the SQL returns 3 columns: write one that returns a single value"),
        ("empty", Answer(rows=0, columns=2), None),
        ("empty", Answer("planted"), "no row was expected, but there are some"),
        ("empty", Answer(rows=0, error="42P01 UndefinedTable"), "the SQL failed: 42P01 UndefinedTable"),
        ("> 0", Answer(5, error="57014 QueryCanceled"), "the SQL failed: 57014 QueryCanceled"),
    ],
)
def test_another_answer_than_expected_is_shown(expect: str, answer: Answer, message: str | None) -> None:
    assertion = Assertion(name="orders are there", sql="SELECT 1", expect=expect)
    finding = judge(assertion, answer)
    wanted = Finding("ASSERTION_FAILED", "error", "orders are there", message or "", "assertion")
    assert finding == (wanted if message else None)


def test_an_assertion_may_only_warn() -> None:
    finding = judge(Assertion(name="n", sql="SELECT 0", severity="warning"), Answer(0))
    assert finding is not None
    assert finding.severity == "warning"
