"""A database with an instance of whatever a dump can hold and a restore can stumble over."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from psycopg import sql

from tests.servers.odd_definitions import NEWER, ODD_DEFINITIONS
from tests.servers.postgres import UNPRIVILEGED_UID, PostgresServer

ROLES = (
    "app_owner", "app_readers", "app_auditor", "o'neill & sons", 'say "hi" twice', "Ünïcode.ñ",
    "app_monitor", "app_archivist", "app_visitor",  # known by a right or by a large object only
)  # fmt: skip

SCHEMAS_AND_EXTENSIONS = """
    GRANT app_readers TO app_owner;
    REVOKE ALL ON SCHEMA public FROM PUBLIC;
    CREATE SCHEMA app AUTHORIZATION app_owner;
    CREATE SCHEMA private AUTHORIZATION app_auditor;
    CREATE SCHEMA "Odd.Schema ""x"" y" AUTHORIZATION "o'neill & sons";
    COMMENT ON SCHEMA app IS 'of the app';
    GRANT USAGE ON SCHEMA app TO app_readers, "say ""hi"" twice";
    GRANT USAGE ON SCHEMA app TO app_auditor WITH GRANT OPTION;
    SET ROLE app_auditor; GRANT USAGE ON SCHEMA app TO "Ünïcode.ñ"; RESET ROLE;
    CREATE EXTENSION hstore SCHEMA app;
    CREATE EXTENSION btree_gist;
    CREATE EXTENSION pg_trgm SCHEMA app;
    CREATE EXTENSION citext SCHEMA app;
    CREATE EXTENSION ltree SCHEMA app;
    ALTER DEFAULT PRIVILEGES FOR ROLE app_owner IN SCHEMA app GRANT SELECT ON TABLES TO app_readers;
    ALTER DEFAULT PRIVILEGES FOR ROLE app_owner REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
    ALTER DEFAULT PRIVILEGES GRANT SELECT ON SEQUENCES TO "say ""hi"" twice";
"""

TYPES_AND_FUNCTIONS = """
    CREATE FUNCTION app.as_bool(int) RETURNS bool LEAKPROOF IMMUTABLE LANGUAGE internal AS 'int4_bool';
    CREATE FUNCTION private.secret(n int) RETURNS int IMMUTABLE SECURITY DEFINER SET search_path = ''
        LANGUAGE plpgsql AS 'BEGIN RETURN n + 1; END';
    ALTER FUNCTION private.secret OWNER TO app_auditor;
    REVOKE ALL ON FUNCTION private.secret FROM PUBLIC;
    GRANT EXECUTE ON FUNCTION private.secret TO app_readers;
    CREATE AGGREGATE private.collected (anynonarray) (
        SFUNC = array_agg_transfn, STYPE = internal, FINALFUNC = array_agg_finalfn, FINALFUNC_EXTRA);
    SET ROLE app_owner;
    CREATE TYPE app.mood AS ENUM ('sad', 'ok', 'it''s fine');
    CREATE TYPE app.pair AS (a int, b app.mood);
    CREATE TYPE app.span AS RANGE (subtype = float8, subtype_diff = float8mi);
    REVOKE USAGE ON TYPE app.pair FROM PUBLIC;
    CREATE COLLATION app.plain (provider = libc, locale = 'C');
    CREATE FUNCTION app.twice(n int) RETURNS int IMMUTABLE STRICT LANGUAGE sql AS 'SELECT 2 * n';
    CREATE FUNCTION app.add(a int, b int DEFAULT 1) RETURNS int IMMUTABLE LANGUAGE sql RETURN a + b;
    CREATE FUNCTION app.as_int(app.mood) RETURNS int STABLE LANGUAGE sql
        BEGIN ATOMIC SELECT CASE $1 WHEN 'sad' THEN 0 ELSE 1 END; END;
    CREATE FUNCTION app.is_short(text) RETURNS bool IMMUTABLE LANGUAGE plpgsql
        AS 'BEGIN RETURN length($1) < 99; END';
    CREATE PROCEDURE app.do_it(INOUT n int) LANGUAGE plpgsql AS 'BEGIN n := n + 1; END';
    CREATE FUNCTION app.touch() RETURNS trigger LANGUAGE plpgsql
        AS 'BEGIN NEW.touched := now(); RETURN NEW; END';
    CREATE FUNCTION app.noticed() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN RETURN; END';
    CREATE DOMAIN app.positive AS int CHECK (VALUE > 0);
    CREATE DOMAIN app.positives AS app.positive[] CHECK (cardinality(VALUE) < 9);
    CREATE DOMAIN app.short AS text DEFAULT 'none' NOT NULL CHECK (app.is_short(VALUE));
    CREATE AGGREGATE app.total (int) (SFUNC = app.add, STYPE = int, INITCOND = '0');
    CREATE OPERATOR app.|+| (LEFTARG = int, RIGHTARG = int, FUNCTION = app.add);
    CREATE CAST (app.mood AS int) WITH FUNCTION app.as_int(app.mood) AS ASSIGNMENT;
    CREATE TEXT SEARCH CONFIGURATION app.words (COPY = pg_catalog.english);
    RESET ROLE;
    CREATE OPERATOR CLASS app.int_ops FOR TYPE int USING btree AS
        OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >,
        FUNCTION 1 btint4cmp(int, int);
    CREATE CONVERSION app.conv FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8;
    CREATE TEXT SEARCH DICTIONARY app.stem (TEMPLATE = snowball, language = english, stopwords = english);
    COMMENT ON TYPE app.mood IS 'a mood'; COMMENT ON FUNCTION app.twice IS 'twice; "as" much';
    COMMENT ON DOMAIN app.positive IS 'more than 0';
"""

TABLES = """
    SET ROLE app_owner;
    CREATE TABLE app.customers (
        id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        "Odd ""x"" column" text COLLATE app.plain,
        mood app.mood DEFAULT 'ok', pairs app.pair[], lucky app.positives, span app.span,
        nick app.short,
        doubled int GENERATED ALWAYS AS (app.twice(length(nick))) STORED,
        touched timestamptz, attributes app.hstore,
        CONSTRAINT "short; name" CHECK (app.is_short(nick))
    ) WITH (fillfactor = 70);
    INSERT INTO app.customers ("Odd ""x"" column", pairs, lucky, span, nick, attributes)
        SELECT 'customer ' || n, ARRAY[(n, 'sad')::app.pair], '{1,2}', app.span(1, 2), 'nick ' || n, 'a=>1'
        FROM generate_series(1, 300) n;
    CREATE TABLE app.orders (
        id bigint GENERATED BY DEFAULT AS IDENTITY
            (START 1000 INCREMENT -1 MAXVALUE 1000 MINVALUE -99999 CYCLE),
        customer int NOT NULL REFERENCES app.customers DEFERRABLE INITIALLY DEFERRED,
        during tstzrange NOT NULL, total numeric DEFAULT 0, CONSTRAINT "no order twice" PRIMARY KEY (id),
        EXCLUDE USING gist (customer WITH =, during WITH &&)
    );
    INSERT INTO app.orders (customer, during, total)
        SELECT n, tstzrange(now(), now() + interval '1 day'), n FROM generate_series(1, 300) n;
    SET CONSTRAINTS ALL IMMEDIATE;
    CREATE INDEX ON app.customers USING gin (nick app.gin_trgm_ops);
    CREATE UNIQUE INDEX "by short nick" ON app.customers (lower(nick), app.twice(id)) INCLUDE (mood)
        WHERE app.is_short(nick);
    ALTER TABLE app.customers CLUSTER ON customers_pkey;
    ALTER TABLE app.customers REPLICA IDENTITY FULL;
    CREATE STATISTICS app.guess ON (app.twice(id)), mood FROM app.customers;
    CREATE TRIGGER touch BEFORE UPDATE ON app.customers FOR EACH ROW EXECUTE FUNCTION app.touch();
    ALTER TABLE app.customers DISABLE TRIGGER touch;
    ALTER TABLE app.orders ADD CONSTRAINT "checked later" CHECK (total >= 0) NOT VALID;
    ALTER TABLE app.customers ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
    CREATE POLICY own ON app.customers FOR SELECT TO app_readers USING (app.is_short(nick));
    CREATE VIEW app.happy WITH (security_barrier) AS
        SELECT id, nick FROM app.customers WHERE mood <> 'sad' WITH LOCAL CHECK OPTION;
    ALTER VIEW app.happy ALTER nick SET DEFAULT 'x';
    CREATE RULE "no delete" AS ON DELETE TO app.happy DO INSTEAD NOTHING;
    CREATE FUNCTION app.all_orders() RETURNS SETOF app.orders STABLE LANGUAGE sql
        AS 'SELECT * FROM app.orders';
    CREATE VIEW app.called AS SELECT * FROM app.all_orders();
    CREATE TABLE app.after_call (LIKE app.called);
    CREATE FUNCTION app.of_call(app.called) RETURNS bigint LANGUAGE sql AS 'SELECT $1.id';
    CREATE TABLE app.typed OF app.pair (PRIMARY KEY (a));
    INSERT INTO app.typed VALUES (1, 'sad');
    CREATE TABLE app.parent (a int, b text); CREATE TABLE app.child (c int, b text) INHERITS (app.parent);
    INSERT INTO app.parent VALUES (1, 'p'); INSERT INTO app.child VALUES (2, 'c', 3);
    CREATE TABLE app.no_columns (); INSERT INTO app.no_columns SELECT FROM generate_series(1, 3);
    CREATE UNLOGGED TABLE app.unlogged (id serial, v text); INSERT INTO app.unlogged (v) VALUES ('u');
    CREATE TABLE app.nodes (
        id int PRIMARY KEY, above int REFERENCES app.nodes, path app.ltree UNIQUE,
        label app.citext COLLATE app.plain, home int NOT NULL);
    CREATE TABLE app.homes (
        id int PRIMARY KEY, keeper int NOT NULL REFERENCES app.nodes ON DELETE CASCADE,
        labels app.citext[] DEFAULT '{A,a}', UNIQUE (id, keeper));
    INSERT INTO app.nodes
        SELECT n, nullif(n / 2, 0), ('top.of_' || n)::app.ltree, 'Node ' || n % 3, n
        FROM generate_series(1, 40) n;
    INSERT INTO app.homes (id, keeper) SELECT n, n FROM generate_series(1, 40) n;
    ALTER TABLE app.nodes ADD CONSTRAINT "round and round" FOREIGN KEY (home, id)
        REFERENCES app.homes (id, keeper) ON UPDATE CASCADE DEFERRABLE INITIALLY DEFERRED;
    CREATE UNIQUE INDEX ON app.nodes (label, id);
    CREATE SEQUENCE app.cycling MAXVALUE 3 CYCLE; SELECT nextval('app.cycling') FROM generate_series(1, 4);
    CREATE SEQUENCE app.unused;
    COMMENT ON COLUMN app.customers.nick IS 'line 1
line 2; CREATE'; COMMENT ON CONSTRAINT "no order twice" ON app.orders IS 'twice';
    COMMENT ON POLICY own ON app.customers IS 'own'; COMMENT ON TRIGGER touch ON app.customers IS 'now';
    GRANT SELECT (nick), UPDATE (nick) ON app.customers TO "say ""hi"" twice";
    GRANT ALL ON app.orders TO app_auditor WITH GRANT OPTION;
    RESET ROLE;
    SET ROLE app_auditor; GRANT SELECT ON app.orders TO "Ünïcode.ñ"; RESET ROLE;
    SET ROLE "o'neill & sons";
    CREATE TABLE "Odd.Schema ""x"" y"."new
line; -- %s" (v int);
    INSERT INTO "Odd.Schema ""x"" y"."new
line; -- %s" SELECT generate_series(1, 7);
    RESET ROLE;
    CREATE TABLE public.of_admin (id serial PRIMARY KEY, v text);
    INSERT INTO public.of_admin (v) VALUES ('a');
"""

PARTITIONS = """
    SET ROLE app_owner;
    CREATE TABLE app.by_day (at date NOT NULL, n app.positive, PRIMARY KEY (at, n)) PARTITION BY RANGE (at);
    CREATE TABLE app.day_1 PARTITION OF app.by_day FOR VALUES FROM (MINVALUE) TO ('2026-01-02');
    CREATE TABLE app.day_2 PARTITION OF app.by_day FOR VALUES FROM ('2026-01-02') TO ('2026-01-03')
        PARTITION BY LIST (n);
    CREATE TABLE app.day_2_few PARTITION OF app.day_2 FOR VALUES IN (2, 4);
    CREATE TABLE app.day_2_rest PARTITION OF app.day_2 DEFAULT;
    CREATE TABLE app.day_3 (n app.positive NOT NULL, at date NOT NULL, CHECK (at >= '2026-01-03'));
    ALTER TABLE app.by_day ATTACH PARTITION app.day_3 FOR VALUES FROM ('2026-01-03') TO (MAXVALUE);
    INSERT INTO app.by_day SELECT '2026-01-01'::date + n % 4, n FROM generate_series(1, 40) n;
    CREATE TABLE app.by_twice (n int) PARTITION BY RANGE ((app.twice(n) + app.add(1)));
    CREATE TABLE app.by_twice_1 PARTITION OF app.by_twice FOR VALUES FROM (0) TO (99);
    INSERT INTO app.by_twice SELECT generate_series(1, 9);
    CREATE TABLE app.of_positives (n app.positive) PARTITION BY LIST (n);
    CREATE TABLE app.of_positives_1 PARTITION OF app.of_positives FOR VALUES IN (1, 2);
    INSERT INTO app.of_positives VALUES (1), (2);
    CREATE TABLE app.by_mood (mood app.mood, n int) PARTITION BY HASH (mood);
    CREATE TABLE app.mood_0 PARTITION OF app.by_mood FOR VALUES WITH (MODULUS 3, REMAINDER 0);
    CREATE TABLE app.mood_1 PARTITION OF app.by_mood FOR VALUES WITH (MODULUS 3, REMAINDER 1);
    CREATE TABLE app.mood_2 PARTITION OF app.by_mood FOR VALUES WITH (MODULUS 3, REMAINDER 2);
    INSERT INTO app.by_mood SELECT (ARRAY['sad', 'ok', 'it''s fine'])[1 + n % 3]::app.mood, n
        FROM generate_series(1, 30) n;
    CREATE INDEX ON app.by_mood (n);
    CREATE TABLE app.refers (at date, n app.positive, FOREIGN KEY (at, n) REFERENCES app.by_day);
    INSERT INTO app.refers SELECT * FROM app.by_day;
    CREATE TRIGGER each_day BEFORE INSERT ON app.by_day FOR EACH ROW EXECUTE FUNCTION app.touch();
    RESET ROLE;
"""

# What a scratch server is refused for that has a network: it could reach other servers.
REACHING_OUT = """
    CREATE EXTENSION postgres_fdw;
    CREATE EXTENSION dblink SCHEMA private;
    CREATE FOREIGN DATA WRAPPER no_place;
    CREATE SERVER elsewhere FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '127.0.0.1', port '1');
    CREATE USER MAPPING FOR app_owner SERVER elsewhere OPTIONS (user 'u', password 'p');
    GRANT USAGE ON FOREIGN SERVER elsewhere TO app_owner;
    SET ROLE app_owner;
    CREATE FOREIGN TABLE app.far (id int, twice int GENERATED ALWAYS AS (app.twice(id)) STORED)
        SERVER elsewhere OPTIONS (table_name 'far');
    RESET ROLE;
"""

DERIVED_AND_LARGE = """
    CREATE MATERIALIZED VIEW public.totals AS
        SELECT o.customer, private.secret(o.customer), app.add(1), sum(o.total) FROM app.orders o
        JOIN app.customers c ON c.id = o.customer GROUP BY 1;
    CREATE UNIQUE INDEX ON public.totals (customer);
    CREATE INDEX ON app.orders (private.secret(customer));
    CREATE MATERIALIZED VIEW private.of_totals AS SELECT count(*) FROM public.totals;
    ALTER MATERIALIZED VIEW private.of_totals OWNER TO app_auditor;
    CREATE MATERIALIZED VIEW app.never_filled AS SELECT 1 AS one WITH NO DATA;
    SELECT lo_from_bytea(4711, 'large'), lo_from_bytea(4712, 'object');
    ALTER LARGE OBJECT 4711 OWNER TO app_owner;
    COMMENT ON LARGE OBJECT 4711 IS 'large';
    GRANT SELECT ON LARGE OBJECT 4711 TO app_auditor WITH GRANT OPTION;
    ALTER LARGE OBJECT 4712 OWNER TO app_archivist; GRANT SELECT ON LARGE OBJECT 4712 TO app_visitor;
    GRANT EXECUTE ON FUNCTION app.akeys(app.hstore), pg_catalog.pg_ls_waldir() TO app_monitor;
    SET ROLE app_auditor; GRANT SELECT ON LARGE OBJECT 4711 TO "say ""hi"" twice"; RESET ROLE;
    CREATE EVENT TRIGGER noticed ON ddl_command_end EXECUTE FUNCTION app.noticed();
    CREATE EVENT TRIGGER "x EVENT TRIGGER - y" ON sql_drop WHEN TAG IN ('DROP TABLE')
        EXECUTE FUNCTION app.noticed();
    ALTER EVENT TRIGGER noticed ENABLE ALWAYS;
    COMMENT ON EVENT TRIGGER noticed IS 'noticed';
    CREATE PUBLICATION everything FOR ALL TABLES;
    COMMENT ON PUBLICATION everything IS 'all';
    CREATE PUBLICATION plain FOR TABLE app.typed, app.refers WITH (publish = 'insert, update');
    CREATE SUBSCRIPTION sub CONNECTION 'host=127.0.0.1 port=1 password=p'
        PUBLICATION p WITH (connect = false);
    COMMENT ON SUBSCRIPTION sub IS 'sub';
    ALTER DATABASE every SET work_mem = '5MB';
    ALTER ROLE app_owner IN DATABASE every SET search_path = app, "Odd.Schema ""x"" y";
"""

ICU = """
    CREATE COLLATION app.by_icu (provider = icu, locale = 'de');
    CREATE TABLE app.german (v text COLLATE app.by_icu);
"""

# What a scratch server of another host or major may lack is taken away again.
NO_REACHING_OUT = """
    DROP EXTENSION postgres_fdw CASCADE; DROP EXTENSION dblink; DROP FOREIGN DATA WRAPPER no_place"""
NO_ICU = "DROP TABLE IF EXISTS app.german; DROP COLLATION IF EXISTS app.by_icu"

DATABASE = "every"


@contextmanager
def every_feature(server: PostgresServer) -> Iterator[str]:
    """Make the database, with roles and a tablespace of its own; yield its conninfo."""
    tablespace = server.directory / "every-feature"
    with server.connect() as session:
        for role in ROLES:
            session.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(role)))
    tablespace.mkdir()
    if os.geteuid() == 0:
        os.chown(tablespace, UNPRIVILEGED_UID, UNPRIVILEGED_UID)
    server.execute(f"CREATE TABLESPACE every_space LOCATION '{tablespace}'")
    server.create_database(DATABASE)
    try:
        for statements in (
            SCHEMAS_AND_EXTENSIONS,
            TYPES_AND_FUNCTIONS,
            TABLES,
            PARTITIONS,
            REACHING_OUT,
            DERIVED_AND_LARGE,
            ODD_DEFINITIONS,
        ):
            server.execute(statements, DATABASE)
        server.execute(
            "CREATE TABLE app.elsewhere (id int PRIMARY KEY USING INDEX TABLESPACE every_space)"
            " TABLESPACE every_space; INSERT INTO app.elsewhere VALUES (1)",
            DATABASE,
        )
        if server.query("SELECT FROM pg_collation WHERE collname = 'de-x-icu'"):
            server.execute(ICU, DATABASE)
        for since, statements in NEWER.items():
            if server.major >= since:
                server.execute(statements, DATABASE)
        yield server.conninfo(DATABASE)
    finally:
        _drop_subscription(server)
        server.drop_database(DATABASE)
        server.execute("DROP TABLESPACE every_space")
        tablespace.rmdir()
        with server.connect() as session:
            for role in ROLES:
                session.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))


def _drop_subscription(server: PostgresServer) -> None:
    """A database with a subscription cannot be dropped."""
    if server.query("SELECT FROM pg_subscription", DATABASE):
        server.execute("ALTER SUBSCRIPTION sub SET (slot_name = NONE)", DATABASE)
        server.execute("DROP SUBSCRIPTION sub", DATABASE)
