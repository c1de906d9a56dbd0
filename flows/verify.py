"""The story of a verification: a backup is restored and held against the facts of its own snapshot."""

import secrets
import time
from datetime import UTC, datetime
from functools import partial
from typing import Literal

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from blocks.errors import (
    DatabaseError,
    DecryptionFailed,
    KeyUnusable,
    ObjectMissing,
    ProgramError,
    ScratchError,
    SpoolFull,
    StreamDamaged,
    WorldError,
)
from blocks.spool import SpoolDirectory, sweep
from flows import hooks, reports
from flows.beside import logger
from flows.catalogue import Copy, find
from flows.catalogues import read_destination
from flows.core.errors import BackupError, ChecksumMismatch, PlanError, Unverifiable, VerificationFailed
from flows.core.facts import Facts
from flows.core.manifest import Archive, Manifest
from flows.core.sampling import Portion, sample, with_partitions
from flows.core.verification import Tier, Verdict
from flows.judging import proof_of
from flows.looking import look_again
from flows.plan import BackupPlan
from flows.plan_source import load_plan, load_secret_key
from flows.progress import Progress, shown
from flows.proof import Proof
from flows.proving import prove
from flows.recording import record
from flows.restoring import fetched
from flows.scrub_records import write_look
from flows.scrubbing import UnexpectedError, scrubbed
from flows.tasks.options import threads

# What proves a backup broken, as against what only prevents a look at it.
BROKEN = (BackupError, DecryptionFailed, StreamDamaged, ObjectMissing)
PREVENTED = (
    ScratchError,
    DatabaseError,
    KeyUnusable,
    ProgramError,
    PlanError,
    SpoolFull,
    Unverifiable,
)
LEAST_TRIED = (None, Verdict.UNVERIFIABLE, Verdict.FAILED, Verdict.VERIFIED)


@flow(
    name="verify",
    task_runner=threads(8),
    on_failure=[hooks.alert],
    on_crashed=[hooks.alert],
)
@scrubbed
def verify(
    plan: str, backup: str = "latest", destination: str = "", tier: Tier | Literal["plan"] = "plan"
) -> State[None]:
    """Restore a backup into a scratch server and compare it with the facts of its own snapshot.

    Args:
        plan: Name of the backup plan.
        backup: A backup's id, "latest", or "oldest-unverified".
        destination: Name of the store to read from; if empty, one whose copy is not verified yet.
        tier: How much is restored: all (full), only definitions (schema), the rows of a sample only, or what
            the plan says.
    """
    loaded = load_plan(plan)
    copy = _chosen(loaded, backup, destination)
    began = time.monotonic()
    proof = _proof(loaded, copy, loaded.verify.tier if tier == "plan" else tier)
    proof.seconds = time.monotonic() - began
    at = datetime.now(UTC)
    bad_news = _bad_news(copy, proof)
    unwritten: WorldError | None = None
    try:
        record(loaded, copy, proof, at, secrets.token_hex(3))
    except WorldError as error:  # told last: a person hears the verdict all the same
        unwritten = error
    reports.publish_verification(loaded, copy, proof, at)
    reports.publish_catalogue(loaded)
    if bad_news and unwritten:
        bad_news.message += f"; not all of that could be written down: {unwritten.message}"
    if failure := bad_news or unwritten:
        raise failure
    return Completed(message=copy.backup_id)


def _chosen(plan: BackupPlan, wanted: str, destination: str) -> Copy:
    """Return the copy to verify: without a wish one that is whole, and of these the least tried."""
    backup = find(read_destination(plan, destination), wanted)
    return min(backup.copies, key=lambda copy: (bool(copy.problem), LEAST_TRIED.index(copy.verdict)))


def _bad_news(copy: Copy, proof: Proof) -> VerificationFailed | Unverifiable | None:
    if proof.verdict is Verdict.FAILED:
        return VerificationFailed(
            f"backup {copy.backup_id} on {copy.store.name} failed: {proof.reason}", proof.hint
        )
    if proof.verdict is Verdict.UNVERIFIABLE:
        return Unverifiable(f"backup {copy.backup_id} could not be verified here: {proof.reason}", proof.hint)
    return None


def _proof(plan: BackupPlan, copy: Copy, tier: Tier) -> Proof:
    """Tell a broken backup from one that could not be looked at; anything else is the run's own failure."""
    try:
        return _restored_and_judged(plan, copy, tier)
    except UnexpectedError:
        raise
    except PREVENTED as error:
        return Proof(Verdict.UNVERIFIABLE, error.message, error.hint, type(error).__name__, tier)
    except BROKEN as error:
        return Proof(Verdict.FAILED, error.message, error.hint, type(error).__name__, tier)


def _restored_and_judged(plan: BackupPlan, copy: Copy, tier: Tier) -> Proof:
    if copy.problem:
        raise (Unverifiable if copy.unknown else ChecksumMismatch)(copy.problem, copy.remedy)
    sweep(plan.spool_root)
    with (
        load_secret_key(plan.verify.secret_key).unlock() as key,
        SpoolDirectory(plan.spool_root, f"verify-{copy.backup_id}") as spool,
    ):
        began = time.monotonic()
        backup = fetched(copy, key, spool, partial(_write_down, copy))
        fetch_seconds = time.monotonic() - began
        evidence = prove(backup, key, spool, plan.verify, _portion(plan, backup.facts, tier))
    return proof_of(evidence, plan.verify, fetch_seconds)


def _write_down(copy: Copy, manifest: Manifest, archive: Archive) -> None:
    """Write damage down, once that is certain, so that a sync heals it and a scrub looks at it again."""
    failure: WorldError | BackupError | None
    try:
        with shown(Progress("fetch", archive.size_bytes)) as progress:
            look = look_again(copy, manifest, archive, progress, readings=1)
        failure = write_look(copy.store, manifest.plan, "verify", look) if look and not look.intact else None
    except (WorldError, BackupError) as error:  # which must not stand for the damage itself
        failure = error
    if failure:
        logger.warning("damage of %s is not written down: %s", archive.name, failure.message)


def _portion(plan: BackupPlan, facts: Facts, tier: Tier) -> Portion:
    """Return how much to restore.

    Raises:
        Unverifiable: The facts do not tell of any rows that it would restore.
    """
    if tier != "schema" and facts.proof == "none":
        raise Unverifiable(
            "no table was counted for this backup: it was not made in the plan's off-hours",
            "pgsalvo verify --tier schema proves its definitions; back up within off_hours for the rows",
        )
    if tier != "sample":
        return Portion(tier)
    settings = plan.verify
    tables = sample(facts.tables, settings.sample_tables, settings.sample_max_bytes, facts.backup_id)
    if facts.tables and not tables:
        raise Unverifiable(
            "the sample holds no table",
            "let verify.sample_tables name tables as schema.table, or sample_max_bytes be larger",
        )
    return Portion(tier, with_partitions(tables, facts.objects or ()))
