"""What it means to us that pg_dump or pg_dumpall failed, as told by what it wrote to stderr.

There is no SQLSTATE, and a server may speak another language: so the program's own words decide where they
can, and libpq's; both are English here, as every program runs under the C locale.
"""

import re

from blocks.errors import (
    ConnectionLost,
    DatabaseError,
    LockNotGranted,
    ProgramFailed,
    RightsMissing,
    WorldError,
)
from blocks.process import KILLED_HINT, failure_text, program_failed
from blocks.server_errors import LOCK_HINT, LOST_HINT, MEMORY_HINT, RIGHTS_HINT, not_connected

_LOST = re.compile(
    r"server closed the connection|no connection to the server|connection not open|terminating connection"
    r"|could not (?:receive|send) (?:data|startup|SSL)|SSL SYSCALL error|SSL connection has been closed"
    r"|conflict with recovery",
    re.IGNORECASE,
)
_NOT_CONNECTED = re.compile(
    r"connection to server .*? failed: (?P<said>.*)|could not connect to .*? (?P<old>.*)"
)
_SNAPSHOT_GONE = re.compile(r"query was: SET TRANSACTION SNAPSHOT", re.IGNORECASE)
_LOCKING = re.compile(r"query was: LOCK TABLE", re.IGNORECASE)


def dump_error(name: str, status: int, stderr_lines: list[str]) -> WorldError:
    """Return the error for a dump program that did not exit 0; what may pass by itself is a transient one.

    Args:
        name: The program's.
        status: Its exit status, negative for a signal.
    """
    said, text = failure_text(name, status, stderr_lines), "\n".join(stderr_lines)
    if status < 0:
        return program_failed(name, status, stderr_lines)
    if "terminated by user" in text:
        return ProgramFailed(f"{name} was ended by SIGTERM or SIGINT", KILLED_HINT)
    if _LOST.search(text):
        return ConnectionLost(said, LOST_HINT)
    if found := _NOT_CONNECTED.search(text):
        return not_connected(found["said"], f"{name} cannot connect to the database")
    if _SNAPSHOT_GONE.search(text):
        return ConnectionLost(f"the snapshot's session ended before {name} took the snapshot over", LOST_HINT)
    if "out of shared memory" in text:
        return DatabaseError(said, MEMORY_HINT)
    if "permission denied" in text:
        return RightsMissing(said, RIGHTS_HINT)
    if _LOCKING.search(text):
        return LockNotGranted(f"{name} did not get the locks of its tables in time: {said}", LOCK_HINT)
    return ProgramFailed(said, "run `pgsalvo doctor`; the server's log may tell more")
