"""What the failures of pg_dump mean, told by what pg_dump 15 and 17 really write."""

import signal

import pytest

from blocks.dump_errors import dump_error
from blocks.errors import (
    ConnectionFailed,
    ConnectionLost,
    DatabaseError,
    LockNotGranted,
    ProgramFailed,
    RightsMissing,
    WorldError,
)

CLOSED = """server closed the connection unexpectedly
\tThis probably means the server terminated abnormally
\tbefore or while processing the request."""


@pytest.mark.parametrize(
    ("stderr", "kind", "remedy"),
    [
        pytest.param(
            "pg_dump: error: query failed: ERROR:  canceling statement due to statement timeout\n"
            'pg_dump: detail: Query was: LOCK TABLE public.t, public."o dd" IN ACCESS SHARE MODE',
            LockNotGranted,
            "lock_wait_seconds",
            id="a lock, waited for too long",
        ),
        pytest.param(
            "pg_dump: error: query failed: FEHLER:  storniere Anfrage wegen Zeitüberschreitung\n"
            "pg_dump: error: query was: LOCK TABLE public.t IN ACCESS SHARE MODE",
            LockNotGranted,
            "lock_wait_seconds",
            id="the same from an older one, of a server that speaks German",
        ),
        pytest.param(
            "pg_dump: error: query failed: ERROR:  out of shared memory\n"
            "pg_dump: detail: Query was: LOCK TABLE public.t IN ACCESS SHARE MODE",
            DatabaseError,
            "max_locks_per_transaction",
            id="no room for locks",
        ),
        pytest.param(
            f'pg_dump: error: Dumping the contents of table "t" failed: PQgetCopyData() failed.\n'
            f"pg_dump: detail: Error message from server: {CLOSED}\n"
            "pg_dump: detail: Command was: COPY public.t (n, pad) TO stdout;",
            ConnectionLost,
            "server's log",
            id="a session terminated amid the rows",
        ),
        pytest.param(
            "pg_dump: error: query failed: FATAL:  terminating connection due to administrator command\n"
            f"{CLOSED}\n"
            "pg_dump: detail: Query was: LOCK TABLE public.t IN ACCESS SHARE MODE",
            ConnectionLost,
            "server's log",
            id="a session terminated while it waited for a lock",
        ),
        pytest.param(
            'pg_dump: error: Dumping the contents of table "t" failed: PQgetResult() failed.\n'
            "pg_dump: detail: Error message from server: "
            "ERROR:  canceling statement due to conflict with recovery",
            ConnectionLost,
            "standby",
            id="a standby's recovery",
        ),
        pytest.param(
            'pg_dump: error: query failed: ERROR:  snapshot "00000004-00000008-1" does not exist\n'
            "pg_dump: detail: Query was: SET TRANSACTION SNAPSHOT '00000004-00000008-1'",
            ConnectionLost,
            "server's log",
            id="a snapshot that is gone",
        ),
        pytest.param(
            'pg_dump: error: connection to server at "127.0.0.1", port 5432 failed: FATAL:  '
            'database "nope" does not exist',
            ConnectionFailed,
            "check dbname",
            id="no connection",
        ),
        pytest.param(
            'pg_dump: error: connection to server at "127.0.0.1", port 5432 failed: FATAL:  '
            "the database system is shutting down",
            ConnectionLost,
            "wait",
            id="a server that restarts",
        ),
        pytest.param(
            "pg_dump: error: query failed: ERROR:  permission denied for large object 16397",
            RightsMissing,
            "pgsalvo doctor",
            id="a right is missing",
        ),
        pytest.param("pg_dump: terminated by user", ProgramFailed, "dmesg", id="SIGTERM"),
        pytest.param(
            "pg_dump: error: no matching tables", ProgramFailed, "pgsalvo doctor", id="anything else"
        ),
        pytest.param("", ProgramFailed, "pgsalvo doctor", id="not a word"),
    ],
)
def test_what_a_failed_pg_dump_says_tells_what_failed(
    stderr: str, kind: type[WorldError], remedy: str
) -> None:
    error = dump_error("pg_dump", 1, stderr.splitlines())
    assert type(error) is kind
    assert error.message.startswith("pg_dump") or "before pg_dump" in error.message
    assert remedy in error.hint


def test_a_pg_dump_that_was_killed_says_so_whatever_it_wrote() -> None:
    error = dump_error("pg_dump", -signal.SIGKILL, ["pg_dump: error: query failed"])
    assert type(error) is ProgramFailed
    assert error.message == "pg_dump was ended by SIGKILL: pg_dump: error: query failed"


def test_no_rows_value_of_the_servers_details_is_passed_on() -> None:
    lines = [
        "pg_dump: error: query failed: ERROR:  something",
        "DETAIL:  Failing row contains (1, secret).",
        "CONTEXT:  SQL function, secret",
        "pg_dump: detail: Query was: SELECT secret",
    ]
    assert "secret" not in str(dump_error("pg_dump", 1, lines))
