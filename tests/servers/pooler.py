"""A stand-in for a connection pooler: it passes everything on, but gives out a process id of its own."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_BACKEND_KEY_DATA = b"K\x00\x00\x00\x0c"
_POOLERS_PID = 4_242_424


@contextmanager
def pooler(server_port: int) -> Iterator[int]:
    """Run a pooler in front of a local server without TLS and yield its port."""
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=_accept, args=(listener, server_port), daemon=True).start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        listener.close()


def _accept(listener: socket.socket, server_port: int) -> None:
    with suppress(OSError):
        while True:
            client, _ = listener.accept()
            server = socket.create_connection(("127.0.0.1", server_port))
            threading.Thread(target=_pass_on, args=(client, server, False), daemon=True).start()
            threading.Thread(target=_pass_on, args=(server, client, True), daemon=True).start()


def _pass_on(source: socket.socket, target: socket.socket, rewrite: bool) -> None:
    with suppress(OSError), source, target:
        while chunk := source.recv(65536):
            if rewrite and (at := chunk.find(_BACKEND_KEY_DATA)) >= 0:
                rewrite, start = False, at + len(_BACKEND_KEY_DATA)
                chunk = chunk[:start] + _POOLERS_PID.to_bytes(4, "big") + chunk[start + 4 :]
            target.sendall(chunk)
