"""zstd streams: one frame, level 1, one thread (its own threads make it slower on two cores)."""

from collections.abc import Iterable, Iterator

import zstandard

from blocks.errors import StreamDamaged

LEVEL = 1
OUTPUT_BYTES = 256 << 10
INPUT_BYTES = 4 << 10  # a slice can grow ten-thousandfold, and what it grows to is held in memory


def compressed(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the zstd frame of the chunks, in pieces of about 256 KiB."""
    compressor = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).compressobj()
    waiting = bytearray()
    for chunk in chunks:
        waiting += compressor.compress(chunk)
        if len(waiting) >= OUTPUT_BYTES:
            yield bytes(waiting)
            waiting.clear()
    yield bytes(waiting + compressor.flush())


def decompressed(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield what one zstd frame holds; raise `StreamDamaged` unless it is whole and nothing follows it."""
    decompressor = zstandard.ZstdDecompressor().decompressobj()
    try:
        for piece in _slices(chunks):
            if plain := decompressor.decompress(piece):
                yield plain
    except zstandard.ZstdError as error:
        raise StreamDamaged("a compressed stream is damaged") from error
    if not decompressor.eof or decompressor.unused_data:
        raise StreamDamaged("a compressed stream does not end where it should")


def _slices(chunks: Iterable[bytes]) -> Iterator[bytes]:
    for chunk in chunks:
        for start in range(0, len(chunk), INPUT_BYTES):
            yield chunk[start : start + INPUT_BYTES]
