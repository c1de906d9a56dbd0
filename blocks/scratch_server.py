"""A scratch server that runs already, of which a restore borrows a database.

The server is to be there for this alone: the restorer becomes a member of roles that bear the source's
names, and whoever may write to them may read every database. What a restore made is dropped at its end:
the database, its roles, and the stand-ins that no other restore uses. While it lasts, an advisory lock
stands for it; what bears a name whose lock nobody holds is what a killed run left, and the next run drops it.
"""

import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Self

from psycopg import errors, sql
from psycopg.conninfo import make_conninfo
from pydantic import SecretStr

from blocks.errors import DatabaseError, ScratchError, ScratchLacks
from blocks.identity import Identity, identity
from blocks.pgcommands import Connection
from blocks.postgres import Pin, PostgresDatabase, Session, pin
from blocks.scratch_roles import (
    LOGIN_TRIGGERS_OFF,
    NO_SEARCH_PATH,
    Scratch,
    quiet_options,
    scratch_errors,
)

PREFIX = "pgsalvo_scratch_"
LOCK_CLASS = 0x7067736C  # all of ours; the second number is the name's tail
_STAND_IN = "a stand-in that pgsalvo made; it goes with the scratch databases that need it"
_OF_ITS_OWN = "give the scratch server roles of its own, for example `initdb --username=scratch_admin`"

_NAMES = """
    SELECT name FROM (SELECT datname FROM pg_database UNION ALL SELECT rolname FROM pg_roles) AS found(name)
    WHERE starts_with(name, %s)"""
_LIVING = """
    SELECT objid::int8 FROM pg_locks
    WHERE locktype = 'advisory' AND classid = %s::int8::oid AND objsubid = 2"""
_ORPHANS = r"""
    SELECT r.rolname FROM pg_roles r
    WHERE shobj_description(r.oid, 'pg_authid') = %s AND NOT EXISTS (
        SELECT FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid
        WHERE m.member = r.oid AND g.rolname ~ '^pgsalvo_scratch_[0-9a-f]{8}_insiders$')"""
# What a member of such a role could do that a stand-in may not.
_POWERFUL = r"""
    SELECT rolname FROM pg_roles r
    WHERE rolname = ANY(%s) AND shobj_description(oid, 'pg_authid') IS DISTINCT FROM %s AND (
        rolcanlogin OR rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls
        OR EXISTS (SELECT FROM pg_auth_members m WHERE m.member = r.oid))
    ORDER BY rolname"""


class BorrowedScratch(Scratch):
    """A database of its own in a server that runs already; use it as a context manager.

    Args:
        database: Where the server is, and a superuser of it.
        source_identifier: The source's system identifier, as `identity` tells it.
        source_dbname: The source's database.
        source_major: The source's major.

    Raises:
        ScratchLacks: At its start, if the server is the source or its standby, is older, or the user is no
            superuser there.
    """

    is_off_network = False  # its network is not ours to take

    def __init__(
        self, database: PostgresDatabase, *, source_identifier: str, source_dbname: str, source_major: int
    ) -> None:
        tail = secrets.token_hex(4)
        self.dbname = f"{PREFIX}{tail}"
        self.restorer, self.insiders = _role_names(tail)
        self._tail = tail
        self._database = database
        self._source = (source_identifier, source_dbname, source_major)
        self._password = secrets.token_urlsafe(24)

    def __enter__(self) -> Self:
        self._pin: Pin | None = None
        self._session = self._connected(self._database)
        try:
            with scratch_errors():
                self._enter(self._session)
        except BaseException:
            self._session.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        with self._session as session, scratch_errors():
            _drop(session, self._tail)
            _drop_stand_ins(session)

    @contextmanager
    def connect(self, dbname: str) -> Iterator[Session]:
        with scratch_errors(), self._connected(self._reached(dbname, quiet_options(self.major))) as session:
            yield session

    @contextmanager
    def connect_as_restorer(self, dbname: str) -> Iterator[Session]:
        reached = self._reached(dbname, NO_SEARCH_PATH, self.restorer)
        with scratch_errors(), self._connected(reached) as session:
            yield session

    @contextmanager
    def client(self, dbname: str, user: str | None = None) -> Iterator[Connection]:
        options = LOGIN_TRIGGERS_OFF if user is None and self.major >= 17 else ""
        with self._reached(dbname, options, user).client_environment(self._pin) as connection:
            yield connection

    def create_restorer(self) -> str:
        """Create the restorer, and see that the server lets it in.

        Raises:
            ScratchLacks: It does not.
        """
        name = super().create_restorer()
        try:
            self._reached(self.maintenance_database, "", name).connect(pinned=self._pin).close()
        except DatabaseError as error:
            raise ScratchLacks(
                f"the scratch server does not let in the role that restores: {error.message}",
                "its pg_hba.conf must let roles come in from here by password (scram-sha-256)",
            ) from None
        return name

    def _enter(self, session: Session) -> None:
        self._pin = pin(session)
        here = identity(session)
        self.major = here.major
        self.maintenance_database = here.dbname
        self._check(here, session)
        session.execute("SELECT pg_advisory_lock(%s::int4, %s::int4)", [LOCK_CLASS, _signed(self._tail)])
        sweep(session)

    def _check(self, here: Identity, session: Session) -> None:
        identifier, dbname, major = self._source
        user, is_superuser = session.execute(
            "SELECT current_user::text, rolsuper FROM pg_roles WHERE rolname = current_user"
        ).fetchone() or ("", False)
        self.superuser = user
        # a source that does not tell who it is might be this server
        unknown = identifier.startswith("host-") and session.execute(
            "SELECT 1 FROM pg_database WHERE datname = %s", [dbname]
        )
        if here.system_identifier == identifier or (unknown and unknown.fetchone()):
            raise ScratchLacks(
                "the scratch server is the source itself, a standby of it, or may be",
                "give a server of another cluster: what is restored runs there",
            )
        if here.in_recovery:
            raise ScratchLacks("the scratch server is a standby, where nothing can be restored")
        if here.major < major:
            raise ScratchLacks(
                f"the scratch server is PostgreSQL {here.major}, older than the source's {major}",
                f"give one of {major} or newer",
            )
        if not is_superuser:
            raise ScratchLacks(
                "the user of the scratch server is no superuser there",
                "a restore needs one: ALTER ROLE … SUPERUSER, on a server that is there for this alone",
            )
        self.notes = (
            (f"restored into PostgreSQL {here.major}, the source is {major}",) if here.major > major else ()
        )

    def _found(self, session: Session, names: list[str]) -> None:
        """Take in roles that are there already, unless the restorer would gain power by being a member."""
        if powerful := [name for (name,) in session.execute(_POWERFUL, [names, _STAND_IN])]:
            raise ScratchLacks(
                f"the scratch server has roles of the source's names with rights of their own: "
                f"{', '.join(powerful)}",
                _OF_ITS_OWN,
            )
        for name in names:
            grant = sql.SQL("GRANT {} TO {}")
            session.execute(grant.format(sql.Identifier(self.insiders), sql.Identifier(name)))

    def _created(self, session: Session, name: str) -> None:
        comment = sql.SQL("COMMENT ON ROLE {} IS {}")
        session.execute(comment.format(sql.Identifier(name), sql.Literal(_STAND_IN)))

    def _restorers_password(self, session: Session) -> sql.Composable:
        """Return the clause that sets it, as the hash that the server keeps: its log may hold statements."""
        password, name = self._password.encode(), self.restorer.encode()
        hashed = session.pgconn.encrypt_password(password, name, b"scram-sha-256")
        return sql.SQL(" PASSWORD {}").format(sql.Literal(hashed.decode()))

    def _reached(self, dbname: str, options: str, user: str | None = None) -> PostgresDatabase:
        """Return the same server by another database, and as another user by the restorer's password."""
        target = self._database.resolve()
        parameters = {**target.parameters, "dbname": dbname, "options": options}
        password = target.password
        if user is not None:
            parameters["user"], password = user, self._password
        if password is not None:
            parameters["password"] = password
        return PostgresDatabase(conninfo=SecretStr(make_conninfo(**parameters)))

    def _connected(self, database: PostgresDatabase) -> Session:
        try:
            return database.connect(pinned=self._pin)
        except DatabaseError as error:
            raise ScratchError(f"the scratch server: {error.message}", error.hint) from None


def sweep(session: Session) -> list[str]:
    """Drop what killed runs left on a server; return the names of their databases."""
    names = [name for (name,) in session.execute(_NAMES, [PREFIX])]
    tails = {found[1] for name in names if (found := re.match(rf"{PREFIX}([0-9a-f]{{8}})(_|$)", name))}
    living = {number for (number,) in session.execute(_LIVING, [LOCK_CLASS])}
    left = sorted(tail for tail in tails if int(tail, 16) not in living)
    for tail in left:
        _drop(session, tail)
    _drop_stand_ins(session)
    return [f"{PREFIX}{tail}" for tail in left]


def _drop(session: Session, tail: str) -> None:
    drop = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)")
    session.execute(drop.format(sql.Identifier(f"{PREFIX}{tail}")))
    for name in _role_names(tail):
        if session.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [name]).fetchone():
            session.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(name)))
            session.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


def _drop_stand_ins(session: Session) -> None:
    """Drop those of no restore that is going on; one that somebody has given things to is left alone."""
    for (name,) in session.execute(_ORPHANS, [_STAND_IN]).fetchall():
        with suppress(errors.DependentObjectsStillExist, errors.UndefinedObject):
            session.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


def _role_names(tail: str) -> tuple[str, str]:
    return f"{PREFIX}{tail}_restorer", f"{PREFIX}{tail}_insiders"


def _signed(tail: str) -> int:
    number = int(tail, 16)
    return number - (1 << 32) if number >= 1 << 31 else number
