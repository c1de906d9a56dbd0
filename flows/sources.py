"""Whether the backups of one plan are of one database, or of two of which a person said that it is right."""

from collections.abc import Iterable
from itertools import pairwise

from blocks.stores import Store
from flows.catalogue import Copy
from flows.core.errors import PruneRefused
from flows.core.naming import BackupId
from flows.plan import BackupPlan


def refuse_unacknowledged(plan: BackupPlan, store: Store, committed: Iterable[Copy]) -> None:
    """Raise `PruneRefused` if two databases' backups share the prefix and nobody said that this is right."""
    if odd := unacknowledged(committed):
        raise PruneRefused(
            f"{store.name} holds backups of two databases under the plan {plan.name}: {' and '.join(odd)}",
            "give each database a plan of its own; if one replaced the other, back up with --new-source",
        )


def unacknowledged(copies: Iterable[Copy]) -> tuple[BackupId, BackupId] | None:
    """Return two backups of two databases, one after the other, if nobody said that this is right."""
    manifests = sorted((copy.manifest for copy in copies if copy.manifest), key=lambda m: m.backup_id)
    acknowledged = {manifest.source for manifest in manifests if manifest.new_source}
    for previous, manifest in pairwise(manifests):
        if manifest.source != previous.source and manifest.source not in acknowledged:
            return previous.backup_id, manifest.backup_id
    return None
