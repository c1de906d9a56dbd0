"""Roles that tests back up with."""

from psycopg import sql

from tests.servers.postgres import PostgresServer

ROLE_PASSWORD = "p:a\\s s'w\"ö"
HOSTILE_SETTINGS = {
    "statement_timeout": "300ms",
    "lock_timeout": "300ms",
    "idle_in_transaction_session_timeout": "300ms",
    "idle_session_timeout": "300ms",
    "row_security": "on",
    "search_path": "public",
    "DateStyle": "SQL, DMY",
    "TimeZone": "Asia/Kolkata",
}


def create_limited_role(server: PostgresServer, name: str, *, bypass_row_security: bool = False) -> None:
    """Create a role as hosted databases give out: no superuser, no pg_authid, and short time-outs."""
    settings = HOSTILE_SETTINGS | ({"transaction_timeout": "300ms"} if server.major >= 17 else {})
    role = sql.Identifier(name)
    with server.connect() as session:
        session.execute(
            sql.SQL("CREATE ROLE {} LOGIN NOSUPERUSER {} PASSWORD {}").format(
                role, sql.SQL("BYPASSRLS" if bypass_row_security else "NOBYPASSRLS"), ROLE_PASSWORD
            )
        )
        for setting, value in settings.items():
            values = sql.SQL(", ").join(map(sql.Literal, value.split(", ")))
            session.execute(
                sql.SQL("ALTER ROLE {} SET {} = {}").format(role, sql.Identifier(setting), values)
            )


def drop_role(server: PostgresServer, name: str) -> None:
    """Drop a role that owns nothing any more in any database."""
    with server.connect() as session:
        session.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(name)))
