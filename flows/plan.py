"""A backup plan: blocks and policies under one name; `plan_source` tells where it is loaded from."""

import os
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from croniter import croniter
from prefect.blocks.core import Block
from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from blocks.alerts import SlackAlert
from blocks.conninfo import read_conninfo
from blocks.errors import ConfigurationError
from blocks.gpg_keys import GpgRecipients
from blocks.postgres import PostgresDatabase
from blocks.references import is_reference
from blocks.stores import LocalStore, S3Store
from flows import environment
from flows.core.errors import PlanError
from flows.core.naming import PLAN_NAME_PATTERN
from flows.core.retention import RetentionPolicy
from flows.faults import close_to

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
        return _cron_or(value, ("after-backup", "auto", "never"))

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
        None, ge=1, strict=True, description="Destinations that must hold a copy; all of them if empty."
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
        return _cron_or(value, ("never",))

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            advice = close_to(value, available_timezones(), 0.87) or "write one such as Europe/Madrid"
            raise ValueError(f"no such time zone: {value!r}; {advice}") from error
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        places: dict[str, str] = {}
        names = [store.name for store in self.stores]
        for store in self.stores:
            if not store.name.strip():
                raise ValueError("a store has an empty name; give each store a name of its own")
            if names.count(store.name) > 1:
                raise ValueError(f"two stores are called {store.name}; give each a name of its own")
            place = os.path.realpath(store.location) if isinstance(store, LocalStore) else store.location
            if place in places:
                raise ValueError(
                    f"the stores {places[place]} and {store.name} are one place, {store.location};"
                    " two copies there are lost together"
                )
            places[place] = store.name
        if self.required is not None and self.required > len(names):
            raise ValueError(f"required is {self.required}, but there are only {len(names)} stores")
        return self

    @model_validator(mode="after")
    def _says_where_the_database_is(self) -> Self:
        database = self.database
        if not (database.conninfo or database.host or database.port or database.dbname or database.user):
            raise ValueError(
                'it is not said where the database is; set conninfo, for example to "env:DATABASE_URL"'
            )
        return self

    @model_validator(mode="after")
    def _no_secret_inside(self) -> Self:
        """Nested secrets are stored in the clear by Prefect, so only references are allowed here."""
        for place, nested in (
            ("database", self.database),
            *((f"stores.{store.name}", store) for store in self.stores),
            *((f"alerts.#{number}", alert) for number, alert in enumerate(self.alerts, start=1)),
        ):
            for field in type(nested).model_fields:
                value = getattr(nested, field)
                if not isinstance(value, SecretStr) or not (text := value.get_secret_value()):
                    continue
                if is_reference(text):
                    _refuse_empty_reference(text, f"{place}.{field}")
                elif field != "conninfo" or _holds_password(text, f"{place}.{field}"):
                    raise ValueError(
                        f"{place}.{field} holds a secret; write where it lies instead:"
                        " env:NAME, file:PATH or aws-secret:NAME"
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


def _cron_or(value: str, words: Collection[str]) -> str:
    """Return `value` if it is one of the words or a cron expression of five fields."""
    if value in words:
        return value
    # croniter takes a sixth field for seconds, and R and H for something at random
    is_usual = len(value.split()) == 5 and not {"r", "h"} & set(value.lower().split())
    if not is_usual or not croniter.is_valid(value):
        advice = close_to(value, words) or "write five fields such as 0 2 * * *"
        raise ValueError(f"not a cron expression: {value!r}; {advice}")
    return value


def _holds_password(conninfo: str, place: str) -> bool:
    try:
        return read_conninfo(conninfo).password is not None
    except ConfigurationError as error:
        raise ConfigurationError(f"{place}: {error.message}", error.hint) from None


def _refuse_empty_reference(text: str, place: str) -> None:
    scheme, _, name = text.partition(":")
    if not name or name != name.strip():
        raise ValueError(f"{place} names nothing right after {scheme}:; write it without a blank")
