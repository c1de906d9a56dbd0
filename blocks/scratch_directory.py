"""Where a scratch server lies: directories that nobody else enters, held by a lock while they are used.

A directory that nobody holds belongs to a run that was killed: `sweep_scratch` ends its server and clears it.
Started as root, the server runs as another user, whom other services may run as too. A group that only
this one server has keeps these out of its directory.
"""

import fcntl
import os
import pwd
import secrets
import shutil
import signal
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from blocks.errors import ScratchError
from blocks.pgtools import ServerPrograms

PREFIX = "pgsalvo-scratch-"
DATA_NAME = "data"

_NOBODY = 65534
_UNUSED_GROUPS = range(61184, 65520)  # what systemd draws its transient users from: given to nobody for good
_STOP_SECONDS = 10.0


@dataclass(frozen=True)
class Account:
    """The user and the group that a server started by root runs as."""

    uid: int
    gid: int


def server_account() -> Account | None:
    """Return whom the server runs as if we are root, whom PostgreSQL refuses; None means as ourselves."""
    if os.geteuid() != 0:
        return None
    existing = {entry.pw_uid for entry in pwd.getpwall() if entry.pw_uid != 0}
    if not existing:
        raise ScratchError("there is no user but root, and PostgreSQL does not run as root", "add a user")
    return Account(_NOBODY if _NOBODY in existing else min(existing), secrets.choice(_UNUSED_GROUPS))


def can_enter(directory: Path, account: Account) -> bool:
    """Tell whether the account may pass through a directory and all above it."""
    return all(_grants(path, account, stat.S_IXUSR, stat.S_IXOTH) for path in _with_parents(directory))


def can_run(program: Path, account: Account) -> bool:
    """Tell whether the account reaches a program and may run it."""
    program = program.resolve()
    return can_enter(program.parent, account) and _grants(program, account, stat.S_IXUSR, stat.S_IXOTH)


def scratch_root(root: Path, account: Account | None = None) -> Path:
    """Return the directory that a scratch server asked for below `root` really lies in.

    It is `root`, or the temporary directory if the server's user cannot enter `root`.
    """
    account = account or server_account()
    for place in (root.absolute(), Path(tempfile.gettempdir())):
        try:
            place.mkdir(parents=True, exist_ok=True, mode=0o711 if account else 0o700)
        except OSError as error:
            raise ScratchError(f"cannot make the directory {place}: {error.strerror}") from error
        if account is None or can_enter(place, account):
            return place
    name = pwd.getpwuid(account.uid).pw_name if account else ""
    raise ScratchError(
        f"the scratch server's user, {name}, can enter neither {root} nor the temporary directory",
        f"`chmod o+x {root}` and the directories above it, or do not run as root",
    )


@contextmanager
def held_directory(root: Path, account: Account | None) -> Iterator[Path]:
    """Make a directory below `root`, hold it by a lock beside it, and remove it at the end."""
    descriptor, lock_path = _new_lock(root)
    directory = lock_path.with_suffix("")
    try:
        directory.mkdir(mode=0o700)
        if account is not None:
            os.chown(directory, 0, account.gid)
            directory.chmod(0o710)
        yield directory
    finally:
        _remove(directory, lock_path)
        os.close(descriptor)


def private_directory(path: Path, account: Account | None) -> Path:
    """Make a directory that belongs to the server's user."""
    path.mkdir(mode=0o700)
    if account is not None:
        os.chown(path, account.uid, account.gid)
    return path


def within_reach(programs: ServerPrograms, directory: Path, account: Account | None) -> ServerPrograms:
    """Return the programs, copied into `directory` if the server's user cannot reach them (in /root, say)."""
    if account is None or can_run(programs.postgres, account):
        return programs
    installed = programs.postgres.resolve().parent.parent
    copy = private_directory(directory / "install", account)
    for name in ("bin", "lib", "share"):
        if (installed / name).is_dir():
            shutil.copytree(installed / name, copy / name, symlinks=True)
    for path in copy.rglob("*"):
        os.chown(path, account.uid, account.gid, follow_symlinks=False)
    libraries = copy / "lib" if programs.library_path else None
    return replace(programs, bin_directory=copy / "bin", library_path=libraries)


def sweep_scratch(root: Path) -> list[Path]:
    """Stop the servers and remove the directories that killed runs left.

    Args:
        root: Where they were asked for; the temporary directory, where they may lie instead, is swept too.

    Returns:
        The directories that were removed.
    """
    places = dict.fromkeys((root.absolute(), Path(tempfile.gettempdir())))
    locks = [lock_path for place in places for lock_path in sorted(place.glob(f"{PREFIX}*.lock"))]
    return [lock_path.with_suffix("") for lock_path in locks if _swept(lock_path)]


def _swept(lock_path: Path) -> bool:
    """Clear what a lock stood for, unless somebody holds it or it is not ours."""
    try:
        descriptor = os.open(lock_path, os.O_RDWR | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        if os.fstat(descriptor).st_uid != os.geteuid():
            return False
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        directory = lock_path.with_suffix("")
        stop_server(directory / DATA_NAME)
        return _remove(directory, lock_path)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)


def _new_lock(root: Path) -> tuple[int, Path]:
    """Return a locked new file; a sweep may take one away between its making and its locking."""
    while True:
        descriptor, name = tempfile.mkstemp(prefix=PREFIX, suffix=".lock", dir=root)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if Path(name).exists():
            return descriptor, Path(name)
        os.close(descriptor)


def _remove(directory: Path, lock_path: Path) -> bool:
    """Remove a directory, and its lock only once that is done: what remains is swept another time."""
    shutil.rmtree(directory, ignore_errors=True)
    if directory.exists():
        return False
    lock_path.unlink(missing_ok=True)
    return True


def stop_server(data: Path) -> None:
    """End the server of a data directory, if one is running."""
    for how in (signal.SIGQUIT, signal.SIGKILL):
        deadline = time.monotonic() + _STOP_SECONDS
        if (pid := _server_of(data)) is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, how)
        while _server_of(data) is not None and time.monotonic() < deadline:
            time.sleep(0.02)


def _server_of(data: Path) -> int | None:
    """Return the process that serves a data directory.

    The number in postmaster.pid may be another process's by now: only one that works in this very directory
    is the server. Where there is no /proc, the server ends by itself within a minute of losing the file.
    """
    try:
        pid = int((data / "postmaster.pid").read_text().split("\n")[0])
        return pid if Path(f"/proc/{pid}/cwd").readlink() == data.resolve() else None
    except (OSError, ValueError):
        return None


def _grants(path: Path, account: Account, as_owner: int, as_other: int) -> bool:
    status = path.stat()
    return bool(status.st_mode & (as_owner if status.st_uid == account.uid else as_other))


def _with_parents(directory: Path) -> tuple[Path, ...]:
    resolved = directory.resolve()
    return (resolved, *resolved.parents)
