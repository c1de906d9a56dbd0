"""A directory on a server that speaks SFTP, such as every OpenSSH server.

An object is written to `.NAME.<random>.part` beside its place, flushed where the server can, and only
then gets its name. What a kill leaves is a `.part` file, which no listing shows and `pending` does.
"""

import posixpath
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from blocks.errors import StoreError
from blocks.references import resolve
from blocks.stores.base import PendingUpload, Store, StoredObject, check_key, is_key
from blocks.stores.extras import imported
from blocks.stores.hidden_names import check_upload, objects_among, uploads_among
from blocks.stores.hosts import is_this_host
from blocks.stores.part_keys import checked, meant_key
from blocks.stores.ssh_trust import SSH_PORT, parse_pin

if TYPE_CHECKING:
    from blocks.stores.sftp_access import Access, Sessions
    from blocks.stores.sftp_objects import Objects

EXTRA = "sftp"


class SftpStore(Store):
    """Keeps backups in a directory of a server that speaks SFTP.

    Where the server cannot rename over an object (OpenSSH's can), an older one of the same key is removed
    first: for that moment there is none, and a failure in it may leave none.

    Example:
        List what a stored block's directory holds:
        ```python
        from blocks.stores import SftpStore

        sftp_store = SftpStore.load("BLOCK_NAME")
        for stored in sftp_store.list():
            print(stored.key, stored.size_bytes)
        ```
    """

    _block_type_name = "SftpStore"
    _block_type_slug = "sftp-store"
    _documentation_url = "https://man.openbsd.org/sftp-server"  # type: ignore[assignment]

    kind: Literal["sftp"] = Field("sftp", description="Tells this kind of store from others.")
    name: str = Field("sftp", description="The destination's name within a plan.")
    host: str = Field(min_length=1, description="The server's name or address.")
    port: int = Field(SSH_PORT, ge=1, le=65535, description="The port of its SSH service.")
    user: str = Field(min_length=1, description="Who logs in.")
    directory: str = Field(
        min_length=1,
        description="Directory on the server; a relative one begins where the login ends. "
        "It is made at the first write; the directory above it must be there.",
    )
    prefix: str = Field("", description="Folder below the directory; empty for the directory itself.")
    host_key: str = Field(
        "",
        description="The server's public key (ssh-ed25519 AAAA…) or its fingerprint (SHA256:…); "
        "empty for what known_hosts says. A server that shows another is refused.",
    )
    known_hosts_file: str = Field(
        "",
        description="File of the servers' keys; ~/.ssh/known_hosts and /etc/ssh/ssh_known_hosts if empty.",
    )
    key_file: str = Field("", description="File with the private SSH key that logs in.")
    key_passphrase: SecretStr = Field(
        SecretStr(""),
        description="The key's passphrase, or where it lies: env:NAME, file:PATH or aws-secret:NAME.",
    )
    password: SecretStr = Field(
        SecretStr(""),
        description="The user's password, or where it lies: env:NAME, file:PATH or aws-secret:NAME.",
    )
    timeout_seconds: float = Field(
        30, gt=0, description="How long the server may take to let us in, and then for each answer."
    )

    @field_validator("prefix")
    @classmethod
    def _is_a_folder(cls, prefix: str) -> str:
        prefix = prefix.strip("/")
        if prefix and not is_key(prefix):
            raise ValueError("must be a folder without empty or dot segments")
        return prefix

    @field_validator("host_key")
    @classmethod
    def _is_a_key(cls, host_key: str) -> str:
        if host_key:
            parse_pin(host_key)
        return host_key

    @model_validator(mode="after")
    def _can_log_in(self) -> Self:
        if not self.key_file and not self.password.get_secret_value():
            raise ValueError("key_file or password is needed; both if the server wants both")
        if self.host_key and self.known_hosts_file:
            raise ValueError("either host_key or known_hosts_file, not both")
        return self

    @property
    def location(self) -> str:
        port = "" if self.port == SSH_PORT else f":{self.port}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        path = self._root if self._root.startswith("/") else f"/~/{self._root}"
        return f"sftp://{self.user}@{host}{port}{path}"

    @property
    def on_this_host(self) -> bool:
        return is_this_host(self.host)

    def put(self, key: str, chunks: Iterable[bytes], *, expected_bytes: int | None = None) -> int:  # noqa: ARG002
        with self._objects("write", checked(key)) as objects, objects.part(key) as part:
            size_bytes = objects.fill(part, chunks)
            with objects.errors():
                part.replace()
        return size_bytes

    def create(self, key: str, body: bytes) -> None:
        if self.refuse_other_bytes(key, body):
            return
        with self._objects("create", checked(key)) as objects, objects.part(key) as part:
            objects.fill(part, [body])
            try:
                with objects.errors():
                    part.rename()
            except StoreError as error:
                # somebody else may have been faster
                if error.transient or not self.refuse_other_bytes(key, body):
                    raise
                part.remove()

    def get(self, key: str, *, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        check_key(key)
        chunks = self._read(key, start, end)
        next(chunks)
        return chunks

    def stat(self, key: str) -> StoredObject:
        check_key(key)
        with self._objects("look at", key) as objects:
            return objects.look_at(key)

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        yield from objects_among(self._files(prefix), prefix, meant_key)

    def delete(self, key: str) -> None:  # type: ignore[override] # see Store.delete
        check_key(key)
        with self._objects("delete", key) as objects:
            if not objects.remove(key):
                objects.check()

    def now(self) -> datetime:
        """The server's clock, to the second, as a new file shows it; ours where nothing can be written."""
        try:
            with self._objects("ask for the time of", "the server") as objects:
                return objects.clock()
        except StoreError as error:
            if error.transient:
                raise
            return datetime.now(UTC)

    def pending(self, prefix: str = "") -> Iterator[PendingUpload]:
        """Yield the `.part` files, as begun at their last write: a running upload is never an old one."""
        yield from uploads_among(self._files(prefix), prefix, meant_key)

    def abort_pending(self, upload: PendingUpload) -> None:
        check_upload(upload, self.location, meant_key)
        with self._objects("clear", upload.upload_id) as objects:
            objects.remove(upload.upload_id)

    @property
    def _root(self) -> str:
        """What keys are relative to, on the server."""
        return posixpath.normpath(posixpath.join(self.directory, self.prefix))

    @cached_property
    def _sessions(self) -> "Sessions":
        imported("paramiko", EXTRA)
        from blocks.stores.sftp_access import Sessions

        return Sessions()

    def _access(self) -> "Access":
        from blocks.stores.sftp_access import Access, trust_in

        return Access(
            host=self.host,
            port=self.port,
            user=self.user,
            trust=parse_pin(self.host_key)
            if self.host_key
            else trust_in(self.known_hosts_file, self.host, self.port),
            key_file=self.key_file,
            passphrase=resolve(self.key_passphrase),
            password=resolve(self.password),
            timeout_seconds=self.timeout_seconds,
        )

    @contextmanager
    def _objects(self, verb: str, key: str) -> Iterator["Objects"]:
        """Yield the way to the objects, for an operation that its errors call `verb` and `key`."""
        what = f"cannot {verb} {key} on {self.location}"
        with self._sessions.borrowed(self._access, what) as session:
            from blocks.stores.sftp_objects import Objects
            from blocks.stores.sftp_tree import Directory

            directory = Directory(session, self._root, posixpath.normpath(self.directory))
            yield Objects(directory, self.location, what)

    def _read(self, key: str, start: int, end: int | None) -> Iterator[bytes]:
        with self._objects("read", key) as objects:
            yield from objects.read(key, start, end)

    def _files(self, prefix: str) -> "Sequence[StoredObject]":
        """Return the files, parts among them, whose keys may begin with `prefix`."""
        folder, slash, _ = prefix.rpartition("/")
        if slash and not is_key(folder):
            return ()
        with self._objects("list", prefix) as objects:
            return objects.files(prefix)
