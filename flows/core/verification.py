"""A verdict and the record of it that lies beside a backup; it names nothing from inside the database."""

from enum import StrEnum
from typing import Final, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from flows.core.errors import ManifestUnreadable
from flows.core.manifest import Sha256
from flows.core.naming import BackupId

Tier = Literal["full", "schema", "sample"]
FULL: Final = "full"


class Verdict(StrEnum):
    """Three, never two: only `verified` is green."""

    VERIFIED = "verified"
    FAILED = "failed"
    UNVERIFIABLE = "unverifiable"


class VerificationRecord(BaseModel):
    """What one verification found, in numbers."""

    model_config = ConfigDict(frozen=True, extra="allow")

    format_version: Literal[1] = 1
    backup_id: BackupId
    plan: str
    verdict: Verdict
    tier: str = Field(FULL, description="How much was restored; only a full proof counts for retention.")
    destination: str
    verified_at: AwareDatetime
    manifest_sha256: Sha256
    tables: int = 0
    rows: int = 0
    objects: int = 0
    findings: dict[str, int] = Field(default_factory=dict, description="How often each rule was broken.")
    reason: str = Field("", description="For a person: why it is not verified, in one line without names.")
    seconds: float

    def encode(self) -> bytes:
        return self.model_dump_json(indent=2).encode() + b"\n"


def decode(body: bytes) -> VerificationRecord:
    try:
        return VerificationRecord.model_validate_json(body)
    except ValidationError as error:
        raise ManifestUnreadable("a verification's record is not readable") from error
