"""TimescaleDB's own two steps around a restore, without which its chunks' rows and triggers collide.

Source: TimescaleDB's manual, "Logical backup".
"""

from psycopg import sql

from blocks.postgres import Session

EXTENSION = "timescaledb"

# Only the extension's own: anyone's function may bear this name, and it is a superuser who calls it.
_SCHEMA = """
    SELECT n.nspname FROM pg_proc p
    JOIN pg_namespace n ON n.oid = p.pronamespace
    JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
    JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND e.oid = d.refobjid
    WHERE e.extname = %s AND p.proname = %s AND p.pronargs = 0"""


def before_rows(session: Session) -> None:
    """Call `timescaledb_pre_restore()`, once the extension is there and before any row is."""
    _call(session, "timescaledb_pre_restore")


def after_restore(session: Session) -> None:
    """Call `timescaledb_post_restore()`, after the last index."""
    _call(session, "timescaledb_post_restore")


def _call(session: Session, function: str) -> None:
    """Call it, where there is such an extension; its absence is the restore's own error."""
    for (schema,) in session.execute(_SCHEMA, [EXTENSION, function]).fetchall():
        session.execute(sql.SQL("SELECT {}()").format(sql.Identifier(schema, function)))
