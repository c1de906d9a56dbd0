"""Text search: parsers, templates, dictionaries and configurations."""

from blocks.objects.scope import Kind

_PARSERS = """
    SELECT 'text search parser' AS _kind, p.oid AS _oid, n.nspname AS _schema,
           ARRAY[n.nspname, p.prsname]::text[] AS _name,
           p.prsstart::text AS start, p.prstoken::text AS token, p.prsend::text AS "end",
           nullif(p.prsheadline::text, '-') AS headline, p.prslextype::text AS "token types"
    FROM pg_ts_parser p
    JOIN pg_namespace n ON n.oid = p.prsnamespace"""
_TEMPLATES = """
    SELECT 'text search template' AS _kind, t.oid AS _oid, n.nspname AS _schema,
           ARRAY[n.nspname, t.tmplname]::text[] AS _name,
           nullif(t.tmplinit::text, '-') AS init, t.tmpllexize::text AS lexize
    FROM pg_ts_template t
    JOIN pg_namespace n ON n.oid = t.tmplnamespace"""
_DICTIONARIES = """
    SELECT 'text search dictionary' AS _kind, d.oid AS _oid, n.nspname AS _schema,
           ARRAY[n.nspname, d.dictname]::text[] AS _name, d.dictowner AS _owner,
           quote_ident(m.nspname) || '.' || quote_ident(t.tmplname) AS template, d.dictinitoption AS options
    FROM pg_ts_dict d
    JOIN pg_namespace n ON n.oid = d.dictnamespace
    JOIN pg_ts_template t ON t.oid = d.dicttemplate
    JOIN pg_namespace m ON m.oid = t.tmplnamespace"""
_CONFIGURATIONS = """
    SELECT 'text search configuration' AS _kind, c.oid AS _oid, n.nspname AS _schema,
           ARRAY[n.nspname, c.cfgname]::text[] AS _name, c.cfgowner AS _owner,
           quote_ident(m.nspname) || '.' || quote_ident(p.prsname) AS parser,
           ARRAY(SELECT y.alias || ': ' || string_agg(a.mapdict::regdictionary::text, ' ' ORDER BY a.mapseqno)
                 FROM pg_ts_config_map a
                 JOIN ts_token_type(c.cfgparser) y ON y.tokid = a.maptokentype
                 WHERE a.mapcfg = c.oid
                 GROUP BY y.alias ORDER BY y.alias) AS mappings
    FROM pg_ts_config c
    JOIN pg_namespace n ON n.oid = c.cfgnamespace
    JOIN pg_ts_parser p ON p.oid = c.cfgparser
    JOIN pg_namespace m ON m.oid = p.prsnamespace
    WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'"""

KINDS = (
    Kind("pg_ts_parser", _PARSERS),
    Kind("pg_ts_template", _TEMPLATES),
    Kind("pg_ts_dict", _DICTIONARIES),
    Kind("pg_ts_config", _CONFIGURATIONS),
)
