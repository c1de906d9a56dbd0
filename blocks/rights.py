"""Whether a role may read all that a backup needs, and whether the server has room for its locks.

Only looked at, nothing is changed. Each finding comes with the statement that mends it.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any, Literal

from psycopg import sql

from blocks.inventory import take_inventory
from blocks.postgres import Session
from blocks.selection import Selection, qualified, quoted
from blocks.server_errors import translated

CLOCK_TOLERANCE_SECONDS = 300
_LISTED = 5
_GRANTED_ONE_BY_ONE = 20
_SPARE = 1.25
_RIGHTS = """
    SELECT n.nspname, c.relname, c.relkind::text,
           has_schema_privilege(n.oid, 'USAGE'),
           CASE c.relkind WHEN 'S' THEN has_sequence_privilege(c.oid, 'SELECT')
                          ELSE has_table_privilege(c.oid, 'SELECT') END,
           row_security_active(c.oid),
           c.relforcerowsecurity,
           pg_get_userbyid(c.relowner)
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.oid = ANY (%s::oid[])
    ORDER BY n.nspname, c.relname"""
_UNREADABLE_LARGE_OBJECTS = """
    SELECT oid FROM pg_largeobject_metadata
    WHERE NOT current_setting('lo_compat_privileges')::bool
      AND NOT pg_has_role(lomowner, 'USAGE')
      AND NOT EXISTS (SELECT FROM aclexplode(lomacl)
                      WHERE privilege_type = 'SELECT' AND (grantee = 0 OR pg_has_role(grantee, 'USAGE')))
    ORDER BY oid"""
_GRANT_ALL_LARGE_OBJECTS = sql.SQL(
    "DO $do$ DECLARE o oid; BEGIN FOR o IN SELECT oid FROM pg_largeobject_metadata LOOP"
    " EXECUTE format('GRANT SELECT ON LARGE OBJECT %s TO %I', o, {}); END LOOP; END $do$;"
)
_SERVER = """
    SELECT current_user, has_table_privilege('pg_authid', 'SELECT'), r.rolsuper,
           (SELECT count(*) FROM pg_subscription
            WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())),
           current_setting('max_locks_per_transaction')::int4,
           current_setting('max_connections')::int4 + current_setting('max_prepared_transactions')::int4
    FROM pg_roles r WHERE r.rolname = current_user"""


@dataclass(frozen=True)
class RightProblem:
    """Something that a backup would lack, and what to run or do about it.

    Args:
        severity: `error` if the backup would fail, `warning` if it would hold less than one may think.
    """

    message: str
    remedy: str
    severity: Literal["error", "warning"] = "error"


@dataclass(frozen=True)
class _Right:
    schema: str
    name: str
    kind: str
    may_use_schema: bool
    may_read: bool
    is_row_security_active: bool
    is_row_security_forced: bool
    owner: str


def check_rights(
    session: Session, selection: Selection, *, now: datetime, sessions: int = 2
) -> list[RightProblem]:
    """Return what is missing for a backup of `selection`, errors first.

    Args:
        now: Our clock, UTC-aware, to compare with the server's.
        sessions: That will hold a lock on each table at once: the snapshot's and pg_dump's.
    """
    clock = _clock_problems(session, now)
    inventory = take_inventory(session, selection)
    with translated("checking the role's rights"):
        oids = [*(table.oid for table in inventory.tables), *(one.oid for one in inventory.sequences)]
        rights = [_Right(*row) for row in session.execute(_RIGHTS, [oids])]
        role, may_read_passwords, is_superuser, subscriptions, locks, transactions = _only(session, _SERVER)
    problems = [
        *_schema_problems(rights, role),
        *_read_problems(rights, role, session.info.server_version // 10_000),
        *_row_security_problems(rights, role),
        *_large_object_problems(session, selection, role),
        *lock_problems(len(inventory.tables), len(inventory.sequences), sessions, locks, transactions),
        *clock,
        *([] if may_read_passwords else [_PASSWORDS]),
        *([] if is_superuser or not subscriptions else [_SUBSCRIPTIONS]),
    ]
    return sorted(problems, key=lambda problem: problem.severity)


def may_read_passwords(session: Session) -> bool:
    """Return whether the role may read the roles' password hashes, which globals.sql holds then."""
    with translated("checking the role's rights"):
        return bool(_only(session, "SELECT has_table_privilege('pg_catalog.pg_authid', 'SELECT')")[0])


def lock_problems(
    tables: int, sequences: int, sessions: int, max_locks: int, transactions: int
) -> list[RightProblem]:
    """Compare the locks that a backup holds with the size of the server's lock table.

    Sessions share the entry of a locked object, but each holds it by an entry of its own, and these run out
    first: there are twice max_locks_per_transaction × (max_connections + max_prepared_transactions). At
    defaults that is 12,800, and 6,400 tables locked by two sessions were the limit on 15 and 17 alike. Every
    session locks all tables, pg_dump the sequences as well, and the application needs some too.

    Args:
        transactions: max_connections + max_prepared_transactions.
    """
    needed = tables * sessions + sequences
    room = 2 * max_locks * transactions
    if needed * _SPARE <= room:
        return []
    enough = math.ceil(needed * _SPARE / 2 / transactions)
    return [
        RightProblem(
            f"{tables} tables and {sequences} sequences take {needed} locks, the server has room for {room}",
            f"ALTER SYSTEM SET max_locks_per_transaction = {enough}; then restart the server"
            " (hosted databases: in the parameter group)",
            "error" if needed > room else "warning",
        )
    ]


_PASSWORDS = RightProblem(
    "the roles' passwords may not be read: globals.sql will hold the roles without them",
    "GRANT SELECT ON pg_catalog.pg_authid TO the role as superuser; hosted databases forbid it, so keep the"
    " passwords elsewhere and set them after a restore",
    "warning",
)
_SUBSCRIPTIONS = RightProblem(
    "the database has subscriptions, which only a superuser can dump: the backup will not hold them",
    "keep their CREATE SUBSCRIPTION statements elsewhere, or back up as superuser",
    "warning",
)


def _schema_problems(rights: Iterable[_Right], role: str) -> list[RightProblem]:
    refused = sorted({right.schema for right in rights if not right.may_use_schema})
    return [
        RightProblem(
            f"the role {role} may not use the schema {schema}",
            f"GRANT USAGE ON SCHEMA {quoted(schema)} TO {quoted(role)};",
        )
        for schema in refused
    ]


def _read_problems(rights: Sequence[_Right], role: str, major: int) -> list[RightProblem]:
    everything = (
        f" or, for tables to come as well: GRANT pg_read_all_data TO {quoted(role)};" if major >= 14 else ""
    )
    problems = []
    for kinds, word in (("rp", "TABLE"), ("S", "SEQUENCE")):
        refused = [right for right in rights if right.kind in kinds and not right.may_read]
        for schema, group in groupby(refused, key=lambda right: right.schema):
            names = [right.name for right in group]
            what = (
                f"{word} {', '.join(f'{quoted(schema)}.{quoted(name)}' for name in names)}"
                if len(names) <= _GRANTED_ONE_BY_ONE
                else f"ALL {word}S IN SCHEMA {quoted(schema)}"
            )
            problems.append(
                RightProblem(
                    f"the role {role} may not read {_some([qualified(schema, name) for name in names])}",
                    f"GRANT SELECT ON {what} TO {quoted(role)};{everything}",
                )
            )
    return problems


def _row_security_problems(rights: Iterable[_Right], role: str) -> list[RightProblem]:
    affected = [right for right in rights if right.is_row_security_active]
    if not affected:
        return []
    names = _some([qualified(right.schema, right.name) for right in affected])
    owners = sorted({right.owner for right in affected} - {role})
    as_owner = f" or GRANT {', '.join(map(quoted, owners))} TO {quoted(role)};" if owners else ""
    forced = any(right.is_row_security_forced for right in affected)
    return [
        RightProblem(
            f"row-level security hides rows of {names} from the role {role}",
            f"ALTER ROLE {quoted(role)} BYPASSRLS;{'' if forced else as_owner}",
        )
    ]


def _large_object_problems(session: Session, selection: Selection, role: str) -> list[RightProblem]:
    if selection.include_schemas or selection.include_tables:
        return []  # pg_dump leaves large objects out then
    with translated("checking the role's rights"):
        refused = [str(oid) for (oid,) in session.execute(_UNREADABLE_LARGE_OBJECTS)]
    if not refused:
        return []
    if len(refused) <= _GRANTED_ONE_BY_ONE:
        remedy = f"GRANT SELECT ON LARGE OBJECT {', '.join(refused)} TO {quoted(role)};"
    else:
        remedy = _GRANT_ALL_LARGE_OBJECTS.format(sql.Literal(role)).as_string()
    return [RightProblem(f"the role {role} may not read the large objects {_some(refused)}", remedy)]


def _clock_problems(session: Session, now: datetime) -> list[RightProblem]:
    with translated("reading the server's clock"):
        (server_now,) = _only(session, "SELECT clock_timestamp()")
    seconds = abs((server_now - now).total_seconds())
    if seconds <= CLOCK_TOLERANCE_SECONDS:
        return []
    return [
        RightProblem(
            f"this host's clock and the server's differ by {seconds:.0f} s",
            "run a time service (NTP) on both: retention and the age of a backup rest on the time",
        )
    ]


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more


def _only(session: Session, query: str) -> tuple[Any, ...]:
    return session.execute(query.encode()).fetchall()[0]
