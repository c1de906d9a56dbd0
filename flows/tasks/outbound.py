"""A backup's steps on its way out. Dump, encrypt and upload run at the same time, linked by streams.

A link that fails ends the others through its `Chain`; an upload that fails costs its destination only.
"""

import hashlib
import time
from collections.abc import Iterator
from dataclasses import dataclass

from blocks import compression, gpg
from blocks.errors import StoreError
from blocks.gpg_program import PreparedRecipients
from blocks.process import Command, Process
from blocks.snapshot import Snapshot
from blocks.spool import Chain, Pipe, SpoolFile
from blocks.stores import Store
from flows.core.errors import ChecksumMismatch, ImplausibleDump
from flows.core.facts import Facts
from flows.core.manifest import Archive, Manifest
from flows.core.naming import BackupId, manifest_key, object_key
from flows.destinations import Destinations
from flows.gathering import facts_of
from flows.progress import Progress
from flows.tasks.options import is_last_try, step, transfer

DUMP_MAGIC = b"PGDMP"


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
    """
    began = time.monotonic()
    with chain.link(), Process(command) as process:
        chain.add(process.stop)
        chunks = progress.counted(process.chunks(silence_seconds))
        if kind == "main":
            chunks = _beginning_with(DUMP_MAGIC, chunks)
        for chunk in compression.compressed(_until_success(process, chunks)):
            pipe.write(chunk)
        if progress.done == 0:
            raise ImplausibleDump(f"{command.name} exited 0 but wrote nothing")
        pipe.commit()
    return Dumped(progress.done, time.monotonic() - began)


@step(name="encrypt", run_name="encrypt-{name}")
def encrypt(
    name: str,  # noqa: ARG001 - names the task's run
    source: Iterator[bytes],
    recipients: PreparedRecipients,
    spool_file: SpoolFile,
    chain: Chain,
) -> Encrypted:
    """Encrypt a stream into the spool, hashing on the way; commit only after gpg said that all is well."""
    began = time.monotonic()
    done = gpg.encrypt(source, recipients, spool_file, chain)
    return Encrypted(done.size_bytes, done.sha256, time.monotonic() - began)


@transfer(name="upload", run_name="upload-{name}-to-{store.name}")
def upload(
    name: str,  # noqa: ARG001 - names the task's run
    key: str,
    store: Store,
    spool_file: SpoolFile,
    destinations: Destinations,
    expected_bytes: int,
) -> float:
    """Store an archive while it is still being written, and return the seconds it took.

    A destination that fails for good is given up; the others go on.
    """
    began = time.monotonic()
    try:
        store.put(key, spool_file.read(), expected_bytes=expected_bytes)
    except StoreError as error:
        if not error.transient or is_last_try():
            destinations.give_up(store, error)
        raise
    return time.monotonic() - began


@step(name="facts")
def facts(snapshot: Snapshot, backup_id: BackupId, plan: str, chain: Chain) -> tuple[Facts, float]:
    """Count the rows of every dumped table in the dump's own snapshot."""
    began = time.monotonic()
    progress = Progress("facts", len(snapshot.tables), "tables")
    with chain.link():
        chain.add(snapshot.cancel)
        found = facts_of(snapshot, backup_id, plan, progress)
    return found, time.monotonic() - began


@transfer(name="checksum", run_name="checksum-{archive.name}-on-{store.name}")
def checksum(archive: Archive, key: str, store: Store, destinations: Destinations) -> float:
    """Read a stored object back and hash it again; return the seconds it took.

    Raises:
        ChecksumMismatch: The store does not hold what was written.
    """
    began = time.monotonic()
    try:
        digest, size = hashlib.sha256(), 0
        for chunk in store.get(key):
            digest.update(chunk)
            size += len(chunk)
        if (digest.hexdigest(), size) != (archive.sha256, archive.size_bytes):
            raise ChecksumMismatch(
                f"{store.name} does not hold what was written to it: {archive.name} differs"
            )
    except StoreError as error:
        if not error.transient or is_last_try():
            destinations.give_up(store, error)
        raise
    except ChecksumMismatch as error:
        destinations.give_up(store, error)
        raise
    return time.monotonic() - began


@transfer(name="commit", run_name="commit-on-{store.name}")
def commit(
    manifest: Manifest, body: bytes, guide: tuple[str, bytes], store: Store, destinations: Destinations
) -> None:
    """Look at every object's size once more, then write the manifest: from here on the backup exists.

    Args:
        body: The manifest's bytes, the same on every destination.
        guide: Key and text of RESTORE.md, which is replaced if it differs.
    """
    try:
        for archive in manifest.archives:
            found = store.stat(object_key(manifest.plan, manifest.backup_id, archive.name))
            if found.size_bytes != archive.size_bytes:
                raise ChecksumMismatch(
                    f"{archive.name} on {store.name} has {found.size_bytes} bytes,"
                    f" {archive.size_bytes} were written"
                )
        _write_guide(store, *guide)
        store.create(manifest_key(manifest.plan, manifest.backup_id), body)
    except StoreError as error:
        if not error.transient or is_last_try():
            destinations.give_up(store, error)
        raise
    except ChecksumMismatch as error:
        destinations.give_up(store, error)
        raise


def _write_guide(store: Store, key: str, text: bytes) -> None:
    if not store.exists(key) or store.read(key) != text:
        store.put(key, [text], expected_bytes=len(text))


def _until_success(process: Process, chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Pass a program's output on; its end counts only if the program exited 0."""
    yield from chunks
    process.check()


def _beginning_with(magic: bytes, chunks: Iterator[bytes]) -> Iterator[bytes]:
    head = b""
    for chunk in chunks:
        head += chunk[: len(magic) - len(head)]
        if not magic.startswith(head[: len(magic)]):
            raise ImplausibleDump("what pg_dump wrote does not begin as a dump does")
        yield chunk
