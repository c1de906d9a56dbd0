"""An S3 store under test, in a bucket of Ceph's."""

from collections.abc import Iterable
from itertools import count

import pytest

from blocks.stores import S3Store
from tests.blocks.stores.subjects import Subject
from tests.servers.ceph import CephServer

_numbers = count()


@pytest.fixture(scope="module")
def connected_ceph_store(ceph_server: CephServer) -> S3Store:
    """A store whose boto3 client many tests share."""
    store = ceph_server.store(ceph_server.make_bucket(f"bucket-{next(_numbers)}"))
    assert store.now()
    return store


@pytest.fixture
def subject(ceph_server: CephServer, connected_ceph_store: S3Store) -> Subject:
    """An S3 store of a folder of its own; the only kind here."""
    bucket, prefix = connected_ceph_store.bucket, f"store-{next(_numbers)}/some/folder"

    def begin_upload(key: str) -> None:
        ceph_server.client.create_multipart_upload(Bucket=bucket, Key=f"{prefix}/{key}")

    def seed(keys: Iterable[str]) -> None:
        ceph_server.fill(bucket, (f"{prefix}/{key}" for key in keys))

    return Subject(connected_ceph_store.model_copy(update={"prefix": prefix}), seed, begin_upload)


@pytest.fixture
def store(subject: Subject) -> S3Store:
    assert isinstance(subject.store, S3Store)
    return subject.store
