"""What may stand between a store and its server: TLS, and a proxy."""

import asyncio
import base64
import contextlib
import ssl
import threading
from asyncio import StreamReader, StreamWriter
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

HOST = "127.0.0.1"
FAREWELL_SECONDS = 0.5
LAST_COMERS_SECONDS = 0.02


@dataclass
class Proxy:
    """A running proxy; whatever host is asked for, the port is looked for on this one.

    Args:
        refusal: The status that everybody gets, if any.
        user: Who may use it, as in an address: USER:PASSWORD; everybody if empty.
    """

    refusal: int = 0
    user: str = ""
    port: int = 0
    tunnels: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"http://{self.user}{'@' if self.user else ''}{HOST}:{self.port}"

    async def answer(self, reader: StreamReader, writer: StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        method, target, _ = head.split(b"\r\n")[0].decode().split(" ")
        if status := self._refusal(head):
            challenge = 'Proxy-Authenticate: Basic realm="tests"\r\n' if status == 407 else ""
            line = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"
            writer.write(f"{line}\r\n{challenge}Content-Length: 0\r\nConnection: close\r\n\r\n".encode())
            await writer.drain()
            return
        if method == "CONNECT":
            self.tunnels.append(target)
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            await _relay(reader, writer, urlsplit(f"//{target}").port or 443)
        else:
            self.requests.append(target)
            await _relay(reader, writer, urlsplit(target).port or 80, _for_the_server(head))

    def _refusal(self, head: bytes) -> int:
        if self.refusal:
            return self.refusal
        known = base64.b64encode(self.user.encode())
        return 407 if self.user and b"Basic " + known not in head else 0


@contextmanager
def proxying(refusal: int = 0, user: str = "") -> Iterator[Proxy]:
    proxy = Proxy(refusal, user)
    with _serving(proxy.answer) as proxy.port:
        yield proxy


@contextmanager
def speaking_tls(target_port: int, certificate: Path, key: Path) -> Iterator[int]:
    """Yield a port where a server of this host that speaks no TLS does."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    async def answer(reader: StreamReader, writer: StreamWriter) -> None:
        await _relay(reader, writer, target_port)

    with _serving(answer, context) as port:
        yield port


@contextmanager
def _serving(
    answer: Callable[[StreamReader, StreamWriter], Awaitable[None]], tls: ssl.SSLContext | None = None
) -> Iterator[int]:
    """Answer connections in a thread of its own; yield the port."""
    started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event, int]] = Future()
    connections: dict[asyncio.Task[None], StreamWriter] = {}

    async def serve() -> None:
        ended = asyncio.Event()
        server = await asyncio.start_server(begin, HOST, 0, ssl=tls)
        started.set_result((asyncio.get_running_loop(), ended, server.sockets[0].getsockname()[1]))
        await ended.wait()
        await asyncio.sleep(LAST_COMERS_SECONDS)  # a closed server leaves open whom it has just let in
        server.close()
        for writer in connections.values():  # also of those who came too late to be answered
            writer.transport.abort()
        await asyncio.sleep(0)  # in which the loop closes their sockets

    def begin(reader: StreamReader, writer: StreamWriter) -> None:
        connections[asyncio.ensure_future(end_well(reader, writer))] = writer

    async def end_well(reader: StreamReader, writer: StreamWriter) -> None:
        # cancelled at the end, if it still goes on
        with contextlib.suppress(asyncio.CancelledError):
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await answer(reader, writer)
            writer.close()
            with contextlib.suppress(OSError, TimeoutError):
                await asyncio.wait_for(writer.wait_closed(), FAREWELL_SECONDS)
        writer.transport.abort()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    loop, ended, port = started.result(10)
    try:
        yield port
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join()


def _for_the_server(head: bytes) -> bytes:
    """Return a request's head as a server wants it, which closes the connection after its answer."""
    first, *lines = head.rstrip(b"\r\n").split(b"\r\n")
    method, target, version = first.split(b" ")
    path = b"/" + target.split(b"/", 3)[3]
    kept = [line for line in lines if not line.lower().startswith((b"connection:", b"proxy-"))]
    return b"\r\n".join((b" ".join((method, path, version)), *kept, b"Connection: close", b"", b""))


async def _relay(reader: StreamReader, writer: StreamWriter, port: int, first: bytes = b"") -> None:
    """Carry bytes both ways until either end has no more."""
    server_reader, server_writer = await asyncio.open_connection(HOST, port)
    server_writer.write(first)
    ways = [
        asyncio.ensure_future(_carry(reader, server_writer)),
        asyncio.ensure_future(_carry(server_reader, writer)),
    ]
    try:
        await asyncio.wait(ways, return_when="FIRST_COMPLETED")
    finally:
        for way in ways:
            way.cancel()
        server_writer.transport.abort()


async def _carry(source: StreamReader, sink: StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while chunk := await source.read(1 << 16):
            sink.write(chunk)
            await sink.drain()
