"""How programs are started, fed, watched and ended: the only place that does.

argv is a tuple and holds no secret; the environment is a short list of harmless variables plus what
the caller adds. A program is ended with SIGTERM first (pg_dump then cancels its query on the server),
and with SIGKILL after five seconds.
"""

import fcntl
import os
import re
import select
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, BinaryIO

from blocks.elsewhere import Elsewhere, Tether
from blocks.errors import ProgramFailed, ProgramMissing, ProgramSilent
from blocks.spool import CHUNK_BYTES

TERMINATION_SECONDS = 5.0
PIPE_BYTES = 256 << 10  # with Linux's 64 KiB the two ends wake each other more often: 15 % more core-seconds
STDERR_LINES = 2_000
KILLED_HINT = "if nobody did that on purpose, memory may have run out: the kernel's log (dmesg) tells"
SILENCE_HINT = "see in pg_stat_activity what its session waits for, or raise silence_seconds"
_INHERITED = ("PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "TZ", "KRB5CCNAME", "KRB5_CONFIG", "SSL_CERT_FILE")


@dataclass(frozen=True)
class Command:
    """A program's call: a pure value that tests compare.

    Args:
        argv: Program and arguments; never a secret.
        environment: Added to the few inherited variables.
        pass_fds: Descriptors that the program inherits under the same numbers.
        uid: Run as this user and group (needs root); None keeps ours.
        gid: A group other than the user's own number.
        isolated: Inherit no variable but PATH, and start in `/`: for a server that runs what others wrote.
        elsewhere: What is to be known if argv is only the client of a program that is no child of ours.
    """

    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    pass_fds: tuple[int, ...] = ()
    uid: int | None = None
    gid: int | None = None
    isolated: bool = False
    elsewhere: Elsewhere | None = None

    @property
    def name(self) -> str:
        return self.elsewhere.name if self.elsewhere else Path(self.argv[0]).name


class Process:
    """A running program; use it as a context manager, which ends it if it still runs."""

    def __init__(self, command: Command, *, feed: bool = False) -> None:
        self.command = command
        environment = _environment(command)
        self._tether = Tether(command.elsewhere, environment)
        try:
            self._popen = subprocess.Popen(
                command.argv,
                stdin=subprocess.PIPE if feed else subprocess.DEVNULL,
                stdout=self._tether.stdout,
                stderr=subprocess.PIPE,
                env=environment,
                cwd="/" if command.isolated else self._tether.directory,
                pass_fds=command.pass_fds,
                bufsize=0,
                **_identity(command),
            )
        except OSError as error:
            self._tether.end(0)
            raise ProgramMissing(f"cannot start {command.argv[0]}: {error.strerror}") from error
        self._tether.attach(self._popen)
        _widen(self._popen.stdin)
        _widen(self._popen.stdout)
        self._stderr: deque[str] = deque(maxlen=STDERR_LINES)
        self._stderr_reader = threading.Thread(target=self._collect_stderr, daemon=True)
        self._stderr_reader.start()

    @property
    def pid(self) -> int:
        return int(self._popen.pid)

    @property
    def stdin(self) -> BinaryIO:
        assert self._popen.stdin is not None, "started without feed=True"  # noqa: S101
        return self._popen.stdin  # type: ignore[return-value]

    @property
    def stderr_lines(self) -> list[str]:
        """The last lines that the program wrote to stderr; complete once it has ended."""
        return list(self._stderr)

    def chunks(self, silence_seconds: float | None = None) -> Iterator[bytes]:
        """Yield stdout until its end.

        Raises:
            ProgramSilent: No byte came for `silence_seconds` while we were waiting for one; the time that
                the consumer takes does not count.
        """
        assert self._popen.stdout is not None  # noqa: S101 - always piped
        descriptor = self._popen.stdout.fileno()
        while True:
            if silence_seconds is not None and not select.select([descriptor], [], [], silence_seconds)[0]:
                raise ProgramSilent(
                    f"{self.command.name} gave no byte for {silence_seconds:g} s", SILENCE_HINT
                )
            chunk = os.read(descriptor, CHUNK_BYTES)
            if not chunk:
                return
            yield chunk

    def feed(self, chunks: Iterable[bytes]) -> bool:
        """Write chunks to stdin and close it; return False if the program stopped reading before the end.

        What `chunks` raises is passed on with stdin still open, since closing it would tell the program
        that the stream ended well: stop the program first.
        """
        try:
            for chunk in chunks:
                view = memoryview(chunk)
                while view:
                    view = view[self.stdin.write(view) :]
            self.stdin.close()
        except BrokenPipeError:
            return False
        return True

    def wait(self, timeout_seconds: float | None = None) -> int:
        """Wait for the end and return the exit status, negative for a signal."""
        status = self._popen.wait(timeout_seconds)
        self._stderr_reader.join(TERMINATION_SECONDS)
        return int(status)

    def check(self, timeout_seconds: float | None = None) -> None:
        """Wait for the end; raise `ProgramFailed` with the program's own first error unless it exited 0."""
        status = self.wait(timeout_seconds)
        if status != 0:
            raise program_failed(self.command.name, status, self.stderr_lines)

    def stop(self, cause: BaseException | None = None) -> None:  # noqa: ARG002 - a Chain's stop
        """End the program: SIGTERM, and SIGKILL after five seconds. Safe to call at any time, repeatedly."""
        if self._popen.poll() is None:
            self._popen.terminate()
            timer = threading.Timer(TERMINATION_SECONDS, self._kill)
            timer.daemon = True  # it must not hold up the end of a process that has nothing else to do
            timer.start()
        else:
            self._tether.end(self._popen.returncode)

    def kill(self) -> None:
        """End the program at once and wait until it is gone."""
        self._kill()
        self._tether.end(self._popen.wait())

    def _kill(self) -> None:
        if self._popen.poll() is None:
            self._popen.kill()
            self._tether.end(-signal.SIGKILL)

    def _collect_stderr(self) -> None:
        assert self._popen.stderr is not None  # noqa: S101 - always piped
        with self._popen.stderr as stream:
            rest = b""
            while chunk := stream.read(65536):
                *lines, rest = (rest + chunk).split(b"\n")
                self._stderr.extend(line.decode(errors="replace") for line in lines)
                rest = rest[-65536:]
            if rest:
                self._stderr.append(rest.decode(errors="replace"))

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *_: object) -> None:
        if self._popen.poll() is None:
            self._popen.terminate()
            try:
                self._popen.wait(TERMINATION_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()
        self._tether.end(self._popen.returncode)
        for stream in (self._popen.stdin, self._popen.stdout):
            if stream is not None:
                try:
                    stream.close()
                except BrokenPipeError:
                    continue


@dataclass(frozen=True)
class Completed:
    """What a short program left: its exit status (negative for a signal), stdout and stderr lines."""

    status: int
    stdout: bytes
    stderr_lines: list[str]


def run(command: Command, *, stdin: bytes = b"", timeout_seconds: float = 60.0) -> Completed:
    """Run a short program whose output fits in memory, whatever its exit status.

    Raises:
        ProgramMissing: It cannot be started.
        ProgramSilent: It did not end within `timeout_seconds`.
    """
    with Process(command, feed=True) as process:
        overdue = threading.Event()

        def end() -> None:
            overdue.set()
            process.stop()

        timer = threading.Timer(timeout_seconds, end)
        timer.daemon = True
        timer.start()
        try:
            feeder = threading.Thread(target=process.feed, args=([stdin],), daemon=True)
            feeder.start()
            stdout = b"".join(process.chunks())
            status = process.wait()
        finally:
            timer.cancel()
        feeder.join()
    if overdue.is_set() and status != 0:
        raise ProgramSilent(f"{command.name} did not end within {timeout_seconds:g} s")
    return Completed(status, stdout, process.stderr_lines)


def run_checked(command: Command, *, stdin: bytes = b"", timeout_seconds: float = 60.0) -> bytes:
    """Run a short program and return its stdout; raise `ProgramFailed` unless it exited 0."""
    completed = run(command, stdin=stdin, timeout_seconds=timeout_seconds)
    if completed.status != 0:
        raise program_failed(command.name, completed.status, completed.stderr_lines)
    return completed.stdout


@contextmanager
def secret_file(content: bytes) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Hold `content` where only we and the programs that we start can read it; yield (path, pass_fds).

    On Linux an anonymous memory file, elsewhere a 0600 file that is removed.
    """
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("pgsalvo", 0)
        try:
            os.fchmod(descriptor, 0o600)
            os.write(descriptor, content)
            yield f"/proc/self/fd/{descriptor}", (descriptor,)
        finally:
            os.close(descriptor)
        return
    import tempfile

    with tempfile.NamedTemporaryFile("wb") as file:
        file.write(content)
        file.flush()
        yield file.name, ()


def _widen(pipe: IO[bytes] | None) -> None:
    """Let a pipe hold more, where the system can and this user's pipes do not hold too much already."""
    if sys.platform == "linux" and pipe is not None:
        with suppress(OSError):
            fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, PIPE_BYTES)


# What a program itself says, as against words that the server quotes from a row.
_ERROR_LINE = re.compile(
    r"\s*(?:[\w./-]+: )*(?:error|fatal|panic|failed|detail: error message from server)\b", re.IGNORECASE
)
_ROWS_LINE = re.compile(r"\s*(?:DETAIL|CONTEXT|HINT|STATEMENT|QUERY|LINE \d+):")


def program_failed(name: str, status: int, stderr_lines: list[str]) -> ProgramFailed:
    """Return the error for a program that did not exit 0."""
    return ProgramFailed(failure_text(name, status, stderr_lines), KILLED_HINT if status < 0 else "")


def failure_text(name: str, status: int, stderr_lines: list[str]) -> str:
    """Say in one line how a program ended, with its own first error.

    The server's DETAIL, CONTEXT, QUERY and HINT lines may hold row values and are left out.
    """
    how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with exit status {status}"
    errors = [line for line in stderr_lines if _is_error(line)]
    said = "; ".join(line.strip() for line in errors[:2])
    return f"{name} {how}: {said}" if said else f"{name} {how}"


def _is_error(line: str) -> bool:
    return bool(_ERROR_LINE.match(line)) and not _ROWS_LINE.match(line)


def _environment(command: Command) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if _is_inherited(name, command)}
    return inherited | {"LC_ALL": "C.UTF-8"} | dict(command.environment)


def _is_inherited(name: str, command: Command) -> bool:
    return name == "PATH" or (not command.isolated and (name in _INHERITED or name.startswith("PG")))


def _identity(command: Command) -> dict[str, Any]:
    if command.uid is None:
        return {}
    group = command.uid if command.gid is None else command.gid
    return {"user": command.uid, "group": group, "extra_groups": []}
