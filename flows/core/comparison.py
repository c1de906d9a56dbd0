"""What a restored database holds against its backup's facts: the proof itself, put together rule by rule.

Only verification needs pandas, so nothing else of core imports this module and its parts.
A finding names an object and counts; it never holds a row's value or a setting's.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

import pandas as pd

from flows.core.facts import CatalogObject, DatabaseSetting, Facts, LargeObjects, SequenceValue, TableRows
from flows.core.findings import Check, Finding, Rule, quoted, verdict_of
from flows.core.object_comparison import compare_objects
from flows.core.row_comparison import compare_rows, compared, content_check, names_of, row_findings, without
from flows.core.state_comparison import Part, compare_large_objects, compare_sequences, compare_settings
from flows.core.verification import Tier, Verdict

__all__ = ["Comparison", "Finding", "RestoredState", "Rule", "compare", "compare_rows", "quoted"]

_TABLES = ("table", "partitioned table")
_OBJECT_RULES: tuple[Rule, ...] = ("DEFINITION_DIFFERS", "OWNER_DIFFERS", "GRANT_DIFFERS")
_EXISTENCE_RULES: tuple[Rule, ...] = ("OBJECT_MISSING", "OBJECT_UNEXPECTED")
_ONLY_DEFINITIONS = "only definitions were restored"
_ONLY_A_SAMPLE = "only a sample of the rows was restored"
_ONLY_COUNTED = "rows were counted, but their content was not read"
_OLDER_FACTS = "the facts are of an older release, which read neither definitions nor owners nor rights"


@dataclass(frozen=True)
class RestoredState:
    """What was found in the restored database, by the same queries as the facts.

    Args:
        settings: None where nobody applied them, so that there is nothing to compare.
        objects: None where nobody read them; the same for `large_objects`.
        major: Of the server that it was restored into; 0 if it is the source's.
    """

    tables: tuple[TableRows, ...]
    sequences: tuple[SequenceValue, ...] = ()
    settings: tuple[DatabaseSetting, ...] | None = None
    objects: tuple[CatalogObject, ...] | None = None
    large_objects: LargeObjects | None = None
    major: int = 0


@dataclass(frozen=True)
class Comparison:
    """All tables side by side, and what differs.

    Args:
        rows: As `compare_rows` returns it.
        kinds: One line a kind of object: expected, restored, equal, missing, unexpected, different.
        checks: Of each rule that a comparison can look at, whether it did.
        notes: What was compared only in part.
    """

    rows: pd.DataFrame
    findings: list[Finding]
    kinds: pd.DataFrame = field(default_factory=pd.DataFrame)
    checks: dict[Rule, Check] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def equal_tables(self) -> int:
        return int((self.rows["status"] == "equal").sum())

    @property
    def equal_rows(self) -> int:
        """How many rows the equal tables hold in all."""
        return int(self.rows.loc[self.rows["status"] == "equal", "restored"].sum())

    @property
    def equal_objects(self) -> int:
        """How many objects came back as they were, each column and index counted as one."""
        return 0 if self.kinds.empty else int(self.kinds["equal"].sum())

    @property
    def verdict(self) -> Verdict:
        return verdict_of(self.findings)


def compare(
    facts: Facts,
    restored: RestoredState,
    *,
    tier: Tier = "full",
    sampled: Collection[tuple[str, str]] | None = None,
    ignored_roles: Collection[str] = (),
) -> Comparison:
    """Return how a restored database differs from what the snapshot held; missing tables stand in `rows` too.

    An error: a table, sequence or object that is missing, other rows, a sequence that would hand out a
    value again, a setting that is missing or other, rows in a table that the facts do not know. Only a
    warning: an empty table, a sequence or a setting that the facts do not know, for nothing is lost by it.

    Args:
        tier: `schema`: no rows were restored; `sample`: only those of some tables, and no foreign key.
        sampled: The (schema, table) pairs of a sample; of all others no rows are compared.
        ignored_roles: The scratch server's own, whose rights are nobody's on the source.
    """
    without_values = _ONLY_DEFINITIONS if tier == "schema" else ""
    rows, row_part = _rows(facts, restored, tier, sampled or ())
    sequences = compare_sequences(facts.sequences, restored.sequences, without_values)
    kinds, objects = _objects(facts, restored, tier, ignored_roles)
    objects.findings = _untold(objects.findings, [*row_part.findings, *sequences.findings])
    parts = [
        row_part,
        sequences,
        objects,
        compare_settings(facts.settings, restored.settings),
        compare_large_objects(facts.large_objects, restored.large_objects, without_values),
    ]
    return Comparison(
        rows,
        [finding for part in parts for finding in part.findings],
        kinds,
        {rule: check for part in parts for rule, check in part.checks.items()},
        [note for part in parts for note in part.notes],
    )


def _rows(
    facts: Facts, restored: RestoredState, tier: Tier, sampled: Collection[tuple[str, str]]
) -> tuple[pd.DataFrame, Part]:
    frame = compare_rows(facts.tables, restored.tables)
    left_out, why = _left_out(facts, tier, set(names_of(frame)), sampled)
    frame = without(frame, left_out | _withheld(facts, restored))
    part = Part(list(row_findings(frame)), _row_checks(facts, frame, why))
    if tier == "sample" and left_out:
        part.notes.append(f"rows of {len(left_out):,} tables are not part of the sample")
    if part.checks["ROWS_DIFFER"].count and facts.proof == "content":
        part.checks["CONTENT_DIFFERS"], notes = content_check(frame)
        part.notes += notes
    expected, found = _tables(facts.tables, facts.objects), _tables(restored.tables, restored.objects)
    is_known = bool(found) or restored.objects is not None or len(compared(frame)) > 0
    part.checks["EMPTY_RESTORE"] = _checked(len(expected) if is_known else None, why, "no tables")
    if expected and is_known and not found:
        part.findings = [_empty_restore(facts, len(expected))]
    return frame, part


def _left_out(
    facts: Facts, tier: Tier, names: set[tuple[str, str]], sampled: Collection[tuple[str, str]]
) -> tuple[set[tuple[str, str]], str]:
    """Return (the tables of which no rows are compared, why so if that is all of them)."""
    if facts.proof == "none":
        return names, "the source's rows were not counted, as the plan asks for no proof"
    if tier == "schema":
        return names, _ONLY_DEFINITIONS
    return (names - set(sampled), "the sample holds no table") if tier == "sample" else (set(), "")


def _withheld(facts: Facts, restored: RestoredState) -> set[tuple[str, str]]:
    """Return the tables that were dumped without their rows on purpose, and came back empty."""
    empty = {(table.schema_name, table.table) for table in restored.tables if not table.rows}
    counted = {(table.schema_name, table.table) for table in facts.tables}
    return empty & _tables((), facts.objects) - counted


def _row_checks(facts: Facts, frame: pd.DataFrame, why: str) -> dict[Rule, Check]:
    tables = len(compared(frame))
    counted = _checked(None if why and not tables else tables, why, "no tables")
    contents = counted if facts.proof == "content" or not counted.count else Check(None, _ONLY_COUNTED)
    return {"ROWS_DIFFER": counted, "CONTENT_DIFFERS": contents}


def _tables(counted: Iterable[TableRows], objects: Iterable[CatalogObject] | None) -> set[tuple[str, ...]]:
    """Return the names of all tables, whether they were counted or read from the catalogue."""
    return {(table.schema_name, table.table) for table in counted} | {
        thing.name for thing in objects or () if thing.kind in _TABLES
    }


def _empty_restore(facts: Facts, tables: int) -> Finding:
    total = sum(table.rows for table in facts.tables)
    with_rows = "" if facts.proof == "none" else f" with {total:,} rows"
    message = f"no table was restored; {tables:,}{with_rows} were expected"
    return Finding("EMPTY_RESTORE", "error", quoted(facts.dbname), message, "database")


def _objects(
    facts: Facts, restored: RestoredState, tier: Tier, ignored_roles: Collection[str]
) -> tuple[pd.DataFrame, Part]:
    if facts.objects is None or restored.objects is None:
        why = _OLDER_FACTS if facts.objects is None else "the restored database's objects were not read"
        checks: dict[Rule, Check] = dict.fromkeys((*_OBJECT_RULES, "MATVIEW_UNPOPULATED"), Check(None, why))
        relations = Check(len(facts.tables) + len(facts.sequences), "no tables and no sequences")
        return pd.DataFrame(), Part([], checks | dict.fromkeys(_EXISTENCE_RULES, relations))
    majors = (facts.server_major, restored.major or facts.server_major)
    expected = _portion(facts.objects, tier)
    found = _portion(restored.objects, tier)
    result = compare_objects(expected, found, majors=majors, ignored_roles=ignored_roles)
    objects = Check(len(expected), "the database holds no objects")
    checks = dict.fromkeys((*_OBJECT_RULES, *_EXISTENCE_RULES), objects)
    views = sum(thing.kind == "materialized view" for thing in facts.objects)
    checks["MATVIEW_UNPOPULATED"] = Check(views, "no materialized views")
    if tier == "full":
        return result.counts, Part(list(result.findings), checks)
    why = _ONLY_DEFINITIONS if tier == "schema" else _ONLY_A_SAMPLE
    checks["MATVIEW_UNPOPULATED"] = _checked(None if views else 0, why, "no materialized views")
    left_out = len(facts.objects) - len(expected)
    notes = [f"foreign keys that were not restored, for they need all rows: {left_out:,}"] if left_out else []
    return result.counts, Part(list(result.findings), checks, notes)


def _portion(objects: Iterable[CatalogObject], tier: Tier) -> list[CatalogObject]:
    """Return what a tier restores: without all rows no view is filled, and no foreign key built."""
    if tier == "full":
        return list(objects)
    return [_unfilled(thing) for thing in objects if tier == "schema" or not thing.is_foreign_key]


def _unfilled(thing: CatalogObject) -> CatalogObject:
    if "populated" not in thing.properties:
        return thing
    properties = {name: value for name, value in thing.properties.items() if name != "populated"}
    return thing.model_copy(update={"properties": properties})


def _untold(objects: Iterable[Finding], told: Iterable[Finding]) -> list[Finding]:
    """Return the findings of objects that do not repeat what is told of tables' rows or of sequences."""
    known = {(finding.rule, finding.object) for finding in told if finding.rule in _EXISTENCE_RULES}
    known_kinds = (*_TABLES, "sequence")
    nothing_came = any(finding.rule == "EMPTY_RESTORE" for finding in told)
    return [
        finding
        for finding in objects
        if not ((finding.rule, finding.object) in known and finding.kind in known_kinds)
        and not (nothing_came and finding.rule == "OBJECT_MISSING" and finding.kind in _TABLES)
    ]


def _checked(count: int | None, why_not: str, why_none: str) -> Check:
    return Check(count, why_not if count is None else why_none)
