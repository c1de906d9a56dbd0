"""What the operating system's errors about a directory mean."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from blocks.errors import StoreError, StoreForbidden, StoreFull, StoreUnreachable

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
_AWAY = {errno.ESTALE, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENOTCONN, errno.ECONNRESET}


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn an error of the operating system into one of ours."""
    try:
        yield
    except OSError as error:
        raise store_error(error, what) from error


def store_error(error: OSError, what: str) -> StoreError:
    """Return our error for the operating system's."""
    text = f"{what}: {(error.strerror or type(error).__name__).lower()}"
    if error.errno in _FULL:
        return StoreFull(text, "free some space there, or keep fewer backups")
    if error.errno in _FORBIDDEN:
        return StoreForbidden(text, "let the user that runs this read and write there")
    if error.errno in _AWAY:
        return StoreUnreachable(text, "see whether the share is mounted and its server runs")
    return StoreError(text)
