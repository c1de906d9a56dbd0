"""How a new GPG key pair is made: the public half for backing up, the secret half for a safe place."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from blocks.errors import ConfigurationError, EncryptionError
from blocks.gpg_listing import list_secret_keys
from blocks.gpg_program import agent_ended, run_gpg, secret_pipe, throwaway_homedir
from blocks.process import failure_text

NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}"


@dataclass(frozen=True)
class KeyPair:
    """A new key pair's files."""

    public_file: Path
    secret_file: Path
    fingerprint: str


def new_key_pair(name: str, directory: Path, passphrase: str | None) -> KeyPair:
    """Make a key pair and write NAME.public.asc (0644) and NAME.secret.asc (0600); overwrite nothing.

    It never expires: an expired key stops backups while its secret half reads the old ones all the same,
    so an expiry protects nothing here and fails some night unattended.
    """
    if not re.fullmatch(NAME_PATTERN, name):
        raise ConfigurationError(f"not a key's name: {name!r}", "use letters, digits, dots and dashes")
    public_file, secret_file = directory / f"{name}.public.asc", directory / f"{name}.secret.asc"
    for file in (public_file, secret_file):
        if file.exists():
            raise ConfigurationError(
                f"{file} already exists", "choose another name: what a lost secret key should open stays shut"
            )
    with throwaway_homedir() as homedir, agent_ended(homedir):
        # future-default: ed25519 to sign and cv25519 to encrypt, what newer releases make by default.
        _with_passphrase(
            homedir, passphrase, "--quick-generate-key", name, "future-default", "default", "never"
        )
        (key,) = list_secret_keys(homedir)
        public = run_gpg(homedir, "--armor", "--export").stdout
        secret = _with_passphrase(homedir, passphrase, "--armor", "--export-secret-keys")
    directory.mkdir(parents=True, exist_ok=True)
    _write_new(secret_file, secret, 0o600)
    _write_new(public_file, public, 0o644)
    return KeyPair(public_file, secret_file, key.fingerprint)


def _with_passphrase(homedir: Path, passphrase: str | None, *arguments: str) -> bytes:
    with secret_pipe(passphrase or "") as descriptor:
        options = ("--pinentry-mode", "loopback", "--passphrase-fd", str(descriptor))
        completed = run_gpg(homedir, *options, *arguments, pass_fds=(descriptor,))
    if completed.status != 0:
        raise EncryptionError(failure_text("gpg", completed.status, completed.stderr_lines))
    return completed.stdout


def _write_new(path: Path, body: bytes, mode: int) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        os.fchmod(file.fileno(), mode)
        file.write(body)
        file.flush()
        os.fsync(file.fileno())
