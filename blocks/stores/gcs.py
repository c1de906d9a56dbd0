"""A bucket of Google Cloud Storage."""

import contextlib
import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cached_property
from typing import Any, Literal, Self
from urllib.parse import quote, urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from blocks.errors import ObjectMissing, StoreError
from blocks.references import resolve
from blocks.stores import gcs_reading, gcs_upload
from blocks.stores.addresses import checked_endpoint
from blocks.stores.base import PendingUpload, Store, StoredObject, check_key, is_key
from blocks.stores.gcs_access import (
    GOOGLES_OWN,
    block_credentials,
    default_credentials,
    key_credentials,
    limits,
    no_credentials,
    open_client,
    open_session,
    patient,
)
from blocks.stores.gcs_errors import no_such_bucket, translated
from blocks.stores.gcs_versions import versions
from blocks.stores.hosts import is_this_host

PIECE_BYTES = 16 << 20
SLOWEST_BYTES_PER_SECOND = 256 << 10
LISTED_FIELDS = "items(name,size,updated),nextPageToken"


class GcsStore(Store):
    """Keeps backups in a bucket of Google Cloud Storage.

    Example:
        List what a stored block's bucket holds:
        ```python
        from blocks.stores import GcsStore

        gcs_store = GcsStore.load("BLOCK_NAME")
        for stored in gcs_store.list():
            print(stored.key, stored.size_bytes)
        ```
    """

    _block_type_name = "GcsStore"
    _block_type_slug = "gcs-store"
    _documentation_url = "https://cloud.google.com/storage/docs/introduction"  # type: ignore[assignment]

    kind: Literal["gcs"] = Field("gcs", description="Tells this kind of store from others.")
    name: str = Field("gcs", description="The destination's name within a plan.")
    bucket: str = Field(min_length=1, description="The bucket's name; it must exist.")
    prefix: str = Field("", description="Folder inside the bucket; empty for the bucket itself.")
    endpoint_url: str = Field(
        "",
        description="Address of a server that is not Google's usual one, such as http://127.0.0.1:4443. "
        "One of http:// is an emulator, and is sent no credentials.",
    )
    credentials: str = Field(
        "",
        description="A stored prefect-gcp block, such as gcp-credentials/prod. Without it and a service "
        "account's key the host's own account is used (application default credentials).",
    )
    service_account_key: SecretStr = Field(
        SecretStr(""),
        description="Where the JSON key of a service account lies: file:PATH, env:NAME or aws-secret:NAME.",
    )
    storage_class: Literal["", "STANDARD", "NEARLINE", "COLDLINE", "ARCHIVE"] = Field(
        "",
        description="Storage class of the archives; empty for the bucket's. All can be read at once; "
        "deleting early from the last three costs 30, 90 or 365 days.",
    )
    timeout_seconds: float = Field(10, gt=0, description="How long one answer of the server may last.")

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
        return checked_endpoint(endpoint_url) if endpoint_url else ""

    @model_validator(mode="after")
    def _names_one_source_of_credentials(self) -> Self:
        if self.credentials and self.service_account_key.get_secret_value():
            raise ValueError("either a credentials block or a service account's key, not both")
        if self.endpoint_url.startswith("http://") and (
            self.credentials or self.service_account_key.get_secret_value()
        ):
            raise ValueError("credentials are not sent over http://; an emulator needs none")
        return self

    @property
    def location(self) -> str:
        place = f"gs://{self.bucket}/{self.prefix}".rstrip("/")
        return f"{place} at {urlsplit(self.endpoint_url).netloc}" if self.endpoint_url else place

    @property
    def on_this_host(self) -> bool:
        return is_this_host(urlsplit(self.endpoint_url).hostname or "")

    def put(self, key: str, chunks: Iterable[bytes], *, expected_bytes: int | None = None) -> int:  # noqa: ARG002
        check_key(key)
        upload, size_bytes = self._begin(key), 0
        try:
            for chunk in chunks:
                upload.write(chunk)
                size_bytes += len(chunk)
        except BaseException:
            upload.abort()
            raise
        upload.finish()
        return size_bytes

    def checks_parts(self, key: str) -> bool:
        """Google compares every object with the CRC32C that is sent with its last piece."""
        check_key(key)
        return True

    def create(self, key: str, body: bytes) -> None:
        if self.refuse_other_bytes(key, body):
            return
        try:
            with self._answers("create", key):
                # a generation of 0 is that of an object which is not there
                self._blob(key).upload_from_string(
                    body,
                    "application/octet-stream",
                    if_generation_match=0,
                    checksum="crc32c",
                    **self._patient,
                )
        except StoreError as error:
            # an answer may be lost, and asked for again; where it was not, somebody else was faster
            if error.transient or not self.refuse_other_bytes(key, body):
                raise

    def get(self, key: str, *, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        check_key(key)
        with self._answers("read", key):
            blob = self._blob(key)
            blob.reload(**self._patient)
        return gcs_reading.read(
            blob,
            start,
            min(blob.size, sys.maxsize if end is None else end),
            self._cannot("read", key),
            self._patient,
        )

    def stat(self, key: str) -> StoredObject:
        check_key(key)
        with self._answers("look at", key):
            blob = self._blob(key)
            blob.reload(**self._patient)
        return StoredObject(key, blob.size, blob.updated.astimezone(UTC))

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        with self._answers("list", prefix):
            blobs = self._client.list_blobs(
                self.bucket, prefix=self._full(prefix), fields=LISTED_FIELDS, **self._patient
            )
            objects = [
                StoredObject(self._relative(blob.name), blob.size, blob.updated.astimezone(UTC))
                for blob in blobs
            ]
        # what is no key, such as a folder's marker, is not ours
        yield from sorted((stored for stored in objects if is_key(stored.key)), key=lambda stored: stored.key)

    def delete(self, key: str) -> None:  # type: ignore[override] # see Store.delete
        check_key(key)
        with self._answers("delete", key):
            found = versions(self._client, self.bucket, self._full(key), self._patient)
        for version in found:
            with contextlib.suppress(ObjectMissing), self._answers("delete", key):
                version.delete(**self._patient)

    def now(self) -> datetime:
        """The server's clock, to the second; ours from a server that tells none."""
        with translated(self._cannot("ask for the time of", "the server")):
            # a refusal tells the time as well
            answer = self._session.get(
                f"{self._endpoint}/storage/v1/b/{quote(self.bucket, safe='')}?fields=name",
                timeout=self._limits,
            )
        told = answer.headers.get("Date")
        return parsedate_to_datetime(told).astimezone(UTC) if told else datetime.now(UTC)

    def pending(self, prefix: str = "") -> Iterator[PendingUpload]:  # noqa: ARG002
        """Yield nothing: Google lists no unfinished uploads, and drops them after a week."""
        return iter(())

    def abort_pending(self, upload: PendingUpload) -> None:
        """Do nothing: there is none to abort."""

    @cached_property
    def _credentials(self) -> Any:
        with translated(self._cannot("open", "the bucket")):
            if self.credentials:
                return block_credentials(self.credentials)
            if key := resolve(self.service_account_key):
                return key_credentials(key)
            return no_credentials() if self.endpoint_url.startswith("http://") else default_credentials()

    @cached_property
    def _client(self) -> Any:
        return open_client(self._credentials, self._endpoint)

    @cached_property
    def _session(self) -> Any:
        return open_session(self._credentials)

    @property
    def _endpoint(self) -> str:
        return self.endpoint_url or GOOGLES_OWN

    @property
    def _limits(self) -> tuple[float, float]:
        return limits(self.timeout_seconds)

    @property
    def _patient(self) -> dict[str, Any]:
        return patient(self.timeout_seconds)

    def _blob(self, key: str) -> Any:
        return self._client.bucket(self.bucket).blob(self._full(key))

    def _begin(self, key: str) -> gcs_upload.Upload:
        slow_seconds = PIECE_BYTES // SLOWEST_BYTES_PER_SECOND
        with self._answers("write", key):
            return gcs_upload.begin(
                self._session,
                self._endpoint,
                self.bucket,
                self._full(key),
                storage_class=self.storage_class,
                limits=self._limits,
                piece_limits=limits(self.timeout_seconds + slow_seconds),
                piece_bytes=PIECE_BYTES,
                what=self._cannot("write", key),
            )

    @contextlib.contextmanager
    def _answers(self, verb: str, key: str) -> Iterator[None]:
        """Translate errors, and tell a bucket that is missing from an object that is."""
        what = self._cannot(verb, key)
        try:
            with translated(what):
                yield
        except ObjectMissing:
            self._look_for_bucket(what)
            raise

    def _look_for_bucket(self, what: str) -> None:
        # who may list objects need not have the right to look at the bucket itself
        try:
            with translated(what):
                next(iter(self._client.list_blobs(self.bucket, max_results=1, **self._patient)), None)
        except ObjectMissing:
            raise no_such_bucket(what) from None
        except StoreError as error:
            if error.transient:
                raise

    def _full(self, key: str) -> str:
        return f"{self.prefix}/{key}" if self.prefix else key

    def _relative(self, full: str) -> str:
        return full.removeprefix(self._full(""))

    def _cannot(self, verb: str, key: str) -> str:
        return f"cannot {verb} {key} on {self.location}"
