"""What only SFTP has: host keys, log-ins, modes, litter of a kill, servers that can do less."""

import os
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from datetime import timedelta
from itertools import count
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from blocks.errors import (
    ConfigurationError,
    ObjectExists,
    ObjectMissing,
    StoreError,
    StoreForbidden,
    StoreFull,
    StoreUnreachable,
)
from blocks.references import redact
from blocks.stores import PendingUpload, SftpStore, sftp_access, sftp_session
from blocks.stores.sftp_errors import Refusal
from blocks.stores.sftp_session import Room
from tests.blocks.stores.writers import kill_half_way
from tests.servers.sftp import SftpServer, fingerprint, make_key, public_key, start_password_sftp, start_sftp

MIB = 1 << 20
_numbers = count()


@pytest.fixture
def directory(sftp_server: SftpServer) -> Path:
    return sftp_server.directory / f"own-{next(_numbers)}"


@pytest.fixture
def store(connected_sftp_store: SftpStore, directory: Path) -> SftpStore:
    return connected_sftp_store.model_copy(update={"directory": str(directory), "prefix": "pg"})


def everything_below(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


@pytest.mark.parametrize(
    ("fields", "location", "on_this_host"),
    [
        ({}, "sftp://backup@nas/var/backups/pg", False),
        ({"port": 2222, "prefix": ""}, "sftp://backup@nas:2222/var/backups", False),
        ({"directory": "backups/"}, "sftp://backup@nas/~/backups/pg", False),
        ({"host": "fd00::1", "port": 2222}, "sftp://backup@[fd00::1]:2222/var/backups/pg", False),
        ({"host": "::1"}, "sftp://backup@[::1]/var/backups/pg", True),
        ({"host": "127.8.8.8"}, "sftp://backup@127.8.8.8/var/backups/pg", True),
        ({"host": "localhost"}, "sftp://backup@localhost/var/backups/pg", True),
    ],
)
def test_a_store_knows_where_it_lies(fields: dict[str, object], location: str, on_this_host: bool) -> None:
    given = {
        "host": "nas",
        "user": "backup",
        "directory": "/var/backups",
        "prefix": "/pg/",
        "key_file": "key",
    }
    store = SftpStore(**(given | fields))
    assert (store.location, store.on_this_host) == (location, on_this_host)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"key_file": ""}, "key_file or password is needed"),
        ({"host_key": "SHA256:short"}, "must be SHA256"),
        ({"host_key": "SHA256:" + "a" * 43, "known_hosts_file": "x"}, "not both"),
        ({"prefix": "../other"}, "must be a folder"),
        ({"directory": ""}, "at least 1 character"),
        ({"port": 0}, "greater than or equal to 1"),
        ({"timeout_seconds": 0}, "greater than 0"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
)
def test_what_cannot_work_is_refused_when_it_is_configured(fields: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        SftpStore(**({"host": "nas", "user": "backup", "directory": "/x", "key_file": "key"} | fields))


def test_without_paramiko_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "paramiko", None)
    store = SftpStore(host="nas", user="backup", directory="/x", key_file="key")
    with pytest.raises(ConfigurationError) as caught:
        store.read("key")
    assert "pip install 'pgsalvo[sftp]'" in caught.value.hint


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_any_of_the_servers_keys_can_be_pinned(sftp_server: SftpServer, directory: Path, kind: str) -> None:
    private = sftp_server.directory.parent / f"host_{kind}"
    for pin in (public_key(private), fingerprint(private)):
        assert not sftp_server.store(directory, host_key=pin).exists("key")


def test_known_hosts_files_are_read(
    sftp_server: SftpServer, directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = tmp_path / "known"
    known.write_text(
        f"[127.0.0.1]:{sftp_server.port} {public_key(sftp_server.directory.parent / 'host_rsa')}\n"
    )
    assert not sftp_server.store(directory, host_key="", known_hosts_file=str(known)).exists("key")
    monkeypatch.setattr(sftp_access, "KNOWN_HOSTS_FILES", (str(tmp_path / "none"), str(known)))
    assert not sftp_server.store(directory, host_key="").exists("key")


def test_a_known_hosts_file_that_is_not_there_is_told(sftp_server: SftpServer, tmp_path: Path) -> None:
    store = sftp_server.store("x", host_key="", known_hosts_file=str(tmp_path / "none"))
    with pytest.raises(ConfigurationError, match="cannot read known_hosts_file"):
        store.exists("key")


@pytest.mark.parametrize("way", ["key", "fingerprint", "known_hosts"])
def test_a_server_with_another_key_is_refused_before_anybody_logs_in(
    sftp_server: SftpServer, directory: Path, tmp_path: Path, way: str
) -> None:
    other = make_key(tmp_path / "other", "ed25519")
    fields = {"host_key": public_key(other)}
    if way == "fingerprint":
        fields = {"host_key": fingerprint(other)}
    if way == "known_hosts":
        (tmp_path / "known").write_text(f"127.0.0.1 {public_key(other)}\n")
        fields = {"host_key": "", "known_hosts_file": str(tmp_path / "known")}
    log = sftp_server.directory.parent / "sshd.log"
    before = log.read_text().count("Accepted")
    with pytest.raises(StoreError, match="not the one that is known") as caught:
        sftp_server.store(directory, **fields).put("key", [b"x"])
    assert "somebody stands in between" in caught.value.hint
    assert not caught.value.transient
    assert log.read_text().count("Accepted") == before


def test_a_server_that_nobody_knows_is_refused(
    sftp_server: SftpServer, directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "known").write_text(f"elsewhere {sftp_server.host_key}\n")
    monkeypatch.setattr(sftp_access, "KNOWN_HOSTS_FILES", (str(tmp_path / "known"),))
    with pytest.raises(StoreError, match="is not known here") as caught:
        sftp_server.store(directory, host_key="").exists("key")
    assert "set host_key" in caught.value.hint
    assert (tmp_path / "known").read_text() == f"elsewhere {sftp_server.host_key}\n"


def test_a_key_that_is_not_let_in_is_told(sftp_server: SftpServer, directory: Path, tmp_path: Path) -> None:
    store = sftp_server.store(directory, key_file=str(make_key(tmp_path / "other")))
    with pytest.raises(StoreForbidden, match="refused the user") as caught:
        store.put("key", [b"x"])
    assert "authorized_keys" in caught.value.hint


def test_a_key_with_a_passphrase_is_opened_by_reference(
    sftp_server: SftpServer, directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSH_KEY_PASSPHRASE", "the-passphrase-of-the-key")
    key = make_key(tmp_path / "key", passphrase="the-passphrase-of-the-key")
    allowed = sftp_server.directory.parent / "authorized_keys"
    with allowed.open("a") as file:
        file.write(f"\n{public_key(key)}\n")
    store = sftp_server.store(directory, key_file=str(key), key_passphrase="env:SSH_KEY_PASSPHRASE")
    assert not store.exists("key")
    assert redact("the-passphrase-of-the-key") == "***"


@pytest.mark.parametrize(
    ("passphrase", "given", "said"),
    [
        ("of-the-key-itself", "", "set key_passphrase"),
        ("of-the-key-itself", "another-passphrase", "its own"),
        ("", "needless-passphrase", ""),
    ],
)
def test_a_key_that_does_not_open_is_told_without_its_passphrase(
    sftp_server: SftpServer, tmp_path: Path, passphrase: str, given: str, said: str
) -> None:
    key = make_key(tmp_path / "key", passphrase=passphrase)
    store = sftp_server.store("x", key_file=str(key), key_passphrase=given)
    with pytest.raises(ConfigurationError) as caught:
        store.exists("key")
    assert said in caught.value.hint
    shown = "".join(traceback.format_exception(caught.value))
    assert not [secret for secret in (passphrase, given) if secret and secret in shown]


def test_a_key_file_that_is_not_there_or_no_key_is_told(sftp_server: SftpServer, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no key")
    for name, said in (("none", "No such file"), ("text", "cannot be used")):
        with pytest.raises(ConfigurationError, match=said):
            sftp_server.store("x", key_file=str(tmp_path / name)).exists("key")


@pytest.fixture(scope="module")
def password_server() -> Iterator[SftpServer]:
    """A server of another make, that lets in by password and can do less than OpenSSH."""
    server = start_password_sftp("user", "the-users-password")
    yield server
    server.stop()


def test_a_password_lets_in_where_it_lies(
    password_server: SftpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SFTP_PASSWORD", "the-users-password")
    store = password_server.store("backups", user="user", key_file="", password="env:SFTP_PASSWORD")
    store.put("plan/main", [os.urandom(MIB)] * 3)
    store.put("plan/main", [b"replaced"])
    store.create("plan/manifest.json", b"{}")
    with pytest.raises(ObjectExists):
        store.create("plan/manifest.json", b"other")
    assert [stored.key for stored in store.list()] == ["plan/main", "plan/manifest.json"]
    assert b"".join(store.get("plan/main", start=2, end=5)) == b"pla"
    store.delete("plan/main")
    assert not store.exists("plan/main")
    assert store.now()
    assert list(store.pending()) == []


def test_a_wrong_password_is_told_and_shown_nowhere(password_server: SftpServer) -> None:
    store = password_server.store("x", user="user", key_file="", password="not-the-password")
    with pytest.raises(StoreForbidden, match="refused the user user") as caught:
        store.put("key", [b"x"])
    assert "not-the-password" not in "".join(traceback.format_exception(caught.value))
    assert "not-the-password" not in repr(store) + str(store.model_dump()) + repr(store._access())


def test_a_server_that_wants_another_way_in_says_which(sftp_server: SftpServer) -> None:
    store = sftp_server.store("x", key_file="", password=SecretStr("password"))
    with pytest.raises(StoreForbidden, match="which wants publickey"):
        store.exists("key")


def test_files_are_the_groups_to_read_and_nobody_elses(store: SftpStore, directory: Path) -> None:
    store.put("shop/id/main", [b"archive"])
    store.create("shop/id/manifest.json", b"{}")
    root = directory / "pg"
    assert everything_below(root) == ["shop", "shop/id", "shop/id/main", "shop/id/manifest.json"]
    for file in (root / "shop/id/main", root / "shop/id/manifest.json"):
        assert file.stat().st_mode & 0o777 == 0o640
    for made in (directory, root, root / "shop", root / "shop/id"):
        assert made.stat().st_mode & 0o777 == 0o750


def test_a_relative_directory_begins_where_the_login_ends(sftp_server: SftpServer) -> None:
    with_start = start_sftp(f"internal-sftp -d {sftp_server.directory}")
    try:
        store = with_start.store(f"relative-{next(_numbers)}")
        store.put("key", [b"x"])
        assert (sftp_server.directory / store.directory / "key").read_bytes() == b"x"
        store.delete("key")
        assert not (sftp_server.directory / store.directory / "key").exists()
    finally:
        with_start.stop()


def test_a_directory_without_a_place_is_told_from_an_empty_store(store: SftpStore, directory: Path) -> None:
    lost = store.model_copy(update={"directory": str(directory / "not" / "mounted")})
    for use in (
        lambda: lost.put("key", [b"x"]),
        lambda: lost.stat("key"),
        lambda: lost.get("key"),
        lambda: lost.delete("key"),
        lambda: list(lost.list()),
        lambda: list(lost.pending("plan/")),
    ):
        with pytest.raises(StoreError, match=r"there is no directory \S+/not on the server"):
            use()
    assert not directory.exists()
    assert list(store.list()) == []


def test_a_file_where_the_directory_should_be_is_named(store: SftpStore, directory: Path) -> None:
    directory.write_text("a file")
    with pytest.raises(StoreError, match="is not a directory"):
        list(store.list())


def test_a_kill_leaves_a_part_that_pending_lists_and_nothing_else(store: SftpStore, directory: Path) -> None:
    store.put("shop/main", [b"older"])
    kill_half_way(store, "shop/main")
    assert store.read("shop/main") == b"older"
    assert [stored.key for stored in store.list()] == ["shop/main"]
    (left,) = store.pending("shop/")
    assert left.key == "shop/main"
    assert abs(store.now() - left.started_at) < timedelta(seconds=60)
    store.abort_pending(left)
    assert everything_below(directory / "pg") == ["shop", "shop/main"]


def test_a_probe_of_the_clock_that_a_kill_left_is_cleared_after_a_day(
    store: SftpStore, directory: Path
) -> None:
    store.put("key", [b"x"])
    for name, hours in (
        (".clock.01234567.part", 25),
        (".clock.76543210.part", 23),
        (".main.01234567.part", 25),
    ):
        (directory / "pg" / name).touch()
        os.utime(directory / "pg" / name, (0, time.time() - hours * 3600))
    assert store.now()
    assert everything_below(directory / "pg") == [".clock.76543210.part", ".main.01234567.part", "key"]


def test_a_failed_put_leaves_no_directories(store: SftpStore, directory: Path) -> None:
    def source() -> Iterator[bytes]:
        yield b"x"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.put("shop/id/main", source())
    assert everything_below(directory / "pg") == []


def test_a_source_that_cannot_be_reached_is_no_line_that_broke(store: SftpStore, directory: Path) -> None:
    def source() -> Iterator[bytes]:
        yield b"x"
        raise StoreUnreachable("another store")

    with pytest.raises(StoreUnreachable, match="another store"):
        store.put("shop/id/main", source())
    assert everything_below(directory / "pg") == []


def test_only_an_unfinished_upload_is_cleared(store: SftpStore, directory: Path) -> None:
    store.put("shop/main", [b"x"])
    for upload_id in ("shop/main", "../x", "shop/.other.01234567.part", ".main.01234567.part", ""):
        with pytest.raises(StoreError, match="no unfinished upload"):
            store.abort_pending(PendingUpload("shop/main", upload_id, store.now()))
    assert everything_below(directory / "pg") == ["shop", "shop/main"]


def test_a_part_cannot_be_written_as_an_object(store: SftpStore) -> None:
    with pytest.raises(StoreError, match="name of an unfinished upload"):
        store.put("shop/.main.01234567.part", [b"x"])


def test_what_others_put_there_is_no_object_unless_it_is_a_file(store: SftpStore, directory: Path) -> None:
    store.put("shop/main", [b"12345"])
    root = directory / "pg"
    (root / "linked").symlink_to("shop/main")
    (root / "broken").symlink_to("nowhere")
    (root / "itself").symlink_to("itself")
    (root / "shop" / "up").symlink_to("..")
    (root / "lost+found").mkdir()
    (root / "lost+found/x").touch()
    os.mkfifo(root / "fifo")
    (root / os.fsdecode(b"not-utf-8-\xff")).touch()
    (root / "with\nnewline").touch()
    assert [(stored.key, stored.size_bytes) for stored in store.list()] == [("linked", 5), ("shop/main", 5)]


def test_a_directory_is_no_object_and_stays_open_nowhere(
    store: SftpStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[bytes] = []
    store.put("shop/main", [b"x"])
    monkeypatch.setattr(sftp_session.Session, "close_handle", lambda _, handle: closed.append(handle))
    with pytest.raises(ObjectMissing):
        store.get("shop")
    assert len(closed) == 1


def test_what_could_not_be_flushed_is_not_stored(
    store: SftpStore, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = sftp_session.Session._request

    def refused(session: sftp_session.Session, kind: int, *arguments: object) -> object:
        if arguments[0] == "fsync@openssh.com":
            raise Refusal(4)
        return request(session, kind, *arguments)

    monkeypatch.setattr(sftp_session.Session, "_request", refused)
    with pytest.raises(StoreError, match="the server said failure"):
        store.put("shop/main", [b"x"])
    assert everything_below(directory / "pg") == []


def test_parts_of_an_object_are_read(store: SftpStore) -> None:
    body = os.urandom(3 * MIB)
    store.put("key", [body])
    for start, end in [(1, 4), (0, None), (MIB - 1, MIB + 1), (3 * MIB - 1, None), (9 * MIB, None), (5, 2)]:
        assert b"".join(store.get("key", start=start, end=end)) == body[start:end]


def test_a_file_that_shrinks_while_it_is_read_is_an_error(store: SftpStore, directory: Path) -> None:
    store.put("key", [bytes(MIB)] * 20)
    chunks = store.get("key")
    next(chunks)
    os.truncate(directory / "pg" / "key", 10 * MIB)
    with pytest.raises(StoreError, match="before its end"):
        list(chunks)


def test_who_may_not_write_is_told_so_and_can_read() -> None:
    server = start_sftp("internal-sftp -R")
    try:
        (server.directory / "key").write_bytes(b"x")
        store = server.store(server.directory)
        for use in (
            lambda: store.put("new", [b"x"]),
            lambda: store.create("new", b"x"),
            lambda: store.delete("key"),
        ):
            with pytest.raises(StoreForbidden, match="permission denied"):
                use()
        assert store.read("key") == b"x"
        assert store.now().utcoffset() == timedelta(0)
    finally:
        server.stop()


def replace_and_create(store: SftpStore) -> None:
    for body in (b"first", b"second", b"third"):
        store.put("shop/RESTORE.md", [body])
        assert store.read("shop/RESTORE.md") == body
    with pytest.raises(ObjectExists):
        store.create("shop/RESTORE.md", b"other")
    assert store.read("shop/RESTORE.md") == b"third"
    assert list(store.pending()) == []


def test_an_object_is_replaced_also_where_no_renaming_over_it_is_announced() -> None:
    server = start_sftp("internal-sftp -P posix-rename")
    try:
        replace_and_create(server.store(server.directory))
    finally:
        server.stop()


def test_an_object_is_replaced_also_where_renaming_over_it_is_unsupported(
    store: SftpStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(*_: object) -> None:
        raise Refusal(8)

    monkeypatch.setattr(sftp_session.Session, "posix_rename", unsupported)
    replace_and_create(store)


@pytest.mark.parametrize("code", [3, 4])
def test_a_refused_replacement_leaves_the_older_object(
    store: SftpStore, directory: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refused(*_: object) -> None:
        raise Refusal(code)

    store.put("key", [b"older"])
    monkeypatch.setattr(sftp_session.Session, "posix_rename", refused)
    with pytest.raises(StoreError, match="cannot write key"):
        store.put("key", [b"newer"])
    assert store.read("key") == b"older"
    assert everything_below(directory / "pg") == ["key"]


def test_an_upload_whose_file_is_gone_does_not_take_the_older_object_along(
    store: SftpStore, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def vanished(*_: object) -> None:
        for part in (directory / "pg").glob(".key.*.part"):
            part.unlink()
        raise Refusal(8)

    store.put("key", [b"older"])
    monkeypatch.setattr(sftp_session.Session, "posix_rename", vanished)
    with pytest.raises(StoreError, match=r"cannot write key|there is no key"):
        store.put("key", [b"newer"])
    assert store.read("key") == b"older"


def test_a_directory_in_the_place_of_an_object_stays_where_the_server_cannot_rename_over_it(
    store: SftpStore, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(*_: object) -> None:
        raise Refusal(8)

    store.put("shop/key", [b"x"])
    monkeypatch.setattr(sftp_session.Session, "posix_rename", unsupported)
    with pytest.raises(StoreError, match="the server said failure"):
        store.put("shop", [b"x"])
    assert everything_below(directory / "pg") == ["shop", "shop/key"]


def test_who_may_not_look_into_a_directory_is_told_so() -> None:
    server = start_sftp("internal-sftp -P opendir,open")
    try:
        store = server.store(server.directory)
        for use in (lambda: list(store.list()), lambda: store.get("key"), lambda: store.put("key", [b"x"])):
            with pytest.raises(StoreForbidden):
                use()
    finally:
        server.stop()


def test_a_server_without_sftp_says_so() -> None:
    server = start_sftp("/bin/false")
    try:
        with pytest.raises(StoreError, match=r"offers the user \w+ no SFTP"):
            server.store(server.directory).put("key", [b"x"])
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("room", "expected"),
    [
        pytest.param(Room(4096, None), StoreFull, id="no-bytes"),
        pytest.param(Room(1 << 40, 0), StoreFull, id="no-files"),
        pytest.param(Room(1 << 40, 9), StoreError, id="something-else"),
        pytest.param(None, StoreError, id="not-told"),
    ],
)
def test_a_failure_is_a_full_disk_where_the_server_has_no_room(
    store: SftpStore, directory: Path, monkeypatch: pytest.MonkeyPatch, room: Room | None, expected: type
) -> None:
    def fail(_: object) -> None:
        raise Refusal(4)

    monkeypatch.setattr(sftp_session.Writer, "finish", fail)
    monkeypatch.setattr(sftp_session.Session, "room_at", lambda *_: room)
    with pytest.raises(StoreError, match="cannot write plan/key") as caught:
        store.put("plan/key", [b"x"])
    assert type(caught.value) is expected
    assert caught.value.hint
    assert everything_below(directory / "pg") == []


def test_the_servers_room_is_asked_for(store: SftpStore, directory: Path) -> None:
    store.put("key", [b"x"])
    with store._objects("look at", "the room") as objects:
        room = objects.directory.room()
    assert room is not None
    told = os.statvfs(directory)
    assert abs(room.free_bytes - told.f_bavail * told.f_frsize) < 4 << 30


def test_a_store_that_is_gone_leaves_no_session_open(sftp_server: SftpServer, directory: Path) -> None:
    before = set(threading.enumerate())
    store = sftp_server.store(directory)
    assert not store.exists("key")
    own = set(threading.enumerate()) - before
    assert own
    del store
    for thread in own:
        thread.join(5)
    assert not any(thread.is_alive() for thread in own)
