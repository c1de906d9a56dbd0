"""What a database holds, as one value that can be compared: rows, large objects, sequences, definitions."""

from typing import Any

from psycopg import sql

from tests.servers.postgres import PostgresServer

_TABLES = """
    SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'm') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
    ORDER BY 1, 2"""
_ROWS = "SELECT count(*), md5(string_agg(t::text, '|' ORDER BY t::text)) FROM ONLY {} t"
_OTHERS = {
    "large objects": """
        SELECT m.oid::int8, pg_get_userbyid(m.lomowner), m.lomacl::text, md5(lo_get(m.oid))
        FROM pg_largeobject_metadata m""",
    "sequences": "SELECT schemaname, sequencename, last_value, increment_by, cycle FROM pg_sequences",
    "columns": """
        SELECT n.nspname, c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull
        FROM pg_attribute a
        JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE a.attnum > 0 AND NOT a.attisdropped
          AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'""",
    "relations": """
        SELECT n.nspname, c.relname, c.relkind::text, pg_get_userbyid(c.relowner), c.relacl::text
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'""",
    "indexes": "SELECT schemaname, tablename, indexdef FROM pg_indexes WHERE schemaname !~ '^pg_'",
    "constraints": """
        SELECT n.nspname, c.relname, k.conname, pg_get_constraintdef(k.oid) FROM pg_constraint k
        JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'""",
    "functions": """
        SELECT n.nspname, p.proname, md5(p.prosrc) FROM pg_proc p
        JOIN pg_namespace n ON n.oid = p.pronamespace
        WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'""",
}


def contents(server: PostgresServer, dbname: str) -> dict[str, Any]:
    """Return all that a dump of the database should bring back; nobody may write to it meanwhile."""
    with server.connect(dbname) as session:
        session.execute("SET search_path = ''")
        found: dict[str, Any] = {
            f"{schema}.{table}": session.execute(
                sql.SQL(_ROWS).format(sql.Identifier(schema, table))
            ).fetchall()
            for schema, table in session.execute(_TABLES).fetchall()
        }
        for what, query in _OTHERS.items():
            found[what] = sorted(session.execute(query.encode()).fetchall(), key=repr)
    return found
