"""A limit on restored statements, on a real scratch server: hostile code that takes its time."""

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psycopg
import pytest

from blocks import statement_limit as limits
from blocks.errors import ScratchError
from blocks.scratch import MAINTENANCE_DATABASE, ScratchServer
from blocks.statement_limit import statement_limit
from tests.blocks.test_scratch import server_programs

SLOW = """
    CREATE TABLE slow (n int);
    CREATE FUNCTION wait() RETURNS bool LANGUAGE plpgsql AS $$
        BEGIN PERFORM pg_sleep(30); RETURN true; END $$;
    CREATE FUNCTION wait_whatever_comes() RETURNS bool LANGUAGE plpgsql AS $$
        BEGIN
            LOOP
                BEGIN PERFORM pg_sleep(30);
                EXCEPTION WHEN query_canceled THEN NULL;
                END;
            END LOOP;
        END $$;
    ALTER TABLE slow ADD CHECK (n = 0 OR (n = 1 AND wait()) OR (n = 2 AND wait_whatever_comes()));
"""


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScratchServer]:
    with ScratchServer(server_programs(17), tmp_path_factory.mktemp("limit")) as server:
        restorer = server.create_restorer()
        server.create_database("restored", "UTF8", "C", "C", restorer)
        with psycopg.connect(server.conninfo("restored", restorer)) as session:
            session.execute(SLOW.encode())
        yield server


@pytest.fixture
def restoring(scratch: ScratchServer) -> Iterator["psycopg.Connection[tuple[object, ...]]"]:
    """A session of the restorer, as pg_restore opens one: it takes no time-out."""
    with psycopg.connect(scratch.conninfo("restored", scratch.restorer), autocommit=True) as session:
        session.execute("SET statement_timeout = 0")
        yield session


def test_a_check_that_sleeps_is_cancelled_and_known(
    scratch: ScratchServer, restoring: "psycopg.Connection[tuple[object, ...]]"
) -> None:
    began = time.monotonic()
    with statement_limit(partial(scratch.connect, MAINTENANCE_DATABASE), scratch.restorer, 2) as found:
        with pytest.raises(psycopg.errors.QueryCanceled):
            restoring.execute("INSERT INTO slow VALUES (1)")
        restoring.execute("INSERT INTO slow VALUES (0)")
    assert time.monotonic() - began < 25  # less than the check sleeps
    assert len(found.exceeded) == 1
    assert 2 < found.exceeded[0] < 25


def test_a_check_that_catches_being_cancelled_loses_its_session(
    scratch: ScratchServer,
    restoring: "psycopg.Connection[tuple[object, ...]]",
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "_EVERY_SECONDS", 0.1)
    with (
        statement_limit(partial(scratch.connect, MAINTENANCE_DATABASE), scratch.restorer, 0.2) as found,
        pytest.raises(psycopg.errors.AdminShutdown),
    ):
        restoring.execute("INSERT INTO slow VALUES (2)")
    assert len(found.exceeded) == 1


def test_many_short_statements_and_those_of_others_are_let_be(
    scratch: ScratchServer, restoring: "psycopg.Connection[tuple[object, ...]]"
) -> None:
    with (
        statement_limit(partial(scratch.connect, MAINTENANCE_DATABASE), scratch.restorer, 2) as found,
        psycopg.connect(scratch.conninfo("restored")) as superuser,
    ):
        for _ in range(6):
            restoring.execute("SELECT pg_sleep(0.5)")
        superuser.execute("SELECT pg_sleep(3)")
    assert found.exceeded == []


def test_a_watch_that_broke_is_an_error(tmp_path: Path) -> None:
    server = ScratchServer(server_programs(17), tmp_path)
    server.socket_directory = tmp_path
    with (
        pytest.raises(ScratchError, match="the scratch server failed"),
        statement_limit(partial(server.connect, MAINTENANCE_DATABASE), "nobody", 60),
    ):
        time.sleep(0.2)
