"""One share of an SMB server: its connection, and what is done on it, by paths below the share.

smbprotocol waits for ever by itself; here every answer has a time limit, and a connection that broke or
overran it is replaced at the next use.
"""

import socket
import struct
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import smbclient
from smbclient import _io
from smbprotocol.connection import Connection
from smbprotocol.exceptions import SMBException, SMBResponseException
from smbprotocol.file_info import FileAttributes, FileInformationClass, FileRenameInformation
from smbprotocol.open import CreateOptions, FilePipePrinterAccessMask

from blocks.stores.smb_errors import ENDED

_SHARED = "rwd"


@dataclass(frozen=True)
class Entry:
    """What a directory lists.

    Args:
        identity: Its number, which something on another volume may have too, and when it was made.
    """

    name: str
    is_directory: bool
    size_bytes: int
    modified_at: datetime
    identity: tuple[int, datetime]


class PatientConnection(Connection):  # type: ignore[misc]
    """A connection on which nothing waits for longer than `timeout_seconds`."""

    timeout_seconds: float

    def receive(
        self, request: Any, wait: bool = True, timeout: float | None = None, resolve_symlinks: bool = True
    ) -> Any:
        with self._ending():
            return super().receive(request, wait, timeout or self.timeout_seconds, resolve_symlinks)

    def send(self, *arguments: Any, **options: Any) -> Any:
        with self._ending():
            return super().send(*arguments, **options)

    def send_compound(self, *arguments: Any, **options: Any) -> Any:
        with self._ending():
            return super().send_compound(*arguments, **options)

    @contextmanager
    def _ending(self) -> Iterator[None]:
        """End the connection after any error but an answer: nobody knows what comes next on it.

        The same after an answer that tells an end: smbprotocol would use for ever what is over.
        """
        try:
            yield
        except (SMBException, OSError) as error:
            if not isinstance(error, SMBResponseException) or error.status in ENDED:
                self.transport.close()
            raise


@dataclass
class Share:
    """A share, connected at its first use.

    Args:
        password: Called for each new connection.
    """

    host: str
    port: int
    name: str
    user: str
    password: Callable[[], str] = field(repr=False)
    encrypt: bool
    sign: bool
    timeout_seconds: float
    _connections: dict[str, Connection] = field(default_factory=dict, repr=False)
    _told: dict[str, Any] = field(default_factory=dict, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def open(self, path: str, mode: str) -> Any:
        """Open a file, raw; end it with `let_go`."""
        return smbclient.open_file(
            self._full(path), mode=f"{mode}b", buffering=0, share_access=_SHARED, **self._session()
        )

    def let_go(self, file: Any) -> None:
        """Close a handle if it is open; where the server is gone there is none any more."""
        try:
            file.close()
        except (SMBException, OSError, EOFError):
            # smbprotocol would warn of a handle that is open
            file.fd._connected = False

    def entries(self, path: str) -> list[Entry]:
        """Return what is in a directory, and as `.` the directory itself."""
        directory = _io.SMBDirectoryIO(self._full(path), share_access=_SHARED, **self._session())
        try:
            directory.open()
            kind = FileInformationClass.FILE_ID_FULL_DIRECTORY_INFORMATION
            found = [_entry(raw) for raw in directory.query_directory("*", kind)]
        finally:
            self.let_go(directory)
        return [entry for entry in found if entry.name != ".."]

    def rename(self, path: str, target: str, *, replace: bool) -> None:
        """Give a file another name, at once; the server refuses a taken one unless `replace`.

        smbclient's own would open the target for execution first, which is a right of its own.
        """
        information = FileRenameInformation()
        information["replace_if_exists"] = replace
        information["file_name"] = target
        file = _io.SMBRawIO(
            self._full(path),
            share_access=_SHARED,
            desired_access=FilePipePrinterAccessMask.DELETE,
            create_options=CreateOptions.FILE_OPEN_REPARSE_POINT,
            **self._session(),
        )
        try:
            file.open()
            with _io.SMBFileTransaction(file) as transaction:
                _io.set_info(transaction, information)
        finally:
            self.let_go(file)

    def make_directory(self, path: str) -> None:
        smbclient.mkdir(self._full(path), **self._session())

    def remove(self, path: str) -> None:
        smbclient.remove(self._full(path), **self._session())

    def remove_directory(self, path: str) -> None:
        """Remove a directory; the server refuses one that is not empty."""
        smbclient.rmdir(self._full(path), **self._session())

    def clock(self, path: str) -> datetime:
        """Return when a file is made now, by the server's clock; it is gone with its handle."""
        options = {"create_options": CreateOptions.FILE_DELETE_ON_CLOSE, "desired_access": _CREATING}
        file = _io.SMBFileIO(self._full(path), mode="x", share_access=_SHARED, **options, **self._session())
        try:
            file.open()
            told: datetime = file.fd.creation_time
        finally:
            self.let_go(file)
        return told.astimezone(UTC)

    def _full(self, path: str) -> str:
        share = rf"\\{self.host}\{self.name}"
        return rf"{share}\{path}" if path else share

    def _session(self) -> dict[str, Any]:
        """Return what every call of smbclient is told; connect, if there is no connection."""
        key = f"{self.host.lower()}:{self.port}"
        with self._lock:
            known = self._connections.get(key)
            if known is None or not known.transport.connected:
                self._connections[key] = self._connected()
                self._told = {}
            if not self._told:
                told = {
                    "username": self.user,
                    "password": self.password(),
                    "port": self.port,
                    "connection_cache": self._connections,
                    "encrypt": self.encrypt or None,
                    "require_signing": self.sign,
                }
                smbclient.register_session(self.host, **told)
                self._told = told
            return self._told

    def _connected(self) -> PatientConnection:
        # a server that takes two connections for one client's keeps what is open on the one that broke
        connection = PatientConnection(uuid.uuid4(), self.host, self.port, require_signing=self.sign)
        connection.timeout_seconds = self.timeout_seconds
        connection.connect(timeout=self.timeout_seconds)
        # a server that takes nothing more would block a write for ever
        seconds, rest = divmod(self.timeout_seconds, 1)
        limit = struct.pack("ll", int(seconds), int(rest * 1_000_000))
        connection.transport._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        return connection


_CREATING = FilePipePrinterAccessMask.DELETE | FilePipePrinterAccessMask.FILE_READ_ATTRIBUTES


def _entry(raw: Any) -> Entry:
    return Entry(
        name=raw["file_name"].get_value().decode("utf-16-le", errors="surrogatepass"),
        is_directory=raw["file_attributes"].has_flag(FileAttributes.FILE_ATTRIBUTE_DIRECTORY),
        size_bytes=raw["end_of_file"].get_value(),
        modified_at=raw["last_write_time"].get_value().astimezone(UTC),
        identity=(raw["file_id"].get_value(), raw["creation_time"].get_value()),
    )
