"""What every scratch server is to a restore: an empty database, stand-ins for the source's roles, a restorer.

How the server came about is another matter: see `scratch` for one that is started here, `scratch_server`
for one that runs already.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any, Self, TypeAlias

import psycopg
from psycopg import sql

from blocks.errors import ScratchError
from blocks.pgcommands import Connection
from blocks.scratch_collations import NOT_HERE, ProviderLocale, locale_clauses

Session: TypeAlias = "psycopg.Connection[tuple[Any, ...]]"

_EVENT_TRIGGERS = "SELECT evtname, evtenabled::text FROM pg_catalog.pg_event_trigger WHERE evtenabled <> 'D'"
_ENABLED = {"O": "ENABLE", "R": "ENABLE REPLICA", "A": "ENABLE ALWAYS"}


class Scratch(ABC):
    """A scratch server that is ready; of its kinds, use one as a context manager.

    Attributes:
        dbname: Of the database that is restored into.
        superuser: Who makes everything ready.
        restorer: Who restores what may run others' code.
        insiders: The group of all stand-ins.
        maintenance_database: One that is no part of the restore.
        major: The server's.
        is_off_network: Whether restored code has no network.
        notes: For the report: how this server differs from the source's.
    """

    dbname: str
    superuser: str
    restorer: str
    insiders: str
    maintenance_database: str
    major: int
    is_off_network: bool
    notes: tuple[str, ...] = ()

    @abstractmethod
    def __enter__(self) -> Self: ...

    @abstractmethod
    def __exit__(self, *_: object) -> None: ...

    @abstractmethod
    def connect(self, dbname: str) -> AbstractContextManager[Session]:
        """Open a session of the superuser, in autocommit mode, to whom the restored names mean nothing.

        Whatever was restored, an operator of a schema on the search path for example, must not be called by
        the superuser's own queries; nor may settings that restored code gave the database hold here. Event
        triggers do not fire, but for those `ENABLE ALWAYS` up to PostgreSQL 16: see `without_event_triggers`.

        Its errors become `ScratchError`s without their cause, whose DETAIL may hold rows' values.
        """

    @abstractmethod
    def connect_as_restorer(self, dbname: str) -> AbstractContextManager[Session]:
        """Open a session of the restorer, in autocommit mode: for whatever may run restored code.

        Its errors are `connect`'s.
        """

    @abstractmethod
    def client(self, dbname: str, user: str | None = None) -> AbstractContextManager[Connection]:
        """Yield how pg_restore reaches a database, as the superuser if no user is given."""

    def create_database(
        self,
        dbname: str,
        encoding: str,
        collate: str,
        ctype: str,
        owner: str,
        own: ProviderLocale | None = None,
    ) -> list[str]:
        """Create an empty database as the source's is, and return what of its collation had to differ.

        A locale that is not to be had here becomes C; the owner becomes a stand-in.
        """
        self.create_stand_in_roles([owner])
        named = own.name if own else f"{collate} ({ctype})"
        create = sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE template0 ENCODING {}").format(
            sql.Identifier(dbname), sql.Identifier(owner), sql.Literal(encoding)
        )
        # with a provider of its own, libc's locale sorts nothing
        ways = [(collate, ctype, own), *([("C", "C", own)] if own else [])]
        with self.connect(self.maintenance_database) as session:
            for way in ways:
                with suppress(*NOT_HERE):
                    session.execute(create + locale_clauses(self.major, *way))
                    return []
            session.execute(create + locale_clauses(self.major, "C", "C", None))
        return [f"the locale {named} is not here with {encoding}: sorted by C instead"]

    def create_stand_in_roles(self, names: Iterable[str]) -> None:
        """Create roles that bear the source's names and cannot log in; pg_* are PostgreSQL's own.

        On the source they may be superusers or members of others, so that views over others' tables are
        theirs. Here each of them may read and write every row, and do nothing else.
        """
        create = sql.SQL("CREATE ROLE {} NOLOGIN BYPASSRLS IN ROLE {}")
        insiders = sql.Identifier(self.insiders)
        ours = (self.insiders, self.restorer)
        wanted = dict.fromkeys(name for name in names if not name.startswith("pg_") and name not in ours)
        with self.connect(self.maintenance_database) as session, session.transaction():
            existing = {name for (name,) in session.execute("SELECT rolname FROM pg_roles")}
            if self.insiders not in existing:
                session.execute(create.format(insiders, sql.SQL("pg_read_all_data, pg_write_all_data")))
            for name in wanted:
                if name not in existing:
                    session.execute(create.format(sql.Identifier(name), insiders))
                    self._created(session, name)
            self._found(session, [name for name in wanted if name in existing])

    def create_restorer(self) -> str:
        """Create the role that restores rows and what follows them, or join it to new stand-ins.

        It logs in as itself and is no superuser, so that restored code has nothing to go back to by
        RESET ROLE. As a member of every stand-in it may do to their objects what an owner may.

        Returns:
            Its name.
        """
        self.create_stand_in_roles([])
        restorer = sql.Identifier(self.restorer)
        options = " WITH INHERIT TRUE, SET TRUE" if self.major >= 16 else ""
        with self.connect(self.maintenance_database) as session:
            if not session.execute(_EXISTS, [self.restorer]).fetchone():
                create = sql.SQL("CREATE ROLE {} LOGIN NOSUPERUSER BYPASSRLS{}")
                session.execute(create.format(restorer, self._restorers_password(session)))
            stand_ins = [name for (name,) in session.execute(_MEMBERS, [self.insiders, self.restorer])]
            members_of = sql.SQL(", ").join(map(sql.Identifier, [self.insiders, *stand_ins]))
            session.execute(sql.SQL("GRANT {} TO {}{}").format(members_of, restorer, sql.SQL(options)))
        return self.restorer

    def available_extensions(self) -> set[str]:
        """Return the names of the extensions that CREATE EXTENSION finds."""
        return self._names("SELECT name FROM pg_available_extensions")

    def languages(self) -> set[str]:
        """Return the languages that functions can be in without an extension."""
        return self._names("SELECT lanname FROM pg_language")

    def has_icu(self) -> bool:
        """Tell whether the server was built with ICU: only then does initdb import its collations."""
        return bool(self._names(r"SELECT collname FROM pg_collation WHERE collname LIKE '%-x-icu' LIMIT 1"))

    def _names(self, query: str) -> set[str]:
        with self.connect(self.maintenance_database) as session:
            return {name for (name,) in session.execute(query.encode())}

    def _created(self, session: Session, name: str) -> None:  # noqa: B027 - a hook
        """Called for each stand-in that was created, in the same transaction."""

    def _found(self, session: Session, names: list[str]) -> None:  # noqa: B027 - a hook
        """Called with the roles that were there already, in the same transaction."""

    def _restorers_password(self, session: Session) -> sql.Composable:  # noqa: ARG002 - a hook
        return sql.SQL("")


_EXISTS = "SELECT 1 FROM pg_roles WHERE rolname = %s"
_MEMBERS = """
    SELECT r.rolname FROM pg_auth_members m
    JOIN pg_roles r ON r.oid = m.member JOIN pg_roles g ON g.oid = m.roleid
    WHERE g.rolname = %s AND r.rolname <> %s"""


NO_SEARCH_PATH = "-c search_path="
LOGIN_TRIGGERS_OFF = "-c event_triggers=off"


def quiet_options(major: int) -> str:
    """Return libpq's `options` for a superuser's session, in which nothing restored is to run by itself."""
    options = f"{NO_SEARCH_PATH} -c session_replication_role=replica"
    return f"{options} {LOGIN_TRIGGERS_OFF}" if major >= 17 else options


@contextmanager
def without_event_triggers(session: Session) -> Iterator[None]:
    """Run what defines things, `CREATE EXTENSION amcheck` say, without that an event trigger fires.

    It is one transaction, at whose end the triggers are as they were. To switch one off fires none.
    """
    with session.transaction():
        triggers = session.execute(_EVENT_TRIGGERS).fetchall()
        for name, _ in triggers:
            session.execute(_altered(name, "DISABLE"))
        yield
        for name, enabled in triggers:
            session.execute(_altered(name, _ENABLED[enabled]))


@contextmanager
def scratch_errors() -> Iterator[None]:
    """Turn what psycopg raises inside into a `ScratchError`, without its cause."""
    try:
        yield
    except psycopg.Error as error:
        said = error.diag.message_primary or type(error).__name__
        raise ScratchError(f"the scratch server failed: {said}") from None


def _altered(event_trigger: str, how: str) -> sql.Composed:
    return sql.SQL("ALTER EVENT TRIGGER {} {}").format(sql.Identifier(event_trigger), sql.SQL(how))
