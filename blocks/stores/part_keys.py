"""The keys of unfinished uploads: hidden names beside the places that they are to get."""

import secrets

from blocks.errors import StoreError
from blocks.stores.base import check_key
from blocks.stores.part_file import meant_name


def part_of(key: str) -> str:
    """Return a new key to upload under what is to get `key`."""
    folder, slash, name = key.rpartition("/")
    return f"{folder}{slash}.{name}.{secrets.token_hex(4)}.part"


def meant_key(key: str) -> str | None:
    """Return the key that a part was to get, or None if `key` is not a part's."""
    folder, slash, name = key.rpartition("/")
    meant = meant_name(name)
    return f"{folder}{slash}{meant}" if meant else None


def checked(key: str) -> str:
    """Return `key`; raise `StoreError` unless it can name a finished object."""
    check_key(key)
    if meant_key(key):
        raise StoreError(f"not an object's key: {key!r} is the name of an unfinished upload")
    return key
