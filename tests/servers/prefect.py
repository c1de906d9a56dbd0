"""A real Prefect for tests: `prefect server start` with its own home and a password, and process workers."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.servers.ports import free_port, wait_until

AUTH = "admin:tests-prefect-password"
STARTUP_SECONDS = 120
BUSY_SECONDS = 60
BIN = Path(sys.executable).parent
_SERVER = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
    # the time until a changed schedule has its runs
    "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "5",
}


@dataclass
class Worker:
    """A running process worker; whatever it and its runs print goes to `log`."""

    process: "subprocess.Popen[bytes]"
    log: Path

    @property
    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def stop(self) -> None:
        _end(self.process)


@dataclass
class PrefectServer:
    """A server on a port of its own, which can be killed and started again over the same data.

    Args:
        auth: What clients must send, `user:password`; empty for an open server.
        database_url: A database of PostgreSQL; empty for a file of SQLite in its home.
    """

    auth: str = AUTH
    database_url: str = ""
    port: int = field(default_factory=free_port)
    directory: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="pgsalvo-test-prefect-")))
    workers: list[Worker] = field(default_factory=list)
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def api_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/api"

    @property
    def environment(self) -> dict[str, str]:
        """What a client needs, and nothing of the tests' own environment but PATH."""
        home = self.directory / "client"
        home.mkdir(exist_ok=True)
        return {
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(home),
            "LC_ALL": "C.UTF-8",
            "TMPDIR": tempfile.gettempdir(),
            "PREFECT_HOME": str(home / "prefect"),
            "PREFECT_API_URL": self.api_url,
            "DO_NOT_TRACK": "1",
        } | ({"PREFECT_API_AUTH_STRING": self.auth} if self.auth else {})

    @property
    def credentials(self) -> tuple[str, str] | None:
        user, colon, password = self.auth.partition(":")
        return (user, password) if colon else None

    def start(self) -> None:
        """Start the server, the first time or again, and wait until it answers."""
        environment = self.environment | _SERVER | {"PREFECT_HOME": str(self.directory / "server")}
        if self.auth:
            environment["PREFECT_SERVER_API_AUTH_STRING"] = self.auth
        if self.database_url:
            environment["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = self.database_url
        with (self.directory / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                (
                    BIN / "prefect", "server", "start", "--no-ui",
                    "--host", "127.0.0.1", "--port", str(self.port),
                ),
                env=environment, cwd=self.directory, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        wait_until(self._answers, "the Prefect server", STARTUP_SECONDS)

    def kill(self) -> None:
        """Let the server die without a chance to say goodbye; workers and runs stay."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        for worker in self.workers:
            worker.stop()
        if self.process is not None:
            _end(self.process)
        shutil.rmtree(self.directory, ignore_errors=True)

    def start_worker(self, pool: str, environment: Mapping[str, str]) -> Worker:
        """Start a worker in a directory that has nothing to do with the project."""
        elsewhere = self.directory / f"worker-{len(self.workers)}"
        elsewhere.mkdir()
        path = elsewhere / "worker.log"
        with path.open("wb") as log:
            process = subprocess.Popen(
                (BIN / "prefect", "worker", "start", "--pool", pool, "--name", elsewhere.name),
                env=self.environment | {"PREFECT_WORKER_QUERY_SECONDS": "2"} | dict(environment),
                cwd=elsewhere, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        worker = Worker(process, path)
        self.workers.append(worker)
        return worker

    def run(
        self,
        command: Sequence[str | Path],
        environment: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> "subprocess.CompletedProcess[str]":
        """Run a client's command to its end, whatever its exit status."""
        return subprocess.run(
            command, env=self.environment | dict(environment or {}), cwd=cwd or self.directory,
            capture_output=True, text=True, timeout=180,
        )  # fmt: skip

    def request(self, method: str, path: str, body: Any = None) -> Any:
        """Return what the API answers, as any HTTP client gets it."""
        answer = answered(method, f"{self.api_url}{path}", json=body, auth=self.credentials)
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.directory / "server.log").read_text(errors="replace")
        try:
            answer = httpx.get(f"{self.api_url}/health", auth=self.credentials, timeout=5, trust_env=False)
        except httpx.TransportError:
            return False
        return answer.is_success


def answered(method: str, url: str, **request: Any) -> httpx.Response:
    """Return what Prefect's server answers, which says 503 while its database is busy: ask for a minute."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        answer = httpx.request(method, url, timeout=30, trust_env=False, **request)
        if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE or time.monotonic() >= deadline:
            return answer
        time.sleep(0.5)


@contextmanager
def prefect_server(database_url: str = "", auth: str = AUTH) -> Iterator[PrefectServer]:
    """Run a server; it ends with all its workers and their runs."""
    server = PrefectServer(auth, database_url)
    try:
        server.start()
        yield server
    finally:
        server.stop()


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End a process and those it started, which share its session."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.wait()
