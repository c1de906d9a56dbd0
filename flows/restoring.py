"""The steps of a restore in their order, the same for the scratch server and for a person's own target."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from blocks.archive_restore import RestoreOutcome, archive_head
from blocks.gpg_program import UnlockedKey
from blocks.spool import SpoolDirectory
from flows.catalogue import Copy
from flows.core.errors import BackupError, ChecksumMismatch
from flows.core.facts import Facts
from flows.core.manifest import Archive, ArchiveKind, Manifest
from flows.core.sampling import EVERYTHING, Portion
from flows.progress import Progress, shown
from flows.tasks import inbound
from flows.tasks.inbound import Target
from flows.tasks.options import performed

OnDamage = Callable[[Manifest, Archive], None]


@dataclass(frozen=True)
class Fetched:
    """A backup's archives on local disk, every checksum right, and its facts opened."""

    manifest: Manifest
    paths: dict[str, Path]
    facts: Facts

    def path(self, kind: ArchiveKind) -> Path:
        """Return the only archive of a kind."""
        return self.paths[self.manifest.archive(kind).name]


def fetched(
    copy: Copy, key: UnlockedKey, spool: SpoolDirectory, on_damage: OnDamage = lambda *_: None
) -> Fetched:
    """Fetch every archive of a backup, and open its facts.

    Args:
        on_damage: Is told of an archive that is not what the manifest says.

    Raises:
        BackupError: The manifest cannot be trusted, an archive is damaged, or the facts are another backup's.
    """
    manifest = copy.manifest
    if manifest is None:
        raise BackupError(f"backup {copy.backup_id} on {copy.store.name} cannot be trusted: {copy.problem}")
    with shown(Progress("fetch", manifest.size_bytes)) as progress:
        paths = {
            archive.name: _fetched(copy, manifest, archive, spool, progress, on_damage)
            for archive in manifest.archives
        }
    facts = performed(inbound.open_facts, paths[manifest.archive("facts").name], key, manifest)
    return Fetched(manifest, paths, facts)


def _fetched(
    copy: Copy,
    manifest: Manifest,
    archive: Archive,
    spool: SpoolDirectory,
    progress: Progress,
    on_damage: OnDamage,
) -> Path:
    try:
        return performed(inbound.fetch, copy, manifest, archive, spool, progress)
    except ChecksumMismatch:
        on_damage(manifest, archive)
        raise


def restored(
    backup: Fetched, key: UnlockedKey, target: Target, portion: Portion = EVERYTHING
) -> RestoreOutcome:
    """Restore definitions, then rows, then the rest; go on after errors, which the outcome counts."""
    main = backup.path("main")
    with archive_head() as head:
        outcome = performed(inbound.restore_definitions, main, key, target, head)
        target.before_rows()
        if portion.tier != "schema":
            with shown(Progress("restore", main.stat().st_size)) as progress:
                outcome.add(performed(inbound.restore_rows, main, key, head, target, progress, portion))
        outcome.add(performed(inbound.restore_rest, head, target, backup.facts, portion))
        target.after_rest()
    return outcome
