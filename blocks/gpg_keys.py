"""GPG keys: whom a stream is encrypted for, and where the secret key lies.

Doubtful keys are refused here beforehand and by name: gpg itself would use a file's first key only, and
says no more than "Unusable public key" of one that is expired, revoked or made for signing only.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from prefect.blocks.core import Block
from pydantic import ConfigDict, Field, HttpUrl, SecretStr, field_validator, model_validator

from blocks.errors import ConfigurationError, KeyUnusable, ProgramMissing
from blocks.gpg_listing import list_keys, list_secret_keys, only_usable
from blocks.gpg_program import (
    INSTALL_HINT,
    LONGEST_HOMEDIR,
    PreparedRecipients,
    UnlockedKey,
    agent_ended,
    run_gpg,
    throwaway_homedir,
)
from blocks.references import SCHEMES, is_reference, resolve

EXPIRY_WARNING = timedelta(days=30)
_DOCUMENTATION = HttpUrl("https://www.gnupg.org/documentation/manuals/gnupg/")
_FINGERPRINT = re.compile(r"(0x)?[0-9A-F]{40}", re.IGNORECASE)
_ADDRESS = re.compile(r"[^\s<>/]+@[^\s<>/]+")


class GpgRecipients(Block):
    """
    Public keys for which streams are encrypted; whoever holds one of their secret keys can decrypt.

    Attributes:
        public_keys: Each a public key's file, its armoured text, or a fingerprint or e-mail in `keyring`.
        keyring: Where fingerprints and e-mails are looked up.
        base_directory: Where relative paths start.

    Example:
        Load the recipients and see who they are:
        ```python
        from blocks.gpg_keys import GpgRecipients

        recipients = GpgRecipients.load("BLOCK_NAME")
        with recipients.prepare() as prepared:
            print(prepared.fingerprints)
        ```
    """

    _block_type_name = "GPG Recipients"
    _block_type_slug = "gpg-recipients"
    _documentation_url = _DOCUMENTATION

    model_config = ConfigDict(hide_input_in_errors=True)

    public_keys: list[str] = Field(
        min_length=1,
        description="Public keys: file paths, armoured texts, or fingerprints and e-mails in the keyring.",
    )
    keyring: str = Field(
        "",
        description="GnuPG home directory or keyring file in which fingerprints and e-mails are looked up.",
    )
    base_directory: str = Field("", description="Directory from which relative paths start.")

    @field_validator("public_keys")
    @classmethod
    def _holds_no_secret(cls, keys: list[str]) -> list[str]:
        # Not a ValueError: pydantic would carry the text of the key along in it.
        if any("BEGIN PGP PRIVATE" in key for key in keys):
            raise ConfigurationError(
                "public_keys: the text of a secret key was given, where it would be stored in the clear",
                "export the public key: gpg --armor --export FINGERPRINT",
            )
        if not all(key.strip() for key in keys):
            raise ConfigurationError("public_keys: an entry is empty")
        return keys

    @contextmanager
    def prepare(self, now: datetime | None = None) -> Iterator[PreparedRecipients]:
        """Inspect every key and lay it ready for gpg in a throw-away homedir.

        The bytes that are inspected are those that are used, whatever happens to the file meanwhile.

        Args:
            now: UTC-aware; what "expires soon" is counted from.

        Raises:
            KeyUnusable: A key is missing, unreadable, secret, expired, revoked or cannot encrypt; or a file
                holds several, of which gpg would use the first only.
        """
        now = now or datetime.now(UTC)
        with throwaway_homedir() as homedir:
            keys: dict[str, Path] = {}
            warnings = []
            for number, entry in enumerate(self.public_keys, start=1):
                source, body = self._public_key(entry, number, homedir)
                key = only_usable(source, list_keys(body, homedir))
                if key.expires_at - now <= EXPIRY_WARNING:
                    warnings.append(f"the key of {key} from {source} expires on {key.expires_at:%Y-%m-%d}")
                file = homedir / f"recipient-{number}.key"
                file.write_bytes(body)
                keys.setdefault(key.fingerprint, file)
            yield PreparedRecipients(homedir, tuple(keys.values()), tuple(keys), tuple(warnings))

    def _public_key(self, entry: str, number: int, homedir: Path) -> tuple[str, bytes]:
        """Return (where a key comes from, for messages; its bytes)."""
        if "-----BEGIN PGP" in entry:
            return f"the armoured text no. {number}", entry.encode()
        path = self._path(entry)
        digits = entry.replace(" ", "")
        if _FINGERPRINT.fullmatch(digits) and not path.exists():
            return self._exported(entry, digits, homedir)
        if _ADDRESS.fullmatch(entry) and not path.exists():
            return self._exported(entry, f"<{entry}>", homedir)
        return str(path), _read(
            path, "give a public key's file, its text, a whole fingerprint or an e-mail address"
        )

    def _exported(self, entry: str, selector: str, homedir: Path) -> tuple[str, bytes]:
        if not self.keyring:
            raise KeyUnusable(
                f"no keyring is set to look for the key {entry}",
                "set `keyring` to a GnuPG home directory or keyring file, or name the key's file",
            )
        path = self._path(self.keyring)
        ring = next((file for file in (path / "pubring.kbx", path / "pubring.gpg") if file.exists()), path)
        if not ring.is_file():
            raise KeyUnusable(f"there is no keyring {ring}", "export the key into a file, and name that file")
        source = f"{entry} in {path}"
        # The keyring is read from our homedir, so that nothing is written beside it.
        body = run_gpg(homedir, "--no-default-keyring", "--keyring", str(ring), "--export", selector).stdout
        if not body:
            raise KeyUnusable(f"there is no key {source}", f"see what is: gpg --keyring {ring} --list-keys")
        return source, body

    def _path(self, entry: str) -> Path:
        return (Path(self.base_directory) / Path(entry).expanduser()).absolute()


class GpgSecretKey(Block):
    """
    Where a secret key lies that decrypts streams; never the key itself.

    Attributes:
        key_file: Path of an exported secret key.
        homedir: A GnuPG home directory that holds it.
        aws_secret: Name of a secret in AWS Secrets Manager that holds its armoured text.
        passphrase: A reference to what opens it.

    Example:
        Load the place of a key and unlock it:
        ```python
        from blocks.gpg_keys import GpgSecretKey

        secret_key = GpgSecretKey.load("BLOCK_NAME")
        with secret_key.unlock() as key:
            print(key.fingerprints)
        ```
    """

    _block_type_name = "GPG Secret Key"
    _block_type_slug = "gpg-secret-key"
    _documentation_url = _DOCUMENTATION

    model_config = ConfigDict(hide_input_in_errors=True)

    key_file: str = Field("", description="Path of a file with the exported secret key.")
    homedir: str = Field(
        "", description="GnuPG home directory that holds the secret key and is used in place."
    )
    aws_secret: str = Field(
        "", description="Name of a secret in AWS Secrets Manager: the key's armoured text."
    )
    passphrase: SecretStr = Field(
        SecretStr(""), description="Where the key's passphrase lies: env:NAME, file:PATH or aws-secret:NAME."
    )

    @model_validator(mode="before")
    @classmethod
    def _holds_no_secret(cls, values: Any) -> Any:
        # Not a ValueError: pydantic would carry the text of the key along in it.
        for name, value in values.items() if isinstance(values, dict) else ():
            text = value.get_secret_value() if isinstance(value, SecretStr) else value
            if isinstance(text, str) and "BEGIN PGP" in text:
                raise ConfigurationError(
                    f"{name}: a key's text was given; a block is stored where every flow can read it",
                    "keep the key in a file or in AWS Secrets Manager, and say where that is",
                )
        return values

    @model_validator(mode="after")
    def _lies_in_one_place(self) -> "GpgSecretKey":
        if sum(bool(place) for place in (self.key_file, self.homedir, self.aws_secret)) != 1:
            raise ConfigurationError("a secret key needs exactly one of key_file, homedir and aws_secret")
        passphrase = self.passphrase.get_secret_value()
        if passphrase and not is_reference(passphrase):
            raise ConfigurationError(
                "passphrase: a passphrase itself was given, where it would be stored with the key's place",
                f"say where it lies: one of {', '.join(SCHEMES)} and a name",
            )
        return self

    @contextmanager
    def unlock(self) -> Iterator[UnlockedKey]:
        """Yield the key ready for decrypting; afterwards its agent is ended and its throw-away homedir gone.

        A wrong passphrase shows when something is decrypted.

        Raises:
            KeyUnusable: There is no secret key in that place, or it cannot be read.
            ProgramMissing: There is no gpg, or none that has an agent.
            ConfigurationError: The passphrase or the AWS secret cannot be looked up.
        """
        passphrase = resolve(self.passphrase)
        with self._home() as (homedir, place), agent_ended(homedir):
            if not self.homedir:
                _import(homedir, self._material(), place)
            if not (held := tuple(key.fingerprint for key in list_secret_keys(homedir))):
                raise KeyUnusable(
                    f"there is no secret key in {place}",
                    "export it: gpg --armor --export-secret-keys FINGERPRINT",
                )
            yield UnlockedKey(homedir, held, passphrase)

    @contextmanager
    def _home(self) -> Iterator[tuple[Path, str]]:
        if not self.homedir:
            with throwaway_homedir() as homedir:
                yield homedir, self.key_file or f"the AWS secret {self.aws_secret}"
            return
        homedir = Path(self.homedir).expanduser().absolute()
        if not homedir.is_dir():
            raise KeyUnusable(f"there is no GnuPG home directory {homedir}")
        if len(str(homedir)) > LONGEST_HOMEDIR:
            raise ConfigurationError(
                f"the path of the GnuPG home directory is too long for its agent: {homedir}"
            )
        yield homedir, str(homedir)

    def _material(self) -> bytes:
        if self.aws_secret:
            return resolve(f"aws-secret:{self.aws_secret}").encode()
        return _read(Path(self.key_file).expanduser(), "check the path, and that this user may read it")


def _read(path: Path, hint: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise KeyUnusable(f"cannot read the key {path}: {error.strerror}", hint) from error


def _import(homedir: Path, material: bytes, place: str) -> None:
    """Import what `material` holds; whether that is a secret key shows in the listing afterwards."""
    said = run_gpg(homedir, "--import", stdin=material).stderr_lines
    if without_agent := next((line for line in said if "agent" in line), ""):
        # Debian's package gpg comes without it, gnupg has it.
        raise ProgramMissing(f"gpg has no agent to hold the key in {place}: {without_agent}", INSTALL_HINT)
