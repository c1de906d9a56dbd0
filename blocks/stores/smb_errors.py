"""What the errors of an SMB server, and of smbprotocol on the way to it, mean."""

from collections.abc import Iterator
from contextlib import contextmanager

from smbprotocol.exceptions import SMBAuthenticationError, SMBException, SMBOSError, SMBResponseException
from smbprotocol.header import NtStatus

from blocks.errors import ObjectExists, ObjectMissing, StoreError, StoreForbidden, StoreFull, StoreUnreachable

_RIGHTS = "let the user read, write and delete there, by the share's rights and by the directory's"
_CREDENTIALS = "correct user and password, or see whether the account is locked or expired"

_MISSING = {
    NtStatus.STATUS_OBJECT_NAME_NOT_FOUND,
    NtStatus.STATUS_OBJECT_PATH_NOT_FOUND,
    NtStatus.STATUS_NO_SUCH_FILE,
    NtStatus.STATUS_FILE_IS_A_DIRECTORY,
    NtStatus.STATUS_NOT_A_DIRECTORY,
    NtStatus.STATUS_DELETE_PENDING,
}
_NO_SHARE = {NtStatus.STATUS_BAD_NETWORK_NAME, NtStatus.STATUS_NOT_FOUND}
_FORBIDDEN = {
    NtStatus.STATUS_ACCESS_DENIED: _RIGHTS,
    NtStatus.STATUS_PRIVILEGE_NOT_HELD: _RIGHTS,
    NtStatus.STATUS_CANNOT_DELETE: _RIGHTS,
    NtStatus.STATUS_LOGON_FAILURE: _CREDENTIALS,
    NtStatus.STATUS_WRONG_PASSWORD: _CREDENTIALS,
    NtStatus.STATUS_PASSWORD_EXPIRED: _CREDENTIALS,
    0xC0000072: _CREDENTIALS,  # disabled
    0xC0000234: _CREDENTIALS,  # locked out
    0xC000015B: _CREDENTIALS,  # may not log on by the network
    0xC00000A2: _RIGHTS,  # write-protected
}
_FULL = {NtStatus.STATUS_DISK_FULL, 0xC0000044}  # the latter for a quota
_TRANSIENT = {
    NtStatus.STATUS_SHARING_VIOLATION,
    NtStatus.STATUS_INSUFFICIENT_RESOURCES,
    NtStatus.STATUS_INSUFF_SERVER_RESOURCES,
    NtStatus.STATUS_REQUEST_NOT_ACCEPTED,
    NtStatus.STATUS_SERVER_UNAVAILABLE,
    NtStatus.STATUS_IO_TIMEOUT,
    0xC000026E,  # the volume was dismounted
}
# nothing more can be done on the connection, the session or the tree connection
ENDED = {
    NtStatus.STATUS_USER_SESSION_DELETED,
    NtStatus.STATUS_NETWORK_NAME_DELETED,  # of the share, or of its tree connection
    0xC000020C,  # the connection is gone
    0xC000035C,  # the session has expired
}


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn an error of the server or the line into one of ours, without its text, which quotes paths."""
    try:
        yield
    except (SMBException, OSError, EOFError) as error:
        raise store_error(error, what) from None
    except ValueError as error:
        # so smbprotocol tells that it could not connect
        raise store_error(error.__cause__ or error, what) from None


def store_error(error: BaseException, what: str) -> StoreError:
    """Return our error for one of smbprotocol, with nothing of its text but the status' name."""
    status = status_of(error)
    if status is None and not isinstance(error, SMBAuthenticationError):
        return StoreUnreachable(
            f"{what}: no answer ({type(error).__name__})",
            "see host, port, the network, and whether the server runs",
        )
    text = f"{what}: the server said {_name(status)}"
    if status in _NO_SHARE:
        return StoreError(f"{what}: there is no such share", "correct share, or make it on the server")
    if status in _MISSING:
        return ObjectMissing(text)
    if status == NtStatus.STATUS_OBJECT_NAME_COLLISION:
        return ObjectExists(text)
    if status in _FULL:
        return StoreFull(text, "free some space there, raise the quota, or keep fewer backups")
    if status is None or status in _FORBIDDEN:
        return StoreForbidden(text, _FORBIDDEN.get(status or 0, _CREDENTIALS))
    if status in _TRANSIENT | ENDED:
        return StoreUnreachable(text, "see whether the server is overloaded, and try again later")
    return StoreError(text)


def status_of(error: BaseException) -> int | None:
    """Return the server's NTSTATUS; None if it did not answer."""
    if isinstance(error, SMBOSError):
        return int(error.ntstatus)
    if isinstance(error, SMBResponseException):
        return int(error.status)
    return None


def _name(status: int | None) -> str:
    if status is None:
        return "that it does not know the user"
    names = (name for name, number in vars(NtStatus).items() if number == status)
    return next(names, f"0x{status:08x}")
