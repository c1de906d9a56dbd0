"""Which of a server's texts count as the same SQL."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.core.sql_text import same_sql, tokens

IN_LIST = "CHECK (((v)::text = ANY ((ARRAY['a'::character varying, 'b'::character varying])::text[])))"
RESTORED_IN_LIST = (
    "CHECK (((v)::text = ANY (ARRAY[('a'::character varying)::text, ('b'::character varying)::text])))"
)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        pytest.param(IN_LIST, RESTORED_IN_LIST, id="a-list-of-varchars"),
        pytest.param(
            "( SELECT 'x'::text)", "( SELECT 'x'::text AS text)", id="a-nameless-column-of-a-sub-select"
        ),
        pytest.param(
            "a::timestamp(3) with time zone + b", "(a)::timestamp with time zone + b", id="long-type"
        ),
        pytest.param("x::interval day to second(3)", "x", id="interval"),
        pytest.param("a::double precision[] || b", "a || b", id="array-type"),
        pytest.param('a::app."Odd ""x"" type"(3)[][] = 1', "a = 1", id="quoted-type"),
        pytest.param('"plain" + 1', "plain + 1", id="needless-quotes"),
        pytest.param("a  +\n b", "a + b", id="space"),
        pytest.param("f((a), (b.c)[1])", "f(a, b.c[1])", id="operands-in-parentheses"),
        pytest.param("(((a)) + 1)", "(a + 1)", id="parentheses-in-parentheses"),
    ],
)
def test_the_same_sql_written_twice_is_the_same(left: str, right: str) -> None:
    assert same_sql(left, right)
    assert same_sql(left, right, across_majors=True)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        pytest.param(IN_LIST, RESTORED_IN_LIST.replace("'b'", "'c'"), id="constant"),
        pytest.param(IN_LIST, RESTORED_IN_LIST.replace("= ANY", "<> ALL"), id="operator"),
        pytest.param("a > 1", "b > 1", id="name"),
        pytest.param("a AND b", "b AND a", id="order"),
        pytest.param("'a b'", "'a  b'", id="space-in-a-string"),
        pytest.param("'a''::text'", "'a'", id="cast-in-a-string"),
        pytest.param("E'a\\'::text'", "E'a'", id="cast-in-an-escaped-string"),
        pytest.param("$x$(a)$x$", "$x$a$x$", id="parentheses-in-dollar-quotes"),
        pytest.param('"a::b"', '"a"', id="cast-in-a-name"),
        pytest.param('"A"', "a", id="quotes-that-matter"),
        pytest.param("a::date AND b", "a", id="what-follows-a-cast"),
        pytest.param("NOT a", "a", id="not"),
        pytest.param("a - 1", "a -1 - 1", id="number"),
        pytest.param("1.5", "15", id="point"),
        pytest.param("f(a)", "f", id="call"),
        pytest.param("f()", "f", id="call-without-arguments"),
        pytest.param("CREATE INDEX i ON s.t (a) WHERE b", "CREATE INDEX i ON s.t (a, b)", id="predicate"),
        pytest.param("WITH x AS MATERIALIZED (SELECT)", "WITH x AS (SELECT)", id="materialized"),
    ],
)
def test_other_sql_is_not_the_same(left: str, right: str) -> None:
    assert not same_sql(left, right)
    assert not same_sql(right, left)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        pytest.param("SELECT t.id, max(t.b) FROM app.t", "SELECT id, max(b) FROM app.t", id="qualifiers"),
        pytest.param("((a AND b) AND c)", "(a AND b AND c)", id="parentheses"),
        pytest.param("t.*", "*", id="all-columns"),
        pytest.param('"json_table".a', "json_table.a", id="a-new-keyword"),
    ],
)
def test_what_majors_write_differently_is_the_same_across_majors(left: str, right: str) -> None:
    assert same_sql(left, right, across_majors=True)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        pytest.param("(a + b) * c", "a + b * c", id="precedence"),
        pytest.param("one.f(a)", "other.f(a)", id="schema"),
    ],
)
def test_on_one_major_parentheses_and_qualifiers_count(left: str, right: str) -> None:
    assert not same_sql(left, right)
    assert same_sql(left, right, across_majors=True)  # what the module says it cannot see


def test_a_text_is_taken_apart_as_a_server_would() -> None:
    text = """a."B ""c" >= E'x\\'y' || 'it''s' || $t$ ' $t$ || 1.5e-3::numeric(9,2) <@ U&'x' || $1"""
    assert list(tokens(text)) == [
        "a", ".", '"B ""c"', ">=", "E'x\\'y'", "||", "'it''s'", "||", "$t$ ' $t$", "||", "1.5e-3", "::",
        "numeric", "(", "9", ",", "2", ")", "<@", "U&'x'", "||", "$", "1",
    ]  # fmt: skip


@given(st.text(alphabet="ab1'\"$():[].,:E\\ \n-*", max_size=30), st.booleans())
def test_any_text_is_the_same_as_itself_and_nothing_of_it_is_lost(text: str, across_majors: bool) -> None:
    assert same_sql(text, text + " ", across_majors=across_majors)
    assert "".join(tokens(text)).count("a") == text.count("a")


@given(st.lists(st.sampled_from(["a", "b", "'c'", "1", "f(a)", "x.y", "ARRAY[1]"]), min_size=1, max_size=5))
def test_parentheses_around_operands_never_matter(operands: list[str]) -> None:
    assert same_sql(" + ".join(operands), " + ".join(f"(({operand})::text)" for operand in operands))
