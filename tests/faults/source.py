"""The database whose backups are spoilt: a little of whatever a fault can be planted in."""

from collections.abc import Iterator
from contextlib import contextmanager

from blocks.amcheck import install_amcheck
from blocks.postgres import Session
from tests.servers.postgres import PostgresServer

DBNAME = "faults"
RESTORER = "faults_restorer"
SAMPLED = frozenset({("shop", "prices"), ("shop", "days_1"), ("shop", "days_2")})

_OF_THE_DATABASE = """
    CREATE SCHEMA checks; CREATE EXTENSION amcheck SCHEMA checks;
    CREATE SCHEMA shop AUTHORIZATION faults_owner;
    CREATE SCHEMA spare AUTHORIZATION faults_owner;
    CREATE EXTENSION hstore SCHEMA shop;
    COMMENT ON SCHEMA shop IS 'the shop';
    GRANT USAGE ON SCHEMA shop TO faults_reader;
    ALTER DEFAULT PRIVILEGES FOR ROLE faults_owner IN SCHEMA spare GRANT SELECT ON TABLES TO faults_reader;
    CREATE FOREIGN DATA WRAPPER nowhere;
    CREATE SERVER far FOREIGN DATA WRAPPER nowhere OPTIONS (host 'far.example');
    GRANT USAGE ON FOREIGN SERVER far TO faults_owner;
    CREATE USER MAPPING FOR faults_owner SERVER far OPTIONS (account 'a', word 'w');
    CREATE CAST (text AS point) WITH INOUT AS ASSIGNMENT;
"""

_TYPES_AND_FUNCTIONS = """
    CREATE TYPE state AS ENUM ('new', 'paid', 'sent', 'lost');
    CREATE TYPE place AS (street text, number int);
    CREATE TYPE span AS RANGE (subtype = float8);
    CREATE COLLATION plain (provider = libc, locale = 'C');
    CREATE DOMAIN code AS text DEFAULT 'none' CONSTRAINT short CHECK (length(VALUE) < 9);
    CREATE FUNCTION twice(n int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN 2 * n; END';
    CREATE FUNCTION secret(n int DEFAULT 1) RETURNS int STABLE SECURITY DEFINER SET search_path = ''
        LANGUAGE plpgsql AS 'BEGIN RETURN n; END';
    REVOKE EXECUTE ON FUNCTION secret FROM PUBLIC;
    GRANT EXECUTE ON FUNCTION secret TO faults_reader;
    CREATE PROCEDURE pay(n int) LANGUAGE plpgsql AS 'BEGIN PERFORM n; END';
    CREATE AGGREGATE total (int) (SFUNC = int4pl, STYPE = int, INITCOND = '0');
    CREATE OPERATOR |+| (LEFTARG = int, RIGHTARG = int, FUNCTION = int4pl);
    CREATE FUNCTION touched() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.seen := now(); RETURN NEW; END';
    CREATE FUNCTION noticed() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN RETURN; END';
    CREATE TEXT SEARCH CONFIGURATION words (COPY = pg_catalog.english);
    COMMENT ON FUNCTION twice IS 'twice as much';
"""

_TABLES = """
    CREATE TABLE customers (
        id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text COLLATE plain NOT NULL, mail text UNIQUE,
        code code, state state DEFAULT 'new', twofold int GENERATED ALWAYS AS (twice(length(name))) STORED,
        home place, seen timestamptz, balance numeric, alias text);
    INSERT INTO customers (name, mail, state, home, seen, balance)
        SELECT 'customer ' || n, 'mail ' || n, (ARRAY['new', 'paid', 'sent'])[1 + n % 3]::state,
               ('street', n)::place, '2026-01-01 00:00:00Z'::timestamptz + n * interval '1 minute', n * 1.50
        FROM generate_series(1, 100) n;
    CREATE TABLE orders (
        id serial PRIMARY KEY, customer int NOT NULL REFERENCES customers, total numeric CHECK (total >= 0),
        quantity int, free int, note text);
    INSERT INTO orders (customer, total, quantity, free, note)
        SELECT 1 + n % 100, n / 7.0, n, n + 1, 'note ' || n FROM generate_series(1, 1000) n;
    ALTER TABLE orders ADD CONSTRAINT checked_later CHECK (quantity < 9999) NOT VALID;
    CREATE INDEX by_twice ON orders (shop.twice(quantity));
    CREATE INDEX large_only ON orders (total DESC) WHERE total > 100;
    CREATE TABLE notes (words text);
    INSERT INTO notes SELECT 'note ' || n FROM generate_series(1, 50) n;
    CREATE TABLE documents (id int, body bytea, tags text[], ratio float8, data jsonb, attributes hstore);
    INSERT INTO documents SELECT n, '\\x00ff', ARRAY['a', 'b'], 0.1, '{"a": 1}', 'a=>1'
        FROM generate_series(1, 5) n;
    CREATE TABLE prices (item text, cents int);
    INSERT INTO prices SELECT 'item ' || n, n FROM generate_series(1, 20) n;
    CREATE INDEX ON prices (cents);
    CREATE TABLE prices_before (item text, cents int);
    INSERT INTO prices_before SELECT 'item ' || n, n - 1 FROM generate_series(1, 20) n;
    CREATE TABLE prices_after (item text, cents int);
    INSERT INTO prices_after SELECT 'item ' || n, n + 1 FROM generate_series(1, 20) n;
    CREATE TABLE days (day int, what text) PARTITION BY RANGE (day);
    CREATE TABLE days_1 PARTITION OF days FOR VALUES FROM (0) TO (10);
    CREATE TABLE days_2 PARTITION OF days FOR VALUES FROM (10) TO (20);
    INSERT INTO days SELECT n % 20, 'day ' || n FROM generate_series(1, 100) n;
    CREATE TABLE base (v int); CREATE TABLE heir () INHERITS (base);
    INSERT INTO base SELECT generate_series(1, 5); INSERT INTO heir SELECT generate_series(6, 10);
    CREATE UNLOGGED TABLE cache (v int);
    INSERT INTO cache SELECT generate_series(1, 10);
    CREATE TABLE nothing_yet (v int, w text);
    CREATE FOREIGN TABLE far_away (v int) SERVER far OPTIONS (name 'far');
    CREATE SEQUENCE numbers; SELECT setval('numbers', 500);
    CREATE SEQUENCE downwards INCREMENT -1 MAXVALUE 1000 START 1000; SELECT setval('downwards', 700);
"""

_ON_TABLES = """
    CREATE VIEW paid WITH (security_barrier) AS SELECT id, name FROM customers WHERE state = 'paid';
    CREATE MATERIALIZED VIEW totals AS SELECT customer, sum(total) AS total FROM orders GROUP BY 1;
    CREATE TRIGGER touched BEFORE UPDATE ON customers FOR EACH ROW EXECUTE FUNCTION touched();
    CREATE TRIGGER off BEFORE UPDATE ON customers FOR EACH ROW EXECUTE FUNCTION touched();
    ALTER TABLE customers DISABLE TRIGGER off, REPLICA IDENTITY FULL, ENABLE ROW LEVEL SECURITY;
    CREATE POLICY own ON customers TO faults_reader USING (state = 'paid');
    CREATE RULE quiet AS ON DELETE TO notes DO INSTEAD NOTHING;
    ALTER TABLE notes DISABLE RULE quiet;
    CREATE STATISTICS guess ON quantity, free FROM orders;
    ALTER TABLE orders ALTER note SET STORAGE EXTERNAL;
    COMMENT ON TABLE orders IS 'what was ordered'; COMMENT ON COLUMN orders.note IS 'by the customer';
    GRANT SELECT ON orders TO faults_reader; GRANT UPDATE (note) ON orders TO faults_reader;
    GRANT USAGE ON SEQUENCE numbers TO faults_reader;
"""

_LAST = """
    SELECT lo_from_bytea(4711, 'large'), lo_from_bytea(4712, 'other');
    ALTER LARGE OBJECT 4711 OWNER TO faults_owner;
    GRANT SELECT ON LARGE OBJECT 4711 TO faults_reader;
    CREATE EVENT TRIGGER noticed ON ddl_command_end EXECUTE FUNCTION shop.noticed();
    CREATE PUBLICATION changes FOR TABLE shop.orders WHERE (id > 5) WITH (publish = 'insert');
    ALTER DATABASE faults SET work_mem = '5MB';
"""


@contextmanager
def source(server: PostgresServer) -> Iterator[None]:
    """Make the database and its roles, on PostgreSQL 15 or later; drop them in the end."""
    server.execute(
        "CREATE ROLE faults_owner; CREATE ROLE faults_reader;"
        "CREATE ROLE faults_restorer BYPASSRLS IN ROLE pg_read_all_data, faults_owner"
    )
    try:
        with server.database(DBNAME):
            with server.connect(DBNAME) as session:
                _define(session)
            yield
    finally:
        server.execute("DROP ROLE faults_restorer, faults_reader, faults_owner")


def _define(session: Session) -> None:
    session.execute(_OF_THE_DATABASE)
    install_amcheck(session, RESTORER)  # so that none need be installed beside a fault
    session.execute("SET ROLE faults_owner; SET search_path = shop")
    for statements in (_TYPES_AND_FUNCTIONS, _TABLES, _ON_TABLES):
        session.execute(statements)
    session.execute("RESET ROLE; RESET search_path")
    session.execute(_LAST)
