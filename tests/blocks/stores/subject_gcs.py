"""A store on Google Cloud Storage under test."""

from collections.abc import Iterable, Iterator
from itertools import count
from urllib.parse import quote

import httpx
import pytest

from blocks.stores import GcsStore
from tests.blocks.stores.subjects import Subject
from tests.servers.gcs import GcsServer, start_gcs
from tests.servers.ports import free_port
from tests.servers.s3 import BrokenLine, broken_line

_numbers = count()


@pytest.fixture(scope="session")
def gcs_server() -> Iterator[GcsServer]:
    server = start_gcs()
    yield server
    server.stop()


@pytest.fixture
def gcs_bucket(gcs_server: GcsServer) -> str:
    """A new bucket."""
    name = f"bucket-{next(_numbers)}"
    gcs_server.make_bucket(name)
    return name


@pytest.fixture
def gcs_store(gcs_server: GcsServer, gcs_bucket: str) -> GcsStore:
    return gcs_server.store(gcs_bucket, prefix="some/folder")


@pytest.fixture
def gcs_line() -> Iterator[tuple[GcsServer, BrokenLine]]:
    """A server, and a line to it over which uploads go as well."""
    port = free_port()
    with broken_line(port) as line:
        server = start_gcs(port, line.endpoint_url)
        yield server, line
        server.stop()


@pytest.fixture
def gcs_subject(gcs_server: GcsServer, gcs_store: GcsStore) -> Subject:
    address = f"{gcs_server.endpoint_url}/upload/storage/v1/b/{gcs_store.bucket}/o"

    def seed(keys: Iterable[str]) -> None:
        gcs_server.seed(gcs_store.bucket, (f"some/folder/{key}" for key in keys))

    def begin_upload(key: str) -> None:
        name = quote(f"some/folder/{key}", safe="")
        httpx.post(f"{address}?uploadType=resumable&name={name}", timeout=30).raise_for_status()

    return Subject(gcs_store, seed, begin_upload, lists_uploads=False)
