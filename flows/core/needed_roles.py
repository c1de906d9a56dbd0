"""Which roles a dump of one database speaks of, and whether the script of roles creates them."""

import re

from flows.core.facts import CatalogObject, Facts

# As pg_dumpall writes it.
_CREATED = re.compile(r'^CREATE ROLE (?:"(?P<quoted>(?:[^"]|"")+)"|(?P<plain>[^\s";]+));$', re.MULTILINE)
# Kinds that name roles elsewhere than in an owner and in grants.
_NAMING_ROLES = ("default", "policy", "user mapping")


def needed_roles(facts: Facts) -> list[str]:
    """Return the roles without which a restore fails, sorted; PostgreSQL's own are left out.

    Facts without a list of objects do not tell, so they need every role of the server.
    """
    if facts.objects is None:
        return sorted(facts.roles)
    needed = set(facts.roles_in_use)
    needed |= {role for item in facts.objects for role in (item.owner, *item.grants) if role}
    for item in facts.objects:
        if item.kind.startswith(_NAMING_ROLES):
            needed |= {role for role in facts.roles if _speaks_of(item, role)}
    return sorted(role for role in needed if not role.startswith("pg_"))


def lacking_roles(facts: Facts, script: str) -> list[str]:
    """Return the needed roles that pg_dumpall's script does not create, sorted."""
    found = _CREATED.finditer(script)
    created = {one["plain"] or one["quoted"].replace('""', '"') for one in found}
    return [role for role in needed_roles(facts) if role in facts.roles and role not in created]


def _speaks_of(item: CatalogObject, role: str) -> bool:
    return role in item.name or any(role in value for value in item.properties.values())
