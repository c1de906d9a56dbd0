"""A directory as a store: a disk of this host, or a share that is mounted on it.

An object is written to `.NAME.<random>.part` beside its place and flushed to the disk, and only then
gets its name. Whatever a kill leaves is a `.part` file, which no listing shows and `pending` does.
"""

import contextlib
import os
import shlex
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from blocks.errors import ObjectExists, ObjectMissing, StoreError, StoreUnreachable
from blocks.stores.base import PendingUpload, Store, StoredObject, check_key, is_key
from blocks.stores.local_errors import translated
from blocks.stores.local_files import files_below
from blocks.stores.mounts import is_on_network
from blocks.stores.part_file import PartFile, meant_name, open_part, remove_empty, sync_directory

CHUNK_BYTES = 1 << 20


class LocalStore(Store):
    """Keeps backups in a directory of this host, or of a share that is mounted on it.

    Example:
        List what a stored block's directory holds:
        ```python
        from blocks.stores import LocalStore

        local_store = LocalStore.load("BLOCK_NAME")
        for stored in local_store.list():
            print(stored.key, stored.size_bytes)
        ```
    """

    _block_type_name = "LocalStore"
    _block_type_slug = "local-store"
    _documentation_url = "https://docs.prefect.io/v3/concepts/blocks"  # type: ignore[assignment]

    kind: Literal["local"] = Field("local", description="Tells this kind of store from others.")
    name: str = Field("local", description="The destination's name within a plan.")
    path: str = Field(
        min_length=1,
        description="Directory that holds the backups; ~ is the home of the user that runs this. "
        "It is made at the first write; the directory above it must be there.",
    )
    prefix: str = Field("", description="Folder below the directory; empty for the directory itself.")
    mount_marker: str = Field(
        "",
        description="A file that lies in the directory only while its share or disk is mounted, such as "
        ".pgsalvo-mount; nothing is read or written without it. Empty if nothing is mounted there.",
    )

    @field_validator("prefix")
    @classmethod
    def _stays_below_the_path(cls, prefix: str) -> str:
        prefix = prefix.strip("/")
        if prefix and not is_key(prefix):
            raise ValueError("must be a relative folder without empty or dot segments")
        return prefix

    @field_validator("mount_marker")
    @classmethod
    def _is_a_files_name(cls, mount_marker: str) -> str:
        if mount_marker and ("/" in mount_marker or not is_key(mount_marker)):
            raise ValueError("must be a file's name, such as .pgsalvo-mount")
        return mount_marker

    @property
    def location(self) -> str:
        return str(self._directory / self.prefix)

    @property
    def on_this_host(self) -> bool:
        return not is_on_network(self._directory)

    def put(self, key: str, chunks: Iterable[bytes], *, expected_bytes: int | None = None) -> int:  # noqa: ARG002
        size_bytes = 0
        with self._part(key) as part:
            for chunk in chunks:
                with self._errors(f"write {key}"):
                    part.write(chunk)
                size_bytes += len(chunk)
            with self._errors(f"write {key}"):
                part.replace()
        return size_bytes

    def create(self, key: str, body: bytes) -> None:
        if self.refuse_other_bytes(key, body):
            return
        with self._part(key) as part, self._errors(f"create {key}"):
            part.write(body)
            try:
                part.link()
            except FileExistsError:
                if not self.refuse_other_bytes(key, body):
                    raise ObjectExists(f"{key} on {self.location} came and went meanwhile") from None

    def get(self, key: str, *, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        chunks = self._read(key, start, end)
        next(chunks)
        return chunks

    def stat(self, key: str) -> StoredObject:
        path = self._path(key)
        with self._errors(f"look at {key}"), self._missing(key):
            found = _regular(path.stat())
        return StoredObject(key, found.st_size, _utc(found.st_mtime))

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        objects = [
            StoredObject(folder + name, found.st_size, _utc(found.st_mtime))
            for folder, name, found in files_below(self._root(), prefix)
            if not meant_name(name)
            and not self._is_marker(folder + name)
            and (folder + name).startswith(prefix)
        ]
        yield from sorted(objects, key=lambda stored: stored.key)

    def delete(self, key: str) -> None:  # type: ignore[override] # see Store.delete
        path = self._path(key)
        with self._errors(f"delete {key}"):
            # a directory of this name is no object
            with contextlib.suppress(FileNotFoundError, NotADirectoryError, IsADirectoryError):
                path.unlink()
                sync_directory(path.parent)
            remove_empty(path.parent, self._root())

    def now(self) -> datetime:
        """The file system's clock, which on a share is another host's; ours where nothing can be written."""
        try:
            with tempfile.TemporaryFile(dir=self._root()) as file:
                return _utc(os.fstat(file.fileno()).st_mtime)
        except OSError:
            return datetime.now(UTC)

    def pending(self, prefix: str = "") -> Iterator[PendingUpload]:
        """Yield the `.part` files, as begun at their last write: a running upload is never an old one."""
        root = self._root()
        uploads = [
            PendingUpload(folder + meant, str(root / folder / name), _utc(found.st_mtime))
            for folder, name, found in files_below(root, prefix)
            if (meant := meant_name(name)) and (folder + meant).startswith(prefix)
        ]
        yield from sorted(uploads, key=lambda upload: (upload.key, upload.upload_id))

    def abort_pending(self, upload: PendingUpload) -> None:
        path, target = Path(upload.upload_id), self._path(upload.key)
        if (path.parent, meant_name(path.name)) != (target.parent, target.name):
            raise StoreError(f"{upload.upload_id} is no unfinished upload of {self.location}")
        with self._errors(f"clear {path.name}"):
            path.unlink(missing_ok=True)
            remove_empty(path.parent, self._root())

    @property
    def _directory(self) -> Path:
        return Path(self.path).expanduser().absolute()

    def _root(self) -> Path:
        """Return what keys are relative to.

        Raises:
            StoreUnreachable: It has to be mounted first.
            StoreError: It is not there and could not be made.
        """
        directory = self._directory
        with self._errors("look at the directory"):
            if directory.exists() and not directory.is_dir():
                raise StoreError(f"{directory} is not a directory")
            if self.mount_marker and not (directory / self.mount_marker).is_file():
                folder, marker = (
                    shlex.quote(str(path)) for path in (directory, directory / self.mount_marker)
                )
                raise StoreUnreachable(
                    f"{directory} is not mounted: it does not hold the file {self.mount_marker}",
                    f"mount it; if it is, mark it once: mkdir -p {folder} && touch {marker}",
                )
            if not directory.parent.is_dir():
                raise StoreError(
                    f"there is no directory {directory.parent} for the store {self.name}",
                    f"mount it, or make it: mkdir -p {directory.parent}",
                )
        return directory / self.prefix

    def _path(self, key: str) -> Path:
        check_key(key)
        path = self._root() / key
        if meant_name(path.name):
            raise StoreError(f"not an object's key: {key!r} is the name of an unfinished upload")
        if self._is_marker(key):
            raise StoreError(f"not an object's key: {key!r} is the mount's marker")
        return path

    def _is_marker(self, key: str) -> bool:
        return key == self.mount_marker and not self.prefix

    @contextmanager
    def _part(self, key: str) -> Iterator[PartFile]:
        """Open a part beside the key's place; at the end it is gone, whether it got its name or not."""
        path = self._path(key)
        with self._errors(f"write {key}"):
            part = open_part(path)
        try:
            yield part
        finally:
            part.close()
            remove_empty(path.parent, self._root())

    def _read(self, key: str, start: int, end: int | None) -> Iterator[bytes]:
        """Yield nothing once the object is open, so that `get` can raise at once, and then its bytes."""
        path = self._path(key)
        with contextlib.ExitStack() as stack:
            with self._errors(f"read {key}"), self._missing(key):
                file = stack.enter_context(path.open("rb", buffering=0))
                size_bytes = _regular(os.fstat(file.fileno())).st_size
                rest = min(size_bytes, size_bytes if end is None else end) - file.seek(start)
            yield b""
            while rest > 0:
                with self._errors(f"read {key}"):
                    chunk = file.read(min(CHUNK_BYTES, rest))
                if not chunk:
                    raise StoreError(f"{key} on {self.location} ended {rest} bytes before its end")
                rest -= len(chunk)
                yield chunk

    @contextmanager
    def _missing(self, key: str) -> Iterator[None]:
        try:
            yield
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise ObjectMissing(f"there is no {key} on {self.location}") from None

    def _errors(self, doing: str) -> AbstractContextManager[None]:
        return translated(f"cannot {doing} on {self.location}")


def _regular(found: os.stat_result) -> os.stat_result:
    if not stat.S_ISREG(found.st_mode):
        raise IsADirectoryError
    return found


def _utc(timestamp: float) -> datetime:
    return datetime.fromtimestamp(timestamp, UTC)
