"""Libraries that a server must load as it starts, because their extensions refuse to be created otherwise.

They would also begin work of their own in the background, on restored data: jobs, requests, telemetry. So
the server that loads them starts no background worker at all.
"""

from collections.abc import Collection, Iterable

# Each library bears its extension's name. Not here are those that only show less without, as
# pg_stat_statements does.
_REFUSING = frozenset(
    (
        "citus", "pg_cron", "pg_net", "pg_qualstats", "pg_search", "pg_squeeze", "pg_stat_kcache", "pgaudit",
        "pglogical", "timescaledb", "vchord",
    )
)  # fmt: skip
_PACKAGES = {
    "pg_cron": "postgresql-{major}-cron",
    "timescaledb": "timescaledb-2-postgresql-{major}",
}


def refusing(extensions: Iterable[str]) -> list[str]:
    """Return those of the extensions that must be preloaded, in an order that suits them."""
    return sorted(_REFUSING.intersection(extensions))


def preload_settings(libraries: Collection[str], dbname: str) -> dict[str, str]:
    """Return the server's settings that load the libraries and let none of them act by itself.

    Args:
        dbname: The database that is restored into: pg_cron can be created in the one that it is told.
    """
    if not libraries:
        return {}
    settings = {"shared_preload_libraries": ",".join(libraries), "max_worker_processes": "0"}
    return settings | ({"cron.database_name": dbname} if "pg_cron" in libraries else {})


def package_of(extension: str, major: int) -> str:
    """Return the package that brings an extension, as Debian and PostgreSQL's own archive mostly call it."""
    usual = f"postgresql-{major}-{extension.replace('_', '-')}"
    return _PACKAGES.get(extension, usual).format(major=major)
