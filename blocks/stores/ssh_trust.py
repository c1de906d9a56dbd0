"""Which host key an SSH server may show: pure, and apart from whoever speaks SSH.

Source: sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT". A key that no line or pin names is never accepted.
"""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

SSH_PORT = 22
# by kind of key, the algorithms that it may sign with; the first that a server has is taken
ALGORITHMS = {
    "ssh-ed25519": ("ssh-ed25519",),
    "ecdsa-sha2-nistp256": ("ecdsa-sha2-nistp256",),
    "ecdsa-sha2-nistp384": ("ecdsa-sha2-nistp384",),
    "ecdsa-sha2-nistp521": ("ecdsa-sha2-nistp521",),
    "ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256"),
}
_FINGERPRINT = re.compile(r"SHA256:[A-Za-z0-9+/]{43}")


@dataclass(frozen=True)
class HostKey:
    """A public key, as a server shows it."""

    kind: str
    blob: bytes

    @property
    def fingerprint(self) -> str:
        digest = hashlib.sha256(self.blob).digest()
        return f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}"


@dataclass(frozen=True)
class Trust:
    """Accepts one of `keys`, or the key of `fingerprint`."""

    keys: frozenset[HostKey] = frozenset()
    fingerprint: str = ""

    def accepts(self, key: HostKey) -> bool:
        return key in self.keys or hmac.compare_digest(key.fingerprint, self.fingerprint)

    @property
    def offers(self) -> list[tuple[str, ...]]:
        """The algorithms to offer, one connection after the other: a fingerprint does not tell the kind."""
        if self.fingerprint:
            return list(ALGORITHMS.values())
        kinds = {key.kind for key in self.keys}
        known = tuple(name for kind in ALGORITHMS if kind in kinds for name in ALGORITHMS[kind])
        return [known] if known else []


def parse_pin(text: str) -> Trust:
    """Return the trust in one key: `SHA256:…` or a public key such as `ssh-ed25519 AAAA…`.

    Raises:
        ValueError: It is neither.
    """
    text = text.strip()
    if _FINGERPRINT.fullmatch(text.rstrip("=")):
        return Trust(fingerprint=text.rstrip("="))
    key = _parse_key(text.split())
    if key is None or key.kind not in ALGORITHMS:
        raise ValueError("must be SHA256:… as `ssh-keygen -lf` tells it, or a public key: ssh-ed25519 AAAA…")
    return Trust(frozenset({key}))


def parse_known_hosts(texts: Iterable[str], host: str, port: int) -> Trust:
    """Return the trust in the keys that known_hosts files name for a server, without the revoked ones.

    As ssh does, a port other than 22 is looked for as `[host]:port`, and under the plain name only if
    there is no such line. Certificates' authorities are passed over: they vouch for no plain key.
    """
    lines = [line for text in texts for line in _lines(text)]
    revoked = {key for marker, _, key in lines if marker == "@revoked"}
    plain = host.lower()
    names = [plain] if port == SSH_PORT else [f"[{plain}]:{port}", plain]
    for name in names:
        found = {key for marker, patterns, key in lines if not marker and _matches(name, patterns)}
        if found:
            return Trust(frozenset(key for key in found - revoked if key.kind in ALGORITHMS))
    return Trust()


def _lines(text: str) -> Iterator[tuple[str, str, HostKey]]:
    """Yield (marker, names, key) of each line that can be read."""
    for line in text.splitlines():
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        marker = words.pop(0) if words[0].startswith("@") else ""
        if key := _parse_key(words[1:]):
            yield marker, words[0], key


def _parse_key(words: list[str]) -> HostKey | None:
    """Return the key of `kind base64`, None if that is no key or one of another kind than it says."""
    if len(words) < 2:
        return None
    kind = words[0]
    try:
        blob = base64.b64decode(words[1], validate=True)
    except binascii.Error:
        return None
    said = len(kind).to_bytes(4, "big") + kind.encode()
    return HostKey(kind, blob) if blob.startswith(said) else None


def _matches(name: str, patterns: str) -> bool:
    if patterns.startswith("|1|"):
        return _matches_hash(name, patterns)
    wanted = False
    for pattern in patterns.lower().split(","):
        expression = re.escape(pattern.removeprefix("!")).replace(r"\*", ".*").replace(r"\?", ".")
        if re.fullmatch(expression, name):
            if pattern.startswith("!"):
                return False
            wanted = True
    return wanted


def _matches_hash(name: str, pattern: str) -> bool:
    try:
        salt, expected = (base64.b64decode(part, validate=True) for part in pattern.split("|")[2:])
    except ValueError:
        return False
    return hmac.compare_digest(hmac.digest(salt, name.encode(), "sha1"), expected)
