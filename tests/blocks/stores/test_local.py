"""What only a directory can show: modes, litter of a kill, full disks, missing mounts and rights."""

import errno
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import ValidationError

from blocks.errors import ObjectExists, ObjectMissing, StoreError, StoreForbidden, StoreFull, StoreUnreachable
from blocks.stores import LocalStore, PendingUpload
from blocks.stores.local_errors import store_error

MIB = 1 << 20
UNPRIVILEGED_UID = 65534


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(path=str(tmp_path / "backups"), prefix="pg")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "backups" / "pg"


def everything_below(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


def test_objects_are_plain_files_that_the_group_may_read(store: LocalStore, root: Path) -> None:
    umask = os.umask(0)
    try:
        store.put("shop/id/main", [b"archive"])
        store.create("shop/id/manifest.json", b"{}")
    finally:
        os.umask(umask)
    assert (root / "shop/id/main").read_bytes() == b"archive"
    assert everything_below(root) == ["shop", "shop/id", "shop/id/main", "shop/id/manifest.json"]
    for file in (root / "shop/id/main", root / "shop/id/manifest.json"):
        assert file.stat().st_mode & 0o777 == 0o640
    for directory in (root.parent, root, root / "shop", root / "shop/id"):
        assert directory.stat().st_mode & 0o777 == 0o750


def test_a_narrower_umask_is_respected(store: LocalStore, root: Path) -> None:
    umask = os.umask(0o077)
    try:
        store.put("key", [b"x"])
    finally:
        os.umask(umask)
    assert (root / "key").stat().st_mode & 0o777 == 0o600
    assert root.stat().st_mode & 0o777 == 0o700


def test_a_kill_leaves_a_part_that_pending_lists_and_nothing_else(store: LocalStore, root: Path) -> None:
    store.put("shop/main", [b"older"])
    writer = subprocess.Popen(
        (sys.executable, "-c", _PUT_SLOWLY, store.path, "shop/main"),
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[3],
    )
    with writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"half-way\n"
        os.kill(writer.pid, signal.SIGKILL)
    assert store.read("shop/main") == b"older"
    assert [stored.key for stored in store.list()] == ["shop/main"]
    (left,) = store.pending("shop/")
    assert left.key == "shop/main"
    assert Path(left.upload_id).stat().st_size == 3 * MIB
    assert abs(store.now() - left.started_at) < timedelta(seconds=60)
    store.abort_pending(left)
    assert everything_below(root) == ["shop", "shop/main"]


_PUT_SLOWLY = """
import sys, time
from blocks.stores import LocalStore

def chunks():
    for _ in range(3):
        yield bytes(1 << 20)
    print("half-way", flush=True)
    time.sleep(60)

LocalStore(path=sys.argv[1], prefix="pg").put(sys.argv[2], chunks())
"""


def test_a_failed_put_leaves_no_directories(store: LocalStore, root: Path) -> None:
    def source() -> Iterator[bytes]:
        yield b"x"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.put("shop/id/main", source())
    assert everything_below(root) == []


def test_delete_removes_the_directories_that_it_empties_but_the_root(store: LocalStore, root: Path) -> None:
    store.put("shop/one/main", [b"x"])
    store.put("shop/two/main", [b"x"])
    store.delete("shop/one/main")
    assert everything_below(root) == ["shop", "shop/two", "shop/two/main"]
    store.delete("shop/two")
    store.delete("shop/two/main/below")
    store.delete("shop/two/main")
    assert everything_below(root) == []
    assert root.is_dir()


def test_a_put_survives_that_its_directory_is_emptied_and_removed_meanwhile(store: LocalStore) -> None:
    def put_and_delete(number: int) -> None:
        for _ in range(100):
            store.put(f"shop/id/{number}", [b"x"])
            store.delete(f"shop/id/{number}")

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(put_and_delete, range(3)))
    assert list(store.list()) == []


def test_the_store_is_made_at_the_first_write_and_empty_until_then(store: LocalStore, root: Path) -> None:
    assert list(store.list()) == []
    assert list(store.pending()) == []
    with pytest.raises(ObjectMissing):
        store.get("key")
    store.delete("key")
    assert store.now()
    assert not root.parent.exists()
    store.put("key", [b"x"])
    assert root.is_dir()


def test_a_mount_that_is_not_there_is_not_taken_for_an_empty_store(tmp_path: Path) -> None:
    store = LocalStore(path=str(tmp_path / "mnt" / "nas" / "backups"))
    uses: list[Callable[[], object]] = [
        lambda: store.put("key", [b"x"]),
        lambda: list(store.list()),
        lambda: store.get("key"),
    ]
    for use in uses:
        with pytest.raises(StoreError, match=r"there is no directory .*/mnt/nas") as caught:
            use()
        assert "mount it" in caught.value.hint
    assert everything_below(tmp_path) == []


def test_a_file_where_the_directory_should_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "backups").touch()
    with pytest.raises(StoreError, match="backups is not a directory"):
        LocalStore(path=str(tmp_path / "backups")).put("key", [b"x"])


def test_home_is_found_and_the_location_is_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    store = LocalStore(path="~/backups", prefix="/pg/")
    store.put("key", [b"x"])
    assert store.location == str(tmp_path / "backups/pg")
    assert (tmp_path / "backups/pg/key").exists()
    assert store.on_this_host


@pytest.mark.parametrize("prefix", ["../elsewhere", "a/../../b", "a//b", "."])
def test_a_prefix_that_leaves_the_directory_is_refused(prefix: str) -> None:
    with pytest.raises(ValidationError, match="relative folder"):
        LocalStore(path="/backups", prefix=prefix)


def test_a_full_disk_is_told_and_leaves_nothing(store: LocalStore, root: Path) -> None:
    store.put("older", [b"older"])
    with files_of_at_most(4 * MIB), pytest.raises(StoreFull) as caught:
        store.put("shop/main", [bytes(MIB)] * 5)
    assert "free some space" in caught.value.hint
    assert everything_below(root) == ["older"]


def test_missing_rights_are_told(tmp_path: Path) -> None:
    directory = tmp_path / "backups"
    directory.mkdir(mode=0o500)
    store = LocalStore(path=str(directory))
    with unprivileged():
        for use in (lambda: store.put("key", [b"x"]), lambda: store.create("key", b"x")):
            with pytest.raises(StoreForbidden):
                use()


def test_what_only_root_may_read_in_a_mounted_disk_is_passed_over(store: LocalStore, root: Path) -> None:
    store.put("key", [b"x"])
    (root / "lost+found").mkdir()
    (root / "lost+found" / "#123").touch()
    for name, target in (("broken", "nowhere"), ("itself", "itself"), ("up", "..")):
        (root / name).symlink_to(target)
    assert [stored.key for stored in store.list()] == ["key"]


def test_a_file_whose_name_is_no_key_is_passed_over(store: LocalStore, root: Path) -> None:
    store.put("shop/key", [b"x"])
    for name in (b"odd\nname", b"not-utf-8-\xff", b".odd\n.0123abcd.part"):
        Path(os.fsdecode(os.fsencode(root) + b"/shop/" + name)).touch()
    assert [stored.key for stored in store.list()] == ["shop/key"]
    assert list(store.pending()) == []


def test_a_part_cannot_be_reached_as_an_object(store: LocalStore, root: Path) -> None:
    store.put("key", [b"x"])
    (root / ".key.0123abcd.part").touch()
    for use in (lambda: store.get(".key.0123abcd.part"), lambda: store.put(".key.0123abcd.part", [b"x"])):
        with pytest.raises(StoreError, match="unfinished upload"):
            use()


@pytest.mark.parametrize(
    "upload_id",
    [
        pytest.param("/etc/passwd", id="elsewhere"),
        pytest.param("{root}/key", id="an-object"),
        pytest.param("{root}/../.key.0123abcd.part", id="above"),
        pytest.param("{root}/.other.0123abcd.part", id="of-another-key"),
    ],
)
def test_only_an_unfinished_upload_is_cleared(store: LocalStore, root: Path, upload_id: str) -> None:
    store.put("key", [b"x"])
    path = Path(upload_id.format(root=root))
    with pytest.raises(StoreError, match="no unfinished upload"):
        store.abort_pending(PendingUpload("key", str(path), store.now()))
    assert store.read("key") == b"x"


def test_a_file_that_shrinks_while_it_is_read_is_an_error(store: LocalStore, root: Path) -> None:
    store.put("key", [bytes(MIB)] * 3)
    chunks = store.get("key")
    next(chunks)
    os.truncate(root / "key", MIB)
    with pytest.raises(StoreError, match="ended 2097152 bytes before its end"):
        list(chunks)


def test_create_does_not_lose_a_race(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    real_link = os.link

    def link_later(source: Path, target: Path) -> None:
        LocalStore(path=store.path, prefix=store.prefix).put("key", [b"theirs"])
        real_link(source, target)

    monkeypatch.setattr(os, "link", link_later)
    store.create("key", b"theirs")
    store.delete("key")
    with pytest.raises(ObjectExists):
        store.create("key", b"ours")
    assert store.read("key") == b"theirs"
    assert list(store.pending()) == []


def test_create_needs_no_hard_links(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: Path) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    store.create("key", b"one")
    with pytest.raises(ObjectExists):
        store.create("key", b"two")
    assert store.read("key") == b"one"
    assert list(store.pending()) == []


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (errno.ENOSPC, StoreFull),
        (errno.EDQUOT, StoreFull),
        (errno.EROFS, StoreForbidden),
        (errno.EACCES, StoreForbidden),
        (errno.ESTALE, StoreUnreachable),
        (errno.EHOSTDOWN, StoreUnreachable),
        (errno.EIO, StoreError),
    ],
    ids=lambda value: errno.errorcode[value] if isinstance(value, int) else value.__name__,
)
def test_the_operating_systems_errors_keep_their_meaning(number: int, expected: type[StoreError]) -> None:
    error = store_error(OSError(number, os.strerror(number)), "cannot write key on /backups")
    assert type(error) is expected
    assert error.message == f"cannot write key on /backups: {os.strerror(number).lower()}"


@contextmanager
def files_of_at_most(size_bytes: int) -> Iterator[None]:
    """Let the kernel refuse to let any file of this process grow larger."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def unprivileged() -> Iterator[None]:
    """Give up root's rights for a while, if we have them."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(UNPRIVILEGED_UID)
    try:
        yield
    finally:
        os.seteuid(0)
