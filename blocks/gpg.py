"""Streams through the `gpg` program: encrypting to public keys, decrypting with a secret one.

gpg takes an early end of its input for the message's own end and exits 0. So its stdin is closed only
after the source ended normally, and a gpg whose source failed is killed before anything else happens.
On the way in no byte counts until gpg exited 0 and its status lines tell of a whole, unchanged message.
"""

import hashlib
import os
import re
import tempfile
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from blocks.errors import DecryptionFailed, EncryptionError, KeyUnusable, StreamAborted
from blocks.gpg_program import PreparedRecipients, UnlockedKey, secret_pipe, start_gpg
from blocks.process import TERMINATION_SECONDS, Process, program_failed
from blocks.spool import Chain, Sink

_STATUS_PREFIX = "[GNUPG:] "
_DECRYPTED = {"BEGIN_DECRYPTION", "DECRYPTION_OKAY", "GOODMDC"}
_NO_SECRET_WORKED = re.compile(r"ERROR pkdecrypt_failed (\d+)")
_ERROR_CODE_BITS = 0xFFFF
_BAD_PASSPHRASE = 11
_NO_PASSPHRASE = 177


@dataclass(frozen=True)
class EncryptedStream:
    """What was written to the sink; `sha256` is lower-case hex."""

    size_bytes: int
    sha256: str


def encrypt(
    source: Iterator[bytes], recipients: PreparedRecipients, sink: Sink, chain: Chain
) -> EncryptedStream:
    """Encrypt `source` into `sink` and commit it; return its size and hash.

    `source` is read in a thread of its own, `sink` is written in the caller's. Whatever fails, here or
    in another link of the chain: gpg is killed first, then the chain told, then the sink aborted.

    Raises:
        ProgramFailed: gpg was ended by a signal.
        EncryptionError: gpg refused.
        StreamAborted: Another link failed; the chain holds the cause.
    """
    digest, size_bytes = hashlib.sha256(), 0
    try:
        with (
            _status_file(recipients.homedir) as status_file,
            start_gpg(recipients.command(status_file.fileno())) as gpg,
            _Feeder(source, gpg) as feeder,
            chain.link(lambda _cause: gpg.kill()),
            _killed_on_error(gpg),
        ):
            for chunk in gpg.chunks():
                digest.update(chunk)
                size_bytes += len(chunk)
                sink.write(chunk)
            exit_status = gpg.wait()
            if feeder.failure is not None:
                raise feeder.failure
            if chain.first_cause is not None:
                raise StreamAborted("another link failed, so gpg was ended")
            _check_encryption(exit_status, feeder, _statuses(status_file), gpg.stderr_lines)
            sink.commit()
    except BaseException as error:
        chain.fail(error)
        sink.abort(error)
        raise
    return EncryptedStream(size_bytes, digest.hexdigest())


def decrypt(source: Iterator[bytes], key: UnlockedKey) -> Generator[bytes, None, None]:
    """Yield what `source` holds in the clear, **provisionally**: only a normal end makes the chunks count.

    `source` is read in a thread of its own. Closing the generator kills gpg.

    Raises:
        DecryptionFailed: At the end: damaged, truncated. Before any chunk: never encrypted.
        KeyUnusable: At the end: another key, a wrong passphrase.
        ProgramFailed: gpg was ended by a signal, which tells nothing about the message.
    """
    with (
        _status_file(key.homedir) as status_file,
        secret_pipe(key.passphrase) as passphrase_fd,
        start_gpg(key.command(status_file.fileno(), passphrase_fd)) as gpg,
        _Feeder(source, gpg) as feeder,
        _killed_on_error(gpg),
    ):
        for number, chunk in enumerate(gpg.chunks()):
            # without a key, gpg hands out whatever was never encrypted, and only its status tells
            if number == 0 and "BEGIN_DECRYPTION" not in _keywords(statuses := _statuses(status_file)):
                raise decryption_fault(statuses, gpg.stderr_lines, key.fingerprints)
            yield chunk
        exit_status = gpg.wait()
        if feeder.failure is not None:
            raise feeder.failure
        statuses = _statuses(status_file)
        if exit_status < 0:
            raise program_failed("gpg", exit_status, [])
        if exit_status != 0 or not feeder.finished or not _keywords(statuses) >= _DECRYPTED:
            raise decryption_fault(statuses, gpg.stderr_lines, key.fingerprints)


def decryption_fault(statuses: list[str], stderr_lines: list[str], held: tuple[str, ...]) -> EncryptionError:
    """Return why a decryption failed, as gpg's status lines tell it.

    `KeyUnusable` says nothing about the message; `DecryptionFailed` is about the message itself.

    A truncated message is told from a changed one by gpg's log alone: the status lines are the same.

    Args:
        statuses: Status lines without their prefix (GnuPG's doc/DETAILS).
        held: Fingerprints of the secret keys that were at hand.
    """
    seen, keys = _keywords(statuses), ", ".join(held)
    refusals = {int(code) & _ERROR_CODE_BITS for line in statuses for code in _NO_SECRET_WORKED.findall(line)}
    if _BAD_PASSPHRASE in refusals:
        return KeyUnusable(f"wrong passphrase for the secret key {keys}", "check what `passphrase` refers to")
    if _NO_PASSPHRASE in refusals:
        return KeyUnusable(
            f"the secret key {keys} needs a passphrase and none was given",
            "set `passphrase` to env:NAME, file:PATH or aws-secret:NAME",
        )
    if "NO_SECKEY" in seen and not refusals and "DECRYPTION_KEY" not in seen:
        wanted = ", ".join(line.split()[1] for line in statuses if line.startswith("ENC_TO "))
        return KeyUnusable(
            f"the message is encrypted for another key ({wanted}), and the secret key here is {keys}",
            "name the secret key of one of its recipients",
        )
    if any(": read error" in line for line in stderr_lines):
        return DecryptionFailed("the message is truncated: it stops before its end")
    if {"BADMDC", "DECRYPTION_FAILED"} & seen or refusals:
        return DecryptionFailed("the message is damaged: it was changed after it had been encrypted")
    if "PLAINTEXT" in seen and "BEGIN_DECRYPTION" not in seen:
        return DecryptionFailed("the message was never encrypted", "do not trust what it holds")
    if "NODATA 3" in statuses:
        return DecryptionFailed("the message is damaged or truncated near its beginning")
    if "NODATA" in seen:
        return DecryptionFailed("this is no OpenPGP message")
    return DecryptionFailed(f"gpg could not decrypt the message: {_said(stderr_lines)}")


class _Feeder:
    """Writes `source` into a program's stdin from a thread of its own.

    `finished` is true once the source ended normally. A source that raises has its exception kept as
    `failure`, and the program killed; a program that ended by itself is left to its exit status.
    """

    def __init__(self, source: Iterator[bytes], process: Process) -> None:
        self.failure: BaseException | None = None
        self.finished = False
        self._source = source
        self._process = process
        self._thread = threading.Thread(target=self._feed, daemon=True)

    def _feed(self) -> None:
        try:
            for chunk in self._source:
                if not self._write(chunk):
                    return
            self.finished = True
            self._process.stdin.close()
        except BaseException as error:  # handed over to the thread that reads
            self.failure = error
            self._process.kill()

    def _write(self, chunk: bytes) -> bool:
        view = memoryview(chunk)
        try:
            while view:
                view = view[self._process.stdin.write(view) :]
        except BrokenPipeError:
            return False
        return True

    def __enter__(self) -> "_Feeder":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        # Only a source that gives nothing for ever outlives this; it then finds stdin closed.
        self._thread.join(TERMINATION_SECONDS)


@contextmanager
def _killed_on_error(process: Process) -> Iterator[None]:
    try:
        yield
    except BaseException:
        process.kill()
        raise


@contextmanager
def _status_file(homedir: Path) -> Iterator[FileIO]:
    """Yield a nameless file for gpg's status lines: unlike a pipe nobody has to empty it meanwhile."""
    with tempfile.TemporaryFile("w+b", buffering=0, dir=homedir) as file:
        yield file


def _statuses(status_file: FileIO) -> list[str]:
    # gpg may be writing on, at the offset that it shares with us
    text = os.pread(status_file.fileno(), os.fstat(status_file.fileno()).st_size, 0)
    lines = text.decode(errors="replace").splitlines()
    return [line.removeprefix(_STATUS_PREFIX) for line in lines if line.startswith(_STATUS_PREFIX)]


def _keywords(statuses: list[str]) -> set[str]:
    return {line.partition(" ")[0] for line in statuses}


def _check_encryption(
    exit_status: int, feeder: _Feeder, statuses: list[str], stderr_lines: list[str]
) -> None:
    if exit_status < 0:
        raise program_failed("gpg", exit_status, [])
    if exit_status != 0:
        raise EncryptionError(f"gpg could not encrypt: {_said(stderr_lines)}")
    if not feeder.finished or "END_ENCRYPTION" not in _keywords(statuses):
        raise EncryptionError("gpg exited 0 without having encrypted everything")


def _said(stderr_lines: list[str]) -> str:
    said = [line.removeprefix("gpg: ") for line in stderr_lines if line.startswith("gpg: ")]
    return "; ".join(said[-2:]) or "it said nothing"
