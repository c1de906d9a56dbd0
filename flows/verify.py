"""The story of a verification: a backup is restored and held against the facts of its own snapshot."""

import secrets
import time
from datetime import UTC, datetime
from functools import partial

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from blocks import pgtools
from blocks.archive_restore import RestoreOutcome
from blocks.errors import (
    DecryptionFailed,
    KeyUnusable,
    ObjectMissing,
    ProgramError,
    ScratchError,
    ScratchLacks,
    SpoolFull,
    StreamDamaged,
)
from blocks.gpg_program import UnlockedKey
from blocks.pgcommands import Connection
from blocks.pgtools import parse_version
from blocks.scratch import ScratchServer
from blocks.scratch_directory import scratch_root
from blocks.spool import SpoolDirectory, sweep
from flows import hooks, reports
from flows.catalogue import Copy, find
from flows.core.comparison import Comparison, compare
from flows.core.errors import BackupError, PlanError, Unverifiable, VerificationFailed
from flows.core.facts import Facts
from flows.core.verification import Verdict
from flows.plan import BackupPlan
from flows.plan_source import load_plan, load_secret_key
from flows.proof import Proof
from flows.recording import record
from flows.restoring import Fetched, fetched, restored
from flows.scratch_needs import open_up, prepare_scratch, refuse_too_little_disk
from flows.scrubbing import scrubbed
from flows.tasks import inbound
from flows.tasks.inbound import Target
from flows.tasks.options import threads

# What proves a backup broken, as against what only prevents a look at it.
BROKEN = (BackupError, DecryptionFailed, StreamDamaged, ObjectMissing)
PREVENTED = (ScratchError, KeyUnusable, ProgramError, PlanError, SpoolFull, Unverifiable)


DISK_FULL = "No space left on device"


@flow(
    name="verify",
    task_runner=threads(8),
    on_failure=[hooks.alert],
    on_crashed=[hooks.alert],
)
@scrubbed
def verify(plan: str, backup: str = "latest", destination: str = "") -> State[None]:
    """Restore a backup into a scratch server and compare it with the facts of its own snapshot.

    Args:
        plan: Name of the backup plan.
        backup: A backup's id, "latest", or "oldest-unverified".
        destination: Name of the store to read from; if empty, one whose copy is not verified yet.
    """
    loaded = load_plan(plan)
    copy = _chosen(loaded, backup, destination)
    began = time.monotonic()
    proof = _proof(loaded, copy)
    proof.seconds = time.monotonic() - began
    record(loaded, copy, proof, datetime.now(UTC), secrets.token_hex(3))
    reports.publish_verification(loaded, copy, proof)
    if proof.verdict is Verdict.FAILED:
        raise VerificationFailed(
            f"backup {copy.backup_id} on {copy.store.name} failed: {proof.reason}", proof.hint
        )
    if proof.verdict is Verdict.UNVERIFIABLE:
        raise Unverifiable(f"backup {copy.backup_id} could not be verified here: {proof.reason}", proof.hint)
    return Completed(message=copy.backup_id)


def _chosen(plan: BackupPlan, wanted: str, destination: str) -> Copy:
    """Return the copy to verify; without a wish, a destination's whose copy is not verified yet."""
    backup = find(reports.read_destination(plan, destination), wanted)
    unverified = [copy for copy in backup.copies if copy.verdict is not Verdict.VERIFIED]
    return (unverified or backup.copies)[0]


def _proof(plan: BackupPlan, copy: Copy) -> Proof:
    """Tell a broken backup from one that could not be looked at; anything else is the run's own failure."""
    try:
        return _restored_and_compared(plan, copy)
    except PREVENTED as error:
        return Proof(Verdict.UNVERIFIABLE, error.message, error.hint, type(error).__name__)
    except BROKEN as error:
        return Proof(Verdict.FAILED, error.message, error.hint, type(error).__name__)


def _restored_and_compared(plan: BackupPlan, copy: Copy) -> Proof:
    if copy.problem:
        raise (Unverifiable if copy.unknown else BackupError)(copy.problem, copy.remedy)
    sweep(plan.spool_root)
    with (
        load_secret_key(plan.verify.secret_key).unlock() as key,
        SpoolDirectory(plan.spool_root, f"verify-{copy.backup_id}") as spool,
    ):
        return _compared(fetched(copy, key, spool), key, spool)


def _compared(backup: Fetched, key: UnlockedKey, spool: SpoolDirectory) -> Proof:
    facts = backup.facts
    inbound.open_globals(backup.path("globals"), key)
    server = pgtools.find_server(facts.server_major)
    client, _ = pgtools.find_client(parse_version(backup.manifest.versions.pg_dump)[1])
    refuse_too_little_disk(backup.manifest, scratch_root(spool.path.parent))
    with ScratchServer(server, spool.path.parent) as scratch:
        prepared = prepare_scratch(scratch, facts)
        target = Target(
            client,
            owner=Connection(scratch.conninfo(prepared.dbname, scratch.superuser), client.environment),
            plain=Connection(scratch.conninfo(prepared.dbname, prepared.restorer), client.environment),
            trusted=False,
            open_up=partial(open_up, scratch, prepared),
        )
        outcome = restored(backup, key, target)
        if any(DISK_FULL in line for line in outcome.errors):
            raise ScratchLacks("the scratch server's disk became full", "free some space for it")
        with scratch.connect(prepared.dbname) as session:
            comparison = compare(facts, inbound.look(session, facts))
    return _judged(facts, comparison, outcome, [*prepared.notes, *prepared.unverifiable_collations])


def _judged(facts: Facts, comparison: Comparison, outcome: RestoreOutcome, notes: list[str]) -> Proof:
    proof = Proof(comparison.verdict, "", "", "", facts, comparison, outcome, notes)
    reasons = []
    if outcome.count:
        proof.verdict = Verdict.FAILED
        reasons.append(f"pg_restore reported {outcome.count} errors")
    errors = [finding for finding in comparison.findings if finding.severity == "error"]
    if errors:
        reasons.append(f"{len(errors)} differences, the first is {errors[0].rule}")
    proof.reason = "; ".join(reasons)
    if proof.reason:
        proof.hint = "the report beside the backup, encrypted to its recipients, holds every difference"
    return proof
