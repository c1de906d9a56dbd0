"""What gpg's colon listing says of a key: whose it is, until when, and why it cannot encrypt."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from blocks.errors import KeyUnusable
from blocks.gpg_program import run_gpg

NEVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True)
class ListedKey:
    """A primary key with its subkeys.

    Args:
        fingerprint: The primary key's, upper-case hex.
        secret: The secret key itself, not only its public half.
        fault: Why it cannot encrypt, the end of a sentence; empty if it can.
        remedy: What to do about the fault.
        expires_at: UTC-aware; from then on it cannot encrypt.
    """

    fingerprint: str
    user_id: str
    secret: bool
    fault: str
    remedy: str
    expires_at: datetime

    def __str__(self) -> str:
        return f"{self.user_id} ({self.fingerprint})"


def list_keys(body: bytes, homedir: Path) -> list[ListedKey]:
    """Return the keys of an exported file, armoured or binary; none if it is not one."""
    return parse(run_gpg(homedir, "--no-autostart", "--with-colons", "--show-keys", stdin=body).stdout)


def list_secret_keys(homedir: Path) -> list[ListedKey]:
    """Return the keys of a homedir whose secret half is there."""
    return parse(run_gpg(homedir, "--with-colons", "--list-secret-keys").stdout)


def parse(listing: bytes) -> list[ListedKey]:
    """Return the keys of a listing; a pub or sec record begins one (GnuPG's doc/DETAILS)."""
    keys: list[list[list[str]]] = []
    for line in listing.decode(errors="replace").splitlines():
        record = line.split(":")
        if record[0] in ("pub", "sec"):
            keys.append([])
        if keys:
            keys[-1].append(record)
    return [_key(records) for records in keys]


def only_usable(source: str, keys: list[ListedKey]) -> ListedKey:
    """Return the one key that `source` holds; raise `KeyUnusable` unless gpg will encrypt to it."""
    if not keys:
        raise KeyUnusable(f"{source} is no OpenPGP key", "export it: gpg --armor --export FINGERPRINT")
    first = keys[0]
    if any(key.secret for key in keys):
        raise KeyUnusable(
            f"{source} holds the secret key of {first}",
            f"it belongs elsewhere; export the public key instead: gpg --armor --export {first.fingerprint}",
        )
    if len(keys) > 1:
        names = ", ".join(str(key) for key in keys)
        raise KeyUnusable(
            f"{source} holds {len(keys)} keys, of which gpg would use only the first: {names}",
            "name one key an entry: a file of its own, or its fingerprint",
        )
    if first.fault:
        raise KeyUnusable(f"the key of {first} from {source} {first.fault}", first.remedy)
    return first


def _key(records: list[list[str]]) -> ListedKey:
    primary = records[0]
    fingerprint = next((record[9] for record in records if record[0] == "fpr"), "")
    user_id = next((record[9] for record in records if record[0] == "uid"), "a key without user id")
    # Lower-case letters are a key's own abilities, upper-case ones what still works of the whole.
    encrypting = [
        record for record in records if record[0] in ("pub", "sec", "sub", "ssb") and "e" in record[11]
    ]
    lasting = [_expiry(record) for record in encrypting if record[1] not in ("r", "e")]
    fault, remedy = _fault(primary, bool(encrypting), fingerprint)
    return ListedKey(
        fingerprint=fingerprint,
        user_id=re.sub(r"\\x([0-9a-f]{2})", lambda match: chr(int(match[1], 16)), user_id),
        secret=primary[0] == "sec",
        fault=fault,
        remedy=remedy,
        expires_at=min(_expiry(primary), max(lasting, default=NEVER)),
    )


def _fault(primary: list[str], was_encrypting: bool, fingerprint: str) -> tuple[str, str]:
    if primary[1] == "r":
        return "is revoked", "name another key; the revoked secret key still opens what was encrypted for it"
    if primary[1] == "e":
        remedy = (
            f"extend it with gpg --quick-set-expire {fingerprint} 2y and export it again, or name another key"
        )
        return f"expired on {_expiry(primary):%Y-%m-%d}", remedy
    if "E" in primary[11]:
        return "", ""
    remedy = f"add one with gpg --quick-add-key {fingerprint} cv25519 encr never and export the key again"
    if was_encrypting:
        return "has no encryption key that is still valid", remedy
    return "can only sign: it has no encryption key", remedy


def _expiry(record: list[str]) -> datetime:
    return datetime.fromtimestamp(int(record[6]), UTC) if record[6] else NEVER
