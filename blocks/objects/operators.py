"""Operators, their classes and families, casts and conversions."""

from blocks.objects.scope import Kind

_OPERATORS = """
    SELECT 'operator' AS _kind, o.oid AS _oid, n.nspname AS _schema,
           ARRAY[n.nspname, o.oprname,
                 CASE o.oprleft WHEN 0 THEN 'NONE' ELSE format_type(o.oprleft, NULL) END,
                 CASE o.oprright WHEN 0 THEN 'NONE' ELSE format_type(o.oprright, NULL) END]::text[] AS _name,
           o.oprowner AS _owner, o.oprcode::text AS function,
           CASE WHEN o.oprcom <> 0 THEN o.oprcom::regoperator::text END AS commutator,
           CASE WHEN o.oprnegate <> 0 THEN o.oprnegate::regoperator::text END AS negator,
           nullif(o.oprrest::text, '-') AS "restriction estimator",
           nullif(o.oprjoin::text, '-') AS "join estimator",
           o.oprcanmerge AS merges, o.oprcanhash AS hashes
    FROM pg_operator o
    JOIN pg_namespace n ON n.oid = o.oprnamespace
    WHERE o.oprcode <> 0 AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'"""
_OPERATOR_CLASSES = """
    SELECT 'operator class' AS _kind, c.oid AS _oid, n.nspname AS _schema,
           ARRAY[n.nspname, c.opcname, m.amname]::text[] AS _name, c.opcowner AS _owner,
           format_type(c.opcintype, NULL) AS type, c.opcdefault AS "default",
           quote_ident(g.nspname) || '.' || quote_ident(f.opfname) AS family,
           CASE WHEN c.opckeytype <> 0 THEN format_type(c.opckeytype, NULL) END AS storage,
           ARRAY(SELECT a.amopstrategy || ' ' || a.amopopr::regoperator
                        || CASE WHEN a.amopsortfamily <> 0 THEN ' ordering' ELSE '' END
                 FROM pg_depend d JOIN pg_amop a ON a.oid = d.objid
                 WHERE d.classid = 'pg_amop'::regclass
                   AND d.refclassid = 'pg_opclass'::regclass AND d.refobjid = c.oid
                 ORDER BY a.amopstrategy, 1) AS operators,
           ARRAY(SELECT a.amprocnum || ' ' || a.amproc::regprocedure
                 FROM pg_depend d JOIN pg_amproc a ON a.oid = d.objid
                 WHERE d.classid = 'pg_amproc'::regclass
                   AND d.refclassid = 'pg_opclass'::regclass AND d.refobjid = c.oid
                 ORDER BY a.amprocnum, 1) AS functions
    FROM pg_opclass c
    JOIN pg_namespace n ON n.oid = c.opcnamespace
    JOIN pg_am m ON m.oid = c.opcmethod
    JOIN pg_opfamily f ON f.oid = c.opcfamily
    JOIN pg_namespace g ON g.oid = f.opfnamespace
    WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'"""
_OPERATOR_FAMILIES = """
    SELECT 'operator family' AS _kind, f.oid AS _oid, n.nspname AS _schema,
           ARRAY[n.nspname, f.opfname, m.amname]::text[] AS _name, f.opfowner AS _owner,
           ARRAY(SELECT a.amopstrategy || ' ' || a.amopopr::regoperator
                        || CASE WHEN a.amopsortfamily <> 0 THEN ' ordering' ELSE '' END
                 FROM pg_depend d JOIN pg_amop a ON a.oid = d.objid
                 WHERE d.classid = 'pg_amop'::regclass
                   AND d.refclassid = 'pg_opfamily'::regclass AND d.refobjid = f.oid
                   AND a.amopfamily = f.oid
                 ORDER BY a.amopstrategy, 1) AS operators,
           ARRAY(SELECT a.amprocnum || ' ' || a.amproc::regprocedure
                 FROM pg_depend d JOIN pg_amproc a ON a.oid = d.objid
                 WHERE d.classid = 'pg_amproc'::regclass
                   AND d.refclassid = 'pg_opfamily'::regclass AND d.refobjid = f.oid
                 ORDER BY a.amprocnum, 1) AS functions
    FROM pg_opfamily f
    JOIN pg_namespace n ON n.oid = f.opfnamespace
    JOIN pg_am m ON m.oid = f.opfmethod
    WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'"""
_CASTS = """
    SELECT 'cast' AS _kind, c.oid AS _oid,
           ARRAY[format_type(c.castsource, NULL), format_type(c.casttarget, NULL)]::text[] AS _name,
           CASE WHEN c.castfunc <> 0 THEN c.castfunc::regprocedure::text END AS function,
           CASE c.castcontext WHEN 'a' THEN 'assignment' WHEN 'i' THEN 'implicit' END AS context,
           CASE c.castmethod WHEN 'b' THEN 'binary coercible' WHEN 'i' THEN 'by text' END AS method
    FROM pg_cast c
    WHERE c.oid >= 16384
      AND NOT EXISTS (SELECT FROM pg_range r
                      WHERE r.rngtypid = c.castsource AND r.rngmultitypid = c.casttarget)"""
_CONVERSIONS = """
    SELECT 'conversion' AS _kind, c.oid AS _oid, n.nspname AS _schema,
           ARRAY[n.nspname, c.conname]::text[] AS _name, c.conowner AS _owner,
           pg_encoding_to_char(c.conforencoding) AS source, pg_encoding_to_char(c.contoencoding) AS target,
           c.conproc::text AS function, c.condefault AS "default"
    FROM pg_conversion c
    JOIN pg_namespace n ON n.oid = c.connamespace"""

KINDS = (
    Kind("pg_operator", _OPERATORS),
    Kind("pg_opclass", _OPERATOR_CLASSES),
    Kind("pg_opfamily", _OPERATOR_FAMILIES),
    Kind("pg_cast", _CASTS, in_schemas=False),
    Kind("pg_conversion", _CONVERSIONS),
)
