"""Blob names: Azure takes a backslash for a slash, and a dot at a segment's end may be dropped.

Such characters, and `%` itself, are written in the manner of URLs; all other keys are their own names.
"""

import re

_RESERVED = re.compile(r"%|\\|\.+(?=/|$)")
_WRITTEN = re.compile(r"%(25|5C|2E)")


def blob_name(key: str) -> str:
    return _RESERVED.sub(lambda found: "".join(f"%{ord(sign):02X}" for sign in found[0]), key)


def name_prefix(prefix: str) -> str:
    """Return what the names of all keys that begin with `prefix` begin with."""
    return blob_name(prefix.rstrip("."))


def key_of(name: str) -> str:
    return _WRITTEN.sub(lambda found: chr(int(found[1], 16)), name)
