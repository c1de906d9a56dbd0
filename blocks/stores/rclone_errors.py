"""What rclone's exit statuses and words mean; each of its many backends has words of its own."""

import json
import re
from collections.abc import Iterable

from blocks.errors import (
    ConfigurationError,
    ObjectMissing,
    StoreError,
    StoreForbidden,
    StoreFull,
    StoreUnreachable,
    WorldError,
)
from blocks.references import redact
from blocks.stores.line_errors import line_error

NOTHING_MOVED = 9
MISSING = (3, 4)
TEMPORARY = 5
MOST_CHARACTERS = 240

_HINTS: dict[type[WorldError], str] = {
    StoreFull: "free some space there, raise the quota, or keep fewer backups",
    StoreForbidden: "see the remote's credentials and their rights: rclone lsd REMOTE:",
    StoreUnreachable: "see the remote's address, the network, and whether the server runs",
    ConfigurationError: "see: rclone listremotes; then remote, config_file, config and config_password",
}
# in this order: a server that is asked too often says "forbidden" and "quota" as well
_MEANINGS: tuple[tuple[type[WorldError], str], ...] = (
    (ConfigurationError, r"find section in config|config(uration)? (file|password)|decrypt|find type of fs"),
    (StoreUnreachable, r"rate ?limit|too many requests|\b429\b|slow ?down|\b423\b|locked"),
    (
        StoreFull,
        r"no space left|quota|\b507\b|insufficient (storage|space)|(disk|device|storage) (is )?full"
        r"|not enough (space|storage)|storage limit",
    ),
    (
        StoreForbidden,
        r"\b40[13]\b|\b530\b|unauthori[sz]ed|forbidden|(access|permission) ?denied|not permitted|read-only"
        r"|InvalidAccessKeyId|SignatureDoesNotMatch|unable to authenticate|authentication failed|log[io]n"
        r"|invalid_grant|invalid_client|token|credential|insufficient (permission|scope|authentication)",
    ),
    (
        StoreUnreachable,
        r"refused|reset by peer|broken pipe|time-?d? ?out|deadline exceeded|no such host|no route to host"
        r"|unreachable|\bEOF\b|closed network connection|connection (lost|closed)|couldn't connect"
        r"|server misbehaving|\b50[0234]\b|bad gateway|service unavailable|internal server error"
        r"|try again|temporar",
    ),
)
_MEANT = tuple((kind, re.compile(pattern, re.IGNORECASE)) for kind, pattern in _MEANINGS)

_FRAME = re.compile(r'^Failed to (create file system for "(?:[^"\\]|\\.)*"|\S+)( with \d+ errors)?: ')
_LAST = re.compile(r"^last error was: ")
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')
_ADDRESS = re.compile(r"\b([a-z][a-z0-9+.-]*)://[^\s\"'<>]*", re.IGNORECASE)
_LONG_TOKEN = re.compile(r"[\w+/=.~-]{40,}")


def store_error(status: int, lines: Iterable[str], what: str) -> WorldError:
    """Return our error for a call that failed, with rclone's last message, of which secrets are taken out."""
    messages = [message for line in lines if (message := _message(line))]
    said = scrubbed(messages[-1]) if messages else f"rclone ended with exit status {status}"
    text = f"{what}: {said}"
    if status in MISSING:
        return ObjectMissing(text)
    # names that it quotes may hold any word
    words = "\n".join(_QUOTED.sub("", _ADDRESS.sub("", message)) for message in messages)
    if found := line_error(words, what):
        return found
    for kind, pattern in _MEANT:
        if pattern.search(words):
            return kind(text, _HINTS[kind])
    if status == TEMPORARY:
        return StoreUnreachable(text, _HINTS[StoreUnreachable])
    return StoreError(text)


def silent(what: str, seconds: float) -> StoreUnreachable:
    """Return the error for a remote that was waited for in vain."""
    return StoreUnreachable(f"{what}: no answer within {seconds:g} s", _HINTS[StoreUnreachable])


def scrubbed(message: str) -> str:
    """Return one of rclone's messages without its frame, addresses' paths and whatever may be a secret."""
    message = _LAST.sub("", _FRAME.sub("", message))
    message = _LONG_TOKEN.sub("***", _ADDRESS.sub(r"\1://…", redact(message)))
    message = " ".join(message.split())
    return message if len(message) <= MOST_CHARACTERS else f"{message[:MOST_CHARACTERS]}…"


def _message(line: str) -> str:
    """Return what a line of the log says; the line itself if it is no log's."""
    try:
        entry = json.loads(line)
    except ValueError:
        return line.strip()
    if not isinstance(entry, dict) or entry.get("level") not in ("error", "critical", "fatal", "notice"):
        return ""
    message = str(entry.get("msg", ""))
    # a notice tells the end of a call, and much that is none
    return "" if entry["level"] == "notice" and not _FRAME.match(message) else message
