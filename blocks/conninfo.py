"""A database's address as people write it, read into libpq's own parameters.

libpq's two forms (`key=value` and URL) are left to libpq. What object mappers add to a URL, a driver's
name and parameters of their own, is dropped with a notice. Nothing here says a conninfo back: it may hold
a password.
"""

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import Conninfo

from blocks.errors import ConfigurationError

_URL = re.compile(
    r"^(?P<scheme>postgres|postgresql)(?P<driver>\+\w+)?://(?P<rest>.*)$", re.DOTALL | re.IGNORECASE
)
_SECRET_KEYWORDS = ("sslpassword", "scram_client_key", "scram_server_key", "oauth_client_secret")
_KEYWORDS = frozenset(option.keyword.decode() for option in Conninfo.get_defaults())
_SSL_MODES = frozenset({"disable", "allow", "prefer", "require", "verify-ca", "verify-full"})
_MAPPERS_PARAMETER = re.compile(
    r"""
    schema | connection_limit | pool_timeout | socket_timeout | pgbouncer     # Prisma
    | statement_cache_size | sslaccept | sslidentity
    | pool_size | max_overflow | pool_recycle | pool_pre_ping                 # SQLAlchemy
    | command_timeout | prepared_statement_cache_size                         # asyncpg
    | pool | prepared_statements | advisory_locks | checkout_timeout          # Rails
    | reaping_frequency | idle_timeout | encoding
    | conn_max_age | conn_health_checks | disable_server_side_cursors         # Django
    | currentschema | preparethreshold                                        # JDBC
    """,
    re.VERBOSE,
)
_PORTS = re.compile(r"[0-9,]*")
_ENCODE = "percent-encode the characters @ : / ? # % of a user or password in a URL"
_UNUSABLE_IN_A_PASSFILE = re.compile(r"[\r\n\0]")


@dataclass(frozen=True)
class Target:
    """Where a session goes: libpq's parameters, and apart from them the password."""

    parameters: Mapping[str, str]
    password: str | None = field(default=None, repr=False)
    notices: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.password is not None and _UNUSABLE_IN_A_PASSFILE.search(self.password):
            raise ConfigurationError(
                "the database's password holds a line break, which PostgreSQL's programs cannot be given",
                "check for a second line in the file or variable, or choose another password",
            )


def read_conninfo(text: str) -> Target:
    """Return what a libpq conninfo or URL says.

    Raises:
        ConfigurationError: libpq would not understand it, or it holds the key of a client certificate.
    """
    url, notices = _without_mappers_additions(text.strip())
    try:
        parameters = {key: str(value) for key, value in conninfo_to_dict(url).items() if value is not None}
    except psycopg.Error as error:
        raise ConfigurationError(
            "the conninfo is neither key=value pairs nor a URL that libpq reads", _advice(url, error)
        ) from None
    # an unencoded @ or / in a URL's password makes its rest a host or port, which errors would then show
    ports, hosts = parameters.get("port", ""), parameters.get("host", "").split(",")
    if not _PORTS.fullmatch(ports) or any("@" in host[1:] for host in hosts):
        raise ConfigurationError("the conninfo has something else for a host or port", _ENCODE)
    for keyword in _SECRET_KEYWORDS:
        if keyword in parameters:
            raise ConfigurationError(
                f"the conninfo holds {keyword}, which PostgreSQL's programs would show in their arguments",
                "use a key file without a passphrase that only this user can read (sslkey), or a password",
            )
    password = parameters.pop("password", "") or None
    return Target(parameters, password, notices)


def passfile(password: str) -> bytes:
    """Return a libpq password file that gives `password` to whatever is asked for."""
    escaped = password.replace("\\", "\\\\").replace(":", "\\:")
    return f"*:*:*:*:{escaped}\n".encode()


def _without_mappers_additions(text: str) -> tuple[str, tuple[str, ...]]:
    if (match := _URL.match(text)) is None:
        return text, ()
    notices = []
    if match["driver"]:
        notices.append(f"the conninfo's driver {match['driver'].lower()} is ignored")
    login, at, address = _split_login(match["rest"])
    place, _, query = address.partition("?")
    kept, dropped = [], []
    for pair in filter(None, query.split("&")):
        keyword, equals, value = pair.partition("=")
        name = unquote(keyword).lower()
        if _MAPPERS_PARAMETER.fullmatch(name):
            dropped.append(name)
        elif name == "ssl" and value in _SSL_MODES:
            kept.append(f"sslmode={value}")
        elif name in _KEYWORDS or name == "ssl":
            kept.append(f"{name}{equals}{value}")
        else:
            raise ConfigurationError(f"the conninfo has an unknown parameter {name}", _nearest(name))
    if dropped:
        notices.append(
            f"the conninfo's parameters {', '.join(dropped)} belong to an object mapper and are ignored"
        )
    rebuilt = f"postgresql://{login}{at}{place}" + ("?" + "&".join(kept) if kept else "")
    return rebuilt, tuple(notices)


def _split_login(rest: str) -> tuple[str, str, str]:
    end = re.search(r"[@/]", rest)
    return rest.partition("@") if end and end.group() == "@" else ("", "", rest)


def _advice(text: str, error: psycopg.Error) -> str:
    if _URL.match(text):
        return _ENCODE
    if "invalid connection option" in str(error):
        written = re.findall(r"(\w+)\s*=", text)
        nearest = {_nearest(word) for word in written if word not in _KEYWORDS} - {""}
        return "; ".join(sorted(nearest)) or "see the parameter key words in libpq's manual"
    return "put values with spaces or quotes between single quotes, and write \\' and \\\\ inside them"


def _nearest(word: str) -> str:
    nearest = difflib.get_close_matches(word, _KEYWORDS, n=1, cutoff=0.7)
    return f"did you mean {nearest[0]}?" if nearest else ""
