"""What in a dump could reach beyond its database while it is restored: over a network, or into the host.

SQL and PL/pgSQL by themselves cannot, whoever wrote them. It takes an extension, a language or a foreign
server. Those not known to be harmless count as able to.
"""

from collections.abc import Collection, Iterable

from flows.core.facts import CatalogObject

FILE_WRAPPER = "file_fdw"

_CONTRIB = """
    amcheck autoinc bloom btree_gin btree_gist citext cube dict_int dict_xsyn earthdistance fuzzystrmatch
    hstore insert_username intagg intarray isn lo ltree moddatetime old_snapshot pageinspect pg_buffercache
    pg_freespacemap pg_logicalinspect pg_overexplain pg_prewarm pg_stat_statements pg_surgery pg_trgm
    pg_visibility pg_walinspect pgcrypto pgrowlocks pgstattuple refint seg sslinfo tablefunc tcn
    tsm_system_rows tsm_system_time unaccent uuid-ossp xml2
    bool_plperl hstore_plperl jsonb_plperl plperl plpgsql pltcl
"""
_WELL_KNOWN = """
    address_standardizer h3 hll hypopg ip4r pg_hint_plan pg_partman pgaudit pgtap plv8 postgis
    postgis_sfcgal postgis_tiger_geocoder postgis_topology prefix rum semver unit vector
"""
HARMLESS_EXTENSIONS = frozenset((_CONTRIB + _WELL_KNOWN).split())
HARMLESS_LANGUAGES = frozenset(("internal", "plperl", "plpgsql", "pltcl", "plv8", "sql"))


def reaches_out(installed: Iterable[str], listed: Collection[CatalogObject] | None) -> list[str]:
    """Return what of a database could reach out when it is restored, for a person; nothing if it is empty.

    Args:
        installed: The extensions' names, which alone must tell if the objects are not listed.
    """
    objects = listed or ()
    extensions = set(installed) - HARMLESS_EXTENSIONS
    if listed is not None and not _runs_programs(listed):
        extensions.discard(FILE_WRAPPER)
    languages = {item.name[-1] for item in objects if item.kind.endswith("language")}
    languages |= {item.properties["language"] for item in objects if "language" in item.properties}
    servers = [item for item in objects if _is_remote_server(item)]
    wrappers = [item for item in objects if item.kind == "foreign data wrapper"]
    return [
        *(f"the extension {name}" for name in sorted(extensions)),
        *(f"the language {name}" for name in sorted(languages - HARMLESS_LANGUAGES)),
        *([f"{len(wrappers)} foreign data wrappers"] if wrappers else []),
        *([f"{len(servers)} foreign servers"] if servers else []),
    ]


def _runs_programs(objects: Iterable[CatalogObject]) -> bool:
    """Tell whether a foreign table may read what a program prints instead of a file."""
    tables = (item for item in objects if item.kind == "foreign table")
    return any("program" in value for item in tables for value in item.properties.values())


def _is_remote_server(item: CatalogObject) -> bool:
    return item.kind in ("server", "foreign server") and FILE_WRAPPER not in item.properties.values()
