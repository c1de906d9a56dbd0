"""A PostgreSQL database: how it is reached, and the sessions that are opened on it.

Every session of ours is set up alike, whatever the role or the database was given by ALTER … SET, and
all sessions of one backup go to the server that the first one reached.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import psycopg
from prefect.blocks.core import Block
from psycopg.conninfo import make_conninfo
from psycopg.types.json import Json
from pydantic import Field, SecretStr, model_validator

from blocks.conninfo import Target, passfile, read_conninfo
from blocks.errors import ConfigurationError, PoolerInBetween
from blocks.pgcommands import Connection as ClientConnection
from blocks.process import secret_file
from blocks.references import remember, resolve
from blocks.selection import Selection
from blocks.server_errors import POOLER_REMEDY, connection_error, translated

Session: TypeAlias = "psycopg.Connection[tuple[Any, ...]]"

APPLICATION_NAME = "pgsalvo"
_DEFAULTS = {
    "connect_timeout": "15",
    "keepalives": "1",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "6",
}
_OURS = ("application_name", "fallback_application_name", "client_encoding")
_TIME_OUTS = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
_NEWER_TIME_OUTS = ((14, "idle_session_timeout"), (17, "transaction_timeout"))
_SESSION_SETTINGS = {
    **dict.fromkeys(_TIME_OUTS, "0"),
    "row_security": "off",
    "search_path": "",
    "DateStyle": "ISO",
    "TimeZone": "UTC",
    "standard_conforming_strings": "on",
    # so that the server soon lets go of the locks of a host that is gone
    "tcp_keepalives_idle": "30",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "6",
}


@dataclass(frozen=True)
class Pin:
    """The very server that a session reached, for those that follow: `host` stays for TLS.

    Args:
        hostaddr: Empty for a Unix socket, whose directory `host` then is.
    """

    host: str
    hostaddr: str
    port: int
    major: int

    @property
    def parameters(self) -> dict[str, str]:
        return {"host": self.host, "hostaddr": self.hostaddr, "port": str(self.port)}


class PostgresDatabase(Block):
    """
    A PostgreSQL database: where it is, who connects, and which part of it is meant.

    It is given either as a conninfo, in libpq's words or as a URL, or in parts.
    A secret may be written as a reference (`env:NAME`, `file:PATH`, `aws-secret:NAME`),
    which is looked up anew for each connection by the process that connects.

    Example:
        Connect to a database whose address lies in the environment:
        ```python
        from blocks.postgres import PostgresDatabase

        database = PostgresDatabase.load("BLOCK_NAME")
        with database.connect() as session:
            session.execute("SELECT version()")
        ```
    """

    _block_type_name = "PostgreSQL Database"
    _block_type_slug = "postgres-database"
    _documentation_url = "https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING"  # type: ignore[assignment]

    conninfo: SecretStr = Field(
        default=SecretStr(""),
        description="A libpq conninfo or URL, or a reference such as env:DATABASE_URL; instead of the parts.",
    )
    host: str = Field(default="", description="Host name, address, or directory of a Unix socket.")
    port: int = Field(default=0, ge=0, le=65535, description="Port; 0 is libpq's default.")
    dbname: str = Field(default="", description="Name of the database.")
    user: str = Field(default="", description="Role that connects.")
    sslmode: str = Field(default="", description="libpq's sslmode, such as require or verify-full.")
    password: SecretStr = Field(
        default=SecretStr(""),
        description="The role's password, or a reference to it such as file:/run/secrets/db.",
    )
    include_schemas: list[str] = Field(
        default=[],
        description="Only these schemas; extensions and large objects belong to none and are left out then.",
    )
    exclude_schemas: list[str] = Field(default=[], description="Not these schemas; * and ? are wildcards.")
    include_tables: list[str] = Field(
        default=[],
        description="Only these tables, each as schema.table, quoted as in SQL; * and ? are wildcards.",
    )
    exclude_tables: list[str] = Field(default=[], description="Not these tables, each as schema.table.")
    exclude_table_data: list[str] = Field(
        default=[], description="Of these tables the definition without the rows, each as schema.table."
    )
    lock_wait_seconds: float = Field(
        default=60, gt=0, description="How long to wait for a table that somebody else has locked."
    )
    silence_seconds: float = Field(
        default=600, gt=0, description="How long pg_dump may give no byte before it counts as stuck."
    )
    client_directory: str = Field(
        default="", description="Directory of pg_dump, if it is not where such programs usually lie."
    )

    @model_validator(mode="after")
    def _check(self) -> "PostgresDatabase":
        if self.conninfo.get_secret_value() and self._parts():
            raise ConfigurationError(
                "a database is given both as conninfo and in parts",
                f"remove conninfo, or {', '.join(self._parts())}",
            )
        _ = self.selection
        return self

    @property
    def selection(self) -> Selection:
        """Which part of the database is meant."""
        return Selection(
            include_schemas=tuple(self.include_schemas),
            exclude_schemas=tuple(self.exclude_schemas),
            include_tables=tuple(self.include_tables),
            exclude_tables=tuple(self.exclude_tables),
            exclude_table_data=tuple(self.exclude_table_data),
        )

    def resolve(self) -> Target:
        """Look up where the database is and what opens it; each time anew, for a password may expire.

        Raises:
            ConfigurationError: A reference leads nowhere, or libpq would not understand the conninfo.
        """
        if self.conninfo.get_secret_value():
            target = read_conninfo(resolve(self.conninfo))
        elif parts := self._parts():
            password = resolve(self.password) if parts.pop("password", "") else None
            target = Target(parts, password)
        else:
            raise ConfigurationError(
                "it is not said where the database is", 'set conninfo, for example to "env:DATABASE_URL"'
            )
        if target.password is not None:
            remember(target.password)
        return target

    def connect(self, *, pinned: Pin | None = None, autocommit: bool = True) -> Session:
        """Open a session, by default in autocommit mode.

        No time-out of the role or the database applies to it, row security fails instead of hiding rows,
        and names need their schema.

        Args:
            pinned: The server that an earlier session reached.

        Raises:
            ConnectionFailed: With a hint.
            PoolerInBetween: What answered was not the server itself.
        """
        target = self.resolve()
        parameters: dict[str, Any] = _session_parameters(target, pinned)
        try:
            session = psycopg.connect(
                **parameters,
                password=target.password,
                application_name=APPLICATION_NAME,
                client_encoding="UTF8",
                autocommit=True,
                prepare_threshold=None,
            )
        except psycopg.Error as error:
            raise connection_error(error, parameters.get("dbname", "")) from None
        try:
            _set_up(session)
            session.autocommit = autocommit
        except BaseException:
            session.close()
            raise
        return session

    @contextmanager
    def client_environment(self, pin: Pin | None = None) -> Iterator[ClientConnection]:
        """Yield how pg_dump, pg_restore, pg_dumpall or psql reaches the database while the context lasts.

        The password is looked up now and lies where only such a program can read it.
        """
        target = self.resolve()
        dbname = make_conninfo(**_session_parameters(target, pin))
        if target.password is None:
            yield ClientConnection(dbname)
            return
        with secret_file(passfile(target.password)) as (path, pass_fds):
            # an inherited PGPASSWORD would win over the file
            yield ClientConnection(dbname, {"PGPASSFILE": path, "PGPASSWORD": ""}, pass_fds)

    def _parts(self) -> dict[str, str]:
        parts = {
            "host": self.host,
            "port": str(self.port or ""),
            "dbname": self.dbname,
            "user": self.user,
            "sslmode": self.sslmode,
            "password": self.password.get_secret_value(),
        }
        return {name: value for name, value in parts.items() if value}


def pin(session: Session) -> Pin:
    """Return the server that `session` reached."""
    info = session.info
    return Pin(info.host, info.hostaddr, info.port, info.server_version // 10_000)


def _session_parameters(target: Target, pinned: Pin | None) -> dict[str, str]:
    parameters = _DEFAULTS | {key: value for key, value in target.parameters.items() if key not in _OURS}
    if target.password is not None:
        parameters.pop("passfile", None)
    if pinned is not None:
        parameters |= pinned.parameters
    time_outs = [*_TIME_OUTS, *(_newer_time_outs(pinned.major) if pinned else ())]
    given = parameters.get("options", os.environ.get("PGOPTIONS", ""))
    # in the start-up message, for a role's own time-out may be shorter than the way to the first statement
    parameters["options"] = " ".join(filter(None, [given, *(f"-c {name}=0" for name in time_outs)]))
    return parameters


def _newer_time_outs(major: int) -> list[str]:
    return [name for since, name in _NEWER_TIME_OUTS if major >= since]


def _set_up(session: Session) -> None:
    """Apply the settings of our sessions, and see that no pooler is in between."""
    newer = _newer_time_outs(session.info.server_version // 10_000)
    settings = _SESSION_SETTINGS | dict.fromkeys(newer, "0")
    with translated("setting up the session"):
        row = session.execute(
            "SELECT pg_catalog.pg_backend_pid(), pg_catalog.count(pg_catalog.set_config(key, value, false))"
            " FROM pg_catalog.json_each_text(%s)",
            [Json(settings)],
        ).fetchone()
    if row is None or row[0] != session.info.backend_pid:
        raise PoolerInBetween(
            f"a connection pooler stands between us and the database {session.info.dbname}", POOLER_REMEDY
        )
