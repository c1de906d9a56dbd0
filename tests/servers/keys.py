"""Throw-away key pairs for tests, each made at its first use and once a session."""

import atexit
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PASSPHRASE = "open-sesame-in-tests"
LONG_AGO = "20200101T000000"


@dataclass(frozen=True)
class SampleKey:
    """A key pair in files, and the homedir that holds both halves of it too."""

    address: str
    fingerprint: str
    public_file: Path
    secret_file: Path
    homedir: Path

    @property
    def public_text(self) -> str:
        return self.public_file.read_text()

    @property
    def secret_text(self) -> str:
        return self.secret_file.read_text()


@cache
def normal() -> SampleKey:
    return _make("normal")


@cache
def second() -> SampleKey:
    return _make("second")


@cache
def with_passphrase() -> SampleKey:
    return _make("passphrase", passphrase=PASSPHRASE)


@cache
def expired() -> SampleKey:
    return _make("expired", expires="30d", at=LONG_AGO)


@cache
def expiring() -> SampleKey:
    """Expires ten days from now."""
    return _make("expiring", expires="10d")


@cache
def sign_only() -> SampleKey:
    return _make("signer", algorithm="ed25519", usage="cert,sign")


@cache
def with_expired_subkey() -> SampleKey:
    """The primary key is valid for ever, its only encryption key expired."""
    key = _make("subkey", algorithm="ed25519", usage="cert,sign", at=LONG_AGO)
    _gpg(key.homedir, "--quick-add-key", key.fingerprint, "cv25519", "encr", "30d", at=LONG_AGO)
    return _exported(key.homedir, key.address)


@cache
def revoked() -> SampleKey:
    key = _make("revoked")
    certificate = key.homedir / "openpgp-revocs.d" / f"{key.fingerprint}.rev"
    # gpg puts a colon before the armour, so that nobody imports the file by mistake.
    _gpg(key.homedir, "--import", stdin=certificate.read_bytes().replace(b":-----BEGIN", b"-----BEGIN"))
    return _exported(key.homedir, key.address)


def encrypted_long_ago(plaintext: bytes, key: SampleKey) -> bytes:
    """Encrypt as one could while the expired key was still valid."""
    recipient = ("--trust-model", "always", "--recipient-file", str(key.public_file))
    return _gpg(key.homedir, *recipient, "--encrypt", stdin=plaintext, at=LONG_AGO)


def decrypted(message: bytes, key: SampleKey) -> bytes:
    """Decrypt as a person does; with the passphrase, which does no harm to a key that has none."""
    return _gpg(key.homedir, "--decrypt", passphrase=PASSPHRASE, stdin=message)


def never_encrypted(plaintext: bytes) -> bytes:
    """Return an OpenPGP message that only wraps its content."""
    return _gpg(normal().homedir, "--store", stdin=plaintext)


def _make(
    name: str,
    *,
    passphrase: str = "",
    expires: str = "never",
    algorithm: str = "future-default",
    usage: str = "default",
    at: str = "",
) -> SampleKey:
    homedir = _root() / name
    homedir.mkdir(mode=0o700)
    # The default makes the agent calibrate itself for seconds.
    (homedir / "gpg-agent.conf").write_text("s2k-count 65536\n")
    address = f"{name}@example.org"
    user_id = f"{name.title()} Key <{address}>"
    _gpg(homedir, "--quick-generate-key", user_id, algorithm, usage, expires, passphrase=passphrase, at=at)
    return _exported(homedir, address, passphrase)


def _exported(homedir: Path, address: str, passphrase: str = "") -> SampleKey:
    listing = _gpg(homedir, "--with-colons", "--list-keys").decode()
    fingerprint = next(line.split(":")[9] for line in listing.splitlines() if line.startswith("fpr"))
    key = SampleKey(address, fingerprint, homedir / "public.asc", homedir / "secret.asc", homedir)
    key.public_file.write_bytes(_gpg(homedir, "--armor", "--export"))
    key.secret_file.write_bytes(_gpg(homedir, "--armor", "--export-secret-keys", passphrase=passphrase))
    return key


def _gpg(homedir: Path, *arguments: str, passphrase: str = "", at: str = "", stdin: bytes = b"") -> bytes:
    clock = ("--faked-system-time", at) if at else ()
    return subprocess.run(
        ("gpg", "--homedir", homedir, "--batch", "--no-tty", *clock,
         "--pinentry-mode", "loopback", "--passphrase-file", _file_of(passphrase), *arguments),
        input=stdin, check=True, capture_output=True,
    ).stdout  # fmt: skip


@cache
def _file_of(passphrase: str) -> Path:
    """Return a file that holds it: tests look for it in the arguments of all processes."""
    descriptor, name = tempfile.mkstemp(dir=_root())
    with os.fdopen(descriptor, "w") as file:
        file.write(passphrase)
    return Path(name)


@cache
def _root() -> Path:
    """Return a directory that is removed at the session's end; agents end with their homedirs."""
    root = Path(tempfile.mkdtemp(prefix="pgsalvo-keys-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    return root
