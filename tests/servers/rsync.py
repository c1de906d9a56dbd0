"""A real rsync daemon for tests, with one module that wants a password."""

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blocks.stores import RsyncStore
from tests.servers.ports import accepts, free_port, wait_until

USER = "tests"
PASSWORD = "the-modules-password"
MODULE = "backups"


@dataclass
class RsyncServer:
    """A running daemon; the module is `directory`."""

    directory: Path
    port: int
    process: "subprocess.Popen[bytes]"

    def address(self, folder: str = "", *, module: str = MODULE, port: int | None = None) -> str:
        return f"rsync://{USER}@127.0.0.1:{port or self.port}/{module}/{folder}"

    def store(self, folder: str, **fields: Any) -> RsyncStore:
        """Return a store in a folder of the module; `fields` are the block's and replace those given here."""
        return RsyncStore(**({"address": self.address(folder), "password": PASSWORD} | fields))

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()
        shutil.rmtree(self.directory.parent, ignore_errors=True)


def start_rsyncd(*lines: str) -> RsyncServer:
    """Start a daemon on a free port; stop it with `stop()`.

    Args:
        lines: More of rsyncd.conf's for the module.
    """
    assert shutil.which("rsync"), "rsync is not there: apt-get install rsync"
    directory = Path(tempfile.mkdtemp(prefix="pgsalvo-test-rsync-"))
    (directory / "data").mkdir()
    (directory / "secrets").write_text(f"{USER}:{PASSWORD}\n")
    (directory / "secrets").chmod(0o600)
    own = [f"uid = {os.geteuid()}", f"gid = {os.getegid()}"] if os.geteuid() == 0 else []
    config = [
        "use chroot = no",
        "reverse lookup = no",
        "socket options = TCP_NODELAY",
        f"log file = {directory}/rsyncd.log",
        f"[{MODULE}]",
        f"path = {directory}/data",
        f"auth users = {USER}",
        f"secrets file = {directory}/secrets",
        *own,
        *(lines or ("read only = no",)),
    ]
    (directory / "rsyncd.conf").write_text("\n".join(config) + "\n")
    port = free_port()
    process = subprocess.Popen(
        ("rsync", "--daemon", "--no-detach", f"--config={directory}/rsyncd.conf", f"--port={port}",
         "--address=127.0.0.1"),
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    server = RsyncServer(directory / "data", port, process)
    wait_until(lambda: _answers(server), "rsync --daemon")
    return server


def _answers(server: RsyncServer) -> bool:
    assert server.process.poll() is None, (server.directory.parent / "rsyncd.log").read_text()
    return accepts(server.port)
