"""Directories and files over SFTP: how a file appears whole or not at all, and what lies below a folder."""

import contextlib
import posixpath
import secrets
import stat
from collections.abc import Iterator

from paramiko.sftp import SFTP_NO_SUCH_FILE
from paramiko.sftp_attr import SFTPAttributes

from blocks.stores.links import leads_up
from blocks.stores.part_file import DIRECTORY_MODE, MOST_TRIES, meant_name
from blocks.stores.sftp_errors import Refusal
from blocks.stores.sftp_session import Room, Session, Writer

LOST_AND_FOUND = "lost+found/"
CLOCK = "clock"
ABANDONED_AFTER_SECONDS = 24 * 3600


class Part:
    """A file under a hidden name beside the place where it is to appear."""

    def __init__(self, session: Session, target: str) -> None:
        folder, name = posixpath.split(target)
        self.path = posixpath.join(folder, f".{name}.{secrets.token_hex(4)}.part")
        self._session, self._target = session, target
        self._handle = session.create(self.path)
        self._writer = Writer(session, self._handle)
        self._is_open = True

    def write(self, chunk: bytes) -> None:
        self._writer.write(chunk)

    def look_at(self) -> SFTPAttributes:
        return self._session.look_at(self._handle)

    def finish(self) -> int:
        """Wait until all is written; return how large the server says that the file is."""
        self._writer.finish()
        self._session.flush_to_disk(self._handle)
        size_bytes = self.look_at().st_size or 0
        self._is_open = False
        self._session.close_handle(self._handle)
        return size_bytes

    def replace(self) -> None:
        """Give the file its name, whatever bore it before.

        On a server without the extension for that, what bears the name may have to be removed first: for a
        moment there is no such file.
        """
        try:
            self._session.posix_rename(self.path, self._target)
        except Refusal as refusal:
            if not self._session.lacks_posix_rename(refusal):
                raise
            self._replace_by_removal()

    def _replace_by_removal(self) -> None:
        try:
            self._session.rename(self.path, self._target)
        except Refusal as refusal:
            if refusal.is_missing or not is_file(self._session, self._target):
                raise
            self._session.remove(self._target)
            self._session.rename(self.path, self._target)

    def rename(self) -> None:
        """Give the file its name; the protocol has the server refuse if something bears it."""
        self._session.rename(self.path, self._target)

    def remove(self) -> None:
        """Remove the hidden name; where even that fails it is litter, to be cleared later."""
        with contextlib.suppress(Exception):
            if self._is_open:
                self._session.close_handle(self._handle)
            self._session.remove(self.path)


class Directory:
    """A directory on the server, over one session.

    Args:
        root: What keys are relative to.
        top: The highest directory that may be made; `root` or above it.
    """

    def __init__(self, session: Session, root: str, top: str) -> None:
        self._session, self._root, self._top = session, root, top

    @property
    def is_reachable(self) -> bool:
        return self._session.is_open

    def hang_up(self) -> None:
        self._session.close()

    def problem(self) -> str:
        """Say why keys cannot be there, "" where they could; a directory that will be made is no problem."""
        if (mode := self._mode(self._top)) is not None:
            return "" if stat.S_ISDIR(mode) else f"{self._top} is not a directory"
        above = posixpath.dirname(self._top) or "."
        return "" if self._mode(above) is not None else f"there is no directory {above} on the server"

    def look_at(self, key: str) -> SFTPAttributes:
        """Return a file's attributes; anything else is missing."""
        found = self._session.stat(posixpath.join(self._root, key))
        return _regular(found)

    def open_file(self, key: str) -> tuple[bytes, int]:
        """Return a handle to read from, and the file's size."""
        handle = self._session.open_for_reading(posixpath.join(self._root, key))
        try:
            return handle, _regular(self._session.look_at(handle)).st_size or 0
        except Refusal:
            self._session.close_handle(handle)
            raise

    def read(self, handle: bytes, start: int, end: int) -> Iterator[bytes]:
        yield from self._session.read(handle, start, end)
        self._session.close_handle(handle)

    def open_part(self, key: str) -> Part:
        """Open a part for `key`, making the directories that are missing."""
        target = posixpath.join(self._root, key)
        # a deletion may remove an empty directory again before the part is in it
        for _ in range(MOST_TRIES):
            try:
                return Part(self._session, target)
            except Refusal as refusal:
                if not refusal.is_missing:
                    raise
            make_directory(self._session, posixpath.dirname(target), self._top)
        return Part(self._session, target)

    def remove(self, key: str) -> bool:
        """Remove a file and the directories that it leaves empty; return False if there is none."""
        path = posixpath.join(self._root, key)
        try:
            self._session.remove(path)
        except Refusal as refusal:
            # a directory of this name is no file
            if refusal.is_missing or is_directory(self._session, path):
                return False
            raise
        self.remove_empty(key)
        return True

    def remove_empty(self, key: str) -> None:
        """Remove the directories above a key as far as they are empty; the root stays."""
        folder = posixpath.dirname(key)
        with contextlib.suppress(Refusal):
            while folder:
                self._session.rmdir(posixpath.join(self._root, folder))
                folder = posixpath.dirname(folder)

    def clock(self) -> int:
        """Return the server's time as a new file shows it, in seconds.

        A kill leaves that file, which is empty, to the first call that comes more than a day later.
        """
        part = Part(self._session, posixpath.join(self._root, CLOCK))
        try:
            now = part.look_at().st_mtime or 0
            self._remove_probes(now - ABANDONED_AFTER_SECONDS)
            return now
        finally:
            part.remove()

    def _remove_probes(self, before: int) -> None:
        """Remove the probes of the clock that were written before a time; a refusal ends it."""
        with contextlib.suppress(Refusal):
            for entry in self._session.entries(self._root):
                if meant_name(entry.name) == CLOCK and (entry.attributes.st_mtime or before) < before:
                    self._session.remove(posixpath.join(self._root, entry.name))

    def room(self) -> Room | None:
        return self._session.room_at(self._root)

    def files(self, prefix: str) -> Iterator[tuple[str, str, SFTPAttributes]]:
        """Yield (folder with its slash, name, attributes) of the files whose keys may begin with `prefix`."""
        folder, slash, _ = prefix.rpartition("/")
        folders = [folder + slash]
        while folders:
            folder = folders.pop()
            for name, found in _entries(self._session, posixpath.join(self._root, folder)):
                below = f"{folder}{name}/"
                if stat.S_ISREG(found.st_mode or 0):
                    yield folder, name, found
                elif (
                    stat.S_ISDIR(found.st_mode or 0) and below.startswith(prefix) and below != LOST_AND_FOUND
                ):
                    folders.append(below)

    def _mode(self, path: str) -> int | None:
        try:
            return self._session.stat(path).st_mode
        except Refusal as refusal:
            if refusal.is_missing:
                return None
            raise


def _regular(found: SFTPAttributes) -> SFTPAttributes:
    if not stat.S_ISREG(found.st_mode or 0):
        raise Refusal(SFTP_NO_SUCH_FILE)
    return found


def make_directory(session: Session, path: str, top: str) -> None:
    """Make a directory and those above it; raise a `Refusal` if the one above `top` is missing."""
    for _ in range(MOST_TRIES):
        try:
            session.mkdir(path, DIRECTORY_MODE)
        except Refusal as refusal:
            if not refusal.is_missing:
                # so a server says that it is there, and much else
                if is_directory(session, path):
                    return
                raise
            if path == top:
                raise
        else:
            return
        make_directory(session, posixpath.dirname(path), top)


def is_directory(session: Session, path: str) -> bool:
    return stat.S_ISDIR(_mode_of(session, path))


def is_file(session: Session, path: str) -> bool:
    return stat.S_ISREG(_mode_of(session, path))


def _mode_of(session: Session, path: str) -> int:
    try:
        return session.stat(path).st_mode or 0
    except Refusal:
        return 0


def _leads_up(session: Session, link: str) -> bool:
    try:
        return leads_up(link, session.real_path)
    except Refusal:  # a server that resolves no links
        return False


def _entries(session: Session, directory: str) -> list[tuple[str, SFTPAttributes]]:
    """Return what is in a directory, links followed; left out is what vanishes meanwhile or leads back up."""
    try:
        entries = session.entries(directory)
    except Refusal as refusal:
        if refusal.is_missing:
            return []
        raise
    found = []
    for entry in entries:
        attributes = entry.attributes
        with contextlib.suppress(Refusal):
            if stat.S_ISLNK(attributes.st_mode or 0):
                path = posixpath.join(directory, entry.name)
                attributes = session.stat(path)
                if stat.S_ISDIR(attributes.st_mode or 0) and _leads_up(session, path):
                    continue
            found.append((entry.name, attributes))
    return found
