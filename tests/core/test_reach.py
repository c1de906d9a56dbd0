"""What of a dump could reach beyond its database: only what is known to be harmless counts as harmless."""

import pytest

from flows.core.facts import CatalogObject
from flows.core.reach import reaches_out


def item(kind: str, *name: str, **properties: str) -> CatalogObject:
    return CatalogObject(kind=kind, name=name, properties=properties)


HARMLESS = (
    item("table", "public", "orders"),
    item("function", "public", "total", "integer"),
    item("function", "public", "notify", "", language="plpgsql"),
    item("foreign table", "public", "log", server="files", options='["filename=/var/log/x"]'),
    item("foreign server", "files", **{"foreign data wrapper": "file_fdw"}),
)


@pytest.mark.parametrize(
    ("extensions", "objects", "expected"),
    [
        pytest.param(["plpgsql", "pg_trgm", "uuid-ossp", "vector"], HARMLESS, [], id="harmless"),
        pytest.param(["file_fdw"], HARMLESS, [], id="files"),
        pytest.param(["file_fdw"], None, ["the extension file_fdw"], id="files or programs, nobody knows"),
        pytest.param(
            ["file_fdw"],
            [item("foreign table", "public", "t", options='["program=curl evil"]')],
            ["the extension file_fdw"],
            id="programs",
        ),
        pytest.param(
            ["dblink", "hstore", "postgres_fdw"],
            None,
            ["the extension dblink", "the extension postgres_fdw"],
            id="connecting extensions",
        ),
        pytest.param(
            ["plpython3u", "plperlu"], (), ["the extension plperlu", "the extension plpython3u"], id="u"
        ),
        pytest.param(["nobody_knows_it"], (), ["the extension nobody_knows_it"], id="an unknown extension"),
        pytest.param(
            [], [item("language", "plpython3u")], ["the language plpython3u"], id="a language by itself"
        ),
        pytest.param(
            [],
            [item("function", "public", "f", "", language="c")],
            ["the language c"],
            id="a library's function",
        ),
        pytest.param(
            [],
            [item("foreign data wrapper", "far"), item("foreign server", "a"), item("foreign server", "b")],
            ["1 foreign data wrappers", "2 foreign servers"],
            id="foreign servers",
        ),
    ],
)
def test_what_could_reach_out_is_named(
    extensions: list[str], objects: list[CatalogObject] | None, expected: list[str]
) -> None:
    assert reaches_out(extensions, objects) == expected
