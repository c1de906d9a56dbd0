"""Definitions that no table's lock holds still: a change of one while pg_dump reads them is noticed."""

from collections.abc import Iterator

import pytest
from pydantic import SecretStr

from blocks.errors import DefinitionsChanged
from blocks.postgres import PostgresDatabase
from blocks.snapshot import Snapshot, locked_snapshot
from flows.gathering import definitions_of, refuse_changes
from tests.servers.postgres import PostgresServer

DEFINED = """
    CREATE TABLE t (a int, b int);
    CREATE VIEW shown AS SELECT a FROM t;
    CREATE FUNCTION body() RETURNS int LANGUAGE sql RETURN 1;
    CREATE STATISTICS both_ ON a, b FROM t;
    CREATE FUNCTION given(a int DEFAULT 1) RETURNS int LANGUAGE sql AS 'SELECT 1';
    CREATE FUNCTION text_body() RETURNS int LANGUAGE sql AS 'SELECT 1';
"""


@pytest.fixture
def snapshot(postgres: PostgresServer) -> Iterator[Snapshot]:
    with postgres.database("defined") as conninfo:
        postgres.execute(DEFINED, "defined")
        database = PostgresDatabase(conninfo=SecretStr(conninfo))
        with locked_snapshot(database, lock_name="d", busy_timeout_seconds=9, on_wait=print) as taken:
            yield taken


@pytest.mark.parametrize(
    ("change", "named"),
    [
        pytest.param(
            "CREATE OR REPLACE FUNCTION given(a int DEFAULT 2) RETURNS int LANGUAGE sql AS 'SELECT 1'",
            "given",
            id="default",
        ),
        pytest.param(
            "CREATE OR REPLACE FUNCTION body() RETURNS int LANGUAGE sql RETURN 2", "body", id="body"
        ),
        pytest.param("DROP STATISTICS both_", "statistics public.both_", id="gone"),
    ],
)
def test_what_is_defined_anew_after_the_snapshot_ends_the_attempt(
    snapshot: Snapshot, postgres: PostgresServer, change: str, named: str
) -> None:
    before = definitions_of(snapshot)
    postgres.execute(change, "defined")
    after = definitions_of(snapshot)
    with pytest.raises(DefinitionsChanged, match=named):
        refuse_changes(before, after)


def test_what_was_dropped_before_it_was_first_read_ends_the_attempt(
    snapshot: Snapshot, postgres: PostgresServer
) -> None:
    postgres.execute("DROP STATISTICS both_; DROP FUNCTION text_body", "defined")
    found = definitions_of(snapshot)
    with pytest.raises(DefinitionsChanged, match="2 definitions"):
        refuse_changes(found, found)


def test_what_a_dump_reads_by_its_snapshot_may_change(snapshot: Snapshot, postgres: PostgresServer) -> None:
    before = definitions_of(snapshot)
    postgres.execute(
        "COMMENT ON TABLE t IS 'new'; GRANT SELECT ON t TO PUBLIC; CREATE TABLE fresh (a int);"
        " CREATE OR REPLACE VIEW shown AS SELECT a FROM t WHERE a > 1;"
        " CREATE OR REPLACE FUNCTION text_body() RETURNS int LANGUAGE sql AS 'SELECT 2'",
        "defined",
    )
    refuse_changes(before, definitions_of(snapshot))
