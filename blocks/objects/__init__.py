"""Everything in a database that a dump carries besides rows: each object by its kind and its name.

The same function reads the source, inside the dump's snapshot, and the database that a dump was restored
into. It asks the catalogue alone, a few large queries in all, and keeps no lock.
"""

from blocks.objects import (
    database_wide,
    foreign,
    on_relations,
    operators,
    relations,
    routines,
    text_search,
    types,
)
from blocks.objects.scope import DatabaseObject, Scope
from blocks.pgcommands import DumpSelection
from blocks.postgres import Session
from blocks.server_errors import translated

__all__ = ["EVERYTHING", "DatabaseObject", "read_objects"]

EVERYTHING = DumpSelection()

_KINDS = (
    *relations.KINDS,
    *on_relations.KINDS,
    *routines.KINDS,
    *types.KINDS,
    *operators.KINDS,
    *text_search.KINDS,
    *foreign.KINDS,
    *database_wide.KINDS,
)


def read_objects(session: Session, choice: DumpSelection = EVERYTHING) -> list[DatabaseObject]:
    """List the objects that pg_dump would dump if it were given the names of `choice`, sorted.

    Left out is what belongs to an extension, comes with PostgreSQL itself or is temporary; subscriptions;
    large objects; and what the role may not see, which its dump does not hold either.

    Args:
        choice: As `take_inventory` returns it in `names`.
    """
    with translated("reading the catalogue"), session.transaction(force_rollback=True):
        session.execute("SET LOCAL search_path = ''")
        scope = Scope.of(session, choice)
        found = [item for kind in _KINDS for item in scope.read(session, kind)]
    return sorted(found, key=lambda item: (item.kind, item.name))
