"""An application and its migrations at work on a database: rows and definitions change all the time."""

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import psycopg
from psycopg import errors

from tests.servers.postgres import PostgresServer

TABLES = """
    CREATE TYPE mood AS ENUM ('bad', 'good');
    CREATE TABLE events (id serial PRIMARY KEY, mood mood DEFAULT 'good', note text);
    INSERT INTO events (note) SELECT repeat('x', 200) FROM generate_series(1, 3000);
    CREATE TABLE prices (id int PRIMARY KEY, price numeric);
    INSERT INTO prices SELECT n, n / 7.0 FROM generate_series(1, 1000) n;
    CREATE TABLE stock (item int);
    INSERT INTO stock SELECT generate_series(1, 1000);
    CREATE TABLE wide (id int, amount int);
    INSERT INTO wide SELECT n, n FROM generate_series(1, 1000) n;
    CREATE TABLE parts (day int, amount int) PARTITION BY LIST (day);
    CREATE TABLE parts_0 PARTITION OF parts FOR VALUES IN (0);
    CREATE TABLE hashed (mood mood, n int) PARTITION BY HASH (mood);
    CREATE TABLE hashed_0 PARTITION OF hashed FOR VALUES WITH (MODULUS 2, REMAINDER 0);
    CREATE TABLE hashed_1 PARTITION OF hashed FOR VALUES WITH (MODULUS 2, REMAINDER 1);
    INSERT INTO hashed SELECT (ARRAY['bad', 'good']::mood[])[1 + n % 2], n FROM generate_series(1, 100) n;
    CREATE MATERIALIZED VIEW totals AS SELECT mood, count(*) FROM events GROUP BY 1;
    CREATE DOMAIN amount AS int; CREATE SEQUENCE counter;
"""
ROWS = {
    "insert": "INSERT INTO events (note) SELECT repeat('y', 100) FROM generate_series(1, 20)",
    "delete": "DELETE FROM events WHERE id IN (SELECT id FROM events ORDER BY id LIMIT 19)",
    "update": "UPDATE events SET note = note || '.' WHERE id % 50 = 0",
    "move": "UPDATE hashed SET mood = CASE mood WHEN 'bad' THEN 'good' ELSE 'bad' END::mood WHERE n % 9 = 0",
    "sequence": "SELECT nextval('events_id_seq') FROM generate_series(1, 40)",
}
DEFINITIONS = {
    "truncate": "TRUNCATE events; INSERT INTO events (note) SELECT 'new' FROM generate_series(1, 1000 + {n})",
    "swap": """
        CREATE TABLE prices_new (LIKE prices INCLUDING ALL);
        INSERT INTO prices_new SELECT m, m FROM generate_series(1, 1000 + {n}) m;
        ALTER TABLE prices RENAME TO prices_old;
        ALTER TABLE prices_new RENAME TO prices;
        DROP TABLE prices_old""",
    "rewrite": "ALTER TABLE wide ALTER amount TYPE bigint; ALTER TABLE wide ALTER amount TYPE int",
    "column": "ALTER TABLE wide ADD extra_{n} int DEFAULT {n}; ALTER TABLE wide DROP extra_{n}",
    "rename": "ALTER TABLE wide RENAME TO wider",
    "rename back": "ALTER TABLE IF EXISTS wider RENAME TO wide",
    "rename column": "ALTER TABLE prices RENAME price TO cost; ALTER TABLE prices RENAME cost TO price",
    "create": "CREATE TABLE fresh_{n} AS SELECT * FROM generate_series(1, {n} % 50) m",
    "drop": "DO $$ DECLARE t text; BEGIN"
    " FOR t IN SELECT relname FROM pg_class WHERE relkind = 'r' AND relname LIKE 'fresh\\_%'"
    " LOOP EXECUTE format('DROP TABLE %I', t); END LOOP; END $$",
    "partition": "CREATE TABLE parts_{n} PARTITION OF parts FOR VALUES IN ({n});"
    " INSERT INTO parts SELECT {n}, m FROM generate_series(1, 30) m",
    "attach": "CREATE TABLE late_{n} (LIKE parts);"
    " INSERT INTO late_{n} SELECT -{n}, m FROM generate_series(1, 40) m;"
    " ALTER TABLE parts ATTACH PARTITION late_{n} FOR VALUES IN (-{n})",
    "detach": "DO $$ DECLARE t text; BEGIN"
    " FOR t IN SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'parts'::regclass"
    " AND inhrelid <> 'parts_0'::regclass"
    " LOOP EXECUTE format('ALTER TABLE parts DETACH PARTITION %s', t); EXECUTE format('DROP TABLE %s', t);"
    " END LOOP; END $$",
    "schema": "CREATE SCHEMA s_{n}; CREATE TABLE s_{n}.t AS SELECT 1 AS x; DROP SCHEMA s_{n} CASCADE",
    "refresh": "REFRESH MATERIALIZED VIEW totals",
}
# These wait for nobody who reads, nor does a dump wait for them.
QUIET = {
    "view": "CREATE OR REPLACE VIEW latest AS SELECT id, note, {n} AS number FROM events",
    "function": "CREATE OR REPLACE FUNCTION counted() RETURNS int LANGUAGE sql AS 'SELECT {n}'",
    "body": "CREATE OR REPLACE FUNCTION parsed() RETURNS int LANGUAGE sql RETURN {n}",
    "arguments": "DROP FUNCTION IF EXISTS shifting;"
    " CREATE FUNCTION shifting(a int DEFAULT {n}) RETURNS int LANGUAGE sql AS 'SELECT {n}'",
    "passing": "CREATE TYPE passing_{n} AS (a int); CREATE FUNCTION of_{n}(passing_{n}) RETURNS int"
    " LANGUAGE sql AS 'SELECT 1'; DROP FUNCTION of_{n}; DROP TYPE passing_{n}",
    "comment": "COMMENT ON TABLE stock IS 'the {n}th'; COMMENT ON COLUMN wide.id IS '{n}'",
    "grant": "REVOKE ALL ON stock FROM PUBLIC; GRANT SELECT, INSERT ON stock TO PUBLIC",
    "revoke": "REVOKE ALL ON stock FROM PUBLIC",
    "target": "ALTER TABLE stock ALTER item SET STATISTICS {n}",
    "options": "ALTER TABLE stock SET (autovacuum_analyze_threshold = {n})",
    "index": "CREATE INDEX ON wide (amount)",
    "trigger": "CREATE OR REPLACE FUNCTION fired() RETURNS trigger LANGUAGE plpgsql"
    " AS 'BEGIN RETURN NEW; END';"
    " CREATE TRIGGER fired_{n} BEFORE UPDATE ON stock FOR EACH ROW EXECUTE FUNCTION fired();"
    " ALTER TABLE stock DISABLE TRIGGER fired_{n}",
    "clear": "DO $$ DECLARE t text; BEGIN FOR t IN SELECT tgname FROM pg_trigger WHERE NOT tgisinternal"
    " LOOP EXECUTE format('DROP TRIGGER %I ON stock', t); END LOOP;"
    " FOR t IN SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = 'wide'::regclass"
    " LOOP EXECUTE format('DROP INDEX %s', t); END LOOP; END $$",
    "domain": "ALTER DOMAIN amount SET DEFAULT {n}",
    "constraint": "ALTER DOMAIN amount DROP CONSTRAINT IF EXISTS less;"
    " ALTER DOMAIN amount ADD CONSTRAINT less CHECK (VALUE < {n} + 1000000)",
    "enum": "DROP TYPE IF EXISTS colour; CREATE TYPE colour AS ENUM ('red', 'blue{n}')",
    "statistics": "DROP STATISTICS IF EXISTS both_; CREATE STATISTICS both_ (mcv) ON id, amount FROM wide",
    "step": "ALTER SEQUENCE counter INCREMENT {n}",
    "setting": "DO $$ BEGIN"
    " EXECUTE format('ALTER DATABASE %I SET its.step = {n}', current_database()); END $$",
    "publication": "DROP PUBLICATION IF EXISTS told; CREATE PUBLICATION told FOR TABLE stock",
}
# what colliding with the backup's locks, or with each other, costs one of them
_REFUSED = (
    errors.LockNotAvailable,
    errors.DeadlockDetected,
    errors.UndefinedTable,
    errors.UndefinedColumn,
    errors.InvalidTableDefinition,
)


@dataclass
class Traffic:
    """How often what was done, and refused."""

    done: "Counter[str]" = field(default_factory=Counter)
    refused: "Counter[str]" = field(default_factory=Counter)
    failures: list[BaseException] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)


@contextmanager
def traffic(server: PostgresServer, dbname: str, *, quiet: bool = False) -> Iterator[Traffic]:
    """Let an application change rows, and migrations change definitions, until the block ends.

    A migration gives up a lock that it does not get at once, as it should: whoever waits for a lock
    keeps out all that come later.

    Args:
        quiet: Whether definitions change as well that no lock of a dump holds still.
    """
    going_on = Traffic()
    kinds = [(ROWS, 0.005), (DEFINITIONS, 0.02), *([(QUIET, 0.15)] if quiet else [])]
    threads = [
        threading.Thread(target=_work, args=(server, dbname, going_on, statements, pause, seed), daemon=True)
        for seed, (statements, pause) in enumerate(kinds)
    ]
    for thread in threads:
        thread.start()
    try:
        yield going_on
    finally:
        going_on.ended.set()
        for thread in threads:
            thread.join()
    if going_on.failures:
        raise going_on.failures[0]


def _work(
    server: PostgresServer, dbname: str, traffic: Traffic, statements: dict[str, str], pause: float, seed: int
) -> None:
    choices = random.Random(seed)  # noqa: S311 - no secret
    names = sorted(statements)
    number = 0
    try:
        with server.connect(dbname) as session:
            session.execute("SET lock_timeout = '20ms'")
            while not traffic.ended.is_set():
                number += 1
                name = choices.choice(names)
                _attempt(session, traffic, name, statements[name].replace("{n}", str(number)))
                time.sleep(pause)
    except BaseException as error:
        traffic.failures.append(error)


def _attempt(
    session: "psycopg.Connection[tuple[object, ...]]", traffic: Traffic, name: str, statement: str
) -> None:
    try:
        with session.transaction():
            session.execute(statement.encode())
    except _REFUSED:
        traffic.refused[name] += 1
    else:
        traffic.done[name] += 1
