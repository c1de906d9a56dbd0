"""What a restored database holds against its backup's facts: the proof itself, table by table, with pandas.

Apart from the rest of core because only verification needs pandas: nothing else here imports this module.
A finding names an object and counts; it never holds a row's value or a setting's.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from flows.core.facts import DatabaseSetting, Facts, SequenceValue, TableRows
from flows.core.verification import Verdict

Rule = Literal[
    "ROWS_DIFFER",
    "OBJECT_MISSING",
    "OBJECT_UNEXPECTED",
    "SEQUENCE_BEHIND",
    "SETTING_DIFFERS",
    "EMPTY_RESTORE",
    "RESTORE_ERROR",
]
_KEY = ["schema_name", "table"]
_STATUS = {"both": "equal", "left_only": "missing", "right_only": "unexpected"}
_PLAIN_NAME = re.compile(r"[a-z_][a-z0-9_]*")


@dataclass(frozen=True)
class RestoredState:
    """What was counted in the restored database, by the same queries as the facts.

    Args:
        settings: None where nobody applied them, so that there is nothing to compare.
    """

    tables: tuple[TableRows, ...]
    sequences: tuple[SequenceValue, ...] = ()
    settings: tuple[DatabaseSetting, ...] | None = None


@dataclass(frozen=True)
class Finding:
    """One difference.

    Args:
        object: Written as SQL would: `public.orders`, `"odd.name"."a ""b"`.
        message: For a person; counts and kinds only.
    """

    rule: Rule
    severity: Literal["error", "warning"]
    object: str
    message: str


@dataclass(frozen=True)
class Comparison:
    """All tables side by side, and what differs."""

    rows: pd.DataFrame
    findings: list[Finding]

    @property
    def equal_tables(self) -> int:
        return int((self.rows["status"] == "equal").sum())

    @property
    def equal_rows(self) -> int:
        """How many rows the equal tables hold in all."""
        return int(self.rows.loc[self.rows["status"] == "equal", "restored"].sum())

    @property
    def verdict(self) -> Verdict:
        failed = any(finding.severity == "error" for finding in self.findings)
        return Verdict.FAILED if failed else Verdict.VERIFIED


def compare(facts: Facts, restored: RestoredState) -> Comparison:
    """Return how a restored database differs from what the snapshot held; missing tables stand in `rows` too.

    An error: a table or sequence that is missing, other row counts, a sequence that would hand out a
    value again, a setting that is missing or other, rows in a table that the facts do not know. Only a
    warning: an empty table, a sequence or a setting that the facts do not know, for nothing is lost by it.
    """
    rows = compare_rows(facts.tables, restored.tables)
    empty = bool(facts.tables) and not restored.tables
    findings = [
        *([_empty_restore(facts)] if empty else _table_findings(rows)),
        *_sequence_findings(facts.sequences, restored.sequences),
        *(() if restored.settings is None else _setting_findings(facts.settings, restored.settings)),
    ]
    return Comparison(rows, findings)


def compare_rows(expected: Iterable[TableRows], restored: Iterable[TableRows]) -> pd.DataFrame:
    """Return one line a table, sorted by name (an outer merge sorts), keyed on the pair of schema and table.

    Columns: `schema_name`, `table`; `expected`, `restored`, `difference` (Int64, NA where a side lacks
    the table); `status`: equal, differs, missing or unexpected.

    Raises:
        pandas.errors.MergeError: A side names a table twice.
    """
    frame = _frame(expected, "expected").merge(
        _frame(restored, "restored"), how="outer", on=_KEY, indicator="status", validate="one_to_one"
    )
    frame["difference"] = frame["restored"] - frame["expected"]
    status = frame["status"].map(_STATUS).astype("str")
    frame["status"] = status.mask(frame["difference"].ne(0).fillna(False).astype("bool"), "differs")
    columns = [*_KEY, "expected", "restored", "difference", "status"]
    return frame[columns]


def quoted(*names: str) -> str:
    """Return a name as SQL would write it, on one line: plain, quoted, or as U&"…" with escapes."""
    return ".".join(_quoted(name) for name in names)


def _quoted(name: str) -> str:
    if _PLAIN_NAME.fullmatch(name):
        return name
    doubled = name.replace('"', '""')
    if name.isprintable():
        return f'"{doubled}"'
    escaped = (c if c.isprintable() and c != "\\" else f"\\+{ord(c):06X}" for c in doubled)
    return f'U&"{"".join(escaped)}"'


def _frame(tables: Iterable[TableRows], count: str) -> pd.DataFrame:
    data = [(table.schema_name, table.table, table.rows) for table in tables]
    return pd.DataFrame(data, columns=[*_KEY, count]).astype(dict.fromkeys(_KEY, "str") | {count: "Int64"})


def _empty_restore(facts: Facts) -> Finding:
    total = sum(table.rows for table in facts.tables)
    message = f"no table was restored; {len(facts.tables):,} with {total:,} rows were expected"
    return Finding("EMPTY_RESTORE", "error", quoted(facts.dbname), message)


def _table_findings(rows: pd.DataFrame) -> Iterator[Finding]:
    for line in rows[rows["status"] != "equal"].to_dict("records"):
        name = quoted(line["schema_name"], line["table"])
        if line["status"] == "missing":
            message = f"the table was not restored; {line['expected']:,} rows were expected"
            yield Finding("OBJECT_MISSING", "error", name, message)
        elif line["status"] == "unexpected":
            severity: Literal["error", "warning"] = "error" if line["restored"] else "warning"
            message = f"the facts do not know this table; {line['restored']:,} rows were restored"
            yield Finding("OBJECT_UNEXPECTED", severity, name, message)
        else:
            message = f"{line['expected']:,} rows were expected, {line['restored']:,} were restored"
            yield Finding("ROWS_DIFFER", "error", name, message)


def _sequence_findings(
    expected: Iterable[SequenceValue], restored: Iterable[SequenceValue]
) -> Iterator[Finding]:
    found = {(sequence.schema_name, sequence.sequence): sequence for sequence in restored}
    for sequence in sorted(expected, key=lambda item: (item.schema_name, item.sequence)):
        key = (sequence.schema_name, sequence.sequence)
        counterpart = found.pop(key, None)
        if counterpart is None:
            yield Finding("OBJECT_MISSING", "error", quoted(*key), "the sequence was not restored")
        elif _is_behind(counterpart, sequence):
            yield Finding(
                "SEQUENCE_BEHIND", "error", quoted(*key), "the sequence would hand out values again"
            )
    for key in sorted(found):
        yield Finding("OBJECT_UNEXPECTED", "warning", quoted(*key), "the facts do not know this sequence")


def _is_behind(restored: SequenceValue, expected: SequenceValue) -> bool:
    """Tell whether a sequence stands before where it stood when the facts were read.

    It may stand beyond: sequences ignore snapshots, and the source went on while pg_dump began. Beyond
    is downwards for a negative increment; a sequence that cycles may stand anywhere, once it was used.
    """
    if expected.last_value is None:
        return False
    if restored.last_value is None:
        return True
    progress = restored.last_value - expected.last_value
    if progress == 0:
        return restored.is_called < expected.is_called
    return not expected.cycles and (progress < 0) == (expected.increment >= 0)


def _setting_findings(
    expected: Iterable[DatabaseSetting], restored: Iterable[DatabaseSetting]
) -> Iterator[Finding]:
    wanted = {(setting.role, setting.name): setting.value for setting in expected}
    found = {(setting.role, setting.name): setting.value for setting in restored}
    for role, name in sorted(wanted.keys() | found.keys(), key=lambda key: (key[0] or "", key[1])):
        setting = f"{name} of role {quoted(role)}" if role is not None else name
        if (role, name) not in found:
            yield Finding("SETTING_DIFFERS", "error", setting, "the setting was not restored")
        elif (role, name) not in wanted:
            yield Finding("SETTING_DIFFERS", "warning", setting, "the facts do not know this setting")
        elif wanted[role, name] != found[role, name]:
            yield Finding("SETTING_DIFFERS", "error", setting, "the setting has another value")
