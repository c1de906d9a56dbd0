"""A plan's own question to a restored database, asked so that it can change nothing."""

from dataclasses import dataclass

import psycopg
from psycopg import sql

from blocks.errors import ConnectionLost
from blocks.postgres import Session
from blocks.server_errors import database_error, translated

_OVERDUE = "57014"
_DOING = "asking the plan's questions"


@dataclass(frozen=True)
class AssertionOutcome:
    """What came of a question.

    Args:
        rows: 0, 1, or 2 for any more.
        value: The only column of the only row, else None.
        error: SQLSTATE and its name, if it could not be answered; the server's message may quote a row.
    """

    rows: int = 0
    columns: int = 0
    value: object = None
    error: str = ""

    @property
    def is_overdue(self) -> bool:
        return self.error.startswith(_OVERDUE)


def run_assertion(session: Session, query: str, timeout_seconds: float) -> AssertionOutcome:
    """Ask one question in a transaction that is read-only and rolled back, and fetch two rows at most.

    It is declared as a cursor by the extended protocol: several statements, COMMIT, and whatever else is no
    SELECT is refused by the server itself. Names without a schema are looked for in `public`, so the session
    must have no power that a function found there could use.

    Raises:
        ConnectionLost: The session ended meanwhile.
    """
    with translated(_DOING), session.transaction(force_rollback=True):
        session.execute("SET TRANSACTION READ ONLY")
        session.execute("""SET LOCAL search_path = "$user", public""")
        milliseconds = max(1, round(timeout_seconds * 1000))
        session.execute(sql.SQL("SET LOCAL statement_timeout = {}").format(milliseconds))
        try:
            return _answer(session, query)
        except psycopg.Error as error:
            if isinstance(database_error(error, _DOING), ConnectionLost):
                raise
            return AssertionOutcome(error=f"{error.sqlstate or 'unreadable'} {type(error).__name__}")


def _answer(session: Session, query: str) -> AssertionOutcome:
    with session.transaction(), session.cursor(name="pgsalvo_assertion") as cursor:
        cursor.execute(query.encode())
        rows = cursor.fetchmany(2)
        columns = len(cursor.description or ())
    is_single = len(rows) == 1 and columns == 1
    return AssertionOutcome(len(rows), columns, rows[0][0] if is_single else None)
