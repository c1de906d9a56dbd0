"""The database that is measured: a shop's records of mixed kinds, made in SQL, the same rows every time.

Prose and JSON are made of phrases whose words have a natural frequency, so that they compress about as
well as real ones do.
"""

from typing import LiteralString

from tests.servers.postgres import PostgresServer

# The rows of a table write no WAL in the statement that makes it: they are there sooner.
SETTINGS = {
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "shared_buffers": "256MB",
    "maintenance_work_mem": "256MB",
    "work_mem": "64MB",
    "autovacuum": "off",
}

_PHRASES: LiteralString = """
SELECT setseed(0.42);

CREATE TEMP TABLE words AS
SELECT number, string_agg(syllables[1 + floor(30 * random())::int], '' ORDER BY place) AS word
FROM generate_series(0, 3999) AS number, generate_series(0, number % 4) AS place,
     (VALUES (ARRAY['ba', 'ce', 'di', 'fo', 'gu', 'han', 'jel', 'kim', 'lor', 'mur', 'na', 'pe', 'qui',
                    'ro', 'su', 'tan', 'vel', 'win', 'xor', 'yur', 'za', 'be', 'ci', 'do', 'fu', 'gar',
                    'hel', 'jin', 'kor', 'lu'])) AS known (syllables)
GROUP BY number;

CREATE TEMP TABLE phrases AS
SELECT phrase AS number, string_agg(word, ' ' ORDER BY place) AS phrase
FROM (SELECT phrase, place, floor(4000 * random() ^ 2.5)::int AS number
      FROM generate_series(0, {phrases} - 1) AS phrase, generate_series(1, 9) AS place) AS picked
JOIN words USING (number)
GROUP BY phrase;
CREATE UNIQUE INDEX ON phrases (number) INCLUDE (phrase);
ANALYZE phrases;
"""

_CUSTOMERS: LiteralString = """
CREATE TABLE customers AS
SELECT id,
       initcap(split_part(a.phrase, ' ', 1) || ' ' || split_part(b.phrase, ' ', 2)) AS name,
       format('%s%s@example.%s', split_part(a.phrase, ' ', 3), id, (ARRAY['com', 'net', 'org'])[1 + id % 3])
           AS email,
       jsonb_build_object('street', format('%s %s', split_part(b.phrase, ' ', 4), id % 180),
                          'city', split_part(b.phrase, ' ', 5), 'postcode', id::bigint * 7919 % 90000,
                          'country', (ARRAY['ES', 'DE', 'FR', 'IT', 'PT'])[1 + id % 5]) AS address,
       round((random() * 900)::numeric, 2) AS balance,
       id % 3 = 0 AS newsletter,
       timestamptz '2020-01-01 08:00+00' + random() * interval '1900 days' AS joined_at
FROM generate_series(1, {rows}) AS id
JOIN phrases AS a ON a.number = id::bigint * 48271 % {phrases}
JOIN phrases AS b ON b.number = id::bigint * 16807 % {phrases};
ALTER TABLE customers ADD PRIMARY KEY (id);
CREATE UNIQUE INDEX ON customers (email);
"""

_ORDERS: LiteralString = """
CREATE TABLE orders AS
SELECT id, 1 + floor(random() * {rows} / 4)::int AS customer_id,
       (ARRAY['placed', 'paid', 'shipped', 'delivered', 'returned'])[1 + floor(5 * random())::int] AS status,
       round((5 + 400 * random() ^ 3)::numeric, 2) AS total,
       timestamptz '2021-01-01 07:00+00' + (40 * id + 3600 * random()) * interval '1 second' AS placed_at,
       gen_random_uuid() AS token
FROM generate_series(1::bigint, {rows}) AS id;
ALTER TABLE orders ADD PRIMARY KEY (id);
CREATE INDEX ON orders (customer_id);
"""

_ORDER_ITEMS: LiteralString = """
CREATE TABLE order_items AS
SELECT 1 + number / 3 AS order_id, number % 3 AS line,
       1 + floor(9000 * random() ^ 2)::int AS product_id,
       1 + floor(4 * random() ^ 3)::int AS quantity,
       round((1 + 180 * random() ^ 2)::numeric, 2) AS unit_price,
       round((random() * 0.3)::numeric, 3) AS discount
FROM generate_series(0::bigint, {rows} - 1) AS number;
ALTER TABLE order_items ADD PRIMARY KEY (order_id, line);
"""

_EVENTS: LiteralString = """
CREATE TABLE events AS
SELECT id,
       timestamptz '2023-06-01 00:00+00' + (9 * id + 8 * random()) * interval '1 second' AS at,
       (ARRAY['view', 'view', 'view', 'search', 'cart', 'login'])[1 + floor(6 * random())::int] AS kind,
       inet '10.0.0.0' + floor(16000000 * random())::bigint AS client,
       jsonb_build_object('session', md5((id / 12)::text), 'query', phrase,
                          'duration_ms', floor(900 * random()),
                          'page', jsonb_build_object('path', format('/shop/%s', id % 900),
                                                     'scroll', round(random()::numeric, 3)),
                          'agent', format('Mozilla/5.0 (X11; Linux x86_64) Version/%s', id % 40)) AS payload
FROM generate_series(1::bigint, {rows}) AS id
JOIN phrases ON number = id * 69621 % {phrases};
ALTER TABLE events ADD PRIMARY KEY (id);
CREATE INDEX ON events (at);
"""

_DOCUMENTS: LiteralString = """
CREATE TABLE documents AS
SELECT id, initcap(left(first.phrase, 40)) AS title, body,
       ARRAY[split_part(first.phrase, ' ', 1), split_part(first.phrase, ' ', 2)] AS tags,
       timestamptz '2022-01-01 09:00+00' + random() * interval '900 days' AS written_at
FROM generate_series(1::bigint, {rows}) AS id
JOIN phrases AS first ON first.number = id * 39373 % {phrases},
LATERAL (SELECT string_agg(phrase, '. ') AS body
         FROM generate_series(1, 10 + id % 40) AS place
         JOIN phrases ON number = (id * 48271 + place * 69621) % {phrases}) AS made;
ALTER TABLE documents ADD PRIMARY KEY (id);
"""

_READINGS: LiteralString = """
CREATE TABLE readings AS
SELECT number % 500 AS device,
       timestamptz '2024-01-01 00:00+00' + number / 500 * interval '5 minutes' AS at,
       round((20 + 5 * sin(number / 9000.0) + random())::numeric, 2) AS temperature,
       50 + 20 * random() AS humidity
FROM generate_series(0::bigint, {rows} - 1) AS number;
CREATE INDEX ON readings (device, at);
"""

# Each with the rows that make its part of one megabyte.
_TABLES: tuple[tuple[LiteralString, int], ...] = (
    (_CUSTOMERS, 250),
    (_ORDERS, 1_000),
    (_ORDER_ITEMS, 2_500),
    (_EVENTS, 750),
    (_DOCUMENTS, 125),
    (_READINGS, 500),
)
MOST_PHRASES = 100_000
TABLES = ("customers", "orders", "order_items", "events", "documents", "readings")


def make(server: PostgresServer, dbname: str, megabytes: int) -> None:
    """Make the database, about that large with its indexes."""
    server.create_database(dbname)
    filled = (statements.replace("{rows}", str(rows * megabytes)) for statements, rows in _TABLES)
    phrases = min(MOST_PHRASES, 1_000 * megabytes)
    server.execute("".join((_PHRASES, *filled)).replace("{phrases}", str(phrases)), dbname)
    server.execute("VACUUM (ANALYZE, FREEZE)", dbname)
    server.execute("CHECKPOINT", dbname)


def size_bytes(server: PostgresServer, dbname: str) -> int:
    ((size,),) = server.query(f"SELECT pg_database_size('{dbname}')")
    return int(size)
