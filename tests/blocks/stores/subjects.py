"""Stores under test, each with what goes past it: seeding, and an upload that nobody finishes."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from blocks.stores import LocalStore, S3Store, Store
from blocks.stores.memory import MemoryStore
from tests.servers.s3 import S3Server


@dataclass(frozen=True)
class Subject:
    """An empty store; `seed` makes empty objects at once, `begin_upload` leaves what a kill leaves.

    Args:
        lists_uploads: Whether what a kill leaves can be seen; where not, it goes by itself.
    """

    store: Store
    seed: Callable[[Iterable[str]], None]
    begin_upload: Callable[[str], None]
    lists_uploads: bool = True


def make_files(root: Path, keys: Iterable[str]) -> None:
    for key in keys:
        (root / key).parent.mkdir(parents=True, exist_ok=True)
        (root / key).touch()


def local_subject(directory: Path) -> Subject:
    root = directory / "store" / "some" / "folder"

    def begin_upload(key: str) -> None:
        target = root / key
        make_files(root, [str(Path(key).with_name(f".{target.name}.01234567.part"))])

    store = LocalStore(path=str(directory / "store"), prefix="some/folder")
    return Subject(store, lambda keys: make_files(root, keys), begin_upload)


def memory_subject() -> Subject:
    store = MemoryStore()

    def seed(keys: Iterable[str]) -> None:
        for key in keys:
            store.put(key, [])

    def begin_upload(key: str) -> None:
        store.begin_upload(key)

    return Subject(store, seed, begin_upload)


def s3_subject(server: S3Server, connected: S3Store, bucket: str) -> Subject:
    """Return a store of a new bucket that shares the boto3 client of `connected`."""
    root = server.directory / bucket / "some" / "folder"

    def begin_upload(key: str) -> None:
        server.client.create_multipart_upload(Bucket=bucket, Key=f"some/folder/{key}")

    store = connected.model_copy(update={"bucket": bucket, "prefix": "some/folder"})
    return Subject(store, lambda keys: make_files(root, keys), begin_upload)
