"""SftpStore under test, on a real OpenSSH server."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from blocks.stores import SftpStore
from tests.blocks.stores.subjects import Subject, make_files
from tests.servers.sftp import SftpServer, start_sftp

_numbers = count()


@pytest.fixture(scope="session")
def sftp_server() -> Iterator[SftpServer]:
    server = start_sftp(host_keys=("ed25519", "ecdsa", "rsa"))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def connected_sftp_store(sftp_server: SftpServer) -> SftpStore:
    """A store whose sessions many tests share: a log-in takes longer than a test."""
    store = sftp_server.store(sftp_server.directory)
    store.now()
    return store


@pytest.fixture
def sftp_subject(sftp_server: SftpServer, connected_sftp_store: SftpStore) -> Subject:
    directory = sftp_server.directory / f"store-{next(_numbers)}"
    root = directory / "some" / "folder"

    def begin_upload(key: str) -> None:
        make_files(root, [str(Path(key).with_name(f".{Path(key).name}.01234567.part"))])

    store = connected_sftp_store.model_copy(update={"directory": str(directory), "prefix": "some/folder"})
    return Subject(store, lambda keys: make_files(root, keys), begin_upload)
