"""What silences and broken lines between us and an SFTP server become."""

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path

import pytest
from paramiko.packet import Packetizer

from blocks.errors import StoreUnreachable
from blocks.stores import SftpStore
from blocks.stores.sftp_access import _Impatient
from tests.blocks.stores.at_once import failures
from tests.servers.ports import free_port
from tests.servers.s3 import BrokenLine, broken_line
from tests.servers.sftp import SftpServer

MIB = 1 << 20
LIMIT_SECONDS = 5  # in which a log-in must be done as well
MOST_SECONDS = 60  # that uses with this limit may last, all at once
_numbers = count()
USES: list[tuple[str, Callable[[SftpStore], object]]] = [
    ("put", lambda store: store.put("key", [b"x"])),
    ("create", lambda store: store.create("key", b"x")),
    ("get", lambda store: store.get("key")),
    ("stat", lambda store: store.stat("key")),
    ("list", lambda store: list(store.list())),
    ("delete", lambda store: store.delete("key")),
    ("pending", lambda store: list(store.pending())),
    ("now", lambda store: store.now()),
]
every_use = pytest.mark.parametrize("use", [pytest.param(use, id=name) for name, use in USES])


@pytest.fixture
def sftp_line(sftp_server: SftpServer) -> Iterator[BrokenLine]:
    with broken_line(sftp_server.port) as line:
        yield line


@pytest.fixture
def directory(sftp_server: SftpServer) -> Path:
    return sftp_server.directory / f"broken-{next(_numbers)}"


@pytest.fixture
def direct(connected_sftp_store: SftpStore, directory: Path) -> SftpStore:
    """The store without the line."""
    return connected_sftp_store.model_copy(update={"directory": str(directory)})


@pytest.fixture
def store(sftp_server: SftpServer, sftp_line: BrokenLine, directory: Path) -> SftpStore:
    return sftp_server.store(directory, port=sftp_line.port, timeout_seconds=LIMIT_SECONDS)


@every_use
def test_a_server_that_is_down_is_told(sftp_server: SftpServer, use: Callable[[SftpStore], object]) -> None:
    store = sftp_server.store("x", port=free_port())
    with pytest.raises(StoreUnreachable, match="no answer") as caught:
        use(store)
    assert caught.value.transient
    assert "host, port" in caught.value.hint


def test_a_name_that_does_not_resolve_is_told(sftp_server: SftpServer) -> None:
    with pytest.raises(StoreUnreachable, match=r"no-such-host\.invalid"):
        sftp_server.store("x", host="no-such-host.invalid").put("key", [b"x"])


def test_a_server_that_falls_silent_is_given_up(
    sftp_server: SftpServer, sftp_line: BrokenLine, directory: Path
) -> None:
    def prepared(use: Callable[[SftpStore], object]) -> Callable[[], object]:
        store = sftp_server.store(directory, port=sftp_line.port, timeout_seconds=LIMIT_SECONDS)
        assert not store.exists("key")
        return lambda: use(store)

    uses = {name: prepared(use) for name, use in USES}
    sftp_line.hang()
    began = time.monotonic()
    ended = failures(uses)
    assert time.monotonic() - began < MOST_SECONDS
    assert all(
        isinstance(error, StoreUnreachable) and "no answer" in str(error) for error in ended.values()
    ), ended


def test_a_server_that_falls_silent_while_it_lets_us_in_is_given_up(
    sftp_server: SftpServer, directory: Path
) -> None:
    moments = {"at once": 0, "in the banner": 30, "in the keys": 1_500, "at the login": 3_000}
    with contextlib.ExitStack() as stack:
        ports = {
            moment: stack.enter_context(silent_after(sftp_server.port, after_bytes))
            for moment, after_bytes in moments.items()
        }
        stores = {
            moment: sftp_server.store(directory, port=port, timeout_seconds=LIMIT_SECONDS)
            for moment, port in ports.items()
        }
        began = time.monotonic()
        ended = failures({moment: partial(store.exists, "key") for moment, store in stores.items()})
        assert time.monotonic() - began < MOST_SECONDS
    assert all(
        isinstance(error, StoreUnreachable) and "no answer" in str(error) for error in ended.values()
    ), ended


def test_an_upload_that_dies_half_way_stores_nothing_and_its_rest_can_be_cleared(
    store: SftpStore, direct: SftpStore, sftp_line: BrokenLine
) -> None:
    sftp_line.break_after(up_bytes=5 * MIB)
    with pytest.raises(StoreUnreachable, match="cannot write plan/key"):
        store.put("plan/key", [bytes(MIB)] * 40)
    assert list(direct.list()) == []
    (left,) = direct.pending()
    direct.abort_pending(left)
    assert list(direct.pending()) == []


@pytest.mark.parametrize("breaks", [BrokenLine.refuse, BrokenLine.hang])
def test_a_download_that_ends_half_way_is_an_error_and_no_end(
    store: SftpStore, direct: SftpStore, sftp_line: BrokenLine, breaks: Callable[[BrokenLine], None]
) -> None:
    direct.put("key", [bytes(MIB)] * 32)
    chunks = store.get("key")
    received = [next(chunks)]
    breaks(sftp_line)
    with pytest.raises(StoreUnreachable, match="cannot read key"):
        received.extend(chunks)
    assert sum(map(len, received)) < 32 * MIB


def test_a_source_that_breaks_while_the_server_is_gone_keeps_its_own_error(
    store: SftpStore, sftp_line: BrokenLine
) -> None:
    def source() -> Iterator[bytes]:
        yield bytes(MIB)
        sftp_line.refuse()
        raise KeyError("the first cause")

    with pytest.raises(KeyError, match="the first cause"):
        store.put("key", source())


def test_the_store_works_again_when_the_line_does(store: SftpStore, sftp_line: BrokenLine) -> None:
    store.put("key", [b"one"])
    sftp_line.refuse()
    with pytest.raises(StoreUnreachable):
        store.read("key")
    sftp_line.mend()
    assert store.read("key") == b"one"


def test_a_transfer_goes_on_while_new_keys_are_agreed(
    sftp_server: SftpServer, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Packetizer, "REKEY_BYTES", 4 * MIB)
    store, body = sftp_server.store(directory), os.urandom(20 * MIB)
    store.put("key", [body])
    assert store.read("key") == body


def test_a_socket_that_takes_nothing_for_too_long_is_given_up() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(0.05)
        line = _Impatient(ours, 0.3)
        with pytest.raises(TimeoutError):
            send_on(line)
        began = time.monotonic()
        with pytest.raises(ConnectionAbortedError):
            send_on(line, TimeoutError)
        assert 0.2 < time.monotonic() - began < MOST_SECONDS
        theirs.recv(MIB)
        assert line.send(b"x") == 1


def send_on(line: _Impatient, *passing: type[Exception]) -> None:
    while True:
        with contextlib.suppress(*passing):
            line.send(bytes(MIB))


class silent_after:  # noqa: N801 - reads as a statement
    """A line that forwards so many bytes from the server, and then nothing more in either direction."""

    def __init__(self, target_port: int, after_bytes: int) -> None:
        self._target_port, self._rest = target_port, after_bytes
        self._listener = socket.create_server(("127.0.0.1", 0))

    def __enter__(self) -> int:
        threading.Thread(target=self._carry, daemon=True).start()
        return int(self._listener.getsockname()[1])

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _carry(self) -> None:
        client, _ = self._listener.accept()
        # whoever gives up may break the line
        with (
            contextlib.suppress(OSError),
            client,
            socket.create_connection(("127.0.0.1", self._target_port)) as server,
        ):
            for end in (client, server):
                end.settimeout(0.05)
            while self._rest > 0:
                for source, sink in ((client, server), (server, client)):
                    try:
                        chunk = source.recv(min(self._rest, 65536) if source is server else 65536)
                    except TimeoutError:
                        continue
                    if not chunk:
                        return
                    sink.sendall(chunk)
                    self._rest -= len(chunk) if source is server else 0
            client.settimeout(30)
            while client.recv(65536):
                pass
