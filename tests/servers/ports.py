"""Free ports for the servers that tests start, and waiting until one answers."""

import socket
import time
from collections.abc import Callable


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def wait_until(answers: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
    """Poll `answers` until it is true; fail loudly after `seconds`."""
    deadline = time.monotonic() + seconds
    while not answers():
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come up within {seconds:g} s")
        time.sleep(0.02)


def accepts(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False
