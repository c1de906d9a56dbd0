"""Schemas, tables, views and sequences, and the columns of all of these."""

from blocks.objects.scope import Kind

_SCHEMAS = """
    SELECT 'schema' AS _kind, n.oid AS _oid, ARRAY[n.nspname]::text[] AS _name, n.nspname AS _schema,
           n.nspowner AS _owner, n.nspacl AS _acl, acldefault('n', n.nspowner) AS _default_acl
    FROM pg_namespace n"""
_TABLES = """
    SELECT CASE c.relkind WHEN 'f' THEN 'foreign table' ELSE 'table' END AS _kind,
           c.oid AS _oid, ARRAY[n.nspname, c.relname]::text[] AS _name, c.oid AS _relation,
           c.relowner AS _owner, c.relacl AS _acl, acldefault('r', c.relowner) AS _default_acl,
           pg_get_partkeydef(c.oid) AS "partition key",
           pg_get_expr(c.relpartbound, c.oid) AS "partition bound",
           ARRAY(SELECT i.inhparent::regclass::text FROM pg_inherits i WHERE i.inhrelid = c.oid
                 ORDER BY i.inhseqno) AS parents,
           CASE WHEN c.reloftype <> 0 THEN format_type(c.reloftype, NULL) END AS "row type",
           c.relpersistence = 'u' AS unlogged,
           (SELECT a.amname FROM pg_am a WHERE a.oid = c.relam AND a.amname <> 'heap') AS "access method",
           ARRAY(SELECT o FROM (SELECT unnest(c.reloptions)
                                UNION ALL SELECT 'toast.' || unnest(t.reloptions)) AS options (o)
                 ORDER BY o) AS "storage parameters",
           c.relrowsecurity AS "row security", c.relforcerowsecurity AS "forced row security",
           CASE c.relreplident WHEN 'f' THEN 'full' WHEN 'n' THEN 'nothing' WHEN 'i' THEN 'index ' || (
               SELECT x.relname FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
               WHERE i.indrelid = c.oid AND i.indisreplident) END AS "replica identity",
           (SELECT x.relname FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
            WHERE i.indrelid = c.oid AND i.indisclustered) AS "clustered index",
           s.srvname AS server,
           ARRAY(SELECT o FROM unnest(f.ftoptions) o ORDER BY o) AS options
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_class t ON t.oid = c.reltoastrelid
    LEFT JOIN pg_foreign_table f ON f.ftrelid = c.oid
    LEFT JOIN pg_foreign_server s ON s.oid = f.ftserver
    WHERE c.relkind IN ('r', 'p', 'f')"""
_VIEWS = """
    SELECT CASE c.relkind WHEN 'v' THEN 'view' ELSE 'materialized view' END AS _kind,
           c.oid AS _oid, ARRAY[n.nspname, c.relname]::text[] AS _name, c.oid AS _relation,
           c.relowner AS _owner, c.relacl AS _acl, acldefault('r', c.relowner) AS _default_acl,
           pg_get_viewdef(c.oid) AS definition,
           c.relkind = 'm' AND c.relispopulated AND c.oid <> ALL (%(without_rows)s::oid[]) AS populated,
           (SELECT a.amname FROM pg_am a WHERE a.oid = c.relam AND a.amname <> 'heap') AS "access method",
           ARRAY(SELECT o FROM (SELECT unnest(c.reloptions)
                                UNION ALL SELECT 'toast.' || unnest(t.reloptions)) AS options (o)
                 ORDER BY o) AS "storage parameters",
           (SELECT x.relname FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
            WHERE i.indrelid = c.oid AND i.indisclustered) AS "clustered index"
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_class t ON t.oid = c.reltoastrelid
    WHERE c.relkind IN ('v', 'm') AND c.oid = ANY (%(relations)s::oid[])"""
_SEQUENCES = """
    SELECT 'sequence' AS _kind, c.oid AS _oid, ARRAY[n.nspname, c.relname]::text[] AS _name,
           c.oid AS _relation,
           c.relowner AS _owner, c.relacl AS _acl, acldefault('s', c.relowner) AS _default_acl,
           format_type(s.seqtypid, NULL) AS type, s.seqstart AS start, s.seqincrement AS increment,
           s.seqmin AS minimum, s.seqmax AS maximum, s.seqcache AS cache, s.seqcycle AS cycle,
           c.relpersistence = 'u' AS unlogged,
           d.refobjid::regclass || '.' || quote_ident(a.attname) AS "owned by"
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_sequence s ON s.seqrelid = c.oid
    LEFT JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid
                         AND d.refclassid = 'pg_class'::regclass AND d.refobjsubid > 0
                         AND d.deptype IN ('a', 'i') AND d.refobjid = ANY (%(relations)s::oid[])
    LEFT JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid"""
_COLUMNS = """
    SELECT 'column' AS _kind, a.attrelid AS _oid, a.attnum AS _part, a.attrelid AS _relation,
           ARRAY[n.nspname, c.relname, a.attname]::text[] AS _name,
           c.relowner AS _grantor, a.attacl AS _acl, acldefault('c', c.relowner) AS _default_acl,
           format_type(a.atttypid, a.atttypmod) AS type,
           CASE WHEN NOT a.attnotnull THEN NULL
                WHEN (a.attrelid, a.attnum) IN (SELECT k.conrelid, k.conkey[1] FROM pg_constraint k
                                                WHERE k.contype = 'n' AND NOT k.convalidated)
                THEN 'not valid' ELSE 'yes' END AS "not null",
           CASE WHEN a.attgenerated = '' THEN pg_get_expr(d.adbin, d.adrelid) END AS "default",
           CASE a.attidentity WHEN 'a' THEN 'always' WHEN 'd' THEN 'by default' END AS identity,
           CASE WHEN a.attgenerated <> '' THEN pg_get_expr(d.adbin, d.adrelid) END AS "generation expression",
           a.attgenerated = 'v' AS virtual,
           CASE WHEN a.attcollation <> t.typcollation THEN a.attcollation::regcollation::text END
               AS collation,
           CASE WHEN a.attstorage <> t.typstorage THEN a.attstorage::text END AS storage,
           nullif(a.attcompression::text, '') AS compression,
           CASE WHEN a.attstattarget >= 0 THEN a.attstattarget END AS "statistics target",
           ARRAY(SELECT o FROM unnest(a.attoptions || a.attfdwoptions) o ORDER BY o) AS options
    FROM pg_attribute a
    JOIN pg_class c ON c.oid = a.attrelid
    JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_type t ON t.oid = a.atttypid
    LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'p', 'f', 'v', 'm')
      AND a.attrelid = ANY (%(relations)s::oid[])"""

KINDS = (
    Kind("pg_namespace", _SCHEMAS, has_grants=True),
    Kind("pg_class", _TABLES, has_grants=True),
    Kind("pg_class", _VIEWS, has_grants=True),
    Kind("pg_class", _SEQUENCES, has_grants=True),
    Kind("pg_class", _COLUMNS, has_grants=True),
)
