"""A share of an SMB server: a NAS, Windows, or Samba."""

import contextlib
import errno
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, SecretStr, field_validator

from blocks.errors import ObjectExists, ObjectMissing, StoreError, StoreUnreachable
from blocks.references import resolve
from blocks.stores.base import PendingUpload, Store, StoredObject, is_key
from blocks.stores.extras import imported
from blocks.stores.hidden_names import check_upload, objects_among, uploads_among
from blocks.stores.hosts import is_this_host
from blocks.stores.part_file import MOST_TRIES
from blocks.stores.part_keys import checked, meant_key, part_of
from blocks.stores.smb_names import read_name, spelled

if TYPE_CHECKING:
    from blocks.stores.smb_access import Share

CHUNK_BYTES = 1 << 20
NO_FILE_NUMBERS = (0, 2**64 - 1)  # of servers that give none: then links are not told from folders


class SmbStore(Store):
    """Keeps backups on a share of a NAS, of Windows or of Samba, without mounting it.

    Most servers take keys that differ only in the case of letters for one file: there the later object
    replaces the earlier one.

    Example:
        List what a stored block's share holds:
        ```python
        from blocks.stores import SmbStore

        smb_store = SmbStore.load("BLOCK_NAME")
        for stored in smb_store.list():
            print(stored.key, stored.size_bytes)
        ```
    """

    _block_type_name = "SmbStore"
    _block_type_slug = "smb-store"
    _documentation_url = "https://docs.prefect.io/v3/concepts/blocks"  # type: ignore[assignment]

    kind: Literal["smb"] = Field("smb", description="Tells this kind of store from others.")
    name: str = Field("smb", description="The destination's name within a plan.")
    host: str = Field(pattern=r"^[^\s\\/@]+$", description="The server's name or address.")
    port: int = Field(445, ge=1, le=65535, description="The server's TCP port.")
    share: str = Field(pattern=r"^[^\\/]+$", description="The share's name; it must exist.")
    prefix: str = Field("", description="Folder below the share; empty for the share itself.")
    user: str = Field(
        "",
        description="Who logs in, NAME or DOMAIN\\NAME; empty for the Kerberos ticket of whoever runs this.",
    )
    password: SecretStr = Field(
        SecretStr(""),
        description="The user's password, or where it lies: env:NAME, file:PATH or aws-secret:NAME.",
    )
    require_encryption: bool = Field(
        True, description="Whether the line must be encrypted, which takes a server that knows SMB 3."
    )
    require_signing: bool = Field(True, description="Whether both sides must sign what they send.")
    timeout_seconds: float = Field(
        30, ge=1, description="For how long the server may take to connect, and for each answer."
    )

    @field_validator("prefix")
    @classmethod
    def _is_a_folder(cls, prefix: str) -> str:
        prefix = prefix.strip("/")
        if prefix and not is_key(prefix):
            raise ValueError("must be a folder without empty or dot segments")
        return prefix

    @property
    def location(self) -> str:
        port = "" if self.port == 445 else f":{self.port}"
        return f"smb://{self.host}{port}/{self.share}/{self.prefix}".rstrip("/")

    @property
    def on_this_host(self) -> bool:
        return is_this_host(self.host)

    def put(self, key: str, chunks: Iterable[bytes], *, expected_bytes: int | None = None) -> int:  # noqa: ARG002
        what, size_bytes = self._cannot("write", key), 0
        with self._part(key, what) as (part, file):
            for chunk in chunks:
                size_bytes += len(chunk)
                self._write(file, chunk, what)
            self._publish(file, part, key, what, replace=True)
        return size_bytes

    def create(self, key: str, body: bytes) -> None:
        if self.refuse_other_bytes(key, body):
            return
        what = self._cannot("create", key)
        with self._part(key, what) as (part, file):
            self._write(file, body, what)
            try:
                self._publish(file, part, key, what, replace=False)
            except ObjectExists:
                if not self.refuse_other_bytes(key, body):
                    raise

    def get(self, key: str, *, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        chunks = self._read(checked(key), start, end)
        next(chunks)
        return chunks

    def stat(self, key: str) -> StoredObject:
        with self._errors(self._cannot("look at", checked(key))), self._opened(key, "r") as file:
            return StoredObject(key, file.fd.end_of_file, file.fd.last_write_time)

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        yield from objects_among(self._files(prefix), prefix, meant_key)

    def delete(self, key: str) -> None:  # type: ignore[override] # see Store.delete
        self._remove(checked(key), self._cannot("delete", key))

    def now(self) -> datetime:
        """The server's clock, as it dates a file that is gone at once; ours where none can be made."""
        try:
            with self._errors(self._cannot("tell the time of", "the server")):
                return self._share.clock(self._path(part_of("clock")))
        except StoreError as error:
            if error.transient:
                raise
            return datetime.now(UTC)

    def pending(self, prefix: str = "") -> Iterator[PendingUpload]:
        """Yield the `.part` files, as begun at their last write: a running upload is never an old one."""
        yield from uploads_among(self._files(prefix), prefix, meant_key)

    def abort_pending(self, upload: PendingUpload) -> None:
        check_upload(upload, self.location, meant_key)
        self._remove(upload.upload_id, self._cannot("clear the upload of", upload.key))

    @cached_property
    def _share(self) -> "Share":
        imported("smbprotocol", "smb")
        from blocks.stores.smb_access import Share

        return Share(
            host=self.host,
            port=self.port,
            name=self.share,
            user=self.user,
            password=lambda: resolve(self.password),
            encrypt=self.require_encryption,
            sign=self.require_signing,
            timeout_seconds=self.timeout_seconds,
        )

    @contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        imported("smbprotocol", "smb")
        from blocks.stores.smb_errors import translated

        with translated(what):
            yield

    @contextmanager
    def _part(self, key: str, what: str) -> Iterator[tuple[str, Any]]:
        """Open a part beside the key's place; at the end it is gone, whether it got its name or not."""
        part = part_of(checked(key))
        with self._errors(what):
            file = self._opened_in_its_folder(part)
        try:
            yield part, file
        finally:
            with contextlib.suppress(StoreError), self._errors(what):
                self._share.let_go(file)
                self._remove(part, what)

    def _opened_in_its_folder(self, part: str) -> Any:
        # a deletion may remove an empty folder again before the part is in it
        for _ in range(MOST_TRIES):
            try:
                return self._share.open(self._path(part), "x")
            except OSError as error:
                if error.errno != errno.ENOENT:
                    raise
                self._make_folders(part.rpartition("/")[0])
        raise FileNotFoundError(errno.ENOENT, part)

    def _make_folders(self, folder: str) -> None:
        names = self._path(folder).split("\\")
        for depth in range(1, len(names) + 1):
            try:
                self._share.make_directory("\\".join(names[:depth]))
            except OSError as error:
                if error.errno != errno.EEXIST:
                    raise

    def _write(self, file: Any, chunk: bytes, what: str) -> None:
        view = memoryview(chunk)
        with self._errors(what):
            while view:
                view = view[file.write(view) :]

    def _publish(self, file: Any, part: str, key: str, what: str, *, replace: bool) -> None:
        """Give a part its name, when the server has all of it on its disk."""
        with self._errors(what):
            file.flush()
            file.close()
            self._share.rename(self._path(part), self._path(key), replace=replace)

    @contextmanager
    def _opened(self, key: str, mode: str) -> Iterator[Any]:
        file = self._share.open(self._path(key), mode)
        try:
            yield file
        finally:
            self._share.let_go(file)

    def _read(self, key: str, start: int, end: int | None) -> Iterator[bytes]:
        """Yield nothing once the object is open, so that `get` can raise at once, and then its bytes."""
        what = self._cannot("read", key)
        with contextlib.ExitStack() as stack:
            with self._errors(what):
                file = stack.enter_context(self._opened(key, "r"))
            size_bytes = file.fd.end_of_file
            rest = min(size_bytes, size_bytes if end is None else end) - file.seek(start)
            yield b""
            while rest > 0:
                buffer = bytearray(min(CHUNK_BYTES, rest))
                with self._errors(what):
                    count = file.readinto(buffer)
                if not count:
                    raise StoreUnreachable(f"{what}: it ended {rest} bytes before its end")
                rest -= count
                yield bytes(memoryview(buffer)[:count])

    def _files(self, prefix: str) -> Iterator[StoredObject]:
        """Yield the files, parts among them, of all folders that may hold what begins with `prefix`."""
        folder, slash, _ = prefix.rpartition("/")
        if slash and not is_key(folder):
            return
        folders = [(folder + slash, frozenset[tuple[int, datetime]]())]
        while folders:
            folder, above = folders.pop()
            try:
                with self._errors(self._cannot("list", folder)):
                    entries = self._share.entries(self._path(folder.rstrip("/")))
            except ObjectMissing:
                continue
            here = {e.identity for e in entries if e.name == "." and e.identity[0] not in NO_FILE_NUMBERS}
            if here & above:  # a link led back up
                continue
            for entry in entries:
                key = folder + read_name(entry.name)
                if entry.is_directory and entry.name != "." and f"{key}/".startswith(prefix):
                    folders.append((f"{key}/", above | here))
                elif not entry.is_directory and is_key(key):
                    yield StoredObject(key, entry.size_bytes, entry.modified_at)

    def _remove(self, key: str, what: str) -> None:
        """Delete a file, and the folders that are empty without it."""
        with contextlib.suppress(ObjectMissing), self._errors(what):
            self._share.remove(self._path(key))
        folder = key.rpartition("/")[0]
        # the server itself refuses one that is not empty
        with contextlib.suppress(StoreError), self._errors(what):
            while folder:
                self._share.remove_directory(self._path(folder))
                folder = folder.rpartition("/")[0]

    def _path(self, key: str) -> str:
        return spelled("/".join(part for part in (self.prefix, key) if part))

    def _cannot(self, verb: str, key: str) -> str:
        return f"cannot {verb} {key} on {self.location}"
