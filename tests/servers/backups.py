"""Backups as they lie on a store, made without a database: for tests of what is done with whole backups."""

import hashlib
import os
import time
from datetime import UTC, datetime, timedelta

from blocks.stores import LocalStore, Store
from blocks.stores.memory import MemoryStore
from flows.core import manifest as manifests
from flows.core import naming
from flows.core.manifest import Archive, ArchiveKind, Manifest, Timings, Versions
from flows.core.naming import BackupId
from flows.core.verification import Tier, Verdict, VerificationRecord

PLAN = "shop"
SOURCE = manifests.source_of("7300000000000000000", "shop")
BODIES: dict[str, tuple[ArchiveKind, bytes]] = {
    naming.MAIN_ARCHIVE: ("main", b"the dump, encrypted"),
    naming.GLOBALS_ARCHIVE: ("globals", b"the roles, encrypted"),
    naming.FACTS_ARCHIVE: ("facts", b"the facts, encrypted"),
}


def store_backup(
    store: Store,
    started_at: datetime,
    *,
    verdict: Verdict | None = None,
    tier: Tier = "full",
    reason: str = "",
    holds: tuple[str, ...] = (),
    label: str = "",
    source: str = SOURCE,
    new_source: bool = False,
    committed: bool = True,
) -> BackupId:
    """Store a backup of the plan `shop` that began at a time.

    In a directory and in memory it is as old as it says; elsewhere it is new.
    """
    if isinstance(store, MemoryStore):
        store.set_clock(lambda: started_at)
    tail = hashlib.sha256(f"{started_at}{label}".encode()).hexdigest()[:6]
    identifier = naming.backup_id(started_at, tail)
    for name, (_, body) in BODIES.items():
        store.put(naming.object_key(PLAN, identifier, name), [body])
    manifest = manifest_of(identifier, started_at, label, source, new_source)
    body = manifests.encode(manifest)
    if committed:
        store.create(naming.manifest_key(PLAN, identifier), body)
    for name in holds:
        store.create(naming.object_key(PLAN, identifier, f"holds/{name}.json"), b"{}")
    if verdict is not None:
        key = naming.verification_key(PLAN, identifier, started_at, "0a1b2c", verdict)
        store.create(key, _record(manifest, body, verdict, tier, reason, store.name).encode())
    if isinstance(store, LocalStore):
        make_older(store, identifier, datetime.now(UTC) - started_at)
    if isinstance(store, MemoryStore):
        store.set_clock(lambda: datetime.now(UTC))
    return identifier


def make_older(store: LocalStore, identifier: BackupId, age: timedelta) -> None:
    """Let the store's clock date every object of a backup so long ago."""
    at = time.time() - age.total_seconds()
    for found in store.list(naming.backup_prefix(PLAN, identifier)):
        os.utime(f"{store.location}/{found.key}", (at, at))


def manifest_of(
    identifier: BackupId,
    started_at: datetime,
    label: str = "",
    source: str = SOURCE,
    new_source: bool = False,
) -> Manifest:
    return Manifest(
        backup_id=identifier,
        plan=PLAN,
        label=label,
        started_at=started_at,
        snapshot_at=started_at,
        finished_at=started_at,
        source=source,
        new_source=new_source,
        versions=Versions(pgsalvo="0.1.0", server="15.18", server_major=15, pg_dump="15.18", gpg="2.2.40"),
        recipients=("A" * 40,),
        archives=tuple(
            Archive(
                name=name,
                kind=kind,
                size_bytes=len(body),
                sha256=hashlib.sha256(body).hexdigest(),
                plain_bytes=len(body),
            )
            for name, (kind, body) in BODIES.items()
        ),
        globals_passwords=True,
        restore=("true",),
        timings=Timings(dump=1, facts=1, encrypt=1, upload=1, checksum=1),
    )


def _record(
    manifest: Manifest, body: bytes, verdict: Verdict, tier: Tier, reason: str, destination: str
) -> VerificationRecord:
    return VerificationRecord(
        backup_id=manifest.backup_id,
        plan=PLAN,
        verdict=verdict,
        tier=tier,
        destination=destination,
        verified_at=manifest.started_at,
        manifest_sha256=manifests.sha256(body),
        reason=reason,
        seconds=1,
    )
