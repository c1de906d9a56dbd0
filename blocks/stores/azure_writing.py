"""One upload into an Azure container, in blocks: the blob is made of them by the last request, or never."""

import contextlib
from collections.abc import Iterable

import obstore
from obstore.exceptions import BaseError as MoveError
from obstore.store import AzureStore as MovingClient

from blocks.errors import StoreError, StoreUnreachable
from blocks.stores.azure_blocks import MOST_BLOCKS, drop_blocks
from blocks.stores.azure_objects import Objects
from blocks.stores.upload_parts import Parts


def upload(
    client: MovingClient,
    objects: Objects,
    key: str,
    chunks: Iterable[bytes],
    blocks: Parts,
    *,
    access_tier: str,
) -> int:
    """Store the chunks under a key, and return their size in bytes; their errors are passed on."""
    size_bytes, what = 0, objects.what
    with objects.errors():
        writer = _open_writer(client, objects.name(key), blocks, access_tier)
    try:
        for chunk in chunks:
            size_bytes += len(chunk)
            if size_bytes > MOST_BLOCKS * blocks.size_bytes:
                raise StoreError(f"{what}: more than {MOST_BLOCKS} blocks of {blocks.size_bytes >> 20} MiB")
            with objects.errors():
                writer.write(chunk)
    except BaseException as error:
        with contextlib.suppress(MoveError, OSError):
            writer.__exit__(type(error), error, error.__traceback__)
        # where the server cannot be told any more, the upload is listed as unfinished later
        if size_bytes >= blocks.size_bytes and not isinstance(error, StoreUnreachable):
            with contextlib.suppress(StoreError):
                drop_blocks(objects.client, objects.name(key), what)
        raise
    with objects.errors():
        writer.close()
    return size_bytes


def _open_writer(client: MovingClient, name: str, blocks: Parts, access_tier: str) -> "obstore.WritableFile":
    return obstore.open_writer(
        client,
        name,
        attributes={"Storage-Class": access_tier} if access_tier else None,
        buffer_size=blocks.size_bytes,
        max_concurrency=blocks.at_once,
    )
