"""What a destination does not let go of: for ever, because a plan says so, or until a lock ends."""

from collections.abc import Iterable
from datetime import datetime

from blocks.stores import Store
from blocks.stores.base import NO_END
from flows.catalogue import Copy
from flows.core import naming

APPEND_ONLY = "the store is append-only"


def why_undeletable(plan: str, copy: Copy, now: datetime) -> str:
    """Return why no object of a copy may be deleted yet, "" if all may.

    One that is locked keeps them all: without its manifest a backup could be neither found nor restored.

    Args:
        now: The store's clock.
    """
    if copy.store.append_only:
        return APPEND_ONLY
    until = _last_lock(copy.store, (naming.object_key(plan, copy.backup_id, name) for name in copy.sizes))
    return locked(until) if until and until > now else ""


def locked(until: datetime) -> str:
    """Return the reason for which something is kept that a store has locked."""
    if until == NO_END:
        return "kept by a legal hold or a policy on the store"
    return f"locked until {until:%Y-%m-%d} on the store"


def _last_lock(store: Store, keys: Iterable[str]) -> datetime | None:
    ends = (store.locked_until(key) for key in keys)
    return max((end for end in ends if end), default=None)
