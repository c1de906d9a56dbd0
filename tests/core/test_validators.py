"""Whose code checks a wrapper or a language that a superuser defines: none but the host's own."""

import pytest

from flows.core.contents import Run, definition_runs
from flows.core.facts import CatalogObject
from flows.core.validators import own_validators

WRAPPER = "2100; 2328 16400 FOREIGN DATA WRAPPER - w admin"
LANGUAGE = "955; 2612 16570 PROCEDURAL LANGUAGE - l admin"
VALID = "611; 1255 16390 FUNCTION public valid(text[], oid) mallory"
ODD = '612; 1255 16391 FUNCTION odd "schema" a "valid" one(text[], oid) mallory'
PLPGSQL = "CREATE FUNCTION public.valid(text[], oid) RETURNS void\n    LANGUAGE plpgsql\n    AS $$$$;"
IN_C = "CREATE FUNCTION public.valid(text[], oid) RETURNS void\n    LANGUAGE c STRICT\n    AS '$libdir/w';"
PRETENDS = "CREATE FUNCTION public.valid(text[], oid DEFAULT '\n    LANGUAGE c')\n    LANGUAGE plpgsql;"


def item(kind: str, *name: str, **properties: str) -> CatalogObject:
    return CatalogObject(kind=kind, name=name, properties=properties)


@pytest.mark.parametrize("line", [WRAPPER, LANGUAGE])
@pytest.mark.parametrize(
    ("clause", "routine", "script", "as_superuser"),
    [
        pytest.param("", VALID, PLPGSQL, True, id="none"),
        pytest.param(" VALIDATOR postgresql_fdw_validator", VALID, PLPGSQL, True, id="built in"),
        pytest.param(" VALIDATOR public.postgres_fdw_validator", VALID, PLPGSQL, True, id="of an extension"),
        pytest.param(" VALIDATOR public.valid", VALID, IN_C, True, id="of a library"),
        pytest.param(" VALIDATOR public.valid", VALID, PLPGSQL, False, id="the dump's own"),
        pytest.param(" VALIDATOR public.valid", VALID, PRETENDS, False, id="that looks like a library's"),
        pytest.param(' VALIDATOR "odd ""schema"" a"."""valid"" one"', ODD, PLPGSQL, False, id="oddly named"),
        pytest.param(' VALIDATOR " VALIDATOR public.valid (a \'"\')', VALID, PLPGSQL, False, id="hidden"),
        pytest.param(" HANDLER public.h VALIDATOR public.valid", VALID, PLPGSQL, False, id="and a handler"),
    ],
)  # fmt: skip
def test_what_the_dumps_own_code_checks_is_never_defined_as_a_superuser(
    line: str, clause: str, routine: str, script: str, as_superuser: bool
) -> None:
    statements = {line: f"CREATE SOMETHING x{clause};", routine: script}
    runs = definition_runs([routine, line], statements.__getitem__)
    assert [run.as_superuser for run in runs if line in run.entries] == [as_superuser]
    assert Run(True, (routine,)) in runs or runs[0].entries == (routine, line)


@pytest.mark.parametrize(
    ("objects", "expected"),
    [
        pytest.param([item("foreign data wrapper", "w", validator="public.valid")], [], id="of an extension"),
        pytest.param(
            [
                item("function", "public", "valid", "text[], oid", language="plpgsql"),
                item("foreign data wrapper", "w", validator="public.valid"),
                item("foreign data wrapper", "built", validator="postgresql_fdw_validator"),
                item("foreign data wrapper", "bare"),
            ],
            ["the foreign data wrapper w"],
            id="own",
        ),
        pytest.param(
            [
                item("function", "o.d", "Valid", "oid"),
                item("language", "l", validator='"o.d"."Valid"'),
            ],
            ["the language l"],
            id="in SQL, of odd names",
        ),
        pytest.param(
            [
                item("function", "public", "plpgsql_validator", "oid", language="c"),
                item("language", "plpgsql_old", validator="public.plpgsql_validator"),
            ],
            [],
            id="of a library",
        ),
    ],
)
def test_wrappers_and_languages_with_validators_of_their_own_are_named(
    objects: list[CatalogObject], expected: list[str]
) -> None:
    assert own_validators(objects) == expected
