"""Tables side by side, with pandas: how many rows they hold, and whether these are the same rows."""

from collections.abc import Collection, Iterable, Iterator
from typing import Any, Final

import pandas as pd

from flows.core.facts import TableRows
from flows.core.findings import Check, Finding, Rule, Severity, quoted

NOT_COMPARED: Final = "not compared"

_KEY = ["schema_name", "table"]
_STATUS = {"both": "equal", "left_only": "missing", "right_only": "unexpected"}
_NAMED = 3


def compare_rows(expected: Iterable[TableRows], restored: Iterable[TableRows]) -> pd.DataFrame:
    """Return one line a table, sorted by name (an outer merge sorts), keyed on the pair of schema and table.

    Columns: `schema_name`, `table`; `expected`, `restored`, `difference` (Int64, NA where a side lacks
    the table); `content`: equal, differs, or NA where it was not compared; `status`: equal, differs,
    missing or unexpected.

    Raises:
        pandas.errors.MergeError: A side names a table twice.
    """
    frame = _frame(expected, "expected").merge(
        _frame(restored, "restored"), how="outer", on=_KEY, indicator="status", validate="one_to_one"
    )
    frame["difference"] = frame["restored"] - frame["expected"]
    frame["content"] = _content(frame)
    differs = frame["difference"].ne(0).fillna(False) | frame["content"].eq("differs").fillna(False)
    frame["status"] = frame["status"].map(_STATUS).astype("str").mask(differs.astype("bool"), "differs")
    return frame[[*_KEY, "expected", "restored", "difference", "content", "status"]]


def without(frame: pd.DataFrame, names: Collection[tuple[str, str]]) -> pd.DataFrame:
    """Return the same tables, of which `names` count as not compared, whatever was found of them."""
    left_out = pd.Series([key in names for key in names_of(frame)], index=frame.index, dtype="bool")
    masked = frame.copy()
    masked.loc[left_out, ["restored", "difference", "content"]] = pd.NA
    masked["status"] = masked["status"].mask(left_out, NOT_COMPARED)
    return masked


def names_of(frame: pd.DataFrame) -> list[tuple[str, str]]:
    return list(zip(frame["schema_name"], frame["table"], strict=True))


def compared(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the tables of which rows were expected and looked for."""
    return frame[(frame["status"] != NOT_COMPARED) & frame["expected"].notna()]


def row_findings(frame: pd.DataFrame) -> Iterator[Finding]:
    """Yield what differs; a table that the facts do not know is an error only if it has rows."""
    for line in frame[~frame["status"].isin(["equal", NOT_COMPARED])].to_dict("records"):
        rule, severity, message = _broken(line)
        yield Finding(rule, severity, quoted(line["schema_name"], line["table"]), message, "table")


def content_check(frame: pd.DataFrame) -> tuple[Check, list[str]]:
    """Tell of how many tables the content was compared, and name those whose rows were only counted."""
    both = frame[(frame["status"] != NOT_COMPARED) & frame["difference"].notna()]
    told = int(both["content"].notna().sum())
    lacking = [quoted(*name) for name in names_of(both[both["content"].isna()])]
    if both.empty:
        return Check(0, "no table is on both sides"), []
    if not told:
        return Check(None, "the content of no table was read on both sides"), []
    if not lacking:
        return Check(told), []
    names = ", ".join(lacking[:_NAMED]) + (" …" if len(lacking) > _NAMED else "")
    note = f"the content of {len(lacking):,} tables was not read, their rows were only counted: {names}"
    return Check(told), [note]


def _broken(line: dict[Any, Any]) -> tuple[Rule, Severity, str]:
    """Return (rule, severity, message) of a table that is not equal."""
    expected, restored = line["expected"], line["restored"]
    if line["status"] == "missing":
        return "OBJECT_MISSING", "error", f"the table was not restored; {expected:,} rows were expected"
    if line["status"] == "unexpected":
        message = f"the facts do not know this table; {restored:,} rows were restored"
        return "OBJECT_UNEXPECTED", "error" if restored else "warning", message
    if line["difference"]:
        return "ROWS_DIFFER", "error", f"{expected:,} rows were expected, {restored:,} were restored"
    return "CONTENT_DIFFERS", "error", f"{restored:,} rows were restored, but not the same ones"


def _content(frame: pd.DataFrame) -> pd.Series:
    """Tell which tables hold the same rows: two fingerprints are alike, or there are no rows."""
    known = frame["content_expected"].notna() & frame["content_restored"].notna()
    alike = (frame["content_expected"] == frame["content_restored"]).fillna(False)
    both_empty = (frame["expected"].eq(0) & frame["restored"].eq(0)).fillna(False)
    content = pd.Series(pd.NA, index=frame.index, dtype="string")
    content = content.mask((known & ~alike).astype("bool"), "differs")
    return content.mask(((known & alike) | both_empty).astype("bool"), "equal")


def _frame(tables: Iterable[TableRows], side: str) -> pd.DataFrame:
    content = f"content_{side}"
    data = [(table.schema_name, table.table, table.rows, table.content) for table in tables]
    return pd.DataFrame(data, columns=[*_KEY, side, content]).astype(
        dict.fromkeys(_KEY, "str") | {side: "Int64", content: "string"}
    )
