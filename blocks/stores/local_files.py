"""The files below a directory, as far as they can be objects or the parts of one."""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from blocks.stores.base import is_key
from blocks.stores.links import leads_up
from blocks.stores.local_errors import translated

LOST_AND_FOUND = "lost+found/"


def files_below(root: Path, prefix: str) -> Iterator[tuple[str, str, os.stat_result]]:
    """Yield (folder with its slash, name, status) of the files whose keys may begin with `prefix`."""
    folder, slash, _ = prefix.rpartition("/")
    if slash and not is_key(folder):
        return
    folders = [folder + slash]
    while folders:
        folder = folders.pop()
        with translated(f"cannot list {folder} on {root}"):
            entries = _entries(root / folder)
        for name, found in entries:
            below = f"{folder}{name}/"
            if stat.S_ISREG(found.st_mode):
                yield folder, name, found
            elif stat.S_ISDIR(found.st_mode) and below.startswith(prefix) and below != LOST_AND_FOUND:
                folders.append(below)


def _entries(directory: Path) -> list[tuple[str, os.stat_result]]:
    """Return (name, status) of what is in a directory and can have a key.

    Left out is what vanishes meanwhile, and a link that leads back up or nowhere.
    """
    found = []
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(directory) as entries:
        for entry in entries:
            try:
                if is_key(entry.name) and not (entry.is_symlink() and leads_up(entry.path, os.path.realpath)):
                    found.append((entry.name, entry.stat()))
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.ELOOP):
                    raise
    return found
