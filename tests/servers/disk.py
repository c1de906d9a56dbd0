"""Directories on local disk: one that is soon full, and the end of one."""

import resource
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def remove(directory: Path) -> None:
    """Remove a directory, also while an agent that ends just now removes its own sockets from it."""
    while directory.exists():
        with suppress(FileNotFoundError):
            shutil.rmtree(directory)


@contextmanager
def small_disk(directory: Path, size_bytes: int) -> Iterator[Path]:
    """Yield a directory in which there is room for so many bytes only.

    It is a file system in memory. Who may not mount one gets a limit on every file of this process instead.
    """
    directory.mkdir()
    options = ("-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", str(directory))
    if subprocess.run(("mount", *options), capture_output=True, check=False).returncode == 0:
        try:
            yield directory
        finally:
            subprocess.run(("umount", str(directory)), check=True)
            directory.rmdir()
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield directory
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        shutil.rmtree(directory)
