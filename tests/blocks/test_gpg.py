import hashlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blocks import gpg, process
from blocks.errors import (
    DecryptionFailed,
    EncryptionError,
    KeyUnusable,
    ProgramFailed,
    ProgramMissing,
    SpoolFull,
    StreamAborted,
    WorldError,
)
from blocks.gpg import EncryptedStream, decrypt, encrypt
from blocks.gpg_keys import GpgRecipients, GpgSecretKey
from blocks.gpg_program import PreparedRecipients, UnlockedKey, gpg_version
from blocks.spool import Chain, Pipe, SpoolFile
from tests.servers import keys
from tests.servers.ports import wait_until

PLAINTEXT = b"row after row after row " * 8_000
CHUNK = b"\x00plain\xff" * 10_000


class CollectingSink:
    """A sink in memory that tells how it ended."""

    def __init__(self) -> None:
        self.body = b""
        self.end = "open"

    def write(self, chunk: bytes) -> None:
        self.body += chunk

    def commit(self) -> None:
        self.end = "committed"

    def abort(self, cause: BaseException) -> None:
        self.end = f"aborted by {type(cause).__name__}"


class FullSink(CollectingSink):
    def write(self, chunk: bytes) -> None:
        self.body += chunk
        raise SpoolFull("no room left in the spool directory")


@pytest.fixture(scope="module")
def recipients() -> Iterator[PreparedRecipients]:
    with GpgRecipients(public_keys=[str(keys.normal().public_file)]).prepare() as prepared:
        yield prepared


@pytest.fixture(scope="module")
def key() -> Iterator[UnlockedKey]:
    with GpgSecretKey(key_file=str(keys.normal().secret_file)).unlock() as unlocked:
        yield unlocked


@pytest.fixture(scope="module")
def message(recipients: PreparedRecipients) -> bytes:
    return encrypted(PLAINTEXT, recipients)


def encrypted(plaintext: bytes, recipients: PreparedRecipients) -> bytes:
    sink = CollectingSink()
    encrypt(iter([plaintext]), recipients, sink, Chain())
    assert sink.end == "committed"
    return sink.body


def decrypted(message: bytes, key: UnlockedKey) -> bytes:
    return b"".join(decrypt(iter([message]), key))


def running_gpg() -> list[psutil.Process]:
    """Return the gpg processes that this process started and that are not over."""
    found = []
    for child in psutil.Process().children():
        try:
            if child.name() == "gpg" and child.status() != psutil.STATUS_ZOMBIE:
                found.append(child)
        except psutil.NoSuchProcess:
            continue
    return found


def endless() -> Iterator[bytes]:
    while True:
        yield CHUNK


def failing_after(chunks: int, error: Exception) -> Iterator[bytes]:
    yield from [CHUNK] * chunks
    raise error


def test_encryption_is_called_with_no_import_no_agent_and_no_compression() -> None:
    prepared = PreparedRecipients(Path("/h"), (Path("/h/a"), Path("/h/b")), ("A", "B"))
    assert prepared.command(7).argv == (
        *("gpg", "--homedir", "/h", "--batch", "--no-tty", "--no-autostart", "--trust-model", "always"),
        *("--no-auto-key-locate", "--status-fd", "7", "--compress-algo", "none", "--cipher-algo", "AES256"),
        *("--recipient-file", "/h/a", "--recipient-file", "/h/b", "--encrypt"),
    )
    assert prepared.command(7).pass_fds == (7,)


def test_decryption_is_called_with_a_descriptor_for_the_passphrase() -> None:
    command = UnlockedKey(Path("/h"), ("A",), "a passphrase").command(7, 8)
    assert command.argv == (
        *("gpg", "--homedir", "/h", "--no-options", "--batch", "--no-tty", "--no-auto-key-locate"),
        *("--no-auto-check-trustdb", "--status-fd", "7", "--pinentry-mode", "loopback"),
        *("--passphrase-fd", "8", "--decrypt"),
    )
    assert command.pass_fds == (7, 8)


def test_a_key_does_not_show_its_passphrase_when_printed() -> None:
    assert "sesame" not in repr(UnlockedKey(Path("/h"), ("A",), "open sesame"))


@settings(max_examples=12, deadline=None)
@given(chunks=st.lists(st.binary(max_size=100_000), max_size=4))
def test_decrypting_what_was_encrypted_is_the_identity(
    chunks: list[bytes], recipients: PreparedRecipients, key: UnlockedKey
) -> None:
    sink = CollectingSink()
    stream = encrypt(iter(chunks), recipients, sink, Chain())
    assert stream == EncryptedStream(len(sink.body), hashlib.sha256(sink.body).hexdigest())
    assert decrypted(sink.body, key) == b"".join(chunks)


def test_a_large_stream_passes_through_a_spool_file_unchanged(
    tmp_path: Path, recipients: PreparedRecipients, key: UnlockedKey
) -> None:
    spool = SpoolFile(tmp_path / "main.gpg")
    plain = os.urandom(1 << 20)
    stream = encrypt(iter([plain] * 20), recipients, spool, Chain())
    assert stream.size_bytes == spool.path.stat().st_size > 20 << 20
    digest = hashlib.sha256()
    for chunk in decrypt(spool.read(), key):
        digest.update(chunk)
    assert digest.hexdigest() == hashlib.sha256(plain * 20).hexdigest()


def test_each_of_two_recipients_can_decrypt() -> None:
    pairs = (keys.normal(), keys.second())
    with GpgRecipients(public_keys=[str(pair.public_file) for pair in pairs]).prepare() as prepared:
        body = encrypted(PLAINTEXT, prepared)
    for pair in pairs:
        with GpgSecretKey(key_file=str(pair.secret_file)).unlock() as unlocked:
            assert decrypted(body, unlocked) == PLAINTEXT


def test_eight_streams_are_encrypted_at_once(recipients: PreparedRecipients, key: UnlockedKey) -> None:
    plaintexts = [os.urandom(200_000) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        messages = list(pool.map(lambda plaintext: encrypted(plaintext, recipients), plaintexts))
        assert list(pool.map(lambda message: decrypted(message, key), messages)) == plaintexts


@pytest.mark.parametrize(
    "position",
    [
        pytest.param(0, id="the first byte"),
        pytest.param(1, id="the length of the session key's packet"),
        pytest.param(5, id="the key id"),
        pytest.param(11, id="the algorithm"),
        pytest.param(40, id="the session key"),
        pytest.param(96, id="the data packet's tag"),
        pytest.param(97, id="the data packet's length"),
        pytest.param(110, id="the first encrypted bytes"),
        pytest.param(100_000, id="the middle"),
        pytest.param(-22, id="the modification code's tag"),
        pytest.param(-1, id="the last byte"),
    ],
)
def test_a_flipped_byte_is_caught(position: int, message: bytes, key: UnlockedKey) -> None:
    changed = bytearray(message)
    changed[position] ^= 0x01
    with pytest.raises((DecryptionFailed, KeyUnusable)):
        decrypted(bytes(changed), key)


@settings(max_examples=40, deadline=None)
@given(position=st.integers(0, 1 << 20), mask=st.integers(1, 255))
def test_no_changed_byte_changes_the_plaintext_unnoticed(
    position: int, mask: int, message: bytes, key: UnlockedKey
) -> None:
    """gpg takes a session key packet's version 2 for 3, and decrypts the same content."""
    changed = bytearray(message)
    changed[position % len(message)] ^= mask
    try:
        assert decrypted(bytes(changed), key) == PLAINTEXT
    except (DecryptionFailed, KeyUnusable):  # a changed key id reads as another key's
        return


@pytest.mark.parametrize("length", [0, 1, 50, 94, 95, 96, 98, 5_000, 100_000, -20, -1])
def test_a_truncated_message_is_caught(length: int, message: bytes, key: UnlockedKey) -> None:
    with pytest.raises(DecryptionFailed):
        decrypted(message[:length], key)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        pytest.param(lambda body: body[:-1], "truncated", id="truncated at the last byte"),
        pytest.param(lambda body: body[:50_000], "truncated", id="truncated in the middle"),
        pytest.param(lambda body: body[:60], "truncated near its beginning", id="truncated in the header"),
        pytest.param(lambda body: body[:-1] + bytes([body[-1] ^ 1]), "damaged", id="last byte flipped"),
        pytest.param(
            lambda body: body[:40] + bytes([body[40] ^ 1]) + body[41:], "damaged", id="session key flipped"
        ),
        pytest.param(lambda body: body + body, "damaged", id="two messages in a row"),
        pytest.param(lambda _: keys.never_encrypted(PLAINTEXT), "never encrypted", id="never encrypted"),
        pytest.param(
            lambda body: keys.never_encrypted(b"x") + body, "never encrypted", id="a clear one before it"
        ),
        pytest.param(lambda _: b"PGDMP and so on", "no OpenPGP message", id="not a message"),
        pytest.param(lambda _: b"", "no OpenPGP message", id="empty"),
    ],
)
def test_a_message_that_cannot_be_trusted_says_why(
    change: Callable[[bytes], bytes], told: str, message: bytes, key: UnlockedKey
) -> None:
    with pytest.raises(DecryptionFailed, match=told):
        decrypted(change(message), key)


def test_a_message_for_another_key_names_both(message: bytes) -> None:
    other = keys.second()
    with (
        GpgSecretKey(key_file=str(other.secret_file)).unlock() as unlocked,
        pytest.raises(KeyUnusable, match=f"another key .*the secret key here is {other.fingerprint}"),
    ):
        decrypted(message, unlocked)


def test_an_expired_key_still_decrypts_what_was_encrypted_for_it() -> None:
    message = keys.encrypted_long_ago(PLAINTEXT, keys.expired())
    with GpgSecretKey(key_file=str(keys.expired().secret_file)).unlock() as unlocked:
        assert decrypted(message, unlocked) == PLAINTEXT


@pytest.mark.parametrize("chunks", [0, 1, 200])
def test_a_source_that_fails_leaves_nothing_committed_and_no_gpg(
    chunks: int, recipients: PreparedRecipients
) -> None:
    sink, chain, cause = CollectingSink(), Chain(), ProgramFailed("pg_dump ended with exit status 1")
    with pytest.raises(ProgramFailed, match="pg_dump"):
        encrypt(failing_after(chunks, cause), recipients, sink, chain)
    assert sink.end == "aborted by ProgramFailed"
    assert chain.first_cause is cause
    assert not running_gpg()


def test_a_failed_source_leaves_no_message_that_gpg_would_take_for_whole(
    recipients: PreparedRecipients, key: UnlockedKey
) -> None:
    sink = CollectingSink()
    with pytest.raises(StreamAborted):
        encrypt(failing_after(200, StreamAborted("the writing end gave up")), recipients, sink, Chain())
    with pytest.raises(DecryptionFailed):
        decrypted(sink.body, key)


def test_a_killed_gpg_is_the_first_cause(recipients: PreparedRecipients) -> None:
    def killing() -> Iterator[bytes]:
        yield from [CHUNK] * 20
        running_gpg()[0].send_signal(signal.SIGKILL)
        yield from endless()

    sink, chain = CollectingSink(), Chain()
    with pytest.raises(ProgramFailed, match="gpg was ended by SIGKILL") as caught:
        encrypt(killing(), recipients, sink, chain)
    assert chain.first_cause is caught.value
    assert sink.end == "aborted by ProgramFailed"


def test_a_killed_gpg_is_noticed_while_the_source_gives_nothing(recipients: PreparedRecipients) -> None:
    pipe, chain = Pipe(), Chain()
    chain.add(pipe.abort)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(encrypt, pipe.read(), recipients, CollectingSink(), chain)
        pipe.write(CHUNK)
        wait_until(lambda: bool(running_gpg()), "gpg")
        running_gpg()[0].kill()
        with pytest.raises(ProgramFailed, match="SIGKILL"):
            running.result(timeout=20)


def test_another_link_that_fails_ends_gpg_and_stays_the_first_cause(recipients: PreparedRecipients) -> None:
    sink, chain, cause = CollectingSink(), Chain(), SpoolFull("the upload's disk")
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(encrypt, endless(), recipients, sink, chain)
        wait_until(lambda: bool(sink.body), "the stream")
        chain.fail(cause)
        with pytest.raises(StreamAborted):
            running.result(timeout=20)
    assert chain.first_cause is cause
    assert sink.end == "aborted by StreamAborted"
    assert not running_gpg()


def test_a_pipe_that_aborts_before_its_writer_tells_the_chain_is_not_the_first_cause(
    recipients: PreparedRecipients,
) -> None:
    pipe, chain, cause = Pipe(), Chain(), ProgramFailed("pg_dump ended with exit status 1")
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(encrypt, pipe.read(), recipients, CollectingSink(), chain)
        pipe.abort(cause)
        with pytest.raises(StreamAborted):
            running.result(timeout=20)
    chain.fail(cause)
    assert chain.first_cause is cause


def test_a_full_disk_is_what_is_raised_and_ends_gpg(recipients: PreparedRecipients) -> None:
    chain = Chain()
    with pytest.raises(SpoolFull) as caught:
        encrypt(endless(), recipients, FullSink(), chain)
    assert chain.first_cause is caught.value
    assert not running_gpg()


@pytest.fixture
def stub_gpg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Put a gpg on PATH that runs a script in which `status LINE` writes to the status descriptor."""

    def install(script: str) -> None:
        descriptor = "$(echo \"$@\" | sed 's/.*--status-fd \\([0-9]*\\).*/\\1/')"
        (tmp_path / "gpg").write_text(
            f'#!/bin/bash\nfd={descriptor}\nstatus() {{ echo "[GNUPG:] $1" >&$fd; }}\n{script}\n'
        )
        (tmp_path / "gpg").chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    return install


@pytest.mark.parametrize(
    ("script", "error", "told"),
    [
        pytest.param("exec cat", EncryptionError, "exited 0 without", id="no status"),
        pytest.param("status END_ENCRYPTION", EncryptionError, "exited 0 without", id="reads nothing"),
        pytest.param(
            "echo 'gpg: skipped: Unusable key' >&2; exit 2", EncryptionError, "Unusable", id="refusal"
        ),
        pytest.param("kill -TERM $$", ProgramFailed, "SIGTERM", id="signal"),
    ],
)
def test_an_encryption_that_gpg_did_not_finish_is_not_committed(
    script: str,
    error: type[WorldError],
    told: str,
    recipients: PreparedRecipients,
    stub_gpg: Callable[[str], None],
) -> None:
    stub_gpg(script)
    sink = CollectingSink()
    with pytest.raises(error, match=told):
        encrypt(iter([CHUNK] * 50), recipients, sink, Chain())
    assert sink.end == f"aborted by {error.__name__}"


ALL_WELL = "; ".join(f"status {word}" for word in ("BEGIN_DECRYPTION", "DECRYPTION_OKAY", "GOODMDC"))


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(f"{ALL_WELL}; cat; exit 2", id="exits 2"),
        pytest.param(ALL_WELL, id="reads nothing"),
        pytest.param(f"{ALL_WELL.replace('status GOODMDC', 'true')}; cat", id="no word on modification"),
        pytest.param(
            f"{ALL_WELL.replace('status BEGIN_DECRYPTION', 'true')}; cat", id="no word on decryption"
        ),
    ],
)
def test_a_decryption_that_is_not_well_in_every_respect_is_a_failure(
    script: str, key: UnlockedKey, stub_gpg: Callable[[str], None]
) -> None:
    stub_gpg(script)
    with pytest.raises(DecryptionFailed, match="gpg could not decrypt"):
        list(decrypt(iter([CHUNK] * 50), key))


def test_the_stub_passes_when_all_is_well(key: UnlockedKey, stub_gpg: Callable[[str], None]) -> None:
    stub_gpg(f"{ALL_WELL}; cat")
    assert b"".join(decrypt(iter([CHUNK] * 50), key)) == CHUNK * 50


def test_gpg_is_killed_before_any_other_link_is_told(recipients: PreparedRecipients) -> None:
    chain, still_running = Chain(), [True]
    chain.add(lambda _cause: still_running.append(bool(running_gpg())))
    with pytest.raises(SpoolFull):
        encrypt(endless(), recipients, FullSink(), chain)
    assert still_running[1] is False


def test_closing_a_decryption_early_kills_gpg_at_once(
    key: UnlockedKey, recipients: PreparedRecipients, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = encrypted(os.urandom(1 << 20), recipients)
    stream = decrypt(iter([body]), key)
    assert next(stream)
    assert running_gpg()
    for module in (process, gpg):
        monkeypatch.setattr(module, "TERMINATION_SECONDS", 60)
    started = time.monotonic()
    stream.close()
    assert not running_gpg()
    assert time.monotonic() - started < 30


def test_a_decryption_whose_source_fails_raises_what_the_source_raised(
    key: UnlockedKey, message: bytes
) -> None:
    def failing() -> Iterator[bytes]:
        yield message[:100_000]
        raise StreamAborted("the store hung up")

    with pytest.raises(StreamAborted, match="hung up"):
        list(decrypt(failing(), key))
    assert not running_gpg()


def test_a_gpg_killed_while_decrypting_is_no_verdict_on_the_message(key: UnlockedKey, message: bytes) -> None:
    def killing() -> Iterator[bytes]:
        yield message[:100_000]
        running_gpg()[0].kill()
        yield message[100_000:]

    with pytest.raises(ProgramFailed, match="gpg was ended by SIGKILL"):
        list(decrypt(killing(), key))


def test_a_missing_gpg_is_named_with_the_command_that_installs_it(
    recipients: PreparedRecipients, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert gpg_version()[0].isdigit()
    monkeypatch.setenv("PATH", str(tmp_path))
    sink, chain = CollectingSink(), Chain()
    with pytest.raises(ProgramMissing, match="apt-get install gnupg"):
        gpg_version()
    with pytest.raises(ProgramMissing, match="apt-get install gnupg") as caught:
        encrypt(iter([CHUNK]), recipients, sink, chain)
    assert chain.first_cause is caught.value
    assert sink.end == "aborted by ProgramMissing"


def test_a_source_that_hangs_does_not_hold_up_the_failure(
    recipients: PreparedRecipients, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("blocks.gpg.TERMINATION_SECONDS", 0.2)
    release = threading.Event()

    def stuck() -> Iterator[bytes]:
        yield CHUNK
        running_gpg()[0].kill()
        release.wait(120)
        yield CHUNK

    started = time.monotonic()
    with pytest.raises(ProgramFailed, match="SIGKILL"):
        encrypt(stuck(), recipients, CollectingSink(), Chain())
    assert time.monotonic() - started < 60
    release.set()
