"""Which addresses mean this machine."""

import socket

import pytest

from blocks.stores.hosts import is_this_host

OTHERS_ADDRESS = "198.51.100.7"


@pytest.fixture
def own_address() -> str:
    """An address of one of this machine's interfaces; nothing is sent to find it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((OTHERS_ADDRESS, 9))
        return str(probe.getsockname()[0])


def test_an_own_address_is_this_host_and_so_is_a_name_of_it(
    own_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert is_this_host(own_address)
    known = {"backups.example": own_address, "nas.example": OTHERS_ADDRESS}
    look_up = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *_, **__: look_up(known[host], 0))
    assert is_this_host("backups.example")
    assert not is_this_host("nas.example")


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST.", "db.localhost", "127.8.8.8", "[::1]", "0.0.0.0", socket.gethostname()],  # noqa: S104
)
def test_what_always_means_this_host_does(host: str) -> None:
    assert is_this_host(host)


@pytest.mark.parametrize("host", ["", OTHERS_ADDRESS, "[2001:db8::7]", "no-such-host.invalid", "a" * 70])
def test_another_host_and_none_are_not_this_one(host: str) -> None:
    assert not is_this_host(host)
