"""Whose code checks what is defined: a foreign data wrapper and a language may each name a function for that.

The server calls a wrapper's for the wrapper itself, its servers, their user mappings and foreign tables, and
a language's for each function in it. These are restored as a superuser, so the function must not be of the
dump's own, unless it stands in a library of the host's.
"""

import re
from collections.abc import Iterable

from flows.core.facts import CatalogObject
from flows.core.object_places import shown
from flows.core.statements import NAMES, parts

# In a lookahead, so that what looks like one within a name or an option hides none behind it.
_CALLED = re.compile(rf"\b(?:HANDLER|INLINE|VALIDATOR) (?=({NAMES}))")
_LANGUAGE = re.compile(r"\bLANGUAGE (\S+)")
_OF_A_LIBRARY = frozenset(("c", "internal"))
_ROUTINES = ("function", "procedure", "window function")
_CHECKED = ("foreign data wrapper", "language")


def own_validators(objects: Iterable[CatalogObject]) -> list[str]:
    """Return the wrappers and languages that code of the database's own checks, for a person.

    Those of extensions, and extensions' functions, are not among the objects.
    """
    listed = list(objects)
    own = {item.name[:2] for item in listed if item.kind in _ROUTINES and not _is_of_a_library(item)}
    return [
        f"the {item.kind} {shown(item)}"
        for item in listed
        if item.kind in _CHECKED and tuple(parts(item.properties.get("validator", ""))) in own
    ]


def called_routines(script: str) -> set[tuple[str, str]]:
    """Return (schema, name) of each function that a wrapper's or a language's SQL names, if not built in."""
    names = (parts(found[1]) for found in _CALLED.finditer(script))
    return {(name[0], name[1]) for name in names if len(name) > 1}


def is_in_a_library(script: str) -> bool:
    """Tell of a function's SQL whether a library's code is all that it can run."""
    return set(_LANGUAGE.findall(script)) <= _OF_A_LIBRARY


def _is_of_a_library(routine: CatalogObject) -> bool:
    return routine.properties.get("language") in _OF_A_LIBRARY
