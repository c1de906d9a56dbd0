"""What the evidence of a restore comes to: findings, those that the plan accepts, checks, and the verdict."""

from collections import Counter
from collections.abc import Iterator

from blocks.amcheck import IndexesChecked
from blocks.soundness import COUNTED_VIOLATIONS, ConstraintsChecked
from flows.core.assertions import answer_of, judge
from flows.core.findings import (
    HOST_LACKS,
    Check,
    Finding,
    Rule,
    Severity,
    checks_of_all_rules,
    quoted,
    verdict_of,
)
from flows.core.ignoring import judged
from flows.core.restore_errors import classify
from flows.core.verification import Verdict
from flows.proof import Answer, Proof
from flows.proving import Evidence
from flows.verify_settings import VerifySettings

_NOT_ALL_ROWS = "not all rows were restored"
_IN_THE_REPORT = "the report beside the backup, encrypted to its recipients, holds every difference"


def proof_of(evidence: Evidence, settings: VerifySettings, fetch_seconds: float) -> Proof:
    """Judge a restore as the plan's settings ask.

    Args:
        fetch_seconds: What a person would wait for before the restore could begin.
    """
    seconds = fetch_seconds + evidence.restore_seconds
    findings = judged(list(_findings(evidence, settings, seconds)), settings.ignore)
    verdict = verdict_of(findings.counting)
    reason, hint = _reason(verdict, findings.counting)
    what_was_late, remedy = _overdue(evidence)
    if evidence.overdue_seconds or (what_was_late and verdict is Verdict.VERIFIED):
        verdict, reason, hint = Verdict.UNVERIFIABLE, what_was_late, remedy
    return Proof(
        verdict,
        reason,
        hint,
        tier=evidence.tier,
        facts=evidence.facts,
        comparison=evidence.comparison,
        outcome=evidence.outcome,
        findings=findings.counting,
        accepted=findings.set_aside,
        checks=checks_of_all_rules(evidence.comparison.checks, _checks(evidence, settings)),
        answers=[
            Answer(asked.name, asked.expect, answer_of(outcome), judge(asked, outcome) is None)
            for asked, outcome in evidence.answers
        ],
        notes=[*_notes(evidence), *findings.warnings],
        restored_into=evidence.restored_into,
        restore_seconds=seconds,
    )


def _overdue(evidence: Evidence) -> tuple[str, str]:
    """Return (what was cancelled, what to do), of which nothing can be said; empty texts for nothing."""
    if evidence.overdue_seconds:
        return (
            f"a statement was cancelled after {evidence.overdue_seconds[0]:.0f} s, the plan's limit",
            "let verify.statement_limit_seconds be longer, or find out what took so long",
        )
    if any(outcome.is_overdue for _, outcome in evidence.answers):
        return "a question of the plan was not answered in time", "let its timeout_seconds be longer"
    return "", ""


def _findings(evidence: Evidence, settings: VerifySettings, seconds: float) -> Iterator[Finding]:
    """Yield all findings; after a fall back to another locale none of them proves anything."""
    found = list(_told(evidence, settings, seconds))
    yield from found
    severity: Severity = "error" if any(one.severity == "error" for one in found) else "warning"
    for message in evidence.prepared.unverifiable_collations:
        dbname = quoted(evidence.facts.dbname)
        yield Finding("COLLATION_UNVERIFIABLE", severity, dbname, message, "database")


def _told(evidence: Evidence, settings: VerifySettings, seconds: float) -> Iterator[Finding]:
    told = classify(evidence.outcome.errors, evidence.outcome.count)
    excused = {(finding.rule, finding.object) for finding in told if finding.severity == "warning"}
    yield from (one for one in evidence.comparison.findings if (one.rule, one.object) not in excused)
    yield from told
    for role in evidence.lacking_roles:
        message = "it owns something or may do something, but the backup's globals.sql does not create it"
        yield Finding("ROLE_ABSENT", "error", quoted(role), message, "role")
    for broken in evidence.constraints.violated if evidence.constraints else ():
        name = f"{quoted(broken.name)} on {quoted(broken.schema, broken.table)}"
        more = " or more" if broken.count == COUNTED_VIOLATIONS else ""
        message = f"rows that break this {broken.kind}: {broken.count:,}{more}"
        yield Finding("CONSTRAINT_VIOLATED", "error", name, message, "constraint")
    for index in evidence.indexes.corrupt if evidence.indexes else ():
        message = f"the index does not fit its table {quoted(index.schema, index.table)}"
        yield Finding("INDEX_CORRUPT", "error", quoted(index.schema, index.name), message, "index")
    for asked, outcome in evidence.answers:
        if not outcome.is_overdue and (finding := judge(asked, outcome)):
            yield finding
    dbname = quoted(evidence.facts.dbname)
    if settings.rto_minutes and seconds > settings.rto_minutes * 60:
        message = f"restoring took {seconds / 60:.1f} minutes; the plan allows {settings.rto_minutes:g}"
        yield Finding("RTO_EXCEEDED", "warning", dbname, message, "database")


def _checks(evidence: Evidence, settings: VerifySettings) -> dict[Rule, Check]:
    """Tell of the rules that no comparison looks at whether they were looked at."""
    facts = evidence.facts
    definitions = max(1, len(facts.objects or facts.tables))
    answered = [outcome for _, outcome in evidence.answers if not outcome.is_overdue]
    checks: dict[Rule, Check] = {
        "RESTORE_ERROR": Check(definitions),
        "EXTENSION_ABSENT": Check(len(facts.extensions), "no extensions"),
        "COLLATION_UNVERIFIABLE": Check(1),
        "ROLE_ABSENT": Check(len(facts.roles), "no roles"),
        "CONSTRAINT_VIOLATED": Check(None, _NOT_ALL_ROWS),
        "INDEX_CORRUPT": Check(None, _NOT_ALL_ROWS),
        "RTO_EXCEEDED": Check(1) if settings.rto_minutes else Check(None, "the plan names no limit"),
        "ASSERTION_FAILED": Check(len(answered), "the plan asks nothing"),
    }
    if settings.assertions and not answered:
        why = "none was answered in time" if evidence.answers else _NOT_ALL_ROWS
        checks["ASSERTION_FAILED"] = Check(None, why)
    if evidence.constraints:
        checks["CONSTRAINT_VIOLATED"] = _check(evidence.constraints, "no foreign keys and no checks")
    if evidence.indexes:
        checks["INDEX_CORRUPT"] = _check(evidence.indexes, "no indexes")
    return checks


def _check(looked_at: ConstraintsChecked | IndexesChecked, none: str) -> Check:
    """Tell apart that there was nothing to look at and that nothing could be looked at."""
    could_not = not looked_at.checked and bool(looked_at.notes)
    return Check(None, "none could be, as the notes tell") if could_not else Check(looked_at.checked, none)


def _notes(evidence: Evidence) -> Iterator[str]:
    yield from evidence.prepared.notes
    yield from evidence.comparison.notes
    for checked in (evidence.constraints, evidence.indexes):
        yield from checked.notes if checked else ()


def _reason(verdict: Verdict, findings: list[Finding]) -> tuple[str, str]:
    """Return (why it is not verified, what to do), without a name from inside the database."""
    errors = [finding for finding in findings if finding.severity == "error"]
    if verdict is Verdict.VERIFIED:
        return "", ""
    counts = Counter(finding.rule for finding in errors)
    told = ", ".join(f"{rule} {count:,}" for rule, count in counts.most_common())
    lacking = next((finding for finding in errors if finding.rule in HOST_LACKS), None)
    count = f"{len(errors):,} difference{'s' if len(errors) > 1 else ''}"
    return f"{count}: {told}", lacking.remedy if lacking else _IN_THE_REPORT
