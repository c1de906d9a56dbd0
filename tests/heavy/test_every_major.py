"""A database with an instance of everything, of each major, is verified on that major and on the next."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from psycopg import sql

from flows.core.errors import VerificationFailed
from tests.servers.every_feature import DATABASE, NO_ICU, NO_REACHING_OUT, every_feature
from tests.servers.odd_expressions import ODD_EXPRESSIONS
from tests.servers.plan import PLANS_VARIABLE, PlanOnDisk
from tests.servers.postgres import PASSWORD, SUPERUSER, WHEELS, PostgresServer, programs, start_postgres
from tests.servers.reports import report

MAJORS = (14, 15, 16, 17, 18)
LENDER = "lender"
# Indexes of every kind, and types that hash by no function of their own or by an OID.
ODD_INDEXES = """
    CREATE EXTENSION bloom; CREATE EXTENSION intarray; CREATE EXTENSION isn; CREATE EXTENSION cube;
    CREATE TABLE odd.indexed (
        id int, path app.ltree, label app.citext, tags int[], body jsonb, said json, at point,
        span int4range, many int4multirange, seen app.mood[], of regclass, words tsvector, book isbn13,
        place cube, bits varbit);
    INSERT INTO odd.indexed
        SELECT n, ('a.b' || n)::app.ltree, 'Case', ARRAY[n, n % 7], jsonb_build_object('n', n),
               json_build_object('n', n), point(n, -n), int4range(n, n + 5), '{[1,3),[5,7)}', '{sad,ok}',
               'app.orders', to_tsvector('english', 'word ' || n), '978-0-393-04002-9', cube(n), n::bit(16)
        FROM generate_series(1, 300) n;
    INSERT INTO odd.indexed (id) SELECT NULL FROM generate_series(1, 3);
    CREATE INDEX ON odd.indexed USING gist (path); CREATE INDEX ON odd.indexed USING hash (label);
    CREATE INDEX ON odd.indexed USING gin (tags gin__int_ops); CREATE INDEX ON odd.indexed USING gin (body);
    CREATE INDEX ON odd.indexed USING spgist (at); CREATE INDEX ON odd.indexed USING brin (id);
    CREATE INDEX ON odd.indexed USING bloom (id); CREATE INDEX ON odd.indexed USING gist (span, place);
    CREATE INDEX ON odd.indexed USING gin (words); CREATE INDEX ON odd.indexed (book, seen);
    CLUSTER odd.indexed USING indexed_book_seen_idx;
"""


class Servers:
    """A server of each major, started when it is first asked for; those before its source are stopped."""

    def __init__(self) -> None:
        self._started: dict[int, PostgresServer] = {}

    def __getitem__(self, major: int) -> PostgresServer:
        for former in [other for other in self._started if other < major - 1]:
            self._started.pop(former).stop()
        if major not in self._started:
            self._started[major] = start_postgres(major, programs(major))
        return self._started[major]

    def stop(self) -> None:
        for server in self._started.values():
            server.stop()


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    started = Servers()
    yield started
    started.stop()


@contextmanager
def lending(server: PostgresServer) -> Iterator[str]:
    """Yield the conninfo of a superuser; no superuser bears a name of the source's roles meanwhile."""
    create = sql.SQL("CREATE ROLE {} SUPERUSER LOGIN PASSWORD {}")
    rename = sql.SQL("ALTER ROLE {} RENAME TO {}")
    lender, admin, renamed = map(sql.Identifier, (LENDER, SUPERUSER, f"not_{SUPERUSER}"))
    with server.connect() as session:
        session.execute(create.format(lender, sql.Literal(PASSWORD)))
    with server.connect(user=LENDER) as session:
        session.execute(rename.format(admin, renamed))
        try:
            yield server.conninfo(user=LENDER)
        finally:
            session.execute(rename.format(renamed, admin))
    server.execute(f"DROP ROLE {LENDER}")


@contextmanager
def saying_what_differs(plan: PlanOnDisk) -> Iterator[None]:
    """Add the report's findings to a failed verification, which names none of them itself."""
    try:
        yield
    except VerificationFailed as error:
        error.add_note(json.dumps(report(plan)["findings"], indent=2))
        raise


@pytest.mark.usefixtures("prefect")
@pytest.mark.parametrize("major", MAJORS)
def test_a_database_with_one_of_everything_is_verified_on_its_major_and_on_the_next(
    servers: Servers, major: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGSALVO_TOOLS_DIRECTORY", str(WHEELS))
    monkeypatch.setenv(PLANS_VARIABLE, str(tmp_path / "plans.toml"))
    source = servers[major]
    with every_feature(source) as conninfo:
        source.execute(ODD_EXPRESSIONS + ODD_INDEXES, DATABASE)
        verify = {"secret_key": "ops", "proof": "content", "schedule": "never"}
        plan = PlanOnDisk.for_database(tmp_path, conninfo, verify=verify)
        assert plan.back_up() == plan.verify()
        here = report(plan)
        if major + 1 in MAJORS:
            source.execute(f"{NO_REACHING_OUT}; {NO_ICU}", DATABASE)
            made = plan.back_up()
    assert (here["verdict"], here["findings"]) == ("verified", [])
    if major + 1 in MAJORS:
        with lending(servers[major + 1]) as conninfo:
            (tmp_path / "scratch-url").write_text(conninfo)
            plan.write(verify=verify | {"scratch": {"kind": "server", "conninfo": "file:scratch-url"}})
            with saying_what_differs(plan):
                assert plan.verify() == made
        there = report(plan)
        assert there["verdict"] == "verified"
        # a dump names no version, so that an extension comes back in the next major's
        assert {(found["severity"], found["kind"]) for found in there["findings"]} <= {
            ("warning", "extension")
        }
        assert rows(there) == rows(here) > 1000


def rows(told: dict[str, Any]) -> int:
    return sum(line["restored"] for line in told["tables"])
