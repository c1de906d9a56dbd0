"""`ALTER DATABASE … SET`, which pg_restore without `--create` does not bring back."""

from collections.abc import Iterable

from psycopg import sql

from blocks.postgres import Session
from blocks.server_errors import translated

# These take a list of identifiers or names, each quoted by itself; the catalogue holds them joined.
_LISTS = {
    "local_preload_libraries",
    "search_path",
    "session_preload_libraries",
    "shared_preload_libraries",
    "temp_tablespaces",
    "unix_socket_directories",
}


def apply_settings(session: Session, settings: Iterable[tuple[str | None, str, str]]) -> None:
    """Set what each (role, name, value) says for the session's database, or for the role in it.

    Raises:
        DatabaseError: The role may not, or another role named here does not exist.
    """
    for role, name, value in settings:
        database = sql.Identifier(session.info.dbname)
        subject = (
            sql.SQL("DATABASE {}").format(database)
            if role is None
            else sql.SQL("ROLE {} IN DATABASE {}").format(sql.Identifier(role), database)
        )
        with translated(f"setting {name}"):
            session.execute(
                sql.SQL("ALTER {} SET {} TO {}").format(
                    subject, sql.Identifier(*name.split(".")), _value(name, value)
                )
            )


def _value(name: str, value: str) -> sql.Composable:
    if name.lower() not in _LISTS:
        return sql.Literal(value)
    # The catalogue's own quoting of each item is SQL already, as in "$user", public.
    return sql.SQL(value) if value else sql.Literal("")
