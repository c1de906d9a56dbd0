"""A real WebDAV server for tests (`rclone serve webdav`), which rclone reaches over the network."""

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from blocks.stores import RcloneStore
from blocks.stores.rclone_access import find_program
from tests.servers.ports import accepts, free_port, wait_until

USER = "tests-user"
PASSWORD = "tests-webdav-password"


@dataclass
class WebdavServer:
    """A running server of what lies in `directory`, of which it remembers what it has read."""

    directory: Path
    port: int
    control_port: int
    process: "subprocess.Popen[bytes]"

    def configuration(self, *, port: int = 0, password: str = PASSWORD, vendor: str = "rclone") -> str:
        """Return an rclone.conf with the remote `offsite`.

        Args:
            port: Of a line to the server; its own if 0.
            vendor: `rclone` takes streams; `other` none, so that rclone keeps them on the disk first.
        """
        settings = {
            "type": "webdav",
            "url": f"http://127.0.0.1:{port or self.port}",
            "vendor": vendor,
            "user": USER,
            "pass": obscured(password),
            # else rclone waits longer and longer between its requests, which are few
            "pacer_min_sleep": "1ms",
        }
        return section("offsite", settings)

    def store(self, configuration: str = "", **fields: Any) -> RcloneStore:
        """Return a store on this server."""
        given = {"remote": "offsite", "config": configuration or self.configuration()}
        return RcloneStore(**(given | fields))

    def forget(self) -> None:
        """Let the server read directories anew, after files have been made in them past it."""
        httpx.post(f"http://127.0.0.1:{self.control_port}/vfs/forget", timeout=30).raise_for_status()

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.directory.parent, ignore_errors=True)


def start_webdav(*flags: str) -> WebdavServer:
    """Start a server on a free port; stop it with `stop()`."""
    directory = Path(tempfile.mkdtemp(prefix="pgsalvo-test-webdav-"))
    data = directory / "data"
    data.mkdir()
    port, control_port = free_port(), free_port()
    log = (directory / "server.log").open("wb")
    process = subprocess.Popen(
        (find_program(), "serve", "webdav", data, "--addr", f"127.0.0.1:{port}",
         "--user", USER, "--pass", PASSWORD,
         "--rc", "--rc-no-auth", "--rc-addr", f"127.0.0.1:{control_port}", *flags),
        stdout=log, stderr=log, env={"PATH": os.environ["PATH"], "RCLONE_CONFIG": os.devnull},
    )  # fmt: skip
    log.close()
    server = WebdavServer(data, port, control_port, process)
    wait_until(lambda: _answers(server), "rclone serve webdav")
    return server


def section(name: str, settings: dict[str, str]) -> str:
    lines = (f"{option} = {value}" for option, value in settings.items())
    return "\n".join((f"[{name}]", *lines, ""))


def obscured(password: str) -> str:
    """Return a password as rclone.conf wants it."""
    call = (find_program(), "obscure", "-")
    return (
        subprocess.run(call, input=password.encode(), capture_output=True, check=True).stdout.decode().strip()
    )


def _answers(server: WebdavServer) -> bool:
    assert server.process.poll() is None, (server.directory.parent / "server.log").read_text()
    return accepts(server.port) and accepts(server.control_port)
