"""A verdict is kept beside the backup: numbers in the open, differences encrypted."""

import json
from datetime import datetime

from blocks import compression, gpg
from blocks.spool import Chain, SpoolDirectory
from flows.catalogue import Copy
from flows.core import naming
from flows.core.verification import VerificationRecord
from flows.plan import BackupPlan
from flows.proof import Proof


def record(plan: BackupPlan, copy: Copy, proof: Proof, at: datetime, tail: str) -> None:
    """Store the verdict of a verification, and its report encrypted to the plan's recipients.

    A copy whose manifest cannot be trusted gets no record: the catalogue shows it as failed by itself.
    """
    if copy.manifest is None:
        return
    verdict = VerificationRecord(
        backup_id=copy.backup_id,
        plan=plan.name,
        verdict=proof.verdict,
        tier=proof.tier,
        destination=copy.store.name,
        verified_at=at,
        manifest_sha256=copy.manifest_sha256,
        tables=proof.comparison.equal_tables if proof.comparison else 0,
        rows=proof.comparison.equal_rows if proof.comparison else 0,
        objects=proof.comparison.equal_objects if proof.comparison else 0,
        findings=proof.counts,
        reason=proof.error or proof.reason,
        seconds=round(proof.seconds, 3),
    )
    key = naming.verification_key(plan.name, copy.backup_id, at, tail, proof.verdict)
    copy.store.create(key, verdict.encode())  # first, for the verdict counts also if the report is refused
    _store_report(plan, copy, proof, naming.verification_report_key(plan.name, copy.backup_id, at, tail))


def _store_report(plan: BackupPlan, copy: Copy, proof: Proof, key: str) -> None:
    body = json.dumps(_report(copy, proof), ensure_ascii=False).encode()
    with (
        SpoolDirectory(plan.spool_root, f"report-{copy.backup_id}") as spool,
        plan.recipients.prepare() as recipients,
    ):
        file = spool.file("report")
        gpg.encrypt(compression.compressed([body]), recipients, file, Chain())
        copy.store.put(key, file.read(), expected_bytes=file.size_bytes)


def _report(copy: Copy, proof: Proof) -> dict[str, object]:
    comparison = proof.comparison
    return {
        "backup_id": copy.backup_id,
        "destination": copy.store.name,
        "verdict": proof.verdict,
        "reason": proof.reason,
        "tier": proof.tier,
        "proof": proof.facts.proof if proof.facts else None,
        "restored_into": proof.restored_into,
        "restore_seconds": round(proof.restore_seconds, 3),
        "notes": proof.notes,
        "findings": [{**vars(finding), "remedy": finding.remedy} for finding in proof.findings],
        "accepted": [{**vars(finding), "reason": ignored.reason} for finding, ignored in proof.accepted],
        "rules": {rule: str(check) for rule, check in proof.checks.items()},
        "answers": [vars(answer) for answer in proof.answers],
        "kinds": json.loads(comparison.kinds.to_json(orient="index")) if comparison else {},
        "tables": json.loads(comparison.rows.to_json(orient="records")) if comparison else [],
        "restore_errors": proof.outcome.errors,
    }
