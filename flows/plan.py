"""A backup plan: blocks and policies under one name; `plan_source` tells where it is loaded from."""

from pathlib import Path
from typing import Annotated, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from croniter import croniter
from prefect.blocks.core import Block
from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from blocks.alerts import SlackAlert
from blocks.gpg_keys import GpgRecipients
from blocks.postgres import PostgresDatabase
from blocks.references import SCHEMES, is_reference
from blocks.stores import LocalStore, S3Store
from flows import environment
from flows.core.errors import PlanError
from flows.core.naming import PLAN_NAME_PATTERN
from flows.core.retention import RetentionPolicy

PROVED_AT_ONCE_BYTES = 20 * 10**9

AnyStore = Annotated[LocalStore | S3Store, Field(discriminator="kind")]


class VerifySettings(BaseModel):
    """When a plan's backups are proved, with which key, and how thoroughly."""

    model_config = ConfigDict(extra="forbid")

    schedule: str = Field(
        "auto",
        description='"after-backup", "never", a cron expression, or "auto": after a backup if under 20 GB.',
    )
    secret_key: str = Field("", description="Name of the GpgSecretKey that says where the secret key lies.")
    proof: Literal["rows"] = Field("rows", description="What is compared: the rows of every table.")

    @field_validator("schedule")
    @classmethod
    def _known_schedule(cls, value: str) -> str:
        return value if value in ("auto", "after-backup", "never") else _cron(value)

    def is_due_after_backup(self, database_bytes: int) -> bool:
        """Return whether a backup of a database of this size is proved at once."""
        small = database_bytes < PROVED_AT_ONCE_BYTES
        return self.schedule == "after-backup" or (self.schedule == "auto" and small)


class BackupPlan(Block):
    """
    What is backed up, where to, for whom it is encrypted, how long it is kept, and who hears of trouble.

    A plan holds no secret, only where secrets lie: `env:NAME`, `file:PATH` or `aws-secret:NAME`.

    Example:
        Run a backup of a stored plan:
        ```python
        from flows.plan import BackupPlan

        plan = BackupPlan.load("shop")
        ```
    """

    _block_type_name = "Backup Plan"
    _block_type_slug = "backup-plan"
    _documentation_url = "https://docs.prefect.io/v3/concepts/blocks"  # type: ignore[assignment]

    name: str = Field(
        "default", pattern=PLAN_NAME_PATTERN, description="The plan's name, and its folder on every store."
    )
    schedule: str = Field("0 2 * * *", description='When to back up: a cron expression, or "never".')
    time_zone: str = Field("UTC", description="IANA time zone of the schedules and of retention's days.")
    database: PostgresDatabase = Field(title="Database", description="The database to back up.")
    recipients: GpgRecipients = Field(
        title="Recipients", description="Public keys that backups are encrypted to."
    )
    stores: list[AnyStore] = Field(min_length=1, description="The destinations, each with a name of its own.")
    required: int | None = Field(
        None, ge=1, description="Destinations that must hold a copy; all of them if empty."
    )
    retention: RetentionPolicy = Field(
        default_factory=RetentionPolicy, description="How long backups are kept."
    )
    prune: Literal["after-backup", "separate"] = Field("after-backup", description="Who deletes old backups.")
    verify: VerifySettings = Field(
        default_factory=VerifySettings, description="When and how backups are proved."
    )
    alerts: list[SlackAlert] = Field(default_factory=list, description="Who hears of trouble.")
    spool_directory: str = Field(
        "", description="Local disk for encrypted data on its way; the system's if empty."
    )
    attempts: int = Field(
        3, ge=1, le=10, description="How often a dump begins again after a passing trouble."
    )
    busy_timeout_seconds: float = Field(
        3600, ge=0, description="How long to wait for a backup of this plan that runs."
    )

    @field_validator("schedule")
    @classmethod
    def _known_schedule(cls, value: str) -> str:
        return value if value == "never" else _cron(value)

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ValueError(f"no such time zone: {value!r}; write one such as Europe/Madrid") from error
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [store.name for store in self.stores]
        if len(set(names)) < len(names):
            raise ValueError("two stores have the same name")
        if self.required is not None and self.required > len(names):
            raise ValueError(f"required is {self.required}, but there are only {len(names)} stores")
        return self

    @model_validator(mode="after")
    def _no_secret_inside(self) -> Self:
        """Nested secrets are stored in the clear by Prefect, so only references are allowed here."""
        for place, nested in (
            ("database", self.database),
            *((f"stores.{store.name}", store) for store in self.stores),
            *((f"alerts.{index}", alert) for index, alert in enumerate(self.alerts)),
        ):
            for field in type(nested).model_fields:
                value = getattr(nested, field)
                if isinstance(value, SecretStr) and _is_secret(field, value.get_secret_value()):
                    raise ValueError(
                        f"{place}.{field} holds a secret: write where it lies instead, {', '.join(SCHEMES)}"
                    )
        return self

    @property
    def spool_root(self) -> Path:
        return Path(self.spool_directory).expanduser() if self.spool_directory else environment.spool_root()

    @property
    def client_directory(self) -> Path | None:
        """Where the plan says that pg_dump lies."""
        return Path(self.database.client_directory) if self.database.client_directory else None

    @property
    def policy(self) -> RetentionPolicy:
        """The retention policy, with days counted in the plan's time zone."""
        return self.retention.model_copy(update={"time_zone": self.time_zone})

    @property
    def required_copies(self) -> int:
        return self.required or len(self.stores)

    def store(self, name: str) -> LocalStore | S3Store:
        """Return the destination of this name; raise `PlanError` if the plan has none."""
        for store in self.stores:
            if store.name == name:
                return store
        raise PlanError(
            f"the plan {self.name} has no store called {name}",
            f"it has {', '.join(store.name for store in self.stores)}",
        )


def _cron(value: str) -> str:
    if not croniter.is_valid(value):
        raise ValueError(f"not a cron expression: {value!r}; write five fields such as 0 2 * * *")
    return value


def _is_secret(field: str, value: str) -> bool:
    if not value or is_reference(value):
        return False
    if field == "conninfo":
        return "password" in _conninfo_keywords(value)
    return True


def _conninfo_keywords(value: str) -> set[str]:
    import psycopg
    from psycopg.conninfo import conninfo_to_dict

    try:
        return set(conninfo_to_dict(value))
    except psycopg.ProgrammingError:
        return (
            {"password"}
            if ":" in value.partition("@")[0].partition("://")[2] or "password" in value
            else set()
        )
