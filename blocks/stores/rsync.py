"""A directory that rsync reaches, over ssh or as a module of its daemon.

rsync cannot read from a pipe and cannot rename. So what is uploaded first lies on local disk, whole and as
it will be stored, and what is downloaded does as well; rsync itself writes to a hidden name beside the
place and renames at the end.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from blocks.errors import ObjectExists, StoreError
from blocks.references import resolve
from blocks.stores.base import PendingUpload, Store, StoredObject, check_key, is_key
from blocks.stores.hidden_names import check_upload, objects_among, uploads_among
from blocks.stores.hosts import is_this_host
from blocks.stores.rsync_commands import Address, parse_address
from blocks.stores.rsync_objects import Objects, meant_key
from blocks.stores.rsync_runs import Server, opened_job, temporary_root
from blocks.stores.ssh_trust import parse_pin


class RsyncStore(Store):
    """Keeps backups in a directory that rsync reaches, over ssh or as a module of its daemon.

    It needs local disk: rsync cannot read from a pipe, so an archive lies in `spool_directory`, encrypted
    as it will be stored, until it is uploaded, and while it is read back. What rsync cannot do:

    - A part of an object is fetched as the whole object.
    - Two writers that create the same key in the same moment may both succeed; the last one's bytes stay.
      Names of backups are random.
    - The server is not told to flush what it was sent: losing its power in the next seconds may damage it.
    - Directories that have become empty stay.
    - A key whose last name looks like rsync's own temporary files, `.NAME.XXXXXX`, is refused.

    Example:
        List what a stored block's directory holds:
        ```python
        from blocks.stores import RsyncStore

        rsync_store = RsyncStore.load("BLOCK_NAME")
        for stored in rsync_store.list():
            print(stored.key, stored.size_bytes)
        ```
    """

    _block_type_name = "RsyncStore"
    _block_type_slug = "rsync-store"
    _documentation_url = "https://download.samba.org/pub/rsync/rsync.1"  # type: ignore[assignment]

    kind: Literal["rsync"] = Field("rsync", description="Tells this kind of store from others.")
    name: str = Field("rsync", description="The destination's name within a plan.")
    address: str = Field(
        description="rsync://[USER@]HOST[:PORT]/MODULE[/FOLDER] for a daemon, whose lines are not encrypted "
        "(the archives are), or ssh://[USER@]HOST[:PORT]/DIRECTORY; ssh://HOST/~/DIRECTORY begins where the "
        "login ends. The directory is made at the first write; the module, or the one above, must be there.",
    )
    prefix: str = Field("", description="Folder below the directory; empty for the directory itself.")
    password: SecretStr = Field(
        SecretStr(""),
        description="A module's password, or where it lies: env:NAME, file:PATH or aws-secret:NAME.",
    )
    key_file: str = Field(
        "", description="File with the private key for ssh, without a passphrase; ssh's own choice if empty."
    )
    host_key: str = Field(
        "",
        description="The ssh server's public key (ssh-ed25519 AAAA…); empty for what known_hosts says. "
        "A server that shows another is refused.",
    )
    known_hosts_file: str = Field("", description="File of the ssh servers' keys; ssh's usual ones if empty.")
    spool_directory: str = Field(
        "",
        description="Local disk for what is uploaded or read back; the system's temporary one if empty. "
        "It must hold the largest archive.",
    )
    timeout_seconds: int = Field(30, ge=1, description="How long the server may give no sign of life.")

    @field_validator("address")
    @classmethod
    def _is_an_address(cls, address: str) -> str:
        parse_address(address)
        return address

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
        if host_key and parse_pin(host_key).fingerprint:
            raise ValueError("must be the public key itself: ssh takes no fingerprint")
        return " ".join(host_key.split()[:2])

    @field_validator("key_file", "known_hosts_file", "spool_directory")
    @classmethod
    def _can_be_told_to_ssh(cls, name: str) -> str:
        if set(name) & set("\"'\\%\n"):
            raise ValueError("must be a path without quotes, backslashes and percent signs")
        return name

    @model_validator(mode="after")
    def _has_what_its_way_needs(self) -> Self:
        over_ssh = self._address.scheme == "ssh"
        if over_ssh and self.password.get_secret_value():
            raise ValueError("a password is for rsync:// only; ssh:// needs a key")
        if not over_ssh and (self.key_file or self.host_key or self.known_hosts_file):
            raise ValueError("key_file, host_key and known_hosts_file are for ssh:// only")
        if self.host_key and self.known_hosts_file:
            raise ValueError("either host_key or known_hosts_file, not both")
        return self

    @property
    def location(self) -> str:
        return f"{self.address.rstrip('/')}/{self.prefix}".rstrip("/")

    @property
    def on_this_host(self) -> bool:
        return is_this_host(self._address.host)

    @property
    def moves_whole_files(self) -> bool:
        return True

    def put(
        self,
        key: str,
        chunks: Iterable[bytes],
        *,
        expected_bytes: int | None = None,  # noqa: ARG002 - local disk is looked at while it fills
    ) -> int:
        with self._objects("write", _checked(key)) as objects:
            return objects.put(key, chunks)

    def create(self, key: str, body: bytes) -> None:
        with self._objects("create", _checked(key)) as objects:
            objects.create(key, body)
        # what was there stays, and so may what somebody else has created meanwhile
        if not self.refuse_other_bytes(key, body):
            raise ObjectExists(f"{key} on {self.location} came and went meanwhile")

    def get(self, key: str, *, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        chunks = self._read(_checked(key), start, end)
        next(chunks)
        return chunks

    def stat(self, key: str) -> StoredObject:
        with self._objects("look at", _checked(key)) as objects:
            return objects.look_at(key)

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        yield from objects_among(self._files(prefix), prefix, meant_key)

    def delete(self, key: str) -> None:  # type: ignore[override] # see Store.delete
        with self._objects("delete", _checked(key)) as objects:
            objects.delete(key)

    def now(self) -> datetime:
        """The server's clock, to the second, as a new file shows it; ours where nothing can be written."""
        with self._objects("ask for the time of", "the server") as objects:
            try:
                return objects.clock()
            except StoreError as error:
                if error.transient:
                    raise
                return datetime.now(UTC)

    def pending(self, prefix: str = "") -> Iterator[PendingUpload]:
        """Yield rsync's hidden files, as begun at their last write: a running upload is never an old one."""
        yield from uploads_among(self._files(prefix), prefix, meant_key)

    def abort_pending(self, upload: PendingUpload) -> None:
        check_upload(upload, self.location, meant_key)
        with self._objects("delete", upload.upload_id) as objects:
            objects.delete(upload.upload_id)

    @cached_property
    def _address(self) -> Address:
        return parse_address(self.address)

    @property
    def _server(self) -> Server:
        return Server(
            self._address,
            password=resolve(self.password),
            key_file=self.key_file and str(Path(self.key_file).expanduser()),
            host_key=self.host_key,
            known_hosts_file=self.known_hosts_file and str(Path(self.known_hosts_file).expanduser()),
            timeout_seconds=self.timeout_seconds,
            max_bytes_per_second=self.max_bytes_per_second,
        )

    @contextmanager
    def _objects(self, verb: str, key: str) -> Iterator[Objects]:
        """Yield the way to the objects, for an operation that its errors call `verb` and `key`."""
        what = f"cannot {verb} {key} on {self.location}"
        with opened_job(self._server, self._spool_root) as job:
            yield Objects(job, self._address, self.prefix, self.location, what)

    @property
    def _spool_root(self) -> Path:
        if self.spool_directory:
            return Path(self.spool_directory).expanduser()
        return temporary_root()

    def _read(self, key: str, start: int, end: int | None) -> Iterator[bytes]:
        with self._objects("read", key) as objects:
            yield from objects.read(key, start, end)

    def _files(self, prefix: str) -> Sequence[StoredObject]:
        """Return the files, hidden ones among them, in the folder that `prefix` names."""
        folder, slash, _ = prefix.rpartition("/")
        if slash and not is_key(folder):
            return ()
        with self._objects("list", prefix) as objects:
            return objects.files(folder)


def _checked(key: str) -> str:
    """Return `key`; raise `StoreError` unless it can name a finished object."""
    check_key(key)
    if meant_key(key):
        raise StoreError(f"not an object's key: {key!r} is the name of an unfinished upload")
    return key
