"""Fixtures of the stores' tests."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from blocks.stores import S3Store, Store
from tests.blocks.stores.subjects import Subject, local_subject, memory_subject, s3_subject
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


@pytest.fixture(params=["local", "s3", "memory"])
def subject(request: pytest.FixtureRequest, tmp_path: Path) -> Subject:
    if request.param == "local":
        return local_subject(tmp_path)
    if request.param == "memory":
        return memory_subject()
    return s3_subject(
        request.getfixturevalue("s3_server"),
        request.getfixturevalue("connected_s3_store"),
        request.getfixturevalue("bucket"),
    )


@pytest.fixture
def store(subject: Subject) -> Store:
    return subject.store
