"""Docker, podman and Ceph for the whole session; what is tested here needs root or heavy servers."""

from collections.abc import Iterator

import pytest

from tests.servers.ceph import CephServer, start_ceph
from tests.servers.docker import CLIENT, SERVER, Engine, set_up_podman, start_docker


@pytest.fixture(scope="session")
def docker() -> Iterator[Engine]:
    """A Docker daemon with images of PostgreSQL 15's client and 16's server."""
    yield from _with_images(start_docker())


@pytest.fixture(scope="session")
def podman() -> Iterator[Engine]:
    """The same with podman."""
    yield from _with_images(set_up_podman())


@pytest.fixture(scope="session")
def ceph_server() -> Iterator[CephServer]:
    """An S3 server that refuses what Amazon refuses."""
    server = start_ceph()
    yield server
    server.stop()


@pytest.fixture(params=["docker", "podman"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """Both, one after the other, as the environment tells of them."""
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Engine)
    for name, value in found.environment.items():
        monkeypatch.setenv(name, value)
    return found


def _with_images(engine: Engine) -> Iterator[Engine]:
    try:
        engine.build("localhost/pgsalvo-client:15", 15)
        for major in (15, 16):
            engine.build(f"localhost/pgsalvo-server:{major}", major, CLIENT + SERVER)
        yield engine
    finally:
        engine.stop()
