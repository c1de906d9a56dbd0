"""The bytes of an object in Google Cloud Storage, piece by piece, with their checksum."""

from collections.abc import Iterator
from typing import Any

from blocks.errors import ObjectExists, ObjectMissing, StoreError, StoreUnreachable
from blocks.stores.extras import imported
from blocks.stores.gcs_errors import damaged, translated
from blocks.stores.gcs_upload import written

CHUNK_BYTES = 1 << 20
PIECE_BYTES = 16 << 20


def read(blob: Any, start: int, end: int, what: str, patient: dict[str, Any]) -> Iterator[bytes]:
    """Yield bytes `start` to `end` of the very object that was looked at, not of one that replaces it.

    Args:
        blob: Of Google's library, loaded.
        what: What failed if something does, such as `cannot read KEY on LOCATION`.
        patient: How long to wait, and how often to ask again.
    """
    checksum = imported("google_crc32c", "gcp").Checksum()
    for first in range(start, end, PIECE_BYTES):
        last = min(first + PIECE_BYTES, end) - 1
        piece = _piece(blob, first, last, what, patient)
        if len(piece) != last - first + 1:
            raise StoreUnreachable(f"{what}: {len(piece)} bytes came where {last - first + 1} were asked for")
        checksum.update(piece)
        for offset in range(0, len(piece), CHUNK_BYTES):
            yield piece[offset : offset + CHUNK_BYTES]
    is_whole = start == 0 and end == blob.size
    if is_whole and blob.crc32c and blob.crc32c != written(checksum):
        raise damaged(what)


def _piece(blob: Any, first: int, last: int, what: str, patient: dict[str, Any]) -> bytes:
    try:
        with translated(what):
            found: bytes = blob.download_as_bytes(
                start=first,
                end=last,
                raw_download=True,
                if_generation_match=blob.generation,
                checksum=None,
                **patient,
            )
    except (ObjectExists, ObjectMissing):
        raise StoreError(f"{what}: it was replaced or deleted meanwhile", "read it again") from None
    return found
