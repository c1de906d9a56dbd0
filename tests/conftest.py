"""What every test may ask for: real PostgreSQL servers, one of each major for the whole session."""

from collections.abc import Iterator

import pytest

from blocks import references
from tests.servers.postgres import PostgresServer, programs, start_postgres

SETTINGS = {"max_prepared_transactions": "2"}


@pytest.fixture(autouse=True)
def nothing_remembered() -> Iterator[None]:
    """Each test begins without the secrets of others, whose words would be taken out of its texts."""
    yield
    references._remembered.clear()


@pytest.fixture(scope="session")
def postgres15() -> Iterator[PostgresServer]:
    """PostgreSQL 15: the system's, else the wheel's."""
    yield from _server(15)


@pytest.fixture(scope="session")
def postgres17() -> Iterator[PostgresServer]:
    """PostgreSQL 17: the system's, else the wheel's."""
    yield from _server(17)


@pytest.fixture(params=["postgres15", "postgres17"])
def postgres(request: pytest.FixtureRequest) -> PostgresServer:
    """Both majors, one after the other."""
    server = request.getfixturevalue(request.param)
    assert isinstance(server, PostgresServer)
    return server


def _server(major: int) -> Iterator[PostgresServer]:
    server = start_postgres(major, programs(major), SETTINGS)
    yield server
    server.stop()
