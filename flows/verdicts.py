"""Which of the verifications beside a copy counts, and what a failed one says of the copy's bytes."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from blocks.errors import ObjectMissing
from blocks.stores import Store
from flows.core import scrubs
from flows.core import verification as verifications
from flows.core.errors import ChecksumMismatch, ManifestError
from flows.core.manifest import Manifest
from flows.core.naming import object_key
from flows.core.scrubs import Look, Place
from flows.core.verification import FULL, Verdict, VerificationRecord
from flows.documents import read_document

OF_DAMAGE = (ChecksumMismatch.__name__, ObjectMissing.__name__)


@dataclass(frozen=True)
class Verifications:
    """What the records beside a copy come to.

    Args:
        counting: The record that counts, if any.
        if_whole: The one that would if none told of damaged bytes.
    """

    counting: VerificationRecord | None = None
    if_whole: VerificationRecord | None = None


NOT_VERIFIED = Verifications()


def read_verifications(
    store: Store,
    plan: str,
    document: Manifest,
    objects: Mapping[str, tuple[int, datetime]],
    manifest_sha256: str,
    looks: Mapping[Place, Look],
) -> Verifications:
    """Return which records count: the newest of this very manifest that is not `unverifiable`, if any.

    A cheaper proof than the full one counts only against a backup, never for it. One that failed for damaged
    bytes counts until all of them were read again and found right.

    Args:
        objects: Size in bytes and date, by the store's clock, of all that lies below the backup's id.
        looks: Those that count on this store.
    """
    damage = unverifiable = None
    for record, written_at in _records(store, plan, document, objects, manifest_sha256):
        if tells_of_damage(record):
            if not scrubs.is_intact_since(document, manifest_sha256, looks, written_at):
                damage = damage or record
        elif record.verdict is not Verdict.UNVERIFIABLE:
            return Verifications(damage or record, record)
        else:
            unverifiable = unverifiable or record
    return Verifications(damage or unverifiable, unverifiable)


def _records(
    store: Store,
    plan: str,
    document: Manifest,
    objects: Mapping[str, tuple[int, datetime]],
    manifest_sha256: str,
) -> Iterator[tuple[VerificationRecord, datetime]]:
    """Yield the records that may count, newest first, each with when it was written by the store's clock."""
    identifier = document.backup_id
    names = [name for name in objects if name.startswith("verifications/") and name.endswith(".json")]
    for name in sorted(names, reverse=True):
        size_bytes, written_at = objects[name]
        try:
            body = read_document(store, object_key(plan, identifier, name), size_bytes)
            record = verifications.decode(body)
        except (ManifestError, ObjectMissing):
            continue
        if (record.backup_id, record.manifest_sha256) != (identifier, manifest_sha256):
            continue
        if record.tier == FULL or record.verdict is Verdict.FAILED:
            yield record, written_at


def tells_of_damage(record: VerificationRecord) -> bool:
    """Return whether a verification failed for the bytes themselves, not for what they restored to."""
    return record.verdict is Verdict.FAILED and record.reason in OF_DAMAGE
