"""What hangs on tables and views: indexes, constraints, triggers, rules, policies and statistics.

Each bears the name of its table, except statistics, which have a schema of their own.
"""

from blocks.objects.scope import Kind

# Those that pg_dump leaves out too: what CREATE INDEX CONCURRENTLY left behind, and the parts that a
# partitioned table's own constraints and triggers make, by names of the server's choice.
_INDEXES = """
    SELECT 'index' AS _kind, i.indexrelid AS _oid, i.indrelid AS _relation,
           ARRAY[n.nspname, t.relname, c.relname]::text[] AS _name,
           pg_get_indexdef(i.indexrelid) AS definition,
           (SELECT h.inhparent::regclass::text FROM pg_inherits h WHERE h.inhrelid = i.indexrelid) AS parent,
           ARRAY(SELECT a.attnum || ': ' || a.attstattarget FROM pg_attribute a
                 WHERE a.attrelid = i.indexrelid AND a.attstattarget >= 0 ORDER BY a.attnum)
               AS "statistics targets"
    FROM pg_index i
    JOIN pg_class c ON c.oid = i.indexrelid
    JOIN pg_class t ON t.oid = i.indrelid
    JOIN pg_namespace n ON n.oid = t.relnamespace
    WHERE (i.indisvalid OR t.relkind = 'p') AND i.indisready AND i.indrelid = ANY (%(relations)s::oid[])"""
_CONSTRAINTS = """
    SELECT 'constraint' AS _kind, k.oid AS _oid, k.conrelid AS _relation,
           ARRAY[n.nspname, c.relname, k.conname]::text[] AS _name,
           pg_get_constraintdef(k.oid) AS definition
    FROM pg_constraint k
    JOIN pg_class c ON c.oid = k.conrelid
    JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE k.conrelid = ANY (%(relations)s::oid[])
      AND (k.contype IN ('p', 'u', 'x')
           OR (k.contype = 'f' AND k.conparentid = 0)
           OR (k.contype = 'c' AND k.coninhcount = 0))"""
_TRIGGERS = """
    SELECT 'trigger' AS _kind, t.oid AS _oid, t.tgrelid AS _relation,
           ARRAY[n.nspname, c.relname, t.tgname]::text[] AS _name,
           pg_get_triggerdef(t.oid) AS definition,
           CASE t.tgenabled WHEN 'D' THEN 'no' WHEN 'R' THEN 'replica' WHEN 'A' THEN 'always' END AS enabled
    FROM pg_trigger t
    JOIN pg_class c ON c.oid = t.tgrelid
    JOIN pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_trigger p ON p.oid = t.tgparentid
    WHERE (NOT t.tgisinternal AND t.tgparentid = 0)
       OR (NOT p.tgisinternal AND t.tgenabled <> p.tgenabled)"""
_RULES = """
    SELECT 'rule' AS _kind, r.oid AS _oid, r.ev_class AS _relation,
           ARRAY[n.nspname, c.relname, r.rulename]::text[] AS _name,
           pg_get_ruledef(r.oid) AS definition,
           CASE r.ev_enabled WHEN 'D' THEN 'no' WHEN 'R' THEN 'replica' WHEN 'A' THEN 'always' END AS enabled
    FROM pg_rewrite r
    JOIN pg_class c ON c.oid = r.ev_class
    JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE r.rulename <> '_RETURN' AND r.ev_class = ANY (%(relations)s::oid[])"""
_POLICIES = """
    SELECT 'policy' AS _kind, p.oid AS _oid, p.polrelid AS _relation,
           ARRAY[n.nspname, c.relname, p.polname]::text[] AS _name,
           CASE p.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE'
                         WHEN 'd' THEN 'DELETE' END AS command,
           NOT p.polpermissive AS restrictive,
           ARRAY(SELECT pg_get_userbyid(r)::text FROM unnest(p.polroles) r WHERE r <> 0 ORDER BY 1) AS roles,
           pg_get_expr(p.polqual, p.polrelid) AS "using",
           pg_get_expr(p.polwithcheck, p.polrelid) AS "with check"
    FROM pg_policy p
    JOIN pg_class c ON c.oid = p.polrelid
    JOIN pg_namespace n ON n.oid = c.relnamespace"""
_STATISTICS = """
    SELECT 'statistics' AS _kind, s.oid AS _oid, s.stxrelid AS _relation, n.nspname AS _schema,
           ARRAY[n.nspname, s.stxname]::text[] AS _name, s.stxowner AS _owner,
           s.stxrelid::regclass::text AS "table",
           pg_get_statisticsobjdef(s.oid) AS definition,
           CASE WHEN s.stxstattarget >= 0 THEN s.stxstattarget END AS "statistics target"
    FROM pg_statistic_ext s
    JOIN pg_namespace n ON n.oid = s.stxnamespace"""

KINDS = (
    Kind("pg_class", _INDEXES),
    Kind("pg_constraint", _CONSTRAINTS),
    Kind("pg_trigger", _TRIGGERS),
    Kind("pg_rewrite", _RULES),
    Kind("pg_policy", _POLICIES),
    Kind("pg_statistic_ext", _STATISTICS),
)
