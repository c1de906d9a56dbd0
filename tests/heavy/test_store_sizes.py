"""Large objects on stores whose bytes pass Python itself, or local disk: memory stays as it is."""

from tests.blocks.stores.probes import memory_mib
from tests.servers.rsync import start_rsyncd
from tests.servers.sftp import start_sftp


def test_over_sftp_memory_does_not_grow_with_an_object() -> None:
    server = start_sftp()
    try:
        assert memory_mib(server.store(server.directory)) < 48
    finally:
        server.stop()


def test_over_rsync_memory_does_not_grow_with_an_object() -> None:
    server = start_rsyncd()
    try:
        assert memory_mib(server.store("large")) < 32
    finally:
        server.stop()
