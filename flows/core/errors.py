"""What a backup itself can mean wrongly; none of these passes by trying again.

BackupError
├── PlanError                a plan, a file of plans or the environment is wrong (exit code 2)
├── BackupNotFound           no such backup in the catalogue
├── ManifestError            a manifest cannot be trusted
│   ├── ManifestUnreadable   not JSON, or not of our shape
│   ├── ManifestUnknown      of a format version that this release does not know
│   └── ManifestEdited       its content does not match its own checksum
├── ImplausibleDump          empty, or not what pg_dump writes
├── ChecksumMismatch         stored bytes are not the bytes that were written
├── CopiesMissing            fewer destinations committed than the plan requires
├── SourceChanged            the plan's backups are of another database
├── IdentityMismatch         the content is not what the manifest says it is
├── VerificationFailed       restored, and it differs (exit code 1)
├── Unverifiable             could not be checked here (exit code 3)
└── PruneRefused             deleting now could cost a backup that is needed
"""


class BackupError(Exception):
    """Base: `message` says what is wrong and where, `hint` what the operator can do about it."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\nHINT: {self.hint}" if self.hint else self.message


class PlanError(BackupError):
    """A plan, a file of plans or the environment is wrong."""


class BackupNotFound(BackupError):
    """The catalogue has no such backup."""


class ManifestError(BackupError):
    """A manifest cannot be trusted."""


class ManifestUnreadable(ManifestError):
    """A manifest is not JSON, or not of our shape."""


class ManifestUnknown(ManifestError):
    """A manifest is of a format version that this release does not know."""


class ManifestEdited(ManifestError):
    """A manifest's content does not match its own checksum."""


class ImplausibleDump(BackupError):
    """A dump is empty, or not what pg_dump writes."""


class ChecksumMismatch(BackupError):
    """Stored bytes are not the bytes that were written."""


class CopiesMissing(BackupError):
    """Fewer destinations committed than the plan requires."""


class SourceChanged(BackupError):
    """The plan's earlier backups are of another database."""


class IdentityMismatch(BackupError):
    """A backup's content is not what its manifest says it is."""


class VerificationFailed(BackupError):
    """The backup was restored, or could not be, and differs from its facts."""


class Unverifiable(BackupError):
    """The backup could not be checked here."""


class PruneRefused(BackupError):
    """Deleting now could cost a backup that is needed."""
