"""What rsync is told, and what it says of files: pure.

Names of objects go through `--files-from`, where rsync takes every byte as it is: as arguments they would
be matched against wildcards. They come as `./NAME`, since a line that begins with `#` or `;` is skipped, and
begin with the store's prefix, for rsync makes the last directory of an address, and not those above it.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal
from urllib.parse import unquote, urlsplit

ANY_ADDRESS = "rsync://[USER@]HOST[:PORT]/MODULE[/FOLDER] or ssh://[USER@]HOST[:PORT]/DIRECTORY"
MODES = "--chmod=F640,D750"

# how rsync names a file that is not complete: what mkstemp makes of .NAME.XXXXXX
_PART = re.compile(r"\.(?P<name>.+)\.[A-Za-z0-9]{6}")
_LINE = re.compile(
    rb"(?P<kind>.)\S{9}\S* +(?P<size>\d+) (?P<time>\d{4}/\d\d/\d\d \d\d:\d\d:\d\d) (?P<name>.+)"
)
_ESCAPED = re.compile(rb"\\#([0-7]{3})")
_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(%\w+)?")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]*")


@dataclass(frozen=True)
class Address:
    """Where a store lies: `path` is the module, or the directory for ssh.

    Args:
        folder: In the module. It is never part of what rsync is told: a daemon of rsync 3.5 that does not
            change its root finds the names of `--files-from` only below the module itself.
    """

    scheme: Literal["rsync", "ssh"]
    user: str
    host: str
    port: int | None
    path: str
    folder: str = ""

    @property
    def remote(self) -> str:
        """As rsync wants it, with the slash that means what is in the directory."""
        user = f"{self.user}@" if self.user else ""
        host = f"[{self.host}]" if ":" in self.host else self.host
        if self.scheme == "ssh":
            return f"{user}{host}:{self.path.removeprefix('/~/')}/"
        return f"rsync://{user}{host}{f':{self.port}' if self.port else ''}{self.path}/"

    @property
    def above(self) -> "Address | None":
        """The directory above, None where it is a module's, the root or where a login ends."""
        above, _, _ = self.path.rpartition("/")
        return replace(self, path=above) if self.scheme == "ssh" and above not in ("", "/~") else None


@dataclass(frozen=True)
class Listed:
    """A regular file as `--list-only` tells it."""

    name: str
    size_bytes: int
    modified_at: datetime


def parse_address(text: str) -> Address:
    """Return an address; raise `ValueError` if it is none, or holds a password."""
    parts = urlsplit(text)
    host, path = parts.hostname or "", unquote(parts.path).rstrip("/")
    if parts.password is not None:
        raise ValueError("must hold no password: set password to where it lies")
    if not _HOST.fullmatch(host) or len(path) < 2 or parts.query or parts.fragment:
        raise ValueError(f"must be {ANY_ADDRESS}")
    if {"", ".", ".."} & set(path[1:].split("/")) or "\n" in path:
        raise ValueError("must have no empty or dot segments")
    if parts.username and not _USER.fullmatch(parts.username):
        raise ValueError("has a user's name that cannot be one")
    if parts.scheme == "ssh":
        if set(path) & set("*?[]\\"):
            raise ValueError("must have no wildcards: rsync matches them on the server")
        return Address("ssh", parts.username or "", host, parts.port, path)
    if parts.scheme == "rsync":
        module, _, folder = path[1:].partition("/")
        return Address("rsync", parts.username or "", host, parts.port, f"/{module}", folder)
    raise ValueError(f"must be {ANY_ADDRESS}")


def ssh_command(port: int | None, key_file: str, known_hosts_file: str, timeout_seconds: int) -> str:
    """Return what rsync starts to reach a server: it asks nothing and trusts only keys that are known."""
    options = {
        "BatchMode": "yes",
        "StrictHostKeyChecking": "yes",
        "UpdateHostKeys": "no",
        "ConnectTimeout": str(timeout_seconds),
        "ServerAliveInterval": str(timeout_seconds),
        "ServerAliveCountMax": "1",
        "ClearAllForwardings": "yes",
    }
    if known_hosts_file:
        options |= {"UserKnownHostsFile": f'"{known_hosts_file}"', "GlobalKnownHostsFile": "none"}
    if key_file:
        options |= {"IdentityFile": f'"{key_file}"', "IdentitiesOnly": "yes"}
    words = ["ssh", *(("-p", str(port)) if port else ())]
    for name, value in options.items():
        words += ["-o", f"{name}={value}" if " " not in value and '"' not in value else f"'{name}={value}'"]
    return " ".join(words)


@dataclass(frozen=True)
class Line:
    """The way to a server: what every call of rsync has."""

    address: Address
    remote_shell: str = ""
    timeout_seconds: int = 30
    max_bytes_per_second: int | None = None

    def listing(self, empty: str, *, recursive: bool) -> tuple[str, ...]:
        deep = ("--recursive",) if recursive else ()
        return (*self._call, *deep, "--list-only", "--no-human-readable", self.address.remote, empty)

    def fetching(self, directory: str) -> tuple[str, ...]:
        return (*self._call, self.address.remote, f"{directory}/")

    def sending(self, directory: str) -> tuple[str, ...]:
        # a file of the same size and second would be taken for the same
        return (*self._call, "--ignore-times", "--whole-file", MODES, f"{directory}/", self.address.remote)

    def creating(self, directory: str) -> tuple[str, ...]:
        """Send, and print what was sent: nothing that is there already."""
        told = ("--ignore-existing", "--out-format=%n")
        return (*self._call, *told, "--whole-file", MODES, f"{directory}/", self.address.remote)

    def deleting(self, directory: str) -> tuple[str, ...]:
        """Delete what is named and not in `directory`, which holds the directories above it."""
        return (*self._call, "--existing", "--delete-missing-args", f"{directory}/", self.address.remote)

    @property
    def _call(self) -> tuple[str, ...]:
        call: tuple[str, ...] = ("rsync", "-s", "--from0", "--files-from=-")
        call = (*call, f"--timeout={self.timeout_seconds}")
        if self.max_bytes_per_second:
            call = (*call, f"--bwlimit={self.max_bytes_per_second >> 10}")  # in KiB
        if self.address.scheme == "ssh":
            return (*call, f"--rsh={self.remote_shell}")
        # both ends send small pieces and wait for the answer
        return (*call, f"--contimeout={self.timeout_seconds}", "--sockopts=TCP_NODELAY")


def parse_listing(output: bytes) -> Iterator[Listed]:
    """Yield the regular files of a listing that was made in UTC; bytes that are not UTF-8 are surrogates."""
    for line in output.split(b"\n"):
        match = _LINE.fullmatch(line)
        if match and match["kind"] == b"-":
            name = _ESCAPED.sub(lambda escaped: bytes([int(escaped[1], 8) & 0xFF]), match["name"])
            told_at = datetime.strptime(match["time"].decode(), "%Y/%m/%d %H:%M:%S").replace(tzinfo=UTC)
            yield Listed(name.decode(errors="surrogateescape"), int(match["size"]), told_at)


def meant_name(name: str) -> str | None:
    """Return the name that rsync's temporary file was to get, or None if `name` is not such a file's."""
    part = _PART.fullmatch(name)
    return part["name"] if part else None
