"""An S3 bucket, of Amazon or of any server that speaks its protocol."""

import contextlib
import ipaddress
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cached_property
from http import HTTPStatus
from typing import Any, Literal, Self
from urllib.parse import urlsplit

import boto3
import obstore
from botocore.exceptions import ClientError
from obstore.exceptions import BaseError as MoveError
from obstore.store import S3Store as MovingClient
from pydantic import Field, SecretStr, field_validator, model_validator

from blocks.errors import ObjectExists, ObjectMissing, StoreError, StoreForbidden, StoreUnreachable
from blocks.references import resolve
from blocks.stores.base import PendingUpload, Store, StoredObject, check_key, is_key
from blocks.stores.s3_access import asking_client, moving_client, open_block_session, open_session
from blocks.stores.s3_errors import answer_of, no_such_bucket, translated

CHUNK_BYTES = 1 << 20
SMALLEST_PART_BYTES = 16 << 20
UNKNOWN_PART_BYTES = 32 << 20
MOST_PARTS = 10_000
PLANNED_PARTS = 9_000
MEMORY_BYTES = 128 << 20
MOST_AT_ONCE = 4


@dataclass(frozen=True)
class Parts:
    """How an upload is cut: the size of a part, and how many are sent at once beside the one being filled."""

    size_bytes: int
    at_once: int

    @property
    def in_flight_bytes(self) -> int:
        return self.size_bytes * (self.at_once + 1)


def parts_for(expected_bytes: int | None) -> Parts:
    """Return how to cut an upload so that it fits 10,000 parts, a tenth in reserve, and 128 MiB of memory.

    Past about 560 GiB the parts themselves outgrow that memory, and are sent one by one.
    """
    if expected_bytes is None:
        size_bytes = UNKNOWN_PART_BYTES
    else:
        size_bytes = max(SMALLEST_PART_BYTES, _whole_mib(-(-expected_bytes // PLANNED_PARTS)))
    return Parts(size_bytes, min(MOST_AT_ONCE, max(1, MEMORY_BYTES // size_bytes - 1)))


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
        if not endpoint_url:
            return None
        parts = urlsplit(endpoint_url)
        if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
            raise ValueError("must be http://HOST:PORT or https://HOST:PORT, without credentials")
        if parts.path.strip("/") or parts.query or parts.fragment:
            raise ValueError("must end with the host or its port")
        return f"{parts.scheme}://{parts.netloc}"

    @model_validator(mode="after")
    def _names_one_source_of_credentials(self) -> Self:
        if bool(self.access_key_id) != bool(self.secret_access_key.get_secret_value()):
            raise ValueError("access_key_id and secret_access_key go together")
        if self.credentials and self.access_key_id:
            raise ValueError("either a credentials block or keys, not both")
        return self

    @property
    def location(self) -> str:
        place = f"s3://{self.bucket}/{self.prefix}".rstrip("/")
        return f"{place} at {urlsplit(self.endpoint_url).netloc}" if self.endpoint_url else place

    @property
    def on_this_host(self) -> bool:
        host = urlsplit(self.endpoint_url or "").hostname or ""
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host == "localhost" or host.endswith(".localhost")

    def put(self, key: str, chunks: Iterable[bytes], *, expected_bytes: int | None = None) -> int:
        check_key(key)
        what, parts, size_bytes = self._cannot("write", key), parts_for(expected_bytes), 0
        self._ask_for_bucket(what)
        writer = self._open_writer(key, parts)
        try:
            for chunk in chunks:
                size_bytes += len(chunk)
                if size_bytes > MOST_PARTS * parts.size_bytes:
                    raise StoreError(f"{what}: more than {MOST_PARTS} parts of {parts.size_bytes >> 20} MiB")
                with translated(what):
                    writer.write(chunk)
        except BaseException as error:
            # where the server cannot be told any more, `pending` lists the upload later
            with contextlib.suppress(MoveError, OSError):
                writer.__exit__(type(error), error, error.__traceback__)
            raise
        with translated(what):
            writer.close()
        return size_bytes

    def create(self, key: str, body: bytes) -> None:
        if self.refuse_other_bytes(key, body):
            return
        request = {"Bucket": self.bucket, "Key": self._full(key), "Body": body}
        if self.server_side_encryption:
            request["ServerSideEncryption"] = self.server_side_encryption
        try:
            with translated(self._cannot("create", key)):
                self._put_unless_taken(request)
        except ObjectExists:
            if not self.refuse_other_bytes(key, body):
                raise

    def get(self, key: str) -> Iterator[bytes]:
        check_key(key)
        chunks = self._read(key)
        next(chunks)
        return chunks

    def stat(self, key: str) -> StoredObject:
        check_key(key)
        what = self._cannot("look at", key)
        try:
            with translated(what):
                found = self._asking.head_object(Bucket=self.bucket, Key=self._full(key))
        except ObjectMissing:
            # the answer to a HEAD has no body that would say which of the two is missing
            self._ask_for_bucket(what)
            raise
        return StoredObject(key, found["ContentLength"], found["LastModified"].astimezone(UTC))

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        with translated(self._cannot("list", prefix)):
            found = self._entries("list_objects_v2", "Contents", prefix)
        objects = (
            StoredObject(self._relative(entry["Key"]), entry["Size"], entry["LastModified"].astimezone(UTC))
            for entry in found
        )
        # what is no key, such as a folder's marker, is not ours
        yield from sorted((stored for stored in objects if is_key(stored.key)), key=lambda stored: stored.key)

    def delete(self, key: str) -> None:  # type: ignore[override] # see Store.delete
        check_key(key)
        with translated(self._cannot("delete", key)):
            self._asking.delete_object(Bucket=self.bucket, Key=self._full(key))

    def now(self) -> datetime:
        """The server's clock, to the second; ours from a server that tells none."""
        with translated(self._cannot("ask for the time of", "the server")):
            try:
                answer = self._asking.head_bucket(Bucket=self.bucket)
            except ClientError as error:
                # a refusal tells the time as well
                answer = error.response
        told = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
        return parsedate_to_datetime(told).astimezone(UTC) if told else datetime.now(UTC)

    def pending(self, prefix: str = "") -> Iterator[PendingUpload]:
        try:
            with translated(self._cannot("list the unfinished uploads of", prefix)):
                found = self._entries("list_multipart_uploads", "Uploads", prefix)
        except ObjectMissing:
            # so some servers say that there is none
            return
        for entry in found:
            begun_at = entry["Initiated"].astimezone(UTC)
            yield PendingUpload(self._relative(entry["Key"]), entry["UploadId"], begun_at)

    def abort_pending(self, upload: PendingUpload) -> None:
        with contextlib.suppress(ObjectMissing), translated(self._cannot("clear the upload of", upload.key)):
            self._asking.abort_multipart_upload(
                Bucket=self.bucket, Key=self._full(upload.key), UploadId=upload.upload_id
            )

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

    def _open_writer(self, key: str, parts: Parts) -> "obstore.WritableFile":
        with translated(self._cannot("write", key)):
            client = moving_client(
                self._session,
                self._asking,
                self.bucket,
                in_flight_bytes=parts.in_flight_bytes,
                server_side_encryption=self.server_side_encryption,
            )
            return obstore.open_writer(
                client,
                self._full(key),
                attributes={"Storage-Class": self.storage_class} if self.storage_class else None,
                buffer_size=parts.size_bytes,
                max_concurrency=parts.at_once,
            )

    def _read(self, key: str) -> Iterator[bytes]:
        """Yield nothing once the object is open, so that `get` can raise at once, and then its bytes."""
        what = self._cannot("read", key)
        with translated(what):
            found = obstore.get(self._downloads, self._full(key))
            rest, stream = found.meta["size"], iter(found.stream(CHUNK_BYTES))
        yield b""
        while True:
            with translated(what):
                chunk = next(stream, None)
            if chunk is None:
                break
            rest -= len(chunk)
            yield bytes(chunk)
        if rest:
            raise StoreUnreachable(f"{what}: it ended {rest} bytes before its end")

    def _entries(self, question: str, answer: str, prefix: str) -> Sequence[dict[str, Any]]:
        pages = self._asking.get_paginator(question).paginate(Bucket=self.bucket, Prefix=self._full(prefix))
        return [entry for page in pages for entry in page.get(answer, ())]

    def _put_unless_taken(self, request: dict[str, Any]) -> None:
        try:
            self._asking.put_object(**request, IfNoneMatch="*")
        except ClientError as error:
            # a server that knows no conditions; the caller has looked before
            if answer_of(error)[1] != HTTPStatus.NOT_IMPLEMENTED:
                raise
            self._asking.put_object(**request)

    def _ask_for_bucket(self, what: str) -> None:
        """Raise unless the server answers soon and has the bucket; an upload's own time limits are long."""
        try:
            with translated(what):
                self._asking.head_bucket(Bucket=self.bucket)
        except ObjectMissing:
            raise no_such_bucket(what) from None
        except StoreForbidden:
            # there is a right to this question as well; what comes next says more
            return

    def _full(self, key: str) -> str:
        return f"{self.prefix}/{key}" if self.prefix else key

    def _relative(self, full: str) -> str:
        return full.removeprefix(self._full(""))

    def _cannot(self, verb: str, key: str) -> str:
        return f"cannot {verb} {key} on {self.location}"


def _whole_mib(size_bytes: int) -> int:
    return -(-size_bytes >> 20) << 20
