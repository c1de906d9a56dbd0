"""Fixtures of the stores' tests."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from blocks.stores import S3Store, Store
from tests.blocks.stores import subjects
from tests.blocks.stores.subject_azure import (  # noqa: F401
    azure_container,
    azure_line,
    azure_server,
    azure_store,
    azure_subject,
)
from tests.blocks.stores.subject_gcs import (  # noqa: F401
    gcs_bucket,
    gcs_line,
    gcs_server,
    gcs_store,
    gcs_subject,
)
from tests.blocks.stores.subject_rclone import (  # noqa: F401
    connected_rclone_store,
    disk_features,
    rclone_line,
    rclone_server,
    rclone_store,
    rclone_subject,
)
from tests.blocks.stores.subject_rsync import rsync_server, rsync_subject  # noqa: F401
from tests.blocks.stores.subject_sftp import connected_sftp_store, sftp_server, sftp_subject  # noqa: F401
from tests.blocks.stores.subjects import Subject
from tests.servers.s3 import BrokenLine, S3Server, broken_line, start_s3

_numbers = count()


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    server = start_s3()
    yield server
    server.stop()


@pytest.fixture
def bucket(s3_server: S3Server) -> str:
    """A new bucket."""
    name = f"bucket-{next(_numbers)}"
    s3_server.make_bucket(name)
    return name


@pytest.fixture
def s3_store(s3_server: S3Server, bucket: str) -> S3Store:
    return s3_server.store(bucket, prefix="some/folder")


@pytest.fixture
def line(s3_server: S3Server) -> Iterator[BrokenLine]:
    with broken_line(s3_server.port) as line:
        yield line


@pytest.fixture(scope="session")
def connected_s3_store(s3_server: S3Server) -> S3Store:
    """A store whose boto3 client many tests share: making one takes longer than a test."""
    s3_server.make_bucket("connected")
    store = s3_server.store("connected")
    store.now()
    return store


@pytest.fixture
def local_subject(tmp_path: Path) -> Subject:
    return subjects.local_subject(tmp_path)


@pytest.fixture
def memory_subject() -> Subject:
    return subjects.memory_subject()


@pytest.fixture
def s3_subject(s3_server: S3Server, connected_s3_store: S3Store, bucket: str) -> Subject:
    return subjects.s3_subject(s3_server, connected_s3_store, bucket)


KINDS = [
    "azure",
    "gcs",
    "local",
    "memory",
    "rclone",
    "rsync",
    "s3",
    "sftp",
]


@pytest.fixture(params=KINDS)
def subject(request: pytest.FixtureRequest) -> Subject:
    """Each kind of store, empty."""
    found = request.getfixturevalue(f"{request.param}_subject")
    assert isinstance(found, Subject)
    return found


@pytest.fixture
def store(subject: Subject) -> Store:
    return subject.store
