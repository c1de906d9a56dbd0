"""What is wrong in a plan, told by its place and the nearest right word, and never with a secret's value."""

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from prefect.blocks.core import Block
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from blocks.errors import ConfigurationError
from flows.core.errors import PlanError

Model = TypeVar("Model", bound=BaseModel)

_BLOCK_FIELDS = frozenset(Block.model_fields)
_TOML_KINDS = {
    bool: "true or false",
    str: "a string",
    int: "a number",
    float: "a number",
    list: "a list",
    dict: "a table",
}


def words_of(model: type[BaseModel]) -> set[str]:
    """Return the keys that a model's table may have."""
    return set(model.model_fields) - _BLOCK_FIELDS


def validated(
    model: type[Model], data: Mapping[str, Any], place: str, called: Mapping[str, str] | None = None
) -> Model:
    """Build a model; raise `PlanError` with the place of the first fault.

    Args:
        place: Where the data stands, such as `plans.toml: plans.shop`.
        called: What a field is called there, if not by its own name.
    """
    try:
        return model.model_validate(data, strict=True)
    except ConfigurationError as error:
        raise PlanError(f"{place}: {error.message}", error.hint) from error
    except ValidationError as error:
        raise plan_error(error, model, place, called) from None


def plan_error(
    error: ValidationError, model: type[BaseModel], place: str, called: Mapping[str, str] | None = None
) -> PlanError:
    """Return the first fault of a model that could not be built, with its place."""
    fault = error.errors(include_url=False)[0]
    path = [str(part) for part in fault["loc"]]
    where = (called or {}).get(path[-1] if path else "") or ".".join(path)
    message, hint = _told(fault, model)
    return PlanError(f"{place}{'.' if where else ''}{where}{message}", hint)


def refuse_unknown(table: Mapping[str, Any], known: Iterable[str], place: str) -> None:
    """Raise `PlanError` for a key that nobody knows, with the nearest one that is known."""
    known = set(known)
    for word in table:
        if word not in known:
            raise PlanError(f"{place}: unknown key {word}", nearest(word, known, "known are"))


def nearest(word: str, known: Iterable[str], otherwise: str) -> str:
    """Return a hint: the nearest known word, or all of them after `otherwise`."""
    known = sorted(known)
    if close := difflib.get_close_matches(word, known, 1, 0.5):
        return f"did you mean {close[0]}?"
    return f"{otherwise}: {', '.join(known)}" if known else ""


def close_to(value: str, known: Iterable[str], likeness: float = 0.6) -> str:
    """Return "did you mean …?" with the nearest known word, whatever its case, or nothing."""
    in_lower_case = {word.lower(): word for word in sorted(known)}
    close = difflib.get_close_matches(value.lower(), in_lower_case, 1, likeness)
    return f"did you mean {in_lower_case[close[0]]}?" if close else ""


def table(raw: Any, place: str, example: str) -> Mapping[str, Any]:
    """Return `raw` if it is a table; its value, which may be a secret, is never told."""
    if not isinstance(raw, dict):
        raise PlanError(f"{place} must be a table, it is {_kind(raw)}", f"write it as {example}")
    return raw


def listed(raw: Any, place: str, example: str) -> list[Any]:
    """Return `raw` if it is a list."""
    if not isinstance(raw, list):
        raise PlanError(f"{place} must be a list, it is {_kind(raw)}", f"write it as {example}")
    return raw


def _kind(raw: Any) -> str:
    return _TOML_KINDS.get(type(raw), "something else")


def _told(fault: ErrorDetails, model: type[BaseModel]) -> tuple[str, str]:
    """Return (what is wrong, to stand behind its place; what to do about it)."""
    field = model.model_fields.get(str(fault["loc"][0])) if len(fault["loc"]) == 1 else None
    meaning = _lower_first((field.description if field else None) or "")
    if fault["type"] == "missing":
        return " is missing", meaning
    if fault["type"] == "literal_error":
        words = [word.strip("'") for word in fault["ctx"]["expected"].replace(" or ", ", ").split(", ")]
        known = [word for word in words if word]
        return ": there is no such word", nearest(str(fault["input"]), known, "it may be")
    message, _, hint = fault["msg"].removeprefix("Value error, ").partition("; ")
    return f": {_lower_first(message)}", hint or meaning


def _lower_first(text: str) -> str:
    """Return text with a small first letter, unless it begins with an abbreviation."""
    return text if text[1:2].isupper() else text[:1].lower() + text[1:]
