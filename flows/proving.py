"""A backup is restored into a scratch server and looked at from all sides, before `judging` judges."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

from blocks import pgtools, timescale
from blocks.amcheck import IndexesChecked
from blocks.archive_restore import RestoreOutcome
from blocks.assertions import AssertionOutcome
from blocks.errors import ScratchError
from blocks.gpg_program import UnlockedKey
from blocks.pgtools import parse_version
from blocks.postgres import Session
from blocks.scratch_directory import scratch_root
from blocks.scratch_preload import refusing
from blocks.scratch_roles import Scratch, without_event_triggers
from blocks.soundness import ConstraintsChecked
from blocks.spool import SpoolDirectory
from blocks.statement_limit import statement_limit
from flows.core.assertions import Assertion
from flows.core.comparison import Comparison, compare
from flows.core.facts import Facts
from flows.core.restore_errors import scratch_trouble
from flows.core.sampling import Portion
from flows.core.verification import FULL, Tier
from flows.restoring import Fetched, restored
from flows.scratch_needs import PreparedScratch, open_up, prepare_scratch, refuse_too_little_disk
from flows.scratch_servers import scratch_for
from flows.tasks import inbound
from flows.tasks.inbound import Target
from flows.verify_settings import VerifySettings


@dataclass(frozen=True)
class Evidence:
    """What was seen of a restored backup.

    Args:
        indexes: None if no rows were restored.
        constraints: None if not all were; then nothing is asked either.
        lacking_roles: Those that the script of roles does not create.
        restore_seconds: From reading the archive to the last index.
        overdue_seconds: How long each statement had run that was cancelled.
    """

    facts: Facts
    tier: Tier
    comparison: Comparison
    outcome: RestoreOutcome
    prepared: PreparedScratch
    indexes: IndexesChecked | None = None
    constraints: ConstraintsChecked | None = None
    answers: tuple[tuple[Assertion, AssertionOutcome], ...] = ()
    lacking_roles: tuple[str, ...] = ()
    restored_into: str = ""
    restore_seconds: float = 0.0
    overdue_seconds: tuple[float, ...] = ()


def prove(
    backup: Fetched, key: UnlockedKey, spool: SpoolDirectory, settings: VerifySettings, portion: Portion
) -> Evidence:
    """Restore a fetched backup into the plan's scratch server, and gather what can be seen of it.

    Raises:
        ScratchLacks: The host or the server lacks what the dump needs.
        ScratchError: The scratch server failed.
    """
    facts, root = backup.facts, spool.path.parent
    lacking = inbound.open_globals(backup.path("globals"), key, facts)
    if settings.scratch.kind != "server":
        refuse_too_little_disk(backup.manifest, scratch_root(root))
    with scratch_for(
        settings.scratch,
        system_identifier=facts.system_identifier,
        dbname=facts.dbname,
        major=facts.server_major,
        root=root,
        preload=refusing(extension.name for extension in facts.extensions),
    ) as scratch:
        prepared = prepare_scratch(scratch, facts)
        watcher = partial(scratch.connect, scratch.maintenance_database)
        with (
            statement_limit(watcher, prepared.restorer, settings.statement_limit_seconds) as limit,
            _target(scratch, prepared, backup) as target,
        ):
            began = time.monotonic()
            outcome = restored(backup, key, target, portion)
            restore_seconds = time.monotonic() - began
            if trouble := scratch_trouble(outcome.errors):
                raise ScratchError(*trouble)
            evidence = _looked_at(scratch, prepared, facts, outcome, settings, portion)
        network = "without a network" if scratch.is_off_network else "with a network"
        where = f"PostgreSQL {scratch.major} {network} ({settings.scratch.kind})"
    return replace(
        evidence,
        lacking_roles=tuple(lacking),
        restored_into=where,
        restore_seconds=restore_seconds,
        overdue_seconds=tuple(limit.exceeded),
    )


@contextmanager
def _target(scratch: Scratch, prepared: PreparedScratch, backup: Fetched) -> Iterator[Target]:
    """Yield the scratch database as a restore reaches it."""
    client, _ = pgtools.find_client(parse_version(backup.manifest.versions.pg_dump)[1])
    with (
        scratch.client(prepared.dbname) as owner,
        scratch.client(prepared.dbname, prepared.restorer) as plain,
    ):
        yield Target(
            client,
            owner.with_environment(client.environment),
            plain.with_environment(client.environment),
            trusted=False,
            open_up=partial(open_up, scratch, prepared),
            before_rows=partial(_as_superuser, scratch, prepared, timescale.before_rows),
            after_rest=partial(_as_superuser, scratch, prepared, timescale.after_restore),
        )


def _looked_at(
    scratch: Scratch,
    prepared: PreparedScratch,
    facts: Facts,
    outcome: RestoreOutcome,
    settings: VerifySettings,
    portion: Portion,
) -> Evidence:
    """Read what was restored; whatever may run the dump's own code, rows too, is read without power."""
    limit_seconds = settings.statement_limit_seconds
    with (
        scratch.connect(prepared.dbname) as superuser,
        scratch.connect_as_restorer(prepared.dbname) as plain,
    ):
        state = inbound.look(superuser, plain, facts, portion)
        comparison = compare(
            facts,
            state,
            tier=portion.tier,
            sampled=portion.tables,
            ignored_roles=(scratch.superuser, scratch.restorer, scratch.insiders),
        )
        evidence = Evidence(facts, portion.tier, comparison, outcome, prepared)
        if portion.tier == "schema":
            return evidence
        indexes = inbound.check_indexes(superuser, plain, prepared.restorer, limit_seconds)
        if portion.tier != FULL:
            return replace(evidence, indexes=indexes)
        return replace(
            evidence,
            indexes=indexes,
            constraints=inbound.check_constraints(plain, limit_seconds),
            answers=tuple((one, inbound.ask(plain, one)) for one in settings.assertions),
        )


def _as_superuser(scratch: Scratch, prepared: PreparedScratch, call: Callable[[Session], None]) -> None:
    with scratch.connect(prepared.dbname) as session, without_event_triggers(session):
        call(session)
