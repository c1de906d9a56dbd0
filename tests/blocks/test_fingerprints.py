"""Fingerprints of rows: what leaves them alone and what does not, on real servers of all majors."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import psycopg
import pytest
from psycopg import sql
from pydantic import SecretStr

from blocks.counting import count_rows
from blocks.fingerprints import Column, fingerprint
from blocks.inventory import take_inventory
from blocks.postgres import PostgresDatabase, Session
from tests.servers.postgres import PostgresServer, programs, start_postgres
from tests.servers.programs import run

MAJORS = (14, 15, 16, 17, 18)
ServerOf = Callable[[int], PostgresServer]

TYPES = """
    CREATE EXTENSION hstore; CREATE EXTENSION citext; CREATE EXTENSION ltree; CREATE EXTENSION isn;
    CREATE TYPE mood AS ENUM ('sad', 'ok', 'it''s fine');
    CREATE DOMAIN feeling AS mood; CREATE DOMAIN feelings AS mood[];
    CREATE DOMAIN short AS varchar(20); CREATE DOMAIN shorter AS short; CREATE DOMAIN shorts AS shorter[];
    CREATE DOMAIN amount AS numeric; CREATE DOMAIN counts AS int[]; CREATE DOMAIN bag AS hstore;
    CREATE TYPE part AS (mood mood, of regclass, price money, at timestamptz);
    CREATE DOMAIN parts AS part[]; CREATE TYPE whole AS (parts parts, first part, bag bag);
    CREATE TYPE moods AS RANGE (subtype = mood, multirange_type_name = many_moods);
    CREATE TYPE words AS RANGE (subtype = text);
    CREATE SCHEMA "Else where"; CREATE TABLE "Else where"."Odd.one" (id int);
    CREATE FUNCTION "Else where".twice(int) RETURNS int LANGUAGE sql AS 'SELECT 2 * $1';
"""
# each type with a value a row; where there is none, it is NULL
VALUES: tuple[tuple[str | None, ...], ...] = (
    ("bool", "t"), ('"char"', "c"), ("name", "a name"), ("int2", "-32768"), ("int4", "2147483647"),
    ("int8", "-9223372036854775808"), ("oid", "4294967295"), ("numeric", "1.500", "NaN", "1.5"),
    ("numeric(9, 2)", "-0.10"), ("float4", "3.4028235e38", "NaN"), ("float8", "0.1", "-0", "Infinity"),
    ("text", "Ünï\\code'", ""), ("varchar(30)", "varying  "), ("char(9)", "fixed"),
    ("bytea", "\\x00ff5c27", ""), ("date", "2024-02-29", "-infinity"), ("time", "24:00:00"),
    ("timetz", "12:34:56.789+05:30"), ("timestamp", "0044-03-15 12:00:00 BC", "infinity"),
    ("timestamptz", "2024-03-31 02:30:00.000001+02", "-infinity"),
    ("interval", "1 mon -1 day +24:00:00.000001", None, "25:00:00"),
    ("uuid", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"), ("inet", "10.1.2.3/8"), ("cidr", "2001:db8::/32"),
    ("macaddr", "08:00:2b:01:02:03"), ("macaddr8", "08:00:2b:01:02:03:04:05"),
    ("json", '{"b":  1, "a": null}', "null"),
    ("jsonb", '{"b": 1.00, "a": [true, "\\u00e9"]}', "null", '"text"'),
    ("xml", "<a b='c'>&amp;</a>", None, ""), ("bit(5)", "10101"), ("varbit", "1"), ("point", "(1.5,-0)"),
    ("line", "{1,2,3}"), ("lseg", "[(1,2),(3,4)]"), ("box", "(3,4),(1,2)"), ("path", "[(1,2),(3,4)]"),
    ("polygon", "((1,2),(3,4))"), ("circle", "<(1,2),0.1>"), ("money", "-1234.56"),
    ("tsvector", "'a':1A 'fat':2,4 'it''s'"), ("tsquery", "'a' & !('b' | 'c':*)"),
    ("jsonpath", "$.a[*] ? (@ > 1)"), ("pg_lsn", "16/B374D848"), ("txid_snapshot", "10:20:10,14"),
    ("xid", "42"), ("tid", "(1,2)"), ("regclass", '"Else where"."Odd.one"'), ("regtype", "character varying"),
    ("regproc", '"Else where".twice'), ("regprocedure", '"Else where".twice(integer)'),
    ("regoper", "pg_catalog.||/"), ("regoperator", "+(integer,integer)"), ("regconfig", "english"),
    ("regdictionary", "simple"), ("regnamespace", '"Else where"'), ("regrole", "admin"),
    ("regcollation", '"C"'), ("aclitem", "admin=r/admin"), ("int2vector", "1 2"), ("oidvector", "3 4"),
    ("int4range", "[1,5)"), ("int8range", "(,9]"), ("numrange", "[1.0,2.50)"), ("tsrange", "empty"),
    ("tstzrange", "[2024-01-01 00:00:00+02,infinity)"), ("daterange", "[2024-01-01,2024-01-01]"),
    ("int4multirange", "{[1,3),[5,7)}"), ("tstzmultirange", "{}"), ("mood", "it's fine"), ("feeling", "sad"),
    ("feelings", "{sad,NULL,ok}"), ("short", "short "), ("shorter", "shorter"), ("shorts", "{a,b}"),
    ("amount", "2.0", None, "2.00"), ("counts", "{{1,2},{3,4}}"), ("bag", "a=>1, b=>NULL"),
    ("part", '(ok,pg_class,7.5,"2024-01-01 00:00:00+00")', "(,,,)"), ("parts", '{"(sad,,,)",NULL}'),
    ("whole", '("{""(ok,,,)""}","(sad,,,)","x=>y")'), ("moods", "[sad,ok]"), ("words", "[a,b)"),
    ("many_moods", "{[sad,ok]}"), ("hstore", '"a key"=>"a \\"value\\""', None, ""), ("citext", "Case", ""),
    ("ltree", "Top.Science"), ("lquery", "Top.*{2}"), ("isbn13", "978-0-393-04002-9"),
    ("bool[]", "{t,NULL,f}"), ("int[]", "[0:2]={1,NULL,3}", "{NULL}"), ("int8[]", "{}"),
    ("numeric[]", "{1.0,NaN,2.50}"), ("float8[]", "{0.1,-0,NaN,-Infinity}"),
    ("text[]", '{"",NULL,"NULL","a,b"}', "{}"), ("varchar(9)[]", "{x,y}"), ("char(3)[]", '{"a  "}'),
    ("bytea[]", '{"\\\\x00"}'), ("date[]", "{infinity,0001-01-01}"),
    ("timestamptz[]", "{-infinity,2024-01-01 00:00+00}"), ("interval[]", "{24:00:00,1 day}"),
    ("uuid[]", "{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}"), ("jsonb[]", '{"{\\"a\\": 1.0}"}'),
    ("json[]", '{"[1,  2]"}'), ("mood[]", "{ok,sad}"), ("part[]", '{"(ok,pg_proc,1,)"}'),
    ("regclass[]", "{pg_class,NULL}"), ("point[]", '{"(1,2)"}'), ("box[]", "{(3,4),(1,2);(1,1),(0,0)}"),
    ("money[]", "{1,2.5}"), ("tsrange[]", "{empty}"), ("citext[]", "{Aa}"), ("hstore[]", '{"a=>1"}'),
    ("name[]", "{n}"), ("inet[]", "{10.0.0.1}"), ("xml[]", "{<a/>}"), ("bit(2)[]", "{10,01}"),
)  # fmt: skip
HOSTILE_SETTINGS = """
    SET DateStyle = 'German, YMD'; SET IntervalStyle = 'sql_standard'; SET TimeZone = 'Asia/Kolkata';
    SET extra_float_digits = -15; SET bytea_output = 'escape'; SET quote_all_identifiers = on;
    SET search_path = "Else where", public; SET client_encoding = 'LATIN1'; SET xmlbinary = 'hex';
    SET jit_above_cost = 0;
"""
SHAPES = """
    CREATE TABLE parent (b text, a int); CREATE TABLE child (c int, a int, b text) INHERITS (parent);
    INSERT INTO parent VALUES ('p', 1); INSERT INTO child VALUES ('c', 2, 3);
    CREATE TABLE dropped (a int, b int, c int); INSERT INTO dropped VALUES (1, 2, 3);
    ALTER TABLE dropped DROP COLUMN b; ALTER TABLE dropped ADD COLUMN b int DEFAULT 4;
"""
HOSTILE = """
    CREATE TYPE mood AS ENUM ('sad'); CREATE DOMAIN short AS varchar(9); CREATE TYPE pair AS (a int, b mood);
    CREATE FUNCTION called() RETURNS text IMMUTABLE LANGUAGE plpgsql
        AS 'BEGIN RAISE EXCEPTION ''called''; END';
    CREATE FUNCTION as_text(mood) RETURNS text IMMUTABLE LANGUAGE sql RETURN called();
    CREATE FUNCTION as_text(pair) RETURNS text IMMUTABLE LANGUAGE sql RETURN called();
    CREATE CAST (mood AS text) WITH FUNCTION as_text(mood) AS IMPLICIT;
    CREATE CAST (pair AS text) WITH FUNCTION as_text(pair) AS IMPLICIT;
    CREATE FUNCTION is_equal(pair, pair) RETURNS bool IMMUTABLE LANGUAGE sql RETURN called()::bool;
    CREATE FUNCTION is_equal(varchar, varchar) RETURNS bool IMMUTABLE LANGUAGE sql RETURN called()::bool;
    CREATE FUNCTION is_equal(int[], int[]) RETURNS bool IMMUTABLE LANGUAGE sql RETURN called()::bool;
    CREATE FUNCTION is_equal(float8, float8) RETURNS bool IMMUTABLE LANGUAGE sql RETURN called()::bool;
    CREATE FUNCTION hash(pair, int8) RETURNS int8 IMMUTABLE LANGUAGE sql RETURN called()::int8;
    CREATE FUNCTION hash(varchar, int8) RETURNS int8 IMMUTABLE LANGUAGE sql RETURN called()::int8;
    CREATE FUNCTION hash(int[], int8) RETURNS int8 IMMUTABLE LANGUAGE sql RETURN called()::int8;
    CREATE FUNCTION hash(varchar) RETURNS int4 IMMUTABLE LANGUAGE sql RETURN called()::int4;
    CREATE FUNCTION hash(int[]) RETURNS int4 IMMUTABLE LANGUAGE sql RETURN called()::int4;
    CREATE FUNCTION hash(pair) RETURNS int4 IMMUTABLE LANGUAGE sql RETURN called()::int4;
    CREATE OPERATOR = (LEFTARG = pair, RIGHTARG = pair, FUNCTION = is_equal);
    CREATE OPERATOR = (LEFTARG = varchar, RIGHTARG = varchar, FUNCTION = is_equal);
    CREATE OPERATOR = (LEFTARG = int[], RIGHTARG = int[], FUNCTION = is_equal);
    CREATE OPERATOR = (LEFTARG = float8, RIGHTARG = float8, FUNCTION = is_equal);
    CREATE OPERATOR CLASS pair_ops DEFAULT FOR TYPE pair USING hash AS
        OPERATOR 1 = (pair, pair), FUNCTION 1 hash(pair), FUNCTION 2 hash(pair, int8);
    CREATE OPERATOR CLASS varchar_ops DEFAULT FOR TYPE varchar USING hash AS
        OPERATOR 1 = (varchar, varchar), FUNCTION 1 hash(varchar), FUNCTION 2 hash(varchar, int8);
    CREATE OPERATOR CLASS ints_ops DEFAULT FOR TYPE int[] USING hash AS
        OPERATOR 1 = (int[], int[]), FUNCTION 1 hash(int[]), FUNCTION 2 hash(int[], int8);
    CREATE FUNCTION format(text, mood) RETURNS text IMMUTABLE LANGUAGE sql RETURN called();
    CREATE FUNCTION hash_array_extended(int[], int8) RETURNS int8 LANGUAGE sql RETURN called()::int8;
    CREATE FUNCTION count(varchar) RETURNS int8 LANGUAGE sql RETURN called()::int8;
    CREATE TABLE t (a mood, b varchar(9), c pair, d int[], e short, f mood[], g float8, h varchar[]);
    INSERT INTO t VALUES ('sad', 'b', '(1,sad)', '{1}', 'e', '{sad}', 1, '{i}');
"""
DEAF = "CREATE COLLATION deaf (provider = icu, locale = 'und-u-ks-level1', deterministic = false)"
# facts of former backups hold such numbers: another is another format
KNOWN = "-12401021135796547710"


@pytest.fixture(scope="module")
def server_of(request: pytest.FixtureRequest) -> Iterator[ServerOf]:
    """A server of any major, each started when it is first asked for."""
    with ExitStack() as stack:
        started: dict[int, PostgresServer] = {}

        def get(major: int) -> PostgresServer:
            if major in (15, 17):
                server = request.getfixturevalue(f"postgres{major}")
                assert isinstance(server, PostgresServer)
                return server
            if major not in started:
                started[major] = start_postgres(major, programs(major))
                stack.callback(started[major].stop)
            return started[major]

        yield get


@pytest.fixture
def session(postgres: PostgresServer) -> Iterator[Session]:
    with postgres.database("shop"), _opened(postgres, "shop") as session:
        yield session


@contextmanager
def _opened(server: PostgresServer, dbname: str) -> Iterator[Session]:
    with PostgresDatabase(conninfo=SecretStr(server.conninfo(dbname))).connect() as session:
        session.execute("SET search_path = public")
        yield session


def _fill(session: Session, order: tuple[int, ...] = (0, 1, 2, 3)) -> None:
    """Make the table `everything`: a column of each type, in three rows with values and one of NULL."""
    columns = ", ".join(f"c{number} {values[0]}" for number, values in enumerate(VALUES))
    session.execute(TYPES.encode())
    session.execute(f"CREATE TABLE everything ({columns})".encode())
    for row in order:
        given = [values[row + 1] if row + 1 < len(values) else None for values in VALUES]
        session.execute(
            sql.SQL("INSERT INTO everything VALUES ({})").format(sql.SQL(", ").join(map(sql.Literal, given)))
        )


def _contents(session: Session) -> dict[str, str | None]:
    counts = count_rows(session, take_inventory(session).tables, content=True)
    return {count.table: count.content for count in counts}


@pytest.fixture(scope="module")
def typed(postgres15: PostgresServer) -> Iterator[Session]:
    """With types of our own, for many tables one after the other."""
    with postgres15.database("typed"), _opened(postgres15, "typed") as session:
        session.execute(TYPES.encode())
        yield session


def _content(session: Session, *statements: str) -> str | None:
    """Return the content of the table `t` that the statements make; it is dropped again."""
    session.execute("; ".join(statements).encode())
    (content,) = [content for table, content in _contents(session).items() if table == "t"]
    session.execute("DROP TABLE t")
    return content


@pytest.mark.parametrize("major", MAJORS)
def test_values_of_every_type_have_one_fingerprint_on_all_majors_whatever_is_set(
    server_of: ServerOf, major: int
) -> None:
    server = server_of(major)
    with server.database("shop"), _opened(server, "shop") as session:
        if major % 2:
            session.execute("CREATE TYPE other AS ENUM ('moves', 'the', 'oids')")
        _fill(session)
        assert _contents(session)["everything"] == KNOWN
        session.execute(HOSTILE_SETTINGS.encode())
        before = session.execute("SHOW DateStyle").fetchall()
        assert _contents(session)["everything"] == KNOWN
        assert session.execute("SHOW DateStyle").fetchall() == before


@pytest.mark.parametrize(("major", "next_major"), [(15, 15), (15, 16), (17, 18)])
def test_a_dump_and_its_restore_have_the_same_fingerprints(
    server_of: ServerOf, major: int, next_major: int
) -> None:
    source, target = server_of(major), server_of(next_major)
    with source.database("source") as dumped, target.database("target") as restored:
        with _opened(source, "source") as session:
            _fill(session, (3, 1, 2, 0))
            session.execute(SHAPES.encode())
            before = _contents(session)
        target.execute("CREATE TYPE other AS ENUM ('moves', 'the', 'oids')", "target")
        archive = run(source, "pg_dump", "--format=custom", dumped)
        run(source, "pg_restore", "--dbname", restored, stdin=archive)
        with _opened(target, "target") as session:
            assert _contents(session) == before
    assert before["everything"] == KNOWN
    assert set(before) == {"everything", "Odd.one", "parent", "child", "dropped"}


@pytest.mark.parametrize(
    ("type_name", "value", "other"),
    [
        ("int", "'1'", "'2'"),
        ("int", "NULL", "'0'"),
        ("bigint", "'1'", "'4294967296'"),
        ("timestamptz", "'2000-01-01 00:00:00.000001Z'", "'2000-01-01 01:11:34.967296Z'"),
        ("text", "NULL", "''"),
        ("text", "'NULL'", "NULL"),
        ("hstore", "NULL", "''"),
        ("numeric", "'1.0'", "'1.00'"),
        ("amount", "'1.0'", "'1.00'"),
        ("numeric[]", "'{1.0}'", "'{1.00}'"),
        ("numrange", "'[1.0,2)'", "'[1.00,2)'"),
        ("jsonb", "'1.0'", "'1.00'"),
        ("json", """'{"a": 1}'""", """'{"a":1}'"""),
        ("interval", "'1 day'", "'24:00:00'"),
        ("interval[]", "'{1 day}'", "'{24:00:00}'"),
        ("bpchar", "'a'", "'a '"),
        ("float4", "'0'", "'-0'"),
        ("float8", "'0'", "'-0'"),
        ("timetz", "'12:00+00'", "'13:00+01'"),
        ("citext", "'a'", "'A'"),
        ("citext[]", "'{a}'", "'{A}'"),
        ("cidr", "'10.0.0.0/8'", "'10.0.0.0/9'"),
        ("int[]", "'{1,2,3,4}'", "'{{1,2},{3,4}}'"),
        ("int[]", "'{1,2}'", "'[0:1]={1,2}'"),
        ("int[]", "'{1,2}'", "'{2,1}'"),
        ("counts", "'{1,NULL}'", "'{1}'"),
        ("text[]", "'{NULL}'", """'{"NULL"}'"""),
        ("text[]", "'{}'", "NULL"),
        ("mood", "'sad'", "'ok'"),
        ("feelings", "'{sad,ok}'", "'{ok,sad}'"),
        ("part", "'(,,,)'", "NULL"),
        ("part", "'(sad,,,)'", "'(ok,,,)'"),
        ("parts", "'{NULL}'", """'{"(,,,)"}'"""),
        ("moods", "'[sad,ok]'", "'[sad,ok)'"),
        ("daterange", "'empty'", "NULL"),
        ("xml", "'<a b=\"\"/>'", "'<a b=\"c\"/>'"),
        ("varbit", "'0'", "'00'"),
        ("point", "'(0,0)'", "'(-0,0)'"),
        ("box", "'(3,3),(0,0)'", "'(9,1),(0,0)'"),
        ("regclass", "'pg_class'", "'pg_proc'"),
        ("money", "'1.00'", "'1.01'"),
        ("uuid", "'00000000-0000-0000-0000-000000000000'", "'00000000-0000-0000-0000-000000000001'"),
    ],
)
def test_whatever_a_dump_would_write_differently_has_another_fingerprint(
    typed: Session, type_name: str, value: str, other: str
) -> None:
    table = f"CREATE TABLE t (id int, v {type_name})"
    one = _content(typed, table, f"INSERT INTO t VALUES (1, {value})")
    assert one == _content(typed, table, f"INSERT INTO t VALUES (1, {value})")
    assert one != _content(typed, table, f"INSERT INTO t VALUES (1, {other})")


def test_a_collation_that_takes_texts_for_equal_hides_no_change(postgres15: PostgresServer) -> None:
    has_icu = postgres15.query("SELECT FROM pg_collation WHERE collname = 'de-x-icu'")
    collate = "COLLATE deaf" if has_icu else ""
    with postgres15.database("shop"), _opened(postgres15, "shop") as session:
        if has_icu:
            session.execute(DEAF)
        table = f"CREATE TABLE t (a text {collate}, b varchar(9)[] {collate}, c char(3) {collate})"
        rows = ("'a', '{a}', 'a'", "'A', '{a}', 'a'", "'a', '{A}', 'a'", "'a', '{a}', 'A'")
        contents = {_content(session, table, f"INSERT INTO t VALUES ({row})") for row in rows}
    assert len(contents) == 4


def test_the_order_of_rows_and_of_columns_does_not_matter(session: Session) -> None:
    rows = "SELECT n AS a, 'b' || n AS b, date '2024-01-01' + n AS c FROM generate_series(1, 50) n"
    dropped = "CREATE TABLE t (x int, c date, y text, b text); ALTER TABLE t DROP x, DROP y, ADD a int"
    contents = {
        _content(session, f"CREATE TABLE t AS {rows}"),
        _content(session, f"CREATE TABLE t AS {rows} ORDER BY n DESC"),
        _content(session, f"CREATE TABLE t AS SELECT c, b, a FROM ({rows}) rows ORDER BY b"),
        _content(session, dropped, f"INSERT INTO t (a, b, c) {rows}"),
    }
    assert len(contents) == 1
    columns = [Column("a", 23), Column("b", 25)]
    assert fingerprint(columns) == fingerprint(reversed(columns))


def test_values_that_changed_places_are_seen(session: Session) -> None:
    """A record's hash is linear in its fields': without a second hash, two of three of these are not seen."""
    table = "CREATE TABLE t AS SELECT n AS id, 'a' || n AS a, 'b' || n AS b FROM generate_series(1, 30) n"
    contents = [_content(session, table)]
    for row in range(1, 30):
        swapped = f"CASE id WHEN {row} THEN {row + 1} WHEN {row + 1} THEN {row} ELSE id END"
        contents.append(_content(session, table, f"UPDATE t SET b = 'b' || {swapped}"))
        contents.append(_content(session, table, f"UPDATE t SET a = b, b = a WHERE id = {row}"))
    contents.append(_content(session, table, "UPDATE t SET a = b, b = a"))
    assert len(set(contents)) == 60


def test_no_code_that_came_with_the_database_is_called(session: Session) -> None:
    session.execute(HOSTILE.encode())
    assert set(_contents(session)) == {"t"}
    with pytest.raises(psycopg.errors.RaiseException, match="called"):
        session.execute("SELECT a::text FROM t")
    with pytest.raises(psycopg.errors.RaiseException, match="called"):
        session.execute("SELECT hash_record_extended(ROW(b), 0) FROM t")


def test_a_table_may_have_no_columns_or_as_many_as_there_can_be(session: Session) -> None:
    many = ", ".join(f"c{number} json" for number in range(1_600))
    values = ", ".join(f"'{number}'" for number in range(1_500))
    contents = [
        _content(session, "CREATE TABLE t ()"),
        _content(session, "CREATE TABLE t ()", "INSERT INTO t DEFAULT VALUES"),
        _content(session, "CREATE TABLE t (a int)", "INSERT INTO t VALUES (0)"),
        _content(session, f"CREATE TABLE t ({many})", f"INSERT INTO t VALUES ({values})"),
        _content(session, f"CREATE TABLE t ({many})", f"INSERT INTO t VALUES ({values}, '1')"),
    ]
    assert contents[0] == "0"
    assert len(set(contents)) == 5


def test_a_column_that_is_computed_when_read_is_left_out_and_a_stored_one_is_not(
    server_of: ServerOf,
) -> None:
    server = server_of(18)
    with server.database("shop"), _opened(server, "shop") as session:
        plain = _content(session, "CREATE TABLE t (a int)", "INSERT INTO t VALUES (0)")
        virtual = "CREATE TABLE t (a int, b int GENERATED ALWAYS AS (1 / a) VIRTUAL)"
        stored = "CREATE TABLE t (a int, b int GENERATED ALWAYS AS (a + 1) STORED)"
        assert _content(session, virtual, "INSERT INTO t VALUES (0)") == plain
        assert _content(session, stored, "INSERT INTO t VALUES (0)") != plain
