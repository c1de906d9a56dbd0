"""An SMB store under test, on a server that only root can start."""

from collections.abc import Iterable, Iterator
from itertools import count

import pytest

from blocks.stores import SmbStore
from blocks.stores.part_keys import part_of
from blocks.stores.smb_names import spelled
from tests.blocks.stores.subjects import Subject, make_files
from tests.servers.smb import SmbServer, start_smb

_numbers = count()


@pytest.fixture(scope="module")
def smb_server() -> Iterator[SmbServer]:
    server = start_smb()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def connected_smb_store(smb_server: SmbServer) -> SmbStore:
    """A store whose connection many tests share."""
    store = smb_server.store()
    assert store.now()
    return store


@pytest.fixture
def subject(smb_server: SmbServer, connected_smb_store: SmbStore) -> Subject:
    """An SMB store of a folder that is not there yet; the only kind here."""
    prefix = f"store-{next(_numbers)}/some/folder"
    store = smb_server.store(prefix=prefix)
    store.__dict__["_share"] = connected_smb_store._share

    def seed(keys: Iterable[str]) -> None:
        make_files(smb_server.directory / prefix, (spelled(key).replace("\\", "/") for key in keys))

    return Subject(store, seed, lambda key: seed([part_of(key)]))


@pytest.fixture
def store(subject: Subject) -> SmbStore:
    assert isinstance(subject.store, SmbStore)
    return subject.store
