"""`ALTER DATABASE … SET` and rights on a database, which pg_restore without `--create` leaves out."""

import re
from collections.abc import Iterable, Sequence
from typing import LiteralString

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

_LIST_ITEM = re.compile(r'"(?P<quoted>(?:[^"]|"")*)"|(?P<plain>[^",\s]+)')
_PRIVILEGES: dict[str, LiteralString] = {"C": "CREATE", "T": "TEMPORARY", "c": "CONNECT"}
_ACL_ITEM = re.compile(r'(?:"(?P<quoted>(?:[^"]|"")*)"|(?P<plain>[^"=]*))=(?P<letters>[^/]*)/.*', re.DOTALL)


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


def apply_privileges(session: Session, items: Sequence[str]) -> None:
    """Give the session's database the rights that `items` of pg_database.datacl tell of, and no others.

    No items are the default rights, which a new database has.

    Raises:
        DatabaseError: The role may not, or a role named here does not exist.
    """
    if not items:
        return
    database = sql.Identifier(session.info.dbname)
    with translated("granting rights on the database"):
        session.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(database))
        for item in items:
            role, privileges = _privileges(item)
            for privilege, may_grant in privileges:
                session.execute(
                    sql.SQL("GRANT {} ON DATABASE {} TO {}{}").format(
                        sql.SQL(privilege),
                        database,
                        sql.Identifier(role) if role else sql.SQL("PUBLIC"),
                        sql.SQL(" WITH GRANT OPTION" if may_grant else ""),
                    )
                )


def _privileges(item: str) -> tuple[str, list[tuple[LiteralString, bool]]]:
    """Return (role, empty for everybody; its privileges, each with whether it may be passed on)."""
    found = _ACL_ITEM.fullmatch(item)
    if found is None:
        raise ValueError("not an item of a list of access rights")
    role = found["quoted"].replace('""', '"') if found["quoted"] else found["plain"] or ""
    given = re.findall(r"([CTc])(\*?)", found["letters"])
    return role, [(_PRIVILEGES[letter], bool(star)) for letter, star in given]


def _value(name: str, value: str) -> sql.Composable:
    if name.lower() not in _LISTS:
        return sql.Literal(value)
    # as literals, which may be empty: search_path = '' is stored as an identifier of no length
    items = (
        found["quoted"].replace('""', '"') if found["plain"] is None else found["plain"]
        for found in _LIST_ITEM.finditer(value)
    )
    return sql.SQL(", ").join(map(sql.Literal, items)) if value else sql.Literal("")
