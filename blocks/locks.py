"""The locks of a backup: one that keeps other backups out, and one on each table; and who is in the way."""

import hashlib
import time
from collections.abc import Callable, Sequence

from psycopg import sql

from blocks.errors import BackupLockHeld, LockNotGranted
from blocks.inventory import Table
from blocks.postgres import Session
from blocks.selection import qualified
from blocks.server_errors import translated

POLL_SECONDS = 2.0
NOTICE_SECONDS = 60.0

_ADVISORY = sql.SQL(
    "l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 AND l.classid = {} AND l.objid = {}"
)
_EXCLUSIVE = sql.SQL(
    "l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock' AND l.relation = ANY ({}::oid[])"
)
_HOLDER = sql.SQL("""
    SELECT l.relation, l.pid, a.application_name, a.usename, a.backend_start
    FROM pg_locks l
    LEFT JOIN pg_stat_activity a ON a.pid = l.pid
    WHERE l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND l.pid IS DISTINCT FROM pg_backend_pid() AND {}
    ORDER BY l.granted DESC
    LIMIT 1""")


def lock_key(lock_name: str) -> int:
    """Return the 64-bit signed key of the advisory lock with this name."""
    return int.from_bytes(hashlib.sha256(lock_name.encode()).digest()[:8], "big", signed=True)


def take_backup_lock(
    session: Session, lock_name: str, busy_timeout_seconds: float, on_wait: Callable[[str], None]
) -> None:
    """Take the advisory lock that one backup of a database holds at a time, until the session ends.

    Args:
        on_wait: Told who holds it, at first and then once a minute.

    Raises:
        BackupLockHeld: It did not become free in time.
    """
    started = time.monotonic()
    told_at = -NOTICE_SECONDS
    while not _try_backup_lock(session, lock_name):
        waited = time.monotonic() - started
        holder = _backup_lock_holder(session, lock_name)
        if waited >= busy_timeout_seconds:
            raise BackupLockHeld(
                f"another backup of {lock_name}, by {holder}, did not end within {busy_timeout_seconds:g} s",
                "wait for it; if nothing runs any more, end its session with pg_terminate_backend",
            )
        if waited - told_at >= NOTICE_SECONDS:
            on_wait(f"waiting for another backup of {lock_name}, by {holder}")
            told_at = waited
        time.sleep(min(POLL_SECONDS, busy_timeout_seconds - waited))


def lock_tables(session: Session, tables: Sequence[Table], wait_seconds: float) -> None:
    """Lock all tables in the transaction that is open, in ACCESS SHARE mode; takes no snapshot.

    Raises:
        TablesChanged: One of them is gone.
        LockNotGranted: One stayed locked for longer than `wait_seconds`. The transaction is rolled back.
    """
    names = [sql.SQL("ONLY {}").format(sql.Identifier(table.schema, table.name)) for table in tables]
    try:
        with translated("locking the tables"):
            session.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(int(wait_seconds * 1000)))
            if names:
                session.execute(
                    sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(sql.SQL(", ").join(names))
                )
            session.execute("SET LOCAL lock_timeout = 0")
    except LockNotGranted as error:
        table, holder = _table_holder(session, tables)
        raise LockNotGranted(
            f"{table} stayed locked for longer than {wait_seconds:g} s: {holder} holds it or waits for it",
            error.hint,
        ) from None


def _try_backup_lock(session: Session, lock_name: str) -> bool:
    with translated("taking the backup's lock"):
        row = session.execute("SELECT pg_try_advisory_lock(%s)", [lock_key(lock_name)]).fetchone()
    return row is not None and bool(row[0])


def _backup_lock_holder(session: Session, lock_name: str) -> str:
    _, holder = _holder(session, _ADVISORY.format(*divmod(lock_key(lock_name) % (1 << 64), 1 << 32)))
    return holder


def _table_holder(session: Session, tables: Sequence[Table]) -> tuple[str, str]:
    """Say which table is locked against us and by whom, as far as it can still be seen."""
    names = {table.oid: qualified(table.schema, table.name) for table in tables}
    with translated("looking for the holder of a lock"):
        session.execute("ROLLBACK")
    oid, holder = _holder(session, _EXCLUSIVE.format(list(names)))
    return f"the table {names[oid]}" if oid in names else "a table", holder


def _holder(session: Session, condition: sql.Composed) -> tuple[int | None, str]:
    """Return relation and session of the first lock in this database that meets `condition`."""
    with translated("looking for the holder of a lock"):
        row = session.execute(_HOLDER.format(condition)).fetchone()
    if row is None:
        return None, "a session that has ended meanwhile"
    relation, pid, application, user, since = row
    if pid is None:
        return relation, "a prepared transaction (see pg_prepared_xacts)"
    details = [
        *([f"user {user}"] if user else []),
        *([f"application {application}"] if application else []),
        *([f"since {since:%Y-%m-%d %H:%M:%S} UTC"] if since else []),
    ]
    return relation, f"the session with pid {pid}" + (f" ({', '.join(details)})" if details else "")
