"""Which of the verifications beside a copy counts, and what a failed one says of the copy's bytes."""

from collections.abc import Mapping
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


def counting_record(
    store: Store,
    plan: str,
    document: Manifest,
    objects: Mapping[str, tuple[int, datetime]],
    manifest_sha256: str,
    looks: Mapping[Place, Look],
) -> VerificationRecord | None:
    """Return the record that counts: the newest of this very manifest that is not `unverifiable`, if any.

    A cheaper proof than the full one counts only against a backup, never for it. One that failed for damaged
    bytes counts until all of them were read again and found right.

    Args:
        objects: Size in bytes and date, by the store's clock, of all that lies below the backup's id.
        looks: Those that count on this store.
    """
    identifier = document.backup_id
    names = [name for name in objects if name.startswith("verifications/") and name.endswith(".json")]
    unverifiable = None
    for name in sorted(names, reverse=True):
        size_bytes, written_at = objects[name]
        try:
            body = read_document(store, object_key(plan, identifier, name), size_bytes)
            record = verifications.decode(body)
        except (ManifestError, ObjectMissing):
            continue
        if (record.backup_id, record.manifest_sha256) != (identifier, manifest_sha256):
            continue
        if record.tier != FULL and record.verdict is not Verdict.FAILED:
            continue
        if tells_of_damage(record) and scrubs.is_intact_since(document, manifest_sha256, looks, written_at):
            continue
        if record.verdict is not Verdict.UNVERIFIABLE:
            return record
        unverifiable = unverifiable or record
    return unverifiable


def tells_of_damage(record: VerificationRecord) -> bool:
    """Return whether a verification failed for the bytes themselves, not for what they restored to."""
    return record.verdict is Verdict.FAILED and record.reason in OF_DAMAGE
