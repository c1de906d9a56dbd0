"""What must be restored with a superuser's power, and what must never have it.

A dump is code: a table owner's functions run while constraints, indexes and views are built. So the
scratch server restores rows and post-data as a plain role, and only entries whose creation runs nobody's
code, yet asks for a superuser, come last as one.
"""

import re
from collections.abc import Iterable

# An entry reads "ID; CATALOGUE OBJECT KIND SCHEMA NAME OWNER"; the kind is anchored, so that no object's
# name can pass for one.
_ENTRY = re.compile(r"^\d+; \d+ \d+ (?P<rest>.*)$")
_SUPERUSER_KINDS = (
    "EVENT TRIGGER - ",
    "PUBLICATION - ",
    "PUBLICATION TABLE ",
    "PUBLICATION TABLES IN SCHEMA ",
)
_SUPERUSER_COMMENTS = ("COMMENT - EVENT TRIGGER ", "COMMENT - PUBLICATION ")
_NEVER_KINDS = ("SUBSCRIPTION - ", "SUBSCRIPTION TABLE ", "COMMENT - SUBSCRIPTION ")


def split_by_power(entries: Iterable[str]) -> tuple[list[str], list[str]]:
    """Return (entries for the plain role, entries for the superuser); subscriptions are in neither.

    Args:
        entries: Lines of pg_restore's `--list`, in its order.
    """
    plain: list[str] = []
    superuser: list[str] = []
    for line in entries:
        found = _ENTRY.match(line)
        rest = found["rest"] if found else ""
        if rest.startswith(_NEVER_KINDS):
            continue
        (superuser if rest.startswith(_SUPERUSER_KINDS + _SUPERUSER_COMMENTS) else plain).append(line)
    return plain, superuser
