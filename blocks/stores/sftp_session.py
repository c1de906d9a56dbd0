"""One SFTP session: what paramiko's client lacks, on top of its requests.

Its own pipelined writes forget the errors of the last hundred, its prefetch plans a whole object in
memory, its listing fails at a name that is not UTF-8, and it knows no free space, no flush, and none of the
extensions that the server announces.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from paramiko.channel import Channel
from paramiko.message import Message
from paramiko.sftp import (
    CMD_CLOSE,
    CMD_EXTENDED,
    CMD_FSTAT,
    CMD_INIT,
    CMD_OPEN,
    CMD_OPENDIR,
    CMD_READ,
    CMD_READDIR,
    CMD_REALPATH,
    CMD_STATUS,
    CMD_VERSION,
    CMD_WRITE,
    SFTP_FLAG_CREATE,
    SFTP_FLAG_EXCL,
    SFTP_FLAG_READ,
    SFTP_FLAG_WRITE,
    SFTPError,
    int64,
)
from paramiko.sftp_attr import SFTPAttributes
from paramiko.sftp_client import SFTPClient
from paramiko.transport import Transport

from blocks.stores.sftp_errors import Refusal, check_status

PROTOCOL_VERSION = 3
POSIX_RENAME = b"posix-rename@openssh.com"
REQUEST_BYTES = 32 << 10  # what every server takes
REQUESTS_UNDER_WAY = 128
CHUNK_BYTES = 1 << 20
FILE_MODE = 0o640
LEAST_FREE_BYTES = 1 << 20


@dataclass(frozen=True)
class Entry:
    """A name in a directory; bytes that are not UTF-8 are surrogates."""

    name: str
    attributes: SFTPAttributes


@dataclass(frozen=True)
class Room:
    """What a file system still takes: `files` is None where it has no limit of their number."""

    free_bytes: int
    files: int | None

    @property
    def is_used_up(self) -> bool:
        return self.free_bytes < LEAST_FREE_BYTES or self.files == 0


class Session(SFTPClient):
    """An open session, for one thread at a time; paths are the server's."""

    def __init__(self, channel: Channel, transport: Transport) -> None:
        super().__init__(channel)
        self.transport = transport

    if TYPE_CHECKING:

        def _request(self, kind: int, *arguments: object) -> tuple[int, Message]: ...
        def _async_request(self, receiver: object, kind: int, *arguments: object) -> int: ...
        def _send_packet(self, kind: int, message: Message) -> None: ...
        def _read_packet(self) -> tuple[int, bytes]: ...
        def _read_response(self, waitfor: int | None = None) -> object: ...

    def _send_version(self) -> int:
        """Greet the server; keep what extensions it announces, which paramiko drops."""
        greeting = Message()
        greeting.add_int(PROTOCOL_VERSION)
        self._send_packet(CMD_INIT, greeting)
        kind, content = self._read_packet()
        if kind != CMD_VERSION:
            raise SFTPError("no greeting")
        answer = Message(content)
        version, self._extensions = answer.get_int(), set[bytes]()
        while name := answer.get_binary():
            self._extensions.add(name)
            answer.get_binary()
        return version

    def _convert_status(self, message: Message) -> None:
        """Keep the code of a refusal, which paramiko drops."""
        check_status(message)

    @property
    def is_open(self) -> bool:
        return bool(self.transport.is_active()) and not self.sock.closed

    def close(self) -> None:
        self.transport.close()

    def lacks_posix_rename(self, refusal: Refusal) -> bool:
        """Return whether a refused `posix_rename` is one that the server does not know."""
        return refusal.is_unsupported or POSIX_RENAME not in self._extensions

    def create(self, path: str) -> bytes:
        """Open a new file for writing, and return its handle."""
        attributes = SFTPAttributes()
        attributes.st_mode = FILE_MODE
        flags = SFTP_FLAG_WRITE | SFTP_FLAG_CREATE | SFTP_FLAG_EXCL
        return self._request(CMD_OPEN, path, flags, attributes)[1].get_binary()

    def open_for_reading(self, path: str) -> bytes:
        return self._request(CMD_OPEN, path, SFTP_FLAG_READ, SFTPAttributes())[1].get_binary()

    def look_at(self, handle: bytes) -> SFTPAttributes:
        return _attributes(self._request(CMD_FSTAT, handle)[1])

    def close_handle(self, handle: bytes) -> None:
        self._request(CMD_CLOSE, handle)

    def flush_to_disk(self, handle: bytes) -> None:
        """Let what was written outlast a power cut, where the server can."""
        try:
            self._request(CMD_EXTENDED, "fsync@openssh.com", handle)
        except Refusal as refusal:
            if not refusal.is_unsupported:
                raise

    def real_path(self, path: str) -> str:
        """Return a path without the links in it, as far as the server resolves them."""
        answer = self._request(CMD_REALPATH, path)[1]
        return _names(answer)[0].name

    def room_at(self, path: str) -> Room | None:
        """Return how much room there is; None from a server that does not tell."""
        try:
            answer = self._request(CMD_EXTENDED, "statvfs@openssh.com", path)[1]
        except Refusal:
            return None
        _, fragment_bytes, _, _, free, files, _, free_files, *_ = (answer.get_int64() for _ in range(11))
        return Room(fragment_bytes * free, free_files if files else None)

    def entries(self, path: str) -> list[Entry]:
        """Return what is in a directory, of symbolic links the link itself."""
        handle = self._request(CMD_OPENDIR, path)[1].get_binary()
        found: list[Entry] = []
        try:
            while True:
                found += _names(self._request(CMD_READDIR, handle)[1])
        except Refusal as refusal:
            if not refusal.is_end:
                raise
        finally:
            self.close_handle(handle)
        return [entry for entry in found if entry.name not in (".", "..")]

    def read(self, handle: bytes, start: int, end: int) -> Iterator[bytes]:
        """Yield the bytes from `start` to `end`, in chunks; less only if the file ends before."""
        under_way, ahead = _UnderWay(self), start
        while start < end:
            chunk = bytearray()
            while start < end and len(chunk) < CHUNK_BYTES:
                while ahead < end and len(under_way) < REQUESTS_UNDER_WAY:
                    under_way.ask(CMD_READ, handle, int64(ahead), min(REQUEST_BYTES, end - ahead))
                    ahead = min(ahead + REQUEST_BYTES, end)
                wanted = min(REQUEST_BYTES, end - start)
                piece = self._whole(under_way, handle, start, wanted)
                chunk += piece
                start = start + wanted if len(piece) == wanted else end
            if chunk:
                yield bytes(chunk)

    def _whole(self, under_way: "_UnderWay", handle: bytes, start: int, wanted: int) -> bytes:
        """Return the next answer, and what a server that gave less than asked for still owes."""
        piece = b""
        try:
            piece = under_way.answer().get_binary()
            while len(piece) < wanted:
                arguments = (int64(start + len(piece)), wanted - len(piece))
                piece += self._request(CMD_READ, handle, *arguments)[1].get_binary()
        except Refusal as refusal:
            if not refusal.is_end:
                raise
        return piece


class Writer:
    """Writes a file in order without waiting for each answer; no answer is left unread."""

    def __init__(self, session: Session, handle: bytes) -> None:
        self._under_way = _UnderWay(session)
        self._handle = handle
        self.size_bytes = 0

    def write(self, chunk: bytes) -> None:
        for start in range(0, len(chunk), REQUEST_BYTES):
            piece = chunk[start : start + REQUEST_BYTES]
            while len(self._under_way) >= REQUESTS_UNDER_WAY:
                self._under_way.answer()
            self._under_way.ask(CMD_WRITE, self._handle, int64(self.size_bytes), piece)
            self.size_bytes += len(piece)

    def finish(self) -> None:
        """Wait for all answers; raise what the server refused."""
        while len(self._under_way):
            self._under_way.answer()


class _UnderWay:
    """Requests that were sent ahead, in order; their answers may come in any."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._numbers: deque[int] = deque()
        self._answers: dict[int, tuple[int, Message]] = {}

    def __len__(self) -> int:
        return len(self._numbers)

    def ask(self, kind: int, *arguments: object) -> None:
        self._numbers.append(self._session._async_request(self, kind, *arguments))

    def answer(self) -> Message:
        """Return the answer to the oldest request."""
        number = self._numbers.popleft()
        while number not in self._answers:
            self._session._read_response()
        kind, message = self._answers.pop(number)
        if kind == CMD_STATUS:
            check_status(message)
        return message

    def _async_response(self, kind: int, message: Message, number: int) -> None:
        """Take an answer; paramiko's client calls this."""
        self._answers[number] = (kind, message)


def _names(answer: Message) -> list[Entry]:
    found = []
    for _ in range(answer.get_int()):
        name, _long_name = answer.get_binary(), answer.get_binary()
        found.append(Entry(name.decode(errors="surrogateescape"), _attributes(answer)))
    return found


def _attributes(answer: Message) -> SFTPAttributes:
    attributes = SFTPAttributes._from_msg(answer)  # type: ignore[attr-defined]
    if not isinstance(attributes, SFTPAttributes):
        raise SFTPError("no attributes")
    return attributes
