"""Definitions that a server writes down otherwise than they were made, and kinds that few databases hold."""

ODD_DEFINITIONS = """
    COMMENT ON SCHEMA public IS 'somebody''s own words';
    CREATE TYPE private.shell;
    CREATE TYPE private.label;
    CREATE FUNCTION private.label_in(cstring) RETURNS private.label IMMUTABLE STRICT
        LANGUAGE internal AS 'textin';
    CREATE FUNCTION private.label_out(private.label) RETURNS cstring IMMUTABLE STRICT
        LANGUAGE internal AS 'textout';
    CREATE TYPE private.label (INPUT = private.label_in, OUTPUT = private.label_out, LIKE = text,
                               CATEGORY = 'S', DEFAULT = 'none', COLLATABLE = true);
    CREATE CAST (private.label AS text) WITHOUT FUNCTION AS IMPLICIT;
    CREATE CAST (private.label AS bytea) WITH INOUT;
    CREATE ACCESS METHOD second_heap TYPE TABLE HANDLER heap_tableam_handler;
    CREATE TEXT SEARCH TEMPLATE private.simple (INIT = dsimple_init, LEXIZE = dsimple_lexize);
    CREATE TEXT SEARCH PARSER private.prose (START = prsd_start, GETTOKEN = prsd_nexttoken, END = prsd_end,
                                             LEXTYPES = prsd_lextype, HEADLINE = prsd_headline);
    CREATE TEXT SEARCH CONFIGURATION private.mixed (PARSER = private.prose);
    ALTER TEXT SEARCH CONFIGURATION private.mixed ADD MAPPING FOR asciiword, word
        WITH app.stem, pg_catalog.simple;
    CREATE OPERATOR FAMILY app.loose USING btree;
    ALTER OPERATOR FAMILY app.loose USING btree ADD OPERATOR 1 < (int, bigint), OPERATOR 3 = (int, bigint),
        FUNCTION 1 (int, bigint) btint48cmp(int, bigint);
    CREATE OPERATOR CLASS app.bigint_ops FOR TYPE bigint USING btree FAMILY app.loose AS
        OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >,
        FUNCTION 1 btint8cmp(bigint, bigint);
    CREATE FUNCTION app.windowed() RETURNS bigint WINDOW IMMUTABLE LANGUAGE internal AS 'window_row_number';
    CREATE FUNCTION app.same(text, text) RETURNS bool IMMUTABLE LANGUAGE sql AS 'SELECT $1 = $2';
    CREATE FUNCTION app.other(text, text) RETURNS bool IMMUTABLE LANGUAGE sql AS 'SELECT $1 <> $2';
    CREATE OPERATOR app.=== (LEFTARG = text, RIGHTARG = text, FUNCTION = app.same,
                             COMMUTATOR = OPERATOR(app.===), NEGATOR = OPERATOR(app.!==),
                             RESTRICT = eqsel, JOIN = eqjoinsel, HASHES);
    CREATE OPERATOR app.!== (LEFTARG = text, RIGHTARG = text, FUNCTION = app.other,
                             COMMUTATOR = OPERATOR(app.!==), NEGATOR = OPERATOR(app.===));
    COMMENT ON OPERATOR app.=== (text, text) IS 'same';
    CREATE OPERATOR app.!!! (RIGHTARG = int, FUNCTION = app.twice);
    CREATE AGGREGATE app.moving (float8) (SFUNC = float8_accum, STYPE = float8[], FINALFUNC = float8_avg,
        COMBINEFUNC = float8_combine, INITCOND = '{0,0,0}', PARALLEL = SAFE);
    CREATE AGGREGATE app.least_of (int) (SFUNC = int4smaller, STYPE = int, SORTOP = <);
    CREATE AGGREGATE app.middle (float8 ORDER BY anyelement)
        (SFUNC = ordered_set_transition, STYPE = internal,
         FINALFUNC = percentile_disc_final, FINALFUNC_EXTRA);
    SET ROLE app_owner;
    CREATE FUNCTION app.many(a varchar DEFAULT 'a', VARIADIC b app.mood[] DEFAULT '{}', OUT c int, OUT d text)
        RETURNS SETOF record STABLE PARALLEL RESTRICTED COST 7 ROWS 9 LANGUAGE sql
        SET work_mem = '1MB' SET search_path = app, pg_temp
        AS $$SELECT 1, 'it''s -- $x$ $1' WHERE a IN ('x', 'y')$$;
    CREATE FUNCTION app.many(a int) RETURNS TABLE (x int, y text) LANGUAGE sql
        BEGIN ATOMIC SELECT n, v::varchar(5) FROM (VALUES (1, 'a'), (2, 'b')) AS l (n, v)
            WHERE n = ANY (ARRAY[a, 2]); END;
    CREATE PROCEDURE app.with_out(a int, OUT b int) LANGUAGE plpgsql AS 'BEGIN b := a; END';
    CREATE TYPE app.described AS (a varchar(9) COLLATE app.plain, "B c" app.mood[]);
    COMMENT ON COLUMN app.described.a IS 'of a type';
    CREATE TYPE app.text_span AS RANGE (subtype = text, collation = app.plain);
    CREATE DOMAIN app.code AS varchar(5) COLLATE app.plain DEFAULT 'a' || 'b'
        CONSTRAINT known CHECK (VALUE IN ('a', 'b') OR length(VALUE) > 1 AND NOT VALUE LIKE '%x');
    ALTER DOMAIN app.code ADD CONSTRAINT later CHECK (VALUE <> 'z') NOT VALID;
    COMMENT ON CONSTRAINT known ON DOMAIN app.code IS 'known';
    CREATE TABLE app.written (
        id int PRIMARY KEY DEFAULT (-1), kind varchar(9) DEFAULT ('a'::text || 'b')
            CHECK (kind IN ('a', 'ab', 'c')),
        amount numeric(9, 2) CHECK (((amount + 1) * 2) > 0
            AND (amount <> 5 OR (amount < 7 AND amount > -3))),
        at timestamptz(3) DEFAULT now(), span interval day to second DEFAULT '1 day', flags bit varying(5),
        "select" "char" DEFAULT 'x', tags text[] DEFAULT '{a,"b c"}', one char, big text, small text,
        code app.code,
        body jsonb DEFAULT '{"a": [1, 2]}', words tsvector
            GENERATED ALWAYS AS (to_tsvector('app.words', big)) STORED,
        CHECK (kind::text <> ALL (ARRAY['q', 'w']) AND "select" IN ('x', 'y')),
        UNIQUE (kind, amount) DEFERRABLE
    ) WITH (autovacuum_enabled = off, toast.autovacuum_enabled = off, fillfactor = 50);
    ALTER TABLE app.written ALTER big SET STORAGE EXTERNAL, ALTER small SET COMPRESSION pglz,
        ALTER kind SET STATISTICS 7, ALTER amount SET (n_distinct = -0.5, n_distinct_inherited = 3),
        REPLICA IDENTITY USING INDEX written_pkey;
    CREATE INDEX written_parts ON app.written ((amount + 1), (lower(kind)), at DESC NULLS LAST)
        WHERE kind IN ('a', 'b') AND at > '2020-01-01';
    ALTER INDEX app.written_parts ALTER 1 SET STATISTICS 99;
    COMMENT ON INDEX app.written_parts IS 'parts';
    CREATE UNIQUE INDEX written_by_code ON app.written (code) WITH (fillfactor = 60);
    CREATE VIEW app.plain_view AS SELECT w.id, w.kind AS renamed, w.amount + 1 FROM app.written w
        WHERE w.kind IN ('a', 'b') AND (w.amount + 1) * 2 > 3 AND w.at BETWEEN '2020-01-01' AND now();
    CREATE VIEW app.joined (a, b, c, d) AS
        WITH RECURSIVE up (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM up WHERE n < 5)
        SELECT w.id, c.nick, CASE w.kind WHEN 'a' THEN 1 ELSE -1 END,
               sum(up.n) OVER (PARTITION BY w.kind ORDER BY w.id)
        FROM app.written w LEFT JOIN app.customers c USING (id) CROSS JOIN up
        JOIN LATERAL (SELECT o.total FROM app.orders o WHERE o.customer = c.id LIMIT 1) AS last ON true
        WHERE EXISTS (SELECT 1 FROM app.typed t WHERE t.a = w.id) AND w.body ->> 'a' <> ALL ('{x,y}'::text[])
        ORDER BY w.kind COLLATE "C", 1;
    CREATE VIEW app.grouped AS
        SELECT kind, "select", count(*) FILTER (WHERE amount > 0) AS "Positive Ones", max(at)::date AS day,
               extract(year FROM max(at)) AS y, string_agg(DISTINCT big, ', ' ORDER BY big)
        FROM app.written GROUP BY GROUPING SETS ((kind), (kind, "select"), ()) HAVING count(*) > 1
        UNION ALL SELECT 'x', NULL, 0, '2020-01-01', 1.5, ((x)) FROM (VALUES ('v'), ('w')) AS vals (x);
    COMMENT ON VIEW app.grouped IS 'grouped'; COMMENT ON COLUMN app.grouped.kind IS 'of a view';
    CREATE VIEW app.called_twice AS
        SELECT m.c, m.d, f.ordinality FROM app.many('x') m, ROWS FROM (app.many(1), generate_series(1, 2))
            WITH ORDINALITY AS f WHERE (m.c, m.d) IN (SELECT 1, 'x') AND m.d SIMILAR TO 'a_';
    CREATE RULE logged AS ON UPDATE TO app.plain_view WHERE new.id <> old.id DO ALSO NOTHING;
    ALTER TABLE app.written ENABLE ROW LEVEL SECURITY;
    CREATE POLICY mixed ON app.written AS RESTRICTIVE TO app_readers, app_auditor
        USING (kind IN ('a', 'b') AND id = (SELECT max(id) FROM app.customers)) WITH CHECK (amount > 0);
    CREATE TRIGGER "when" AFTER UPDATE ON app.written
        REFERENCING OLD TABLE AS was NEW TABLE AS is_now
        FOR EACH STATEMENT EXECUTE FUNCTION app.touch('a', 'it''s');
    CREATE CONSTRAINT TRIGGER deferred AFTER INSERT ON app.written DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW WHEN (new.kind IN ('a', 'b') AND new.amount > 1) EXECUTE FUNCTION app.touch();
    ALTER TABLE app.written ENABLE ALWAYS TRIGGER deferred;
    ALTER TABLE app.day_1 DISABLE TRIGGER each_day;
    CREATE TABLE app.elder (a int CHECK (a > 0), b text, e varchar CHECK (e IN ('x', 'y')),
        CHECK (a < 9) NO INHERIT);
    CREATE TABLE app.younger (CHECK (a > 1)) INHERITS (app.elder);
    ALTER TABLE app.younger ALTER a SET DEFAULT 3, ALTER b SET NOT NULL;
    CREATE TABLE app.youngest () INHERITS (app.younger, app.parent);
    CREATE TABLE app.by_list (k varchar(3) CHECK (k IN ('a', 'b')), n int DEFAULT 1, UNIQUE (k))
        PARTITION BY LIST (k);
    CREATE TABLE app.list_a PARTITION OF app.by_list (n DEFAULT 5, CHECK (n > 0)) FOR VALUES IN ('a', NULL);
    CREATE TABLE app.list_b (n int,
        k varchar(3) CONSTRAINT by_list_k_check CHECK (k IN ('a', 'b')), UNIQUE (k));
    ALTER TABLE app.by_list ATTACH PARTITION app.list_b FOR VALUES IN ('b');
    CREATE INDEX half ON ONLY app.by_list (n);
    CREATE SEQUENCE app.owned AS smallint START 5 MINVALUE 2 MAXVALUE 99 CACHE 3 OWNED BY app.written.id;
    COMMENT ON SEQUENCE app.owned IS 'owned';
    CREATE STATISTICS app.mcv (mcv, dependencies) ON kind, amount FROM app.written;
    ALTER STATISTICS app.mcv SET STATISTICS 50;
    COMMENT ON STATISTICS app.mcv IS 'mcv';
    GRANT SELECT, UPDATE ON app.written TO PUBLIC; GRANT ALL ON app.written TO app_auditor;
    GRANT REFERENCES (id) ON app.written TO app_readers WITH GRANT OPTION;
    REVOKE DELETE ON app.written FROM app_owner;
    GRANT USAGE ON SEQUENCE app.owned TO app_readers;
    REVOKE ALL ON FUNCTION app.same FROM PUBLIC; GRANT EXECUTE ON FUNCTION app.same TO app_readers;
    RESET ROLE;
    CREATE TABLE private.other_heap (v int) USING second_heap;
    REVOKE ALL ON private.other_heap FROM admin;
    ALTER DEFAULT PRIVILEGES IN SCHEMA private GRANT EXECUTE ON FUNCTIONS TO app_readers WITH GRANT OPTION;
    ALTER DEFAULT PRIVILEGES FOR ROLE app_auditor REVOKE USAGE ON TYPES FROM PUBLIC;
    COMMENT ON EXTENSION hstore IS 'not its own comment';
    COMMENT ON CAST (private.label AS text) IS 'cast';
    COMMENT ON MATERIALIZED VIEW public.totals IS 'totals';
    COMMENT ON RULE "no delete" ON app.happy IS 'rule';
    COMMENT ON AGGREGATE app.moving (float8) IS 'moving'; COMMENT ON COLLATION app.plain IS 'plain';
    COMMENT ON TABLE app.written IS 'written'; COMMENT ON TEXT SEARCH CONFIGURATION private.mixed IS 'mixed';
    COMMENT ON OPERATOR CLASS app.bigint_ops USING btree IS 'class';
"""

# What only superusers may own, which a scratch server has no stand-ins for.
OF_SUPERUSERS = """
    CREATE FOREIGN DATA WRAPPER nowhere OPTIONS (debug 'yes');
    CREATE SERVER far_away TYPE 'none' VERSION '1' FOREIGN DATA WRAPPER nowhere OPTIONS (b '2', a '1');
    CREATE USER MAPPING FOR PUBLIC SERVER far_away OPTIONS (word 'hush-hush', account 'a');
    COMMENT ON SERVER far_away IS 'far';
    CREATE FUNCTION private.run() RETURNS language_handler LANGUAGE c
        AS '$libdir/plpgsql', 'plpgsql_call_handler';
    CREATE FUNCTION private.run_inline(internal) RETURNS void STRICT LANGUAGE c
        AS '$libdir/plpgsql', 'plpgsql_inline_handler';
    CREATE FUNCTION private.validate(oid) RETURNS void STRICT LANGUAGE c
        AS '$libdir/plpgsql', 'plpgsql_validator';
    CREATE TRUSTED LANGUAGE handmade
        HANDLER private.run INLINE private.run_inline VALIDATOR private.validate;
    GRANT USAGE ON LANGUAGE handmade TO app_readers;
    CREATE FUNCTION private.to_internal(internal) RETURNS internal IMMUTABLE STRICT LANGUAGE internal
        AS 'array_agg_finalfn';
    CREATE TRANSFORM FOR app.mood LANGUAGE handmade (FROM SQL WITH FUNCTION private.to_internal(internal));
"""

NEWER = {
    15: """
        CREATE TABLE app.unique_nulls (a int, UNIQUE NULLS NOT DISTINCT (a));
        CREATE VIEW app.as_caller WITH (security_invoker = true) AS SELECT count(*) FROM app.unique_nulls;
        CREATE PUBLICATION few FOR TABLE app.orders (id, customer) WHERE (customer > 1);
        CREATE PUBLICATION of_schema FOR TABLES IN SCHEMA app;
        ALTER PUBLICATION few OWNER TO admin;
    """,
    17: """
        CREATE FUNCTION app.logged_in() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN RETURN; END';
        CREATE EVENT TRIGGER logged_in ON login EXECUTE FUNCTION app.logged_in();
        GRANT MAINTAIN ON app.orders TO app_readers;
    """,
    18: """
        CREATE TABLE app.newest (
            a int, b int GENERATED ALWAYS AS (a * 2) VIRTUAL, c int CHECK (c > 1) NOT ENFORCED, d int,
            during daterange, PRIMARY KEY (a, during WITHOUT OVERLAPS));
        ALTER TABLE app.newest ADD CONSTRAINT given NOT NULL d NOT VALID;
        ALTER DEFAULT PRIVILEGES GRANT SELECT ON LARGE OBJECTS TO app_readers;
        CREATE PUBLICATION with_generated FOR TABLE app.newest WITH (publish_generated_columns = stored);
    """,
}
