"""What only a real SMB server shows: kills, refusals, silences, names on its disk, what a line tells."""

import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import psutil
import pytest

from blocks.errors import ObjectExists, StoreError, StoreForbidden, StoreUnreachable
from blocks.stores import SmbStore
from blocks.stores.base import PendingUpload
from tests.privileged.subject_smb import connected_smb_store, smb_server, store, subject  # noqa: F401
from tests.servers.s3 import BrokenLine, broken_line
from tests.servers.smb import PASSWORD, SHARE, SmbServer, start_smb

MIB = 1 << 20
USES: dict[str, Callable[[SmbStore], object]] = {
    "put": lambda place: place.put("key", [b"x"]),
    "create": lambda place: place.create("key", b"x"),
    "get": lambda place: place.get("key"),
    "stat": lambda place: place.stat("key"),
    "list": lambda place: list(place.list()),
    "delete": lambda place: place.delete("key"),
    "now": lambda place: place.now(),
    "pending": lambda place: list(place.pending()),
}
every_use = pytest.mark.parametrize("use", [pytest.param(use, id=name) for name, use in USES.items()])


class SourceError(Exception):
    """The source of an upload's bytes failed."""


@pytest.fixture
def line(smb_server: SmbServer) -> Iterator[BrokenLine]:  # noqa: F811
    with broken_line(smb_server.port) as line:
        yield line


@pytest.fixture
def reached(smb_server: SmbServer, line: BrokenLine) -> SmbStore:  # noqa: F811
    """An impatient store at the other end of the line."""
    return smb_server.store(port=line.port, prefix="reached", timeout_seconds=1)


def test_a_kill_leaves_a_part_that_pending_lists_and_nothing_else(store: SmbStore) -> None:  # noqa: F811
    store.put("shop/main", [b"older"])
    writer = subprocess.Popen(
        (sys.executable, "-c", _PUT_SLOWLY, str(store.port), store.prefix),
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
        env=os.environ | {"TESTS_PASSWORD": PASSWORD},
    )
    with writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"half-way\n"
        assert PASSWORD not in " ".join(psutil.Process(writer.pid).cmdline())
        os.kill(writer.pid, signal.SIGKILL)
    assert store.read("shop/main") == b"older"
    assert [stored.key for stored in store.list()] == ["shop/main"]
    (left,) = store.pending("shop/")
    assert left.key == "shop/main"
    assert abs(store.now() - left.started_at) < timedelta(seconds=60)
    with pytest.raises(StoreError, match="no unfinished upload"):
        store.abort_pending(PendingUpload("shop/main", "shop/main", left.started_at))
    _eventually_cleared(store, left)


_PUT_SLOWLY = """
import sys, time
from blocks.stores import SmbStore

def chunks():
    for _ in range(3):
        yield bytes(1 << 20)
    print("half-way", flush=True)
    time.sleep(60)

store = SmbStore(host="127.0.0.1", port=int(sys.argv[1]), share="backups", prefix=sys.argv[2],
                 user="root", password="env:TESTS_PASSWORD")
store.put("shop/main", chunks())
"""


def _eventually_cleared(store: SmbStore, left: PendingUpload) -> None:  # noqa: F811
    # until the server has noticed that its client is gone, the file is in use
    for _ in range(100):
        store.abort_pending(left)
        if left.upload_id not in [upload.upload_id for upload in store.pending()]:
            return
        time.sleep(0.05)
    raise AssertionError("the upload is still there")


def test_names_that_windows_refuses_are_spelled_as_a_mounted_share_reads_them(
    smb_server: SmbServer,  # noqa: F811
    store: SmbStore,  # noqa: F811
) -> None:
    store.put('a:b/"c"?.', [b"x"])
    found = [path for path in (smb_server.directory / store.prefix).rglob("*") if path.is_file()]
    assert [path.relative_to(smb_server.directory / store.prefix).as_posix() for path in found] == [
        "a\uf022b/\uf020c\uf020\uf025\uf029"
    ]


def test_folders_that_a_deletion_empties_are_removed_and_others_stay(
    smb_server: SmbServer,  # noqa: F811
    store: SmbStore,  # noqa: F811
) -> None:
    root = smb_server.directory / store.prefix
    for key in ("shop/one/main", "shop/two/main"):
        store.put(key, [b"x"])
    store.delete("shop/one/main")
    assert [path.name for path in (root / "shop").iterdir()] == ["two"]
    store.delete("shop/two/main")
    assert list(root.iterdir()) == []


def test_a_link_that_leads_back_up_is_not_followed(smb_server: SmbServer, store: SmbStore) -> None:  # noqa: F811
    store.put("shop/main", [b"x"])
    (smb_server.directory / store.prefix / "shop" / "up").symlink_to("..")
    assert [stored.key for stored in store.list()] == ["shop/main"]


def test_a_name_that_was_taken_meanwhile_is_refused_by_the_server(
    store: SmbStore,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def too_late(key: str, body: bytes) -> bool:
        answers.append(body)
        if len(answers) == 1:
            store.put(key, [b"theirs"])
            return False
        return store.read(key) == body

    answers: list[bytes] = []
    monkeypatch.setattr(type(store), "refuse_other_bytes", lambda _, key, body: too_late(key, body))
    with pytest.raises(ObjectExists, match="STATUS_OBJECT_NAME_COLLISION"):
        store.create("manifest.json", b"ours")
    assert store.read("manifest.json") == b"theirs"
    assert list(store.pending()) == []


@every_use
@pytest.mark.parametrize("fields", [{"password": "another-password"}, {"user": "nobody-here"}], ids=str)
def test_refused_credentials_are_told_and_shown_nowhere(
    smb_server: SmbServer,  # noqa: F811
    fields: dict[str, str],
    use: Callable[[SmbStore], object],
) -> None:
    if use is USES["now"]:
        assert use(smb_server.store(**fields))  # where nothing may be written, it is our clock
        return
    with pytest.raises(StoreForbidden, match="STATUS_LOGON_FAILURE") as caught:
        use(smb_server.store(**fields))
    assert "user and password" in caught.value.hint
    shown = "".join(traceback.format_exception(caught.value))
    assert "another-password" not in shown
    assert PASSWORD not in shown


def test_a_share_that_may_only_be_read_is_told(smb_server: SmbServer, store: SmbStore) -> None:  # noqa: F811
    store.put("key", [b"x"])
    readable = smb_server.store(share="readable", prefix=store.prefix)
    assert readable.read("key") == b"x"
    for name in ("put", "delete"):
        with pytest.raises(StoreForbidden, match="STATUS_ACCESS_DENIED") as caught:
            USES[name](readable)
        assert "read, write and delete" in caught.value.hint
    assert abs(readable.now() - store.now()) < timedelta(seconds=60)
    assert store.read("key") == b"x"


@every_use
def test_a_missing_share_is_told_from_a_missing_object(
    smb_server: SmbServer,  # noqa: F811
    use: Callable[[SmbStore], object],
) -> None:
    if use is USES["now"]:
        assert use(smb_server.store(share="nowhere"))
        return
    with pytest.raises(StoreError, match="there is no such share") as caught:
        use(smb_server.store(share="nowhere"))
    assert type(caught.value) is StoreError


def test_the_clock_is_read_below_the_prefix_and_leaves_nothing(
    smb_server: SmbServer,  # noqa: F811
    store: SmbStore,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def seen(path: str) -> datetime:
        paths.append(path)
        return clock(path)

    paths: list[str] = []
    store.put("key", [b"x"])
    clock = store._share.clock
    monkeypatch.setattr(store._share, "clock", seen)
    assert abs(store.now() - store.stat("key").modified_at) < timedelta(seconds=60)
    assert [path.rpartition("\\")[0].replace("\\", "/") for path in paths] == [store.prefix]
    assert [path.name for path in (smb_server.directory / store.prefix).iterdir()] == ["key"]


def test_the_password_is_looked_up_once_for_each_connection(smb_server: SmbServer) -> None:  # noqa: F811
    def password() -> str:
        asked.append(PASSWORD)
        return PASSWORD

    asked: list[str] = []
    store = smb_server.store()  # noqa: F811
    store._share.password = password
    for _ in range(3):
        store.exists("key")
    assert len(asked) == 1
    next(iter(store._share._connections.values())).transport.close()
    store.exists("key")
    assert len(asked) == 2


@every_use
def test_a_server_that_stops_answering_is_given_up_and_used_again_later(
    reached: SmbStore, line: BrokenLine, use: Callable[[SmbStore], object]
) -> None:
    reached.put("kept", [b"x"])
    line.hang()
    began = time.monotonic()
    with pytest.raises(StoreUnreachable, match="no answer"):
        use(reached)
    assert time.monotonic() - began < 15
    line.mend()
    assert reached.read("kept") == b"x"


@pytest.fixture(scope="module")
def closing_server() -> Iterator[SmbServer]:
    """A server that closes its share, which ends it for every store there."""
    server = start_smb()
    yield server
    server.stop()


def close_share(server: SmbServer) -> None:
    """End what clients have of the share, but not their connections and sessions."""
    configuration = server.directory.parent / "smb.conf"
    subprocess.run(("smbcontrol", "-s", configuration, "smbd", "close-share", SHARE), check=True)


def use_for_a_while(store: SmbStore, use: Callable[[SmbStore], object]) -> None:  # noqa: F811
    # the server learns beside the line that it is to close the share
    for _ in range(200):
        use(store)
        time.sleep(0.01)


@every_use
def test_a_share_that_the_server_closed_is_used_again_later(
    closing_server: SmbServer, use: Callable[[SmbStore], object]
) -> None:
    store = closing_server.store(prefix="closed")  # noqa: F811
    store.put("key", [b"x"])
    store.put("kept", [b"x"])
    close_share(closing_server)
    with pytest.raises(StoreUnreachable):
        use_for_a_while(store, use)
    assert store.read("kept") == b"x"


def test_an_upload_during_which_the_server_closes_the_share_is_given_up_and_leaves_nothing(
    closing_server: SmbServer,
) -> None:
    def source() -> Iterator[bytes]:
        yield bytes(MIB)
        close_share(closing_server)
        for _ in range(200):
            yield bytes(MIB)
            time.sleep(0.01)

    store = closing_server.store(prefix="closed-half-way")  # noqa: F811
    with pytest.raises(StoreUnreachable):
        store.put("key", source())
    assert list(store.list()) == []
    assert list(store.pending()) == []


@pytest.mark.parametrize("way", ["hang", "refuse"])
def test_an_upload_that_loses_its_server_half_way_is_given_up(
    smb_server: SmbServer,  # noqa: F811
    reached: SmbStore,
    line: BrokenLine,
    way: str,
) -> None:
    def source() -> Iterator[bytes]:
        for number in range(64):
            if number == 8:
                getattr(line, way)()
            yield bytes(MIB)

    with pytest.raises(StoreUnreachable, match="cannot write lost"):
        reached.put("lost", source())
    line.mend()
    direct = smb_server.store(prefix="reached")
    assert not direct.exists("lost")
    for left in direct.pending("lost"):
        _eventually_cleared(direct, left)


@pytest.mark.parametrize("way", ["hang", "refuse"])
def test_a_download_that_loses_its_server_half_way_is_an_error_and_no_end(
    smb_server: SmbServer,  # noqa: F811
    reached: SmbStore,
    line: BrokenLine,
    way: str,
) -> None:
    smb_server.store(prefix="reached").put("large", [bytes(MIB)] * 16)
    chunks = reached.get("large")
    received = len(next(chunks))
    getattr(line, way)()
    with pytest.raises(StoreUnreachable, match="cannot read large"):
        received += sum(map(len, chunks))
    assert received < 16 * MIB


def test_a_source_that_breaks_while_the_server_is_gone_keeps_its_own_error(
    reached: SmbStore, line: BrokenLine
) -> None:
    def source() -> Iterator[bytes]:
        yield bytes(MIB)
        line.refuse()
        raise SourceError

    with pytest.raises(SourceError):
        reached.put("key", source())


@pytest.mark.parametrize("is_encrypted", [True, False])
def test_what_goes_over_the_line_is_encrypted_unless_that_is_not_asked_for(
    smb_server: SmbServer,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    is_encrypted: bool,
) -> None:
    store = smb_server.store(require_encryption=is_encrypted)  # noqa: F811
    connect, seen = store._share._connected, bytearray()

    def connected() -> object:
        connection = connect()
        send = connection.transport.send

        def look(message: object) -> None:
            seen.extend(message if isinstance(message, bytes) else message.pack())  # type: ignore[attr-defined]
            send(message)

        connection.transport.send = look
        return connection

    monkeypatch.setattr(store._share, "_connected", connected)
    store.put("told", [b"the-body-of-an-object"])
    assert (b"the-body-of-an-object" in seen) is not is_encrypted


def test_a_large_object_passes_through_in_constant_memory(store: SmbStore) -> None:  # noqa: F811
    process, chunk = psutil.Process(), bytes(MIB)
    before = process.memory_info().rss
    most = 0

    def source() -> Iterator[bytes]:
        nonlocal most
        for _ in range(256):
            yield chunk
            most = max(most, process.memory_info().rss)

    assert store.put("large", source()) == 256 * MIB
    received = 0
    for part in store.get("large"):
        received += len(part)
        most = max(most, process.memory_info().rss)
    assert received == 256 * MIB
    assert most - before < 64 * MIB
