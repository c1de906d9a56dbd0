"""How `gpg` is called: its argv, the homedirs it is given, and the agent it leaves running.

No call uses the operator's own ~/.gnupg. A homedir made here is throw-away, lies in memory where the
system has a place for that, and is cleared by the next run if this one is killed.
"""

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from blocks.errors import ConfigurationError, ProgramMissing
from blocks.process import Command, Completed, Process, run

INSTALL_HINT = (
    "install GnuPG: apt-get install gnupg (Debian, Ubuntu), dnf install gnupg2 (Fedora, RHEL, Amazon Linux), "
    "apk add gnupg (Alpine), brew install gnupg (macOS)"
)
HOMEDIR_PREFIX = "pgsalvo-gpg-"
# The agent's socket lies in the homedir, and a socket's whole path may have about 107 bytes.
LONGEST_HOMEDIR = 90
# A homedir younger than this may not have been locked yet by the run that is making it.
SWEPT_AFTER_SECONDS = 60.0


@dataclass(frozen=True)
class PreparedRecipients:
    """Public keys that were inspected and lie in a throw-away homedir, one file a key.

    Args:
        fingerprints: Of the primary keys, upper-case hex, in the order of `files`.
        warnings: Sentences about keys that expire soon.
    """

    homedir: Path
    files: tuple[Path, ...]
    fingerprints: tuple[str, ...]
    warnings: tuple[str, ...] = ()

    def command(self, status_fd: int) -> Command:
        """Return the call that encrypts stdin to every recipient.

        gpg's own compression is ten times slower than it and zstd ran before; `--recipient-file` needs no
        import, no agent and no trust database, and uses a file's first key only.
        """
        recipients = (argument for file in self.files for argument in ("--recipient-file", str(file)))
        argv = (
            *("gpg", "--homedir", str(self.homedir), "--batch", "--no-tty", "--no-autostart"),
            *("--trust-model", "always", "--no-auto-key-locate", "--status-fd", str(status_fd)),
            *("--compress-algo", "none", "--cipher-algo", "AES256", *recipients, "--encrypt"),
        )
        return Command(argv, pass_fds=(status_fd,))


@dataclass(frozen=True)
class UnlockedKey:
    """A homedir that holds secret keys, and what opens them; valid inside the block's `unlock` only."""

    homedir: Path
    fingerprints: tuple[str, ...]
    passphrase: str = field(repr=False, default="")

    def command(self, status_fd: int, passphrase_fd: int) -> Command:
        """Return the call that decrypts stdin; a homedir's own gpg.conf could weaken it and is not read."""
        argv = (
            *("gpg", "--homedir", str(self.homedir), "--no-options", "--batch", "--no-tty"),
            *("--no-auto-key-locate", "--no-auto-check-trustdb", "--status-fd", str(status_fd)),
            *("--pinentry-mode", "loopback", "--passphrase-fd", str(passphrase_fd), "--decrypt"),
        )
        return Command(argv, pass_fds=(status_fd, passphrase_fd))


def gpg_version() -> str:
    """Return the version of the gpg on PATH, such as 2.2.40; raise `ProgramMissing` without one."""
    first_line = _run(("gpg", "--version")).stdout.decode(errors="replace").partition("\n")[0]
    return first_line.rpartition(" ")[2]


def run_gpg(homedir: Path, *arguments: str, stdin: bytes = b"", pass_fds: tuple[int, ...] = ()) -> Completed:
    """Run a short call of gpg, whatever its exit status."""
    argv = ("gpg", "--homedir", str(homedir), "--no-options", "--batch", "--no-tty", *arguments)
    return _run(argv, stdin, pass_fds)


def start_gpg(command: Command) -> Process:
    """Start gpg as a link of a stream; its stdin waits to be fed."""
    try:
        return Process(command, feed=True)
    except ProgramMissing as error:
        raise ProgramMissing(error.message, INSTALL_HINT) from error


@contextmanager
def secret_pipe(secret: str) -> Iterator[int]:
    """Yield a descriptor from which one program reads `secret`, as `--passphrase-fd` wants it."""
    reading, writing = os.pipe()
    try:
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(secret.encode())
        yield reading
    finally:
        os.close(reading)


@contextmanager
def throwaway_homedir() -> Iterator[Path]:
    """Yield a new 0700 homedir and remove it; clear first what killed runs left behind."""
    root = _homedir_root()
    _sweep(root)
    homedir = Path(tempfile.mkdtemp(prefix=HOMEDIR_PREFIX, dir=root))
    lock = os.open(homedir, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield homedir
    finally:
        shutil.rmtree(homedir, ignore_errors=True)
        os.close(lock)


@contextmanager
def agent_ended(homedir: Path) -> Iterator[None]:
    """End the agent that gpg starts in `homedir`, unless one was running there before."""
    running = bool(
        _run(("gpg-connect-agent", "--homedir", str(homedir), "--no-autostart", "GETINFO pid", "/bye")).stdout
    )
    try:
        yield
    finally:
        if not running:
            _run(("gpgconf", "--homedir", str(homedir), "--kill", "gpg-agent"))


def _run(argv: tuple[str, ...], stdin: bytes = b"", pass_fds: tuple[int, ...] = ()) -> Completed:
    try:
        return run(Command(argv, pass_fds=pass_fds), stdin=stdin)
    except ProgramMissing as error:
        raise ProgramMissing(error.message, INSTALL_HINT) from error


def _homedir_root() -> Path:
    longest_root = LONGEST_HOMEDIR - len(f"/{HOMEDIR_PREFIX}12345678")
    for root in (Path("/dev/shm"), Path(tempfile.gettempdir()), Path("/tmp")):  # noqa: S108 - mkdtemp below them
        if root.is_dir() and os.access(root, os.W_OK | os.X_OK) and len(str(root)) <= longest_root:
            return root
    raise ConfigurationError(
        "no directory for gpg's temporary files", "set TMPDIR to a short path that we may write to"
    )


def _sweep(root: Path) -> None:
    """Remove the homedirs of killed runs of ours; an agent that lives in one ends by itself."""
    for homedir in root.glob(f"{HOMEDIR_PREFIX}*"):
        try:
            found = homedir.lstat()
            if found.st_uid != os.geteuid() or time.time() - found.st_mtime < SWEPT_AFTER_SECONDS:
                continue
            lock = os.open(homedir, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(homedir, ignore_errors=True)
        except BlockingIOError:
            continue
        finally:
            os.close(lock)
