"""Which host keys are trusted, by known_hosts and by what the plan pins."""

import base64
import hmac
from pathlib import Path

import pytest

from blocks.stores.ssh_trust import HostKey, Trust, parse_known_hosts, parse_pin
from tests.servers.sftp import fingerprint, make_key, public_key


def key(seed: int, kind: str = "ssh-ed25519") -> HostKey:
    body = bytes([seed]) * 32
    return HostKey(kind, len(kind).to_bytes(4, "big") + kind.encode() + len(body).to_bytes(4, "big") + body)


def text(of: HostKey) -> str:
    return f"{of.kind} {base64.b64encode(of.blob).decode()}"


def hashed(name: str) -> str:
    salt = b"twenty bytes of salt"
    parts = (base64.b64encode(part).decode() for part in (salt, hmac.digest(salt, name.encode(), "sha1")))
    return "|1|" + "|".join(parts)


ONE, TWO, RSA = key(1), key(2), key(3, "ssh-rsa")


@pytest.mark.parametrize(
    ("lines", "host", "port", "trusted"),
    [
        pytest.param([f"nas {text(ONE)}"], "nas", 22, {ONE}, id="plain"),
        pytest.param([f"nas {text(ONE)} a comment"], "NAS", 22, {ONE}, id="comment-and-case"),
        pytest.param([f"nas {text(ONE)}", f"nas {text(TWO)}"], "nas", 22, {ONE, TWO}, id="two-of-a-kind"),
        pytest.param([f"nas,10.0.0.1\t{text(ONE)}"], "10.0.0.1", 22, {ONE}, id="several-names"),
        pytest.param([f"nas {text(ONE)}"], "nas2", 22, set(), id="another-host"),
        pytest.param([f"[nas]:2222 {text(ONE)}"], "nas", 2222, {ONE}, id="port"),
        pytest.param([f"[nas]:2222 {text(ONE)}"], "nas", 22, set(), id="another-port"),
        pytest.param([f"nas {text(ONE)}"], "nas", 2222, {ONE}, id="name-for-any-port"),
        pytest.param(
            [f"nas {text(ONE)}", f"[nas]:2222 {text(TWO)}"], "nas", 2222, {TWO}, id="port-before-name"
        ),
        pytest.param([f"*.example {text(ONE)}"], "nas.example", 22, {ONE}, id="wildcard"),
        pytest.param([f"n?s {text(ONE)}"], "nas", 22, {ONE}, id="one-letter"),
        pytest.param([f"*,!nas {text(ONE)}"], "nas", 22, set(), id="negated"),
        pytest.param([f"n.s {text(ONE)}"], "nas", 22, set(), id="no-expressions"),
        pytest.param([f"{hashed('nas')} {text(ONE)}"], "nas", 22, {ONE}, id="hashed"),
        pytest.param([f"{hashed('[nas]:2222')} {text(ONE)}"], "nas", 2222, {ONE}, id="hashed-with-port"),
        pytest.param([f"{hashed('other')} {text(ONE)}"], "nas", 22, set(), id="hashed-another"),
        pytest.param([f"|1|x {text(ONE)}", f"|1|%|% {text(ONE)}"], "nas", 22, set(), id="broken-hash"),
        pytest.param(
            [f"nas {text(ONE)}", f"@revoked * {text(ONE)}", f"nas {text(TWO)}"],
            "nas",
            22,
            {TWO},
            id="revoked",
        ),
        pytest.param([f"@cert-authority * {text(ONE)}"], "nas", 22, set(), id="authority-vouches-for-no-key"),
        pytest.param([f"nas ssh-rsa {text(ONE).split()[1]}"], "nas", 22, set(), id="kind-that-lies"),
        pytest.param([f"nas {text(key(1, 'ssh-dss'))}"], "nas", 22, set(), id="kind-that-nobody-uses"),
        pytest.param(["", "# nas x", "nas", "nas ssh-rsa", "nas ssh-rsa ~"], "nas", 22, set(), id="junk"),
    ],
)
def test_known_hosts_is_read_as_ssh_reads_it(
    lines: list[str], host: str, port: int, trusted: set[HostKey]
) -> None:
    trust = parse_known_hosts(["\n".join(lines)], host, port)
    assert trust.keys == trusted
    assert [known for known in (ONE, TWO, RSA) if trust.accepts(known)] == sorted(trusted, key=text)


def test_only_the_algorithms_of_known_keys_are_offered() -> None:
    assert Trust().offers == []
    assert Trust(frozenset({RSA, ONE})).offers == [("ssh-ed25519", "rsa-sha2-512", "rsa-sha2-256")]


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_a_key_and_its_fingerprint_are_pinned_as_ssh_keygen_tells_them(tmp_path: Path, kind: str) -> None:
    file = make_key(tmp_path / "key", kind)
    by_key, by_fingerprint = parse_pin(public_key(file)), parse_pin(fingerprint(file))
    (pinned,) = by_key.keys
    assert by_fingerprint.accepts(pinned)
    assert pinned.fingerprint == fingerprint(file)
    assert not by_key.accepts(ONE)
    assert not by_fingerprint.accepts(ONE)


@pytest.mark.parametrize(
    "pin", ["", "x", "MD5:aa:bb", "SHA256:short", "ssh-ed25519", "ssh-ed25519 AAAA", "ssh-dss " + text(ONE)]
)
def test_what_pins_no_key_is_refused(pin: str) -> None:
    with pytest.raises(ValueError, match="must be SHA256"):
        parse_pin(pin)
