"""Telling objects from unfinished uploads, on stores whose files bear a hidden name until they are whole.

Each such store has a function that returns the key that a hidden file was to get, or None of any other.
"""

from collections.abc import Callable, Iterable

from blocks.errors import StoreError
from blocks.stores.base import PendingUpload, StoredObject, is_key

Meaning = Callable[[str], str | None]


def objects_among(files: Iterable[StoredObject], prefix: str, meant_key: Meaning) -> list[StoredObject]:
    """Return the objects whose keys begin with `prefix`, in the order of their keys."""
    found = [file for file in files if meant_key(file.key) is None and file.key.startswith(prefix)]
    return sorted(found, key=lambda stored: stored.key)


def uploads_among(files: Iterable[StoredObject], prefix: str, meant_key: Meaning) -> list[PendingUpload]:
    """Return the uploads of keys that begin with `prefix`.

    They count as begun at their last write: a running upload is never an old one.
    """
    uploads = [
        PendingUpload(meant, file.key, file.modified_at)
        for file in files
        if (meant := meant_key(file.key)) and meant.startswith(prefix)
    ]
    return sorted(uploads, key=lambda upload: (upload.key, upload.upload_id))


def check_upload(upload: PendingUpload, location: str, meant_key: Meaning) -> None:
    """Raise `StoreError` unless the upload's hidden file is one of its key."""
    if meant_key(upload.upload_id) != upload.key or not is_key(upload.upload_id):
        raise StoreError(f"{upload.upload_id} is no unfinished upload of {location}")
