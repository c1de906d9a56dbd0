"""What pg_restore 14 and 18 and psql wrote when a restore was broken on purpose, and what is told of it."""

import pytest

from flows.core.findings import Finding, Rule
from flows.core.restore_errors import classify, scratch_trouble
from flows.core.statements import named_by_statement

UNTOLD = "the server refused it; its words, which may quote a row, are in the encrypted report"

OF_14 = """\
pg_restore: while PROCESSING TOC:
pg_restore: from TOC entry 2147; 3456 16516 COLLATION de admin
pg_restore: error: could not execute query: ERROR:  could not create locale "Q": No such file or directory
DETAIL:  The operating system could not find any locale data for the locale name "Q".
Command was: CREATE COLLATION app.de (provider = libc, locale = 'Q');


pg_restore: error: could not execute query: ERROR:  collation "app.de" for encoding "UTF8" does not exist
Command was: ALTER COLLATION app.de OWNER TO admin;

pg_restore: from TOC entry 2; 3079 16388 EXTENSION hsuore (no owner)
pg_restore: error: could not execute query: ERROR:  could not open extension control file \
"/usr/share/postgresql/14/extension/hsuore.control": No such file or directory
Command was: CREATE EXTENSION IF NOT EXISTS hsuore WITH SCHEMA public;


pg_restore: from TOC entry 2662; 0 0 COMMENT EXTENSION hsuore
pg_restore: error: could not execute query: ERROR:  extension "hsuore" does not exist
Command was: COMMENT ON EXTENSION hsuore IS 'data type for storing sets of (key, value) pairs';


pg_restore: from TOC entry 211; 1259 16517 TABLE orders gone
pg_restore: error: could not execute query: ERROR:  relation "orders" already exists
Command was: CREATE TABLE app.orders (
    id integer NOT NULL,
    total numeric,
    note text
);


pg_restore: error: could not execute query: ERROR:  role "gone" does not exist
Command was: ALTER TABLE app.orders OWNER TO gone;

pg_restore: from TOC entry 2653; 0 16540 TABLE DATA hard admin
pg_restore: error: COPY failed for table "hard": ERROR:  planted 77 value
DETAIL:  secret
HINT:  none
CONTEXT:  PL/pgSQL function app.checks(integer) line 1 at RAISE
COPY hard, line 1: "77"
pg_restore: from TOC entry 2509; 2606 16529 FK CONSTRAINT items items_order_fkey admin
pg_restore: error: could not execute query: ERROR:  insert or update on table "items" violates foreign key \
constraint "items_order_fkey"
DETAIL:  Key (order)=(1) is not present in table "orders".
Command was: ALTER TABLE ONLY app.items
    ADD CONSTRAINT items_order_fkey FOREIGN KEY ("order") REFERENCES app.orders(id);


pg_restore: from TOC entry 2663; 0 0 ACL TABLE items admin
pg_restore: error: could not execute query: ERROR:  role "gone" does not exist
Command was: GRANT SELECT ON TABLE app.items TO gone;


pg_restore: warning: errors ignored on restore: 9
"""
OF_18 = """\
pg_restore: error: could not execute query: ERROR:  extension "hsuore" is not available
HINT:  The extension must first be installed on the system where PostgreSQL is running.
Command was: CREATE EXTENSION IF NOT EXISTS hsuore WITH SCHEMA public;


pg_restore: error: could not execute query: ERROR:  function "f" already exists with same argument types
Command was: CREATE FUNCTION app.f() RETURNS integer
    LANGUAGE sql
    AS $$SELECT 1$$;


pg_restore: error: could not execute query: ERROR:  collation "app.de" for encoding "UTF8" does not exist
LINE 2:     v text COLLATE app.de
                   ^
Command was: CREATE TABLE app.typed (
    v text COLLATE app.de
);


pg_restore: error: could not execute query: ERROR:  relation "Odd "x" y" already exists
Command was: CREATE TABLE app."Odd ""x"" y" (
    v integer,
    CONSTRAINT "Odd ""x"" y_v_check" CHECK ((v > 0))
);


pg_restore: error: could not execute query: ERROR:  column "total" of relation "orders" does not exist
Command was: COPY app.orders (id, total, note) FROM stdin;
pg_restore: error: COPY failed for table "items": ERROR:  duplicate key value violates unique constraint \
"items_pkey"
DETAIL:  Key (id)=(1) already exists.
CONTEXT:  COPY items, line 1
pg_restore: error: could not execute query: ERROR:  multiple primary keys for table "items" are not allowed
Command was: ALTER TABLE ONLY app.items
    ADD CONSTRAINT items_pkey PRIMARY KEY (id);


pg_restore: warning: errors ignored on restore: 7
"""
OF_PSQL = """\
psql:<stdin>:1: ERROR:  role "app" already exists
psql:<stdin>:2: ERROR:  extension "postgis" is not available
HINT:  The extension must first be installed on the system where PostgreSQL is running.
psql:<stdin>:3: ERROR:  division by zero
psql:<stdin>:6: ERROR:  invalid input syntax for type integer: "secret"
CONTEXT:  COPY hard, line 1, column v: "secret"
psql:<stdin>:7: ERROR:  role "nope" does not exist
psql:<stdin>:8: ERROR:  ICU is not supported in this build
psql:<stdin>:9: ERROR:  could not create locale "de_XX": No such file or directory
DETAIL:  The operating system could not find any locale data for the locale name "de_XX".
"""


def told(text: str) -> list[tuple[str, str, str, str]]:
    return [(found.rule, found.kind, found.object, found.message) for found in classify(text.split("\n"))]


def test_each_error_of_pg_restore_14_is_a_finding() -> None:
    assert told(OF_14) == [
        (
            "COLLATION_UNVERIFIABLE",
            "collation",
            '"Q"',
            "the collation is not there; collation app.de needs it",
        ),
        ("COLLATION_UNVERIFIABLE", "collation", "app.de", "the collation is not there"),
        ("EXTENSION_ABSENT", "extension", "hsuore", "the extension is not there"),
        ("EXTENSION_ABSENT", "extension", "hsuore", "the extension is not there"),
        ("RESTORE_ERROR", "table", "app.orders", 'relation "orders" already exists'),
        ("ROLE_ABSENT", "role", "gone", "the role is not there; table app.orders needs it"),
        ("RESTORE_ERROR", "table", "hard", UNTOLD),
        (
            "RESTORE_ERROR",
            "constraint",
            "items_order_fkey on app.items",
            'insert or update on table "items" violates foreign key constraint "items_order_fkey"',
        ),
        ("ROLE_ABSENT", "role", "gone", "the role is not there; table app.items needs it"),
    ]


def test_each_error_of_pg_restore_18_is_a_finding() -> None:
    assert told(OF_18) == [
        ("EXTENSION_ABSENT", "extension", "hsuore", "the extension is not there"),
        ("RESTORE_ERROR", "function", "app.f", 'function "f" already exists with same argument types'),
        (
            "COLLATION_UNVERIFIABLE",
            "collation",
            "app.de",
            "the collation is not there; table app.typed needs it",
        ),
        ("RESTORE_ERROR", "table", 'app."Odd ""x"" y"', 'relation "Odd "x" y" already exists'),
        ("RESTORE_ERROR", "table", "app.orders", 'column "total" of relation "orders" does not exist'),
        ("RESTORE_ERROR", "table", "items", "duplicate key value violates unique constraint …"),
        (
            "RESTORE_ERROR",
            "constraint",
            "items_pkey on app.items",
            'multiple primary keys for table "items" are not allowed',
        ),
    ]


def test_each_error_of_psql_is_a_finding() -> None:
    assert told(OF_PSQL) == [
        ("RESTORE_ERROR", "", "", 'role "app" already exists'),
        ("EXTENSION_ABSENT", "extension", "postgis", "the extension is not there"),
        ("RESTORE_ERROR", "", "", UNTOLD),
        ("RESTORE_ERROR", "", "", UNTOLD),
        ("ROLE_ABSENT", "role", "nope", "the role is not there"),
        ("COLLATION_UNVERIFIABLE", "collation", "collation", "the collation is not there"),
        ("COLLATION_UNVERIFIABLE", "collation", '"de_XX"', "the collation is not there"),
    ]


@pytest.mark.parametrize(
    "said",
    [
        'invalid input syntax for type integer: "planted"',
        'invalid input value for enum app.mood: "planted"',
        "value planted is out of range for type smallint",
        "planted",
        'customer planted "x" does not exist\nCONTEXT:  PL/pgSQL function f() line 1 at RAISE',
        'role "planted" does not exist\nCONTEXT:  SQL function "f" statement 1',
        'extension "planted" is not available\nCONTEXT:  PL/pgSQL function f() line 1 at RAISE',
        'null value in column "planted" of relation "x" violates not-null constraint\nCONTEXT:  COPY x',
        "permission denied for table planted\nCONTEXT:  PL/pgSQL function f() line 1 at EXECUTE",
        "x\nDETAIL:  Failing row contains (planted).",
        "x\nQUERY:  SELECT planted",
        "x\nplanted",
        'relation "x" already exists\nHINT:  planted',
        'relation "' + "planted" * 99 + '" already exists',
        'relation "planted\x1b[2J" already exists',
    ],
)
def test_no_value_of_a_row_is_ever_told(said: str) -> None:
    for begin in (
        "pg_restore: error: could not execute query: ERROR:  ",
        "psql:<stdin>:1: ERROR:  ",
        "ERROR:  ",
    ):
        findings = classify(f"{begin}{said}\nCommand was: COPY app.x (v) FROM stdin;".split("\n"))
        assert [(found.rule, found.object) for found in findings] == [("RESTORE_ERROR", "app.x")]
        assert "planted" not in repr(findings)


def test_an_error_of_pg_restore_itself_is_told_without_its_words() -> None:
    (finding,) = classify(["pg_restore: error: could not read from input file: planted"])
    assert finding == Finding(
        "RESTORE_ERROR",
        "error",
        "",
        "pg_restore or psql failed by itself; its words are in the encrypted report",
    )


def test_warnings_are_no_errors() -> None:
    lines = [
        "pg_restore: warning: errors ignored on restore: 3",
        "pg_restore: connecting to database for restore",
        "WARNING:  there is no transaction in progress",
        "NOTICE:  schema exists, skipping",
        "",
    ]
    assert classify(lines) == []


def test_no_error_vanishes_with_the_lines_that_were_not_kept() -> None:
    lines = OF_18.split("\n")
    findings = classify(lines, 1_010)
    assert len(findings) == 8
    assert findings[-1] == Finding(
        "RESTORE_ERROR", "error", "", "1,003 more errors of which no words were kept"
    )
    assert classify(lines, 7) == classify(lines) == classify(lines, 3)
    assert len(classify([], 1)) == 1


REFRESH = "Command was: REFRESH MATERIALIZED VIEW public.fetched;"


@pytest.mark.parametrize(
    ("said", "command", "rule"),
    [
        ('could not connect to server "far"', REFRESH, "MATVIEW_UNPOPULATED"),
        ("could not establish connection", REFRESH, "MATVIEW_UNPOPULATED"),
        ("password is required", REFRESH, "MATVIEW_UNPOPULATED"),
        ("password or GSSAPI delegated credentials required", REFRESH, "MATVIEW_UNPOPULATED"),
        ('user mapping not found for "shop"', REFRESH, "MATVIEW_UNPOPULATED"),
        ('user mapping not found for user "shop", server "far"', REFRESH, "MATVIEW_UNPOPULATED"),
        ("password is wrong", REFRESH, "RESTORE_ERROR"),
        ('materialized view "fetched" has not been populated', REFRESH, "MATVIEW_UNPOPULATED"),
        ("division by zero", REFRESH, "RESTORE_ERROR"),
        (
            'could not connect to server "far"',
            "Command was: ALTER TABLE public.t ADD CHECK (f(1));",
            "RESTORE_ERROR",
        ),
    ],
)
def test_a_view_that_reads_another_server_is_only_warned_of(said: str, command: str, rule: Rule) -> None:
    (finding,) = classify([f"pg_restore: error: could not execute query: ERROR:  {said}", command])
    assert (finding.rule, finding.severity == "warning") == (rule, rule == "MATVIEW_UNPOPULATED")


FAILED = "pg_restore: error: could not execute query: "
PRELOADED = "preloaded library"
DISK = "the scratch server's disk became full"
MEMORY = "the scratch server ran out of memory"
CONNECTION = "the connection to the scratch server was lost"


@pytest.mark.parametrize(
    ("text", "trouble"),
    [
        ('pg_restore: error: COPY failed for table "x": ERROR:  No space left on device', DISK),
        ("psql:<stdin>:1: ERROR:  could not write to file: Disk quota exceeded", DISK),
        ("pg_restore: error: could not write to output file: No space left on device", DISK),
        ('DETAIL:  the note says "No space left on device"', None),
        ("pg_restore: warning: No space left on device", None),
        (f"{FAILED}ERROR:  out of memory\nDETAIL:  Failed on request of size 8 in memory context", MEMORY),
        (f"{FAILED}ERROR:  out of shared memory\nHINT:  You might need to increase …", MEMORY),
        ("pg_restore: error: out of memory", MEMORY),
        (f"{FAILED}ERROR:  out of memory\nDETAIL:  Cannot enlarge string buffer containing 1 bytes", None),
        (f"{FAILED}ERROR:  the customer is out of memory", None),
        ('pg_restore: error: connection to server on socket "/s/s" failed: FATAL:  sorry', CONNECTION),
        (f"{FAILED}server closed the connection unexpectedly\n\tThis probably means …", CONNECTION),
        (f"{FAILED}no connection to the server", CONNECTION),
        (f"{FAILED}FATAL:  terminating connection due to administrator command", CONNECTION),
        (f"{FAILED}ERROR:  server closed the connection unexpectedly", None),
        (f'{FAILED}ERROR:  could not connect to server "far"', None),
    ],
)  # fmt: skip
def test_trouble_of_the_server_is_told_from_an_error_of_the_dump(text: str, trouble: str | None) -> None:
    told = scratch_trouble([OF_18.split("\n")[0], *text.split("\n")])
    assert (told[0] if told else None) == trouble


@pytest.mark.parametrize(
    ("said", "kind", "name"),
    [
        ('could not access file "$libdir/postgis-3": No such file or directory', "library", '"postgis-3"'),
        ('could not access file "timescaledb": No such file or directory', "library", "timescaledb"),
        ('could not load library "/l/x.so": libz.so: cannot open shared object file', "library", '"x.so"'),
        ('could not find function "f" in file "/usr/lib/x.so"', "library", '"x.so"'),
        ('incompatible library "/usr/lib/x.so": version mismatch', "library", '"x.so"'),
        ('could not open dictionary file "/s/t/i.dict": No such file', "dictionary", '"i.dict"'),
        ('could not open affix file "/s/i.affix": No such file', "dictionary", '"i.affix"'),
        ('could not open stop-word file "/s/ours.stop": No such file', "dictionary", '"ours.stop"'),
        ('could not open synonym file "/s/ours.syn": No such file', "dictionary", '"ours.syn"'),
        ('could not open thesaurus file "/s/ours.ths": No such file', "dictionary", '"ours.ths"'),
        ('extension "timescaledb" must be preloaded', PRELOADED, "timescaledb"),
        ('pg_stat_statements must be loaded via "shared_preload_libraries"', PRELOADED, "pg_stat_statements"),
        ("pgaudit must be loaded via shared_preload_libraries", PRELOADED, "pgaudit"),
        ("pg_cron can only be loaded via shared_preload_libraries", PRELOADED, "pg_cron"),
        ("pg_net is not in shared_preload_libraries", PRELOADED, "pg_net"),
        ("This module can only be loaded via shared_preload_libraries", PRELOADED, f'"{PRELOADED}"'),
        ('extension "x" has no installation script nor update path for version "9"', "extension", "x"),
        ('security label provider "selinux" is not loaded', "security label provider", "selinux"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("severity", ["ERROR", "FATAL"])
def test_what_the_host_lacks_is_no_fault_of_the_dump(said: str, kind: str, name: str, severity: str) -> None:
    (finding,) = classify([f"{FAILED}{severity}:  {said}", "Command was: SELECT 1"])
    assert (finding.rule, finding.kind, finding.object) == ("EXTENSION_ABSENT", kind, name)


@pytest.mark.parametrize(
    "said",
    [
        "pgaudit must be loaded via shared_preload_libraries",
        'unrecognized configuration parameter "cron.database_name"',
        "can only create extension in database postgres",
    ],
)
def test_what_an_extensions_script_lacks_is_told_though_there_is_a_context(said: str) -> None:
    lines = [f"{FAILED}ERROR:  {said}", "CONTEXT:  PL/pgSQL function inline_code_block line 3 at IF"]
    (of_rows,) = classify([*lines, "Command was: COPY app.x (v) FROM stdin;"])
    (of_extension,) = classify([*lines, "Command was: CREATE EXTENSION IF NOT EXISTS x WITH SCHEMA a;"])
    assert (of_rows.rule, of_extension.rule) == ("RESTORE_ERROR", "EXTENSION_ABSENT")


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        ("CREATE TRIGGER touch BEFORE UPDATE OF a, b ON app.t FOR EACH ROW", ("trigger", "touch on app.t")),
        ("CREATE CONSTRAINT TRIGGER late AFTER INSERT ON app.t", ("trigger", "late on app.t")),
        ('CREATE RULE "no" AS\n    ON DELETE TO app.happy DO INSTEAD NOTHING;', ("rule", "no on app.happy")),
        ("COMMENT ON RULE no ON app.happy IS 'x'", ("rule", "no on app.happy")),
        ('CREATE UNIQUE INDEX "by nick" ON ONLY app.t USING btree (a)', ("index", 'app."by nick"')),
        ("ALTER INDEX app.i ATTACH PARTITION app.j;", ("index", "app.i")),
        ("CREATE POLICY own ON app.t FOR SELECT", ("policy", "own on app.t")),
        ("SELECT pg_catalog.setval('app.\"X seq\"', 1, true);", ("sequence", 'app."X seq"')),
        ("CREATE OR REPLACE FUNCTION app.f(a integer)", ("function", "app.f")),
        ("REVOKE ALL ON FUNCTION app.f(n integer) FROM PUBLIC;", ("function", "app.f")),
        ("GRANT SELECT(id),UPDATE(v) ON TABLE app.t TO reader;", ("table", "app.t")),
        ("CREATE EVENT TRIGGER noticed ON ddl_command_end", ("event trigger", "noticed")),
        ("REFRESH MATERIALIZED VIEW public.totals;", ("materialized view", "public.totals")),
        ("ALTER PUBLICATION few ADD TABLE ONLY app.t;", ("publication", "few")),
        ('CREATE TABLE "a.b"."new\nline" (', ("table", '"a.b".U&"new\\+00000Aline"')),
        ("ALTER TABLE app.t ENABLE ROW LEVEL SECURITY;", ("table", "app.t")),
        ("CREATE UNLOGGED TABLE app.t (", ("table", "app.t")),
        ("SET transaction_timeout = 0;", None),
        ("", None),
    ],
)
def test_a_statement_tells_what_it_is_about(statement: str, named: tuple[str, str] | None) -> None:
    assert named_by_statement(statement) == named


def test_a_hostile_name_costs_no_time() -> None:
    line = 'pg_restore: error: could not execute query: ERROR:  a "' + '" of a "' * 20_000
    command = "Command was: CREATE TRIGGER " + " ON x" * 20_000 + '"' * 9_999
    assert [found.message for found in classify([line, command])] == [UNTOLD]
