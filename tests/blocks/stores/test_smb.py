"""What an SMB store is without a server; tests/privileged has the rest."""

import socket
import sys
import time
import uuid
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as some
from pydantic import ValidationError
from smbprotocol.connection import Connection
from smbprotocol.exceptions import (
    SMBAuthenticationError,
    SMBConnectionClosed,
    SMBException,
    SMBOSError,
    SMBResponseException,
)
from smbprotocol.header import SMB2HeaderResponse
from smbprotocol.transport import Tcp

from blocks.errors import (
    ConfigurationError,
    ObjectExists,
    ObjectMissing,
    StoreError,
    StoreForbidden,
    StoreFull,
    StoreUnreachable,
)
from blocks.stores import SmbStore
from blocks.stores.base import is_key
from blocks.stores.smb_access import PatientConnection
from blocks.stores.smb_errors import store_error
from blocks.stores.smb_names import read_name, spelled
from tests.servers.ports import free_port


@pytest.fixture
def mute() -> Iterator[int]:
    """The port of a server that accepts and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield int(listener.getsockname()[1])


def test_a_server_that_accepts_and_never_answers_is_given_up(mute: int) -> None:
    began = time.monotonic()
    with pytest.raises(StoreUnreachable, match="no answer") as caught:
        SmbStore(host="127.0.0.1", port=mute, share="backups", timeout_seconds=1).stat("key")
    assert time.monotonic() - began < 60
    assert caught.value.transient


@pytest.mark.parametrize("host", ["127.0.0.1", "no-such-host.invalid"])
def test_a_server_that_is_not_there_is_told(host: str) -> None:
    store = SmbStore(host=host, port=free_port(), share="backups", timeout_seconds=1)
    with pytest.raises(StoreUnreachable, match=f"cannot look at key on smb://{host}.*no answer") as caught:
        store.stat("key")
    assert "see host, port" in caught.value.hint


def test_a_missing_extra_is_told_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "smbprotocol", None)
    with pytest.raises(ConfigurationError) as caught:
        SmbStore(host="nas.example", share="backups").stat("key")
    assert caught.value.hint == "pip install 'pgsalvo[smb]'"


@pytest.mark.parametrize(
    ("fields", "location", "on_this_host"),
    [
        ({"host": "nas.example"}, "smb://nas.example/backups", False),
        ({"host": "127.0.0.1", "port": 1445, "prefix": "/pg/"}, "smb://127.0.0.1:1445/backups/pg", True),
    ],
)
def test_a_store_knows_where_it_lies(fields: dict[str, object], location: str, on_this_host: bool) -> None:
    store = SmbStore(**({"share": "backups"} | fields))
    assert (store.location, store.on_this_host) == (location, on_this_host)


@pytest.mark.parametrize(
    "fields",
    [
        {"host": ""},
        {"host": "smb://nas"},
        {"host": "user@nas"},
        {"share": "backups/pg"},
        {"share": ""},
        {"prefix": "../x"},
        {"port": 0},
        {"timeout_seconds": 0},
    ],
    ids=str,
)
def test_what_cannot_work_is_refused_when_it_is_configured(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        SmbStore(**({"host": "nas.example", "share": "backups"} | fields))


def test_characters_that_windows_refuses_are_spelled_as_linux_mounts_read_them() -> None:
    assert spelled('a/b "c" *:<>?|\\/d./e ') == (
        "a\\b \uf020c\uf020 \uf021\uf022\uf023\uf024\uf025\uf027\uf026\\d\uf029\\e\uf028"
    )


@given(some.text(some.characters(exclude_characters="/", max_codepoint=0xD7FF), min_size=1).filter(is_key))
def test_every_name_comes_back_from_its_spelling(name: str) -> None:
    written = spelled(name)
    assert read_name(written) == name
    assert not set('"*:<>?|\\') & set(written)
    assert not written.endswith((" ", "."))


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (0xC0000034, ObjectMissing),
        (0xC000003A, ObjectMissing),
        (0xC00000BA, ObjectMissing),
        (0xC0000035, ObjectExists),
        (0xC0000022, StoreForbidden),
        (0xC000006D, StoreForbidden),
        (0xC0000234, StoreForbidden),
        (0xC000007F, StoreFull),
        (0xC0000044, StoreFull),
        (0xC0000043, StoreUnreachable),
        (0xC00000C9, StoreUnreachable),
        (0xC0000203, StoreUnreachable),
        (0xC000020C, StoreUnreachable),
        (0xC000035C, StoreUnreachable),
        (0xC00000CC, StoreError),
        (0xC0000001, StoreError),
    ],
    ids=lambda value: f"0x{value:08x}" if isinstance(value, int) else value.__name__,
)
def test_the_servers_answers_have_a_meaning(status: int, expected: type[StoreError]) -> None:
    error = store_error(SMBOSError(status, r"\\nas\backups\private-words"), "cannot write key")
    assert type(error) is expected
    assert "private-words" not in str(error)


@pytest.mark.parametrize(
    ("status", "is_ended"),
    [
        pytest.param(0xC0000203, True, id="session-deleted"),
        pytest.param(0xC000035C, True, id="session-expired"),
        pytest.param(0xC00000C9, True, id="share-closed"),
        pytest.param(0xC000020C, True, id="disconnected"),
        pytest.param(0xC0000034, False, id="no-such-object"),
        pytest.param(0xC000007F, False, id="full"),
        pytest.param(0xC0000205, False, id="overloaded"),
    ],
)
def test_an_answer_that_tells_an_end_is_the_end_of_the_connection(
    mute: int, monkeypatch: pytest.MonkeyPatch, status: int, is_ended: bool
) -> None:
    def answer(*_: object) -> None:
        header = SMB2HeaderResponse()
        header["status"] = status
        raise SMBResponseException(header)

    monkeypatch.setattr(Connection, "receive", answer)
    connection = PatientConnection(uuid.uuid4(), "127.0.0.1", mute)
    connection.timeout_seconds, connection.transport = 1, Tcp("127.0.0.1", mute)
    connection.transport.connect()
    with pytest.raises(SMBResponseException):
        connection.receive(None)
    assert connection.transport.connected is not is_ended
    connection.transport.close()


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (SMBConnectionClosed("private-words"), StoreUnreachable),
        (SMBException("Connection timeout of 1 seconds exceeded, private-words"), StoreUnreachable),
        (BlockingIOError("private-words"), StoreUnreachable),
        (SMBAuthenticationError("private-words"), StoreForbidden),
    ],
    ids=lambda value: getattr(value, "__name__", type(value).__name__),
)
def test_a_line_that_broke_is_told_from_a_refusal(error: Exception, expected: type[StoreError]) -> None:
    found = store_error(error, "cannot write key")
    assert type(found) is expected
    assert "private-words" not in str(found)
