"""What must be restored with a superuser's power, and what must never have it.

A dump is code: its owners' functions run while rows are checked and constraints, indexes and views are
built, and already while a table is defined, since PostgreSQL works out what an expression's constants come
to. So the scratch server restores as a plain role, and only those kinds of entries as a superuser whose
creation runs nobody's code: definitions that ask for it, and at the very end publications and event triggers.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from flows.core.validators import called_routines, is_in_a_library

# An entry reads "ID; CATALOGUE OBJECT KIND SCHEMA NAME OWNER"; the kind is anchored, so that no object's
# name can pass for one.
_ENTRY = re.compile(r"^\d+; \d+ \d+ (?P<rest>.*)$")

# Whatever is not named here, unknown kinds too, is for the plain role.
_DEFINITIONS_AS_SUPERUSER = (
    "ACCESS METHOD ",
    "CAST ",
    "COLLATION ",
    "CONVERSION ",
    "DOMAIN ",
    "EXTENSION ",
    "FOREIGN DATA WRAPPER ",
    "FUNCTION ",
    "OPERATOR ",  # also CLASS and FAMILY
    "PROCEDURAL LANGUAGE ",
    "PROCEDURE ",
    "SCHEMA ",
    "SERVER ",
    "SHELL TYPE ",
    "TEXT SEARCH ",
    "TRANSFORM ",
    "TYPE ",
    "USER MAPPING ",
)
# They may need a superuser (a state of type internal, a file as the source); but a domain checks the first
# state, and a generated column's expression is worked out.
_AS_SUPERUSER_WITHOUT = {"AGGREGATE ": "INITCOND", "FOREIGN TABLE ": "GENERATED"}
# A function that they name runs for them, and for what is defined with them.
_CHECKED_BY_FUNCTIONS = ("FOREIGN DATA WRAPPER ", "PROCEDURAL LANGUAGE ")
_ROUTINES = ("FUNCTION ", "PROCEDURE ")
# What only a superuser may own, as no stand-in is one.
_SUPERUSERS_OWN = "FOREIGN DATA WRAPPER "
_LAST_DEFINITIONS = ("ACL ", "COMMENT ", "SECURITY LABEL ")

_SUPERUSER_KINDS = (
    "EVENT TRIGGER - ",
    "PUBLICATION - ",
    "PUBLICATION TABLE ",
    "PUBLICATION TABLES IN SCHEMA ",
)
_SUPERUSER_COMMENTS = ("COMMENT - EVENT TRIGGER ", "COMMENT - PUBLICATION ")
_NEVER_KINDS = ("SUBSCRIPTION - ", "SUBSCRIPTION TABLE ", "COMMENT - SUBSCRIPTION ")


@dataclass(frozen=True)
class Run:
    """Entries that are restored one after the other with the same power.

    Args:
        no_owner: Their owners are left out, who would have to be superusers.
    """

    as_superuser: bool
    entries: tuple[str, ...]
    no_owner: bool = False


def definition_runs(entries: Iterable[str], script_of: Callable[[str], str]) -> list[Run]:
    """Split pre-data into runs, in an order that its dependencies allow; rights and comments come last.

    Args:
        entries: Lines of pg_restore's `--list --section=pre-data`, in its order.
        script_of: Returns the SQL of one entry; asked only where the kind alone does not tell.
    """
    runs: list[tuple[tuple[bool, bool], list[str]]] = []
    last: list[str] = []
    entries = list(entries)
    routines = [line for line in entries if _from_kind(line).startswith(_ROUTINES)]
    for line in entries:
        kind = _from_kind(line)
        if kind.startswith(_LAST_DEFINITIONS):
            last.append(line)
            continue
        as_superuser = _is_defined_as_superuser(kind, partial(script_of, line))
        if routines and kind.startswith(_CHECKED_BY_FUNCTIONS):
            as_superuser = not _names_own_code(script_of(line), routines, script_of)
        how = as_superuser, kind.startswith(_SUPERUSERS_OWN)
        if not runs or runs[-1][0] != how:
            runs.append((how, []))
        runs[-1][1].append(line)
    if last:
        runs.append(((True, False), last))
    return [Run(as_superuser, tuple(lines), no_owner) for (as_superuser, no_owner), lines in runs]


def split_by_power(entries: Iterable[str]) -> tuple[list[str], list[str]]:
    """Split post-data into (for the plain role, for the superuser); subscriptions are in neither.

    Args:
        entries: Lines of pg_restore's `--list --section=post-data`, in its order.
    """
    plain: list[str] = []
    superuser: list[str] = []
    for line in entries:
        rest = _from_kind(line)
        if rest.startswith(_NEVER_KINDS):
            continue
        (superuser if rest.startswith(_SUPERUSER_KINDS + _SUPERUSER_COMMENTS) else plain).append(line)
    return plain, superuser


def rights_on_large_objects(entries: Iterable[str]) -> list[str]:
    """Return the rights among the entries of data: who granted them may be another than the owner."""
    return [line for line in entries if _from_kind(line).startswith("ACL ")]


def sampled_rows(entries: Iterable[str], tables: Iterable[tuple[str, str]]) -> list[str]:
    """Return the entries of data that a sample restores: its tables' rows, and where sequences stand.

    pg_restore writes names without line breaks and without quotes, so that two odd names may look alike:
    then both tables' rows are restored.
    """
    beginnings = tuple(f"TABLE DATA {_listed(schema)} {_listed(table)} " for schema, table in tables)
    return [line for line in entries if _from_kind(line).startswith((*beginnings, "SEQUENCE SET "))]


def without_filled_views(entries: Iterable[str]) -> list[str]:
    """Leave out the filling of materialized views, whose queries may count on rows that are not there."""
    return [line for line in entries if not _from_kind(line).startswith("MATERIALIZED VIEW DATA ")]


def without_foreign_keys(entries: Iterable[str], foreign_keys: Iterable[tuple[str, ...]]) -> list[str]:
    """Leave out foreign keys, with their comments.

    Args:
        foreign_keys: (schema, table, name) of every one.
    """
    comments = tuple(
        f"COMMENT {_listed(schema)} CONSTRAINT {_listed(name)} ON {_listed(table)} "
        for schema, table, name in foreign_keys
    )
    return [line for line in entries if not _from_kind(line).startswith(("FK CONSTRAINT ", *comments))]


def _listed(name: str) -> str:
    """Return a name as pg_restore's list shows it."""
    return name.replace("\n", " ").replace("\r", " ")


def _is_defined_as_superuser(kind: str, script: Callable[[], str]) -> bool:
    for beginning, word in _AS_SUPERUSER_WITHOUT.items():
        if kind.startswith(beginning):
            return word not in script()
    return kind.startswith(_DEFINITIONS_AS_SUPERUSER)


def _names_own_code(script: str, routines: Iterable[str], script_of: Callable[[str], str]) -> bool:
    """Tell whether a function that the SQL names is among the dump's own, and not of a library."""
    beginnings = tuple(
        f"{kind}{_listed(schema)} {_listed(name)}("
        for schema, name in called_routines(script)
        for kind in _ROUTINES
    )
    named = (line for line in routines if _from_kind(line).startswith(beginnings))
    return any(not is_in_a_library(script_of(line)) for line in named)


def _from_kind(line: str) -> str:
    found = _ENTRY.match(line)
    return found["rest"] if found else ""
