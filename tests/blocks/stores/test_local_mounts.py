"""A directory that is a mount: told from this host's disks, and never taken for the one below it."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from blocks.errors import StoreError, StoreUnreachable
from blocks.stores import LocalStore, mounts
from blocks.stores.mounts import file_system

MARKER = ".pgsalvo-mount"
MOUNTS = r"""
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,errors=remount-ro
23 22 0:21 / /proc rw,nosuid - proc proc rw
40 22 0:44 / /mnt/nas rw,relatime shared:20 - nfs4 nas:/volume1 rw,vers=4.2,addr=192.0.2.7
41 40 8:17 / /mnt/nas/disk rw,relatime shared:21 - xfs /dev/sdb1 rw
42 22 0:45 / /mnt/Office\040Share rw,relatime - cifs //office/share rw,vers=3.1.1
43 22 0:46 / /mnt/ssh rw,nosuid,nodev - fuse.sshfs backup@vault:/srv rw,user_id=0
44 22 0:47 / /mnt/auto rw,relatime master:3 propagate_from:2 - autofs systemd-1 rw
45 44 0:48 /export /mnt/auto rw,relatime shared:22 master:3 - nfs vault:/export rw
46 22 0:49 / /mnt/data rw - fuseblk /dev/sdc1 rw
a line of no meaning
"""


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(path=str(tmp_path / "nas"), mount_marker=MARKER)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/", "ext4"),
        ("/var/backups", "ext4"),
        ("/mnt/nas", "nfs4"),
        ("/mnt/nas/backups/pg", "nfs4"),
        ("/mnt/nas-old", "ext4"),
        ("/mnt/nas/disk/pg", "xfs"),
        ("/mnt/Office Share/pg", "cifs"),
        ("/mnt/ssh/pg", "fuse.sshfs"),
        pytest.param("/mnt/auto/pg", "nfs", id="mounted-over-the-automounter"),
        ("/mnt/data", "fuseblk"),
    ],
)
def test_the_file_system_is_that_of_the_nearest_mount(path: str, expected: str) -> None:
    assert file_system(MOUNTS, path) == expected


def test_nothing_is_told_of_a_table_that_cannot_be_read() -> None:
    assert file_system("", "/mnt/nas") == file_system("nonsense - nfs\n", "/mnt/nas") == ""


def test_a_share_is_not_on_this_host_but_a_disk_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "link").symlink_to("/mnt/nas")
    table = tmp_path / "mountinfo"
    table.write_text(MOUNTS)
    monkeypatch.setattr(mounts, "MOUNTS", table)
    assert not LocalStore(path="/mnt/nas/backups").on_this_host
    assert not LocalStore(path=str(tmp_path / "link" / "backups")).on_this_host
    assert LocalStore(path="/mnt/nas/disk/backups").on_this_host
    monkeypatch.setattr(mounts, "MOUNTS", tmp_path / "missing")
    assert LocalStore(path="/mnt/nas/backups").on_this_host


def test_this_systems_own_table_is_understood() -> None:
    assert file_system(mounts.MOUNTS.read_text(), "/proc/self") == "proc"


@pytest.mark.parametrize("parent_is_there", [True, False])
def test_nothing_is_read_or_written_while_the_marker_is_not_there(
    tmp_path: Path, parent_is_there: bool
) -> None:
    directory = tmp_path / "mnt" / "nas"
    if parent_is_there:
        directory.mkdir(parents=True)
    store = LocalStore(path=str(directory), prefix="pg", mount_marker=MARKER)
    uses: list[Callable[[], object]] = [
        lambda: store.put("key", [b"x"]),
        lambda: store.create("key", b"x"),
        lambda: list(store.list()),
        lambda: list(store.pending()),
        lambda: store.get("key"),
        lambda: store.delete("key"),
        lambda: store.now(),
    ]
    for use in uses:
        with pytest.raises(StoreUnreachable, match="is not mounted") as caught:
            use()
        assert caught.value.transient
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_the_hint_is_a_command_that_makes_the_marker(tmp_path: Path) -> None:
    directory = tmp_path / "an odd $name"
    directory.mkdir()
    store = LocalStore(path=str(directory), mount_marker=MARKER)
    with pytest.raises(StoreUnreachable) as caught:
        store.put("key", [b"x"])
    subprocess.run(caught.value.hint.partition(": ")[2], shell=True, check=True)  # noqa: S602 - as a person does
    store.put("key", [b"x"])
    assert store.read("key") == b"x"


def test_the_marker_is_no_object(store: LocalStore, tmp_path: Path) -> None:
    marker = tmp_path / "nas" / MARKER
    marker.parent.mkdir()
    marker.touch()
    store.put("shop/key", [b"x"])
    store.put(f"shop/{MARKER}", [b"an object of this name elsewhere"])
    assert [found.key for found in store.list()] == [f"shop/{MARKER}", "shop/key"]
    for use in (lambda: store.delete(MARKER), lambda: store.put(MARKER, [b"x"]), lambda: store.get(MARKER)):
        with pytest.raises(StoreError, match="the mount's marker"):
            use()
    assert marker.exists()


def test_a_put_fails_when_the_share_goes_away_under_it(store: LocalStore, tmp_path: Path) -> None:
    (tmp_path / "nas").mkdir()
    (tmp_path / "nas" / MARKER).touch()

    def source() -> Iterator[bytes]:
        (tmp_path / "nas").rename(tmp_path / "gone")
        (tmp_path / "nas").mkdir()
        yield b"x"

    with pytest.raises(StoreError):
        store.put("key", source())
    assert list((tmp_path / "nas").iterdir()) == []


@pytest.mark.parametrize("marker", ["a/b", "/etc/passwd", "..", "a\nb"])
def test_a_marker_is_the_name_of_a_file(marker: str) -> None:
    with pytest.raises(ValidationError, match="a file's name"):
        LocalStore(path="/mnt/nas", mount_marker=marker)
