"""Faults of owners and rights, and of what is neither a table nor a type."""

from tests.faults.table import CONTENT, EVERY, FULL, WARNING, Fault, changed

OWNERS_AND_RIGHTS = (
    changed(
        "a table of another owner",
        "ALTER TABLE shop.notes OWNER TO faults_reader",
        "OWNER_DIFFERS table shop.notes",
    ),
    changed(
        "a schema of another owner", "ALTER SCHEMA spare OWNER TO faults_reader", "OWNER_DIFFERS schema spare"
    ),
    changed(
        "a right on a table lost",
        "REVOKE SELECT ON shop.orders FROM faults_reader",
        "GRANT_DIFFERS table shop.orders",
    ),
    changed(
        "a right on a table more",
        "GRANT DELETE ON shop.orders TO faults_reader",
        "GRANT_DIFFERS table shop.orders",
    ),
    changed(
        "a table open to everybody",
        "GRANT SELECT ON shop.customers TO PUBLIC",
        "GRANT_DIFFERS table shop.customers",
    ),
    changed(
        "a right on a column lost",
        "REVOKE UPDATE (note) ON shop.orders FROM faults_reader",
        "GRANT_DIFFERS column shop.orders.note",
    ),
    changed(
        "a right on a schema lost",
        "REVOKE USAGE ON SCHEMA shop FROM faults_reader",
        "GRANT_DIFFERS schema shop",
    ),
    changed(
        "a function open to everybody",
        "GRANT EXECUTE ON FUNCTION shop.secret TO PUBLIC",
        "GRANT_DIFFERS function shop.secret(integer)",
    ),
    changed(
        "default privileges lost",
        "ALTER DEFAULT PRIVILEGES FOR ROLE faults_owner IN SCHEMA spare"
        " REVOKE SELECT ON TABLES FROM faults_reader",
        "OBJECT_MISSING default privileges tables of faults_owner in schema spare",
    ),
)

OTHERS = (
    changed(
        "a view's query changed",
        "CREATE OR REPLACE VIEW shop.paid WITH (security_barrier) AS"
        " SELECT id, name FROM shop.customers WHERE state = 'new'",
        "DEFINITION_DIFFERS view shop.paid",
    ),
    Fault(
        "a materialized view not filled",
        "REFRESH MATERIALIZED VIEW shop.totals WITH NO DATA",
        {"MATVIEW_UNPOPULATED materialized view shop.totals": FULL},
    ),
    Fault(
        "a materialized view filled with other rows",
        "CREATE TEMPORARY TABLE kept AS SELECT * FROM shop.orders WHERE id = 7;"
        "DELETE FROM shop.orders WHERE id = 7; REFRESH MATERIALIZED VIEW shop.totals;"
        "INSERT INTO shop.orders SELECT * FROM kept",
        why="no dump holds its rows: they are worked out anew",
    ),
    changed("a sequence lost", "DROP SEQUENCE shop.numbers", "OBJECT_MISSING sequence shop.numbers"),
    changed(
        "a sequence of another increment",
        "ALTER SEQUENCE shop.numbers INCREMENT 2",
        "DEFINITION_DIFFERS sequence shop.numbers",
    ),
    changed(
        "a table's comment changed",
        "COMMENT ON TABLE shop.orders IS 'what is ordered'",
        "DEFINITION_DIFFERS table shop.orders",
    ),
    changed(
        "a column's comment lost",
        "COMMENT ON COLUMN shop.orders.note IS NULL",
        "DEFINITION_DIFFERS column shop.orders.note",
    ),
    changed("a schema lost", "DROP SCHEMA spare CASCADE", "OBJECT_MISSING schema spare"),
    Fault(
        "an extension lost",
        "ALTER TABLE shop.documents ALTER attributes TYPE text; DROP EXTENSION hstore",
        {
            "OBJECT_MISSING extension hstore": EVERY,
            "DEFINITION_DIFFERS column shop.documents.attributes": EVERY,
            "CONTENT_DIFFERS table shop.documents": CONTENT,
        },
    ),
    changed(
        "an extension of another version",
        "UPDATE pg_extension SET extversion = '1.0' WHERE extname = 'hstore'",
        f"{WARNING}DEFINITION_DIFFERS extension hstore",
    ),
    changed(
        "a foreign server elsewhere",
        "ALTER SERVER far OPTIONS (SET host 'near.example')",
        "DEFINITION_DIFFERS foreign server far",
    ),
    Fault(
        "a user mapping's password changed",
        "ALTER USER MAPPING FOR faults_owner SERVER far OPTIONS (SET word 'x')",
        why="of a mapping's options only the names are read",
    ),
    changed(
        "a publication's filter changed",
        "ALTER PUBLICATION changes SET TABLE shop.orders WHERE (id > 6)",
        "DEFINITION_DIFFERS publication table shop.orders of changes",
    ),
    changed(
        "an event trigger off",
        "ALTER EVENT TRIGGER noticed DISABLE",
        "DEFINITION_DIFFERS event trigger noticed",
    ),
    Fault(
        "an event trigger of another owner",
        "UPDATE pg_event_trigger SET evtowner = 'faults_owner'::regrole",
        why="it is restored without its owner, who has to be a superuser",
    ),
    Fault(
        "a setting of the database changed",
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET work_mem = 6000', current_database()); END $$",
        why="no dump holds settings; a restore takes them from the facts, a proof does not",
    ),
)
