"""Where an object of the catalogue belongs, and how its name is written."""

from collections.abc import Iterator, Mapping

from flows.core.facts import CatalogObject
from flows.core.findings import quoted
from flows.core.sql_text import tokens

Key = tuple[str, tuple[str, ...]]

_RELATIONS = ("table", "foreign table", "view", "materialized view", "domain")
_ON_RELATIONS = frozenset(("column", "constraint", "index", "policy", "rule", "trigger"))
_ROUTINES = frozenset(("aggregate", "function", "procedure", "window function"))
_OUTSIDE_SCHEMAS = frozenset(
    (
        "access method", "cast", "default privileges", "event trigger", "extension", "foreign data wrapper",
        "foreign server", "language", "publication", "publication schema", "publication table", "schema",
        "transform", "user mapping",
    )
)  # fmt: skip
_PARTS_OF = {
    "publication schema": "publication",
    "publication table": "publication",
    "user mapping": "foreign server",
}


def key_of(item: CatalogObject) -> Key:
    """Return what tells an object from all others."""
    return item.kind, item.name


def shown(item: CatalogObject) -> str:
    """Return an object's name as SQL would write it, or as close to that as one line allows."""
    name = item.name
    if item.kind in _ROUTINES:
        return f"{quoted(*name[:2])}({name[2]})"
    if item.kind == "operator":
        return f"{quoted(name[0])}.{name[1]} ({name[2]}, {name[3]})"
    if item.kind in ("operator class", "operator family"):
        return f"{quoted(*name[:2])} using {quoted(name[2])}"
    if item.kind == "index":
        return quoted(name[0], name[2])
    if item.kind == "cast":
        return f"({name[0]} as {name[1]})"
    if item.kind == "transform":
        return f"for {name[0]} language {quoted(name[1])}"
    if item.kind == "default privileges":
        of_schema = f" in schema {quoted(name[2])}" if len(name) > 2 else ""
        return f"{name[1]} of {quoted(name[0])}{of_schema}"
    if item.kind in ("constraint", "policy", "rule", "trigger"):
        return f"{quoted(name[2])} on {quoted(*name[:2])}"
    if item.kind in _PARTS_OF:
        return f"{quoted(*name[1:])} of {quoted(name[0])}"
    return quoted(*name)


def roots(found: Mapping[Key, CatalogObject]) -> dict[Key, Key]:
    """Return of each object the outermost among them that it belongs to, itself if it belongs to none."""
    outer = {
        key: next((place for place in _places(item) if place in found), key) for key, item in found.items()
    }
    result = {}
    for key in found:
        root = key
        while outer[root] != root:
            root = outer[root]
        result[key] = root
    return result


def _places(item: CatalogObject) -> Iterator[Key]:
    """Yield what an object would be gone with."""
    name = item.name
    if item.kind == "index":
        yield "constraint", name
    if item.kind in _ON_RELATIONS:
        yield from ((kind, name[:2]) for kind in _RELATIONS)
    for relation in ("table", "owned by"):
        if relation in item.properties:
            yield from ((kind, parts(item.properties[relation])[:2]) for kind in _RELATIONS)
    if item.kind in _PARTS_OF:
        yield _PARTS_OF[item.kind], name[:1]
    if item.kind == "default privileges":
        yield "schema", name[2:]
    if item.kind not in _OUTSIDE_SCHEMAS:
        yield "schema", name[:1]


def parts(written: str) -> tuple[str, ...]:
    """Take a name apart that the server wrote."""
    return tuple(
        part[1:-1].replace('""', '"') if part[0] == '"' else part for part in tokens(written) if part != "."
    )
