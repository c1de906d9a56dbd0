"""A plan's questions, asked of real servers: answered, or refused without a word of what the rows hold."""

import threading
import time
from collections.abc import Iterator
from datetime import date
from decimal import Decimal

import pytest

from blocks.assertions import AssertionOutcome, run_assertion
from blocks.errors import ConnectionLost
from blocks.postgres import Session
from tests.servers.postgres import PostgresServer

DBNAME = "asked"
ROLE = "asks"


@pytest.fixture
def session(postgres: PostgresServer) -> Iterator[Session]:
    postgres.execute(f"CREATE ROLE {ROLE} LOGIN PASSWORD 'p'; GRANT pg_read_all_data TO {ROLE}")
    with postgres.database(DBNAME):
        postgres.execute(
            "CREATE TABLE orders (id int, note text); GRANT ALL ON orders TO asks; "
            "INSERT INTO orders SELECT n, 'planted ' || n FROM generate_series(1, 5) n;"
            "CREATE TYPE mood AS ENUM ('sad', 'ok')",
            DBNAME,
        )
        with postgres.connect(DBNAME, user=ROLE, password="p") as session:
            session.execute("SET search_path = ''")
            yield session
    postgres.execute(f"DROP ROLE {ROLE}")


@pytest.mark.parametrize(
    ("query", "outcome"),
    [
        ("SELECT count(*) FROM orders", AssertionOutcome(1, 1, 5)),
        ("SELECT count(*) FROM public.orders; -- all", AssertionOutcome(1, 1, 5)),
        ("-- how many\nSELECT 2.50", AssertionOutcome(1, 1, Decimal("2.50"))),
        ("SELECT note FROM orders WHERE note LIKE '%5'", AssertionOutcome(1, 1, "planted 5")),
        ("SELECT 'ok'::public.mood", AssertionOutcome(1, 1, "ok")),
        ("SELECT NULL", AssertionOutcome(1, 1, None)),
        ("SELECT id > 0 FROM orders WHERE id = 1", AssertionOutcome(1, 1, True)),
        ("VALUES ('2026-01-28'::date)", AssertionOutcome(1, 1, date(2026, 1, 28))),
        ("SELECT id FROM orders WHERE id > 5", AssertionOutcome(0, 1)),
        ("SELECT id FROM orders", AssertionOutcome(2, 1)),
        ("SELECT id, note FROM orders LIMIT 1", AssertionOutcome(1, 2)),
        ("WITH many AS (SELECT generate_series(1, 9)) SELECT count(*) FROM many", AssertionOutcome(1, 1, 9)),
    ],
)
def test_a_question_has_one_answer_or_none(session: Session, query: str, outcome: AssertionOutcome) -> None:
    assert run_assertion(session, query, 10) == outcome


@pytest.mark.parametrize(
    ("query", "error"),
    [
        pytest.param("SELECT 1; SELECT 2", "42601 SyntaxError", id="two-statements"),
        pytest.param("SELECT 1; COMMIT; DELETE FROM orders", "42601 SyntaxError", id="a-commit-in-between"),
        pytest.param("COMMIT", "42601 SyntaxError", id="a-commit"),
        pytest.param("DELETE FROM orders", "42601 SyntaxError", id="a-statement-that-writes"),
        pytest.param(
            "WITH gone AS (DELETE FROM orders RETURNING 1) SELECT count(*) FROM gone",
            "0A000 FeatureNotSupported",
            id="a-question-that-writes",
        ),
        pytest.param("SELECT nextval('s')", "25006 ReadOnlySqlTransaction", id="a-sequence-that-goes-on"),
        pytest.param("SELECT * FROM nowhere", "42P01 UndefinedTable", id="no-such-table"),
        pytest.param(
            "SELECT note::int FROM orders", "22P02 InvalidTextRepresentation", id="a-value-in-words"
        ),
        pytest.param("SELECT pg_sleep(60)", "57014 QueryCanceled", id="takes-too-long"),
        pytest.param("SELECT 'infinity'::date", "unreadable DataError", id="a-date-that-python-lacks"),
        pytest.param("", "42601 SyntaxError", id="nothing"),
    ],
)
def test_what_cannot_be_answered_is_told_by_its_code_only(
    session: Session, postgres: PostgresServer, query: str, error: str
) -> None:
    postgres.execute("CREATE SEQUENCE s; GRANT ALL ON s TO asks", DBNAME)
    assert run_assertion(session, query, 0.3) == AssertionOutcome(error=error)
    assert run_assertion(session, "SELECT count(*) FROM orders", 10).value == 5
    assert session.execute("SELECT current_setting('search_path')").fetchone() == ('""',)


def test_the_settings_that_a_question_makes_do_not_stay(session: Session) -> None:
    run_assertion(session, "SELECT set_config('work_mem', '77MB', false)", 10)
    assert session.execute("SELECT current_setting('work_mem')").fetchone() != ("77MB",)


def test_a_session_that_ends_is_no_answer(session: Session, postgres: PostgresServer) -> None:
    pid = session.info.backend_pid

    def end() -> None:
        deadline = time.monotonic() + 30
        waiting = f"SELECT FROM pg_stat_activity WHERE pid = {pid} AND wait_event = 'PgSleep'"
        while not postgres.query(waiting) and time.monotonic() < deadline:
            time.sleep(0.02)
        postgres.query(f"SELECT pg_terminate_backend({pid})")

    thread = threading.Thread(target=end)
    thread.start()
    with pytest.raises(ConnectionLost) as caught:
        run_assertion(session, "SELECT pg_sleep(60)", 60)
    thread.join()
    assert caught.value.__suppress_context__
