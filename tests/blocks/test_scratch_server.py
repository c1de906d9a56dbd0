"""A scratch database borrowed from a server that runs already: what it refuses, makes and leaves behind."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from pydantic import SecretStr

from blocks.errors import ScratchError, ScratchLacks
from blocks.pgcommands import run_sql
from blocks.postgres import PostgresDatabase
from blocks.process import run_checked
from blocks.scratch_server import PREFIX, BorrowedScratch
from tests.conftest import SETTINGS
from tests.servers.postgres import PostgresServer, start_standby

ELSEWHERE = "7300000000000000000"


@dataclass(frozen=True)
class Lender:
    """A server that lends databases, and the roles and databases that it has of its own."""

    server: PostgresServer

    def borrow(
        self, *, identifier: str = ELSEWHERE, dbname: str = "shop", major: int = 15, **options: str
    ) -> BorrowedScratch:
        database = PostgresDatabase(conninfo=SecretStr(self.server.conninfo(**options)))
        return BorrowedScratch(
            database, source_identifier=identifier, source_dbname=dbname, source_major=major
        )

    def names(self) -> set[str]:
        query = "SELECT datname FROM pg_database UNION ALL SELECT rolname FROM pg_roles"
        return {name for (name,) in self.server.query(query)}


@pytest.fixture
def lender(postgres: PostgresServer) -> Iterator[Lender]:
    """A lender of either major; each test must leave it as it was."""
    lender = Lender(postgres)
    before = lender.names()
    yield lender
    assert lender.names() == before


@pytest.fixture
def lender17(postgres17: PostgresServer) -> Lender:
    return Lender(postgres17)


def test_what_was_borrowed_is_given_back(lender: Lender) -> None:
    before = lender.names()
    with lender.borrow() as scratch:
        scratch.create_stand_in_roles(["shop", 'odd "role"', "pg_monitor"])
        scratch.create_database(scratch.dbname, "UTF8", "C", "C", scratch.create_restorer())
        tail = scratch.dbname.removeprefix(PREFIX)
        made = {scratch.dbname, scratch.restorer, scratch.insiders, "shop", 'odd "role"'}
        assert lender.names() - before == made
        assert {name for name in made if tail in name} == made - {"shop", 'odd "role"'}
        with scratch.connect(scratch.dbname) as session:
            session.execute("CREATE TABLE public.t (n int); ALTER TABLE public.t OWNER TO shop")
            session.execute('GRANT SELECT ON public.t TO "odd ""role"""')
    assert lender.names() == before


def test_all_is_given_back_when_a_restore_breaks(lender: Lender) -> None:
    scratch = lender.borrow()

    def break_off() -> None:
        scratch.create_stand_in_roles(["shop"])
        scratch.create_database(scratch.dbname, "UTF8", "C", "C", scratch.create_restorer())
        with psycopg.connect(lender.server.conninfo(scratch.dbname)):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), scratch:
        break_off()


def test_the_restorer_comes_in_by_a_password_that_no_argument_holds(lender: Lender) -> None:
    psql = lender.server.programs / "psql"
    with lender.borrow() as scratch:
        scratch.create_stand_in_roles(["shop"])
        scratch.create_database(scratch.dbname, "UTF8", "C", "C", scratch.create_restorer())
        for user in (scratch.restorer, None):
            with scratch.client(scratch.dbname, user) as connection:
                command = run_sql(psql, connection)
                said = run_checked(
                    command,
                    stdin=b"\\pset format unaligned\n\\t on\nSELECT current_user, rolsuper"
                    b" FROM pg_roles WHERE rolname = session_user",
                )
                assert "password=" not in " ".join(command.argv)
                assert scratch._password not in " ".join(command.argv)
            assert said.decode().split()[-1] == (f"{user}|f" if user else f"{scratch.superuser}|t")
        with lender.server.connect() as session:
            (kept,) = session.execute(
                "SELECT rolpassword FROM pg_authid WHERE rolname = %s", [scratch.restorer]
            ).fetchone() or ("",)
        assert kept.startswith("SCRAM-SHA-256$")


def test_the_restorer_does_to_a_stand_ins_objects_what_their_owner_may_and_no_more(lender: Lender) -> None:
    with lender.borrow() as scratch:
        scratch.create_stand_in_roles(["shop"])
        scratch.create_database(scratch.dbname, "UTF8", "C", "C", scratch.create_restorer())
        with scratch.connect(scratch.dbname) as session:
            session.execute("CREATE TABLE public.t (n int); ALTER TABLE public.t OWNER TO shop")
        with scratch.connect_as_restorer(scratch.dbname) as session:
            session.execute("INSERT INTO public.t VALUES (1); CREATE INDEX ON public.t (n)")
            for statement in ("COPY (SELECT 1) TO PROGRAM 'true'", f"SET ROLE {scratch.superuser}"):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    session.execute(statement.encode())


def test_the_source_itself_is_refused(lender: Lender) -> None:
    ((identifier,),) = lender.server.query("SELECT system_identifier::text FROM pg_control_system()")
    with (
        pytest.raises(ScratchLacks, match="is the source itself, a standby of it"),
        lender.borrow(identifier=identifier),
    ):
        pytest.fail("it was borrowed")


def test_a_source_that_does_not_tell_who_it_is_might_be_where_its_database_is(lender: Lender) -> None:
    with (
        lender.server.database("shop"),
        pytest.raises(ScratchLacks, match="is the source itself"),
        lender.borrow(identifier="host-0123456789abcdef"),
    ):
        pytest.fail("it was borrowed")
    with lender.borrow(identifier="host-0123456789abcdef"):
        pass


def test_a_standby_is_refused(postgres15: PostgresServer) -> None:
    standby = start_standby(postgres15, SETTINGS)
    try:
        with pytest.raises(ScratchLacks, match="is a standby"), Lender(standby).borrow():
            pytest.fail("it was borrowed")
    finally:
        standby.stop()


def test_a_user_without_power_is_refused(lender: Lender) -> None:
    lender.server.execute("CREATE ROLE weak LOGIN PASSWORD 'weak'")
    try:
        with (
            pytest.raises(ScratchLacks, match=r"is no superuser there(?s:.*)SUPERUSER"),
            lender.borrow(user="weak", password="weak"),
        ):
            pytest.fail("it was borrowed")
    finally:
        lender.server.execute("DROP ROLE weak")


def test_a_server_that_does_not_answer_is_a_scratch_error(tmp_path: Path) -> None:
    database = PostgresDatabase(conninfo=SecretStr(f"host={tmp_path} dbname=postgres"))
    scratch = BorrowedScratch(database, source_identifier="1", source_dbname="shop", source_major=15)
    with pytest.raises(ScratchError, match="the scratch server: cannot connect"), scratch:
        pytest.fail("it was borrowed")


def test_an_older_server_is_refused_and_a_newer_one_noted(lender17: Lender) -> None:
    with (
        pytest.raises(ScratchLacks, match="PostgreSQL 17, older than the source's 18"),
        lender17.borrow(major=18),
    ):
        pytest.fail("it was borrowed")
    with lender17.borrow(major=17) as scratch:
        assert scratch.notes == ()
    with lender17.borrow(major=15) as scratch:
        assert scratch.notes == ("restored into PostgreSQL 17, the source is 15",)


@pytest.mark.parametrize(
    "power",
    [
        pytest.param("LOGIN", id="log in"),
        pytest.param("CREATEROLE", id="create roles"),
        pytest.param("BYPASSRLS", id="bypass row security"),
        pytest.param("IN ROLE pg_execute_server_program", id="a powerful membership"),
    ],
)
def test_a_role_of_the_same_name_with_rights_of_its_own_is_refused(power: str, lender17: Lender) -> None:
    lender17.server.execute(
        f"CREATE ROLE shop NOLOGIN; ALTER ROLE shop {power}"
        if "IN ROLE" not in power
        else "CREATE ROLE shop NOLOGIN IN ROLE pg_execute_server_program"
    )
    try:
        with lender17.borrow() as scratch:
            with pytest.raises(
                ScratchLacks, match=r"rights of their own: admin, shop(?s:.*)initdb --username"
            ):
                scratch.create_stand_in_roles(["admin", "shop", "audit"])
            assert "audit" not in lender17.names()
    finally:
        lender17.server.execute("DROP ROLE shop")


def test_a_role_of_the_same_name_without_rights_is_used_and_stays(lender: Lender) -> None:
    lender.server.execute("CREATE ROLE shop NOLOGIN")
    try:
        with lender.borrow() as scratch:
            scratch.create_stand_in_roles(["shop"])
            scratch.create_restorer()
        assert "shop" in lender.names()
        assert (
            lender.server.query(
                "SELECT FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.member WHERE rolname = 'shop'"
            )
            == []
        )
    finally:
        lender.server.execute("DROP ROLE shop")


def test_two_restores_share_stand_ins_and_the_last_one_drops_them(lender: Lender) -> None:
    with lender.borrow() as first:
        first.create_stand_in_roles(["shop"])
        with lender.borrow() as second:
            second.create_stand_in_roles(["shop", "audit"])
            second.create_database(second.dbname, "UTF8", "C", "C", second.create_restorer())
        assert {"shop", first.insiders} < lender.names()
        assert not {"audit", second.dbname} & lender.names()


@contextmanager
def killed(lender: Lender) -> Iterator[BorrowedScratch]:
    """Yield a restore's scratch database whose session has ended before it could drop anything."""
    scratch = lender.borrow()
    scratch.__enter__()
    scratch.create_stand_in_roles(["shop"])
    scratch.create_database(scratch.dbname, "UTF8", "C", "C", scratch.create_restorer())
    scratch._session.close()
    yield scratch
    assert not {scratch.dbname, scratch.restorer, scratch.insiders, "shop"} & lender.names()


def test_what_a_killed_run_left_is_dropped_by_the_next_and_no_others(lender: Lender) -> None:
    with lender.server.database(f"{PREFIX}of_somebody"), lender.borrow() as living:
        living.create_database(living.dbname, "UTF8", "C", "C", living.create_restorer())
        with killed(lender) as dead:
            assert {dead.dbname, "shop"} < lender.names()
            with lender.borrow():
                pass
        assert {living.dbname, living.restorer, f"{PREFIX}of_somebody"} < lender.names()


def test_the_databases_own_settings_and_log_in_triggers_do_not_hold_for_the_superuser(
    lender17: Lender,
) -> None:
    with lender17.borrow() as scratch:
        scratch.create_database(scratch.dbname, "UTF8", "C", "C", scratch.create_restorer())
        with scratch.connect(scratch.dbname) as session:
            session.execute("CREATE TABLE public.fired (who text)")
            session.execute(
                "CREATE FUNCTION public.fire() RETURNS event_trigger LANGUAGE plpgsql AS"
                " $$ BEGIN INSERT INTO public.fired VALUES (current_user); END $$"
            )
            session.execute("CREATE EVENT TRIGGER log_in ON login EXECUTE FUNCTION public.fire()")
            session.execute("ALTER EVENT TRIGGER log_in ENABLE ALWAYS")
            session.execute(f"ALTER DATABASE {scratch.dbname} SET event_triggers = on".encode())
            session.execute(f"ALTER DATABASE {scratch.dbname} SET search_path = public".encode())
        with scratch.connect(scratch.dbname) as session:
            assert session.execute("SHOW search_path").fetchone() == ("",)
            assert session.execute("SELECT FROM public.fired").fetchall() == []
        with scratch.client(scratch.dbname) as connection:
            run_checked(run_sql(lender17.server.programs / "psql", connection), stdin=b"SELECT 1")
        with scratch.connect(scratch.dbname) as session:
            assert session.execute("SELECT FROM public.fired").fetchall() == []
        lender17.server.query("SELECT 1", scratch.dbname)
        with scratch.connect(scratch.dbname) as session:
            assert session.execute("SELECT who FROM public.fired").fetchall() == [("admin",)]
