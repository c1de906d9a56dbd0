"""Types, domains with their constraints, and collations.

Left out is what another object brings along: array types, the row types of tables, multiranges.
"""

from blocks.objects.scope import Kind

_TYPES = """
    SELECT 'type' AS _kind, t.oid AS _oid, n.nspname AS _schema, ARRAY[n.nspname, t.typname]::text[] AS _name,
           t.typowner AS _owner, t.typacl AS _acl, acldefault('T', t.typowner) AS _default_acl,
           CASE t.typtype WHEN 'e' THEN 'enum' WHEN 'c' THEN 'composite' WHEN 'r' THEN 'range'
                          WHEN 'p' THEN 'shell' ELSE 'base' END AS "kind of type",
           ARRAY(SELECT quote_literal(e.enumlabel) FROM pg_enum e WHERE e.enumtypid = t.oid
                 ORDER BY e.enumsortorder) AS labels,
           ARRAY(SELECT quote_ident(a.attname) || ' ' || format_type(a.atttypid, a.atttypmod)
                        || CASE WHEN a.attcollation <> y.typcollation
                                THEN ' COLLATE ' || a.attcollation::regcollation ELSE '' END
                 FROM pg_attribute a JOIN pg_type y ON y.oid = a.atttypid
                 WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
                 ORDER BY a.attnum) AS attributes,
           ARRAY(SELECT quote_ident(a.attname) || ': ' || d.description
                 FROM pg_attribute a
                 JOIN pg_description d ON d.classoid = 'pg_class'::regclass
                                      AND d.objoid = a.attrelid AND d.objsubid = a.attnum
                 WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0
                 ORDER BY a.attnum) AS "comments on attributes",
           format_type(r.rngsubtype, NULL) AS subtype,
           (SELECT quote_ident(m.nspname) || '.' || quote_ident(o.opcname)
            FROM pg_opclass o JOIN pg_namespace m ON m.oid = o.opcnamespace
            WHERE o.oid = r.rngsubopc) AS "operator class",
           CASE WHEN r.rngcollation <> 0 THEN r.rngcollation::regcollation::text END AS collation,
           nullif(r.rngcanonical::text, '-') AS "canonical function",
           nullif(r.rngsubdiff::text, '-') AS "difference function",
           format_type(r.rngmultitypid, NULL) AS multirange,
           b.*
    FROM pg_type t
    JOIN pg_namespace n ON n.oid = t.typnamespace
    LEFT JOIN pg_range r ON r.rngtypid = t.oid
    LEFT JOIN pg_class c ON c.oid = t.typrelid
    LEFT JOIN LATERAL (
        SELECT t.typinput::text AS input, t.typoutput::text AS output,
               nullif(t.typreceive::text, '-') AS receive, nullif(t.typsend::text, '-') AS send,
               nullif(t.typmodin::text, '-') AS "modifier input",
               nullif(t.typmodout::text, '-') AS "modifier output",
               nullif(t.typanalyze::text, '-') AS "analyze",
               nullif(t.typsubscript::text, '-') AS "subscript function",
               t.typlen::text AS length, t.typbyval AS "passed by value", t.typalign::text AS alignment,
               t.typstorage::text AS storage, t.typcategory::text AS category,
               t.typispreferred AS preferred, t.typdefault AS "default",
               CASE WHEN t.typelem <> 0 THEN format_type(t.typelem, NULL) END AS element,
               t.typdelim::text AS delimiter, t.typcollation <> 0 AS collatable
    ) b ON t.typtype = 'b'
    WHERE t.typtype IN ('e', 'c', 'r', 'b', 'p') AND (t.typtype <> 'p' OR NOT t.typisdefined)
      AND (t.typtype <> 'c' OR c.relkind = 'c')
      AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
      AND NOT EXISTS (SELECT FROM pg_type e WHERE e.typarray = t.oid)"""
_DOMAINS = """
    SELECT 'domain' AS _kind, t.oid AS _oid, n.nspname AS _schema,
           ARRAY[n.nspname, t.typname]::text[] AS _name,
           t.typowner AS _owner, t.typacl AS _acl, acldefault('T', t.typowner) AS _default_acl,
           format_type(t.typbasetype, t.typtypmod) AS type,
           t.typnotnull AS "not null",
           coalesce(pg_get_expr(t.typdefaultbin, 0), t.typdefault) AS "default",
           CASE WHEN t.typcollation <> b.typcollation THEN t.typcollation::regcollation::text END AS collation
    FROM pg_type t
    JOIN pg_namespace n ON n.oid = t.typnamespace
    JOIN pg_type b ON b.oid = t.typbasetype
    WHERE t.typtype = 'd'"""
_DOMAIN_CONSTRAINTS = """
    SELECT 'constraint' AS _kind, k.oid AS _oid, n.nspname AS _schema,
           ARRAY[n.nspname, t.typname, k.conname]::text[] AS _name,
           pg_get_constraintdef(k.oid) AS definition
    FROM pg_constraint k
    JOIN pg_type t ON t.oid = k.contypid
    JOIN pg_namespace n ON n.oid = t.typnamespace
    WHERE k.contype = 'c'
      AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_type'::regclass
                      AND d.objid = k.contypid AND d.deptype = 'e')"""
# Columns that later majors added or renamed are looked for by name.
_COLLATIONS = """
    SELECT 'collation' AS _kind, c.oid AS _oid, n.nspname AS _schema,
           ARRAY[n.nspname, c.collname]::text[] AS _name, c.collowner AS _owner,
           c.collprovider::text AS provider, NOT c.collisdeterministic AS nondeterministic,
           c.collcollate AS collate, c.collctype AS ctype,
           coalesce(to_jsonb(c) ->> 'colllocale', to_jsonb(c) ->> 'colliculocale') AS locale,
           to_jsonb(c) ->> 'collicurules' AS rules
    FROM pg_collation c
    JOIN pg_namespace n ON n.oid = c.collnamespace"""

KINDS = (
    Kind("pg_type", _TYPES, has_grants=True),
    Kind("pg_type", _DOMAINS, has_grants=True),
    Kind("pg_constraint", _DOMAIN_CONSTRAINTS),
    Kind("pg_collation", _COLLATIONS),
)
