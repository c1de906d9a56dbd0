"""Indexes held against their tables, by PostgreSQL's own amcheck, without a superuser's power."""

import secrets
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, LiteralString, cast

from psycopg import sql

from blocks.asking import Refusal, ask, refuse_power
from blocks.inventory import Progress
from blocks.postgres import Session
from blocks.scratch_roles import without_event_triggers
from blocks.server_errors import translated

SCHEMA_BEGINS = "pgsalvo_amcheck_"

_CORRUPTED = ("XX001", "XX002")
_MEMBERS = """
    SELECT n.nspname, p.proname, p.pronargs, p.oid::regprocedure::text
    FROM pg_extension e
    JOIN pg_namespace n ON n.oid = e.extnamespace
    JOIN pg_depend d ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
                    AND d.classid = 'pg_proc'::regclass AND d.deptype = 'e'
    JOIN pg_proc p ON p.oid = d.objid
    WHERE e.extname = 'amcheck'"""
_IS_AVAILABLE = "SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'amcheck')"
_INDEXES = """
    SELECT i.indexrelid::int8, n.nspname, x.relname, t.relname, a.amname, r.rolsuper
    FROM pg_index i
    JOIN pg_class x ON x.oid = i.indexrelid
    JOIN pg_class t ON t.oid = i.indrelid
    JOIN pg_namespace n ON n.oid = x.relnamespace
    JOIN pg_am a ON a.oid = x.relam
    JOIN pg_roles r ON r.oid = t.relowner
    WHERE i.indisvalid AND i.indisready AND x.relkind = 'i' AND t.relkind IN ('r', 'm')
      AND x.relpersistence <> 't' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
    ORDER BY n.nspname, x.relname"""
# By the function's name and how many arguments it takes; the last that is there is the most thorough.
_CHECKS: dict[tuple[str, int], tuple[str, LiteralString]] = {
    ("bt_index_check", 2): ("btree", "SELECT {}.bt_index_check({}::oid::regclass, true)"),
    ("bt_index_check", 3): ("btree", "SELECT {}.bt_index_check({}::oid::regclass, true, true)"),
    ("gin_index_check", 1): ("gin", "SELECT {}.gin_index_check({}::oid::regclass)"),
}


@dataclass(frozen=True)
class CorruptIndex:
    """An index that does not fit its table, or that is broken in itself."""

    schema: str
    name: str
    table: str


@dataclass(frozen=True)
class IndexesChecked:
    """How many indexes were checked, which of them are corrupt, and what was not checked and why."""

    checked: int
    corrupt: list[CorruptIndex]
    notes: list[str]


def install_amcheck(superuser_session: Session, role: str) -> bool:
    """Let a role use amcheck; return False where the server does not have it.

    It comes into a schema of its own, unless the database brought it along: call this when the objects have
    been read, for it adds to them. Meanwhile no event trigger of the database runs, since its code would have
    the superuser's power.

    Args:
        superuser_session: In autocommit mode.
    """
    with translated("installing amcheck"), without_event_triggers(superuser_session):
        return _install(superuser_session, sql.Identifier(role))


def corrupt_indexes(
    session: Session, progress: Progress = lambda *_: None, *, statement_seconds: float = 3_600
) -> IndexesChecked:
    """Hold every valid btree index, and with PostgreSQL 18 every GIN index, against its table.

    An expression runs with the power of the table's owner, so a superuser's tables are left out.

    Args:
        session: In autocommit mode, of the role that `install_amcheck` let use it.
        progress: Called with the indexes looked at so far and their number.
        statement_seconds: How long one index may take; one that takes longer is not checked.

    Raises:
        ConfigurationError: The session has a superuser's power.
        ConnectionLost: It ended meanwhile.
    """
    refuse_power(session)
    with translated("listing indexes"):
        checks = _checks(session.execute(_MEMBERS).fetchall())
        indexes = session.execute(_INDEXES).fetchall()
    if not checks:
        return IndexesChecked(0, [], ["no index was checked: the server has no amcheck"])
    wanted = [index for index in indexes if index[4] in checks and not index[5]]
    result = IndexesChecked(len(wanted), [], list(_left_out(indexes, checks)))
    refused = 0
    progress(0, len(wanted))
    for done, (oid, schema, name, table, method, _) in enumerate(wanted, 1):
        query, home = checks[method]
        call = sql.SQL(query).format(sql.Identifier(home), sql.Literal(oid))
        answer = ask(session, call, statement_seconds)
        if isinstance(answer, Refusal) and answer.sqlstate in _CORRUPTED:
            result.corrupt.append(CorruptIndex(schema, name, table))
        elif isinstance(answer, Refusal):
            refused += 1
            result.notes.append(f"index {name} of {schema}.{table} was not checked: {answer.why}")
        progress(done, len(wanted))
    return IndexesChecked(len(wanted) - refused, result.corrupt, result.notes)


def _left_out(indexes: Iterable[tuple[Any, ...]], checks: Collection[str]) -> Iterator[str]:
    """Yield how many indexes are not looked at, and why."""
    unknown = [index[4] for index in indexes if index[4] not in checks]
    if unknown:
        methods = ", ".join(sorted(set(unknown)))
        yield f"indexes that were not checked, for amcheck does not know {methods}: {len(unknown):,}"
    if powerful := sum(index[4] in checks and index[5] for index in indexes):
        yield f"indexes that were not checked, for their tables belong to a superuser: {powerful:,}"


def _install(session: Session, role: sql.Identifier) -> bool:
    members = session.execute(_MEMBERS).fetchall()
    if not members:
        if session.execute(_IS_AVAILABLE).fetchone() != (True,):
            return False
        schema = sql.Identifier(f"{SCHEMA_BEGINS}{secrets.token_hex(4)}")
        session.execute(sql.SQL("CREATE SCHEMA {}").format(schema))
        session.execute(sql.SQL("CREATE EXTENSION amcheck SCHEMA {}").format(schema))
        members = session.execute(_MEMBERS).fetchall()
    session.execute(sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(sql.Identifier(members[0][0]), role))
    for *_, signature in members:
        function = sql.SQL(cast(LiteralString, signature))
        session.execute(sql.SQL("GRANT EXECUTE ON FUNCTION {} TO {}").format(function, role))
    return True


def _checks(members: Iterable[tuple[str, str, int, str]]) -> dict[str, tuple[LiteralString, str]]:
    """Return by access method (the query that checks an index, amcheck's schema)."""
    there = {(name, arguments): schema for schema, name, arguments, _ in members}
    return {
        method: (query, there[function]) for function, (method, query) in _CHECKS.items() if function in there
    }
