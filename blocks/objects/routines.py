"""Functions, procedures and aggregates, part by part: a body is what its author wrote, letter by letter."""

from blocks.objects.scope import Kind

_ROUTINES = """
    SELECT CASE p.prokind WHEN 'p' THEN 'procedure' WHEN 'w' THEN 'window function' ELSE 'function' END
               AS _kind,
           p.oid AS _oid, n.nspname AS _schema,
           ARRAY[n.nspname, p.proname, oidvectortypes(p.proargtypes)]::text[] AS _name,
           p.proowner AS _owner, p.proacl AS _acl, acldefault('f', p.proowner) AS _default_acl,
           pg_get_function_arguments(p.oid) AS arguments,
           pg_get_function_result(p.oid) AS result,
           nullif(l.lanname, 'sql') AS language,
           CASE p.provolatile WHEN 'i' THEN 'immutable' WHEN 's' THEN 'stable' END AS volatility,
           CASE p.proparallel WHEN 's' THEN 'safe' WHEN 'r' THEN 'restricted' END AS parallel,
           p.proisstrict AS strict, p.prosecdef AS "security definer", p.proleakproof AS leakproof,
           p.procost AS cost, nullif(p.prorows, 0) AS rows,
           CASE WHEN p.prosupport <> 0 THEN p.prosupport::text END AS "support function",
           ARRAY(SELECT format_type(y, NULL) FROM unnest(p.protrftypes) y) AS transforms,
           ARRAY(SELECT s FROM unnest(p.proconfig) s ORDER BY s) AS settings,
           p.probin AS library,
           CASE WHEN p.prosqlbody IS NULL THEN p.prosrc END AS body,
           pg_get_function_sqlbody(p.oid) AS "SQL body"
    FROM pg_proc p
    JOIN pg_namespace n ON n.oid = p.pronamespace
    JOIN pg_language l ON l.oid = p.prolang
    WHERE p.prokind <> 'a' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
      AND NOT EXISTS (SELECT FROM pg_depend d
                      WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'i')"""
_AGGREGATES = """
    SELECT 'aggregate' AS _kind, p.oid AS _oid, n.nspname AS _schema,
           ARRAY[n.nspname, p.proname, oidvectortypes(p.proargtypes)]::text[] AS _name,
           p.proowner AS _owner, p.proacl AS _acl, acldefault('f', p.proowner) AS _default_acl,
           pg_get_function_arguments(p.oid) AS arguments,
           CASE a.aggkind WHEN 'o' THEN 'ordered set' WHEN 'h' THEN 'hypothetical set' END
               AS "kind of aggregate",
           CASE p.proparallel WHEN 's' THEN 'safe' WHEN 'r' THEN 'restricted' END AS parallel,
           a.aggtransfn::text AS "state function", format_type(a.aggtranstype, NULL) AS "state type",
           nullif(a.aggtransspace, 0) AS "state size", a.agginitval AS "initial condition",
           nullif(a.aggfinalfn::text, '-') AS "final function", a.aggfinalextra AS "final extra arguments",
           a.aggfinalmodify::text AS "final function modifies",
           nullif(a.aggcombinefn::text, '-') AS "combine function",
           nullif(a.aggserialfn::text, '-') AS "serial function",
           nullif(a.aggdeserialfn::text, '-') AS "deserial function",
           nullif(a.aggmtransfn::text, '-') AS "moving state function",
           nullif(a.aggminvtransfn::text, '-') AS "moving inverse function",
           nullif(a.aggmfinalfn::text, '-') AS "moving final function",
           a.aggmfinalextra AS "moving final extra arguments",
           CASE WHEN a.aggmtransfn <> 0 THEN a.aggmfinalmodify::text END AS "moving final function modifies",
           CASE WHEN a.aggmtranstype <> 0 THEN format_type(a.aggmtranstype, NULL) END AS "moving state type",
           nullif(a.aggmtransspace, 0) AS "moving state size",
           a.aggminitval AS "moving initial condition",
           CASE WHEN a.aggsortop <> 0 THEN a.aggsortop::regoperator::text END AS "sort operator"
    FROM pg_aggregate a
    JOIN pg_proc p ON p.oid = a.aggfnoid
    JOIN pg_namespace n ON n.oid = p.pronamespace
    WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'"""

KINDS = (Kind("pg_proc", _ROUTINES, has_grants=True), Kind("pg_proc", _AGGREGATES, has_grants=True))
