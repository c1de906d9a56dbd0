"""A backup plan: blocks and policies under one name; `plan_source` tells where it is loaded from."""

import os
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from prefect.blocks.core import Block
from pydantic import Field, SecretStr, field_validator, model_validator

from blocks import pgtools
from blocks.alerts import SlackAlert
from blocks.conninfo import read_conninfo
from blocks.container_programs import ContainerPrograms
from blocks.docker_client import DockerPostgresClient
from blocks.errors import ConfigurationError
from blocks.gpg_keys import GpgRecipients
from blocks.pgtools import ClientPrograms
from blocks.postgres import PostgresDatabase
from blocks.references import is_reference
from blocks.stores import (
    AzureStore,
    GcsStore,
    LocalStore,
    RcloneStore,
    RsyncStore,
    S3Store,
    SftpStore,
    SmbStore,
    Store,
)
from flows import environment
from flows.core.errors import PlanError
from flows.core.facts import Proof
from flows.core.naming import PLAN_NAME_PATTERN
from flows.core.read_back import ReadBack
from flows.core.retention import RetentionPolicy
from flows.core.verification import Tier
from flows.core.windows import is_within, parse_window
from flows.faults import close_to
from flows.verify_settings import VerifySettings, cron_or

AnyStore = Annotated[
    LocalStore | AzureStore | GcsStore | RcloneStore | RsyncStore | S3Store | SftpStore | SmbStore,
    Field(discriminator="kind"),
]


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
    client: DockerPostgresClient | None = Field(
        None, title="Client", description="An image that pg_dump is run from; this host's programs if empty."
    )
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
    keep: dict[str, RetentionPolicy] = Field(
        default_factory=dict,
        description="How long backups are kept on a destination, by its name, instead of that.",
    )
    prune: Literal["after-backup", "separate"] = Field("after-backup", description="Who deletes old backups.")
    read_back: ReadBack = Field(
        "always",
        description="What is read back and compared once it is stored: everything, a random sample, or "
        "nothing where the store itself has checked each part.",
    )
    scrub_days: int = Field(
        30, ge=0, description="Within how many days everything stored is read again; never by itself if 0."
    )
    verify: VerifySettings = Field(
        default_factory=VerifySettings, description="When and how backups are proved."
    )
    facts: Literal["always", "off-hours"] = Field(
        "always",
        description="When tables are counted; without that, a backup's rows cannot be verified.",
    )
    off_hours: str = Field(
        "22:00-06:00", description="The hours that count as off-hours, in the plan's time zone."
    )
    fact_sessions: int = Field(
        1, ge=1, le=16, description="Sessions that count tables at the same time, while pg_dump runs."
    )
    snapshot_limit_minutes: float = Field(
        240, gt=0, description="How old the dump's snapshot may become before somebody is told."
    )
    alerts: list[SlackAlert] = Field(default_factory=list, description="Who hears of trouble.")
    spool_directory: str = Field(
        "", description="Local disk for encrypted data on its way; the system's if empty."
    )
    spool_max_bytes: int | None = Field(
        None,
        ge=1 << 20,
        strict=True,
        description="How much of a backup may lie there at once: the dump, and its snapshot with it, waits "
        "for the slowest destination to take it; no limit if empty.",
    )
    spool_stall_seconds: float = Field(
        900,
        gt=0,
        description="How long a destination may take nothing of what the spool holds for it, before it is "
        "given up for this backup.",
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
        return cron_or(value, ("never",))

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            advice = close_to(value, available_timezones(), 0.87) or "write one such as Europe/Madrid"
            raise ValueError(f"no such time zone: {value!r}; {advice}") from error
        return value

    @field_validator("off_hours")
    @classmethod
    def _known_hours(cls, value: str) -> str:
        parse_window(value)
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
        if self.client and self.database.client_directory:
            raise ValueError(
                "client and database.client_directory both say where pg_dump is; keep one of them"
            )
        return self

    @model_validator(mode="after")
    def _keeps_on_its_own_stores(self) -> Self:
        names = [store.name for store in self.stores]
        for name in self.keep:
            if name not in names:
                advice = close_to(name, names) or f"it has {', '.join(names)}"
                raise ValueError(f"keep names {name}, which is no store of the plan; {advice}")
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
            ("verify.scratch", self.verify.scratch),
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

    def find_client(self, server_major: int) -> tuple[ClientPrograms | ContainerPrograms, str]:
        """Return the programs that dump a server of this major, and a warning if something is odd about them.

        Raises:
            ProgramError: There are none; its hint says how to get them.
        """
        if self.client is not None:
            return self.client.find(server_major)
        return pgtools.find_client(server_major, configured=self.client_directory)

    @property
    def policy(self) -> RetentionPolicy:
        """The retention policy, with days counted in the plan's time zone."""
        return self.retention.model_copy(update={"time_zone": self.time_zone})

    def policy_of(self, store: Store) -> RetentionPolicy:
        """The retention policy on one destination, which may have its own."""
        retention = self.keep.get(store.name, self.retention)
        return retention.model_copy(update={"time_zone": self.time_zone})

    def proof_at(self, now: datetime) -> Proof:
        """Return what is taken of each table by a backup that starts now."""
        is_due = self.facts == "always" or is_within(self.off_hours, now, self.time_zone)
        return self.verify.proof if is_due else "none"

    def tier_at(self, now: datetime) -> Tier:
        """Return how much of a backup that starts now can be proved: without a count, no rows."""
        return "schema" if self.proof_at(now) == "none" else self.verify.tier

    @property
    def sessions(self) -> int:
        """How many sessions of a backup hold a lock on each table at once; those that count share them."""
        return 3 if self.fact_sessions > 1 else 2

    @property
    def required_copies(self) -> int:
        return self.required or len(self.stores)

    def store(self, name: str) -> AnyStore:
        """Return the destination of this name; raise `PlanError` if the plan has none."""
        for store in self.stores:
            if store.name == name:
                return store
        raise PlanError(
            f"the plan {self.name} has no store called {name}",
            f"it has {', '.join(store.name for store in self.stores)}",
        )


def _holds_password(conninfo: str, place: str) -> bool:
    try:
        return read_conninfo(conninfo).password is not None
    except ConfigurationError as error:
        raise ConfigurationError(f"{place}: {error.message}", error.hint) from None


def _refuse_empty_reference(text: str, place: str) -> None:
    scheme, _, name = text.partition(":")
    if not name or name != name.strip():
        raise ValueError(f"{place} names nothing right after {scheme}:; write it without a blank")
