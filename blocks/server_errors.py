"""What a PostgreSQL error means to us. Of a server's message only the SQLSTATE and the primary line are used.

DETAIL and CONTEXT may hold row values, and psycopg's exceptions carry them: ours are raised `from None`.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from blocks.errors import (
    ConnectionFailed,
    ConnectionLost,
    DatabaseError,
    LockNotGranted,
    PoolerInBetween,
    RightsMissing,
    TablesChanged,
)

POOLER_REMEDY = (
    "give the address of the PostgreSQL server itself, not that of PgBouncer or another pooler "
    "(hosted databases offer a direct or session address beside the pooled one)"
)
LOST_HINT = (
    "the server's log tells who or what ended it: a restart, an administrator, a time-out, "
    "a standby's recovery; then try again"
)
LOCK_HINT = "let the other session end, or raise lock_wait_seconds"
RIGHTS_HINT = "run `pgsalvo doctor`, which prints the GRANT statements that are missing"
MEMORY_HINT = "raise max_locks_per_transaction on the server (needs a restart), or its memory"
_LOST = re.compile(r"08...|57P0[1-5]|40001|25P0[34]")
_BY_SQLSTATE: dict[str, tuple[type[DatabaseError], str]] = {
    "55P03": (LockNotGranted, LOCK_HINT),
    "40P01": (LockNotGranted, LOCK_HINT),
    "42501": (RightsMissing, RIGHTS_HINT),
    "42P01": (TablesChanged, "keep migrations and backups apart"),
    "3F000": (TablesChanged, "keep migrations and backups apart"),
    "53200": (DatabaseError, MEMORY_HINT),
    "53100": (DatabaseError, "free some space on the server's disk"),
}
_CONNECTION_HINTS = (
    ("unsupported startup parameter", POOLER_REMEDY),
    ("password authentication failed", "check user and password"),
    ("no password supplied", "set the password in the conninfo or in `password`"),
    ("no pg_hba.conf entry", "add a line for this host to the server's pg_hba.conf, or try sslmode=require"),
    ("certificate", "check sslmode, sslrootcert and the host's name"),
    ("SSL", "check sslmode: the server and the conninfo do not agree on TLS"),
    ("too many c", "raise the server's or the role's connection limit, or run the backup at another hour"),
    ("remaining connection slots", "raise max_connections, or run the backup at another hour"),
    ("refused", "check host and port, and that the server runs and listens there"),
    ("No such file or directory", "check host and port, and that the server runs and listens there"),
    ("timeout", "check host and port, and the firewalls in between"),
    ("resolve host", "check the host's name"),
    ("translate host name", "check the host's name"),
    ("is not permitted to log in", "ALTER ROLE … LOGIN, or use another user"),
    ("permission denied for database", "GRANT CONNECT ON DATABASE … TO the user"),
    ("does not exist", "check dbname and user"),
)  # fmt: skip
_PASSING = re.compile(
    r"the database system is (?:starting up|shutting down|in recovery mode|not yet accepting)"
)


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Turn what psycopg raises inside into a `DatabaseError` that says what was being done."""
    try:
        yield
    except psycopg.Error as error:
        raise database_error(error, doing) from None


def database_error(error: psycopg.Error, doing: str) -> DatabaseError:
    """Return the `DatabaseError` for what a session ran into."""
    if error.sqlstate is None and isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return ConnectionLost(f"the connection broke while {doing}: {_first_line(error)}", LOST_HINT)
    said = error.diag.message_primary or type(error).__name__
    sqlstate = error.sqlstate or ""
    if _LOST.fullmatch(sqlstate):
        return ConnectionLost(f"the server ended the session while {doing}: {said}", LOST_HINT)
    kind, hint = _BY_SQLSTATE.get(sqlstate, (DatabaseError, ""))
    return kind(f"the server refused while {doing}: {said} ({sqlstate or 'no SQLSTATE'})", hint)


def connection_error(error: psycopg.Error, dbname: str) -> DatabaseError:
    """Return the `DatabaseError` for a connection that did not come about."""
    return not_connected(
        _first_line(error), f"cannot connect to the database{f' {dbname}' if dbname else ''}"
    )


def not_connected(said: str, what: str) -> DatabaseError:
    """Return the `DatabaseError` for what libpq said of a connection that did not come about.

    There is no SQLSTATE then, only text, and a server may speak another language: hints go by keyword.
    """
    message = f"{what}: {said}"
    if _PASSING.search(said):
        return ConnectionLost(message, "wait until the server is up")
    hint = next((hint for mark, hint in _CONNECTION_HINTS if mark.lower() in said.lower()), "")
    return PoolerInBetween(message, hint) if hint == POOLER_REMEDY else ConnectionFailed(message, hint)


def _first_line(error: psycopg.Error) -> str:
    line = str(error).partition("\n")[0].strip()
    return re.sub(r"^connection (?:failed|is bad): |(?<=failed: )FATAL: +", "", line)
