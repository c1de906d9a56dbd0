"""Which roles a dump speaks of."""

import pytest

from flows.core.facts import CatalogObject
from flows.core.needed_roles import needed_roles
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
