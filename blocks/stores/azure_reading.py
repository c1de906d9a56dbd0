"""The bytes of a blob, from obstore, which goes on after a line that broke."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import obstore
from obstore.store import AzureStore as MovingClient

from blocks.errors import StoreUnreachable
from blocks.stores.azure_errors import translated

if TYPE_CHECKING:
    from obstore import GetOptions

CHUNK_BYTES = 1 << 20


def read(client: MovingClient, name: str, span: tuple[int, int] | None, what: str) -> Iterator[bytes]:
    """Return a blob's bytes; raise before the first is asked for if it cannot be opened.

    Args:
        span: Of the first byte and of the first not wanted, both within the blob; all of them if None.
        what: What failed if something does, such as `cannot read KEY on LOCATION`.
    """
    options: GetOptions = {"range": span} if span else {}
    with translated(what):
        found = obstore.get(client, name, options=options)
        chunks = iter(found.stream(CHUNK_BYTES))
    return _checked(chunks, found.range[1] - found.range[0], what)


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
