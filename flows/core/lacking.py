"""Which backups a destination lacks that its own retention would keep."""

from collections.abc import Iterable

from flows.core.naming import BackupId
from flows.core.retention import CatalogueEntry, RetentionPolicy, retained


def lacking(
    here: Iterable[CatalogueEntry], elsewhere: Iterable[CatalogueEntry], policy: RetentionPolicy
) -> list[BackupId]:
    """Return the backups to copy to a destination, newest first.

    Only those that a later prune of the destination would keep, judged by what it then holds; else prune and
    sync would undo each other for ever.

    Args:
        here: The whole copies on the destination, with its own verdicts.
        elsewhere: The backups that another destination has whole, as they would stand in this one's catalogue
            after a copy: a verdict counts for one destination, holds go with the backup.
        policy: The destination's.
    """
    whole = list(here)
    known = {entry.backup_id for entry in whole}
    missing = [entry for entry in elsewhere if entry.backup_id not in known]
    kept = retained([*whole, *missing], policy)
    return [backup_id for backup_id in kept if backup_id not in known]
