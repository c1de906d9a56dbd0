"""`pgsalvo demo`: the main job on a sample database, in `.demo/` of the current directory.

Nothing outside of it is touched: Prefect keeps its data there too, and what the environment says of other
Prefect servers and databases does not count. Only one demo runs in a directory, and what a killed one left
running is ended first.
"""

import argparse
import fcntl
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DIRECTORY_NAME = ".demo"
MARK = "PGSALVO_DEMO"  # in the environment of whatever the demo starts


def main() -> int:
    """Run the demo and return its exit status."""
    options = _options()
    directory = Path(DIRECTORY_NAME).absolute()
    try:
        directory.mkdir(mode=0o711, exist_ok=True)
        _enter(directory)
    except OSError as error:
        print(f"error: cannot use {directory}: {error.strerror}", file=sys.stderr)  # noqa: T201
        return 1
    from deployments import demo_story, demo_terminal, demo_ui  # Prefect reads the environment at its import

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, demo_terminal.interrupt)
    with demo_terminal.errors_in_one_line() as ending, _alone():
        _end_leftovers(directory)
        if options.ui:
            demo_ui.show(directory)
        else:
            demo_story.show(directory, keep=options.keep)
    return ending.status


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="pgsalvo demo", description=__doc__.partition("\n")[0])
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--keep", action="store_true", help="leave the sample database up until Ctrl-C")
    how.add_argument("--ui", action="store_true", help="run it by Prefect's server and workers, with the UI")
    return parser.parse_args()


def _enter(directory: Path) -> None:
    """Work inside `directory`, where no .env or prefect.toml of the current directory counts."""
    os.chdir(directory)
    for name in list(os.environ):
        if name.startswith(("PREFECT_", "PG")) and name != "PGSALVO_TOOLS_DIRECTORY":
            del os.environ[name]
    os.environ |= {
        MARK: str(directory),
        "DO_NOT_TRACK": "1",
        "PGSALVO_PLANS": str(directory / "plans.toml"),
        "PREFECT_HOME": str(directory / "prefect"),
        "PREFECT_LOGGING_ROOT_LEVEL": "CRITICAL",
        "PREFECT_LOGGING_SERVER_LEVEL": "CRITICAL",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "90",
    }


@contextmanager
def _alone() -> Iterator[None]:
    """Keep other demos out of this directory."""
    with Path("lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BlockingIOError(error.errno, "another demo is running there", str(Path.cwd())) from error
        yield


def _end_leftovers(directory: Path) -> None:
    """End the Prefect servers and workers of a demo that was killed; where there is no /proc, they stay."""
    mark = f"{MARK}={directory}".encode()
    for environment in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark in environment.read_bytes().split(b"\0"):
                os.kill(int(environment.parent.name), signal.SIGKILL)
        except OSError:  # another user's, or gone meanwhile
            continue


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:  # before anything was started
        sys.exit(130)
