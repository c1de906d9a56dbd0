"""The bytes of an S3 object: all of them from obstore, which goes on after a broken line, some from boto3.

boto3 takes a part also from servers that do not call it partial. Both functions raise their client's errors
before the first byte is asked for; the bytes raise ours.
"""

from collections.abc import Iterator
from typing import Any

import obstore
from obstore.store import S3Store as MovingClient

from blocks.errors import StoreError, StoreUnreachable
from blocks.stores.s3_errors import translated

CHUNK_BYTES = 1 << 20


def read_whole(client: MovingClient, full: str, what: str) -> Iterator[bytes]:
    """Return the bytes of the object of a full key.

    Args:
        what: What failed if something does, such as `cannot read KEY on LOCATION`.
    """
    found = obstore.get(client, full)
    return _checked(iter(found.stream(CHUNK_BYTES)), found.meta["size"], what)


def read_part(client: Any, place: dict[str, str], start: int, end: int, what: str) -> Iterator[bytes]:
    """Return bytes `start` to `end` of an object that has them.

    Args:
        place: Its Bucket and Key.
    """
    found = client.get_object(**place, Range=f"bytes={start}-{end - 1}")
    if found["ContentLength"] != end - start:
        raise StoreError(f"{what}: the server does not give a part of an object")
    return _checked(found["Body"].iter_chunks(CHUNK_BYTES), end - start, what)


def _checked(chunks: Iterator[Any], size_bytes: int, what: str) -> Iterator[bytes]:
    """Yield chunks that are to be of this size together."""
    rest = size_bytes
    while True:
        with translated(what):
            chunk = next(chunks, None)
        if chunk is None:
            break
        rest -= len(chunk)
        yield bytes(chunk)
    if rest:
        raise StoreUnreachable(f"{what}: it ended {rest} bytes before its end")
