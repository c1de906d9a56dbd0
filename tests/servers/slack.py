"""A stand-in for Slack's incoming webhooks on the loopback interface: records messages, fails on demand."""

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SECRET_PATH = "/services/T0TEST/B0TEST/webhook-secret-token"


@dataclass(frozen=True)
class Answer:
    """What the stub says to one request."""

    status: int = 200
    body: str = "ok"
    headers: Mapping[str, str] = field(default_factory=dict)


OK = Answer()
SERVER_ERROR = Answer(500, "rollup_error")
NO_SERVICE = Answer(404, "no_service")
HANG = Answer(0)
HANG_UP = Answer(-1)


class SlackStub:
    """A running stub; `messages` holds the bodies that were answered with success.

    `answers` are used up one a request, then every request gets `default`.
    """

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.requests = 0
        self.answers: list[Answer] = []
        self.default = OK
        self.ending = threading.Event()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.stub = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}{SECRET_PATH}"

    @property
    def texts(self) -> list[str]:
        """The one-line summaries of the delivered messages."""
        return [message["text"] for message in self.messages]

    def close(self) -> None:
        self.ending.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer_to(self, body: bytes) -> Answer:
        self.requests += 1
        answer = self.answers.pop(0) if self.answers else self.default
        if answer.status == 200:
            self.messages.append(json.loads(body))
        return answer


@contextmanager
def slack_stub() -> Iterator[SlackStub]:
    stub = SlackStub()
    try:
        yield stub
    finally:
        stub.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = True
    stub: SlackStub


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        answer = self.server.stub.answer_to(body)
        if answer is HANG:
            self.server.stub.ending.wait(60)
        if answer in (HANG, HANG_UP):
            self.close_connection = True
            return
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer.body.encode())

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's name
        """Keep the tests' output free of requests."""
