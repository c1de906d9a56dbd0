"""What the errors of an SFTP server, and of paramiko on the way to it, mean."""

from collections.abc import Iterator
from contextlib import contextmanager

from paramiko.message import Message
from paramiko.sftp import (
    SFTP_CONNECTION_LOST,
    SFTP_EOF,
    SFTP_NO_CONNECTION,
    SFTP_NO_SUCH_FILE,
    SFTP_OK,
    SFTP_OP_UNSUPPORTED,
    SFTP_PERMISSION_DENIED,
    SFTPError,
)
from paramiko.ssh_exception import SSHException

from blocks.errors import ObjectMissing, StoreError, StoreForbidden, StoreUnreachable

_NAMES = {3: "permission denied", 4: "failure", 5: "bad message", 8: "operation unsupported"}
_LOST = (SFTP_NO_CONNECTION, SFTP_CONNECTION_LOST)


class Refusal(Exception):
    """A server's answer to one request: a status code of the protocol that is not success."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code

    @property
    def is_missing(self) -> bool:
        return self.code == SFTP_NO_SUCH_FILE

    @property
    def is_end(self) -> bool:
        return self.code == SFTP_EOF

    @property
    def is_unsupported(self) -> bool:
        return self.code == SFTP_OP_UNSUPPORTED


def check_status(answer: Message) -> None:
    """Raise `Refusal` unless a status answer says success; its text is the server's and is not read."""
    if code := answer.get_int() - SFTP_OK:
        raise Refusal(code)


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn an error of the server or the line into one of ours; causes may quote addresses and names."""
    try:
        yield
    except (Refusal, OSError, EOFError, SSHException, SFTPError) as error:
        raise store_error(error, what) from None


def store_error(error: Exception, what: str) -> StoreError:
    """Return our error for one of paramiko or the server."""
    if isinstance(error, Refusal) and error.code not in _LOST:
        return _refusal(error, what)
    return StoreUnreachable(
        f"{what}: no answer ({type(error).__name__})",
        "see host, port, the network, and whether the server runs",
    )


def _refusal(error: Refusal, what: str) -> StoreError:
    if error.is_missing:
        return ObjectMissing(f"{what}: it is not there")
    text = f"{what}: the server said {_NAMES.get(error.code, f'status {error.code}')}"
    if error.code == SFTP_PERMISSION_DENIED:
        return StoreForbidden(text, "give the user the right to read and write the directory")
    return StoreError(text, "SFTP tells no more; the server's log, a quota or its free space may")
