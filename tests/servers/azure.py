"""A real server of Azure's blobs for tests: Azurite, which checks keys and signatures."""

import base64
import fcntl
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx
from azure.storage.blob import BlobServiceClient

from blocks.stores import AzureStore
from tests.servers.ports import free_port, wait_until

VERSION = "3.35.0"
PACKAGES = Path(__file__).parents[2] / ".cache" / "azurite"
ACCOUNT_NAME = "testsaccount"
ACCOUNT_KEY = base64.b64encode(b"tests-account-key-of-sixty-four-bytes-tests-account-key-of-64-by").decode()


@dataclass
class AzureServer:
    """A running server with one account."""

    directory: Path
    port: int
    process: "subprocess.Popen[bytes]"

    @property
    def endpoint_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/{ACCOUNT_NAME}"

    @property
    def connection_string(self) -> str:
        return (
            f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT_NAME};AccountKey={ACCOUNT_KEY};"
            f"BlobEndpoint={self.endpoint_url};"
        )

    @cached_property
    def client(self) -> Any:
        """Return a client with all rights."""
        return BlobServiceClient.from_connection_string(self.connection_string)

    def store(self, container: str, **fields: Any) -> AzureStore:
        """Return a store on this server; `fields` are the block's, and replace those given here."""
        given = {
            "account_name": ACCOUNT_NAME,
            "endpoint_url": self.endpoint_url,
            "account_key": ACCOUNT_KEY,
        }
        return AzureStore(container=container, **(given | fields))

    def seed(self, container: str, names: Iterable[str]) -> None:
        """Make empty blobs by thousands, which takes the server's own API half a minute.

        The server is stopped, its table of blobs is filled with copies of one, and it is started again.
        """
        self.client.get_blob_client(container, "template").upload_blob(b"")
        self._end()
        file = self.directory / "__azurite_db_blob__.json"
        database = json.loads(file.read_text())
        table = next(each for each in database["collections"] if each["name"] == "$BLOBS_COLLECTION$")
        template = table["data"].pop()
        table["data"] += [
            template | {"name": name, "$loki": number} for number, name in enumerate(names, template["$loki"])
        ]
        table["maxId"] = table["data"][-1]["$loki"]
        file.write_text(json.dumps(database))
        self.process = _start(self.directory, self.port)
        wait_until(lambda: _answers(self), "azurite")

    def stop(self) -> None:
        self._end()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _end(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def start_azure() -> AzureServer:
    """Start a server on a free port; stop it with `stop()`."""
    directory = Path(tempfile.mkdtemp(prefix="pgsalvo-test-azure-"))
    port = free_port()
    server = AzureServer(directory, port, _start(directory, port))
    wait_until(lambda: _answers(server), "azurite")
    return server


def _start(directory: Path, port: int) -> "subprocess.Popen[bytes]":
    with (directory / "server.log").open("ab") as log:
        return subprocess.Popen(
            (_found("node"), _azurite(), "--blobPort", str(port), "--location", directory,
             "--skipApiVersionCheck", "--disableTelemetry", "--silent"),
            stdout=log, stderr=log,
            env={"PATH": os.environ["PATH"], "AZURITE_ACCOUNTS": f"{ACCOUNT_NAME}:{ACCOUNT_KEY}"},
        )  # fmt: skip


def _answers(server: AzureServer) -> bool:
    assert server.process.poll() is None, (server.directory / "server.log").read_text()
    try:
        return httpx.get(f"{server.endpoint_url}?comp=list", timeout=1).status_code > 0
    except httpx.TransportError:
        return False


def _azurite() -> Path:
    """Return the program of the pinned version; install it unless it is there, whole or not at all."""
    installed = PACKAGES / VERSION
    if not installed.is_dir():
        PACKAGES.mkdir(parents=True, exist_ok=True)
        with (PACKAGES / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not installed.is_dir():
                _install(installed)
    return installed / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"


def _install(target: Path) -> None:
    with tempfile.TemporaryDirectory(dir=target.parent) as unfinished:
        options = ("--no-audit", "--no-fund", "--no-save", "--ignore-scripts", "--loglevel=error")
        done = subprocess.run(
            (_found("npm"), "install", *options, f"--prefix={unfinished}/whole", f"azurite@{VERSION}"),
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"npm cannot install azurite {VERSION}: {done.stderr}"
        Path(unfinished, "whole").rename(target)


def _found(program: str) -> str:
    found = shutil.which(program)
    assert found, f"{program} is not there: apt-get install npm"
    return found
