"""What a scratch database sorts by, and whether the source's collations are to be had here.

A locale belongs to the operating system or to ICU, not to PostgreSQL: another host may not have it, or sort
by another version of it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import psycopg
from psycopg import errors, sql

Session: TypeAlias = "psycopg.Connection[tuple[Any, ...]]"

# What CREATE DATABASE says to a locale, a provider, or a clause that only a later major knows.
NOT_HERE = (
    errors.WrongObjectType,
    errors.InvalidParameterValue,
    errors.FeatureNotSupported,
    errors.SyntaxError,
)

_PROVIDERS = {"c": "libc", "i": "icu", "b": "builtin"}
_VERSION = """
    SELECT pg_database_collation_actual_version(oid) FROM pg_database WHERE datname = current_database()"""
# Of a schema on no search path, which is pg_catalog: whatever bears a schema's name comes with the dump.
_LACKING = """
    SELECT name FROM unnest(%s::text[]) AS name
    WHERE name ~ '^("([^"]|"")+"|[^".]+)$' AND to_regcollation(name) IS NULL"""


@dataclass(frozen=True)
class ProviderLocale:
    """The locale of a database that does not sort by the C library.

    Args:
        provider: `i` ICU (from 15), `b` builtin (from 17).
        rules: Further rules of ICU's (from 16).
    """

    provider: Literal["i", "b"]
    locale: str
    rules: str | None = None

    @property
    def name(self) -> str:
        return f"{self.locale} of the provider {_PROVIDERS[self.provider]}"


@dataclass(frozen=True)
class OwnCollation:
    """A collation that a dump creates.

    Args:
        provider: `c` libc, `i` ICU, `b` builtin; anything else needs nothing.
        locale: ICU's or the builtin provider's.
        collate: libc's, as `ctype`.
    """

    name: str
    provider: str
    locale: str = ""
    collate: str = ""
    ctype: str = ""


def locale_clauses(major: int, collate: str, ctype: str, own: ProviderLocale | None) -> sql.Composed:
    """Return the end of CREATE DATABASE; a major refuses what it does not know of yet."""
    clauses = [("LC_COLLATE", collate), ("LC_CTYPE", ctype)]
    if own is not None:
        clauses.append(("LOCALE_PROVIDER", _PROVIDERS[own.provider]))
        clauses.append(("ICU_LOCALE" if own.provider == "i" else "BUILTIN_LOCALE", own.locale))
        clauses += [("ICU_RULES", own.rules)] if own.rules is not None else []
    elif major >= 15:  # the template's own may be another
        clauses.append(("LOCALE_PROVIDER", "libc"))
    return sql.Composed(
        [sql.SQL(" {} {}").format(sql.SQL(word), sql.Literal(value)) for word, value in clauses]
    )


def collation_version(session: Session) -> str | None:
    """Return the version of what a database sorts by; None where there is none, as with C."""
    if session.info.server_version < 150_000:
        return None
    row = session.execute(_VERSION).fetchone()
    return str(row[0]) if row and row[0] is not None else None


def lacking_collations(session: Session, used: Iterable[str], made: Iterable[OwnCollation]) -> list[str]:
    """Return the collations of a dump that are not to be had in its empty scratch database.

    Args:
        used: As PostgreSQL writes their names.
        made: Each of them is tried.
    """
    lacking = [name for (name,) in session.execute(_LACKING, [sorted(set(used))])]
    return lacking + [collation.name for collation in made if not _can_be_made(session, collation)]


def _can_be_made(session: Session, collation: OwnCollation) -> bool:
    if collation.provider not in _PROVIDERS:
        return True
    libc = (("lc_collate", collation.collate), ("lc_ctype", collation.ctype))
    options = libc if collation.provider == "c" else (("locale", collation.locale),)
    clauses = sql.SQL("").join(sql.SQL(", {} = {}").format(sql.SQL(k), sql.Literal(v)) for k, v in options)
    create = sql.SQL("CREATE COLLATION pg_temp.tried (provider = {}{})")
    try:
        with session.transaction(force_rollback=True):
            session.execute(create.format(sql.SQL(_PROVIDERS[collation.provider]), clauses))
    except (*NOT_HERE, errors.UndefinedObject):
        return False
    return True
