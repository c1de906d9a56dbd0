"""An Azure store under test."""

from collections.abc import Iterable, Iterator
from itertools import count

import pytest

from blocks.stores import AzureStore
from blocks.stores.azure_names import blob_name
from tests.blocks.stores.subjects import Subject
from tests.servers.azure import AzureServer, start_azure
from tests.servers.s3 import BrokenLine, broken_line

_numbers = count()


@pytest.fixture(scope="session")
def azure_server() -> Iterator[AzureServer]:
    server = start_azure()
    yield server
    server.stop()


@pytest.fixture
def azure_container(azure_server: AzureServer) -> str:
    """A new container."""
    name = f"container-{next(_numbers)}"
    azure_server.client.create_container(name)
    return name


@pytest.fixture
def azure_store(azure_server: AzureServer, azure_container: str) -> AzureStore:
    return azure_server.store(azure_container, prefix="some/folder")


@pytest.fixture
def azure_line(azure_server: AzureServer) -> Iterator[BrokenLine]:
    with broken_line(azure_server.port) as line:
        yield line


@pytest.fixture
def azure_subject(azure_server: AzureServer, azure_store: AzureStore) -> Subject:
    def begin_upload(key: str) -> None:
        blob = azure_server.client.get_blob_client(azure_store.container, blob_name(f"some/folder/{key}"))
        blob.stage_block("0" * 20, b"x")

    def seed(keys: Iterable[str]) -> None:
        azure_server.seed(azure_store.container, (f"some/folder/{key}" for key in keys))

    return Subject(azure_store, seed, begin_upload)
