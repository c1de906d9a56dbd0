"""Rclone stores under test: on a disk, and on a server over the network."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from blocks.stores import RcloneStore
from tests.blocks.stores.subjects import Subject, make_files
from tests.servers.rclone import WebdavServer, section, start_webdav
from tests.servers.s3 import BrokenLine, broken_line

_numbers = count()


@pytest.fixture(scope="session")
def rclone_server() -> Iterator[WebdavServer]:
    server = start_webdav()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def connected_rclone_store(rclone_server: WebdavServer) -> RcloneStore:
    """A store that has asked what its remote can do."""
    store = rclone_server.store(timeout_seconds=10)
    assert store._features["PutStream"]
    return store


@pytest.fixture
def rclone_line(rclone_server: WebdavServer) -> Iterator[BrokenLine]:
    with broken_line(rclone_server.port) as line:
        yield line


@pytest.fixture
def rclone_store(connected_rclone_store: RcloneStore) -> RcloneStore:
    """A store of a folder that is not there yet."""
    prefix = f"store-{next(_numbers)}/some/folder"
    fields = connected_rclone_store.model_dump() | {"prefix": prefix}
    store = RcloneStore(**fields)
    store.__dict__["_features"] = connected_rclone_store._features
    return store


@pytest.fixture(scope="session")
def disk_features() -> dict[str, bool]:
    return RcloneStore(remote="disk", config=section("disk", {"type": "local"}))._features


@pytest.fixture
def rclone_subject(tmp_path: Path, disk_features: dict[str, bool]) -> Subject:
    """A disk by rclone's own backend for one; over the network this takes several times as long."""
    configuration = section("disk", {"type": "alias", "remote": str(tmp_path)})
    store = RcloneStore(remote="disk", prefix="some/folder", config=configuration)
    store.__dict__["_features"] = disk_features
    root = tmp_path / "some" / "folder"

    def begin_upload(key: str) -> None:
        make_files(root, [str(Path(key).with_name(f".{Path(key).name}.01234567.part"))])

    return Subject(store, lambda keys: make_files(root, keys), begin_upload)
