"""Which lines of pg_restore's listing a superuser restores; they were written by 14, 15, 16, 17 and 18."""

import pytest

from blocks.pgcommands import table_of_contents
from flows.core.contents import (
    Run,
    definition_runs,
    rights_on_large_objects,
    sampled_rows,
    split_by_power,
    without_filled_views,
    without_foreign_keys,
)

DEFINED_AS_SUPERUSER = [
    "9; 2615 16535 SCHEMA - - EVENT TRIGGER x admin",
    "2692; 3456 17334 COLLATION app plain app_owner",
    "955; 2612 16570 PROCEDURAL LANGUAGE - mylang admin",
    "2543; 3576 16571 TRANSFORM - TRANSFORM FOR integer LANGUAGE sql ",
    "2; 3079 16386 EXTENSION - hstore ",
    "1250; 1247 17315 TYPE app mood app_owner",
    "1251; 1247 17315 SHELL TYPE app mood app_owner",
    "1263; 1247 17343 DOMAIN app positive app_owner",
    "3048; 2605 17354 CAST - CAST (app.mood AS integer) ",
    "607; 1255 17336 FUNCTION app add(integer, integer) app_owner",
    "610; 1255 17339 PROCEDURE app do_it(integer) app_owner",
    "1783; 2601 16569 ACCESS METHOD - am ",
    "2216; 2617 17353 OPERATOR app |+| app_owner",
    "2612; 2753 17356 OPERATOR FAMILY app int_ops admin",
    "2433; 2616 17357 OPERATOR CLASS app int_ops admin",
    "2821; 2607 17364 CONVERSION app conv admin",
    "2648; 3600 17365 TEXT SEARCH DICTIONARY app stem admin",
    "2179; 3602 16568 TEXT SEARCH CONFIGURATION a c admin",
    "2681; 1417 17366 SERVER - elsewhere admin",
    "3343; 0 0 USER MAPPING - USER MAPPING app_owner SERVER elsewhere admin",
]
DEFINED_PLAINLY = [
    "223; 1259 16536 TABLE - EVENT TRIGGER x t admin",
    '243; 1259 17449 TABLE Odd.Schema "x" y new line; -- %s o\'neill & sons',
    "222; 1259 16529 TABLE a EVENT TRIGGER - z admin",
    "223; 1259 16529 TABLE SCHEMA - FUNCTION y admin",
    "224; 1259 16529 TABLE ATTACH FUNCTION y admin",
    "221; 1259 16528 SEQUENCE a EVENT TRIGGER - z_x_seq admin",
    "2718; 0 0 SEQUENCE OWNED BY a EVENT TRIGGER - z_x_seq admin",
    "226; 1259 16552 VIEW a v admin",
    "225; 1259 16548 MATERIALIZED VIEW a mv admin",
    "2545; 0 0 TABLE ATTACH a p1 admin",
    "2546; 2604 16532 DEFAULT a EVENT TRIGGER - z x admin",
    "2547; 2604 16532 DEFAULT ACL FUNCTION x admin",
    "2706; 2613 4711 BLOB - 4711 admin",
    "2707; 9999 4711 SOMETHING NEW - EVENT TRIGGER admin",
    "no line of a listing at all",
]
LAST_DEFINITIONS = [
    "2714; 0 0 COMMENT - EXTENSION hstore ",
    "2716; 0 0 COMMENT - EVENT TRIGGER x TABLE t admin",
    "2719; 0 0 ACL a TABLE v admin",
    "2720; 0 0 ACL - LARGE OBJECT 4711 admin",
    "2721; 0 0 SECURITY LABEL a TABLE v admin",
]
AGGREGATE = "956; 1255 16527 AGGREGATE a g(integer) admin"
FOREIGN_TABLE = "224; 1259 16541 FOREIGN TABLE DATA WRAPPER y ft admin"
RESTORED_LAST = [
    "2697; 6104 16545 PUBLICATION - p admin",
    "2722; 0 0 COMMENT - PUBLICATION p admin",
    "2699; 6106 16547 PUBLICATION TABLE a q EVENT TRIGGER - z admin",
    "3274; 6237 17580 PUBLICATION TABLES IN SCHEMA app of_schema app admin",
    "3050; 3466 17575 EVENT TRIGGER - x EVENT TRIGGER - y admin",
    "2724; 0 0 COMMENT - EVENT TRIGGER et admin",
]
RESTORED_PLAINLY = [
    "2550; 2606 16534 CONSTRAINT a EVENT TRIGGER - z EVENT TRIGGER - z_pkey admin",
    "3070; 2606 17399 CHECK CONSTRAINT app orders checked later app_owner",
    "3113; 2606 17390 FK CONSTRAINT app orders orders_customer_fkey app_owner",
    "3072; 1259 17396 INDEX app by short nick app_owner",
    "3104; 0 0 INDEX ATTACH app day_1_pkey app_owner",
    "2551; 3381 16567 STATISTICS a st admin",
    "3263; 2618 17406 RULE app happy no delete app_owner",
    "3115; 2620 17398 TRIGGER app customers touch app_owner",
    "3115; 2620 17398 TRIGGER - x EVENT TRIGGER - y app_owner",
    "3382; 0 0 COMMENT app TRIGGER touch ON customers app_owner",
    "3268; 0 17369 ROW SECURITY app customers app_owner",
    "3269; 3256 17400 POLICY app customers own app_owner",
    "2682; 826 17308 DEFAULT ACL app DEFAULT PRIVILEGES FOR TABLES app_owner",
    "3302; 0 17549 MATERIALIZED VIEW DATA public totals admin",
    "2707; 9999 4711 SOMETHING NEW - EVENT TRIGGER admin",
]
NEVER_RESTORED = [
    "2700; 6100 16569 SUBSCRIPTION - sub admin",
    "2747; 0 0 COMMENT - SUBSCRIPTION sub admin",
]


def never_asked(line: str) -> str:
    raise AssertionError(f"the kind of {line!r} tells")


@pytest.mark.parametrize("line", DEFINED_AS_SUPERUSER)
def test_definitions_that_ask_for_a_superuser_and_run_no_code_have_one(line: str) -> None:
    assert definition_runs([line], never_asked) == [Run(True, (line,))]


@pytest.mark.parametrize("line", DEFINED_PLAINLY)
def test_definitions_that_run_code_or_are_unknown_have_none_whatever_they_are_called(line: str) -> None:
    assert definition_runs([line], never_asked) == [Run(False, (line,))]


@pytest.mark.parametrize(
    ("line", "script", "as_superuser"),
    [
        (AGGREGATE, "CREATE AGGREGATE a.g(integer) (\n    SFUNC = f,\n    STYPE = internal\n);", True),
        (AGGREGATE, "CREATE AGGREGATE a.g(integer) (\n    STYPE = a.d,\n    INITCOND = '1'\n);", False),
        (AGGREGATE, "CREATE AGGREGATE a.g(integer) (\n    MSTYPE = a.d,\n    MINITCOND = '1'\n);", False),
        (FOREIGN_TABLE, "CREATE FOREIGN TABLE x (\n    n integer\n) SERVER s;", True),
        (FOREIGN_TABLE, "CREATE FOREIGN TABLE x (\n    n integer GENERATED ALWAYS AS (1) STORED\n);", False),
    ],
)
def test_where_the_kind_does_not_tell_the_sql_does(line: str, script: str, as_superuser: bool) -> None:
    assert definition_runs([line], {line: script}.__getitem__) == [Run(as_superuser, (line,))]


def test_runs_keep_the_order_and_rights_and_comments_come_last() -> None:
    schema, extension, mood, *_ = DEFINED_AS_SUPERUSER
    table, view, *_ = DEFINED_PLAINLY
    right, comment, *_ = LAST_DEFINITIONS
    runs = definition_runs([schema, right, extension, table, comment, view, mood], never_asked)
    assert runs == [
        Run(True, (schema, extension)),
        Run(False, (table, view)),
        Run(True, (mood,)),
        Run(True, (right, comment)),
    ]
    assert definition_runs(LAST_DEFINITIONS, never_asked) == [Run(True, tuple(LAST_DEFINITIONS))]
    assert definition_runs([], never_asked) == []


def test_post_data_is_split_in_its_order() -> None:
    lines = [line for trio in zip(RESTORED_PLAINLY, RESTORED_LAST, strict=False) for line in trio]
    lines += RESTORED_PLAINLY[len(RESTORED_LAST) :] + NEVER_RESTORED
    assert split_by_power(lines) == (RESTORED_PLAINLY, RESTORED_LAST)


def test_rights_are_told_from_the_large_objects_that_they_belong_to() -> None:
    right = "2745; 0 0 ACL - LARGE OBJECT 4711 admin"
    data = [
        "2726; 0 16529 TABLE DATA a ACL - LARGE OBJECT admin",
        "2730; 2613 4711 BLOB METADATA - 4711 admin",
        right,
        "2731; 0 0 BLOBS - 4711 admin",
    ]
    assert rights_on_large_objects(data) == [right]


@pytest.mark.parametrize("character", list("\v\f\x1c\x1d\x1e\x85\u2028\u2029"))
def test_a_name_does_not_pass_for_a_line_of_its_own(character: str) -> None:
    """pg_restore takes line feeds and carriage returns out of names, and leaves the other line breaks."""
    line = f"222; 1259 16529 TABLE a x{character}3; 0 0 SCHEMA - y admin"
    entries = list(table_of_contents(f";\n; Selected TOC Entries:\n;\n{line}\n"))
    assert entries == [line]
    assert definition_runs(entries, never_asked) == [Run(False, (line,))]


def test_a_sample_restores_its_tables_rows_and_where_sequences_stand() -> None:
    orders = "3456; 0 16385 TABLE DATA app orders app_owner"
    odd = "3457; 0 16386 TABLE DATA app new line app_owner"
    sequence = "3461; 0 0 SEQUENCE SET app orders_id_seq app_owner"
    others = [
        "3458; 0 16387 TABLE DATA app orders_old app_owner",
        "3459; 0 16388 TABLE DATA other orders app_owner",
        "3460; 0 0 BLOBS - BLOBS ",
    ]
    entries = [orders, odd, *others, sequence]

    assert sampled_rows(entries, [("app", "orders"), ("app", "new\nline")]) == [orders, odd, sequence]


def test_what_needs_all_rows_is_left_out_with_its_comments() -> None:
    kept = [
        "3300; 2606 17001 CONSTRAINT app orders orders_pkey app_owner",
        "3461; 0 0 COMMENT app CONSTRAINT orders_pkey ON orders app_owner",
        "3301; 1259 17002 INDEX app by_day app_owner",
    ]
    keys = [
        "3302; 2606 17003 FK CONSTRAINT app orders orders_customer_fkey app_owner",
        "3462; 0 0 COMMENT app CONSTRAINT orders_customer_fkey ON orders app_owner",
    ]
    filled = "3463; 0 17004 MATERIALIZED VIEW DATA public totals admin"
    foreign_keys = [("app", "orders", "orders_customer_fkey")]

    assert without_foreign_keys([*keys, filled, *kept], foreign_keys) == [filled, *kept]
    assert without_filled_views([*keys, filled, *kept]) == [*keys, *kept]


def test_what_only_a_superuser_may_own_is_restored_without_its_owner() -> None:
    schema, wrapper = "6; 2615 16385 SCHEMA - app admin", "2328; 2328 16571 FOREIGN DATA WRAPPER - w admin"
    server = "2681; 1417 17366 SERVER - elsewhere admin"
    assert definition_runs([schema, wrapper, server], str) == [
        Run(True, (schema,)),
        Run(True, (wrapper,), no_owner=True),
        Run(True, (server,)),
    ]
