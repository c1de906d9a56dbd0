"""What tells one database from another, and what it is made of besides its relations.

The same functions read the source, inside the dump's snapshot, and the scratch database after a restore.
They take no lock on any table.
"""

import hashlib
from dataclasses import dataclass
from typing import Any, Literal, LiteralString

from blocks.postgres import Session
from blocks.server_errors import translated

_USES_ICU = """
    SELECT EXISTS (
        SELECT FROM pg_collation
        WHERE collprovider = 'i' AND (
            collnamespace <> 'pg_catalog'::regnamespace
            OR oid IN (SELECT attcollation FROM pg_attribute WHERE attrelid >= 16384
                       UNION ALL
                       SELECT refobjid FROM pg_depend WHERE refclassid = 'pg_collation'::regclass)))"""
_SETTINGS = """
    SELECT r.rolname, split_part(item, '=', 1) AS name, substr(item, strpos(item, '=') + 1)
    FROM pg_db_role_setting s
    CROSS JOIN unnest(s.setconfig) AS item
    LEFT JOIN pg_roles r ON r.oid = s.setrole
    WHERE s.setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())
    ORDER BY r.rolname NULLS FIRST, name"""
_LARGEST = """
    SELECT n.nspname, c.relname,
           (greatest(c.relpages, 0) + greatest(coalesce(t.relpages, 0), 0))::int8
           * current_setting('block_size')::int8 AS bytes
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_class t ON t.oid = c.reltoastrelid
    WHERE c.relkind = 'r' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
    ORDER BY bytes DESC, n.nspname, c.relname
    LIMIT %s"""


_ROLES_IN_USE = """
    SELECT rolname FROM pg_roles
    WHERE rolname !~ '^pg_'
      AND (oid IN (SELECT refobjid FROM pg_shdepend
                   WHERE refclassid = 'pg_authid'::regclass
                     AND dbid = (SELECT oid FROM pg_database WHERE datname = current_database()))
           OR oid = 10 AND EXISTS (SELECT FROM pg_largeobject_metadata WHERE lomowner = 10))
    ORDER BY rolname"""
_OCCUPANTS = """
    WITH own AS (SELECT oid FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'),
         owned AS (SELECT classid, objid FROM pg_depend WHERE deptype = 'e')
    SELECT what, number FROM (
        SELECT 'tables, views or sequences', count(*) FROM pg_class c
            WHERE relnamespace IN (SELECT oid FROM own)
            AND relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
            AND NOT EXISTS (SELECT FROM owned WHERE classid = 'pg_class'::regclass AND objid = c.oid)
        UNION ALL
        SELECT 'functions', count(*) FROM pg_proc p WHERE pronamespace IN (SELECT oid FROM own)
            AND NOT EXISTS (SELECT FROM owned WHERE classid = 'pg_proc'::regclass AND objid = p.oid)
        UNION ALL
        SELECT 'types', count(*) FROM pg_type t WHERE typnamespace IN (SELECT oid FROM own)
            AND typtype IN ('d', 'e', 'r')
            AND NOT EXISTS (SELECT FROM owned WHERE classid = 'pg_type'::regclass AND objid = t.oid)
        UNION ALL
        SELECT 'large objects', count(*) FROM pg_largeobject_metadata
    ) AS found(what, number)
    WHERE number > 0"""


@dataclass(frozen=True)
class Identity:
    """Which database of which server this is.

    Args:
        system_identifier: pg_control_system()'s; where the role may not call that (hosted databases), "host-"
            and a hash of the conninfo's host and port and the database's OID, which stays the same as long
            as these do.
        server_version: Such as 15.18.
        in_recovery: A standby.
    """

    system_identifier: str
    dbname: str
    server_version: str
    major: int
    in_recovery: bool


@dataclass(frozen=True)
class Properties:
    """What a database must be created with, and who may do what with it.

    Args:
        locale_provider: `c` libc, `i` ICU, `b` builtin.
        locale: The provider's own, if it is not libc.
        icu_rules: Further rules of an ICU collation that is the default.
        collation_version: Of the default collation, as its provider told when the database was made.
        needs_icu: An ICU collation is the default or in use.
        access_privileges: The items of pg_database.datacl; empty means the default ones.
    """

    encoding: str
    collate: str
    ctype: str
    locale_provider: Literal["c", "i", "b"]
    locale: str | None
    icu_rules: str | None
    collation_version: str | None
    needs_icu: bool
    access_privileges: tuple[str, ...]


@dataclass(frozen=True)
class Setting:
    """`ALTER DATABASE … SET`, or with a role `ALTER ROLE … IN DATABASE … SET`."""

    role: str | None
    name: str
    value: str


@dataclass(frozen=True)
class InstalledExtension:
    """An extension of the database."""

    name: str
    version: str


@dataclass(frozen=True)
class Sizes:
    """How large a database is, and its largest tables by (schema, name, bytes as of the last ANALYZE)."""

    database_bytes: int
    largest_tables: tuple[tuple[str, str, int], ...]


def identity(session: Session) -> Identity:
    """Say which database of which server the session is on."""
    oid, dbname, version, major, in_recovery, may_tell = _row(
        session,
        "SELECT oid, datname, split_part(current_setting('server_version'), ' ', 1),"
        " current_setting('server_version_num')::int4 / 10000, pg_is_in_recovery(),"
        " has_function_privilege('pg_control_system()', 'EXECUTE')"
        " FROM pg_database WHERE datname = current_database()",
    )
    if may_tell:
        (identifier,) = _row(session, "SELECT system_identifier::text FROM pg_control_system()")
    else:
        info = session.info
        place = f"{info.get_parameters().get('host', '')}:{info.port}/{oid}"
        identifier = f"host-{hashlib.sha256(place.encode()).hexdigest()[:16]}"
    return Identity(identifier, dbname, version, major, in_recovery)


def properties(session: Session) -> Properties:
    """Read what a database must be created with to take this one's dump."""
    major = session.info.server_version // 10_000
    provider = "datlocprovider::text" if major >= 15 else "'c'"
    locale = "datlocale" if major >= 17 else "daticulocale" if major >= 15 else "NULL"
    rules = "daticurules" if major >= 16 else "NULL"
    version = "datcollversion" if major >= 15 else "NULL"
    (row,) = _rows(
        session,
        "SELECT pg_encoding_to_char(encoding), datcollate, datctype,"  # noqa: S608 - constants
        f" {provider}, {locale}, {rules}, {version},"
        " coalesce(datacl::text[], '{}') FROM pg_database WHERE datname = current_database()".encode(),
    )
    encoding, collate, ctype, locale_provider, own_locale, icu_rules, collation_version, privileges = row
    (uses_icu,) = _row(session, _USES_ICU)
    return Properties(
        encoding=encoding,
        collate=collate,
        ctype=ctype,
        locale_provider=locale_provider,
        locale=own_locale,
        icu_rules=icu_rules,
        collation_version=collation_version,
        needs_icu=uses_icu or locale_provider == "i",
        access_privileges=tuple(privileges),
    )


def database_settings(session: Session) -> list[Setting]:
    """List what ALTER DATABASE and ALTER ROLE IN DATABASE set; a dump restored without --create loses it."""
    return [Setting(*row) for row in _rows(session, _SETTINGS)]


def extensions(session: Session) -> list[InstalledExtension]:
    """List the database's extensions with their versions."""
    rows = _rows(session, "SELECT extname, extversion FROM pg_extension ORDER BY extname")
    return [InstalledExtension(*row) for row in rows]


def roles(session: Session) -> list[str]:
    """List the server's roles, without those that PostgreSQL itself brings."""
    rows = _rows(session, "SELECT rolname FROM pg_roles WHERE rolname !~ '^pg_' ORDER BY rolname")
    return [name for (name,) in rows]


def roles_in_use(session: Session) -> list[str]:
    """List the roles that own something in the database, or that a right or a policy in it speaks of.

    PostgreSQL keeps no account of the role that initdb made; it counts if it owns a large object.
    """
    return [name for (name,) in _rows(session, _ROLES_IN_USE)]


def occupants(session: Session) -> list[tuple[str, int]]:
    """Count what a restore could collide with, by kind; an empty list means an empty database."""
    return [(what, number) for what, number in _rows(session, _OCCUPANTS)]


def sizes(session: Session, *, largest: int = 10) -> Sizes:
    """Return the database's size on the server's disk, and its largest tables with their TOAST."""
    (database_bytes,) = _row(session, "SELECT pg_database_size(current_database())")
    rows = _rows(session, _LARGEST, largest)
    return Sizes(database_bytes, tuple((schema, name, size) for schema, name, size in rows))


def _rows(session: Session, query: LiteralString | bytes, *parameters: object) -> list[tuple[Any, ...]]:
    with translated("reading the database's properties"):
        return session.execute(query, parameters or None).fetchall()


def _row(session: Session, query: LiteralString | bytes) -> tuple[Any, ...]:
    return _rows(session, query)[0]
