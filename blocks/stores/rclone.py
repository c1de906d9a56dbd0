"""Whatever rclone speaks: drives, WebDAV, FTP and some seventy more, by the `rclone` program."""

import contextlib
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from blocks.errors import (
    ConfigurationError,
    ObjectExists,
    StoreError,
    StoreUnreachable,
    WorldError,
)
from blocks.stores.base import PendingUpload, Store, StoredObject, is_key
from blocks.stores.hidden_names import check_upload, objects_among, uploads_among
from blocks.stores.part_keys import checked, meant_key, part_of
from blocks.stores.rclone_access import Rclone, is_on_this_host, reaching
from blocks.stores.rclone_remote import Remote

_REMOTE = re.compile(r"[\w.+@][\w.+@ -]*(?<! )")


class RcloneStore(Store):
    """Keeps backups on any remote that rclone knows and that can rename or copy on its own side.

    Where the remote renames, rclone deletes an older object of the same key first: for that moment there
    is none, and a failure in it leaves the new one as a part. A folder that is not there is an empty
    store: after a mistake in `prefix` there seem to be no backups.

    Example:
        List what a stored block's remote holds:
        ```python
        from blocks.stores import RcloneStore

        rclone_store = RcloneStore.load("BLOCK_NAME")
        for stored in rclone_store.list():
            print(stored.key, stored.size_bytes)
        ```
    """

    _block_type_name = "RcloneStore"
    _block_type_slug = "rclone-store"
    _documentation_url = "https://rclone.org/docs/"  # type: ignore[assignment]

    kind: Literal["rclone"] = Field("rclone", description="Tells this kind of store from others.")
    name: str = Field("rclone", description="The destination's name within a plan.")
    remote: str = Field(
        description="Name of a remote: of a section of rclone.conf, or of variables RCLONE_CONFIG_NAME_…."
    )
    prefix: str = Field(
        "",
        description="Bucket, container or folder on the remote; a slash before it counts where the remote "
        "knows more than a home directory.",
    )
    config_file: str = Field(
        "",
        description="Path of the rclone.conf; empty for rclone's own. rclone keeps renewed tokens in it.",
    )
    config: SecretStr = Field(
        SecretStr(""),
        description="Where the text of an rclone.conf lies: env:NAME, file:PATH or aws-secret:NAME. "
        "Renewed tokens are not kept.",
    )
    config_password: SecretStr = Field(
        SecretStr(""),
        description="Where the password of an encrypted configuration lies: env:NAME, file:PATH or "
        "aws-secret:NAME.",
    )
    timeout_seconds: float = Field(
        60, gt=0, description="For how long the remote may be silent before it is asked again."
    )

    @field_validator("remote")
    @classmethod
    def _is_a_name(cls, remote: str) -> str:
        remote = remote.removesuffix(":")
        if not _REMOTE.fullmatch(remote):
            raise ValueError("must be the name of a remote, without options or a path")
        return remote

    @field_validator("prefix")
    @classmethod
    def _is_a_folder(cls, prefix: str) -> str:
        prefix = prefix.rstrip("/")
        if prefix and not is_key(prefix.removeprefix("/")):
            raise ValueError("must be a folder without empty or dot segments")
        return prefix

    @field_validator("config_file")
    @classmethod
    def _is_absolute(cls, config_file: str) -> str:
        if config_file and not Path(config_file).expanduser().is_absolute():
            raise ValueError("must be an absolute path, or begin with ~/")
        return config_file

    @model_validator(mode="after")
    def _names_one_configuration(self) -> Self:
        if self.config_file and self.config.get_secret_value():
            raise ValueError("either config_file or config, not both")
        return self

    @property
    def location(self) -> str:
        return f"rclone's {self.remote}:{self.prefix}"

    @property
    def on_this_host(self) -> bool:
        """True if the remote's settings name this host; false where they cannot be read."""
        try:
            sections = self._remote.sections(self._cannot("read the configuration of", "rclone"))
        except WorldError:
            return False
        return is_on_this_host(self.remote, sections)

    def put(self, key: str, chunks: Iterable[bytes], *, expected_bytes: int | None = None) -> int:  # noqa: ARG002
        what = self._cannot("write", key)
        with self._part(key) as part:
            size_bytes = self._upload(part, chunks, what)
            is_taken = not self._remote.move(part, key, size_bytes, what, "--ignore-existing")
        if is_taken:
            self._remote.move(part, key, size_bytes, what, "--ignore-times")
        return size_bytes

    def create(self, key: str, body: bytes) -> None:
        if self.refuse_other_bytes(key, body):
            return
        what = self._cannot("create", key)
        with self._part(key) as part:
            self._upload(part, [body], what)
            if self._remote.move(part, key, len(body), what, "--ignore-existing"):
                return
            # somebody else was faster
            self._remote.remove(part, what)
            if not self.refuse_other_bytes(key, body):
                raise ObjectExists(f"{key} on {self.location} came and went meanwhile")

    def get(self, key: str, *, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        what = self._cannot("read", checked(key))
        size_bytes = self._remote.look(key, what).size_bytes
        end = size_bytes if end is None else min(size_bytes, end)
        return self._remote.read(key, start, end, what) if start < end else iter(())

    def stat(self, key: str) -> StoredObject:
        return self._remote.look(checked(key), self._cannot("look at", key))

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        yield from objects_among(self._files(prefix), prefix, meant_key)

    def delete(self, key: str) -> None:  # type: ignore[override] # see Store.delete
        self._remove(checked(key), self._cannot("delete", key))

    def now(self) -> datetime:
        """The clock that objects are dated by, as a small one tells it; ours where none can be written.

        A kill, or a remote that is gone meanwhile, leaves that one, of five bytes; no prune clears it.
        """
        what = self._cannot("tell the time of", "the remote")
        try:
            with self._part("clock") as probe:
                self._remote.upload(probe, [b"clock"], what)
                told = self._remote.look(probe, what).modified_at
                self._remote.remove(probe, what)
        except StoreError as error:
            if error.transient:
                raise
            return datetime.now(UTC)
        return told

    def pending(self, prefix: str = "") -> Iterator[PendingUpload]:
        """Yield the `.part` files, as begun when the remote dates them."""
        yield from uploads_among(self._files(prefix), prefix, meant_key)

    def abort_pending(self, upload: PendingUpload) -> None:
        check_upload(upload, self.location, meant_key)
        self._remove(upload.upload_id, self._cannot("clear the upload of", upload.key))

    @cached_property
    def _remote(self) -> Remote:
        def reach() -> contextlib.AbstractContextManager[Rclone]:
            return reaching(self.config_file, self.config, self.config_password)

        return Remote(self.remote, self.prefix, self.timeout_seconds, reach, self.max_bytes_per_second)

    @cached_property
    def _features(self) -> dict[str, bool]:
        """What the remote can do, in rclone's words."""
        features = self._remote.features(self._cannot("ask", "what can be done"))
        if not (features.get("Move") or features.get("Copy")):
            raise ConfigurationError(
                f"the remote {self.remote} can neither rename nor copy",
                "an object would be seen there before it is whole: take another remote",
            )
        return features

    @contextmanager
    def _part(self, key: str) -> Iterator[str]:
        """Yield a hidden name beside the key's place; after a failure nothing is left under it."""
        part = part_of(checked(key))
        try:
            yield part
        except BaseException:
            # where the remote cannot be told any more, `pending` lists the part later
            with contextlib.suppress(WorldError):
                self._remote.remove(part, self._cannot("clear", part))
            raise

    def _upload(self, part: str, chunks: Iterable[bytes], what: str) -> int:
        """Upload a part and look at it: rclone's success alone does not tell that all bytes went in."""
        streams = self._features.get("PutStream", False)
        size_bytes = self._remote.upload(part, chunks, what, streams=streams)
        stored_bytes = self._remote.look(part, what).size_bytes
        if stored_bytes != size_bytes:
            raise StoreUnreachable(f"{what}: {stored_bytes} bytes arrived of {size_bytes}")
        return size_bytes

    def _files(self, prefix: str) -> Iterator[StoredObject]:
        """Yield every file in the folder that `prefix` names, parts among them."""
        folder, slash, _ = prefix.rpartition("/")
        if slash and not is_key(folder):
            return
        for stored in self._remote.files(folder, self._cannot("list", prefix)):
            if is_key(stored.key):
                yield stored

    def _remove(self, key: str, what: str) -> None:
        """Delete a file, and the folders that are empty without it."""
        self._remote.remove(key, what)
        folder = key.rpartition("/")[0]
        # only what deletes old backups comes here: no upload is about to begin in their folders
        with contextlib.suppress(StoreError):
            while folder and self._features.get("CanHaveEmptyDirectories"):
                self._remote.remove_folder(folder, what)
                folder = folder.rpartition("/")[0]

    def _cannot(self, verb: str, key: str) -> str:
        return f"cannot {verb} {key} on {self.location}"
