"""How a plan's backups are proved: when, with which key, where, and how thoroughly."""

from typing import Literal

from croniter import croniter
from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from blocks.postgres import PostgresDatabase
from flows.core.assertions import Assertion
from flows.core.ignoring import Ignored
from flows.core.verification import Tier
from flows.faults import close_to

PROVED_AT_ONCE_BYTES = 20 * 10**9


class ScratchSettings(BaseModel):
    """Where backups are restored to be proved."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["embedded", "server", "container"] = Field(
        "embedded",
        description="A server started for it here, one that runs already, or one in a container.",
    )
    conninfo: SecretStr = Field(
        SecretStr(""),
        description="Of a superuser on the running server, or a reference such as env:SCRATCH_URL.",
    )
    image: str = Field("postgres:{major}", description="The container's image; {major} is the source's.")
    program: str = Field("docker", description="What runs containers: docker, podman, or a path.")

    @model_validator(mode="after")
    def _fits_its_kind(self) -> "ScratchSettings":
        if (self.kind == "server") is not bool(self.conninfo.get_secret_value()):
            raise ValueError(
                'a scratch server that runs already has kind = "server" and a conninfo; give both or neither'
            )
        return self

    @property
    def database(self) -> PostgresDatabase:
        """The running server."""
        return PostgresDatabase(conninfo=self.conninfo)


class VerifySettings(BaseModel):
    """When a plan's backups are proved, with which key, and how thoroughly."""

    model_config = ConfigDict(extra="forbid")

    schedule: str = Field(
        "auto",
        description='"after-backup", "never", a cron expression, or "auto": after a backup if under 20 GB.',
    )
    secret_key: str = Field("", description="Name of the GpgSecretKey that says where the secret key lies.")
    proof: Literal["rows", "content"] = Field(
        "rows",
        description="What is taken of each table in the dump's snapshot: rows' number, or content too.",
    )
    tier: Tier = Field(
        "full", description="Whether all is restored, only definitions, or only a sample of the rows."
    )
    sample_tables: list[str] = Field(
        [], description="The sample: these tables, as schema.table; * and ? are wildcards."
    )
    sample_max_bytes: int = Field(
        1_000_000_000,
        gt=0,
        description="The sample, if it names no tables: as many as are this large together.",
    )
    scratch: ScratchSettings = Field(
        default_factory=ScratchSettings, title="Scratch server", description="Where backups are restored."
    )
    statement_limit_seconds: float = Field(
        6 * 3600, gt=0, description="How long one statement of a restore may run on the scratch server."
    )
    rto_minutes: float | None = Field(
        None,
        gt=0,
        description="How long a restore may take, from fetching to the last index; no limit if empty.",
    )
    assertions: list[Assertion] = Field([], description="The plan's own questions to the restored database.")
    ignore: list[Ignored] = Field([], description="Findings that are known and accepted, each with a reason.")

    @field_validator("schedule")
    @classmethod
    def _known_schedule(cls, value: str) -> str:
        return cron_or(value, ("after-backup", "auto", "never"))

    @field_validator("secret_key")
    @classmethod
    def _no_key_itself(cls, value: str) -> str:
        if "BEGIN PGP" in value or "\n" in value:
            raise ValueError("a key's text was given; write the name of a GpgSecretKey, such as ops")
        return value

    def is_due_after_backup(self, database_bytes: int) -> bool:
        """Return whether a backup of a database of this size is proved at once."""
        small = database_bytes < PROVED_AT_ONCE_BYTES
        return self.schedule == "after-backup" or (self.schedule == "auto" and small)


def cron_or(value: str, words: tuple[str, ...]) -> str:
    """Return `value` if it is one of the words or a cron expression of five fields."""
    if value in words:
        return value
    # croniter takes a sixth field for seconds, and R and H for something at random
    is_usual = len(value.split()) == 5 and not {"r", "h"} & set(value.lower().split())
    if not is_usual or not croniter.is_valid(value):
        advice = close_to(value, words) or "write five fields such as 0 2 * * *"
        raise ValueError(f"not a cron expression: {value!r}; {advice}")
    return value
