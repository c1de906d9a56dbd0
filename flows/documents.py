"""Small documents of ours on a store: manifests and records."""

from blocks.stores import Store
from flows.core.errors import ManifestUnreadable

LARGEST_BYTES = 16 << 20


def read_document(store: Store, key: str, size_bytes: int) -> bytes:
    """Read a document of ours; one that is too large for that is damaged, whatever it holds.

    Args:
        size_bytes: As the store listed it.

    Raises:
        ManifestUnreadable: It is larger than any of ours.
        StoreError: It cannot be read, or is gone.
    """
    if size_bytes > LARGEST_BYTES:
        raise ManifestUnreadable(f"{key.rpartition('/')[2]} has {size_bytes} bytes, which none of ours has")
    return store.read(key)
