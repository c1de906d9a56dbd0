"""One query at a time to a restored database, whose own code the query runs: limited, and rolled back."""

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from blocks.errors import ConfigurationError, ConnectionLost, ScratchError
from blocks.postgres import Session
from blocks.server_errors import database_error, translated

_IS_POWERFUL = "SELECT bool_or(rolsuper) FROM pg_roles WHERE rolname IN (session_user, current_user)"
_SETTINGS = {
    "row_security": "off",
    "search_path": "",
    "constraint_exclusion": "off",  # else the planner takes a check for granted, and looks at no row
}
_SET = """
    SELECT pg_catalog.set_config(name, value, true)
    FROM unnest(%s::text[], %s::text[]) AS settings (name, value)"""
_OVERDUE = "57014"
_SERVERS_OWN_TROUBLE = ("53", "58")  # lack of resources, errors of the system below


@dataclass(frozen=True)
class Refusal:
    """Why the server did not answer, in words that quote no row; `sqlstate` may be empty."""

    sqlstate: str
    why: str


def refuse_power(session: Session) -> None:
    """Raise `ConfigurationError` if code that runs in the session could have a superuser's power."""
    with translated("asking what the role may do"):
        is_powerful = session.execute(_IS_POWERFUL).fetchone() == (True,)
    if is_powerful:
        raise ConfigurationError(
            "the restored database's own code would run as a superuser", "connect as a role without power"
        )


def ask(session: Session, query: sql.Composed, statement_seconds: float) -> list[tuple[Any, ...]] | Refusal:
    """Return the rows, or why there are none; nothing that the query does remains.

    Args:
        session: In autocommit mode.

    Raises:
        ConnectionLost: The session ended meanwhile.
    """
    doing = "checking what was restored"
    limits = _SETTINGS | {"statement_timeout": str(max(1, round(statement_seconds * 1000)))}
    with translated(doing), session.transaction(force_rollback=True):
        session.execute(_SET, [list(limits), list(limits.values())])
        try:
            with session.transaction():
                return session.execute(query).fetchall()
        except psycopg.Error as error:
            if isinstance(database_error(error, doing), ConnectionLost):
                raise
            if (error.sqlstate or "").startswith(_SERVERS_OWN_TROUBLE):
                raise ScratchError(f"the scratch server failed: {type(error).__name__}") from None
            return _refusal(error, statement_seconds)


def analyse(session: Session, seconds: float) -> None:
    """Gather the statistics that queries are planned by; without them a question may take for ever.

    The first table that fails it, or the time limit, ends it; the tables after that stay as they are. A lost
    connection is noticed by the next question.
    """
    milliseconds = max(1, round(seconds * 1000))
    with suppress(psycopg.Error):
        session.execute(sql.SQL("SET statement_timeout = {}").format(milliseconds))
        session.execute("ANALYZE")


def _refusal(error: psycopg.Error, statement_seconds: float) -> Refusal:
    if error.sqlstate == _OVERDUE:
        return Refusal(_OVERDUE, f"it took longer than {statement_seconds:g} s")
    sqlstate = error.sqlstate or ""
    return Refusal(sqlstate, f"the server refused: {sqlstate} {type(error).__name__}")
