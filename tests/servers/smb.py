"""A real SMB server for tests (Samba's smbd), which only root can start."""

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blocks.stores import SmbStore
from tests.servers.ports import accepts, free_port, wait_until

USER = "root"
PASSWORD = "tests-smb-password"
SHARE = "backups"

_CONFIGURATION = """
[global]
    server role = standalone server
    smb ports = {port}
    interfaces = 127.0.0.1
    bind interfaces only = yes
    disable netbios = yes
    map to guest = never
    load printers = no
    log file = {directory}/server.log
    passdb backend = tdbsam:{directory}/state/passdb.tdb
    private dir = {directory}/state
    lock directory = {directory}/state
    state directory = {directory}/state
    cache directory = {directory}/state
    pid directory = {directory}/state
    ncalrpc dir = {directory}/state
[backups]
    path = {directory}/data
    read only = no
[readable]
    path = {directory}/data
    read only = yes
"""


@dataclass
class SmbServer:
    """A running server; what is on its shares lies in `directory`."""

    directory: Path
    port: int
    process: "subprocess.Popen[bytes]"

    def store(self, **fields: Any) -> SmbStore:
        """Return a store on this server; `fields` are the block's, and replace those given here."""
        given = {
            "host": "127.0.0.1",
            "port": self.port,
            "share": SHARE,
            "user": USER,
            "password": PASSWORD,
            "timeout_seconds": 10,
        }
        return SmbStore(**(given | fields))

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.directory.parent, ignore_errors=True)


def start_smb() -> SmbServer:
    """Start a server on a free port; stop it with `stop()`."""
    programs = [shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin") for name in ("smbd", "smbpasswd")]
    assert all(programs), "Samba is not there: apt-get install samba"
    assert os.geteuid() == 0, "smbd can only be started by root"
    smbd, smbpasswd = map(str, programs)
    directory = Path(tempfile.mkdtemp(prefix="pgsalvo-test-smb-"))
    for name in ("data", "state"):
        (directory / name).mkdir()
    port, file = free_port(), directory / "smb.conf"
    file.write_text(_CONFIGURATION.format(port=port, directory=directory))
    subprocess.run(
        (smbpasswd, "-c", file, "-s", "-a", USER),
        input=f"{PASSWORD}\n{PASSWORD}\n".encode(), capture_output=True, check=True,
    )  # fmt: skip
    with (directory / "start.log").open("wb") as log:
        # at its end it signals its whole process group, which must not be ours
        process = subprocess.Popen(
            (smbd, "-F", "--no-process-group", "-s", file), stdout=log, stderr=log, start_new_session=True
        )
    wait_until(lambda: accepts(port), "smbd")
    return SmbServer(directory / "data", port, process)
