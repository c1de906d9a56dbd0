"""What belongs to no schema: extensions, languages, publications, event triggers, default privileges.

Subscriptions are left out: they are restored nowhere without their owner's say.
"""

from blocks.objects.scope import Kind

# plpgsql is there already in every new database, unless somebody dropped it on the source.
_EXTENSIONS = """
    SELECT 'extension' AS _kind, e.oid AS _oid, ARRAY[e.extname]::text[] AS _name,
           e.extversion AS version, n.nspname AS schema
    FROM pg_extension e
    JOIN pg_namespace n ON n.oid = e.extnamespace
    WHERE e.extname <> 'plpgsql'"""
_LANGUAGES = """
    SELECT 'language' AS _kind, l.oid AS _oid, ARRAY[l.lanname]::text[] AS _name,
           l.lanowner AS _owner, l.lanacl AS _acl, acldefault('l', l.lanowner) AS _default_acl,
           l.lanpltrusted AS trusted, l.lanplcallfoid::regproc::text AS handler,
           CASE WHEN l.laninline <> 0 THEN l.laninline::regproc::text END AS "inline handler",
           CASE WHEN l.lanvalidator <> 0 THEN l.lanvalidator::regproc::text END AS validator
    FROM pg_language l
    WHERE l.lanispl AND l.oid >= 16384"""
_ACCESS_METHODS = """
    SELECT 'access method' AS _kind, m.oid AS _oid, ARRAY[m.amname]::text[] AS _name,
           m.amtype::text AS type, m.amhandler::text AS handler
    FROM pg_am m
    WHERE m.oid >= 16384"""
_TRANSFORMS = """
    SELECT 'transform' AS _kind, t.oid AS _oid,
           ARRAY[format_type(t.trftype, NULL), l.lanname]::text[] AS _name,
           nullif(t.trffromsql::text, '-') AS "from SQL", nullif(t.trftosql::text, '-') AS "to SQL"
    FROM pg_transform t
    JOIN pg_language l ON l.oid = t.trflang"""
_EVENT_TRIGGERS = """
    SELECT 'event trigger' AS _kind, t.oid AS _oid, ARRAY[t.evtname]::text[] AS _name, t.evtowner AS _owner,
           t.evtevent AS event, t.evtfoid::regproc::text AS function,
           ARRAY(SELECT g FROM unnest(t.evttags) g ORDER BY g) AS tags,
           CASE t.evtenabled WHEN 'D' THEN 'no' WHEN 'R' THEN 'replica' WHEN 'A' THEN 'always' END AS enabled
    FROM pg_event_trigger t"""
_PUBLICATIONS = """
    SELECT 'publication' AS _kind, p.oid AS _oid, ARRAY[p.pubname]::text[] AS _name, p.pubowner AS _owner,
           p.puballtables AS "all tables",
           concat_ws(', ', CASE WHEN p.pubinsert THEN 'insert' END, CASE WHEN p.pubupdate THEN 'update' END,
                           CASE WHEN p.pubdelete THEN 'delete' END,
                           CASE WHEN p.pubtruncate THEN 'truncate' END) AS operations,
           p.pubviaroot AS "via the partitioned table",
           nullif(to_jsonb(p) ->> 'pubgencols', 'n') AS "generated columns"
    FROM pg_publication p"""
# Parts of a publication are objects of their own, as they are in a dump: of tables that are left out there
# is none.
_PUBLISHED_TABLES = """
    SELECT 'publication table' AS _kind, r.oid AS _oid, r.prrelid AS _relation,
           ARRAY[p.pubname, n.nspname, c.relname]::text[] AS _name
    FROM pg_publication_rel r
    JOIN pg_publication p ON p.oid = r.prpubid
    JOIN pg_class c ON c.oid = r.prrelid
    JOIN pg_namespace n ON n.oid = c.relnamespace"""
_FILTERED_TABLES = """
    SELECT 'publication table' AS _kind, r.oid AS _oid, r.prrelid AS _relation,
           ARRAY[p.pubname, n.nspname, c.relname]::text[] AS _name,
           pg_get_expr(r.prqual, r.prrelid) AS condition,
           ARRAY(SELECT quote_ident(a.attname) FROM unnest(r.prattrs) k
                 JOIN pg_attribute a ON a.attrelid = r.prrelid AND a.attnum = k ORDER BY 1) AS columns
    FROM pg_publication_rel r
    JOIN pg_publication p ON p.oid = r.prpubid
    JOIN pg_class c ON c.oid = r.prrelid
    JOIN pg_namespace n ON n.oid = c.relnamespace"""
_PUBLISHED_SCHEMAS = """
    SELECT 'publication schema' AS _kind, r.oid AS _oid, n.nspname AS _schema,
           ARRAY[p.pubname, n.nspname]::text[] AS _name
    FROM pg_publication_namespace r
    JOIN pg_publication p ON p.oid = r.pnpubid
    JOIN pg_namespace n ON n.oid = r.pnnspid"""
# Those of a schema add to the kind's default rights, the others stand in their place.
_DEFAULT_PRIVILEGES = """
    SELECT 'default privileges' AS _kind, d.oid AS _oid, d.defaclrole AS _grantor,
           array_remove(ARRAY[pg_get_userbyid(d.defaclrole),
                              CASE d.defaclobjtype WHEN 'r' THEN 'tables' WHEN 'S' THEN 'sequences'
                                                   WHEN 'f' THEN 'functions' WHEN 'T' THEN 'types'
                                                   WHEN 'n' THEN 'schemas' ELSE 'large objects' END,
                              n.nspname]::text[], NULL) AS _name,
           d.defaclacl AS _acl,
           CASE WHEN d.defaclnamespace = 0 THEN
               acldefault(CASE d.defaclobjtype WHEN 'S' THEN 's' ELSE d.defaclobjtype END, d.defaclrole)
           END AS _default_acl"""
_DATABASE_DEFAULTS = f"""
    {_DEFAULT_PRIVILEGES}
    FROM pg_default_acl d
    LEFT JOIN pg_namespace n ON false
    WHERE d.defaclnamespace = 0"""
_SCHEMA_DEFAULTS = f"""
    {_DEFAULT_PRIVILEGES}, n.nspname AS _schema
    FROM pg_default_acl d
    JOIN pg_namespace n ON n.oid = d.defaclnamespace"""

KINDS = (
    Kind("pg_extension", _EXTENSIONS, in_schemas=False),
    Kind("pg_language", _LANGUAGES, has_grants=True, in_schemas=False),
    Kind("pg_am", _ACCESS_METHODS, in_schemas=False),
    Kind("pg_transform", _TRANSFORMS, in_schemas=False),
    Kind("pg_event_trigger", _EVENT_TRIGGERS, in_schemas=False),
    Kind("pg_publication", _PUBLICATIONS, in_schemas=False),
    Kind("pg_publication_rel", _PUBLISHED_TABLES, in_schemas=False, before=15),
    Kind("pg_publication_rel", _FILTERED_TABLES, in_schemas=False, since=15),
    Kind("pg_publication_namespace", _PUBLISHED_SCHEMAS, in_schemas=False, since=15),
    Kind("pg_default_acl", _DATABASE_DEFAULTS, has_grants=True, in_schemas=False),
    Kind("pg_default_acl", _SCHEMA_DEFAULTS, has_grants=True),
)
