"""A backup's steps on its way back: fetch, open, restore into the scratch server or a target, look."""

import hashlib
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from blocks import archive_restore, compression, gpg
from blocks.archive_restore import ArchiveHead, RestoreOutcome
from blocks.gpg_program import UnlockedKey
from blocks.pgcommands import Connection
from blocks.pgtools import ClientPrograms
from blocks.postgres import Session
from blocks.spool import SpoolDirectory
from flows.catalogue import Copy
from flows.core import facts as core_facts
from flows.core.comparison import RestoredState
from flows.core.contents import split_by_power
from flows.core.errors import ChecksumMismatch
from flows.core.facts import Facts
from flows.core.manifest import Archive, Manifest
from flows.core.naming import object_key
from flows.gathering import restored_rows, restored_sequences
from flows.progress import Progress
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
    for chunk in progress.counted(
        copy.store.get(object_key(manifest.plan, manifest.backup_id, archive.name))
    ):
        digest.update(chunk)
        target.write(chunk)
    target.commit()
    if target.size_bytes != archive.size_bytes or digest.hexdigest() != archive.sha256:
        raise ChecksumMismatch(
            f"{archive.name} of backup {manifest.backup_id} on {copy.store.name} is damaged:"
            " its checksum is not the manifest's",
            "verify another destination or an older backup, and find out what changed this one",
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


@dataclass(frozen=True)
class Target:
    """A database that a dump is restored into, and with whose power each part is.

    Args:
        owner: A superuser, or for a person's own target whoever they are.
        plain: Whoever loads rows and builds post-data; the scratch server's has no power over the host.
        trusted: Whether `plain` may also do what needs a superuser.
    """

    programs: ClientPrograms
    owner: Connection
    plain: Connection
    trusted: bool
    jobs: int = 2


@step(name="restore-definitions")
def restore_definitions(
    path: Path, key: UnlockedKey, target: Target, head_path: Path
) -> tuple[ArchiveHead, RestoreOutcome]:
    """Restore pre-data: types, tables, functions; no row is read and nobody's code runs."""
    with closing(plain_chunks(path, key)) as plain:
        head = archive_restore.read_head(target.programs.pg_restore, target.owner, plain, head_path)
    outcome = archive_restore.restore_section(target.programs.pg_restore, target.owner, "pre-data", head)
    return head, outcome


@step(name="restore-rows")
def restore_rows(path: Path, key: UnlockedKey, target: Target, progress: Progress) -> RestoreOutcome:
    """Stream the rows out of the archive into the database; they touch no disk on the way."""
    plain = plain_chunks(path, key, progress)
    return archive_restore.restore_rows(target.programs.pg_restore, target.plain, plain)


@step(name="restore-rest")
def restore_rest(head: ArchiveHead, target: Target) -> RestoreOutcome:
    """Build post-data: indexes, constraints, triggers; what needs a superuser comes last."""
    pg_restore = target.programs.pg_restore
    plain, superuser = split_by_power(head.entries)
    if target.trusted:
        return archive_restore.restore_section(
            pg_restore, target.owner, "post-data", head, entries=[*plain, *superuser], jobs=target.jobs
        )
    outcome = archive_restore.restore_section(
        pg_restore, target.plain, "post-data", head, entries=plain, jobs=target.jobs
    )
    if superuser:
        outcome.add(
            archive_restore.restore_section(
                pg_restore, target.owner, "post-data", head, entries=superuser, no_owner=True
            )
        )
    return outcome


@step(name="look")
def look(session: Session) -> RestoredState:
    """Read from the restored database what the facts tell of the source, except settings."""
    return RestoredState(tables=restored_rows(session), sequences=restored_sequences(session))


def plain_chunks(path: Path, key: UnlockedKey, progress: Progress | None = None) -> Generator[bytes]:
    """Yield an archive's plain bytes; they count only once the end was reached without an error."""
    stored = _file_chunks(path)
    counted = progress.counted(stored) if progress else stored
    with closing(gpg.decrypt(counted, key)) as decrypted:
        yield from compression.decompressed(decrypted)


def _file_chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            yield chunk
