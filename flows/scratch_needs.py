"""What a dump asks of the scratch server before it can be restored there."""

from dataclasses import dataclass, field
from pathlib import Path

from blocks.errors import ScratchLacks
from blocks.scratch import ScratchServer
from blocks.spool import free_bytes
from flows.core.facts import Facts
from flows.core.manifest import Manifest

SCRATCH_DATABASE = "restored"
RESTORED_SHARE = 2.0  # of the dump's size before compression

_SCHEMAS_TO_OPEN = r"""
    SELECT format('GRANT USAGE, CREATE ON SCHEMA %%I TO %%I', nspname, %s::text)
    FROM pg_namespace
    WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'
      AND NOT has_schema_privilege(%s, oid, 'CREATE')"""
# An extension's functions may reach beyond the database, as dblink's do.
_FUNCTIONS_TO_OPEN = """
    SELECT format('GRANT EXECUTE ON ROUTINE %%s TO %%I', oid::regprocedure, %s::text)
    FROM pg_proc f
    WHERE proacl IS NOT NULL AND pronamespace <> 'pg_catalog'::regnamespace
      AND pronamespace <> 'information_schema'::regnamespace
      AND NOT EXISTS (SELECT FROM pg_depend d
                      WHERE d.classid = 'pg_proc'::regclass AND d.objid = f.oid AND d.deptype = 'e')
      AND NOT has_function_privilege(%s, oid, 'EXECUTE')"""


@dataclass(frozen=True)
class PreparedScratch:
    """An empty database in the scratch server, and the role without power that loads it."""

    dbname: str
    restorer: str
    notes: list[str] = field(default_factory=list)


def prepare_scratch(scratch: ScratchServer, facts: Facts) -> PreparedScratch:
    """Make stand-ins for the source's roles, and a database like the source's.

    Raises:
        ScratchLacks: An extension or a collation provider that the dump needs is not here.
    """
    refuse_lacks(
        facts.server_major,
        {extension.name for extension in facts.extensions},
        facts.properties.needs_icu,
        scratch.available_extensions(),
        scratch.has_icu(),
    )
    scratch.create_stand_in_roles(facts.roles)
    restorer = scratch.create_restorer()
    properties = facts.properties
    notes = scratch.create_database(
        SCRATCH_DATABASE, properties.encoding, properties.collate, properties.ctype, restorer
    )
    return PreparedScratch(SCRATCH_DATABASE, restorer, notes)


def refuse_lacks(
    major: int, needed_extensions: set[str], needs_icu: bool, available_extensions: set[str], has_icu: bool
) -> None:
    """Raise `ScratchLacks`, naming everything that is missing and how to get it."""
    missing = sorted(needed_extensions - available_extensions)
    if missing:
        packages = " ".join(f"postgresql-{major}-{name.replace('_', '-')}" for name in missing)
        raise ScratchLacks(
            f"the scratch server of PostgreSQL {major} has no extension {', '.join(missing)}",
            f"install it on the verifying host, for example: apt-get install {packages}",
        )
    if needs_icu and not has_icu:
        raise ScratchLacks(
            f"the scratch server of PostgreSQL {major} has no ICU, and the database uses ICU collations",
            f"install a server with ICU on the verifying host: apt-get install postgresql-{major}",
        )


def refuse_too_little_disk(manifest: Manifest, directory: Path) -> None:
    """Raise `ScratchLacks` unless the restored database, with its indexes, is likely to fit."""
    needed = int(manifest.archive("main").plain_bytes * RESTORED_SHARE)
    if (free := free_bytes(directory)) < needed:
        raise ScratchLacks(
            f"{directory} has {free >> 20} MiB free, the restored database needs about {needed >> 20} MiB",
            "free some space there, or set spool_directory to a larger disk",
        )


def open_up(scratch: ScratchServer, prepared: PreparedScratch) -> None:
    """Let every stand-in use what has been restored so far, whoever's it is.

    On the source superusers and memberships may see to that; here it is a matter of the scratch server only.
    """
    with scratch.connect(prepared.dbname) as session:
        for query in (_SCHEMAS_TO_OPEN, _FUNCTIONS_TO_OPEN):
            for (statement,) in session.execute(query, [scratch.insiders, scratch.insiders]).fetchall():
                session.execute(statement)
