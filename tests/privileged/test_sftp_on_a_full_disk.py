"""SftpStore and a server whose disk is soon full: a small file system, which only root may mount."""

from pathlib import Path

import pytest

from blocks.errors import StoreFull
from tests.servers.disk import small_disk
from tests.servers.sftp import start_sftp

MIB = 1 << 20


@pytest.mark.parametrize("size_mib", [5, 40], ids=["at-the-end", "on-the-way"])
def test_a_full_disk_on_the_server_is_told_and_leaves_nothing(tmp_path: Path, size_mib: int) -> None:
    server = start_sftp()
    try:
        with small_disk(tmp_path / "small", 4 * MIB) as disk:
            assert disk.stat().st_dev != tmp_path.stat().st_dev, "this needs the right to mount"
            store = server.store(disk)
            store.put("small", [bytes(MIB)])
            with pytest.raises(StoreFull, match="no space is left on the server") as caught:
                store.put("large", [bytes(MIB)] * size_mib)
            assert caught.value.hint
            assert [path.name for path in disk.iterdir()] == ["small"]
            assert store.read("small") == bytes(MIB)
    finally:
        server.stop()
