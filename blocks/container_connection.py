"""How a program in a container reaches a database as it would be reached from this host.

What libpq would look up around a program, in variables and below ~/.postgresql, is looked up here and said in
the conninfo; files are mounted under their own names.
"""

from collections.abc import Mapping
from pathlib import Path

from psycopg.pq import Conninfo

from blocks.conninfo import passfile
from blocks.containers import Mount
from blocks.errors import ConfigurationError

_TLS_FILES = {
    "sslrootcert": "root.crt",
    "sslcrl": "root.crl",
    "sslcert": "postgresql.crt",
    "sslkey": "postgresql.key",
}


def explicit_parameters(
    given: Mapping[str, object], variables: Mapping[str, str], certificates: Path
) -> dict[str, str]:
    """Return all that libpq would use on this host, without a password.

    Args:
        given: The conninfo's parameters, which win.
        variables: Parameters by libpq's own variables.
        certificates: Where libpq looks for the files of TLS that are not given.

    Raises:
        ConfigurationError: They name a service, whose file lies on this host.
    """
    parameters = {**variables, **{key: str(value) for key, value in given.items() if value is not None}}
    for keyword, name in _TLS_FILES.items():
        if (certificates / name).exists():
            parameters.setdefault(keyword, str(certificates / name))
    for keyword in ("password", "passfile"):
        parameters.pop(keyword, None)
    if parameters.pop("service", ""):
        raise ConfigurationError(
            "a connection service cannot be used by pg_dump in a container",
            "write host, dbname and user instead of `service`",
        )
    for keyword in (*_TLS_FILES, "sslcrldir"):
        if _is_file(parameters.get(keyword, "")):
            parameters[keyword] = str(Path(parameters[keyword]).absolute())
    return parameters


def mounts_of(parameters: Mapping[str, str]) -> tuple[Mount, ...]:
    """Return what a container must see to reach a database: the files of TLS, a Unix socket's directory."""
    files = [parameters.get(keyword, "") for keyword in (*_TLS_FILES, "sslcrldir")]
    sockets = [host for host in parameters.get("host", "").split(",") if host.startswith("/")]
    return tuple(Mount(Path(name)) for name in dict.fromkeys([*filter(_is_file, files), *sockets]))


def libpq_variables() -> dict[str, str]:
    """Return the parameters that the environment sets for libpq, and the user that it would take."""
    options = [option for option in Conninfo.get_defaults() if option.val and option.dispchar != b"*"]
    return {
        option.keyword.decode(): option.val.decode()
        for option in options
        if option.val and (option.keyword == b"user" or (option.envvar and option.val != option.compiled))
    }


def password_file(environment: Mapping[str, str], given: Mapping[str, object]) -> bytes:
    """Return a password file of what libpq would use on this host."""
    if path := environment.get("PGPASSFILE"):
        return Path(path).read_bytes()
    defaults = {option.keyword: option.val for option in Conninfo.get_defaults() if option.val}
    if password := defaults.get(b"password"):
        return passfile(password.decode())
    named = given.get("passfile") or defaults.get(b"passfile", b"").decode()
    usual = Path(str(named)) if named else Path.home() / ".pgpass"
    return usual.read_bytes() if usual.is_file() else b""


def _is_file(value: str) -> bool:
    return value not in ("", "system")
