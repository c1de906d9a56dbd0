"""How a file appears in a directory whole or not at all, and outlasts a power cut."""

import contextlib
import errno
import os
import re
import secrets
from pathlib import Path

DIRECTORY_MODE = 0o750
FILE_MODE = 0o640
MOST_TRIES = 100

_PART = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{8}\.part")
_NO_HARD_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
_NO_DIRECTORY_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EBADF}


def meant_name(name: str) -> str | None:
    """Return the name that a part was to get, or None if `name` is not a part's."""
    part = _PART.fullmatch(name)
    return part["name"] if part else None


class PartFile:
    """A file under a hidden name beside the place where it is to appear."""

    def __init__(self, target: Path) -> None:
        self.path = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
        self._target = target
        self._descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE)

    def write(self, chunk: bytes) -> None:
        view = memoryview(chunk)
        while view:
            view = view[os.write(self._descriptor, view) :]

    def replace(self) -> None:
        """Give the file its name, whatever bore it before."""
        os.fsync(self._descriptor)
        self.path.replace(self._target)
        sync_directory(self.path.parent)

    def link(self) -> None:
        """Give the file its name; raise `FileExistsError` if something bears it."""
        os.fsync(self._descriptor)
        try:
            os.link(self.path, self._target)
        except OSError as error:
            # no hard links here: the caller has looked before, and names of backups are random
            if error.errno not in _NO_HARD_LINKS:
                raise
            self.path.replace(self._target)
        sync_directory(self.path.parent)

    def close(self) -> None:
        """Remove the hidden name; where even that fails it is litter, to be cleared later."""
        with contextlib.suppress(OSError):
            os.close(self._descriptor)
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)


def open_part(target: Path) -> PartFile:
    """Open a part for `target`, making the directories that are missing."""
    # a deletion may remove an empty directory again before the part is in it
    for _ in range(MOST_TRIES):
        with contextlib.suppress(FileNotFoundError):
            make_directory(target.parent)
            return PartFile(target)
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))


def make_directory(directory: Path) -> None:
    """Make a directory and those above it, lastingly; the umask may narrow their mode."""
    missing = [directory, *directory.parents]
    while missing and missing[-1].is_dir():
        missing.pop()
    for path in reversed(missing):
        with contextlib.suppress(FileExistsError):
            path.mkdir(mode=DIRECTORY_MODE)
        sync_directory(path.parent)


def remove_empty(directory: Path, root: Path) -> None:
    """Remove a directory and those above it up to `root`, which stays, as far as they are empty."""
    while directory != root:
        try:
            directory.rmdir()
        except OSError:
            return
        directory = directory.parent


def sync_directory(directory: Path) -> None:
    """Let what was done to a directory's names outlast a power cut."""
    with contextlib.suppress(FileNotFoundError):
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        except OSError as error:
            # some network file systems know no such thing
            if error.errno not in _NO_DIRECTORY_SYNC:
                raise
        finally:
            os.close(descriptor)
