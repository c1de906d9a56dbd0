"""What a restored database says of itself, on real servers: orphans, broken checks, corrupt indexes."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from blocks.errors import ConfigurationError, ConnectionLost
from blocks.postgres import Session
from blocks.soundness import (
    COUNTED_VIOLATIONS,
    CorruptIndex,
    ViolatedConstraint,
    corrupt_indexes,
    install_amcheck,
    violated_constraints,
)
from tests.servers.every_feature import DATABASE, ROLES, every_feature
from tests.servers.postgres import PostgresServer, programs, start_postgres

DBNAME = "sound"
OWNER = "sound_owner"
PLAIN = "sound_plain"


@pytest.fixture
def database(postgres: PostgresServer) -> Iterator[PostgresServer]:
    """A database whose tables belong to a role without power, and `PLAIN`, a member of it who sees all."""
    with served(postgres):
        yield postgres


@contextmanager
def served(server: PostgresServer) -> Iterator[PostgresServer]:
    """Make the two roles and the database, on whichever server."""
    server.execute(f"CREATE ROLE {OWNER}; CREATE ROLE {PLAIN} LOGIN BYPASSRLS PASSWORD 'p'")
    server.execute(f"GRANT pg_read_all_data, {OWNER} TO {PLAIN}")
    with server.database(DBNAME):
        server.execute(f"CREATE SCHEMA s AUTHORIZATION {OWNER}", DBNAME)
        yield server
    server.execute(f"DROP ROLE {PLAIN}; DROP ROLE {OWNER}")


def plain(server: PostgresServer, dbname: str = DBNAME) -> Session:
    session = server.connect(dbname, user=PLAIN, password="p")
    session.execute("SET search_path = ''")
    return session


def owned(server: PostgresServer, statements: str) -> None:
    """Run statements as the tables' owner."""
    server.execute(f"SET ROLE {OWNER}; SET search_path = s; {statements}", DBNAME)


def planted(server: PostgresServer, statements: str) -> None:
    """Run statements as a superuser whom no foreign key stops."""
    server.execute(f"SET session_replication_role = replica; SET search_path = s; {statements}", DBNAME)


def found(server: PostgresServer) -> list[tuple[str, str, str, int]]:
    with plain(server) as session:
        result = violated_constraints(session)
    assert result.notes == []
    return [(one.table, one.name, one.kind, one.count) for one in result.violated]


ODD = '"odd ""table"" %s"'
ORPHANS = [
    pytest.param(
        "CREATE TABLE parent (id int PRIMARY KEY);"
        "CREATE TABLE child (id int CONSTRAINT fk REFERENCES parent); INSERT INTO parent VALUES (1)",
        "INSERT INTO child VALUES (1), (2), (3), (NULL)",
        ("child", "fk", "foreign key", 2),
        id="plain",
    ),
    pytest.param(
        "CREATE TABLE tree (id int PRIMARY KEY, up int CONSTRAINT fk REFERENCES tree)",
        "INSERT INTO tree VALUES (1, NULL), (2, 1), (3, 99)",
        ("tree", "fk", "foreign key", 1),
        id="to-itself",
    ),
    pytest.param(
        "CREATE TABLE parent (a int, b int, PRIMARY KEY (a, b)); INSERT INTO parent VALUES (1, 1);"
        "CREATE TABLE child (b int, a int, CONSTRAINT fk FOREIGN KEY (a, b) REFERENCES parent)",
        "INSERT INTO child (a, b) VALUES (1, 1), (1, 2), (1, NULL), (NULL, NULL)",
        ("child", "fk", "foreign key", 1),
        id="match-simple",
    ),
    pytest.param(
        "CREATE TABLE parent (a int, b int, PRIMARY KEY (a, b)); INSERT INTO parent VALUES (1, 1);"
        "CREATE TABLE child (a int, b int, CONSTRAINT fk FOREIGN KEY (a, b) REFERENCES parent MATCH FULL)",
        "INSERT INTO child VALUES (1, 1), (1, 2), (1, NULL), (NULL, NULL)",
        ("child", "fk", "foreign key", 2),
        id="match-full",
    ),
    pytest.param(
        "CREATE TABLE parent (id int PRIMARY KEY) PARTITION BY RANGE (id);"
        "CREATE TABLE low PARTITION OF parent FOR VALUES FROM (0) TO (10);"
        "CREATE TABLE high PARTITION OF parent FOR VALUES FROM (10) TO (20);"
        "INSERT INTO parent VALUES (1), (11);"
        "CREATE TABLE child (id int, CONSTRAINT fk FOREIGN KEY (id) REFERENCES parent)"
        " PARTITION BY LIST (id);"
        "CREATE TABLE few PARTITION OF child FOR VALUES IN (1, 2);"
        "CREATE TABLE rest PARTITION OF child DEFAULT",
        "INSERT INTO child VALUES (1), (11), (2), (12)",
        ("child", "fk", "foreign key", 2),
        id="both-partitioned",
    ),
    pytest.param(
        "CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE heir () INHERITS (parent);"
        "INSERT INTO heir VALUES (7); CREATE TABLE child (id int CONSTRAINT fk REFERENCES parent)",
        "INSERT INTO child VALUES (7)",
        ("child", "fk", "foreign key", 1),
        id="a-row-of-an-heir-is-no-parent",
    ),
    pytest.param(
        "CREATE TABLE parent (id bigint PRIMARY KEY); INSERT INTO parent VALUES (1);"
        "CREATE TABLE child (id smallint CONSTRAINT fk REFERENCES parent)",
        "INSERT INTO child VALUES (1), (2)",
        ("child", "fk", "foreign key", 1),
        id="of-two-types",
    ),
    pytest.param(
        "CREATE TABLE parent (id char(9) PRIMARY KEY); INSERT INTO parent VALUES ('ab');"
        "CREATE DOMAIN code AS char(9); CREATE TABLE child (id code CONSTRAINT fk REFERENCES parent)",
        "INSERT INTO child VALUES ('ab'), ('ac')",
        ("child", "fk", "foreign key", 1),
        id="of-characters-in-a-domain",
    ),
    pytest.param(
        "CREATE TABLE parent (id text COLLATE \"C\" PRIMARY KEY); INSERT INTO parent VALUES ('a');"
        'CREATE TABLE child (id varchar COLLATE "POSIX" CONSTRAINT fk REFERENCES parent)',
        "INSERT INTO child VALUES ('a'), ('b')",
        ("child", "fk", "foreign key", 1),
        id="of-two-collations",
    ),
    pytest.param(
        "CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE TABLE parent (id mood, n int[], PRIMARY KEY (id, n));"
        "INSERT INTO parent VALUES ('sad', '{1,2}');"
        "CREATE TABLE child (id mood, n int[], CONSTRAINT fk FOREIGN KEY (id, n) REFERENCES parent)",
        "INSERT INTO child VALUES ('sad', '{1,2}'), ('ok', '{1,2}'), ('sad', '{1}')",
        ("child", "fk", "foreign key", 2),
        id="of-enums-and-arrays",
    ),
    pytest.param(
        f'CREATE TABLE {ODD} ("Id; --" int PRIMARY KEY, "up {{}}" int);'
        f'ALTER TABLE {ODD} ADD CONSTRAINT "f \' k" FOREIGN KEY ("up {{}}") REFERENCES {ODD}',
        f"INSERT INTO {ODD} VALUES (1, 2)",
        ('odd "table" %s', "f ' k", "foreign key", 1),
        id="of-odd-names",
    ),
]


@pytest.mark.parametrize(("statements", "plant", "violation"), ORPHANS)
def test_rows_without_their_parent_are_found(
    database: PostgresServer, statements: str, plant: str, violation: tuple[str, str, str, int]
) -> None:
    owned(database, statements)
    assert found(database) == []
    planted(database, plant)
    assert found(database) == [violation]


def validated(server: PostgresServer, constraint: str) -> None:
    """Make a constraint that was never checked pass for valid."""
    server.execute(f"UPDATE pg_constraint SET convalidated = true WHERE conname = '{constraint}'", DBNAME)


def test_rows_that_break_a_check_are_found_in_the_very_table_that_has_them(database: PostgresServer) -> None:
    owned(
        database,
        "CREATE TABLE base (v int, w int); CREATE TABLE heir () INHERITS (base);"
        "INSERT INTO base VALUES (1, 1), (NULL, 1); INSERT INTO heir VALUES (-1, 1), (-2, 1), (3, 1);"
        "ALTER TABLE base ADD CONSTRAINT above CHECK (v > 0) NOT VALID",
    )
    assert found(database) == []
    validated(database, "above")
    assert found(database) == [("heir", "above", "check", 2)]


def test_a_check_of_the_whole_row_is_looked_at(database: PostgresServer) -> None:
    owned(
        database,
        'CREATE TABLE "T t" (v int, w int); INSERT INTO "T t" VALUES (1, 1), (1, NULL);'
        'ALTER TABLE "T t" ADD CONSTRAINT whole CHECK ("T t".* IS NOT NULL) NOT VALID',
    )
    validated(database, "whole")
    assert found(database) == [("T t", "whole", "check", 1)]


def test_partitions_are_held_against_their_checks(database: PostgresServer) -> None:
    owned(
        database,
        "CREATE TABLE base (v int) PARTITION BY LIST (v); CREATE TABLE leaf PARTITION OF base DEFAULT;"
        "INSERT INTO base VALUES (0), (5); ALTER TABLE base ADD CONSTRAINT above CHECK (v > 0) NOT VALID",
    )
    validated(database, "above")
    assert found(database) == [("leaf", "above", "check", 1)]


def test_what_was_never_validated_is_left_alone(database: PostgresServer) -> None:
    owned(
        database,
        "CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE child (id int); INSERT INTO child VALUES (1);"
        "ALTER TABLE child ADD FOREIGN KEY (id) REFERENCES parent NOT VALID, ADD CHECK (id > 1) NOT VALID",
    )
    with plain(database) as session:
        assert violated_constraints(session).checked == 0


def test_violations_are_counted_up_to_a_limit(database: PostgresServer) -> None:
    owned(
        database,
        "CREATE TABLE many (v int); INSERT INTO many SELECT generate_series(1, 1500);"
        "ALTER TABLE many ADD CONSTRAINT none CHECK (v < 0) NOT VALID",
    )
    validated(database, "none")
    with plain(database) as session:
        result = violated_constraints(session)
    assert result.violated == [ViolatedConstraint("s", "many", "none", "check", COUNTED_VIOLATIONS)]


def test_a_policy_hides_no_row_from_whoever_may_see_all_and_is_told_to_others(
    database: PostgresServer,
) -> None:
    owned(
        database,
        "CREATE TABLE hidden (v int); INSERT INTO hidden VALUES (1);"
        "ALTER TABLE hidden ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;"
        "ALTER TABLE hidden ADD CONSTRAINT none CHECK (v < 0) NOT VALID",
    )
    validated(database, "none")
    assert found(database) == [("hidden", "none", "check", 1)]
    database.execute(f"ALTER ROLE {PLAIN} NOBYPASSRLS")
    with plain(database) as session:
        assert violated_constraints(session).notes == [
            "constraint none of s.hidden was not checked: the server refused: 42501 InsufficientPrivilege"
        ]


def test_a_check_that_fails_or_takes_too_long_is_told_and_the_rest_is_checked(
    database: PostgresServer,
) -> None:
    owned(
        database,
        "CREATE FUNCTION slow(int) RETURNS bool LANGUAGE sql AS 'SELECT true FROM pg_sleep(60)';"
        "CREATE FUNCTION fails(int) RETURNS bool LANGUAGE plpgsql"
        " AS 'BEGIN RAISE EXCEPTION ''planted %'', $1; END';"
        "CREATE TABLE t (v int); INSERT INTO t VALUES (7777);"
        "ALTER TABLE t ADD CONSTRAINT a CHECK (s.slow(v)) NOT VALID,"
        " ADD CONSTRAINT c CHECK (v < 0) NOT VALID,"
        " ADD CONSTRAINT b CHECK (s.fails(v)) NOT VALID",
    )
    database.execute("UPDATE pg_constraint SET convalidated = true WHERE conname IN ('a', 'b', 'c')", DBNAME)
    told: list[tuple[int, int]] = []
    with plain(database) as session:
        result = violated_constraints(session, lambda *at: told.append(at), statement_seconds=0.2)
    assert result.violated == [ViolatedConstraint("s", "t", "c", "check", 1)]
    assert result.checked == 1
    assert result.notes == [
        "constraint a of s.t was not checked: it took longer than 0.2 s",
        "constraint b of s.t was not checked: the server refused: P0001 RaiseException",
    ]
    assert told == [(0, 3), (1, 3), (2, 3), (3, 3)]


def test_a_check_changes_nothing(database: PostgresServer) -> None:
    owned(
        database,
        "CREATE TABLE loot (v int);"
        "CREATE FUNCTION writes(int) RETURNS bool LANGUAGE sql"
        " AS 'INSERT INTO s.loot VALUES ($1) RETURNING true';"
        "CREATE TABLE t (v int); INSERT INTO t VALUES (1);"
        "ALTER TABLE t ADD CONSTRAINT a CHECK (s.writes(v)) NOT VALID",
    )
    database.execute(f"GRANT INSERT ON s.loot TO {PLAIN}", DBNAME)
    validated(database, "a")
    assert found(database) == []
    assert database.query("SELECT count(*) FROM s.loot", DBNAME) == [(0,)]


def test_a_superuser_is_refused_even_behind_another_role(database: PostgresServer) -> None:
    for statement in ("SELECT", f"SET ROLE {PLAIN}"):
        with database.connect(DBNAME) as session:
            session.execute(statement.encode())
            with pytest.raises(ConfigurationError, match="would run as a superuser"):
                violated_constraints(session)
            with pytest.raises(ConfigurationError, match="would run as a superuser"):
                corrupt_indexes(session)


def test_a_session_that_ends_is_no_note(database: PostgresServer) -> None:
    owned(
        database,
        "CREATE FUNCTION slow(int) RETURNS bool LANGUAGE sql AS 'SELECT true FROM pg_sleep(60)';"
        "CREATE TABLE t (v int); INSERT INTO t VALUES (1);"
        "ALTER TABLE t ADD CONSTRAINT a CHECK (s.slow(v)) NOT VALID",
    )
    validated(database, "a")
    with plain(database) as session:
        pid = session.info.backend_pid
        waiting = f"SELECT FROM pg_stat_activity WHERE pid = {pid} AND wait_event = 'PgSleep'"

        def end() -> None:
            deadline = time.monotonic() + 30
            while not database.query(waiting) and time.monotonic() < deadline:
                time.sleep(0.02)
            database.query(f"SELECT pg_terminate_backend({pid})")

        thread = threading.Thread(target=end)
        thread.start()
        with pytest.raises(ConnectionLost):
            violated_constraints(session)
        thread.join()


CHANGING = (
    "CREATE FUNCTION shown(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN $1; END';"
    "CREATE TABLE t (v int); INSERT INTO t SELECT generate_series(1, 20);"
    "CREATE INDEX good ON t (v); CREATE INDEX bad ON t (s.shown(v));"
)
CHANGED = (
    "CREATE OR REPLACE FUNCTION shown(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN -$1; END';"
)


def installed(server: PostgresServer) -> None:
    with server.connect(DBNAME) as session:
        session.execute("SET search_path = ''")
        assert install_amcheck(session, PLAIN)


def test_an_index_whose_function_changed_its_mind_is_found(database: PostgresServer) -> None:
    owned(database, CHANGING)
    installed(database)
    with plain(database) as session:
        assert corrupt_indexes(session).corrupt == []
        owned(database, CHANGED)
        result = corrupt_indexes(session)
    assert result.corrupt == [CorruptIndex("s", "bad", "t")]
    assert (result.checked, result.notes) == (2, [])


def test_indexes_of_partitions_and_materialized_views_are_looked_at(database: PostgresServer) -> None:
    owned(
        database,
        "CREATE FUNCTION shown(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN $1; END';"
        "CREATE TABLE base (v int) PARTITION BY LIST (v); CREATE TABLE leaf PARTITION OF base DEFAULT;"
        "CREATE INDEX ON base (s.shown(v)); INSERT INTO base SELECT generate_series(1, 20);"
        "CREATE MATERIALIZED VIEW seen AS SELECT * FROM base; CREATE INDEX seen_index ON seen (s.shown(v));"
        + CHANGED,
    )
    installed(database)
    with plain(database) as session:
        result = corrupt_indexes(session)
    assert result.corrupt == [
        CorruptIndex("s", "leaf_shown_idx", "leaf"),
        CorruptIndex("s", "seen_index", "seen"),
    ]


def test_an_indexs_expression_runs_as_the_tables_owner(database: PostgresServer) -> None:
    owned(
        database,
        "CREATE FUNCTION whose(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN"
        f" IF current_user <> '{OWNER}' THEN RAISE EXCEPTION 'as %', current_user; END IF; RETURN $1; END $$;"
        "CREATE TABLE t (v int); INSERT INTO t VALUES (1); CREATE INDEX i ON t (s.whose(v))",
    )
    installed(database)
    with plain(database) as session:
        result = corrupt_indexes(session)
    assert (result.checked, result.corrupt, result.notes) == (1, [], [])


def test_an_index_that_takes_too_long_is_told(database: PostgresServer) -> None:
    owned(
        database,
        "CREATE FUNCTION slow(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN $1; END';"
        "CREATE TABLE t (v int); INSERT INTO t VALUES (1); CREATE INDEX i ON t (s.slow(v));"
        "CREATE OR REPLACE FUNCTION slow(int) RETURNS int IMMUTABLE LANGUAGE plpgsql"
        " AS 'BEGIN PERFORM pg_sleep(60); RETURN $1; END'",
    )
    installed(database)
    with plain(database) as session:
        result = corrupt_indexes(session, statement_seconds=0.2)
    assert (result.checked, result.notes) == (
        0,
        ["index i of s.t was not checked: it took longer than 0.2 s"],
    )


def test_a_superusers_indexes_are_left_out_and_told(database: PostgresServer) -> None:
    database.execute("CREATE TABLE s.of_admin (v int PRIMARY KEY)", DBNAME)
    installed(database)
    with plain(database) as session:
        result = corrupt_indexes(session)
    assert (result.checked, result.notes) == (
        0,
        ["indexes that were not checked, for their tables belong to a superuser: 1"],
    )


def test_an_index_that_amcheck_does_not_know_is_told(database: PostgresServer) -> None:
    owned(
        database, "CREATE TABLE t (v int); CREATE INDEX ON t USING brin (v); CREATE INDEX ON t USING hash (v)"
    )
    installed(database)
    with plain(database) as session:
        result = corrupt_indexes(session)
    assert (result.checked, result.notes) == (
        0,
        ["indexes that were not checked, for amcheck does not know brin, hash: 2"],
    )


def test_without_amcheck_no_index_counts_as_checked(database: PostgresServer) -> None:
    owned(database, "CREATE TABLE t (v int PRIMARY KEY)")
    with plain(database) as session:
        result = corrupt_indexes(session)
    assert (result.checked, result.notes) == (0, ["no index was checked: the server has no amcheck"])


def test_installing_amcheck_runs_no_event_trigger_and_leaves_each_as_it_was(database: PostgresServer) -> None:
    states = {"origin": "ENABLE", "always": "ENABLE ALWAYS", "replica": "ENABLE REPLICA", "off": "DISABLE"}
    database.execute(
        "CREATE TABLE public.loot (who text); CREATE FUNCTION public.loots() RETURNS event_trigger"
        " LANGUAGE plpgsql AS 'BEGIN INSERT INTO public.loot VALUES (current_user); END'",
        DBNAME,
    )
    for name in states:
        database.execute(
            f"CREATE EVENT TRIGGER {name} ON ddl_command_end EXECUTE FUNCTION public.loots()", DBNAME
        )
    for name, state in states.items():
        database.execute(f"ALTER EVENT TRIGGER {name} {state}", DBNAME)
    database.execute("TRUNCATE public.loot", DBNAME)
    before = database.query("SELECT evtname, evtenabled FROM pg_event_trigger ORDER BY evtname", DBNAME)
    installed(database)
    assert database.query("SELECT who FROM public.loot", DBNAME) == []
    assert (
        database.query("SELECT evtname, evtenabled FROM pg_event_trigger ORDER BY evtname", DBNAME) == before
    )


def test_amcheck_that_the_database_brought_along_is_used_where_it_is(database: PostgresServer) -> None:
    database.execute("CREATE EXTENSION amcheck SCHEMA s", DBNAME)
    owned(database, CHANGING + CHANGED)
    installed(database)
    with plain(database) as session:
        assert corrupt_indexes(session).corrupt == [CorruptIndex("s", "bad", "t")]
    assert database.query("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'pgsalvo%'", DBNAME) == []


def test_a_database_with_every_feature_is_sound(postgres: PostgresServer) -> None:
    postgres.execute(f"CREATE ROLE {PLAIN} LOGIN BYPASSRLS PASSWORD 'p'; GRANT pg_read_all_data TO {PLAIN}")
    try:
        with every_feature(postgres):
            groups = ", ".join(
                f'"{role}"'.replace('"say "hi" twice"', '"say ""hi"" twice"') for role in ROLES
            )
            postgres.execute(f"GRANT {groups} TO {PLAIN}")
            with postgres.connect(DATABASE) as session:
                assert install_amcheck(session, PLAIN)
            with plain(postgres, DATABASE) as session:
                constraints = violated_constraints(session)
                indexes = corrupt_indexes(session)
        assert (constraints.violated, constraints.notes, indexes.corrupt) == ([], [], [])
        assert constraints.checked > 3
        assert indexes.checked > 10
        assert len(indexes.notes) == 2
    finally:
        postgres.execute(f"DROP ROLE {PLAIN}")


@pytest.fixture(scope="module")
def postgres18() -> Iterator[PostgresServer]:
    server = start_postgres(18, programs(18))
    yield server
    server.stop()


def test_what_is_not_enforced_or_about_periods_is_told(postgres18: PostgresServer) -> None:
    with served(postgres18) as server:
        server.execute("CREATE EXTENSION btree_gist", DBNAME)
        owned(
            server,
            "CREATE TABLE parent (id int PRIMARY KEY);"
            "CREATE TABLE child (id int CONSTRAINT loose REFERENCES parent NOT ENFORCED,"
            " CONSTRAINT lax CHECK (id > 1) NOT ENFORCED); INSERT INTO child VALUES (1);"
            "CREATE TABLE room (id int, at daterange, PRIMARY KEY (id, at WITHOUT OVERLAPS));"
            "CREATE TABLE stay (id int, at daterange,"
            " CONSTRAINT within FOREIGN KEY (id, PERIOD at) REFERENCES room (id, PERIOD at))",
        )
        with plain(server) as session:
            result = violated_constraints(session)
    assert (result.checked, result.violated) == (0, [])
    assert result.notes == [
        "constraint lax of s.child was not checked: it is not enforced",
        "constraint loose of s.child was not checked: it is not enforced",
        "constraint within of s.stay was not checked: it is about periods",
    ]


def test_a_gin_index_is_looked_at_too(postgres18: PostgresServer) -> None:
    with served(postgres18) as server:
        owned(
            server,
            "CREATE TABLE t (v int[]); INSERT INTO t VALUES ('{1,2}'); CREATE INDEX ON t USING gin (v)",
        )
        installed(server)
        with plain(server) as session:
            result = corrupt_indexes(session)
    assert (result.checked, result.corrupt, result.notes) == (1, [], [])
