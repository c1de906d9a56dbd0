"""What a Google bucket keeps of a key beside its live object: noncurrent versions.

A bucket with Object Versioning answers a plain deletion by making the live object noncurrent, which stays
and is paid for. Who may read and write objects need not have the right to ask whether a bucket is one, so
the versions are listed in every case. A policy of soft deletion still keeps all for its time.

Source: https://cloud.google.com/storage/docs/object-versioning
"""

from itertools import takewhile
from typing import Any

_FIELDS = "items(name,generation,timeDeleted),nextPageToken"


def versions(client: Any, bucket: str, name: str, patient: dict[str, Any]) -> list[Any]:
    """Return an object's versions, the live one last: it is listed for as long as any is left.

    Args:
        patient: How the library repeats a question.
    """
    found = client.list_blobs(bucket, prefix=name, versions=True, fields=_FIELDS, **patient)
    # the object itself stands before those whose names it begins
    own = takewhile(lambda blob: blob.name == name, found)
    return sorted(own, key=lambda blob: (blob.time_deleted is None, blob.generation))
