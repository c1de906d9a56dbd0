"""A backup's steps on its way out. Dump, encrypt and upload run at the same time, linked by streams.

A link that fails ends the others through its `Chain`; an upload that fails costs its destination only.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from blocks import compression, gpg
from blocks.containers import container_error
from blocks.dump_errors import dump_error
from blocks.errors import UploadCutShort, WorldError
from blocks.gpg_program import PreparedRecipients
from blocks.process import Command, Process
from blocks.snapshot import Snapshot
from blocks.spool import Chain, Pipe, Sink
from blocks.spool_segments import SpoolReader
from blocks.stores import Store
from blocks.stores.pace import paced
from flows.core.errors import ChecksumMismatch, ImplausibleDump
from flows.core.facts import CatalogObject, Facts, Proof
from flows.core.manifest import Archive, Manifest
from flows.core.naming import BackupId, manifest_key, object_key
from flows.core.read_back import Checked, ReadBack
from flows.destinations import Destinations
from flows.gathering import definitions_of, facts_of, refuse_changes
from flows.progress import Progress
from flows.tasks.options import is_last_try, step, transfer
from flows.tasks.reading_back import MISMATCH_HINT, Passage, check_stored

DUMP_MAGIC = b"PGDMP"
IMPLAUSIBLE_HINT = "see whether these are PostgreSQL's own programs: pgsalvo doctor names their directory"


@dataclass(frozen=True)
class Dumped:
    """What a dump program wrote."""

    plain_bytes: int
    seconds: float


@dataclass(frozen=True)
class Encrypted:
    """What gpg made of a stream."""

    size_bytes: int
    sha256: str
    seconds: float


@step(name="dump", run_name="dump-{kind}")
def dump(
    kind: str, command: Command, pipe: Pipe, chain: Chain, progress: Progress, silence_seconds: float
) -> Dumped:
    """Run a dump program, compress what it writes and hand it on; commit only after it exited 0.

    Raises:
        ImplausibleDump: It exited 0 and wrote nothing, or not what pg_dump writes.
        ProgramFailed, ProgramSilent: It failed, was killed, or hung.
        DatabaseError: The server failed it; a transient one may pass with a new snapshot.
    """
    began = time.monotonic()
    with chain.link(), Process(command) as process:
        chain.add(process.stop)
        written = progress.counted(_until_success(process, silence_seconds))
        magic = DUMP_MAGIC if kind == "main" else b""
        for chunk in compression.compressed(_plausible(command.name, magic, written)):
            pipe.write(chunk)
        pipe.commit()
    return Dumped(progress.done, time.monotonic() - began)


@step(name="encrypt", run_name="encrypt-{name}")
def encrypt(
    name: str,  # noqa: ARG001 - names the task's run
    source: Iterator[bytes],
    recipients: PreparedRecipients,
    spool: Sink,
    chain: Chain,
) -> Encrypted:
    """Encrypt a stream into the spool, hashing on the way; commit only after gpg said that all is well."""
    began = time.monotonic()
    done = gpg.encrypt(source, recipients, spool, chain)
    return Encrypted(done.size_bytes, done.sha256, time.monotonic() - began)


@transfer(name="upload", run_name="upload-{name}-to-{store.name}")
def upload(
    name: str,  # noqa: ARG001 - names the task's run
    key: str,
    store: Store,
    source: SpoolReader,
    destinations: Destinations,
    expected_bytes: int,
    passage: Passage | None = None,
) -> float:
    """Store an archive while it is still being written, and return the seconds it took.

    A destination that fails for good is given up; the others go on. After a passing trouble the upload
    begins again, if the spool still holds the archive's beginning.

    Args:
        passage: Is told what is sent, where not all of it is going to be read back.
    """
    began = time.monotonic()
    with _given_up_on_failure(store, destinations), _kept_for_another_try(source):
        sent = passage.noted(source.read()) if passage else source.read()
        store.put(key, paced(store, sent), expected_bytes=expected_bytes)
    return time.monotonic() - began


@step(name="facts")
def facts(
    snapshot: Snapshot,
    backup_id: BackupId,
    plan: str,
    chain: Chain,
    proof: Proof,
    sessions: int,
    definitions: tuple[CatalogObject, ...],
    dumping: Progress,
) -> tuple[Facts, float]:
    """Take the facts in the dump's own snapshot, once the dump has come to the rows.

    Args:
        definitions: As they were before the dump began.
        dumping: The dump's; pg_dump has read every definition before it writes its first byte.
        proof: What to take of each table.
        sessions: How many read tables at the same time.

    Returns:
        The facts and the seconds that they took.
    """
    began = time.monotonic()
    progress = Progress("facts", len(snapshot.tables), "tables")
    with chain.link():
        chain.add(lambda _: dumping.begun.set())
        chain.add(snapshot.cancel)
        dumping.begun.wait()
        refuse_changes(definitions, definitions_of(snapshot))
        found = facts_of(snapshot, backup_id, plan, progress, proof, sessions, definitions)
    return found, time.monotonic() - began


@transfer(name="checksum", run_name="checksum-{archive.name}-on-{store.name}")
def checksum(
    archive: Archive,
    key: str,
    store: Store,
    destinations: Destinations,
    read_back: ReadBack = "always",
    passage: Passage | None = None,
) -> Checked:
    """Check what a store holds of an archive, by reading back as much as the plan wants; tell what was done.

    Args:
        passage: What was sent there; without it all of the archive is read back.

    Raises:
        ChecksumMismatch: The store does not hold what was written.
    """
    with _given_up_on_failure(store, destinations):
        check = check_stored(archive, key, store, read_back, passage.hashes if passage else None)
        destinations.note(store, check)
    return check


@transfer(name="commit", run_name="commit-on-{store.name}")
def commit(
    manifest: Manifest, body: bytes, guide: tuple[str, bytes], store: Store, destinations: Destinations
) -> None:
    """Look at every object's size once more, then write the manifest: from here on the backup exists.

    Args:
        body: The manifest's bytes, the same on every destination.
        guide: Key and text of RESTORE.md, which is replaced if it differs.
    """
    with _given_up_on_failure(store, destinations):
        for archive in manifest.archives:
            found = store.stat(object_key(manifest.plan, manifest.backup_id, archive.name))
            if found.size_bytes != archive.size_bytes:
                raise ChecksumMismatch(
                    f"{archive.name} on {store.name} has {found.size_bytes} bytes,"
                    f" {archive.size_bytes} were written",
                    MISMATCH_HINT,
                )
        _write_guide(store, *guide)
        store.create(manifest_key(manifest.plan, manifest.backup_id), body)


@contextmanager
def _given_up_on_failure(store: Store, destinations: Destinations) -> Iterator[None]:
    """Give the destination up if a step on it fails for good; a passing trouble is left to the next try."""
    try:
        yield
    except (WorldError, ChecksumMismatch) as error:
        if isinstance(error, ChecksumMismatch) or not error.transient or is_last_try():
            destinations.give_up(store, error)
        raise


@contextmanager
def _kept_for_another_try(source: SpoolReader) -> Iterator[None]:
    """After a passing trouble keep the archive from its beginning; `UploadCutShort` if that is gone."""
    try:
        yield
    except WorldError as error:
        if error.transient and not source.rewind():
            raise UploadCutShort(
                f"{error.message}; the upload cannot begin again, for the full spool let go of its beginning",
                error.hint,
            ) from error
        raise


def _write_guide(store: Store, key: str, text: bytes) -> None:
    if not store.exists(key) or store.read(key) != text:
        store.put(key, [text], expected_bytes=len(text))


def _until_success(process: Process, silence_seconds: float) -> Iterator[bytes]:
    """Yield a dump program's output; its end counts only if the program exited 0."""
    yield from process.chunks(silence_seconds)
    if (status := process.wait()) != 0:
        command, said = process.command, process.stderr_lines
        raise container_error(command, status, said) or dump_error(command.name, status, said)


def _plausible(name: str, magic: bytes, chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Pass a program's output on; raise `ImplausibleDump` unless it begins with `magic` and is not empty."""
    head, is_empty = b"", True
    for chunk in chunks:
        is_empty = False
        head += chunk[: len(magic) - len(head)]
        if not magic.startswith(head):
            break
        yield chunk
    if is_empty:
        raise ImplausibleDump(f"{name} exited 0 but wrote nothing", IMPLAUSIBLE_HINT)
    if head != magic:
        raise ImplausibleDump(f"what {name} wrote does not begin as a dump does", IMPLAUSIBLE_HINT)
