"""Credentials that Prefect holds, in a block of one of its integrations."""

from typing import Any

import httpx
from prefect.blocks.core import Block

from blocks.errors import ConfigurationError, StoreUnreachable


def load_block(reference: str) -> Any:
    """Return a stored block; its integration must have been imported, else Prefect does not know the type."""
    try:
        # not a coroutine, even where an event loop runs
        return Block.load(reference, _sync=True)  # type: ignore[call-arg]
    except ValueError:
        raise ConfigurationError(f"there is no block {reference}", "see: prefect block ls") from None
    except httpx.HTTPError as error:
        raise StoreUnreachable(
            f"Prefect's API did not give the block {reference} ({type(error).__name__})",
            "see PREFECT_API_URL, or name keys instead of a block",
        ) from error
