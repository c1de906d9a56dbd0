"""What a dump asks of the scratch server before it can be restored there."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from blocks.errors import ScratchLacks
from blocks.scratch_collations import OwnCollation, ProviderLocale, collation_version, lacking_collations
from blocks.scratch_preload import package_of
from blocks.scratch_roles import Scratch
from blocks.spool import free_bytes
from flows.core.facts import CatalogObject, DatabaseProperties, Facts
from flows.core.manifest import Manifest
from flows.core.needed_roles import needed_roles
from flows.core.reach import reaches_out
from flows.core.validators import own_validators

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
# A foreign key may refer to an extension's table, such as PostGIS's of reference systems.
_TABLES_TO_OPEN = """
    SELECT format('GRANT REFERENCES ON TABLE %%s TO %%I', c.oid::regclass, %s::text)
    FROM pg_class c
    JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
    WHERE c.relkind IN ('r', 'p') AND c.relnamespace <> 'pg_catalog'::regnamespace
      AND NOT has_table_privilege(%s, c.oid, 'REFERENCES')"""


@dataclass(frozen=True)
class Needs:
    """What a database asks of any server that it is restored into.

    Args:
        extensions: Their names.
        icu: Whether it sorts by ICU.
        objects: None if nobody listed them.
    """

    extensions: set[str]
    icu: bool
    objects: tuple[CatalogObject, ...] | None


@dataclass(frozen=True)
class PreparedScratch:
    """An empty database in the scratch server, and the role without power that loads it.

    Args:
        notes: How the scratch server differs from the source's, where that does not matter to the verdict.
        unverifiable_collations: What of the source's sorting cannot be had here.
    """

    dbname: str
    restorer: str
    notes: list[str] = field(default_factory=list)
    unverifiable_collations: list[str] = field(default_factory=list)


def prepare_scratch(scratch: Scratch, facts: Facts) -> PreparedScratch:
    """Make stand-ins for the source's roles, and a database like the source's.

    Raises:
        ScratchLacks: An extension, a language or a collation that the dump needs is not here, or restored
            code could reach out, or would run as a superuser.
    """
    needs = Needs(
        {extension.name for extension in facts.extensions}, facts.properties.needs_icu, facts.objects
    )
    notes = [*scratch.notes, *refuse_unfit(scratch, needs)]
    properties, objects = facts.properties, facts.objects or ()
    scratch.create_stand_in_roles(needed_roles(facts))
    restorer = scratch.create_restorer()
    unverifiable = scratch.create_database(
        scratch.dbname,
        properties.encoding,
        properties.collate,
        properties.ctype,
        restorer,
        _own_locale(properties),
    )
    with scratch.connect(scratch.dbname) as session:
        if lacking := lacking_collations(session, _used_collations(objects), _own_collations(objects)):
            raise ScratchLacks(
                f"the scratch server has no collation {', '.join(sorted(lacking))}",
                "install the locales on its host (apt-get install locales-all), before its initdb",
            )
        here, there = collation_version(session), properties.collation_version
    if not unverifiable and here and there and here != there:
        notes.append(f"text is sorted by version {here} of the locale here, by {there} on the source")
    return PreparedScratch(scratch.dbname, restorer, notes, unverifiable)


def refuse_unfit(scratch: Scratch, needs: Needs) -> list[str]:
    """Raise `ScratchLacks` if this server is none for the database; else return notes for the report."""
    notes = _refuse_reach(scratch, reaches_out(needs.extensions, needs.objects))
    _refuse_own_validators(needs.objects or ())
    refuse_lacks(
        scratch.major, needs.extensions, needs.icu, scratch.available_extensions(), scratch.has_icu()
    )
    _refuse_missing_languages(scratch, needs.objects or ())
    return notes


def refuse_lacks(
    major: int, needed_extensions: set[str], needs_icu: bool, available_extensions: set[str], has_icu: bool
) -> None:
    """Raise `ScratchLacks`, naming everything that is missing and how to get it."""
    missing = sorted(needed_extensions - available_extensions)
    if missing:
        packages = " ".join(package_of(name, major) for name in missing)
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


def open_up(scratch: Scratch, prepared: PreparedScratch) -> None:
    """Let every stand-in use what has been restored so far, whoever's it is.

    On the source superusers and memberships may see to that; here it is a matter of the scratch server only.
    """
    with scratch.connect(prepared.dbname) as session:
        for query in (_SCHEMAS_TO_OPEN, _FUNCTIONS_TO_OPEN, _TABLES_TO_OPEN):
            for (statement,) in session.execute(query, [scratch.insiders, scratch.insiders]).fetchall():
                session.execute(statement)


def _refuse_reach(scratch: Scratch, reaching: Collection[str]) -> list[str]:
    """Raise `ScratchLacks` if restored code could use a network that this scratch server is not cut off from.

    Args:
        reaching: What of the dump could.

    Returns:
        A note, if it has a network and nothing can use it.
    """
    if scratch.is_off_network:
        return []
    if reaching:
        raise ScratchLacks(
            "restored code cannot be kept off the network here, and the dump holds what can use it: "
            + ", ".join(reaching),
            "verify where user namespaces are allowed (or as root), or with a scratch server in a container",
        )
    return ["restored code is not kept off the network here, but nothing in the dump can use it"]


def _refuse_missing_languages(scratch: Scratch, objects: Iterable[CatalogObject]) -> None:
    """Raise `ScratchLacks` for languages that older servers created without an extension."""
    foreign = (item for item in objects if item.kind == "language" and not _brings_its_handler(item))
    needed = {item.name[-1] for item in foreign}
    if needed and (missing := needed - scratch.languages() - scratch.available_extensions()):
        raise ScratchLacks(
            f"the scratch server of PostgreSQL {scratch.major} has no language {', '.join(sorted(missing))}",
            f"install it on its host, for example: apt-get install postgresql-plpython3-{scratch.major}",
        )


def _refuse_own_validators(objects: Iterable[CatalogObject]) -> None:
    """Raise `ScratchLacks` if to define things as a superuser would run the dump's own code as one."""
    if checked := own_validators(objects):
        raise ScratchLacks(
            f"a function of the database's own checks {', '.join(checked)}, and would run as a superuser",
            "it cannot be proved by a restore; on the source, take the function away (NO VALIDATOR)"
            " or let an extension bring it",
        )


def _brings_its_handler(language: CatalogObject) -> bool:
    """Tell whether the dump itself creates the function, which lies outside of pg_catalog then."""
    return "." in language.properties.get("handler", "")


def _own_locale(properties: DatabaseProperties) -> ProviderLocale | None:
    provider = properties.locale_provider
    if properties.locale is None or (provider != "i" and provider != "b"):
        return None
    return ProviderLocale(provider, properties.locale, properties.icu_rules)


def _used_collations(objects: Iterable[CatalogObject]) -> set[str]:
    return {item.properties["collation"] for item in objects if "collation" in item.properties}


def _own_collations(objects: Iterable[CatalogObject]) -> list[OwnCollation]:
    return [
        OwnCollation(
            ".".join(item.name),
            item.properties.get("provider", ""),
            item.properties.get("locale", ""),
            item.properties.get("collate", ""),
            item.properties.get("ctype", ""),
        )
        for item in objects
        if item.kind == "collation"
    ]
