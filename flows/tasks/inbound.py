"""A backup's steps on its way back: fetch, open, restore into the scratch server or a target, look."""

import hashlib
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from blocks import archive_restore, compression, gpg
from blocks.amcheck import IndexesChecked, corrupt_indexes, install_amcheck
from blocks.archive_restore import ArchiveHead, RestoreOutcome
from blocks.asking import analyse
from blocks.assertions import AssertionOutcome, run_assertion
from blocks.gpg_program import UnlockedKey
from blocks.pgcommands import Connection
from blocks.pgtools import ClientPrograms
from blocks.postgres import Session
from blocks.soundness import ConstraintsChecked, violated_constraints
from blocks.spool import SpoolDirectory
from blocks.stores.pace import paced
from flows.catalogue import Copy
from flows.core import facts as core_facts
from flows.core.assertions import Assertion
from flows.core.comparison import RestoredState
from flows.core.contents import (
    definition_runs,
    rights_on_large_objects,
    sampled_rows,
    split_by_power,
    without_filled_views,
    without_foreign_keys,
)
from flows.core.errors import ChecksumMismatch
from flows.core.facts import Facts
from flows.core.manifest import Archive, Manifest
from flows.core.naming import object_key
from flows.core.needed_roles import lacking_roles
from flows.core.sampling import EVERYTHING, Portion
from flows.core.verification import FULL
from flows.gathering import restored_large_objects, restored_objects, restored_rows, restored_sequences
from flows.progress import Progress, shown
from flows.tasks.options import step, transfer


@transfer(name="fetch", run_name="fetch-{archive.name}")
def fetch(
    copy: Copy, manifest: Manifest, archive: Archive, spool: SpoolDirectory, progress: Progress
) -> Path:
    """Copy an archive to local disk and check its checksum, before anything of it is decrypted.

    Raises:
        ChecksumMismatch: It is not what the manifest says.
    """
    (spool.path / archive.name).unlink(missing_ok=True)
    target = spool.file(archive.name)
    digest = hashlib.sha256()
    key = object_key(manifest.plan, manifest.backup_id, archive.name)
    for chunk in progress.counted(paced(copy.store, copy.store.get(key))):
        digest.update(chunk)
        target.write(chunk)
    target.commit()
    if target.size_bytes != archive.size_bytes or digest.hexdigest() != archive.sha256:
        raise ChecksumMismatch(
            f"{archive.name} of backup {manifest.backup_id} on {copy.store.name} is damaged:"
            " its checksum is not the manifest's",
            f"pgsalvo sync {manifest.plan} heals it from another destination; find out what changes bytes",
        )
    return target.path


@step(name="open-facts")
def open_facts(path: Path, key: UnlockedKey, manifest: Manifest) -> Facts:
    """Decrypt the facts and bind them to the manifest.

    Raises:
        IdentityMismatch: They are of another backup, or the dump beside them is.
    """
    facts = core_facts.decode(b"".join(plain_chunks(path, key)))
    core_facts.check_identity(facts, manifest)
    return facts


@step(name="open-globals")
def open_globals(path: Path, key: UnlockedKey, facts: Facts) -> list[str]:
    """Decrypt the script of roles to its end, which proves it whole; it is not run.

    Returns:
        The roles that the dump needs and the script does not create.
    """
    script = b"".join(plain_chunks(path, key)).decode(errors="replace")
    return lacking_roles(facts, script)


@dataclass(frozen=True)
class Target:
    """A database that a dump is restored into, and with whose power each part is.

    Args:
        owner: A superuser, or for a person's own target whoever they are.
        plain: Whoever does what runs others' code; the scratch server's has no power over the host.
        trusted: Whether `plain` may also do what needs a superuser.
        open_up: Lets `plain`, and whoever owns things, into all that is there by now.
        before_rows: What an extension asks for once it is there; `after_rest`: at the very end.
    """

    programs: ClientPrograms
    owner: Connection
    plain: Connection
    trusted: bool
    jobs: int = 2
    open_up: Callable[[], None] = lambda: None
    before_rows: Callable[[], None] = lambda: None
    after_rest: Callable[[], None] = lambda: None


@step(name="restore-definitions")
def restore_definitions(path: Path, key: UnlockedKey, target: Target, head: ArchiveHead) -> RestoreOutcome:
    """Restore pre-data: types, tables, functions; what runs others' code, without a superuser's power."""
    pg_restore = target.programs.pg_restore
    with closing(plain_chunks(path, key)) as plain:
        archive_restore.read_head(pg_restore, target.owner, plain, head)
    if target.trusted:
        return archive_restore.restore_section(pg_restore, target.owner, "pre-data", head)
    outcome = RestoreOutcome()
    entries = archive_restore.entries_of(pg_restore, target.plain, "pre-data", head)
    for run in definition_runs(entries, partial(archive_restore.script_of, pg_restore, target.plain, head)):
        if not run.as_superuser:
            target.open_up()
        connection = target.owner if run.as_superuser else target.plain
        outcome.add(
            archive_restore.restore_entries(
                pg_restore, connection, head, run.entries, no_owner=run.no_owner, no_tablespaces=True
            )
        )
    target.open_up()
    return outcome


@step(name="restore-rows")
def restore_rows(
    path: Path, key: UnlockedKey, head: ArchiveHead, target: Target, progress: Progress, portion: Portion
) -> RestoreOutcome:
    """Stream the rows out of the archive into the database; they touch no disk on the way."""
    is_sample = portion.tier == "sample"
    return archive_restore.restore_rows(
        target.programs.pg_restore,
        target.plain,
        plain_chunks(path, key, progress),
        entries=sampled_rows(_data_entries(head, target), portion.tables) if is_sample else None,
        no_privileges=not target.trusted,
    )


@step(name="restore-rest")
def restore_rest(head: ArchiveHead, target: Target, facts: Facts, portion: Portion) -> RestoreOutcome:
    """Build post-data: indexes, constraints, triggers; what needs a superuser comes last.

    What needs all rows is left out if they are not all there.
    """
    pg_restore = target.programs.pg_restore
    listed = list(archive_restore.entries_of(pg_restore, target.plain, "post-data", head))
    if portion.tier != FULL:
        listed = without_filled_views(listed)
    if portion.tier == "sample":
        keys = (item.name for item in facts.objects or () if item.is_foreign_key)
        listed = without_foreign_keys(listed, keys)
    plain, superuser = split_by_power(listed)
    if target.trusted:
        entries = [*plain, *superuser]
        return archive_restore.restore_entries(pg_restore, target.owner, head, entries, jobs=target.jobs)
    outcome = RestoreOutcome()
    if portion.tier == FULL and (rights := rights_on_large_objects(_data_entries(head, target))):
        outcome.add(archive_restore.restore_entries(pg_restore, target.owner, head, rights))
    outcome.add(
        archive_restore.restore_entries(
            pg_restore, target.plain, head, plain, jobs=target.jobs, no_tablespaces=True
        )
    )
    if superuser:
        outcome.add(archive_restore.restore_entries(pg_restore, target.owner, head, superuser, no_owner=True))
    return outcome


@step(name="look")
def look(superuser: Session, plain: Session, facts: Facts, portion: Portion = EVERYTHING) -> RestoredState:
    """Read from the restored database what the facts tell of the source, except settings.

    Args:
        plain: Of a role without power, for to read rows may run the dump's own code.
        portion: Of what was restored; rows are counted if there are any.
    """
    content = facts.proof == "content"
    has_rows = portion.tier != "schema" and facts.proof != "none"
    known = [(table.schema_name, table.table) for table in facts.tables]
    known += [(sequence.schema_name, sequence.sequence) for sequence in facts.sequences]
    return RestoredState(
        tables=restored_rows(plain, known, content=content) if has_rows else (),
        sequences=restored_sequences(superuser, known),
        objects=restored_objects(superuser),
        large_objects=restored_large_objects(superuser, content=content) if portion.tier == FULL else None,
        major=superuser.info.server_version // 10_000,
    )


@step(name="check-constraints")
def check_constraints(plain: Session, statement_seconds: float) -> ConstraintsChecked:
    """Look for rows that break a foreign key or a check which counts as valid."""
    analyse(plain, statement_seconds)
    with shown(Progress("check", 0, "constraints")) as progress:
        return violated_constraints(plain, progress.at, statement_seconds=statement_seconds)


@step(name="check-indexes")
def check_indexes(superuser: Session, plain: Session, role: str, statement_seconds: float) -> IndexesChecked:
    """Hold every index against its table, where the server has amcheck."""
    install_amcheck(superuser, role)
    with shown(Progress("amcheck", 0, "indexes")) as progress:
        return corrupt_indexes(plain, progress.at, statement_seconds=statement_seconds)


@step(name="ask")
def ask(plain: Session, assertion: Assertion) -> AssertionOutcome:
    """Ask one of the plan's own questions."""
    return run_assertion(plain, assertion.sql, assertion.timeout_seconds)


def plain_chunks(path: Path, key: UnlockedKey, progress: Progress | None = None) -> Generator[bytes]:
    """Yield an archive's plain bytes; they count only once the end was reached without an error."""
    stored = _file_chunks(path)
    counted = progress.counted(stored) if progress else stored
    with closing(gpg.decrypt(counted, key)) as decrypted:
        yield from compression.decompressed(decrypted)


def _data_entries(head: ArchiveHead, target: Target) -> tuple[str, ...]:
    return archive_restore.entries_of(target.programs.pg_restore, target.plain, "data", head)


def _file_chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            yield chunk
