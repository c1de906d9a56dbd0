"""The objects of a bucket as boto3 asks a server about them, and what a missing one means.

The answer to a HEAD has no body that would say which is missing, the object or its bucket: then the bucket
is asked for as well.
"""

import contextlib
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

from botocore.exceptions import ClientError

from blocks.errors import ObjectMissing, StoreForbidden
from blocks.stores.base import PendingUpload, StoredObject, is_key
from blocks.stores.s3_errors import answer_of, no_such_bucket, translated


@dataclass(frozen=True)
class Objects:
    """The objects below a prefix of a bucket, for one operation.

    Args:
        client: Of boto3.
        what: What failed if something does, such as `cannot write KEY on LOCATION`.
        sets_options: Whether objects are to have a storage class or an encryption that not every server has.
    """

    client: Any
    bucket: str
    prefix: str
    what: str
    sets_options: bool = False

    def full(self, key: str) -> str:
        return f"{self.prefix}/{key}" if self.prefix else key

    def place(self, key: str) -> dict[str, str]:
        """Return what most requests begin with."""
        return {"Bucket": self.bucket, "Key": self.full(key)}

    def errors(self) -> AbstractContextManager[None]:
        """Turn errors of either client into the store's."""
        return translated(self.what)

    def writing_errors(self) -> AbstractContextManager[None]:
        """The same, where an object's options may be what the server refuses."""
        return translated(self.what, sets_options=self.sets_options)

    def check_bucket(self) -> None:
        """Raise unless the server answers soon and has the bucket; an upload's own time limits are long."""
        try:
            with self.errors():
                self.client.head_bucket(Bucket=self.bucket)
        except ObjectMissing:
            raise no_such_bucket(self.what) from None
        except StoreForbidden:
            # there is a right to this question as well; what comes next says more
            return

    def look_at(self, key: str) -> StoredObject:
        try:
            with self.errors():
                found = self.client.head_object(**self.place(key))
        except ObjectMissing:
            self.check_bucket()
            raise
        return StoredObject(key, found["ContentLength"], found["LastModified"].astimezone(UTC))

    def listed(self, prefix: str) -> Sequence[StoredObject]:
        """Return the objects whose keys begin with `prefix`, in the order of their keys."""
        objects = (
            StoredObject(self._relative(entry["Key"]), entry["Size"], entry["LastModified"].astimezone(UTC))
            for entry in self._entries("list_objects_v2", "Contents", prefix)
        )
        # what is no key, such as a folder's marker, is not ours
        return sorted((stored for stored in objects if is_key(stored.key)), key=lambda stored: stored.key)

    def create(self, key: str, body: bytes, options: dict[str, Any]) -> None:
        """Store a small object; raise `ObjectExists` if the key is taken, where the server looks at that."""
        request = self.place(key) | {"Body": body} | options
        with self.writing_errors():
            try:
                self.client.put_object(**request, IfNoneMatch="*")
            except ClientError as error:
                # a server that knows no conditions; the caller has looked before
                if answer_of(error)[1] != HTTPStatus.NOT_IMPLEMENTED:
                    raise
                self.client.put_object(**request)

    def uploads(self, prefix: str) -> Sequence[PendingUpload]:
        """Return the unfinished uploads of keys that begin with `prefix`."""
        try:
            found = self._entries("list_multipart_uploads", "Uploads", prefix)
        except ObjectMissing:
            # so some servers say that there is none
            return ()
        uploads = []
        for entry in found:
            # one may end while the others are looked at
            with contextlib.suppress(ObjectMissing):
                uploads.append(self._upload(entry))
        return uploads

    def abort(self, upload: PendingUpload) -> None:
        with contextlib.suppress(ObjectMissing), self.errors():
            self.client.abort_multipart_upload(**self.place(upload.key), UploadId=upload.upload_id)

    def clock(self) -> datetime:
        """Return the server's time, to the second; ours if it tells none."""
        with self.errors():
            try:
                answer = self.client.head_bucket(Bucket=self.bucket)
            except ClientError as error:
                # a refusal tells the time as well
                answer = error.response
        told = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
        return parsedate_to_datetime(told).astimezone(UTC) if told else datetime.now(UTC)

    def _upload(self, entry: dict[str, Any]) -> PendingUpload:
        """Return a listed upload with the time of its newest part: a slow one may have begun days ago."""
        key, upload_id = entry["Key"], entry["UploadId"]
        parts = self._pages("list_parts", "Parts", Key=key, UploadId=upload_id)
        written_at = max([entry["Initiated"], *(part["LastModified"] for part in parts)])
        return PendingUpload(self._relative(key), upload_id, written_at.astimezone(UTC))

    def _entries(self, question: str, answer: str, prefix: str) -> Sequence[dict[str, Any]]:
        return self._pages(question, answer, Prefix=self.full(prefix))

    def _pages(self, question: str, answer: str, **about: str) -> Sequence[dict[str, Any]]:
        with self.errors():
            pages = self.client.get_paginator(question).paginate(Bucket=self.bucket, **about)
            return [entry for page in pages for entry in page.get(answer, ())]

    def _relative(self, full: str) -> str:
        return full.removeprefix(self.full(""))
