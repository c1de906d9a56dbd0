"""RsyncStore under test, on a real daemon."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from tests.blocks.stores.subjects import Subject, make_files
from tests.servers.rsync import RsyncServer, start_rsyncd

_numbers = count()


@pytest.fixture(scope="session")
def rsync_server() -> Iterator[RsyncServer]:
    server = start_rsyncd()
    yield server
    server.stop()


@pytest.fixture
def rsync_subject(rsync_server: RsyncServer) -> Subject:
    folder = f"store-{next(_numbers)}"
    root = rsync_server.directory / folder / "some" / "folder"

    def begin_upload(key: str) -> None:
        make_files(root, [str(Path(key).with_name(f".{Path(key).name}.a1B2c3"))])

    store = rsync_server.store(folder, prefix="some/folder")
    return Subject(store, lambda keys: make_files(root, keys), begin_upload)
