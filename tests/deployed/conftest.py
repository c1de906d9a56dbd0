"""One Prefect server for the whole session, and this process as one of its clients."""

from collections.abc import Iterator

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

from tests.servers.postgres import PASSWORD, SUPERUSER, PostgresServer
from tests.servers.prefect import PrefectServer, prefect_server


@pytest.fixture(scope="session")
def server(postgres15: PostgresServer) -> Iterator[PrefectServer]:
    """A server with a password, on a database of PostgreSQL as in production."""
    postgres15.create_database("prefect")
    url = f"postgresql+asyncpg://{SUPERUSER}:{PASSWORD}@127.0.0.1:{postgres15.port}/prefect"
    with prefect_server(url) as running:
        yield running


@pytest.fixture
def client(server: PrefectServer) -> Iterator[SyncPrefectClient]:
    """A client of the server; until the test's end, whatever this process asks Prefect goes there."""
    settings = {PREFECT_API_URL: server.api_url, PREFECT_API_AUTH_STRING: server.auth}
    with temporary_settings(settings), get_client(sync_client=True) as client:
        yield client
