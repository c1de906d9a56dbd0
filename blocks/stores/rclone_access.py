"""How the `rclone` program is called: where it lies, what it is told, and which way its secrets go.

argv holds names and limits only. A configuration that is given by reference travels in an anonymous
memory file, its password and a remote that is made of variables in the environment.
"""

import configparser
import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import SecretStr

from blocks.errors import ProgramMissing
from blocks.process import Command, secret_file
from blocks.references import remember, resolve
from blocks.stores.authorities import authorities_file
from blocks.stores.hosts import is_this_host

CONNECT_SECONDS = 10.0
TRIES = 2

_CONFIG = "RCLONE_CONFIG_"
# of rclone itself, of the libraries inside it that look for credentials, and of the way to the network
_PASSED_ON = ("RCLONE_CONFIG", "XDG_CONFIG_HOME", "SSL_CERT_DIR", "SSH_AUTH_SOCK",
              "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")  # fmt: skip
_PASSED_ON_FAMILIES = (_CONFIG, "AWS_", "AZURE_", "GOOGLE_", "CLOUDSDK_", "OS_", "B2_")
_SECRET_OPTION = re.compile("pass|secret|token|key|credential|auth|cookie|sas", re.IGNORECASE)
# a signature is in the query of a `sas_url`
_HARMLESS_OPTION = re.compile("(_auth|_file|(?<!sas)_url)$", re.IGNORECASE)
_PLACES = ("url", "host", "endpoint")


@dataclass(frozen=True)
class Rclone:
    """The program, and what each of its calls has in common."""

    program: str
    config_path: str
    environment: Mapping[str, str] = field(repr=False)
    pass_fds: tuple[int, ...] = ()

    def call(self, verb: str, *arguments: str, silence_seconds: float) -> Command:
        """Return a call that gives up when the remote is silent for so long; 0 is never."""
        argv = (self.program, *options(self.config_path, silence_seconds), verb, *arguments)
        return Command(argv, self.environment, self.pass_fds)


def options(config_path: str, silence_seconds: float) -> tuple[str, ...]:
    """Return what every call is told.

    `--timeout` is 0 where a stream waits for us: rclone counts our silence as the remote's.
    """
    connect_seconds = min(CONNECT_SECONDS, silence_seconds or CONNECT_SECONDS)
    return (
        *(("--config", config_path) if config_path else ()),
        "--ask-password=false",
        "--use-json-log",
        "--use-server-modtime",
        *("--retries", "1", "--low-level-retries", str(TRIES)),
        *("--contimeout", f"{connect_seconds:g}s", "--timeout", f"{silence_seconds:g}s"),
    )


@contextmanager
def reaching(config_file: str, config: SecretStr, config_password: SecretStr) -> Iterator[Rclone]:
    """Yield the program with its configuration: a file, a text, or what rclone finds by itself."""
    program, environment = find_program(), passed_on()
    if password := resolve(config_password):
        environment |= {f"{_CONFIG}PASS": password}
    if path := authorities_file():
        environment |= {"SSL_CERT_FILE": path}
    if not (text := resolve(config)):
        yield Rclone(program, str(Path(config_file).expanduser()) if config_file else "", environment)
        return
    _remember_secrets(_sections(text))
    with secret_file(text.encode()) as (path, pass_fds):
        yield Rclone(program, path, environment, pass_fds)


def find_program() -> str:
    """Return the path of `rclone`: on PATH, else beside the Python that runs, where its wheel puts it.

    Raises:
        ProgramMissing: It is in neither place.
    """
    beside_python = Path(sys.executable).parent / "rclone"
    found = shutil.which("rclone") or (str(beside_python) if beside_python.exists() else None)
    if found is None:
        raise ProgramMissing(
            "rclone is not on PATH", "apt-get install rclone, or: pip install 'pgsalvo[rclone]'"
        )
    return found


def passed_on() -> dict[str, str]:
    """Return the variables that reach rclone; its remotes may be made of them."""
    found = {
        name: value
        for name, value in os.environ.items()
        if name in _PASSED_ON or name.startswith(_PASSED_ON_FAMILIES)
    }
    _remember_secrets({"": found})
    return found


def is_on_this_host(remote: str, sections: Mapping[str, Mapping[str, str]]) -> bool:
    """Return whether a remote is a disk of this host, or a server on it, also inside of other remotes.

    Args:
        sections: Of `rclone config dump`: the options of each remote.
    """
    seen: set[str] = set()
    while remote not in seen:
        seen.add(remote)
        settings = dict(sections.get(remote, {})) | _settings_by_environment(remote)
        if settings.get("type") == "local":
            return True
        inner, colon, _ = settings.get("remote", "").partition(":")
        if inner and not colon:
            return True
        if not inner:
            return any(is_this_host(_host(settings[place])) for place in _PLACES if settings.get(place))
        remote = inner
    return False


def _settings_by_environment(remote: str) -> dict[str, str]:
    prefix = f"{_CONFIG}{remote.upper().replace('-', '_')}_"
    return {
        name.removeprefix(prefix).lower(): value
        for name, value in passed_on().items()
        if name.startswith(prefix)
    }


def _host(place: str) -> str:
    return urlsplit(place if "://" in place else f"//{place}").hostname or ""


def _sections(text: str) -> Mapping[str, Mapping[str, str]]:
    """Return what a configuration says; nothing if it is encrypted."""
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        parser.read_string(text)
    except configparser.Error:
        return {}
    return parser


def _remember_secrets(sections: Mapping[str, Mapping[str, str]]) -> None:
    for settings in sections.values():
        for name, value in settings.items():
            if _is_secret(name, value):
                remember(value)


def _is_secret(name: str, value: str) -> bool:
    if _HARMLESS_OPTION.search(name) or value.lower() in ("true", "false"):
        return False
    return bool(_SECRET_OPTION.search(name))
