"""A container of an Azure storage account."""

import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from obstore.store import AzureStore as MovingClient
from pydantic import Field, SecretStr, field_validator, model_validator

from blocks.errors import StoreError, StoreLocked
from blocks.references import resolve
from blocks.stores import azure_versions
from blocks.stores.addresses import checked_endpoint
from blocks.stores.azure_access import (
    Access,
    asking_client,
    block_access,
    connection_string_access,
    identity_access,
    key_access,
    moving_client,
    sas_access,
    usual_endpoint,
)
from blocks.stores.azure_blocks import blocks_for
from blocks.stores.azure_errors import translated
from blocks.stores.azure_objects import Objects
from blocks.stores.azure_reading import read
from blocks.stores.azure_writing import upload
from blocks.stores.base import PendingUpload, Store, StoredObject, StoreProblem, check_key, is_key
from blocks.stores.hosts import is_this_host


class AzureStore(Store):
    """Keeps backups in a container of an Azure storage account.

    Example:
        List what a stored block's container holds:
        ```python
        from blocks.stores import AzureStore

        azure_store = AzureStore.load("BLOCK_NAME")
        for stored in azure_store.list():
            print(stored.key, stored.size_bytes)
        ```
    """

    _block_type_name = "AzureStore"
    _block_type_slug = "azure-store"
    _documentation_url = "https://learn.microsoft.com/en-us/azure/storage/blobs/storage-blobs-introduction"  # type: ignore[assignment]

    kind: Literal["azure"] = Field("azure", description="Tells this kind of store from others.")
    name: str = Field("azure", description="The destination's name within a plan.")
    account_name: str = Field(pattern=r"^[a-z0-9]{3,24}$", description="The storage account's name.")
    container: str = Field(min_length=1, description="The container's name; it must exist.")
    prefix: str = Field("", description="Folder inside the container; empty for the container itself.")
    endpoint_url: str = Field(
        "",
        description="Address of the account where it is not Azure's usual one, such as "
        "http://127.0.0.1:10000/devstoreaccount1 for an emulator.",
    )
    credentials: str = Field(
        "",
        description="A stored prefect-azure block, such as azure-blob-storage-credentials/prod. "
        "Without it, a key, a SAS token or a connection string the host's managed identity is used.",
    )
    account_key: SecretStr = Field(
        SecretStr(""),
        description="The account's key, or where it lies: env:NAME, file:PATH or aws-secret:NAME.",
    )
    sas_token: SecretStr = Field(
        SecretStr(""),
        description="A shared access signature, or where it lies: env:NAME, file:PATH or aws-secret:NAME.",
    )
    connection_string: SecretStr = Field(
        SecretStr(""),
        description="A connection string, or where it lies: env:NAME, file:PATH or aws-secret:NAME.",
    )
    access_tier: Literal["", "Hot", "Cool", "Cold"] = Field(
        "", description="Access tier of the archives, one that can be read at once; empty for the account's."
    )
    immutability_mode: Literal["", "unlocked", "locked"] = Field(
        "",
        description="Lock every object as soon as it is written, against everybody (locked) or all but those "
        "with a special right (unlocked). The container must have version-level immutability; empty for "
        "no lock.",
    )
    immutability_days: int = Field(
        0, ge=0, le=36_500, description="For how many days from its writing an object stays locked."
    )
    timeout_seconds: float = Field(
        10, gt=0, description="How long one answer of the server, or a silence in a download, may last."
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
    def _is_an_address(cls, endpoint_url: str) -> str:
        return checked_endpoint(endpoint_url, may_have_path=True) if endpoint_url else ""

    @field_validator("access_tier", mode="before")
    @classmethod
    def _can_be_read_at_once(cls, access_tier: Any) -> Any:
        if str(access_tier).lower() == "archive":
            raise ValueError(
                "a backup in the tier Archive cannot be verified or restored for hours; use Cold"
            )
        return access_tier

    @model_validator(mode="after")
    def _names_one_source_of_credentials(self) -> Self:
        secrets = (self.account_key, self.sas_token, self.connection_string)
        if bool(self.credentials) + sum(bool(secret.get_secret_value()) for secret in secrets) > 1:
            raise ValueError("only one of credentials, account_key, sas_token and connection_string")
        return self

    @model_validator(mode="after")
    def _says_how_long_it_locks(self) -> Self:
        if bool(self.immutability_mode) != bool(self.immutability_days):
            raise ValueError("immutability_mode and immutability_days go together")
        return self

    @property
    def location(self) -> str:
        place = f"azure://{self.account_name}/{self.container}/{self.prefix}".rstrip("/")
        return f"{place} at {urlsplit(self.endpoint_url).netloc}" if self.endpoint_url else place

    @property
    def on_this_host(self) -> bool:
        return is_this_host(urlsplit(self.endpoint_url).hostname or "")

    def put(self, key: str, chunks: Iterable[bytes], *, expected_bytes: int | None = None) -> int:
        check_key(key)
        objects, blocks = self._objects("write", key), blocks_for(expected_bytes)
        objects.check_container()
        self._check_lock(objects)
        with objects.errors():
            client = self._moving(blocks.in_flight_bytes)
        size_bytes = upload(client, objects, key, chunks, blocks, access_tier=self.access_tier)
        self._lock(key, self._lock_end())
        return size_bytes

    def create(self, key: str, body: bytes) -> None:
        objects, until = self._objects("create", key), self._lock_end()
        self._check_lock(objects)
        if not self.refuse_other_bytes(key, body):
            policy = azure_versions.policy(self.immutability_mode, until) if self.locks_objects else None
            try:
                objects.create(key, body, policy)
            except StoreError as error:
                # an answer may be lost, and asked for again; where it was not, somebody else was faster
                if error.transient or not self.refuse_other_bytes(key, body):
                    raise
        # also if it was there, or if the server did not look at the policy that came with it
        self._lock(key, until)

    def get(self, key: str, *, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        check_key(key)
        objects = self._objects("read", key)
        if start or end is not None:
            end = min(objects.look_at(key).size_bytes, sys.maxsize if end is None else end)
            if start >= end:
                return iter(())
        with objects.errors():
            client = self._downloads
        return read(client, objects.name(key), None if end is None else (start, end), objects.what)

    def stat(self, key: str) -> StoredObject:
        check_key(key)
        return self._objects("look at", key).look_at(key)

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        yield from self._objects("list", prefix).listed(prefix)

    def delete(self, key: str) -> None:  # type: ignore[override] # see Store.delete
        check_key(key)
        objects = self._objects("delete", key)
        with objects.errors():
            found = azure_versions.versions(self._asking, objects.name(key))
        # a deletion of what is locked may hide it, instead of being refused
        until = azure_versions.last_lock(found)
        if until and until > self.now():
            raise StoreLocked(f"{objects.what}: it is locked until {until:%Y-%m-%d %H:%M} UTC", "", until)
        with objects.errors():
            azure_versions.delete(self._asking, objects.name(key), found)

    @property
    def locks_objects(self) -> bool:
        return bool(self.immutability_mode)

    def locked_until(self, key: str) -> datetime | None:
        check_key(key)
        objects = self._objects("look for locks of", key)
        with objects.errors():
            return azure_versions.locked_until(self._asking, objects.name(key))

    def problems(self) -> Iterator[StoreProblem]:
        if self.locks_objects:
            with translated(f"cannot look at the immutability of {self.location}"):
                yield from azure_versions.container_problems(self._asking)

    def now(self) -> datetime:
        """The server's clock, to the second; ours from a server that tells none."""
        return self._objects("ask for the time of", "the server").clock()

    def pending(self, prefix: str = "") -> Iterator[PendingUpload]:
        """Yield the blobs that hold nothing but blocks; Azure drops these a week after the last of them.

        Blocks beside an object of the same key are not listed; they are dropped when it is replaced.
        """
        yield from self._objects("list the unfinished uploads of", prefix).uploads(prefix)

    def abort_pending(self, upload: PendingUpload) -> None:
        self._objects("clear the upload of", upload.key).abort(upload)

    @cached_property
    def _access(self) -> Access:
        usual = self.endpoint_url or usual_endpoint(self.account_name)
        if self.credentials:
            return block_access(self.credentials, self.account_name, self.endpoint_url)
        if text := resolve(self.connection_string):
            return connection_string_access(text, self.account_name, self.endpoint_url)
        if key := resolve(self.account_key):
            return key_access(self.account_name, key, usual)
        if token := resolve(self.sas_token):
            return sas_access(token, usual)
        return identity_access(usual)

    @cached_property
    def _asking(self) -> Any:
        return asking_client(self._access, self.container, self.timeout_seconds)

    @cached_property
    def _downloads(self) -> MovingClient:
        return self._moving()

    def _moving(self, in_flight_bytes: int = 0) -> MovingClient:
        return moving_client(
            self._access,
            self.account_name,
            self.container,
            self.timeout_seconds,
            in_flight_bytes=in_flight_bytes,
        )

    def _objects(self, verb: str, key: str) -> Objects:
        what = f"cannot {verb} {key} on {self.location}"
        with translated(what):
            return Objects(self._asking, self.prefix, what)

    def _check_lock(self, objects: Objects) -> None:
        if self.locks_objects:
            with objects.errors():
                azure_versions.check_lock(self._asking, objects.what)

    def _lock_end(self) -> datetime:
        # Azure takes whole seconds
        return datetime.now(UTC).replace(microsecond=0) + timedelta(days=self.immutability_days)

    def _lock(self, key: str, until: datetime) -> None:
        if self.locks_objects:
            objects = self._objects("lock", key)
            with objects.errors():
                azure_versions.lock(self._asking, objects.name(key), self.immutability_mode, until)
