"""rsync at work: one job's directory on local disk, and the calls that it makes."""

import errno
import math
import os
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from blocks.errors import (
    ObjectMissing,
    ProgramMissing,
    ProgramSilent,
    SpoolError,
    SpoolFull,
    StoreError,
    StoreForbidden,
    StoreFull,
    StoreUnreachable,
)
from blocks.process import Command, Completed, run
from blocks.spool import SpoolDirectory, free_bytes, sweep
from blocks.stores.rsync_commands import Address, Line, Listed, parse_listing, ssh_command
from blocks.stores.rsync_errors import lost_its_words, store_error

SLOWEST_BYTES_PER_SECOND = 256 << 10
RESERVE_BYTES = 64 << 20
ASKED_TIMES = 3
VANISHED = 24  # the rest is listed
BYTES_BETWEEN_LOOKS = 16 << 20
PROXY_VARIABLE = "RSYNC_PROXY"
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@dataclass(frozen=True)
class Server:
    """The way to a server; `password` is in the clear, for this moment."""

    address: Address
    password: str = field(repr=False)
    key_file: str
    host_key: str
    known_hosts_file: str
    timeout_seconds: int
    max_bytes_per_second: int | None = None


class Job:
    """One operation of a store: a directory of its own below `root`, and rsync's calls.

    Names are as rsync knows them: relative to the address.
    """

    def __init__(self, server: Server, directory: Path) -> None:
        self._server, self._directory = server, directory
        self._tree, self._empty, self._fetched = (directory / name for name in ("tree", "empty", "fetched"))
        with self.local_disk():
            for path in (self._tree, self._empty, self._fetched):
                path.mkdir()

    def collect(self, name: str, chunks: Iterable[bytes]) -> int:
        """Write the chunks to local disk, where `send` and `create` find them; return their size.

        Raises:
            StoreFull: There is no room on local disk, or almost none.
            StoreError: Local disk cannot be written to.
        """
        path, size_bytes, looked_at = self._tree / name, 0, 0
        with self.local_disk():
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("wb", buffering=0)
        with file:
            for chunk in chunks:
                with self.local_disk():
                    view = memoryview(chunk)
                    while view:
                        view = view[file.write(view) :]
                size_bytes += len(chunk)
                if size_bytes - looked_at >= BYTES_BETWEEN_LOOKS:
                    self._keep_free(0)
                    looked_at = size_bytes
            with self.local_disk():
                file.close()
        return size_bytes

    def send(self, name: str, what: str) -> None:
        self._checked(self._line.sending(str(self._tree)), name, what, self._size(name))

    def create(self, name: str, what: str) -> None:
        """Send unless the name is taken."""
        self._checked(self._line.creating(str(self._tree)), name, what, self._size(name))

    def fetch(self, name: str, size_bytes: int, what: str) -> Path:
        """Return a copy of a file on local disk; raise `ObjectMissing` if that is no file."""
        self._keep_free(size_bytes)
        try:
            self._checked(self._line.fetching(str(self._fetched)), name, what, size_bytes)
        except StoreFull:  # it writes here
            raise _full(self._directory.parent) from None
        path = self._fetched / name
        if not path.is_file():
            raise ObjectMissing(f"{what}: it is not there")
        return path

    def list(
        self, name: str, what: str, *, recursive: bool = False, address: Address | None = None
    ) -> list[Listed]:
        line = replace(self._line, address=address) if address else self._line
        argv = line.listing(str(self._empty), recursive=recursive)
        return [*parse_listing(self._checked(argv, name, what, passed=(0, VANISHED)))]

    def delete(self, name: str, what: str) -> None:
        """Delete a file; a missing one is a success."""
        with self.local_disk():
            (self._empty / name).parent.mkdir(parents=True, exist_ok=True)
        self._checked(self._line.deleting(str(self._empty)), name, what)

    @property
    def _line(self) -> Line:
        server, known_hosts = self._server, self._server.known_hosts_file
        if server.host_key:
            file = self._directory / "known_hosts"
            with self.local_disk():
                file.write_text(f"* {server.host_key}\n")
            known_hosts = str(file)
        shell = ssh_command(server.address.port, server.key_file, known_hosts, server.timeout_seconds)
        return Line(
            server.address,
            remote_shell=shell,
            timeout_seconds=server.timeout_seconds,
            max_bytes_per_second=server.max_bytes_per_second,
        )

    def _checked(
        self, argv: tuple[str, ...], name: str, what: str, size_bytes: int = 0, passed: tuple[int, ...] = (0,)
    ) -> bytes:
        """Run rsync on one name and return its stdout; raise what its exit status means if not `passed`."""
        slowest = min(SLOWEST_BYTES_PER_SECOND, (self._server.max_bytes_per_second or math.inf) / 2)
        limit_seconds = 3 * self._server.timeout_seconds + size_bytes / slowest
        try:
            for _ in range(ASKED_TIMES if self._server.address.scheme == "ssh" else 1):
                ended = self._run(argv, f"./{name}\0".encode(), limit_seconds)
                if not lost_its_words(ended.status, ended.stderr_lines):
                    break
        except ProgramMissing as error:
            raise ProgramMissing(error.message, "install it: apt-get install rsync openssh-client") from None
        except ProgramSilent:
            raise StoreUnreachable(f"{what}: no answer", "see the address and the network") from None
        if ended.status not in passed:
            raise store_error(ended.status, ended.stderr_lines, what)
        return ended.stdout

    def _run(self, argv: tuple[str, ...], names: bytes, limit_seconds: float) -> Completed:
        # listings are told in local time
        environment = {"TZ": "UTC"}
        # a proxy's login is in it, so it is passed on nowhere else
        if proxy := os.environ.get(PROXY_VARIABLE):
            environment[PROXY_VARIABLE] = proxy
        if self._server.password:
            # it closes the descriptors that it inherits, so no file in memory can hold the password
            environment["RSYNC_PASSWORD"] = self._server.password
        return run(Command(argv, environment=environment), stdin=names, timeout_seconds=limit_seconds)

    def _size(self, name: str) -> int:
        with self.local_disk():
            return (self._tree / name).stat().st_size

    def _keep_free(self, size_bytes: int) -> None:
        """Raise `StoreFull` unless so much more fits on local disk, and the reserve beside it."""
        with self.local_disk():
            free = free_bytes(self._directory)
        if free < size_bytes + RESERVE_BYTES:
            raise _full(self._directory.parent)

    def local_disk(self) -> AbstractContextManager[None]:
        """Turn an error of local disk into one of the store's."""
        return _local_disk(self._directory.parent)


def temporary_root() -> Path:
    """Return our own directory below the system's temporary one, where anybody may have made one of its name.

    Raises:
        StoreForbidden: It is somebody else's, or others may write there.
        StoreError: It cannot be made.
    """
    with _local_disk("in the system's temporary one"):
        above = tempfile.gettempdir()
    root = Path(above) / f"pgsalvo-rsync-{os.geteuid()}"
    with _local_disk(root):
        with suppress(FileExistsError):
            root.mkdir(mode=0o700)
        found = root.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise StoreForbidden(f"{root} is not a directory of ours alone", "set spool_directory")
    return root


@contextmanager
def opened_job(server: Server, root: Path) -> Iterator[Job]:
    """Yield a job in a directory below `root` that is gone at the end; clear what killed ones left."""
    with _local_disk(root):
        sweep(root)
        spool = SpoolDirectory(root, "rsync")
    try:
        yield Job(server, spool.path)
    finally:
        with _local_disk(root):
            spool.close()


@contextmanager
def _local_disk(root: Path | str) -> Iterator[None]:
    """Turn an error of the spool directory `root` into one of the store's."""
    try:
        yield
    except SpoolFull as error:
        raise _full(root) from error
    except SpoolError as error:
        raise StoreError(error.message, error.hint) from error
    except OSError as error:
        if error.errno in _FULL:
            raise _full(root) from error
        raise StoreError(
            f"cannot use the spool directory {root}: {error.strerror or type(error).__name__}",
            "let the user that runs this write there, or set spool_directory to another disk",
        ) from error


def _full(root: Path | str) -> StoreFull:
    return StoreFull(
        f"no room left in the spool directory {root}",
        "rsync needs archives on local disk: free some space, or set spool_directory to another disk",
    )
