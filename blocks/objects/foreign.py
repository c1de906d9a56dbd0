"""Foreign data wrappers, servers and user mappings.

A mapping's options hold passwords: only their names are read.
"""

from blocks.objects.scope import Kind

_WRAPPERS = """
    SELECT 'foreign data wrapper' AS _kind, w.oid AS _oid, ARRAY[w.fdwname]::text[] AS _name,
           w.fdwowner AS _owner, w.fdwacl AS _acl, acldefault('F', w.fdwowner) AS _default_acl,
           CASE WHEN w.fdwhandler <> 0 THEN w.fdwhandler::regproc::text END AS handler,
           CASE WHEN w.fdwvalidator <> 0 THEN w.fdwvalidator::regproc::text END AS validator,
           ARRAY(SELECT o FROM unnest(w.fdwoptions) o ORDER BY o) AS options
    FROM pg_foreign_data_wrapper w"""
_SERVERS = """
    SELECT 'foreign server' AS _kind, s.oid AS _oid, ARRAY[s.srvname]::text[] AS _name,
           s.srvowner AS _owner, s.srvacl AS _acl, acldefault('S', s.srvowner) AS _default_acl,
           w.fdwname AS "foreign data wrapper", s.srvtype AS type, s.srvversion AS version,
           ARRAY(SELECT o FROM unnest(s.srvoptions) o ORDER BY o) AS options
    FROM pg_foreign_server s
    JOIN pg_foreign_data_wrapper w ON w.oid = s.srvfdw"""
_USER_MAPPINGS = """
    SELECT 'user mapping' AS _kind, m.umid AS _oid, ARRAY[m.srvname, m.usename]::text[] AS _name,
           ARRAY(SELECT split_part(o, '=', 1) FROM unnest(m.umoptions) o ORDER BY 1) AS options
    FROM pg_user_mappings m"""

KINDS = (
    Kind("pg_foreign_data_wrapper", _WRAPPERS, has_grants=True, in_schemas=False),
    Kind("pg_foreign_server", _SERVERS, has_grants=True, in_schemas=False),
    Kind("pg_user_mapping", _USER_MAPPINGS, in_schemas=False),
)
