"""What an auditor reads of a verification: what was proved, by what, and what was not.

Names and counts stand here, and answers to the plan's questions; rows' values never do.
"""

import socket
from collections.abc import Iterator, Sequence
from datetime import datetime
from importlib.metadata import version
from typing import TYPE_CHECKING

from flows.catalogue import Copy
from flows.core.findings import Finding, quoted
from flows.core.verification import FULL, Tier, Verdict
from flows.markdown import count, escaped, moment, table
from flows.proof import Proof

if TYPE_CHECKING:
    from flows.core.comparison import Comparison

SHOWN = 200
VERDICT_SIGNS = {
    Verdict.VERIFIED: "✅ verified",
    Verdict.FAILED: "❌ failed",
    Verdict.UNVERIFIABLE: "⚠️ unverifiable",
}
TIERS: dict[Tier, str] = {
    FULL: "**full**: everything was restored",
    "schema": "**schema**: only definitions were restored, so this does not count for retention",
    "sample": "**sample**: the rows of some tables only were restored, so this does not count for retention",
}
PROOFS = {
    "none": "the snapshot's rows were not counted",
    "rows": "rows were counted in the dump's own snapshot",
    "content": "rows were counted in the dump's own snapshot, and a fingerprint taken of their content",
}


def summary(copy: Copy, proof: Proof, at: datetime) -> list[str]:
    """Return what a person has to know, in Markdown: the verdict, its grounds, and what is unproved."""
    return [
        f"# {VERDICT_SIGNS[proof.verdict]}: {copy.backup_id} on {copy.store.name}",
        "",
        *([f"**{escaped(proof.reason)}**", ""] if proof.reason else []),
        *([f"What to do: {escaped(proof.hint)}", ""] if proof.hint else []),
        *table(("", ""), _grounds(copy, proof, at)),
        *_headed("Findings", findings(proof.findings)),
        *_accepted(proof),
        *_answers(proof),
        *_unchecked(proof),
        *_headed("Notes", _notes(proof.notes)),
    ]


def report(copy: Copy, proof: Proof, at: datetime) -> list[str]:
    """Return the summary, and all that it rests on: every rule, kind of object, and table."""
    lines = summary(copy, proof, at)
    if proof.comparison is not None:
        lines += [*_rules(proof), *_kinds(proof.comparison), *_headed("Tables", rows(proof.comparison))]
    return lines


def findings(found: Sequence[Finding]) -> list[str]:
    """Return differences as a table."""
    header = ("rule", "severity", "object", "what", "what to do")
    lines = [
        (f"`{one.rule}`", one.severity, escaped(one.object), escaped(one.message), escaped(one.remedy))
        for one in found[:SHOWN]
    ]
    return table(header, lines) + _more(len(found), "findings")


def rows(comparison: "Comparison") -> list[str]:
    """Return the tables with their rows, expected and restored, as a table."""
    header = ("table", "rows expected", "rows restored", "status")
    lines = [
        (
            escaped(quoted(str(row.schema_name), str(row.table))),
            count(row.expected),
            count(row.restored),
            row.status,
        )
        for row in comparison.rows.head(SHOWN).itertuples()
    ]
    return table(header, lines) + _more(len(comparison.rows), "tables")


def _grounds(copy: Copy, proof: Proof, at: datetime) -> Iterator[tuple[str, str]]:
    yield "verified at", f"{moment(at)}, by pgsalvo {version('pgsalvo')} on {escaped(socket.gethostname())}"
    if copy.manifest is not None:
        manifest = copy.manifest
        label = f", {escaped(manifest.label)}" if manifest.label else ""
        made_by = escaped(manifest.versions.pgsalvo)
        yield "backup", f"of the plan {manifest.plan}{label}, made by pgsalvo {made_by}"
        server = escaped(manifest.versions.server)
        yield "database", f"PostgreSQL {server}, as it was at {moment(manifest.snapshot_at)}"
        yield "manifest", f"SHA-256 `{copy.manifest_sha256}`"
    if not proof.restored_into:
        yield "tier", f"**{proof.tier}** was asked for, but nothing was compared"
    else:
        yield "tier", TIERS[proof.tier]
        if proof.facts is not None and proof.tier != "schema":
            yield "proof", PROOFS[proof.facts.proof]
        yield "restored into", escaped(proof.restored_into)
        yield (
            "restored in",
            f"{proof.restore_seconds:.1f} s, fetching included; the whole took {proof.seconds:.1f} s",
        )
    if proof.comparison is not None:
        equal = proof.comparison
        yield "equal", f"**{equal.equal_rows:,} rows of {equal.equal_tables:,} tables**"
        if not equal.kinds.empty:
            total = int(equal.kinds["expected"].sum())
            yield "objects", f"{equal.equal_objects:,} of {total:,} are equal in definition, owner and rights"


def _accepted(proof: Proof) -> list[str]:
    lines = [
        (f"`{one.rule}`", escaped(one.object), escaped(one.message), escaped(ignored.reason))
        for one, ignored in proof.accepted[:SHOWN]
    ]
    shown = table(("rule", "object", "what", "reason"), lines) + _more(len(proof.accepted), "findings")
    return _headed("Accepted by the plan", shown)


def _answers(proof: Proof) -> list[str]:
    lines = [
        (escaped(one.name), escaped(one.expect), escaped(one.shown), "✅" if one.is_met else "❌")
        for one in proof.answers
    ]
    return _headed("The plan's own questions", table(("question", "expected", "answer", ""), lines))


def _notes(notes: Sequence[str]) -> list[str]:
    lines = [f"- {escaped(note)}" for note in notes[:SHOWN]]
    return [*lines, "", *_more(len(notes), "notes")] if lines else []


def _unchecked(proof: Proof) -> list[str]:
    """Return the rules that could not be looked at, for none of them counts as passed."""
    lines = [(f"`{rule}`", escaped(check.why)) for rule, check in proof.checks.items() if check.count is None]
    return _headed("Not checked", table(("rule", "why"), lines))


def _rules(proof: Proof) -> list[str]:
    found = proof.counts
    lines = [(f"`{rule}`", escaped(str(check)), found.get(rule, 0)) for rule, check in proof.checks.items()]
    return _headed("Rules", table(("rule", "looked at", "broken"), lines))


def _kinds(comparison: "Comparison") -> list[str]:
    counts = comparison.kinds
    lines = [
        (kind, *(f"{number:,}" for number in line))
        for kind, line in zip(counts.index, counts.to_numpy(), strict=True)
    ]
    return _headed("Objects", table(("kind", *counts.columns), lines))


def _headed(title: str, lines: list[str]) -> list[str]:
    return [f"## {title}", "", *lines] if lines else []


def _more(total: int, what: str) -> list[str]:
    if total <= SHOWN:
        return []
    return [
        f"… and {total - SHOWN:,} more {what}; the encrypted report beside the backup holds them all.",
        "",
    ]
