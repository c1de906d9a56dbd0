"""Which roles a dump speaks of."""

import pytest

from flows.core.facts import CatalogObject
from flows.core.needed_roles import lacking_roles, needed_roles
from tests.core.test_facts import FACTS

ROLES = ("admin", "audit", "far", "hidden", "nobody's", "shop")


@pytest.mark.parametrize(
    ("objects", "expected"),
    [
        pytest.param(None, sorted(ROLES), id="facts without objects need them all"),
        pytest.param((), [], id="no objects"),
        pytest.param(
            (CatalogObject(kind="table", name=("public", "t"), owner="shop"),), ["shop"], id="an owner"
        ),
        pytest.param(
            (
                CatalogObject(
                    kind="table", name=("public", "t"), grants={"": (), "audit": (), "pg_monitor": ()}
                ),
            ),
            ["audit"],
            id="whoever has rights",
        ),
        pytest.param(
            (CatalogObject(kind="user mapping", name=("server", "far")),), ["far"], id="a user mapping's"
        ),
        pytest.param(
            (CatalogObject(kind="policy", name=("public", "t", "p"), properties={"roles": '["nobody\'s"]'}),),
            ["nobody's"],
            id="a policy's",
        ),
        pytest.param(
            (
                CatalogObject(
                    kind="default privileges", name=("admin", "tables"), grants={"audit": ("SELECT",)}
                ),
            ),
            ["admin", "audit"],
            id="default privileges'",
        ),
        pytest.param(
            (CatalogObject(kind="table", name=("public", "shop"), properties={"comment": "of audit"}),),
            [],
            id="a table that only bears a role's name",
        ),
    ],
)
def test_only_the_roles_that_a_dump_speaks_of_are_needed(
    objects: tuple[CatalogObject, ...] | None, expected: list[str]
) -> None:
    assert needed_roles(FACTS.model_copy(update={"roles": ROLES, "objects": objects})) == expected


@pytest.mark.parametrize(
    ("script", "lacking"),
    [
        ('CREATE ROLE shop;\nALTER ROLE shop WITH NOSUPERUSER;\nCREATE ROLE "nobody\'s";\n', []),
        ("CREATE ROLE shop;\n", ["nobody's"]),
        ('CREATE ROLE shop2;\n-- CREATE ROLE shop;\nCREATE ROLE "nobody\'s";', ["shop"]),
        ("", ["nobody's", "shop"]),
    ],
)
def test_roles_that_the_script_does_not_create_are_told(script: str, lacking: list[str]) -> None:
    objects = (
        CatalogObject(kind="table", name=("public", "t"), owner="shop", grants={"pg_monitor": ("SELECT",)}),
        CatalogObject(kind="table", name=("public", "u"), owner="nobody's"),
    )
    assert lacking_roles(FACTS.model_copy(update={"roles": ROLES, "objects": objects}), script) == lacking


def test_odd_names_of_roles_are_read_as_pg_dumpall_writes_them() -> None:
    names = ('say "hi"', "two\nlines", "Ünïcode.ñ")
    script = "".join('CREATE ROLE "' + name.replace('"', '""') + '";\n' for name in names)
    objects = tuple(CatalogObject(kind="table", name=("public", name), owner=name) for name in names)
    assert lacking_roles(FACTS.model_copy(update={"roles": names, "objects": objects}), script) == []
