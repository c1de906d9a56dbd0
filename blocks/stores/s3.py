"""An S3 bucket, of Amazon or of any server that speaks its protocol."""

import contextlib
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any, Literal, Self
from urllib.parse import urlsplit

import boto3
from obstore.store import S3Store as MovingClient
from pydantic import Field, SecretStr, field_validator, model_validator

from blocks.errors import ObjectExists, StoreError, StoreLocked
from blocks.references import resolve
from blocks.stores import s3_versions
from blocks.stores.addresses import checked_endpoint
from blocks.stores.base import PendingUpload, Store, StoredObject, StoreProblem, check_key, is_key
from blocks.stores.hosts import is_this_host
from blocks.stores.s3_access import asking_client, moving_client, open_block_session, open_session
from blocks.stores.s3_errors import translated
from blocks.stores.s3_objects import Objects
from blocks.stores.s3_part_checks import refuses_changed_parts
from blocks.stores.s3_reading import read_part, read_whole
from blocks.stores.s3_writing import parts_for, upload

ARCHIVE_CLASSES = ("GLACIER", "DEEP_ARCHIVE")


class S3Store(Store):
    """Keeps backups in an S3 bucket, of Amazon or of any server that speaks its protocol.

    Example:
        List what a stored block's bucket holds:
        ```python
        from blocks.stores import S3Store

        s3_store = S3Store.load("BLOCK_NAME")
        for stored in s3_store.list():
            print(stored.key, stored.size_bytes)
        ```
    """

    _block_type_name = "S3Store"
    _block_type_slug = "s3-store"
    _documentation_url = "https://docs.aws.amazon.com/AmazonS3/latest/userguide/Welcome.html"  # type: ignore[assignment]

    kind: Literal["s3"] = Field("s3", description="Tells this kind of store from others.")
    name: str = Field("s3", description="The destination's name within a plan.")
    bucket: str = Field(min_length=1, description="The bucket's name; it must exist.")
    prefix: str = Field("", description="Folder inside the bucket; empty for the bucket itself.")
    region: str | None = Field(
        None, description="The bucket's region; empty for the credentials' or the environment's."
    )
    endpoint_url: str | None = Field(
        None, description="Address of a server that is not Amazon's, such as https://minio.example:9000."
    )
    credentials: str = Field(
        "", description="A stored prefect-aws block, such as aws-credentials/prod or minio-credentials/site."
    )
    access_key_id: str = Field(
        "",
        description="An access key, or where it lies: env:NAME, file:PATH or aws-secret:NAME. "
        "Without it and without a credentials block the host's own role or AWS environment is used.",
    )
    secret_access_key: SecretStr = Field(
        SecretStr(""),
        description="The access key's secret, or where it lies: env:NAME, file:PATH or aws-secret:NAME.",
    )
    storage_class: Literal[
        "", "STANDARD", "STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING", "GLACIER_IR", "REDUCED_REDUNDANCY"
    ] = Field(
        "",
        description="Storage class of the archives, one that can be read at once; empty for the bucket's.",
    )
    server_side_encryption: Literal["", "AES256", "aws:kms", "aws:kms:dsse"] = Field(
        "", description="Encryption by the server on top of ours; empty for the bucket's default."
    )
    object_lock_mode: Literal["", "governance", "compliance"] = Field(
        "",
        description="Lock every object as soon as it is written, against everybody (compliance) or all but "
        "those with a special right (governance). The bucket must have Object Lock; empty for no lock.",
    )
    object_lock_days: int = Field(
        0, ge=0, le=36_500, description="For how many days from its writing an object stays locked."
    )

    @field_validator("prefix")
    @classmethod
    def _is_a_folder(cls, prefix: str) -> str:
        prefix = prefix.strip("/")
        if prefix and not is_key(prefix):
            raise ValueError("must be a folder without empty or dot segments")
        return prefix

    @field_validator("endpoint_url")
    @classmethod
    def _is_an_address(cls, endpoint_url: str | None) -> str | None:
        return checked_endpoint(endpoint_url) if endpoint_url else None

    @field_validator("storage_class", mode="before")
    @classmethod
    def _can_be_read_at_once(cls, storage_class: Any) -> Any:
        if str(storage_class).upper() in ARCHIVE_CLASSES:
            raise ValueError(
                f"a backup in the class {storage_class} cannot be read back, verified or restored for hours;"
                " use GLACIER_IR, and let a lifecycle rule move old backups on"
            )
        return storage_class

    @model_validator(mode="after")
    def _names_one_source_of_credentials(self) -> Self:
        if bool(self.access_key_id) != bool(self.secret_access_key.get_secret_value()):
            raise ValueError("access_key_id and secret_access_key go together")
        if self.credentials and self.access_key_id:
            raise ValueError("either a credentials block or keys, not both")
        return self

    @model_validator(mode="after")
    def _says_how_long_it_locks(self) -> Self:
        if bool(self.object_lock_mode) != bool(self.object_lock_days):
            raise ValueError("object_lock_mode and object_lock_days go together")
        return self

    @property
    def location(self) -> str:
        place = f"s3://{self.bucket}/{self.prefix}".rstrip("/")
        return f"{place} at {urlsplit(self.endpoint_url).netloc}" if self.endpoint_url else place

    @property
    def on_this_host(self) -> bool:
        return is_this_host(urlsplit(self.endpoint_url or "").hostname or "")

    def put(self, key: str, chunks: Iterable[bytes], *, expected_bytes: int | None = None) -> int:
        check_key(key)
        objects, parts = self._objects("write", key), parts_for(expected_bytes)
        objects.check_bucket()
        self._check_lock(objects)
        with objects.errors():
            client = self._uploads(parts.in_flight_bytes)
        size_bytes = upload(client, objects, key, chunks, parts, self.storage_class)
        self._lock(key, self._lock_end())
        return size_bytes

    def create(self, key: str, body: bytes) -> None:
        objects, until = self._objects("create", key), self._lock_end()
        self._check_lock(objects)
        if not self.refuse_other_bytes(key, body):
            lock = s3_versions.lock_options(self.object_lock_mode, until) if self.locks_objects else {}
            try:
                objects.create(key, body, self._options | lock)
            except ObjectExists:
                if not self.refuse_other_bytes(key, body):
                    raise
        # also if it was there, or if the server did not look at the lock that came with it
        self._lock(key, until)

    def get(self, key: str, *, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        check_key(key)
        objects = self._objects("read", key)
        with objects.errors():
            if not start and end is None:
                return read_whole(self._downloads, objects.full(key), objects.what)
            size_bytes = objects.look_at(key).size_bytes
            end = size_bytes if end is None else min(size_bytes, end)
            if start >= end:
                return iter(())
            return read_part(self._asking, objects.place(key), start, end, objects.what)

    def stat(self, key: str) -> StoredObject:
        check_key(key)
        return self._objects("look at", key).look_at(key)

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        yield from self._objects("list", prefix).listed(prefix)

    def delete(self, key: str) -> None:  # type: ignore[override] # see Store.delete
        check_key(key)
        objects = self._objects("delete", key)
        try:
            with objects.errors():
                s3_versions.delete(self._asking, self.bucket, objects.full(key), locks=self.locks_objects)
        except StoreError as error:
            # a server says no more than that access is denied, if that
            if not error.transient:
                self._raise_if_locked(key, objects.what)
            raise

    def checks_parts(self, key: str) -> bool:
        """Return whether the server refuses a part whose bytes are not those of its signed SHA-256."""
        check_key(key)
        objects = self._objects("ask what is checked of", key)
        with objects.errors():
            return refuses_changed_parts(self._asking, objects.place(key), self._options)

    @property
    def locks_objects(self) -> bool:
        return bool(self.object_lock_mode)

    def locked_until(self, key: str) -> datetime | None:
        check_key(key)
        objects = self._objects("look for locks of", key)
        with objects.errors():
            return s3_versions.locked_until(
                self._asking, self.bucket, objects.full(key), locks=self.locks_objects
            )

    def problems(self) -> Iterator[StoreProblem]:
        with translated(f"cannot look at the versions and locks of {self.location}"):
            yield from s3_versions.bucket_problems(self._asking, self.bucket, locks=self.locks_objects)

    def now(self) -> datetime:
        """The server's clock, to the second; ours from a server that tells none."""
        return self._objects("ask for the time of", "the server").clock()

    def pending(self, prefix: str = "") -> Iterator[PendingUpload]:
        yield from self._objects("list the unfinished uploads of", prefix).uploads(prefix)

    def abort_pending(self, upload: PendingUpload) -> None:
        self._objects("clear the upload of", upload.key).abort(upload)

    @cached_property
    def _session(self) -> boto3.Session:
        if self.credentials:
            return open_block_session(self.credentials)
        return open_session(resolve(self.access_key_id), resolve(self.secret_access_key), self.region)

    @cached_property
    def _asking(self) -> Any:
        return asking_client(self._session, self.endpoint_url, self.region)

    @cached_property
    def _downloads(self) -> MovingClient:
        return moving_client(self._session, self._asking, self.bucket)

    def _uploads(self, in_flight_bytes: int) -> MovingClient:
        return moving_client(
            self._session,
            self._asking,
            self.bucket,
            in_flight_bytes=in_flight_bytes,
            server_side_encryption=self.server_side_encryption,
            checksum_algorithm="SHA256" if self.locks_objects else "",
        )

    def _objects(self, verb: str, key: str) -> Objects:
        what = f"cannot {verb} {key} on {self.location}"
        with translated(what):
            sets_options = bool(self.storage_class or self.server_side_encryption)
            return Objects(self._asking, self.bucket, self.prefix, what, sets_options)

    @property
    def _options(self) -> dict[str, Any]:
        """What boto3 is told of an object besides its place."""
        options: dict[str, Any] = {}
        if self.server_side_encryption:
            options["ServerSideEncryption"] = self.server_side_encryption
        if self.locks_objects:
            options["ChecksumAlgorithm"] = "SHA256"
        return options

    def _check_lock(self, objects: Objects) -> None:
        if self.locks_objects:
            with objects.errors():
                s3_versions.check_lock(self._asking, self.bucket, objects.what)

    def _lock_end(self) -> datetime:
        # servers tell whole seconds
        return datetime.now(UTC).replace(microsecond=0) + timedelta(days=self.object_lock_days)

    def _lock(self, key: str, until: datetime) -> None:
        if self.locks_objects:
            objects = self._objects("lock", key)
            with objects.errors():
                s3_versions.lock(self._asking, self.bucket, objects.full(key), self.object_lock_mode, until)

    def _raise_if_locked(self, key: str, what: str) -> None:
        until, now = None, datetime.now(UTC)
        with contextlib.suppress(StoreError):
            until, now = self.locked_until(key), self.now()
        if until and until > now:
            raise StoreLocked(f"{what}: it is locked until {until:%Y-%m-%d %H:%M} UTC", "", until) from None
