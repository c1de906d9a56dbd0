"""Locks, then the snapshot: what other sessions do meanwhile, on real servers."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import datetime, timedelta

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo
from pydantic import SecretStr

from blocks import fact_sessions, locks, snapshot
from blocks.counting import RowCount
from blocks.errors import (
    BackupLockHeld,
    ConnectionLost,
    DatabaseError,
    LockNotGranted,
    RightsMissing,
    StreamAborted,
    TablesChanged,
)
from blocks.pgcommands import dump
from blocks.postgres import PostgresDatabase
from blocks.process import Command, run_checked
from blocks.snapshot import Snapshot, locked_snapshot
from tests.servers.ports import wait_until
from tests.servers.postgres import PostgresServer, programs, start_postgres, start_standby
from tests.servers.roles import ROLE_PASSWORD, create_limited_role, drop_role

ROLE = "backup"


@pytest.fixture
def shop(postgres: PostgresServer) -> Iterator[PostgresDatabase]:
    """A database with two tables, `a` of three rows and `b` of none."""
    with postgres.database("shop") as conninfo:
        postgres.execute(
            "CREATE TABLE a AS SELECT generate_series(1, 3) AS id; CREATE TABLE b (id int)", "shop"
        )
        yield PostgresDatabase(conninfo=SecretStr(conninfo), lock_wait_seconds=20)


def _held(
    database: PostgresDatabase,
    *,
    busy_timeout_seconds: float = 0,
    waits: list[str] | None = None,
    name: str = "shop",
) -> AbstractContextManager[Snapshot]:
    on_wait = (lambda _: None) if waits is None else waits.append
    return locked_snapshot(
        database, lock_name=name, busy_timeout_seconds=busy_timeout_seconds, on_wait=on_wait
    )


def _counts(held: Snapshot) -> dict[str, int]:
    return {count.table: count.rows for count in held.count_rows()}


def _somebody_waits(server: PostgresServer, sessions: int = 1) -> None:
    query = "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'relation'"
    wait_until(lambda: server.query(query) == [(sessions,)], "a session that waits for a lock")


@contextmanager
def _taken_while(
    server: PostgresServer, database: PostgresDatabase, statements: str
) -> Iterator[tuple[Snapshot, datetime]]:
    """Run `statements` in a transaction, begin a snapshot, and commit when that waits for their lock.

    Yields:
        The snapshot, and the server's time just before that commit, when the snapshot waited.
    """
    with ExitStack() as stack, server.connect("shop") as other, ThreadPoolExecutor() as pool:
        other.execute(f"BEGIN; {statements}".encode())
        future = pool.submit(stack.enter_context, _held(database))
        _somebody_waits(server)
        before_commit = other.execute("SELECT clock_timestamp()").fetchall()[0][0]
        other.execute("COMMIT")
        yield future.result(60), before_commit


def test_a_truncate_before_the_locks_is_in_the_snapshot_with_all_that_its_transaction_did(
    postgres: PostgresServer, shop: PostgresDatabase
) -> None:
    with _taken_while(postgres, shop, "TRUNCATE a; INSERT INTO b VALUES (1)") as (held, _):
        assert _counts(held) == {"a": 0, "b": 1}


def test_while_a_snapshot_is_held_rows_may_change_unseen_and_tables_may_not(
    postgres: PostgresServer, shop: PostgresDatabase
) -> None:
    with _held(shop) as held, postgres.connect("shop") as other:
        other.execute("INSERT INTO a VALUES (4); DELETE FROM a WHERE id < 3; INSERT INTO b VALUES (1)")
        other.execute("SET lock_timeout = '50ms'")
        for statement in (
            "TRUNCATE a",
            "ALTER TABLE a ADD COLUMN x int",
            "ALTER TABLE b RENAME TO c",
            "DROP TABLE b",
            "CREATE INDEX ON a (id)",
        ):
            if statement.startswith("CREATE INDEX"):
                other.execute(statement.encode())
                continue
            with pytest.raises(psycopg.errors.LockNotAvailable):
                other.execute(statement.encode())
        assert _counts(held) == {"a": 3, "b": 0}


def test_another_session_can_import_the_snapshot_and_sees_the_same(
    postgres: PostgresServer, shop: PostgresDatabase
) -> None:
    with _held(shop) as held, postgres.connect("shop") as other:
        postgres.execute("INSERT INTO b VALUES (1), (2)", "shop")
        other.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        other.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(held.name))
        assert other.execute("SELECT count(*) FROM b").fetchall() == [(0,)]


def test_a_snapshot_is_dated_by_the_server_after_the_locks_were_granted(
    postgres: PostgresServer, shop: PostgresDatabase
) -> None:
    with _taken_while(postgres, shop, "TRUNCATE a") as (held, while_it_waited):
        (until_now,) = postgres.query("SELECT clock_timestamp()")[0]
        assert held.taken_at.utcoffset() == timedelta(0)
        assert while_it_waited < held.taken_at < until_now


def test_counting_does_not_queue_behind_a_migration_that_waits_for_our_locks(
    postgres: PostgresServer, shop: PostgresDatabase
) -> None:
    with ThreadPoolExecutor() as pool:
        with _held(shop) as held:
            migration = pool.submit(postgres.execute, "ALTER TABLE a ADD COLUMN x int", "shop")
            _somebody_waits(postgres)
            assert _counts(held) == {"a": 3, "b": 0}
            assert not migration.done()
        migration.result(60)


def test_a_table_that_is_created_while_we_wait_is_locked_too(
    postgres: PostgresServer, shop: PostgresDatabase
) -> None:
    with _taken_while(postgres, shop, "LOCK TABLE a; CREATE TABLE c AS SELECT 1 AS id") as (held, _):
        assert _counts(held) == {"a": 3, "b": 0, "c": 1}
        with postgres.connect("shop") as other, pytest.raises(psycopg.errors.LockNotAvailable):
            other.execute("BEGIN; LOCK TABLE c NOWAIT")


@pytest.mark.parametrize(
    "statements",
    ["DROP TABLE a; CREATE TABLE a (other text)", "ALTER TABLE a RENAME TO c; ALTER TABLE b RENAME TO a"],
)
def test_a_table_that_is_replaced_while_we_wait_is_taken_as_it_is_now(
    postgres: PostgresServer, shop: PostgresDatabase, statements: str
) -> None:
    with _taken_while(postgres, shop, f"LOCK TABLE a; {statements}") as (held, _):
        named = {table.name: table.oid for table in held.tables}
        locked = postgres.query(
            "SELECT DISTINCT relation FROM pg_locks WHERE mode = 'AccessShareLock' AND relation >= 16384"
        )
        assert set(named.values()) == {oid for (oid,) in locked}
        assert (
            dict(postgres.query("SELECT relname, oid FROM pg_class WHERE relname IN ('a', 'b', 'c')", "shop"))
            == named
        )


def test_a_table_that_is_dropped_while_we_wait_is_left_out(
    postgres: PostgresServer, shop: PostgresDatabase
) -> None:
    with _taken_while(postgres, shop, "DROP TABLE a") as (held, _):
        assert _counts(held) == {"b": 0}


def test_tables_that_never_come_to_rest_are_a_passing_error(
    postgres: PostgresServer, shop: PostgresDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot, "ATTEMPTS", 1)
    with (
        pytest.raises(TablesChanged, match="came and went") as caught,
        _taken_while(postgres, shop, "LOCK TABLE a; CREATE TABLE c (id int)"),
    ):
        pass
    assert caught.value.transient


def test_a_table_that_stays_locked_is_named_with_the_session_that_holds_it(
    postgres: PostgresServer, shop: PostgresDatabase
) -> None:
    impatient = shop.model_copy(update={"lock_wait_seconds": 0.2})
    with postgres.connect("shop") as other:
        other.execute("SET application_name = 'migration'; BEGIN; LOCK TABLE b")
        with pytest.raises(LockNotGranted) as caught, _held(impatient):
            pass
        assert "the table public.b stayed locked for longer than 0.2 s" in caught.value.message
        assert (
            f"pid {other.info.backend_pid} (user admin, application migration, since " in caught.value.message
        )
        assert "lock_wait_seconds" in caught.value.hint


def test_a_migration_that_waits_itself_is_named_as_the_one_in_the_way(
    postgres: PostgresServer, shop: PostgresDatabase
) -> None:
    impatient = shop.model_copy(update={"lock_wait_seconds": 0.2})
    with postgres.connect("shop") as reader, ThreadPoolExecutor() as pool:
        reader.execute("BEGIN; LOCK TABLE a IN ACCESS SHARE MODE")
        migration = pool.submit(
            postgres.execute, "SET application_name = 'migration'; ALTER TABLE a ADD x int", "shop"
        )
        _somebody_waits(postgres)
        with (
            pytest.raises(LockNotGranted, match=r"public\.a stayed locked .* application migration"),
            _held(impatient),
        ):
            pass
        reader.execute("COMMIT")
        migration.result(60)


def test_a_prepared_transaction_in_the_way_is_called_that(
    postgres: PostgresServer, shop: PostgresDatabase
) -> None:
    impatient = shop.model_copy(update={"lock_wait_seconds": 0.2})
    postgres.execute("BEGIN; LOCK TABLE a; PREPARE TRANSACTION 'forgotten'", "shop")
    try:
        with pytest.raises(LockNotGranted, match="a prepared transaction"), _held(impatient):
            pass
    finally:
        postgres.execute("ROLLBACK PREPARED 'forgotten'", "shop")


def test_only_one_backup_of_a_name_runs_at_a_time(shop: PostgresDatabase) -> None:
    waits: list[str] = []
    with _held(shop) as first, _held(shop, name="another plan"):
        pid = first.connection.info.backend_pid
        with pytest.raises(BackupLockHeld) as caught, _held(shop, busy_timeout_seconds=0.1, waits=waits):
            pass
    assert f"another backup of shop, by the session with pid {pid} (user admin, application pgsalvo" in str(
        caught.value
    )
    assert "did not end within 0.1 s" in caught.value.message
    assert len(waits) == 1
    assert f"pid {pid}" in waits[0]


def test_a_released_snapshot_lets_the_tables_go_and_keeps_the_backup_lock(
    postgres: PostgresServer, shop: PostgresDatabase
) -> None:
    with _held(shop) as held:
        held.release()
        postgres.execute("SET lock_timeout = '20s'; TRUNCATE a", "shop")
        with pytest.raises(BackupLockHeld), _held(shop, busy_timeout_seconds=0.1):
            pass
        postgres.execute(f"SELECT pg_terminate_backend({held.connection.info.backend_pid})", "shop")


def test_a_session_that_was_lost_before_the_release_is_noticed(
    postgres: PostgresServer, shop: PostgresDatabase
) -> None:
    with _held(shop) as held:
        postgres.execute(f"SELECT pg_terminate_backend({held.connection.info.backend_pid})", "shop")
        with pytest.raises(ConnectionLost):
            held.release()
        held.is_released = True


def test_a_backup_begins_when_the_other_one_has_ended(
    shop: PostgresDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "POLL_SECONDS", 0.02)
    waiting = threading.Event()

    def second() -> dict[str, int]:
        with locked_snapshot(
            shop, lock_name="shop", busy_timeout_seconds=20, on_wait=lambda _: waiting.set()
        ) as held:
            return _counts(held)

    with ThreadPoolExecutor() as pool:
        with _held(shop):
            future = pool.submit(second)
            assert waiting.wait(10)
            assert not future.done()
        assert future.result(60) == {"a": 3, "b": 0}


def test_a_lock_key_is_signed_and_of_64_bits() -> None:
    keys = [locks.lock_key(name) for name in ("shop", "Shop", "ünï", "")]
    assert len(set(keys)) == 4
    assert all(-(1 << 63) <= key < 1 << 63 for key in keys)


def test_a_session_that_is_ended_is_noticed_by_the_counting_and_at_the_end(
    postgres: PostgresServer, shop: PostgresDatabase
) -> None:
    stack = ExitStack()
    held = stack.enter_context(_held(shop))
    _end_session(postgres, held)
    with pytest.raises(ConnectionLost, match="while counting rows") as caught:
        held.count_rows()
    assert caught.value.transient
    with pytest.raises(ConnectionLost, match="while holding the snapshot"):
        stack.close()


def test_the_first_cause_is_not_hidden_by_a_lost_session(
    postgres: PostgresServer, shop: PostgresDatabase
) -> None:
    def fail() -> None:
        with _held(shop) as held:
            _end_session(postgres, held)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()


def _end_session(server: PostgresServer, held: Snapshot) -> None:
    pid = held.connection.info.backend_pid
    server.execute(f"SELECT pg_terminate_backend({pid})")
    wait_until(
        lambda: server.query(f"SELECT FROM pg_stat_activity WHERE pid = {pid}") == [], "the session's end"
    )


@contextmanager
def _counting_that_hangs(
    server: PostgresServer,
    database: PostgresDatabase,
    *,
    sessions: int = 1,
    indexes: tuple[str, ...] = ("a_id",),
) -> Iterator[tuple[Snapshot, Future[list[RowCount]]]]:
    """Count in another thread while somebody rebuilds indexes, which locks the indexes only."""
    server.execute("CREATE INDEX a_id ON a (id)", "shop")
    with ThreadPoolExecutor() as pool, ExitStack() as stack, _held(database) as held:
        for index in indexes:
            other = stack.enter_context(server.connect("shop"))
            other.execute(f"BEGIN; REINDEX INDEX {index}".encode())
        future = pool.submit(held.count_rows, sessions=sessions)
        _somebody_waits(server, len(indexes))
        yield held, future


def test_a_counting_can_be_cancelled_from_another_thread(
    postgres: PostgresServer, shop: PostgresDatabase
) -> None:
    with _counting_that_hangs(postgres, shop) as (held, counting):
        held.cancel()
        with pytest.raises(StreamAborted, match="cancelled"):
            counting.result(60)
        with pytest.raises(StreamAborted):
            held.count_rows()


def test_several_sessions_count_the_same_at_once(postgres: PostgresServer, shop: PostgresDatabase) -> None:
    tables = (f"CREATE TABLE t{n} AS SELECT generate_series(1, {n}) AS id" for n in range(30))
    postgres.execute(";".join(tables), "shop")
    progress: list[tuple[int, int]] = []
    with _held(shop) as held:
        postgres.execute("DELETE FROM t7; INSERT INTO t8 VALUES (1)", "shop")
        counts = held.count_rows(lambda *done: progress.append(done), content=True, sessions=4)
        assert counts == held.count_rows(content=True)
        assert _counts(held) == {"a": 3, "b": 0} | {f"t{n}": n for n in range(30)}
        assert _sessions_of_ours(postgres) == 1
    assert progress[0] == (0, 32)
    assert progress[-1] == (32, 32)
    assert progress == sorted(progress)


def test_another_session_counts_while_the_first_one_waits(
    postgres: PostgresServer, shop: PostgresDatabase
) -> None:
    with _counting_that_hangs(postgres, shop, sessions=2) as (held, counting):
        wait_until(lambda: _sessions_of_ours(postgres) == 1, "the other session's end")
        assert not counting.done()
        held.cancel()


def test_a_session_that_finds_a_migration_in_front_of_it_is_given_up(
    postgres: PostgresServer, shop: PostgresDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fact_sessions, "LOCK_WAIT_SECONDS", 0.2)
    with ThreadPoolExecutor() as pool:
        with _held(shop) as held:
            migrations = [
                pool.submit(postgres.execute, f"ALTER TABLE {name} ADD COLUMN x int", "shop") for name in "ab"
            ]
            _somebody_waits(postgres, 2)
            assert held.count_rows(sessions=2) == [RowCount("public", "a", 3), RowCount("public", "b", 0)]
            assert not any(migration.done() for migration in migrations)
        for migration in migrations:
            migration.result(60)


def test_a_role_of_few_connections_counts_with_as_many_as_it_gets(
    postgres: PostgresServer, limited: PostgresDatabase
) -> None:
    postgres.execute(f"GRANT SELECT ON b TO {ROLE}; ALTER ROLE {ROLE} CONNECTION LIMIT 1", "shop")
    with _held(limited) as held:
        assert len(held.count_rows(sessions=2)) == 2


def test_an_error_of_another_session_ends_the_first_one(
    postgres: PostgresServer, shop: PostgresDatabase
) -> None:
    postgres.execute("CREATE INDEX b_id ON b (id)", "shop")
    with _counting_that_hangs(postgres, shop, sessions=2, indexes=("a_id", "b_id")) as (held, counting):
        ours = held.connection.info.backend_pid
        waiting = postgres.query("SELECT pid FROM pg_locks WHERE NOT granted AND locktype = 'relation'")
        (other,) = {pid for (pid,) in waiting} - {ours}
        postgres.execute(f"SELECT pg_terminate_backend({other})")
        with pytest.raises(ConnectionLost, match="while counting rows"):
            counting.result(60)
        held.check()


def test_all_sessions_are_cancelled_together(postgres: PostgresServer, shop: PostgresDatabase) -> None:
    postgres.execute("CREATE INDEX b_id ON b (id)", "shop")
    with _counting_that_hangs(postgres, shop, sessions=2, indexes=("a_id", "b_id")) as (held, counting):
        held.cancel()
        with pytest.raises(StreamAborted, match="cancelled"):
            counting.result(60)
        assert _sessions_of_ours(postgres) == 1


def test_a_snapshot_that_is_gone_is_a_passing_error_for_others(shop: PostgresDatabase) -> None:
    with _held(shop) as held:
        held.release()
        with pytest.raises(ConnectionLost, match="before another one took the snapshot over"):
            held.count_rows(sessions=2)


def test_a_snapshot_tells_its_age(shop: PostgresDatabase) -> None:
    with _held(shop) as held:
        first = held.age_seconds
        time.sleep(0.02)
        assert 0 <= first < first + 0.02 <= held.age_seconds < 60


def test_large_objects_are_measured_as_of_the_snapshot(
    postgres: PostgresServer, shop: PostgresDatabase
) -> None:
    postgres.execute("SELECT lo_from_bytea(1, 'large')", "shop")
    with _held(shop) as held:
        before = held.measure_large_objects(content=True)
        postgres.execute("SELECT lo_put(1, 0, 'other'), lo_from_bytea(2, 'new')", "shop")
        assert held.measure_large_objects(content=True) == before
        assert (before.count, before.size_bytes) == (1, 5)
        held.cancel()
        with pytest.raises(StreamAborted):
            held.measure_large_objects()


def _sessions_of_ours(server: PostgresServer) -> int:
    """Count the sessions on the shop that are not this query's own."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgsalvo' AND datname = 'shop'"
    ((count,),) = server.query(query)
    assert isinstance(count, int)
    return count


def test_the_lock_wait_limit_is_for_the_tables_only(postgres: PostgresServer, shop: PostgresDatabase) -> None:
    impatient = shop.model_copy(update={"lock_wait_seconds": 0.1})
    with _counting_that_hangs(postgres, impatient) as (held, counting):
        with pytest.raises(TimeoutError):
            counting.result(0.3)
        held.cancel()


def test_a_failure_elsewhere_ends_the_counting(postgres: PostgresServer, shop: PostgresDatabase) -> None:
    with pytest.raises(ZeroDivisionError), _counting_that_hangs(postgres, shop) as (_, counting):
        raise ZeroDivisionError
    assert isinstance(counting.exception(10), StreamAborted)


def test_a_counting_that_somebody_else_cancels_is_an_error(
    postgres: PostgresServer, shop: PostgresDatabase
) -> None:
    with _counting_that_hangs(postgres, shop) as (held, counting):
        postgres.execute(f"SELECT pg_cancel_backend({held.connection.info.backend_pid})")
        with pytest.raises(DatabaseError, match=r"while counting rows: canceling statement.*57014"):
            counting.result(60)


def test_counting_five_thousand_tables_keeps_no_lock_but_the_tables_own(postgres15: PostgresServer) -> None:
    """With all the indexes' locks they would be 15,000, and the server's default is good for 12,800."""
    progress: list[tuple[int, int]] = []
    with postgres15.database("wide") as conninfo, postgres15.connect("wide") as session:
        for start in range(0, 5_000, 500):
            names = (f"t{number}" for number in range(start, start + 500))
            tables = ";".join(f"CREATE TABLE {name} (a int PRIMARY KEY, b int UNIQUE)" for name in names)
            session.execute(f"BEGIN; {tables}; INSERT INTO t{start} VALUES (1, 1); COMMIT".encode())
        with _held(PostgresDatabase(conninfo=SecretStr(conninfo))) as held:
            counts = held.count_rows(lambda done, total: progress.append((done, total)))
            pid = held.connection.info.backend_pid
            kept = session.execute(
                "SELECT count(*) FROM pg_locks WHERE pid = %s AND relation >= 16384", [pid]
            )
            assert kept.fetchall() == [(5_000,)]
    assert len(counts) == 5_000
    assert sum(count.rows for count in counts) == 10
    assert progress == [(done, 5_000) for done in range(0, 5_001, 100)]


def test_a_full_lock_table_is_an_error_that_names_the_setting() -> None:
    few = {"max_locks_per_transaction": "10", "max_connections": "10", "max_wal_senders": "0"}
    server = start_postgres(15, programs(15), few)
    try:
        for start in range(0, 1000, 100):
            server.execute(";".join(f"CREATE TABLE t{number} ()" for number in range(start, start + 100)))
        with pytest.raises(DatabaseError, match="locking the tables: out of shared memory") as caught:
            _held(PostgresDatabase(conninfo=SecretStr(server.conninfo()))).__enter__()
    finally:
        server.stop()
    assert "max_locks_per_transaction" in caught.value.hint


ODD_NAMES = [
    *(("public", name) for name in ("with.dot", 'say "hi"', "dash-ed", "Ünï", "line\nbreak", "x" * 63)),
    *(("public", name) for name in ("%s", "{}", "select")),
    *(("My.Schema", "a.b"), ('"', "'")),
]


def test_tables_of_any_name_are_locked_and_counted(postgres: PostgresServer) -> None:
    with postgres.database("a=b") as conninfo, postgres.connect("a=b") as session:
        for schema, name in ODD_NAMES:
            session.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(schema)))
            session.execute(sql.SQL("CREATE TABLE {} AS SELECT 1").format(sql.Identifier(schema, name)))
        session.execute("CREATE TABLE without_columns (); INSERT INTO without_columns DEFAULT VALUES")
        with _held(PostgresDatabase(conninfo=SecretStr(conninfo))) as held:
            counts = held.count_rows()
    expected = [*ODD_NAMES, ("public", "without_columns")]
    assert counts == sorted(RowCount(*name, 1) for name in expected)


def test_an_empty_database_has_a_snapshot(postgres: PostgresServer) -> None:
    with (
        postgres.database("empty") as conninfo,
        _held(PostgresDatabase(conninfo=SecretStr(conninfo))) as held,
    ):
        assert held.name
        assert held.tables == ()
        assert held.sequences == ()
        assert held.count_rows() == []


def test_sequences_are_read_as_they_stand_when_the_snapshot_is_taken(
    postgres: PostgresServer, shop: PostgresDatabase
) -> None:
    postgres.execute("CREATE SEQUENCE s; SELECT nextval('s'), nextval('s'); CREATE SEQUENCE unused", "shop")
    with _held(shop) as held:
        postgres.execute("SELECT nextval('s')", "shop")
        assert [(one.name, one.last_value, one.is_called) for one in held.sequences] == [
            ("s", 2, True),
            ("unused", 1, False),
        ]


@pytest.fixture
def limited(postgres: PostgresServer, shop: PostgresDatabase) -> Iterator[PostgresDatabase]:
    """The shop as a role sees it that may read `a` only."""
    create_limited_role(postgres, ROLE)
    postgres.execute(f"GRANT SELECT ON a TO {ROLE}", "shop")
    conninfo = make_conninfo(shop.conninfo.get_secret_value(), user=ROLE, password=ROLE_PASSWORD)
    yield shop.model_copy(update={"conninfo": SecretStr(conninfo)})
    postgres.execute(f"DROP OWNED BY {ROLE}", "shop")
    drop_role(postgres, ROLE)


def test_a_role_with_short_time_outs_holds_a_snapshot_for_as_long_as_it_takes(
    postgres: PostgresServer, limited: PostgresDatabase
) -> None:
    postgres.execute(f"GRANT SELECT ON b TO {ROLE}", "shop")
    with _held(limited) as held:
        time.sleep(0.5)
        assert _counts(held) == {"a": 3, "b": 0}
        time.sleep(0.5)


def test_a_table_that_the_role_may_not_read_is_named(limited: PostgresDatabase) -> None:
    with pytest.raises(RightsMissing, match=r"may not read public\.b\n") as caught, _held(limited):
        pass
    assert "doctor" in caught.value.hint


def test_row_security_is_an_error_and_hides_no_rows(
    postgres: PostgresServer, limited: PostgresDatabase
) -> None:
    postgres.execute(
        f"GRANT SELECT ON b TO {ROLE}; ALTER TABLE a ENABLE ROW LEVEL SECURITY;"
        "CREATE POLICY one ON a USING (id = 1)",
        "shop",
    )
    with (
        _held(limited) as held,
        pytest.raises(RightsMissing, match='row-level security policy for table "a"'),
    ):
        held.count_rows()


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({}, id="everything"),
        pytest.param({"exclude_schemas": ["aud*"], "exclude_table_data": ["public.events"]}, id="exclusions"),
        pytest.param({"include_schemas": ["public", "audit"], "exclude_tables": ["public.a"]}, id="schemas"),
        pytest.param(
            {"include_tables": ["public.*", "audit.*"], "exclude_tables": ['*."Odd.Name"']}, id="tables"
        ),
    ],
)
def test_pg_dump_dumps_the_rows_of_just_the_tables_that_are_counted(
    postgres: PostgresServer, shop: PostgresDatabase, fields: dict[str, list[str]]
) -> None:
    postgres.execute(
        'CREATE SCHEMA audit; CREATE TABLE audit."Odd.Name" (id serial); CREATE TABLE audit.log (id serial);'
        "CREATE TABLE events (id int GENERATED ALWAYS AS IDENTITY, at date) PARTITION BY RANGE (at);"
        "CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');"
        "CREATE VIEW public.v AS SELECT 1 AS one",
        "shop",
    )
    database = shop.model_copy(update=fields)
    with _held(database) as held, database.client_environment(held.pin) as client:
        command = dump(
            postgres.programs / "pg_dump",
            client,
            snapshot=held.name,
            lock_wait_seconds=1,
            selection=held.selection,
        )
        archive = run_checked(command)
        counts = held.count_rows()
    listing = run_checked(Command((str(postgres.programs / "pg_restore"), "--list")), stdin=archive).decode()
    assert _listed(listing, " TABLE DATA ") == sorted(f"{count.schema} {count.table}" for count in counts)
    assert _listed(listing, " SEQUENCE SET ") == sorted(f"{one.schema} {one.name}" for one in held.sequences)


def _listed(listing: str, kind: str) -> list[str]:
    return sorted(line.split(kind)[1].rsplit(" ", 1)[0] for line in listing.splitlines() if kind in line)


@pytest.fixture(scope="module")
def standby(postgres15: PostgresServer) -> Iterator[PostgresServer]:
    ((prepared,),) = postgres15.query("SHOW max_prepared_transactions")
    settings = {"max_standby_streaming_delay": "100ms", "max_prepared_transactions": prepared}
    server = start_standby(postgres15, settings)
    yield server
    server.stop()


def test_a_standby_is_backed_up_without_the_rows_of_unlogged_tables(
    postgres15: PostgresServer, standby: PostgresServer
) -> None:
    with postgres15.database("shop"):
        postgres15.execute(
            "CREATE TABLE a AS SELECT 1 AS id; CREATE UNLOGGED TABLE u AS SELECT 1 AS id", "shop"
        )
        database = _follow(postgres15, standby)
        with _held(database) as held:
            assert _counts(held) == {"a": 1}
            assert [table.name for table in held.tables] == ["a", "u"]


def test_a_standby_that_must_go_on_ends_the_snapshot_as_a_passing_error(
    postgres15: PostgresServer, standby: PostgresServer
) -> None:
    with postgres15.database("shop"):
        postgres15.execute("CREATE TABLE a AS SELECT 1 AS id", "shop")
        stack = ExitStack()
        held = stack.enter_context(_held(_follow(postgres15, standby)))
        postgres15.execute("TRUNCATE a", "shop")
        _caught_up(postgres15, standby)
        with pytest.raises(ConnectionLost, match="conflict with recovery"):
            held.count_rows()
        with pytest.raises(ConnectionLost):
            stack.close()


def _follow(primary: PostgresServer, standby: PostgresServer) -> PostgresDatabase:
    _caught_up(primary, standby)
    return PostgresDatabase(conninfo=SecretStr(standby.conninfo("shop")))


def _caught_up(primary: PostgresServer, standby: PostgresServer) -> None:
    ((position,),) = primary.query("SELECT pg_current_wal_insert_lsn()")
    wait_until(
        lambda: standby.query(f"SELECT pg_last_wal_replay_lsn() >= '{position}'") == [(True,)], "the standby"
    )
