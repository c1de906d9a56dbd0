"""What only rsync has: addresses, local disk, its own words, keys and passwords, what a kill leaves."""

import errno
import os
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import psutil
import pytest
from pydantic import ValidationError

from blocks.errors import (
    ObjectExists,
    ObjectMissing,
    ProgramMissing,
    StoreError,
    StoreForbidden,
    StoreFull,
    StoreUnreachable,
)
from blocks.process import Command, Completed, run
from blocks.stores import PendingUpload, RsyncStore, rsync_runs
from blocks.stores.rsync_commands import Line, Listed, parse_address, parse_listing, ssh_command
from blocks.stores.rsync_errors import store_error
from tests.blocks.stores.test_contract import ODD_KEYS
from tests.blocks.stores.writers import kill_half_way
from tests.servers.ports import free_port
from tests.servers.processes import eventually
from tests.servers.rsync import PASSWORD, RsyncServer, start_rsyncd
from tests.servers.s3 import BrokenLine, broken_line
from tests.servers.sftp import SftpServer, make_key, public_key

MIB = 1 << 20
_numbers = count()
USES: list[tuple[str, Callable[[RsyncStore], object]]] = [
    ("put", lambda store: store.put("plan/key", [b"x"])),
    ("create", lambda store: store.create("plan/key", b"x")),
    ("get", lambda store: store.get("plan/key")),
    ("stat", lambda store: store.stat("plan/key")),
    ("list", lambda store: list(store.list())),
    ("delete", lambda store: store.delete("plan/key")),
    ("pending", lambda store: list(store.pending())),
    ("now", lambda store: store.now()),
]
every_use = pytest.mark.parametrize("use", [pytest.param(use, id=name) for name, use in USES])


@pytest.fixture
def folder() -> str:
    return f"own-{next(_numbers)}"


@pytest.fixture
def store(rsync_server: RsyncServer, folder: str, tmp_path: Path) -> RsyncStore:
    return rsync_server.store(folder, spool_directory=str(tmp_path / "spool"))


@pytest.fixture
def over_ssh(sftp_server: SftpServer, folder: str) -> RsyncStore:
    return ssh_store(sftp_server, folder)


@pytest.fixture
def rsync_line(rsync_server: RsyncServer) -> Iterator[BrokenLine]:
    with broken_line(rsync_server.port) as line:
        yield line


def ssh_store(server: SftpServer, folder: str, **fields: object) -> RsyncStore:
    given = {
        "address": f"ssh://127.0.0.1:{server.port}{server.directory}/{folder}",
        "key_file": str(server.key_file),
        "host_key": server.host_key,
    }
    return RsyncStore(**(given | fields))


@pytest.mark.parametrize(
    ("address", "remote", "on_this_host"),
    [
        ("rsync://nas/module", "rsync://nas/module/", False),
        ("rsync://backup@nas:8730/module/a/b/", "rsync://backup@nas:8730/module/", False),
        ("rsync://[::1]/module", "rsync://[::1]/module/", True),
        ("ssh://nas/var/backups/", "nas:/var/backups/", False),
        ("ssh://backup@nas:2222/~/backups", "backup@nas:backups/", False),
        ("ssh://localhost/with%20space", "localhost:/with space/", True),
        ("ssh://[fd00::1]/x", "[fd00::1]:/x/", False),
    ],
)
def test_an_address_is_told_as_rsync_wants_it(address: str, remote: str, on_this_host: bool) -> None:
    store = RsyncStore(address=address, prefix="/pg/")
    assert parse_address(address).remote == remote
    assert store.location == f"{address.rstrip('/')}/pg"
    assert store.on_this_host == on_this_host


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"address": "nas:/backups"}, "must be rsync://"),
        ({"address": "http://nas/backups"}, "must be rsync://"),
        ({"address": "rsync://nas"}, "must be rsync://"),
        ({"address": "ssh://-oProxyCommand=x/backups"}, "must be rsync://"),
        ({"address": "ssh://-oProxyCommand=x@nas/backups"}, "cannot be one"),
        ({"address": "rsync://user:secret@nas/module"}, "must hold no password"),
        ({"address": "rsync://nas/module/../other"}, "empty or dot segments"),
        ({"address": "ssh://nas/x", "password": "secret"}, "for rsync:// only"),
        ({"address": "rsync://nas/module", "key_file": "key"}, "for ssh:// only"),
        ({"address": "ssh://nas/x", "key_file": "it's"}, "without quotes"),
        ({"address": "rsync://nas/module", "spool_directory": "/50%"}, "without quotes"),
        ({"address": "ssh://nas/b[1]"}, "must have no wildcards"),
        ({"address": "ssh://nas/x", "host_key": "SHA256:" + "a" * 43}, "takes no fingerprint"),
        ({"address": "ssh://nas/x", "host_key": "x"}, "must be SHA256"),
        ({"address": "ssh://nas/x", "prefix": "../y"}, "must be a folder"),
    ],
    ids=lambda value: "-".join(value.values()) if isinstance(value, dict) else None,
)
def test_what_cannot_work_is_refused_when_it_is_configured(fields: dict[str, str], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        RsyncStore(**fields)


def test_calls_hold_no_name_of_an_object_and_leave_the_times_to_the_server() -> None:
    line = Line(parse_address("rsync://nas/module/folder"), timeout_seconds=9)
    limits = ("--timeout=9", "--contimeout=9")
    call = ("rsync", "-s", "--from0", "--files-from=-", *limits, "--sockopts=TCP_NODELAY")
    modes, remote = "--chmod=F640,D750", "rsync://nas/module/"
    assert line.listing("/e", recursive=True) == (
        *call, "--recursive", "--list-only", "--no-human-readable", remote, "/e"
    )  # fmt: skip
    assert line.fetching("/d") == (*call, remote, "/d/")
    assert line.sending("/d") == (*call, "--ignore-times", "--whole-file", modes, "/d/", remote)
    assert line.creating("/d") == (
        *call, "--ignore-existing", "--out-format=%n", "--whole-file", modes, "/d/", remote
    )  # fmt: skip
    assert line.deleting("/e") == (*call, "--existing", "--delete-missing-args", "/e/", remote)


def test_a_limit_is_told_in_kib_a_second() -> None:
    line = Line(parse_address("rsync://nas/module"), max_bytes_per_second=1_000_000)
    assert "--bwlimit=976" in line.sending("/d")
    assert "--bwlimit=976" in line.fetching("/d")


def test_ssh_asks_nothing_and_trusts_only_what_is_known() -> None:
    words = ssh_command(2222, "/keys/a b", "/known", 9).split(" -o ")
    assert words[0] == "ssh -p 2222"
    assert {"BatchMode=yes", "StrictHostKeyChecking=yes", "IdentitiesOnly=yes", "ConnectTimeout=9"} <= set(
        words
    )
    assert "'UserKnownHostsFile=\"/known\"'" in words
    assert "'IdentityFile=\"/keys/a b\"'" in words
    line = Line(parse_address("ssh://nas/x"), "ssh")
    assert line.fetching("/d") == (
        "rsync", "-s", "--from0", "--files-from=-", "--timeout=30", "--rsh=ssh", "nas:/x/", "/d/"
    )  # fmt: skip


def test_a_listing_is_read_with_its_escapes() -> None:
    output = b"\n".join(
        [
            b"drwxr-xr-x        4096 2026/01/28 02:00:00 plan",
            b"-rw-r-----          12 2026/01/28 02:00:01 plan/with  two spaces",
            b"-rw-r-----+ 5368709120 2026/01/28 02:00:01 plan/large",
            b"lrwxrwxrwx           4 2026/01/28 02:00:01 plan/link -> main",
            rb"-rw-r-----           0 2026/01/28 02:00:01 back\#134#134x and\slash",
            "-rw-r-----           0 2026/01/28 02:00:01 día".encode(),
            rb"-rw-r-----           0 2026/01/28 02:00:01 \#377",
            b"a line of the server's motd",
            b"",
        ]
    )
    told_at = datetime(2026, 1, 28, 2, 0, 1, tzinfo=UTC)
    assert list(parse_listing(output)) == [
        Listed("plan/with  two spaces", 12, told_at),
        Listed("plan/large", 5 << 30, told_at),
        Listed(r"back\#134x and\slash", 0, told_at),
        Listed("día", 0, told_at),
        Listed("\udcff", 0, told_at),
    ]


@pytest.mark.parametrize(
    ("status", "said", "expected"),
    [
        (11, 'rsync: [receiver] write failed on "/x": No space left on device (28)', StoreFull),
        (11, 'rsync: [receiver] write failed on "/x": Disk quota exceeded (122)', StoreFull),
        (23, 'rsync: [receiver] mkstemp "/x" failed: Permission denied (13)', StoreForbidden),
        (23, 'rsync: [receiver] mkstemp "/x" failed: Read-only file system (30)', StoreForbidden),
        (23, 'rsync: [sender] link_stat "/x" failed: No such file or directory (2)', ObjectMissing),
        (12, 'rsync: [sender] change_dir "/x" failed: No such file or directory (2)', ObjectMissing),
        (23, 'rsync: link_stat "/x" (in m) failed: Not a directory (20)', ObjectMissing),
        (14, "rsync: [Receiver] Failed to exec ssh: No such file or directory (2)", StoreError),
        (5, "@ERROR: access denied to module from host (10.0.0.1)", StoreForbidden),
        (5, "@ERROR: max connections (2) reached -- try again later", StoreUnreachable),
        (5, "@ERROR: chdir failed", StoreError),
        (4, "ERROR: The server is configured to refuse --delete", StoreForbidden),
        (255, "nas: Permission denied (publickey).", StoreForbidden),
        (255, "Host key verification failed.", StoreError),
        (255, "ssh: Could not resolve hostname nas: Name or service not known", StoreUnreachable),
        (10, "rsync: failed to connect to nas: Connection refused (111)", StoreUnreachable),
        (12, "rsync: connection unexpectedly closed (0 bytes received so far)", StoreUnreachable),
        (30, "io timeout after 30 seconds -- exiting", StoreUnreachable),
        (127, "sh: 1: rsync: not found", StoreError),
        (1, "private words", StoreError),
    ],
)
def test_what_rsync_says_is_understood_and_not_repeated(
    status: int, said: str, expected: type[StoreError]
) -> None:
    error = store_error(status, ["motd", said], "cannot write key")
    assert type(error) is expected
    assert error.message.startswith("cannot write key: ")
    assert error.hint or expected is ObjectMissing
    assert not {"motd", "private words", '"/x"', "10.0.0.1"} & set(str(error).split())


@pytest.mark.parametrize(
    ("said", "asked_times"),
    [
        pytest.param([], rsync_runs.ASKED_TIMES, id="nothing-heard"),
        pytest.param(
            ['rsync: [sender] change_dir "/x" failed: No such file or directory (2)'], 1, id="heard"
        ),
    ],
)
def test_words_that_ssh_lost_are_asked_for_again(
    over_ssh: RsyncStore, monkeypatch: pytest.MonkeyPatch, said: list[str], asked_times: int
) -> None:
    def end_early(command: Command, **_: object) -> Completed:
        commands.append(command)
        return Completed(12, b"", ["rsync: connection unexpectedly closed (0 bytes received so far)", *said])

    commands: list[Command] = []
    monkeypatch.setattr(rsync_runs, "run", end_early)
    with over_ssh._objects("look at", "key") as objects, pytest.raises(StoreError):
        objects.job.list("key", "cannot look")
    assert len(commands) == asked_times


def test_any_name_goes_over_ssh_as_well(over_ssh: RsyncStore) -> None:
    key = "".join(str(each.values[0]) for each in ODD_KEYS if each.id not in ("deep", "long", "dots"))
    over_ssh.put(key, [b"y"])
    over_ssh.create("plan/manifest.json", b"{}")
    with pytest.raises(ObjectExists):
        over_ssh.create("plan/manifest.json", b"other")
    assert [stored.key for stored in over_ssh.list()] == sorted([key, "plan/manifest.json"])
    assert over_ssh.read(key) == b"y"
    over_ssh.delete(key)
    assert not over_ssh.exists(key)


@pytest.mark.parametrize("way", ["pinned", "known_hosts", "unknown"])
def test_an_ssh_server_with_another_key_is_refused(
    sftp_server: SftpServer, folder: str, tmp_path: Path, way: str
) -> None:
    other = public_key(make_key(tmp_path / "other"))
    (tmp_path / "known hosts").write_text(
        f"[127.0.0.1]:{sftp_server.port} {other}\n" if way != "unknown" else ""
    )
    fields = {"host_key": other}
    if way != "pinned":
        fields = {"host_key": "", "known_hosts_file": str(tmp_path / "known hosts")}
    store = ssh_store(sftp_server, folder, **fields)
    with pytest.raises(StoreError, match="host key is not the one that is known") as caught:
        store.put("key", [b"x"])
    assert not caught.value.transient
    assert not (sftp_server.directory / folder).exists()


def test_a_known_hosts_file_is_read(sftp_server: SftpServer, folder: str, tmp_path: Path) -> None:
    known = tmp_path / "known hosts"
    known.write_text(f"[127.0.0.1]:{sftp_server.port} {sftp_server.host_key}\n")
    assert not ssh_store(sftp_server, folder, host_key="", known_hosts_file=str(known)).exists("key")


def test_of_a_host_key_only_the_key_is_kept() -> None:
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA=="
    assert RsyncStore(address="ssh://nas/x", host_key=f"{key} comment\n* other").host_key == key


def test_a_key_that_is_not_let_in_is_told(sftp_server: SftpServer, folder: str, tmp_path: Path) -> None:
    store = ssh_store(sftp_server, folder, key_file=str(make_key(tmp_path / "other")))
    with pytest.raises(StoreForbidden, match="lets nobody in with this key"):
        store.put("key", [b"x"])


@pytest.mark.parametrize("name", ["put", "create", "stat", "list", "delete"])
def test_a_directory_without_a_place_is_told(
    sftp_server: SftpServer, folder: str, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    # a busy machine loses the server's words more often
    monkeypatch.setattr(rsync_runs, "ASKED_TIMES", 20)
    with pytest.raises(StoreError, match=r"there is no directory \S+/not on the server"):
        dict(USES)[name](ssh_store(sftp_server, f"{folder}/not/mounted"))


def test_a_directory_that_is_not_made_yet_is_an_empty_store(
    over_ssh: RsyncStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rsync_runs, "ASKED_TIMES", 20)
    assert list(over_ssh.list()) == []


@every_use
def test_a_wrong_password_is_told_and_shown_nowhere(
    rsync_server: RsyncServer, folder: str, use: Callable[[RsyncStore], object]
) -> None:
    store = rsync_server.store(folder, password="not-the-password")
    if use is USES[-1][1]:
        assert use(store)
        return
    with pytest.raises(StoreForbidden, match="lets nobody in with this password") as caught:
        use(store)
    assert "not-the-password" not in "".join(traceback.format_exception(caught.value)) + repr(store)


def test_the_password_lies_where_it_is_said_and_only_in_the_programs_environment(
    store: RsyncStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def note(command: Command, **rest: object) -> Completed:
        commands.append(command)
        return run(command, **rest)  # type: ignore[arg-type]

    commands: list[Command] = []
    monkeypatch.setattr(rsync_runs, "run", note)
    monkeypatch.setenv("RSYNC_SECRET", PASSWORD)
    referring = store.model_copy(update={"password": type(store.password)("env:RSYNC_SECRET")})
    referring.put("key", [b"x"])
    referring.delete("key")
    assert [command.environment["RSYNC_PASSWORD"] for command in commands] == [PASSWORD] * 3
    assert not any(PASSWORD in word for command in commands for word in command.argv)
    assert PASSWORD not in repr((commands, referring._server))


def test_an_unknown_module_is_told(rsync_server: RsyncServer) -> None:
    store = RsyncStore(address=rsync_server.address(module="other"), password=PASSWORD)
    with pytest.raises(StoreError, match="no such module"):
        store.put("key", [b"x"])


@pytest.mark.parametrize(
    ("lines", "uses", "said"),
    [
        (("read only = yes",), ["put", "delete"], "read only"),
        (("read only = no", "write only = yes"), ["get", "list", "pending"], "write only"),
        (("read only = no", "refuse options = delete-missing-args"), ["delete"], "refuses an option"),
        (("read only = no", "refuse options = delete"), ["delete"], "refuses an option"),
        (("read only = no", "hosts allow = 10.9.8.7"), ["put"], "from this host"),
    ],
)
def test_what_a_module_forbids_is_told(lines: tuple[str, ...], uses: list[str], said: str) -> None:
    server = start_rsyncd(*lines)
    try:
        (server.directory / "plan").mkdir()
        (server.directory / "plan" / "key").write_bytes(b"x")
        for name in uses:
            with pytest.raises(StoreForbidden, match=said):
                dict(USES)[name](server.store(""))
        assert (server.directory / "plan" / "key").read_bytes() == b"x"
    finally:
        server.stop()


@every_use
def test_a_server_that_is_down_is_told(use: Callable[[RsyncStore], object]) -> None:
    with pytest.raises(StoreUnreachable, match="no answer") as caught:
        use(RsyncStore(address=f"rsync://127.0.0.1:{free_port()}/module"))
    assert caught.value.transient


@pytest.mark.parametrize("scheme", ["rsync", "ssh"])
def test_a_name_that_does_not_resolve_is_told(scheme: str) -> None:
    with pytest.raises(StoreUnreachable, match=r"no-such-host\.invalid"):
        RsyncStore(address=f"{scheme}://no-such-host.invalid/x").put("key", [b"x"])


@pytest.mark.parametrize("breaks", [BrokenLine.refuse, BrokenLine.hang])
def test_a_line_that_fails_half_way_leaves_the_older_object_and_is_told(
    rsync_server: RsyncServer, store: RsyncStore, folder: str, rsync_line: BrokenLine,
    breaks: Callable[[BrokenLine], None], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    store.put("plan/key", [b"older"])
    address = rsync_server.address(folder, port=rsync_line.port)
    broken = RsyncStore(**(store.model_dump() | {"address": address, "timeout_seconds": 3}))
    send = rsync_runs.Job.send

    def send_and_break(job: rsync_runs.Job, name: str, what: str) -> None:
        rsync_line.break_after(up_bytes=4 * MIB) if breaks is BrokenLine.refuse else rsync_line.hang()
        send(job, name, what)

    monkeypatch.setattr(rsync_runs.Job, "send", send_and_break)
    with pytest.raises(StoreUnreachable, match="cannot write plan/key"):
        broken.put("plan/key", [os.urandom(MIB)] * 16)
    assert store.read("plan/key") == b"older"
    assert [stored.key for stored in store.list()] == ["plan/key"]


def test_a_download_that_dies_half_way_is_an_error_and_no_end(
    rsync_server: RsyncServer, store: RsyncStore, folder: str, rsync_line: BrokenLine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    store.put("key", [os.urandom(MIB)] * 16)
    address = rsync_server.address(folder, port=rsync_line.port)
    broken = RsyncStore(**(store.model_dump() | {"address": address, "timeout_seconds": 30}))
    fetch = rsync_runs.Job.fetch

    def fetch_and_break(job: rsync_runs.Job, name: str, size_bytes: int, what: str) -> Path:
        rsync_line.break_after(down_bytes=4 * MIB)
        return fetch(job, name, size_bytes, what)

    monkeypatch.setattr(rsync_runs.Job, "fetch", fetch_and_break)
    with pytest.raises(StoreUnreachable, match="cannot read key"):
        broken.get("key")


def test_what_a_killed_server_leaves_is_pending_and_can_be_cleared(
    rsync_server: RsyncServer, store: RsyncStore, folder: str
) -> None:
    root = rsync_server.directory / folder / "plan"
    slow = store.model_copy(update={"max_bytes_per_second": 1 << 18})
    with ThreadPoolExecutor(1) as pool:
        upload = pool.submit(slow.put, "plan/main", [os.urandom(MIB)] * 8)
        eventually(lambda: list(root.glob(".main.*")), "rsync's hidden file")
        # one that still runs would clear it when the other has gone
        servers = psutil.Process(rsync_server.process.pid).children(recursive=True)
        for signal_number in (signal.SIGSTOP, signal.SIGKILL):
            for server in servers:
                server.send_signal(signal_number)
        with pytest.raises(StoreUnreachable):
            upload.result()
    assert list(store.list()) == []
    (left,) = store.pending("plan/")
    assert left.key == "plan/main"
    store.abort_pending(left)
    assert list(store.pending()) == []
    assert list(root.iterdir()) == []


def test_an_object_of_the_same_size_and_second_is_replaced(store: RsyncStore) -> None:
    for body in (b"one", b"two", b"six"):
        store.put("key", [body])
        assert store.read("key") == body


def test_an_upload_that_sends_nothing_is_no_success(
    store: RsyncStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rsync_runs.Job, "send", lambda *_: None)
    with pytest.raises(StoreUnreachable, match=r"cannot write key .* not there as it was sent"):
        store.put("key", [b"x"])


def test_what_vanishes_while_it_is_listed_is_left_out(
    store: RsyncStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose_one(command: Command, **rest: object) -> Completed:
        ended = run(command, **rest)  # type: ignore[arg-type]
        return Completed(24, ended.stdout, ['file has vanished: "/other"'])

    store.put("key", [b"x"])
    monkeypatch.setattr(rsync_runs, "run", lose_one)
    assert [stored.key for stored in store.list()] == ["key"]


def test_every_probe_of_the_clock_has_its_own_name_and_may_be_cleared(
    store: RsyncStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def send_and_clear(job: rsync_runs.Job, name: str, what: str) -> None:
        send(job, name, what)
        (probe,) = store.pending()
        store.abort_pending(probe)
        names.add(name)

    names: set[str] = set()
    send = rsync_runs.Job.send
    monkeypatch.setattr(rsync_runs.Job, "send", send_and_clear)
    for _ in range(2):
        assert abs(store.now() - datetime.now(UTC)).total_seconds() < 3
    assert len(names) == 2


@pytest.mark.parametrize("way", ["daemon", "ssh"])
def test_a_probe_of_the_clock_that_a_kill_left_is_cleared_after_a_day(
    store: RsyncStore, over_ssh: RsyncStore, rsync_server: RsyncServer, sftp_server: SftpServer,
    folder: str, way: str,
) -> None:  # fmt: skip
    used = store if way == "daemon" else over_ssh
    used.put("plan/key", [b"x"])
    root = (rsync_server if way == "daemon" else sftp_server).directory / folder
    for name, hours in ((".clock.abc123", 25), (".clock.def456", 23), (".main.abc123", 25)):
        (root / name).touch()
        os.utime(root / name, (0, time.time() - hours * 3600))
    assert abs(used.now() - datetime.now(UTC)).total_seconds() < 60
    assert {path.name for path in root.iterdir()} == {".clock.def456", ".main.abc123", "plan"}


@pytest.mark.parametrize("is_removable", [True, False])
def test_a_clock_that_cannot_be_read_keeps_its_error_and_leaves_no_probe(
    store: RsyncStore, rsync_server: RsyncServer, folder: str, monkeypatch: pytest.MonkeyPatch,
    is_removable: bool,
) -> None:  # fmt: skip
    def fail(*_: object) -> None:
        raise StoreUnreachable(errors.pop(0))

    errors = ["first", "second"]
    monkeypatch.setattr(rsync_runs.Job, "list", fail)
    if not is_removable:
        monkeypatch.setattr(rsync_runs.Job, "delete", fail)
    with pytest.raises(StoreUnreachable, match="first"):
        store.now()
    assert is_removable == (not list((rsync_server.directory / folder).iterdir()))


def test_only_an_unfinished_upload_is_cleared(store: RsyncStore) -> None:
    store.put("shop/main", [b"x"])
    for upload_id in ("shop/main", "../x", "shop/.other.a1B2c3", ".main.a1B2c3", ""):
        with pytest.raises(StoreError, match="no unfinished upload"):
            store.abort_pending(PendingUpload("shop/main", upload_id, datetime.now(UTC)))
    with pytest.raises(StoreError, match="name of an unfinished upload"):
        store.put("shop/.main.a1B2c3", [b"x"])
    assert store.read("shop/main") == b"x"


def test_local_disk_is_private_and_empty_after_each_use(store: RsyncStore, tmp_path: Path) -> None:
    def source() -> Iterator[bytes]:
        modes.extend(path.stat().st_mode & 0o777 for path in (tmp_path / "spool").glob("rsync-*"))
        yield b"x"

    modes: list[int] = []
    store.put("key", source())
    assert len(modes) == 2
    assert {mode & 0o077 for mode in modes} == {0}
    chunks = store.get("key")
    next(chunks)
    del chunks
    with pytest.raises(ObjectMissing):
        store.read("missing")
    assert list((tmp_path / "spool").iterdir()) == []


def test_what_a_kill_leaves_on_local_disk_is_cleared_by_the_next_use(
    store: RsyncStore, tmp_path: Path
) -> None:
    kill_half_way(store, "plan/main")
    assert list((tmp_path / "spool").iterdir())
    assert list(store.list()) == []
    assert list(store.pending()) == []
    assert list((tmp_path / "spool").iterdir()) == []


@pytest.mark.parametrize("use", ["put", "get"])
def test_a_local_disk_without_room_is_told_before_it_is_full(
    store: RsyncStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, use: str
) -> None:
    store.put("plan/key", [bytes(MIB)] * 20)
    monkeypatch.setattr(rsync_runs, "free_bytes", lambda _: rsync_runs.RESERVE_BYTES - 1)
    with pytest.raises(StoreFull, match="no room left in the spool directory") as caught:
        store.put("plan/key", [bytes(MIB)] * 20) if use == "put" else store.get("plan/key")
    assert "spool_directory" in caught.value.hint
    assert list((tmp_path / "spool").iterdir()) == []


def test_a_local_disk_that_fills_while_rsync_fetches_is_not_taken_for_the_servers(
    store: RsyncStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = Completed(11, b"", ['rsync: [receiver] write failed on "/x": No space left on device (28)'])
    with store._objects("read", "key") as objects:
        monkeypatch.setattr(rsync_runs, "run", lambda *_, **__: full)
        with pytest.raises(StoreFull, match="no room left in the spool directory"):
            objects.job.fetch("key", 1, "cannot read")


@every_use
@pytest.mark.parametrize("spool", ["file", "file/below"])
def test_a_spool_directory_that_cannot_be_made_is_told(
    store: RsyncStore, tmp_path: Path, spool: str, use: Callable[[RsyncStore], object]
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=f"{tmp_path}/{spool}: ") as caught:
        use(store.model_copy(update={"spool_directory": str(tmp_path / spool)}))
    assert "spool_directory" in caught.value.hint


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.EROFS])
@pytest.mark.parametrize(
    ("call", "use"),
    [
        pytest.param("mkdir", dict(USES)["put"], id="job"),
        pytest.param("open", dict(USES)["put"], id="put"),
        pytest.param("open", lambda store: store.read("plan/key"), id="get"),
    ],
)
def test_a_local_disk_that_fails_is_told(
    store: RsyncStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    call: str, use: Callable[[RsyncStore], object], number: int,
) -> None:  # fmt: skip
    def fail(path: Path, *arguments: object, **rest: object) -> object:
        if path.name in ("tree", "key"):
            raise OSError(number, os.strerror(number), str(path))
        return works(path, *arguments, **rest)

    store.put("plan/key", [b"x"])
    works = getattr(Path, call)
    monkeypatch.setattr(Path, call, fail)
    with pytest.raises(StoreError, match=f"{tmp_path}/spool: {os.strerror(number)}") as caught:
        use(store)
    assert "spool_directory" in caught.value.hint
    assert list((tmp_path / "spool").iterdir()) == []


def test_a_system_without_a_temporary_directory_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr("tempfile._candidate_tempdir_list", lambda: ["/nowhere"])
    with pytest.raises(StoreError, match="No usable temporary directory") as caught:
        list(RsyncStore(address="rsync://nas/module").list())
    assert "spool_directory" in caught.value.hint


@pytest.mark.parametrize("made", ["link", "file", "writable", "of-another"])
def test_a_directory_for_everybodys_use_is_not_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: str
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    root = rsync_runs.temporary_root()
    assert rsync_runs.temporary_root() == root
    if made == "writable":
        root.chmod(0o770)
    elif made == "of-another":
        other = os.geteuid() + 1
        root.rename(tmp_path / f"pgsalvo-rsync-{other}")
        monkeypatch.setattr(os, "geteuid", lambda: other)
    else:
        root.rmdir()
        root.touch() if made == "file" else root.symlink_to(tmp_path)
    with pytest.raises(StoreForbidden, match="not a directory of ours alone") as caught:
        list(RsyncStore(address="rsync://nas/module").list())
    assert caught.value.hint == "set spool_directory"


def test_without_rsync_its_package_is_named(store: RsyncStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ProgramMissing) as caught:
        list(store.list())
    assert "apt-get install rsync" in caught.value.hint
