import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest
from pydantic import SecretStr, ValidationError

from blocks.errors import ConfigurationError, DecryptionFailed, KeyUnusable, ProgramMissing
from blocks.gpg import decrypt, encrypt
from blocks.gpg_key_pair import new_key_pair
from blocks.gpg_keys import GpgRecipients, GpgSecretKey
from blocks.gpg_listing import NEVER, parse
from blocks.gpg_program import HOMEDIR_PREFIX, SWEPT_AFTER_SECONDS, agent_ended, run_gpg, throwaway_homedir
from blocks.spool import Chain, SpoolFile
from tests.servers import keys
from tests.servers.ports import wait_until

PLAINTEXT = b"row after row " * 100
SECRET_LINE = "-----BEGIN PGP PRIVATE KEY BLOCK-----"


def fingerprints(*entries: str, **options: str) -> tuple[str, ...]:
    with GpgRecipients(public_keys=list(entries), **options).prepare() as prepared:
        return prepared.fingerprints


def encrypted(recipients: GpgRecipients, path: Path) -> bytes:
    with recipients.prepare() as prepared:
        encrypt(iter([PLAINTEXT]), prepared, SpoolFile(path), Chain())
    return path.read_bytes()


def agents(homedir: Path) -> list[psutil.Process]:
    """Return the agents that live in `homedir`; one that nobody reaps is over all the same."""
    found = []
    for process in psutil.process_iter():
        try:
            if str(homedir) in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    return found


@pytest.fixture
def keyring(tmp_path: Path) -> Path:
    """A GnuPG home directory with the public keys of three people."""
    homedir = tmp_path / "gnupg"
    homedir.mkdir(mode=0o700)
    for key in (keys.normal(), keys.second(), keys.revoked()):
        run_gpg(homedir, "--no-autostart", "--import", stdin=key.public_file.read_bytes())
    return homedir


def test_a_public_key_is_given_as_a_file_a_relative_path_or_its_text() -> None:
    key = keys.normal()
    assert fingerprints(str(key.public_file)) == (key.fingerprint,)
    assert fingerprints(key.public_file.name, base_directory=str(key.public_file.parent)) == (
        key.fingerprint,
    )
    assert fingerprints(key.public_text) == (key.fingerprint,)


@pytest.mark.parametrize(
    "form", [lambda ring: ring, lambda ring: ring / "pubring.kbx"], ids=["homedir", "file"]
)
def test_a_public_key_is_found_in_a_keyring_by_fingerprint_or_address(
    form: Callable[[Path], Path], keyring: Path
) -> None:
    key, where = keys.second(), str(form(keyring))
    spaced = " ".join(key.fingerprint[start : start + 4] for start in range(0, 40, 4))
    before = sorted(keyring.rglob("*"))
    for entry in (key.fingerprint, key.fingerprint.lower(), f"0x{key.fingerprint}", spaced, key.address):
        assert fingerprints(entry, keyring=where) == (key.fingerprint,)
    assert sorted(keyring.rglob("*")) == before


def test_a_keyring_lies_relative_to_the_base_directory(keyring: Path) -> None:
    key = keys.normal()
    found = fingerprints(key.address, keyring="gnupg", base_directory=str(keyring.parent))
    assert found == (key.fingerprint,)


def test_a_key_that_is_named_twice_counts_once() -> None:
    key, other = keys.normal(), keys.second()
    found = fingerprints(str(key.public_file), other.public_text, key.public_text)
    assert found == (key.fingerprint, other.fingerprint)


def test_prepared_keys_lie_in_a_private_homedir_that_goes_away() -> None:
    with GpgRecipients(public_keys=[keys.normal().public_text]).prepare() as prepared:
        homedir = prepared.homedir
        assert stat.S_IMODE(homedir.stat().st_mode) == 0o700
        assert [file.parent for file in prepared.files] == [homedir]
        assert not agents(homedir)
    assert not homedir.exists()


@pytest.mark.parametrize(
    ("make", "told"),
    [
        pytest.param(keys.expired, "expired on 2020-01-31", id="expired"),
        pytest.param(keys.revoked, "is revoked", id="revoked"),
        pytest.param(keys.sign_only, "can only sign", id="sign-only"),
        pytest.param(keys.with_expired_subkey, "no encryption key that is still valid", id="expired subkey"),
    ],
)
def test_a_key_that_cannot_encrypt_is_refused_by_name(make: Callable[[], keys.SampleKey], told: str) -> None:
    key = make()
    with pytest.raises(KeyUnusable, match=told) as caught:
        fingerprints(str(keys.normal().public_file), str(key.public_file))
    for name in (key.address, key.fingerprint, str(key.public_file), "HINT: "):
        assert name in str(caught.value)


def test_a_revoked_key_is_refused_out_of_a_keyring_too(keyring: Path) -> None:
    with pytest.raises(KeyUnusable, match=f"{keys.revoked().fingerprint}.*is revoked"):
        fingerprints(keys.revoked().address, keyring=str(keyring))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        pytest.param(lambda: b"", "ops.asc is no OpenPGP key", id="empty"),
        pytest.param(lambda: b"not a key", "ops.asc is no OpenPGP key", id="garbage"),
        pytest.param(
            lambda: keys.normal().public_file.read_bytes()[:300], "ops.asc is no OpenPGP key", id="cut off"
        ),
    ],
)
def test_a_file_that_holds_no_key_is_refused_by_name(
    content: Callable[[], bytes], told: str, tmp_path: Path
) -> None:
    (tmp_path / "ops.asc").write_bytes(content())
    with pytest.raises(KeyUnusable, match=told):
        fingerprints(str(tmp_path / "ops.asc"))


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(KeyUnusable, match=f"cannot read the key {tmp_path}/ops.asc: No such file"):
        fingerprints("ops.asc", base_directory=str(tmp_path))


def test_a_directory_for_a_key_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(KeyUnusable, match=f"cannot read the key {tmp_path}: Is a directory"):
        fingerprints(str(tmp_path))


@pytest.mark.parametrize("before", [False, True], ids=["alone", "after a public key"])
def test_a_file_with_a_secret_key_is_refused(before: bool, tmp_path: Path) -> None:
    path = tmp_path / "ops.asc"
    path.write_text((keys.second().public_text if before else "") + keys.normal().secret_text)
    with pytest.raises(KeyUnusable, match=r"ops\.asc holds the secret key of"):
        fingerprints(str(path))


def test_a_file_with_two_keys_is_refused_since_gpg_would_use_the_first_only(tmp_path: Path) -> None:
    path = tmp_path / "team.asc"
    path.write_text(keys.normal().public_text + keys.second().public_text)
    with pytest.raises(KeyUnusable, match=r"team\.asc holds 2 keys") as caught:
        fingerprints(str(path))
    assert keys.normal().fingerprint in caught.value.message
    assert keys.second().fingerprint in caught.value.message


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        pytest.param(
            "nobody@example.org", "there is no key nobody@example.org in .*gnupg", id="unknown address"
        ),
        pytest.param("ormal@example.org", "there is no key ormal@example.org", id="part of an address"),
        pytest.param("A" * 40, "there is no key A{40} in", id="unknown fingerprint"),
        pytest.param("BADC0FFE", "cannot read the key .*BADC0FFE", id="a short key id"),
    ],
)
def test_a_key_that_a_keyring_does_not_have_is_refused_by_name(entry: str, told: str, keyring: Path) -> None:
    with pytest.raises(KeyUnusable, match=told):
        fingerprints(entry, keyring=str(keyring))


@pytest.mark.parametrize(
    ("where", "told"),
    [
        pytest.param("", "no keyring is set to look for the key ops@example.org", id="none"),
        pytest.param("/no/such/ring", "there is no keyring /no/such/ring", id="missing"),
    ],
)
def test_an_address_without_a_keyring_is_refused(where: str, told: str) -> None:
    with pytest.raises(KeyUnusable, match=told):
        fingerprints("ops@example.org", keyring=where)


def test_a_key_that_expires_within_thirty_days_is_warned_of() -> None:
    soon = keys.expiring()
    with GpgRecipients(public_keys=[keys.normal().public_text, str(soon.public_file)]).prepare() as prepared:
        (warning,) = prepared.warnings
    assert soon.address in warning
    assert soon.fingerprint in warning
    assert f"{datetime.now(UTC) + timedelta(days=10):%Y-%m}" in warning


def test_a_key_that_expires_later_than_in_thirty_days_is_not_warned_of() -> None:
    recipients = GpgRecipients(public_keys=[str(keys.expiring().public_file)])
    with recipients.prepare(datetime.now(UTC) - timedelta(days=21)) as prepared:
        assert prepared.warnings == ()


def test_the_expiry_that_counts_is_the_first_of_primary_and_last_encryption_key() -> None:
    primary = "pub:-:255:22:AA:1600000000:{}::-:::scESC:::::ed25519:::0:"
    subkey = "sub:{}:255:18:BB:1600000000:{}:::::e:::::cv25519::"
    moment = datetime.fromtimestamp(2_000_000_000, UTC)

    def expires_at(*lines: str) -> datetime:
        return parse("\n".join(lines).encode())[0].expires_at

    assert expires_at(primary.format(""), subkey.format("-", "")) == NEVER
    assert expires_at(primary.format("2000000000"), subkey.format("-", "")) == moment
    assert expires_at(primary.format("2100000000"), subkey.format("-", "2000000000")) == moment
    assert (
        expires_at(primary.format(""), subkey.format("-", "1900000000"), subkey.format("-", "2000000000"))
        == moment
    )
    assert expires_at(primary.format(""), subkey.format("-", "2000000000"), subkey.format("r", "")) == moment


def test_a_user_id_with_a_colon_is_shown_as_it_is() -> None:
    listing = b"pub:-:255:22:AA:1600000000:::-:::scESC::::::::0:\nuid:-::::1::X::Ops\\x3a team::::::::::0:\n"
    assert str(parse(listing)[0]).startswith("Ops: team (")


@pytest.mark.parametrize(
    "entries",
    [
        pytest.param([f"{SECRET_LINE}\nlFgEawUJmhYJKw"], id="the text of a secret key"),
        pytest.param(
            ["ops.asc", f"-----BEGIN PGP PUBLIC KEY BLOCK-----\n{SECRET_LINE}\nlFgEawUJmhYJKw"], id="both"
        ),
        pytest.param(["lFgEawUJmhYJKw", " "], id="an empty entry"),
        pytest.param("lFgEawUJmhYJKw", id="not a list"),
        pytest.param([], id="none"),
    ],
)
def test_recipients_that_cannot_be_are_refused_without_repeating_them(entries: list[str]) -> None:
    with pytest.raises((ConfigurationError, ValidationError)) as caught:
        GpgRecipients(public_keys=entries)
    assert "lFgEawUJmhYJKw" not in str(caught.value)


@pytest.fixture
def message(tmp_path: Path) -> bytes:
    return encrypted(GpgRecipients(public_keys=[keys.normal().public_text]), tmp_path / "message.gpg")


@pytest.fixture(scope="module")
def locked_message(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    recipients = GpgRecipients(public_keys=[keys.with_passphrase().public_text])
    return encrypted(recipients, tmp_path_factory.mktemp("locked") / "message.gpg")


def test_a_key_file_is_unlocked_in_a_private_homedir_that_goes_away_with_its_agent(message: bytes) -> None:
    with GpgSecretKey(key_file=str(keys.normal().secret_file)).unlock() as key:
        assert key.fingerprints == (keys.normal().fingerprint,)
        assert stat.S_IMODE(key.homedir.stat().st_mode) == 0o700
        assert len(str(key.homedir)) < 90
        assert b"".join(decrypt(iter([message]), key)) == PLAINTEXT
        assert agents(key.homedir)
    assert not key.homedir.exists()
    wait_until(lambda: not agents(key.homedir), "the agent's end")


def test_a_homedir_is_used_in_place_and_its_new_agent_ended(message: bytes) -> None:
    with throwaway_homedir() as homedir:
        run_gpg(homedir, "--import", stdin=keys.normal().secret_file.read_bytes())
        run_gpg(homedir, "--import", stdin=keys.second().secret_file.read_bytes())
        subprocess.run(("gpgconf", "--homedir", homedir, "--kill", "gpg-agent"), check=True)
        wait_until(lambda: not agents(homedir), "the agent's end")
        with GpgSecretKey(homedir=str(homedir)).unlock() as key:
            assert key.homedir == homedir
            assert key.fingerprints == (keys.normal().fingerprint, keys.second().fingerprint)
            assert b"".join(decrypt(iter([message]), key)) == PLAINTEXT
            assert agents(homedir)
        assert (homedir / "private-keys-v1.d").is_dir()
        wait_until(lambda: not agents(homedir), "the agent's end")


def test_an_agent_that_was_running_before_is_left_alone(message: bytes) -> None:
    with throwaway_homedir() as homedir, agent_ended(homedir):
        run_gpg(homedir, "--import", stdin=keys.normal().secret_file.read_bytes())
        (agent,) = agents(homedir)
        with GpgSecretKey(homedir=str(homedir)).unlock() as key:
            assert b"".join(decrypt(iter([message]), key)) == PLAINTEXT
        time.sleep(0.3)
        assert agents(homedir) == [agent]


def test_a_homedirs_own_configuration_weakens_nothing(message: bytes) -> None:
    with throwaway_homedir() as homedir, agent_ended(homedir):
        run_gpg(homedir, "--import", stdin=keys.normal().secret_file.read_bytes())
        (homedir / "gpg.conf").write_text("ignore-mdc-error\nlist-only\n")
        changed = message[:-1] + bytes([message[-1] ^ 1])
        with GpgSecretKey(homedir=str(homedir)).unlock() as key:
            assert b"".join(decrypt(iter([message]), key)) == PLAINTEXT
            with pytest.raises(DecryptionFailed, match="damaged"):
                list(decrypt(iter([changed]), key))


def test_a_secret_in_aws_is_unlocked_without_becoming_a_file(
    message: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    class SecretsManager:
        def get_secret_value(self, SecretId: str) -> dict[str, str]:  # noqa: N803 - AWS's own name
            assert SecretId == "backups/key"
            return {"SecretString": keys.normal().secret_text}

    monkeypatch.setattr("boto3.client", lambda service: {"secretsmanager": SecretsManager()}[service])
    with GpgSecretKey(aws_secret="backups/key").unlock() as key:
        assert b"".join(decrypt(iter([message]), key)) == PLAINTEXT
        assert not [
            file for file in key.homedir.rglob("*") if file.is_file() and b"BEGIN PGP" in file.read_bytes()
        ]


def test_the_right_passphrase_opens_a_key_and_is_nowhere_to_be_seen(
    locked_message: bytes, tmp_path: Path
) -> None:
    (tmp_path / "passphrase").write_text(keys.PASSPHRASE + "\n")
    block = GpgSecretKey(
        key_file=str(keys.with_passphrase().secret_file), passphrase=f"file:{tmp_path / 'passphrase'}"
    )
    seen: list[str] = []

    def watched() -> Iterator[bytes]:
        yield locked_message[:100]
        for process in psutil.process_iter():
            try:
                ours = str(key.homedir) in process.cmdline()
                seen.extend(process.cmdline() + ([str(process.environ())] if ours else []))
            except (psutil.NoSuchProcess, psutil.ZombieProcess):
                continue
        yield locked_message[100:]
        seen.extend(str(file.read_bytes()) for file in key.homedir.rglob("*") if file.is_file())

    with block.unlock() as key:
        assert b"".join(decrypt(watched(), key)) == PLAINTEXT
        assert "--passphrase-fd" in seen
        assert not [text for text in seen if keys.PASSPHRASE in text]
    assert not key.homedir.exists()


@pytest.mark.parametrize(
    ("passphrase", "told"),
    [
        pytest.param("env:WRONG_PASSPHRASE", "wrong passphrase for the secret key", id="wrong"),
        pytest.param("", "needs a passphrase and none was given", id="none"),
    ],
)
def test_a_key_that_is_not_opened_says_so(
    passphrase: str, told: str, locked_message: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WRONG_PASSPHRASE", "not this one")
    locked = keys.with_passphrase()
    with (
        GpgSecretKey(key_file=str(locked.secret_file), passphrase=SecretStr(passphrase)).unlock() as key,
        pytest.raises(KeyUnusable, match=told) as caught,
    ):
        list(decrypt(iter([locked_message]), key))
    assert locked.fingerprint in str(caught.value)
    assert "not this one" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        pytest.param(None, "cannot read the key .*ops.asc: No such file", id="missing"),
        pytest.param(b"garbage", "there is no secret key in .*ops.asc", id="garbage"),
        pytest.param(b"public", "there is no secret key in .*ops.asc", id="only the public key"),
    ],
)
def test_a_place_without_a_secret_key_is_named(content: bytes | None, told: str, tmp_path: Path) -> None:
    path = tmp_path / "ops.asc"
    if content is not None:
        path.write_bytes(keys.normal().public_file.read_bytes() if content == b"public" else content)
    with pytest.raises(KeyUnusable, match=told), GpgSecretKey(key_file=str(path)).unlock():
        pass


@pytest.mark.parametrize(
    ("homedir", "told"),
    [
        pytest.param("missing", "no GnuPG home directory .*missing", id="missing"),
        pytest.param("empty", "no secret key in .*empty", id="empty"),
        pytest.param("l" * 90, "too long for its agent", id="long"),
    ],
)
def test_a_homedir_that_cannot_serve_is_named(homedir: str, told: str, tmp_path: Path) -> None:
    for name in ("empty", "l" * 90):
        (tmp_path / name).mkdir(mode=0o700)
    with (
        pytest.raises((KeyUnusable, ConfigurationError), match=told),
        GpgSecretKey(homedir=str(tmp_path / homedir)).unlock(),
    ):
        pass


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        pytest.param({}, "exactly one of key_file, homedir and aws_secret", id="no place"),
        pytest.param({"key_file": "a", "homedir": "b"}, "exactly one", id="two places"),
        pytest.param(
            {"key_file": SECRET_LINE + "\nlFgEawUJ"}, "key_file: a key's text was given", id="text as path"
        ),
        pytest.param(
            {"aws_secret": SECRET_LINE + "\nlFgEawUJ"}, "aws_secret: a key's text", id="text as name"
        ),
        pytest.param(
            {"key_file": "a", "passphrase": SECRET_LINE + "\nlFgEawUJ"}, "passphrase: a key's", id="text"
        ),
        pytest.param(
            {"key_file": "a", "passphrase": "lFgEawUJ"}, "say where it lies: one of env:", id="passphrase"
        ),
    ],
)
def test_a_secret_key_block_holds_a_place_and_never_a_secret(fields: dict[str, str], told: str) -> None:
    with pytest.raises(ConfigurationError, match=told) as caught:
        GpgSecretKey(**fields)
    assert "lFgEawUJ" not in str(caught.value)


def test_a_homedir_left_by_a_killed_run_is_cleared_by_the_next_and_a_living_one_is_not() -> None:
    script = (
        "from blocks.gpg_keys import GpgSecretKey\n"
        f"with GpgSecretKey(key_file={str(keys.normal().secret_file)!r}).unlock() as key:\n"
        "    print(key.homedir, flush=True)\n"
        "    import time; time.sleep(60)\n"
    )
    with (
        throwaway_homedir() as living,
        subprocess.Popen((sys.executable, "-c", script), stdout=subprocess.PIPE, text=True) as run,
    ):
        assert run.stdout is not None
        left = Path(run.stdout.readline().strip())
        run.send_signal(signal.SIGKILL)
        run.wait()
        assert agents(left)
        long_ago = time.time() - SWEPT_AFTER_SECONDS - 1
        for homedir in (living, left):
            os.utime(homedir, (long_ago, long_ago))
        with throwaway_homedir():
            wait_until(lambda: not left.exists(), "its end")  # another run's sweep may be at it just now
            assert living.exists()
        wait_until(lambda: not agents(left), "the agent's end")


def test_a_homedir_that_is_just_being_made_is_not_cleared() -> None:
    with throwaway_homedir() as homedir:
        fresh = homedir.parent / f"{HOMEDIR_PREFIX}fresh"
        fresh.mkdir()
        try:
            with throwaway_homedir():
                assert fresh.exists()
        finally:
            shutil.rmtree(fresh)


@pytest.mark.parametrize("passphrase", [None, "two words ñ"])
def test_a_new_key_pair_encrypts_and_decrypts(
    passphrase: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEW_PASSPHRASE", passphrase or "unused")
    umask = os.umask(0o077)
    try:
        pair = new_key_pair("ops", tmp_path / "keys", passphrase)
    finally:
        os.umask(umask)
    assert (pair.public_file.name, pair.secret_file.name) == ("ops.public.asc", "ops.secret.asc")
    assert stat.S_IMODE(pair.public_file.stat().st_mode) == 0o644
    assert stat.S_IMODE(pair.secret_file.stat().st_mode) == 0o600
    recipients = GpgRecipients(public_keys=[str(pair.public_file)])
    with recipients.prepare() as prepared:
        assert prepared.fingerprints == (pair.fingerprint,)
        assert prepared.warnings == ()
    block = GpgSecretKey(
        key_file=str(pair.secret_file), passphrase="env:NEW_PASSPHRASE" if passphrase else ""
    )
    message = encrypted(recipients, tmp_path / "message.gpg")
    with block.unlock() as key:
        assert b"".join(decrypt(iter([message]), key)) == PLAINTEXT


def test_a_new_key_never_expires(tmp_path: Path) -> None:
    pair = new_key_pair("ops", tmp_path, None)
    with GpgRecipients(public_keys=[str(pair.public_file)]).prepare(
        datetime(2200, 1, 1, tzinfo=UTC)
    ) as prepared:
        assert prepared.warnings == ()


@pytest.mark.parametrize("present", ["ops.public.asc", "ops.secret.asc"])
def test_a_new_key_pair_overwrites_nothing(present: str, tmp_path: Path) -> None:
    (tmp_path / present).write_text("precious")
    with pytest.raises(ConfigurationError, match=f"{present} already exists"):
        new_key_pair("ops", tmp_path, None)
    assert [path.name for path in tmp_path.iterdir()] == [present]
    assert (tmp_path / present).read_text() == "precious"


@pytest.mark.parametrize("name", ["", "../ops", "-ops", ".ops", "a b", "a" * 64])
def test_a_name_that_is_no_file_name_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="not a key's name"):
        new_key_pair(name, tmp_path, None)


def test_without_gpg_every_use_of_keys_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipients = GpgRecipients(public_keys=[keys.normal().public_text])
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ProgramMissing, match="apt-get install gnupg"), recipients.prepare():
        pass
    with pytest.raises(ProgramMissing, match="apt-get install gnupg"):
        new_key_pair("ops", tmp_path, None)


def test_a_gpg_without_its_agent_is_told_from_a_file_without_a_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gpg").write_text(
        '#!/bin/sh\necho "gpg: can\'t connect to the agent: IPC connect call failed" >&2; exit 2\n'
    )
    (tmp_path / "gpg").chmod(0o755)
    block = GpgSecretKey(key_file=str(keys.normal().secret_file))
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with (
        pytest.raises(ProgramMissing, match=r"no agent .*can't connect(.|\n)*apt-get install gnupg"),
        block.unlock(),
    ):
        pass
