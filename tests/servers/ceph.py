"""A real Ceph for tests: a monitor, an OSD that keeps objects in memory, and its S3 server (radosgw)."""

import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import obstore
from obstore.store import S3Store as MovingClient

from tests.servers.ports import accepts, free_port, wait_until
from tests.servers.versioned_s3 import KEYS, VersionedS3

_PACKAGES = {
    "ceph-mon": "ceph-mon",
    "ceph": "ceph-mon",
    "monmaptool": "ceph-mon",
    "ceph-osd": "ceph-osd",
    "radosgw": "radosgw",
    "radosgw-admin": "radosgw",
}
# radosgw asks of the monitor an encryption that there is none of without keys, hence `ms mon client mode`
_CONFIGURATION = """
[global]
    fsid = {uuid}
    mon host = {monitor}
    public addr = 127.0.0.1
    cluster addr = 127.0.0.1
    ms bind msgr1 = false
    auth cluster required = none
    auth service required = none
    auth client required = none
    ms mon client mode = crc
    admin socket =
    run dir = {directory}
    crash dir = {directory}
    log file = {directory}/$name.log
    mon data = {directory}/mon
    osd data = {directory}/osd
    rgw data = {directory}/rgw
    paxos propose interval = 0.02
    mon allow pool size one = true
    osd objectstore = memstore
    memstore device bytes = 4294967296
    osd pool default size = 1
    osd pool default pg num = 1
    osd crush chooseleaf type = 0
    rgw frontends = beast endpoint=127.0.0.1:{port}
"""


@dataclass
class CephServer(VersionedS3):
    """A running server, with one user who has all rights."""

    directory: Path
    daemons: ExitStack

    def fill(self, bucket: str, keys: Iterable[str]) -> None:
        """Make empty objects by thousands."""
        client = MovingClient(
            bucket, endpoint=self.endpoint_url, access_key_id=KEYS[0], secret_access_key=KEYS[1],
            client_options={"allow_http": True},
        )  # fmt: skip
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda key: obstore.put(client, key, b""), keys))

    def limit(self, bucket: str, size_bytes: int) -> None:
        """Give a bucket a quota."""
        of_bucket = ("--quota-scope", "bucket", "--bucket", bucket)
        _administer(self.directory, "quota", "set", *of_bucket, "--max-size", str(size_bytes))
        _administer(self.directory, "quota", "enable", *of_bucket)

    def add_user(self, name: str, access_key_id: str, secret_access_key: str) -> None:
        """Make a user who has rights on no bucket."""
        _add_user(self.directory, name, access_key_id, secret_access_key)

    def stop(self) -> None:
        self.daemons.close()


def start_ceph() -> CephServer:
    """Start a server on free ports; stop it with `stop()`."""
    missing = {package for name, package in _PACKAGES.items() if not shutil.which(name)}
    assert not missing, f"Ceph is not there: apt-get install {' '.join(sorted(missing))}"
    with ExitStack() as stack:
        directory = Path(tempfile.mkdtemp(prefix="pgsalvo-test-ceph-"))
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        for name in ("mon", "osd", "rgw"):
            (directory / name).mkdir()
        port, monitor, identity = free_port(), f"v2:127.0.0.1:{free_port()}", str(uuid.uuid4())
        (directory / "ceph.conf").write_text(
            _CONFIGURATION.format(uuid=identity, monitor=monitor, port=port, directory=directory)
        )
        monitors = str(directory / "monitors")
        _run("monmaptool", directory, "--create", "--fsid", identity, "--addv", "a", f"[{monitor}]", monitors)
        _run("ceph-mon", directory, "-i", "a", "--mkfs", "--monmap", monitors)
        _start(stack, "ceph-mon", directory, "-i", "a")
        _run("ceph", directory, "osd", "new", identity)
        _run("ceph-osd", directory, "-i", "0", "--mkfs", "--osd-uuid", identity)
        _start(stack, "ceph-osd", directory, "-i", "0")
        _add_user(directory, "tests", *KEYS)
        gateway = _start(stack, "radosgw", directory, "-n", "client.tests")
        wait_until(lambda: _answers(gateway, directory, port), "radosgw")
        return CephServer(port, directory, stack.pop_all())


def _add_user(directory: Path, name: str, access_key_id: str, secret_access_key: str) -> None:
    keys = ("--access-key", access_key_id, "--secret-key", secret_access_key)
    _administer(directory, "user", "create", "--uid", name, "--display-name", name, *keys)


def _administer(directory: Path, *arguments: str) -> None:
    _run("radosgw-admin", directory, *arguments)


def _run(program: str, directory: Path, *arguments: str) -> None:
    done = subprocess.run(
        (program, "-c", directory / "ceph.conf", *arguments), capture_output=True, timeout=60, text=True
    )
    assert done.returncode == 0, f"{program} {arguments[0]}: {done.stderr}"


def _start(stack: ExitStack, program: str, directory: Path, *arguments: str) -> "subprocess.Popen[bytes]":
    """Start a daemon that ends with the stack: at once, for it keeps nothing."""
    with (directory / f"{program}.out").open("wb") as log:
        process = subprocess.Popen(
            (program, "-c", directory / "ceph.conf", *arguments, "-f"),
            stdout=log, stderr=log, env={"PATH": os.environ["PATH"]},
        )  # fmt: skip
    stack.callback(process.wait)
    stack.callback(process.kill)
    return process


def _answers(gateway: "subprocess.Popen[bytes]", directory: Path, port: int) -> bool:
    assert gateway.poll() is None, (directory / "radosgw.out").read_text()
    return accepts(port)
