"""The operations of a remote, one process of rclone each.

`rclone rcat` takes the end of its input for success: it is ended before that input is closed when the
source of the bytes fails, and who calls it looks at what it wrote before that gets its name.
"""

import json
import math
import os
import select
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from blocks.errors import ObjectMissing, ProgramSilent, StoreError, StoreUnreachable
from blocks.process import Command, Completed, Process, run
from blocks.stores.base import StoredObject
from blocks.stores.rclone_access import Rclone
from blocks.stores.rclone_errors import NOTHING_MOVED, silent, store_error

# rclone asks twice within the time that we wait
PATIENCE = 3
BUFFERED_BYTES = 512 << 20
SLOWEST_BYTES_PER_SECOND = 256 << 10


@dataclass(frozen=True)
class Remote:
    """A folder of a remote.

    Args:
        silence_seconds: For how long the remote may be silent before rclone asks again.
        reach: Yields the program with its configuration.
    """

    name: str
    folder: str
    silence_seconds: float
    reach: Callable[[], AbstractContextManager[Rclone]]
    max_bytes_per_second: int | None = None

    @property
    def patience_seconds(self) -> float:
        """How long we wait for rclone itself."""
        return PATIENCE * self.silence_seconds

    def upload(self, key: str, chunks: Iterable[bytes], what: str, *, streams: bool = True) -> int:
        """Write a file and return how many bytes rclone took; what `chunks` raises is passed on.

        Args:
            streams: Whether the remote takes bytes before it knows how many; else rclone keeps them all
                on the local disk first, and sends them after the end.
        """
        limit = self.max_bytes_per_second
        # what streams comes no faster from us
        limits = ("--bwlimit", f"{limit}B") if limit and not streams else ()
        with (
            self.reach() as rclone,
            Process(self._streaming(rclone, "rcat", *limits, self._at(key)), feed=True) as program,
        ):
            size_bytes = 0
            for chunk in chunks:
                size_bytes += len(chunk)
                if not self._feed(program, chunk, what):
                    break
            else:
                program.stdin.close()
                kept_bytes = min(size_bytes, BUFFERED_BYTES) if streams else size_bytes
                self._end(program, what, self._seconds_for(kept_bytes))
                return size_bytes
            self._end(program, what)
        raise StoreError(f"{what}: rclone stopped reading")

    def read(self, key: str, start: int, end: int, what: str) -> Iterator[bytes]:
        """Yield the bytes [start, end) of a file that has as many."""
        section = ("--offset", str(start), "--count", str(end - start))
        rest = end - start
        with self.reach() as rclone:
            for chunk in self._output(self._streaming(rclone, "cat", *section, self._at(key)), what):
                rest -= len(chunk)
                yield chunk
        if rest:
            raise StoreUnreachable(f"{what}: it ended {rest} bytes before its end")

    def look(self, key: str, what: str) -> StoredObject:
        """Return what a file is; raise `ObjectMissing`, also for a folder."""
        found = self._entry(key, what)
        if found["IsDir"]:
            raise ObjectMissing(f"{what}: there is no such object")
        return _stored(key, found)

    def files(self, folder: str, what: str) -> list[StoredObject]:
        """Return every file below a folder, which may be missing; folders end without a slash."""
        arguments = ("--recursive", "--files-only", "--no-mimetype", self._at(folder))
        with self.reach() as rclone:
            command = rclone.call("lsjson", *arguments, silence_seconds=self.silence_seconds)
            try:
                found = json.loads(b"".join(self._output(command, what)))
            except ObjectMissing:
                # so rclone tells as well that a folder below was removed meanwhile
                with suppress(ObjectMissing):
                    self._entry(folder, what)
                    raise StoreUnreachable(f"{what}: something vanished meanwhile", "try again") from None
                return []
        above = f"{folder}/" if folder else ""
        files = [_stored(above + entry["Path"], entry) for entry in found]
        # of a file rclone lists the file itself, as if it were in a folder of its name
        if len(files) == 1 and folder.endswith(found[0]["Path"]) and not self._is_there(files[0].key, what):
            return []
        return files

    def move(self, key: str, target: str, size_bytes: int, what: str, *flags: str) -> bool:
        """Give a file another name on the remote's side; return False if the flags kept it from that."""
        arguments = ("moveto", "--error-on-no-transfer", *flags, self._at(key), self._at(target))
        status = self._ask(what, *arguments, more_seconds=self._seconds_for(size_bytes)).status
        # rclone 1.60 counts no move as a transfer
        return status != NOTHING_MOVED or not self._is_there(key, what)

    def remove(self, key: str, what: str) -> None:
        """Delete a file; a missing one is a success."""
        with suppress(ObjectMissing):
            self._ask(what, "deletefile", self._at(key))

    def remove_folder(self, folder: str, what: str) -> None:
        """Delete a folder; raise `StoreError` if something is in it."""
        self._ask(what, "rmdir", self._at(folder))

    def features(self, what: str) -> dict[str, bool]:
        """Return what the remote can do, in rclone's words."""
        answer = json.loads(self._ask(what, "backend", "features", f"{self.name}:").stdout)
        return dict(answer["Features"])

    def sections(self, what: str) -> dict[str, dict[str, str]]:
        """Return the options of every remote in the configuration, which hold secrets."""
        return dict(json.loads(self._ask(what, "config", "dump").stdout or b"{}"))

    def _entry(self, key: str, what: str) -> dict[str, Any]:
        """Return what a file or folder is, in rclone's words; raise `ObjectMissing`."""
        found = json.loads(self._ask(what, "lsjson", "--stat", "--no-mimetype", self._at(key)).stdout)
        if not found:
            raise ObjectMissing(f"{what}: there is no such object")
        return dict(found)

    def _is_there(self, key: str, what: str) -> bool:
        try:
            self.look(key, what)
        except ObjectMissing:
            return False
        return True

    def _at(self, key: str) -> str:
        return f"{self.name}:{'/'.join(part for part in (self.folder, key) if part)}"

    def _seconds_for(self, size_bytes: int) -> float:
        # a limit is kept on average only
        slowest = min(SLOWEST_BYTES_PER_SECOND, (self.max_bytes_per_second or math.inf) / 2)
        return size_bytes // slowest

    def _streaming(self, rclone: Rclone, verb: str, *arguments: str) -> Command:
        """Return a call that counts no silence: it would count ours as well, while we wait or work."""
        return rclone.call(verb, *arguments, silence_seconds=0)

    def _ask(self, what: str, verb: str, *arguments: str, more_seconds: float = 0) -> Completed:
        silence_seconds = self.silence_seconds + more_seconds
        with self.reach() as rclone:
            command = rclone.call(verb, *arguments, silence_seconds=silence_seconds)
            try:
                done = run(command, timeout_seconds=PATIENCE * silence_seconds)
            except ProgramSilent:
                raise silent(what, PATIENCE * silence_seconds) from None
        if done.status not in (0, NOTHING_MOVED):
            raise store_error(done.status, done.stderr_lines, what)
        return done

    def _output(self, command: Command, what: str) -> Iterator[bytes]:
        """Yield what a program writes; raise at its end unless that is a success."""
        with Process(command) as program:
            chunks = program.chunks(self.patience_seconds)
            while True:
                try:
                    chunk = next(chunks, b"")
                except ProgramSilent:
                    raise silent(what, self.patience_seconds) from None
                if not chunk:
                    break
                yield chunk
            self._end(program, what)

    def _feed(self, program: Process, chunk: bytes, what: str) -> bool:
        """Write to a program; return False if it has stopped reading."""
        descriptor, view = program.stdin.fileno(), memoryview(chunk)
        os.set_blocking(descriptor, False)
        while view:
            if not select.select([], [descriptor], [], self.patience_seconds)[1]:
                raise silent(what, self.patience_seconds)
            try:
                view = view[os.write(descriptor, view) :]
            except BrokenPipeError:
                return False
        return True

    def _end(self, program: Process, what: str, more_seconds: float = 0) -> None:
        """Wait for a program's end; raise unless it is a success."""
        seconds = self.patience_seconds + more_seconds
        try:
            status = program.wait(seconds)
        except subprocess.TimeoutExpired:
            raise silent(what, seconds) from None
        if status:
            raise store_error(status, program.stderr_lines, what)


def _stored(key: str, found: Mapping[str, Any]) -> StoredObject:
    return StoredObject(key, found["Size"], datetime.fromisoformat(found["ModTime"]).astimezone(UTC))
