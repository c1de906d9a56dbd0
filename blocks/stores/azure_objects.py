"""The blobs of a container as Azure's own library asks a server about them."""

import contextlib
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from blocks.errors import ObjectMissing, StoreForbidden
from blocks.stores.azure_blocks import drop_blocks, uncommitted
from blocks.stores.azure_errors import translated
from blocks.stores.azure_names import blob_name, key_of, name_prefix
from blocks.stores.base import PendingUpload, StoredObject, is_key


@dataclass(frozen=True)
class Objects:
    """The objects below a prefix of a container, for one operation.

    Args:
        client: Of the container.
        what: What failed if something does, such as `cannot write KEY on LOCATION`.
    """

    client: Any
    prefix: str
    what: str

    def name(self, key: str) -> str:
        """Return the name of a key's blob."""
        return blob_name(f"{self.prefix}/{key}" if self.prefix else key)

    def errors(self) -> AbstractContextManager[None]:
        """Turn errors of either client into the store's."""
        return translated(self.what)

    def check_container(self) -> None:
        """Raise unless the server answers soon and has the container; an upload's own limits are long."""
        # there is a right to this question as well, which no SAS token of a container has
        with contextlib.suppress(StoreForbidden), self.errors():
            self.client.get_container_properties()

    def look_at(self, key: str) -> StoredObject:
        with self.errors():
            found = self.client.get_blob_client(self.name(key)).get_blob_properties()
        if _is_folder(found):
            raise ObjectMissing(f"{self.what}: it is a folder")
        return StoredObject(key, found.size, found.last_modified.astimezone(UTC))

    def listed(self, prefix: str) -> Sequence[StoredObject]:
        """Return the objects whose keys begin with `prefix`, in the order of their keys."""
        begins = self._name_prefix(prefix)
        with self.errors():
            found = list(self.client.list_blobs(name_starts_with=begins, include=["metadata"]))
        objects = (
            StoredObject(self._key(blob.name), blob.size, blob.last_modified.astimezone(UTC))
            for blob in found
            if not _is_folder(blob)
        )
        # what is no key, such as a folder's marker, is not ours
        ours = (stored for stored in objects if stored.key.startswith(prefix) and is_key(stored.key))
        return sorted(ours, key=lambda stored: stored.key)

    def create(self, key: str, body: bytes, policy: Any) -> None:
        """Store a small object, locked by a policy if there is one; raise `ObjectExists` if it is there."""
        with self.errors():
            self.client.upload_blob(self.name(key), body, overwrite=False, immutability_policy=policy)

    def uploads(self, prefix: str) -> Sequence[PendingUpload]:
        """Return the unfinished uploads of keys that begin with `prefix`."""
        with self.errors():
            found = uncommitted(self.client, self._name_prefix(prefix))
        uploads = (
            PendingUpload(self._key(blob.name), blob.name, self._begun_at(blob).astimezone(UTC))
            for blob in found
        )
        return [upload for upload in uploads if upload.key.startswith(prefix)]

    def abort(self, upload: PendingUpload) -> None:
        drop_blocks(self.client, upload.upload_id, self.what)

    def clock(self) -> datetime:
        """Return the server's time, to the second; ours if it tells none."""
        told: list[str] = []
        with contextlib.suppress(StoreForbidden), self.errors():
            # a refusal tells the time as well
            self.client.get_container_properties(
                raw_response_hook=lambda answer: told.append(answer.http_response.headers.get("Date", ""))
            )
        return parsedate_to_datetime(told[-1]).astimezone(UTC) if any(told[-1:]) else datetime.now(UTC)

    def _begun_at(self, blob: Any) -> datetime:
        # where Azure does not tell when, it must not look old
        found: datetime = blob.creation_time or blob.last_modified or self.clock()
        return found

    def _name_prefix(self, prefix: str) -> str:
        return name_prefix(f"{self.prefix}/{prefix}" if self.prefix else prefix)

    def _key(self, name: str) -> str:
        return key_of(name).removeprefix(f"{self.prefix}/" if self.prefix else "")


def _is_folder(blob: Any) -> bool:
    """Return whether a blob stands for a directory, as in accounts with a hierarchical namespace."""
    return (blob.metadata or {}).get("hdi_isfolder") == "true"
