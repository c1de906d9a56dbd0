"""One upload into an S3 bucket, in parts: the object is made of them by the last request, or never."""

import contextlib
from collections.abc import Iterable

import obstore
from obstore.exceptions import BaseError as MoveError
from obstore.store import S3Store as MovingClient

from blocks.errors import ObjectMissing, StoreError, StoreUnreachable
from blocks.stores.s3_objects import Objects
from blocks.stores.upload_parts import Parts, cut

MOST_PARTS = 10_000
PLANNED_PARTS = 9_000


def parts_for(expected_bytes: int | None) -> Parts:
    """Return how to cut an upload so that it fits 10,000 parts, a tenth in reserve, and 128 MiB of memory.

    Past about 560 GiB the parts themselves outgrow that memory, and are sent one by one.
    """
    return cut(expected_bytes, PLANNED_PARTS)


def upload(
    client: MovingClient,
    objects: Objects,
    key: str,
    chunks: Iterable[bytes],
    parts: Parts,
    storage_class: str,
) -> int:
    """Store the chunks under a key, and return their size in bytes; their errors are passed on."""
    size_bytes = 0
    with objects.writing_errors():
        writer = _open_writer(client, objects.full(key), parts, storage_class)
    try:
        for chunk in chunks:
            size_bytes += len(chunk)
            if size_bytes > MOST_PARTS * parts.size_bytes:
                raise StoreError(
                    f"{objects.what}: more than {MOST_PARTS} parts of {parts.size_bytes >> 20} MiB"
                )
            with objects.writing_errors():
                writer.write(chunk)
    except BaseException as error:
        # where the server cannot be told any more, the upload is listed as unfinished later
        with contextlib.suppress(MoveError, OSError):
            writer.__exit__(type(error), error, error.__traceback__)
        raise
    try:
        with objects.writing_errors():
            writer.close()
    except ObjectMissing:
        # said to a repeated last request if the first one's answer got lost: the object may be there
        raise StoreUnreachable(f"{objects.what}: the server has forgotten the upload", "try again") from None
    return size_bytes


def _open_writer(client: MovingClient, full: str, parts: Parts, storage_class: str) -> "obstore.WritableFile":
    return obstore.open_writer(
        client,
        full,
        attributes={"Storage-Class": storage_class} if storage_class else None,
        buffer_size=parts.size_bytes,
        max_concurrency=parts.at_once,
    )
