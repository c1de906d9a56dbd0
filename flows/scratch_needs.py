"""What a dump asks of the scratch server before it can be restored there."""

from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from psycopg import sql

from blocks.errors import ScratchLacks
from blocks.scratch import ScratchServer
from blocks.spool import free_bytes
from flows.core.facts import Facts
from flows.core.manifest import Manifest

SCRATCH_DATABASE = "restored"
RESTORED_SHARE = 2.0  # of the dump's size before compression


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


def open_schemas(session: "psycopg.Connection[tuple[object, ...]]", restorer: str) -> None:
    """Let the restorer create indexes and views in every schema, whoever owns it."""
    schemas = session.execute(
        "SELECT nspname FROM pg_catalog.pg_namespace"
        " WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'"
    ).fetchall()
    for (schema,) in schemas:
        session.execute(
            sql.SQL("GRANT USAGE, CREATE ON SCHEMA {} TO {}").format(
                sql.Identifier(str(schema)), sql.Identifier(restorer)
            )
        )
