"""Expressions of every kind that a server writes down, in views, rules, checks, indexes and defaults."""

ODD_EXPRESSIONS = """
    CREATE SCHEMA odd AUTHORIZATION app_owner;
    SET ROLE app_owner;
    CREATE TABLE odd.t (a int, b varchar(5), c char(3), d numeric(5, 1), e timestamp, f int[], g jsonb,
                        h bool, i "char", j oid, k name, l date);
    CREATE VIEW odd.operators AS
        SELECT *, a::text || b AS a1, -a AS a2, - 5 AS a3, -5::int2 AS a4, 2 ^ 3 AS a5,
               a BETWEEN 1 AND 2 AS a6,
               b LIKE 'a%' AS b1, b ~* ANY (ARRAY['a', 'b']) AS b2, coalesce(b, c, 'x') AS b3,
               nullif(a, 1) AS a7,
               greatest(a, 2, d) AS a8, (f)[1] AS f1, f[1:2] AS f2, g -> 'a' ->> 'b' AS g1,
               h IS NOT true AS h1,
               e AT TIME ZONE 'utc' AS e1, interval '1 day 2 hours' AS e2, date '2020-01-01' AS l1,
               current_date AS l2, localtimestamp AS e3, position('a' IN b) AS b4,
               substring(b FROM 1 FOR 2) AS b5,
               trim(BOTH 'x' FROM b) AS b6, extract(epoch FROM e) AS e4, overlay(b PLACING 'x' FROM 1) AS b7,
               cast(a AS numeric(9, 2)) AS a9, row(a, b) IS NULL AS r1, ARRAY[[1, 2], [3, 4]] AS f3,
               '{1,2}'::int[] AS f4, 'pg_class'::regclass AS j1,
               CASE WHEN h THEN 1 WHEN a = 1 THEN 2 END AS h2, (SELECT max(a) FROM odd.t) AS a10,
               EXISTS (SELECT 1) AS h3, a IN (SELECT a FROM odd.t) AS a11, (a, b) = (1, 'x') AS r2,
               i IN ('a', 'b') AS i1, k = 'x' AS k1, l - 1 AS l3, l + interval '1 month' AS l4
        FROM odd.t
        WHERE b NOT IN ('a', 'b') AND c = 'abc' AND c IN ('a', 'b') AND d > 1.5 AND e > '2020-01-01'
          AND (h OR (NOT h AND a IS DISTINCT FROM 3)) AND b IS NOT NULL AND b <> '' AND k IN ('a', 'b')
          AND j IN (1, 2);
    CREATE VIEW odd.joins AS
        SELECT DISTINCT ON (x.a) x.a, y.b, rank() OVER w,
               lag(x.a, 1) OVER (w ROWS BETWEEN 1 PRECEDING AND CURRENT ROW)
        FROM odd.t x JOIN odd.t y USING (a)
        NATURAL LEFT JOIN (SELECT a, 1 AS q FROM odd.t TABLESAMPLE system (10)) z
        FULL JOIN unnest(ARRAY[1, 2]) WITH ORDINALITY u (n, o) ON u.n = x.a
        WHERE x.b IN ('a', 'b')
        WINDOW w AS (PARTITION BY x.c ORDER BY x.d DESC NULLS LAST)
        ORDER BY x.a, 2 LIMIT 5 OFFSET 1;
    CREATE VIEW odd.sets AS
        (SELECT a FROM odd.t EXCEPT ALL SELECT 1) UNION (VALUES (1), (2) ORDER BY 1 LIMIT 1);
    CREATE VIEW odd.locking AS SELECT * FROM odd.t FOR UPDATE OF t SKIP LOCKED;
    CREATE VIEW odd.whole_row AS SELECT t FROM odd.t;
    CREATE VIEW odd.rows AS
        SELECT (t).a, (t.*) IS NULL AS n, row_to_json(t) AS j, count(*) FROM odd.t GROUP BY t.*, t.a;
    CREATE VIEW odd.common AS
        WITH m AS MATERIALIZED (SELECT a FROM odd.t),
             n AS NOT MATERIALIZED (SELECT 'x' AS l, NULL AS u, a FROM m)
        SELECT n.l, n.u, n.a, 'literal' FROM n, m WHERE n.a = m.a;
    CREATE VIEW odd.aliases AS SELECT a AS "select", b AS "Mixed", c AS other FROM odd.t AS "order";
    ALTER TABLE odd.t RENAME a TO renamed; ALTER TABLE odd.t RENAME TO t2; ALTER TABLE odd.t2 ADD later int;
    CREATE RULE inserting AS ON INSERT TO odd.aliases DO INSTEAD
        INSERT INTO odd.t2 (renamed, b, d) VALUES (new."select", coalesce(new."Mixed", 'x'), 1.5)
        ON CONFLICT DO NOTHING RETURNING renamed, b, c;
    CREATE RULE updating AS ON UPDATE TO odd.aliases WHERE old."select" IN (1, 2) DO INSTEAD (
        UPDATE odd.t2 SET b = new."Mixed" WHERE b IN ('a', 'b');
        DELETE FROM odd.t2 USING pg_class c WHERE c.relname = t2.b);
    CREATE TABLE odd.checks (
        a varchar(10), b char(2), c text, d numeric, e smallint, f bigint, g date, h real,
        CHECK (a <> ALL (ARRAY['x', 'y'])), CHECK (b IN ('aa', 'bb')),
        CHECK (c IN ('a', 'b') AND a LIKE ANY (ARRAY['a%', 'b%'])), CHECK (d BETWEEN 0 AND 1e10),
        CHECK (e IN (1, 2)), CHECK (f > 5000000000 OR f = -1), CHECK (g > '2000-01-01' AND g < now()),
        CHECK (h > 0.1), CHECK (a::text || b > 'x'),
        CHECK (NOT (a = 'x' AND (b = 'y' OR c = 'z')) AND (d + 1) * 2 > 3), CHECK (length(btrim(a)) > 0),
        CHECK (a ~ '^[a-z]+$' AND a !~~ '%x' AND a SIMILAR TO 'x'),
        EXCLUDE USING btree (a WITH =) WHERE (b IN ('a', 'b')));
    CREATE INDEX ON odd.checks (a varchar_pattern_ops, (c || a), (CASE WHEN e = 1 THEN 2 END),
                                coalesce(a, c) COLLATE "C")
        WHERE a NOT IN ('x', 'y') AND e = ANY ('{1,2}') AND (g IS NULL OR f > 3 AND f < 9);
    CREATE FUNCTION odd.defaults(a int DEFAULT 1 + 2 * 3, b date DEFAULT '2020-01-01',
                                 c varchar(3) DEFAULT 'x', d numeric(9, 2)[] DEFAULT ARRAY[1, 2])
        RETURNS varchar(7) LANGUAGE sql SET datestyle = 'SQL, DMY' SET search_path = "$user", public
        AS 'SELECT 1::varchar';
    CREATE FUNCTION odd.statements() RETURNS TABLE (x int) LANGUAGE sql SET search_path FROM CURRENT
        BEGIN ATOMIC; SELECT 1; SELECT count(*)::int FROM pg_class c WHERE c.relkind IN ('r', 'p'); END;
    CREATE FUNCTION odd.polymorphic(anyelement, OUT x anyelement, INOUT y anyarray) LANGUAGE sql
        AS 'SELECT $1, $2';
    RESET ROLE;
"""
