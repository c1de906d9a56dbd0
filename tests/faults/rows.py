"""Faults of what tables, sequences and large objects hold."""

from tests.faults.table import CONTENT, EVERY, FULL, READ, WITH_ROWS, Fault

# As a restore writes: past triggers and foreign keys.
_QUIETLY = "SET LOCAL session_replication_role = replica; "

ROWS = (
    Fault(
        "one row of many lost",
        "DELETE FROM shop.orders WHERE id = 500",
        {"ROWS_DIFFER table shop.orders": FULL},
    ),
    Fault("all rows lost", "TRUNCATE shop.documents", {"ROWS_DIFFER table shop.documents": FULL}),
    Fault("rows of an unlogged table lost", "TRUNCATE shop.cache", {"ROWS_DIFFER table shop.cache": FULL}),
    Fault(
        "rows of a sampled table lost",
        "DELETE FROM shop.prices WHERE cents > 15",
        {"ROWS_DIFFER table shop.prices": WITH_ROWS},
    ),
    Fault("a row added", "INSERT INTO shop.notes VALUES ('note 51')", {"ROWS_DIFFER table shop.notes": FULL}),
    Fault(
        "rows in a table that was empty",
        "INSERT INTO shop.nothing_yet VALUES (1)",
        {"ROWS_DIFFER table shop.nothing_yet": FULL},
    ),
    Fault(
        "a row twice, another lost",
        "UPDATE shop.notes SET words = 'note 1' WHERE words = 'note 2'",
        {"CONTENT_DIFFERS table shop.notes": CONTENT},
    ),
    Fault(
        "a partition's rows moved to another",
        "UPDATE shop.days SET day = day + 10 WHERE day = 3",
        {"ROWS_DIFFER table shop.days_1": WITH_ROWS, "ROWS_DIFFER table shop.days_2": WITH_ROWS},
    ),
    Fault(
        "rows swapped between partitions",
        "UPDATE shop.days SET day = (day + 10) % 20",
        {"CONTENT_DIFFERS table shop.days_1": READ, "CONTENT_DIFFERS table shop.days_2": READ},
    ),
    Fault(
        "rows of a child moved to its parent",
        "DELETE FROM ONLY shop.heir; INSERT INTO shop.base SELECT generate_series(6, 10)",
        {"ROWS_DIFFER table shop.base": FULL, "ROWS_DIFFER table shop.heir": FULL},
    ),
    Fault(
        "rows of two tables swapped",
        "ALTER TABLE shop.prices_before RENAME TO swapped;"
        "ALTER TABLE shop.prices_after RENAME TO prices_before;"
        "ALTER TABLE shop.swapped RENAME TO prices_after",
        {
            "CONTENT_DIFFERS table shop.prices_before": CONTENT,
            "CONTENT_DIFFERS table shop.prices_after": CONTENT,
        },
    ),
)


def _value(name: str, change: str, table: str = "documents") -> Fault:
    """Return a fault of values in as many rows as before."""
    plant = f"{_QUIETLY}UPDATE shop.{table} SET {change}"
    return Fault(name, plant, {f"CONTENT_DIFFERS table shop.{table}": CONTENT})


VALUES = (
    Fault(
        "a value of a sampled table changed",
        "UPDATE shop.prices SET cents = 21 WHERE cents = 20",
        {"CONTENT_DIFFERS table shop.prices": READ},
    ),
    _value("one character of a text changed", "note = 'Note 7' WHERE id = 7", "orders"),
    _value("a blank after a text", "words = words || ' ' WHERE words = 'note 1'", "notes"),
    _value("a null become an empty text", "alias = '' WHERE id = 7", "customers"),
    _value("a value become null", "mail = NULL WHERE id = 7", "customers"),
    _value("values of two rows swapped", "balance = 16.50 - balance WHERE id IN (4, 7)", "customers"),
    _value("values of two columns swapped", "quantity = free, free = quantity WHERE id = 7", "orders"),
    _value("an amount with another scale", "balance = balance::numeric(9, 1) WHERE id = 7", "customers"),
    _value("a time off by a microsecond", "seen = seen + interval '1 microsecond' WHERE id = 7", "customers"),
    _value("an enum's value changed", "state = 'sent' WHERE id = 1", "customers"),
    _value("a part of a composite changed", "home.number = 0 WHERE id = 7", "customers"),
    _value("one bit of bytes changed", r"body = '\x00fe' WHERE id = 1"),
    _value("an array in another order", "tags = ARRAY['b', 'a'] WHERE id = 1"),
    _value("the last digit of a float", "ratio = 0.10000000000000002 WHERE id = 1"),
    _value("a key of a JSON document lost", "data = '{}' WHERE id = 1"),
    _value("a value of an extension's type changed", "attributes = 'a=>2' WHERE id = 1"),
)

SOUNDNESS = (
    Fault(
        "a row gone that others refer to",
        f"{_QUIETLY}DELETE FROM shop.customers WHERE id = 7",
        {
            "ROWS_DIFFER table shop.customers": FULL,
            "CONSTRAINT_VIOLATED constraint orders_customer_fkey on shop.orders": FULL,
        },
    ),
    Fault(
        "a row that refers to nothing",
        f"{_QUIETLY}UPDATE shop.orders SET customer = 101 WHERE id = 7",
        {
            "CONTENT_DIFFERS table shop.orders": CONTENT,
            "CONSTRAINT_VIOLATED constraint orders_customer_fkey on shop.orders": FULL,
        },
    ),
    Fault(
        "a row that breaks a check",
        "ALTER TABLE shop.orders DROP CONSTRAINT orders_total_check;"
        "UPDATE shop.orders SET total = -1 WHERE id = 7;"
        "ALTER TABLE shop.orders ADD CONSTRAINT orders_total_check CHECK (total >= 0) NOT VALID;"
        "UPDATE pg_constraint SET convalidated = true WHERE conname = 'orders_total_check'",
        {
            "CONTENT_DIFFERS table shop.orders": CONTENT,
            "CONSTRAINT_VIOLATED constraint orders_total_check on shop.orders": FULL,
        },
    ),
    Fault(
        "a row that its index lacks",
        "UPDATE pg_index SET indisready = false WHERE indexrelid = 'shop.prices_cents_idx'::regclass;"
        "UPDATE shop.prices SET cents = 99 WHERE cents = 7;"
        "UPDATE pg_index SET indisready = true WHERE indexrelid = 'shop.prices_cents_idx'::regclass",
        {
            "CONTENT_DIFFERS table shop.prices": READ,
            "INDEX_CORRUPT index shop.prices_cents_idx": WITH_ROWS,
        },
    ),
    Fault(
        "an index's function of another mind",
        "UPDATE pg_proc SET prosrc = 'BEGIN RETURN 3 * n; END' WHERE proname = 'twice'",
        {
            "DEFINITION_DIFFERS function shop.twice(integer)": EVERY,
            "INDEX_CORRUPT index shop.by_twice": FULL,
        },
    ),
)


def _sequence(name: str, plant: str, sequence: str) -> Fault:
    return Fault(name, plant, {f"SEQUENCE_BEHIND sequence shop.{sequence}": WITH_ROWS})


SEQUENCES = (
    _sequence("a sequence set back", "ALTER SEQUENCE shop.numbers RESTART WITH 7", "numbers"),
    _sequence(
        "a sequence that repeats its last value", "ALTER SEQUENCE shop.numbers RESTART WITH 500", "numbers"
    ),
    _sequence(
        "a descending sequence set back", "ALTER SEQUENCE shop.downwards RESTART WITH 900", "downwards"
    ),
    _sequence("an identity begun anew", "ALTER TABLE shop.customers ALTER id RESTART", "customers_id_seq"),
    Fault(
        "a sequence further on",
        "ALTER SEQUENCE shop.numbers RESTART WITH 900",
        why="sequences heed no snapshot: others may have used it meanwhile",
    ),
)

_LARGE_OBJECTS = "LARGE_OBJECTS_DIFFER large object large objects"
LARGE_OBJECTS = (
    Fault("a large object lost", "SELECT lo_unlink(4712)", {_LARGE_OBJECTS: FULL}),
    Fault("a large object cut short", "SELECT lo_truncate(lo_open(4711, 131072), 2)", {_LARGE_OBJECTS: FULL}),
    Fault("bytes of a large object changed", "SELECT lo_put(4711, 0, 'L')", {_LARGE_OBJECTS: CONTENT}),
    Fault(
        "two large objects swapped",
        "SELECT lo_put(4711, 0, 'other'), lo_put(4712, 0, 'large')",
        {_LARGE_OBJECTS: CONTENT},
    ),
    Fault(
        "a large object of another owner",
        "ALTER LARGE OBJECT 4711 OWNER TO faults_reader",
        {_LARGE_OBJECTS: FULL},
    ),
    Fault(
        "a right on a large object lost",
        "REVOKE SELECT ON LARGE OBJECT 4711 FROM faults_reader",
        {_LARGE_OBJECTS: FULL},
    ),
)
