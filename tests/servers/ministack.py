"""A real S3 server for tests that has versioning and enforces Object Lock; it keeps everything in memory."""

import importlib.util
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from typing import Any

from tests.servers.ports import accepts, free_port, wait_until
from tests.servers.versioned_s3 import VersionedS3


@dataclass
class MiniStack(VersionedS3):
    """A running server; it takes any key."""

    process: "subprocess.Popen[bytes]"

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def start_ministack() -> MiniStack:
    """Start a server on a free port; stop it with `stop()`."""
    assert importlib.util.find_spec("ministack"), (
        "ministack is not there: pip install 'ministack>=1.4.21,<1.5'"
    )
    port = free_port()
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            (sys.executable, "-m", "ministack"),
            env={"PATH": os.environ["PATH"], "GATEWAY_PORT": str(port), "BIND_HOST": "127.0.0.1"}
            | {"SERVICES": "s3", "SFTP_ENABLED": "0", "IOT_MTLS_ENABLED": "0"},
            stdout=log, stderr=log,
        )  # fmt: skip
        server = MiniStack(port, process)
        wait_until(lambda: _answers(server, log), "ministack")
    return server


def _answers(server: MiniStack, log: Any) -> bool:
    if server.process.poll() is not None:
        log.seek(0)
        raise AssertionError(log.read().decode())
    return accepts(server.port)
