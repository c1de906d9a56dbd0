"""What the outside world does to a backup: databases, programs, keys, stores and disks.

    WorldError
    ├── ConfigurationError       a block was told something that cannot be used
    ├── ProgramError
    │   ├── ProgramMissing       no such program, or none of a usable version
    │   ├── ProgramTooOld        found, but older than the server
    │   ├── ProgramFailed        ended with an error or by a signal
    │   └── ProgramSilent        gave no byte for too long while we were reading
    ├── DatabaseError
    │   ├── ConnectionFailed     refused, wrong password, no such database
    │   ├── ConnectionLost     * ended by the server or the network
    │   ├── LockNotGranted     * somebody else held a table for too long
    │   ├── TablesChanged      * tables came and went while they were being locked
    │   ├── DefinitionsChanged * something was defined anew while pg_dump read its definition
    │   ├── BackupLockHeld       another backup of the same plan did not end in time
    │   ├── RightsMissing        the role may not read what the backup needs
    │   └── PoolerInBetween      a pooler stands where a session is needed
    ├── EncryptionError
    │   ├── KeyUnusable          expired, revoked, cannot encrypt, unreadable, missing
    │   └── DecryptionFailed     damaged, never encrypted, or for another key
    ├── StoreError
    │   ├── StoreUnreachable   * no answer, or the connection broke
    │   ├── StoreForbidden       credentials refused, or a right is missing
    │   │   └── StoreLocked      the store lets nobody delete it yet
    │   ├── StoreFull            no space or quota left
    │   ├── UploadCutShort       it broke, and the spool no longer holds the beginning to send again
    │   ├── ObjectMissing        no such key
    │   └── ObjectExists         another object already has the key
    ├── SpoolError
    │   ├── SpoolFull            the local disk has no room left
    │   ├── StreamDamaged        a compressed stream is damaged or cut short
    │   └── StreamAborted        the other end gave up; never the first cause
    ├── ScratchError             the scratch server did not come up, or broke
    │   └── ScratchLacks         it has not what the dump needs (an extension, ICU, a major)
    └── AlertError               a message could not be delivered

`*` marks what may pass by itself: only these are retried.
"""

from datetime import datetime
from typing import ClassVar


class WorldError(Exception):
    """Base: `message` says what failed and on what, `hint` what the operator can do about it."""

    transient: ClassVar[bool] = False

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\nHINT: {self.hint}" if self.hint else self.message


class ConfigurationError(WorldError):
    """A block was told something that cannot be used."""


class ProgramError(WorldError):
    """A program that we start."""


class ProgramMissing(ProgramError):
    """No such program here, or none of a usable version."""


class ProgramTooOld(ProgramError):
    """The newest program found is older than the server."""


class ProgramFailed(ProgramError):
    """A program ended with an error or by a signal."""


class ProgramSilent(ProgramError):
    """A program gave no byte for too long while we were reading."""


class DatabaseError(WorldError):
    """The PostgreSQL server."""


class ConnectionFailed(DatabaseError):
    """No session: refused, wrong password, no such database."""


class ConnectionLost(DatabaseError):
    """A session was ended by the server or the network."""

    transient = True


class LockNotGranted(DatabaseError):
    """Somebody else held a table for longer than the lock-wait limit."""

    transient = True


class TablesChanged(DatabaseError):
    """Tables came and went while they were being locked."""

    transient = True


class DefinitionsChanged(DatabaseError):
    """Something was defined anew, or dropped, while pg_dump read its definition; no lock prevents that."""

    transient = True


class BackupLockHeld(DatabaseError):
    """Another backup of the same plan did not end in time."""


class RightsMissing(DatabaseError):
    """The role may not read what the backup needs."""


class PoolerInBetween(DatabaseError):
    """A connection pooler stands where a session of our own is needed."""


class EncryptionError(WorldError):
    """gpg and its keys."""


class KeyUnusable(EncryptionError):
    """A key is expired, revoked, cannot encrypt, cannot be read, or is missing."""


class DecryptionFailed(EncryptionError):
    """A message is damaged, was never encrypted, or is for another key."""


class StoreError(WorldError):
    """A place that holds backups."""


class StoreUnreachable(StoreError):
    """No answer, or the connection broke."""

    transient = True


class StoreForbidden(StoreError):
    """Credentials were refused, or a right is missing."""


class StoreLocked(StoreForbidden):
    """The store lets nobody delete the object before `until`, which is UTC-aware."""

    def __init__(self, message: str, hint: str, until: datetime) -> None:
        super().__init__(message, hint)
        self.args = (message, hint, until)
        self.until = until


class StoreFull(StoreError):
    """No space or quota is left."""


class UploadCutShort(StoreError):
    """An upload broke after the full spool had let go of its beginning; only a new dump can be sent."""


class ObjectMissing(StoreError):
    """There is no object of this key."""


class ObjectExists(StoreError):
    """Another object already has this key."""


class SpoolError(WorldError):
    """The stretch of local disk and memory between two steps."""


class SpoolFull(SpoolError):
    """The local disk has no room left."""


class StreamDamaged(SpoolError):
    """A compressed stream is damaged, cut short, or followed by more."""


class StreamAborted(SpoolError):
    """The other end of a stream gave up; a consequence, never the first cause."""


class ScratchError(WorldError):
    """The scratch server did not come up, or broke."""


class ScratchLacks(ScratchError):
    """The scratch server has not what the dump needs."""


class AlertError(WorldError):
    """A message could not be delivered."""
