"""The plan's own questions to a restored database: what an answer has to be, and whether it is.

An answer that cannot be compared with what is expected never meets it.
"""

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Final, Protocol

from pydantic import BaseModel, ConfigDict, Field, field_validator

from flows.core.findings import Finding, Severity

FORMS: Final = "> 0, >= 5, < 10, <= 5, = open, = 'two words', != x, between 1 and 5, true, false, empty"

_SHOWN_CHARACTERS = 80
_COMPARED: dict[str, Callable[[Any, Any], Any]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
    "=": operator.eq,
    "!=": operator.ne,
}
_OPERAND = r"(?:'(?:[^']|'')*'|[^'\s<>=!](?:[^']*[^'\s])?)"
_COMPARISON = re.compile(rf"(?P<operator>>=|<=|!=|>|<|=)\s*(?P<operand>{_OPERAND})", re.DOTALL)
_BETWEEN = re.compile(rf"between\s+(?P<low>{_OPERAND})\s+and\s+(?P<high>{_OPERAND})", re.DOTALL)


class Assertion(BaseModel):
    """A question in SQL with one answer, and what the answer has to be."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, description="What is asserted, in a few words; the report shows it.")
    sql: str = Field(min_length=1, description="A SELECT of one row with one column, with schemas' names.")
    expect: str = Field("> 0", description=f"What the answer has to be: {FORMS}.")
    severity: Severity = Field("error", description="Whether another answer fails the verification.")
    timeout_seconds: float = Field(60, gt=0, description="How long the server may take to answer.")

    @field_validator("expect")
    @classmethod
    def _known_form(cls, value: str) -> str:
        expectation(value)
        return value


@dataclass(frozen=True)
class Expectation:
    """A parsed expectation: every pair of operator and operand has to hold; none stands for no row."""

    comparisons: tuple[tuple[str, "bool | str"], ...]


class Outcome(Protocol):
    """What came of a question.

    Args:
        rows: 0, 1, or 2 for any more.
        error: SQLSTATE and its name, if the server refused; nothing of the server's message.
    """

    @property
    def rows(self) -> int: ...
    @property
    def columns(self) -> int: ...
    @property
    def value(self) -> object: ...
    @property
    def error(self) -> str: ...


def expectation(text: str) -> Expectation:
    """Parse an expectation; raise `ValueError`, which names the right forms."""
    words = text.strip()
    if words == "empty":
        return Expectation(())
    if words in ("true", "false"):
        return Expectation((("=", words == "true"),))
    if found := _COMPARISON.fullmatch(words):
        return Expectation(((found["operator"], found["operand"]),))
    if found := _BETWEEN.fullmatch(words):
        return Expectation(((">=", found["low"]), ("<=", found["high"])))
    raise ValueError(f"not an expectation: {text!r}; write one of {FORMS}")


def meets(expect: str, value: object) -> bool:
    """Tell whether an answer is as expected: by number, text, truth or time, whichever the answer is.

    NULL and NaN meet nothing. A time without a zone is taken for UTC.
    """
    comparisons = expectation(expect).comparisons
    return bool(comparisons) and all(_holds(sign, operand, value) for sign, operand in comparisons)


def answer_of(outcome: Outcome) -> str:
    """Return the answer for a person, cut short; what is no single value is told in words."""
    if outcome.error:
        return f"the SQL failed: {outcome.error}"
    if not outcome.rows:
        return "no row"
    if outcome.rows > 1 or outcome.columns != 1:
        return "more than one value"
    return _shown(outcome.value)


def judge(assertion: Assertion, outcome: Outcome) -> Finding | None:
    """Return the finding of an answer that is not as expected; it shows the answer, cut short."""
    message = _complaint(assertion.expect, outcome)
    if message is None:
        return None
    return Finding("ASSERTION_FAILED", assertion.severity, assertion.name, message, "assertion")


def _complaint(expect: str, outcome: Outcome) -> str | None:
    if outcome.error:
        return f"the SQL failed: {outcome.error}"
    if not expectation(expect).comparisons:
        return "no row was expected, but there are some" if outcome.rows else None
    if outcome.columns != 1 or outcome.rows > 1:
        many = "more than one row" if outcome.columns == 1 else f"{outcome.columns} columns"
        return f"the SQL returns {many}: write one that returns a single value"
    if not outcome.rows:
        return f"{expect} was expected, but there is no row"
    return None if meets(expect, outcome.value) else f"{expect} was expected, not {_shown(outcome.value)}"


def _holds(sign: str, operand: bool | str, value: object) -> bool:
    try:
        expected, found = _alike(operand, value, is_order=sign not in ("=", "!="))
        return bool(_COMPARED[sign](found, expected))
    except (ValueError, InvalidOperation):
        return False


def _alike(operand: bool | str, value: object, *, is_order: bool) -> tuple[Any, Any]:
    """Return (expected, found) as values of one kind, the answer's; raise `ValueError` if there is none."""
    if value is None:
        raise ValueError("NULL is like nothing")
    if isinstance(operand, bool) or isinstance(value, bool):
        return _truth(operand), _truth(value)
    text = _text(operand)
    if isinstance(value, int | float | Decimal):
        return _number(text), _number(str(value))
    if isinstance(value, datetime):
        return _instant(datetime.fromisoformat(text)), _instant(value)
    if isinstance(value, date):
        return date.fromisoformat(text), value
    if is_order and not operand.startswith("'"):
        raise ValueError("text has an order only among quoted texts")
    return text, str(value)


def _truth(value: object) -> bool:
    if isinstance(value, bool):
        return value
    if value in ("true", "false"):
        return value == "true"
    raise ValueError("neither true nor false")


def _text(operand: str) -> str:
    return operand[1:-1].replace("''", "'") if operand.startswith("'") else operand


def _number(text: str) -> Decimal:
    number = Decimal(text)
    if number.is_nan():
        raise ValueError("NaN is like nothing")
    return number


def _instant(value: datetime) -> datetime:
    return value if value.tzinfo else value.replace(tzinfo=UTC)


def _shown(value: object) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return str(value).lower()
    text = "".join(letter if letter.isprintable() else " " for letter in str(value))
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[: _SHOWN_CHARACTERS - 1]}…"
