"""The manifest: a backup exists if and only if this document does.

It is plain JSON and the same bytes on every destination. It tells sizes, hashes, times and versions, and
how to restore by hand; no name from inside the database, no destination and no secret stands in it.
`checksum` is the SHA-256 of the rest, so that an edited or damaged manifest is recognised without a key.
"""

import hashlib
import json
from datetime import datetime
from typing import Any, Final, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, field_validator

from flows.core.errors import ManifestEdited, ManifestUnknown, ManifestUnreadable
from flows.core.naming import BACKUP_ID_PATTERN, PLAN_NAME_PATTERN, BackupId, is_backup_id
from flows.core.read_back import ReadBack

FORMAT: Final = "pgsalvo-manifest"
FORMAT_VERSION: Final = 1
ARCHIVE_NAME_PATTERN = r"^[a-z0-9][a-z0-9.-]{0,95}\.gpg$"

Sha256 = str
ArchiveKind = Literal["main", "data", "globals", "facts"]


class _Kept(BaseModel):
    """Frozen; fields that a later release added are kept."""

    model_config = ConfigDict(frozen=True, extra="allow")


class Archive(_Kept):
    """One stored object of a backup."""

    name: str = Field(
        pattern=ARCHIVE_NAME_PATTERN, description="File name of the object inside the backup's folder."
    )
    kind: ArchiveKind = Field(description="What it holds.")
    size_bytes: int = Field(gt=0, description="Size of the encrypted object.")
    sha256: Sha256 = Field(pattern="^[0-9a-f]{64}$", description="SHA-256 of the encrypted object.")
    plain_bytes: int = Field(gt=0, description="Size before compression and encryption.")


class Versions(_Kept):
    """The programs that made the backup."""

    pgsalvo: str
    server: str = Field(description="The server's version, such as 15.18.")
    server_major: int = Field(description="pg_restore of this major, or newer, reads the dump.")
    pg_dump: str
    gpg: str


class Timings(_Kept):
    """Seconds each step took; steps overlap."""

    dump: float
    facts: float
    encrypt: float
    upload: float
    checksum: float
    snapshot: float = 0.0  # for how long the server could not vacuum what died since


class Manifest(_Kept):
    """One committed backup."""

    format: Literal["pgsalvo-manifest"] = FORMAT
    format_version: Literal[1] = FORMAT_VERSION
    backup_id: BackupId = Field(pattern=BACKUP_ID_PATTERN)
    plan: str = Field(pattern=PLAN_NAME_PATTERN)
    label: str = Field("", description="Free words of whoever asked for the backup.")
    started_at: AwareDatetime
    snapshot_at: AwareDatetime = Field(
        description="The moment whose state the backup holds, by the server's clock."
    )
    finished_at: AwareDatetime
    source: Sha256 = Field(description="SHA-256 of the server's system identifier and the database's name.")
    new_source: bool = Field(False, description="Whether a person acknowledged that the source changed here.")
    versions: Versions
    recipients: tuple[str, ...] = Field(description="Fingerprints of the keys that can decrypt.")
    archives: tuple[Archive, ...]
    globals_passwords: bool = Field(description="Whether globals.sql holds the roles' password hashes.")
    restore: tuple[str, ...] = Field(description="Shell commands that restore the backup, in order.")
    timings: Timings
    read_back: ReadBack = Field(
        "always",
        description="What was read back before the backup counted, on the destination where that was least: "
        "always is everything, sample some blocks, parts nothing, as the store had checked each part.",
    )
    checksum: Sha256 = Field("", description="SHA-256 of this document without this field.")

    @field_validator("backup_id")
    @classmethod
    def _tells_a_time(cls, value: BackupId) -> BackupId:
        if not is_backup_id(value):
            raise ValueError(f"no backup's id: {value!r}")
        return value

    @field_validator("archives")
    @classmethod
    def _each_once(cls, value: tuple[Archive, ...]) -> tuple[Archive, ...]:
        if len({archive.name for archive in value}) < len(value):
            raise ValueError("two archives have the same name")
        return value

    @property
    def size_bytes(self) -> int:
        return sum(archive.size_bytes for archive in self.archives)

    def archive(self, kind: str) -> Archive:
        """Return the only archive of a kind; raise `ManifestUnreadable` unless there is exactly one."""
        found = [archive for archive in self.archives if archive.kind == kind]
        if len(found) != 1:
            raise ManifestUnreadable(f"the manifest of {self.backup_id} lists {len(found)} {kind} archives")
        return found[0]


def source_of(system_identifier: str, dbname: str) -> Sha256:
    """Return what tells one database from another without naming it."""
    return hashlib.sha256(json.dumps([system_identifier, dbname]).encode()).hexdigest()


def encode(manifest: Manifest) -> bytes:
    """Return the manifest's bytes, with its checksum filled in."""
    document = manifest.model_dump(mode="json")
    document["checksum"] = _checksum(document)
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def decode(body: bytes) -> Manifest:
    """Return the manifest that `body` holds.

    Raises:
        ManifestUnreadable: Not JSON, or not a manifest.
        ManifestUnknown: Written by a release that is newer than this one.
        ManifestEdited: Changed after it was written.
    """
    try:
        document = json.loads(body.decode(), object_pairs_hook=_each_key_once)
        checksum = _checksum(document) if isinstance(document, dict) else ""
    except (ValueError, RecursionError) as error:
        raise ManifestUnreadable("the manifest is not JSON") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ManifestUnreadable("the manifest is not one of pgsalvo's")
    version = document.get("format_version")
    if not isinstance(version, int):
        raise ManifestUnreadable("the manifest does not tell its format version")
    if version != FORMAT_VERSION:
        raise ManifestUnknown(
            f"the manifest is of format version {version}, this release knows {FORMAT_VERSION}",
            "install a newer pgsalvo, or follow the manifest's own restore commands",
        )
    if document.get("checksum") != checksum:
        raise ManifestEdited("the manifest was edited or damaged: its checksum does not match")
    try:
        return Manifest.model_validate(document)
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise ManifestUnreadable(f"the manifest's {where} is missing or of the wrong kind") from error


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of format version 1, which lies beside this module as a file."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | Manifest.model_json_schema()


def sha256(body: bytes) -> Sha256:
    return hashlib.sha256(body).hexdigest()


def _checksum(document: dict[str, Any]) -> Sha256:
    rest = {key: value for key, value in document.items() if key != "checksum"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return sha256(text.encode())


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse a key that stands twice: readers disagree on which of the two counts."""
    document = dict(pairs)
    if len(document) < len(pairs):
        raise ValueError("a key stands twice")
    return document


def age_seconds(manifest: Manifest, now: datetime) -> float:
    """Return how long ago the state that the backup holds was the database's."""
    return (now - manifest.snapshot_at).total_seconds()
