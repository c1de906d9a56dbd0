"""Programs that are no children of ours: we start a client, and the program itself runs elsewhere.

A container's, of which `docker run` is only the client. Two things do not go without saying then:

- its output. Docker passes it on through its daemon, which gives up two seconds after the program's end if
  we read slowly: bytes are missing then, and the exit status is 0. So it goes straight to us, by a FIFO.
- its end. It outlives its client, and us. So a watchdog stands by that ends it, even if we are killed.
"""

import os
import subprocess
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

# Whoever was killed with us may have a start still on its way: it is ended a little later.
_SCRIPT = """
trap '' HUP INT TERM
read -r word && exit
"$@" </dev/null
for seconds in 1 2 4 8; do sleep $seconds; "$@" </dev/null; done &
"""
_BITE_SECONDS = 20.0


@dataclass(frozen=True)
class Elsewhere:
    """What belongs to a program that is no child of ours.

    Args:
        name: The program's own name, for messages.
        clean_up: argv that ends the program, whatever became of its client; there may be nothing to end.
        output: Path of a FIFO to be made, which the program writes to; None if it writes to its client.
        directory: Where its client is started, and may leave what it likes; None is where we are.
    """

    name: str
    clean_up: tuple[str, ...]
    output: Path | None = None
    directory: Path | None = None


class Watchdog:
    """A child in a session of its own that runs `argv` when it is let loose, or when we are gone."""

    def __init__(self, argv: tuple[str, ...], environment: Mapping[str, str]) -> None:
        self._popen = subprocess.Popen(
            ("sh", "-c", _SCRIPT, "watchdog", *argv),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=dict(environment),
            cwd="/",
            start_new_session=True,
        )

    def dismiss(self) -> None:
        """Let it go: there is nothing to do for it."""
        self._end(b"dismissed\n")

    def let_loose(self) -> None:
        """Let it run `argv`, and wait until that was done once."""
        self._end(b"")

    def _end(self, word: bytes) -> None:
        with suppress(BrokenPipeError, subprocess.TimeoutExpired):
            self._popen.communicate(word, _BITE_SECONDS)


class Tether:
    """What ties a program elsewhere to the client that we start; nothing if there is no such program."""

    def __init__(self, elsewhere: Elsewhere | None, environment: Mapping[str, str]) -> None:
        self.stdout = subprocess.PIPE
        self.directory = elsewhere.directory if elsewhere else None
        self._output = elsewhere.output if elsewhere else None
        self._reader: int | None = None
        if self._output is not None:
            self._reader, self.stdout = _fifo(self._output)
        self._watchdog = Watchdog(elsewhere.clean_up, environment) if elsewhere else None
        self._lock = threading.Lock()

    def attach(self, client: "subprocess.Popen[bytes]") -> None:
        """Make the FIFO the client's stdout: its end is there when both have ended, client and program."""
        if self._reader is not None:
            os.close(self.stdout)
            client.stdout = open(self._reader, "rb", buffering=0)  # noqa: PTH123, SIM115 - a descriptor
            self._reader = None

    def end(self, status: int) -> None:
        """End the program unless the client's exit status says that all went well. Safe to repeat."""
        with self._lock:
            watchdog, self._watchdog = self._watchdog, None
            if watchdog is not None and status == 0:
                watchdog.dismiss()
            elif watchdog is not None:
                watchdog.let_loose()
            if self._reader is not None:
                os.close(self.stdout)
                os.close(self._reader)
                self._reader = None
            if self._output is not None:
                self._output.unlink(missing_ok=True)


def _fifo(path: Path) -> tuple[int, int]:
    """Make a FIFO and open both of its ends, as without a writer its reader would be at the end at once."""
    os.mkfifo(path, 0o600)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(path, os.O_WRONLY)
    os.set_blocking(reader, True)
    return reader, writer
