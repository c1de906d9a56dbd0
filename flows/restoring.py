"""The steps of a restore in their order, the same for the scratch server and for a person's own target."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from prefect.futures import wait

from blocks.archive_restore import RestoreOutcome
from blocks.gpg_program import UnlockedKey
from blocks.spool import SpoolDirectory
from flows.catalogue import Copy
from flows.core.errors import BackupError
from flows.core.facts import Facts
from flows.core.manifest import Manifest
from flows.core.naming import FACTS_ARCHIVE, MAIN_ARCHIVE
from flows.progress import Progress, shown
from flows.tasks import inbound
from flows.tasks.inbound import Target


@dataclass(frozen=True)
class Fetched:
    """A backup's archives on local disk, every checksum right, and its facts opened."""

    manifest: Manifest
    paths: dict[str, Path]
    facts: Facts


def fetched(copy: Copy, key: UnlockedKey, spool: SpoolDirectory) -> Fetched:
    """Fetch every archive of a backup, and open its facts.

    Raises:
        BackupError: The manifest cannot be trusted, an archive is damaged, or the facts are another backup's.
    """
    manifest = copy.manifest
    if manifest is None:
        raise BackupError(f"backup {copy.backup_id} on {copy.store.name} cannot be trusted: {copy.problem}")
    with shown(Progress("fetch", manifest.size_bytes)) as progress:
        futures = {
            archive.name: inbound.fetch.submit(copy, manifest, archive, spool, progress)
            for archive in manifest.archives
        }
        wait(list(futures.values()))
        paths = {name: future.result() for name, future in futures.items()}
    return Fetched(manifest, paths, inbound.open_facts(paths[FACTS_ARCHIVE], key, manifest))


def restored(
    backup: Fetched,
    key: UnlockedKey,
    target: Target,
    spool: SpoolDirectory,
    after_definitions: Callable[[], None] = lambda: None,
) -> RestoreOutcome:
    """Restore definitions, then rows, then the rest; go on after errors, which the outcome counts."""
    main = backup.paths[MAIN_ARCHIVE]
    head, outcome = inbound.restore_definitions(main, key, target, spool.path / "head.dump")
    after_definitions()
    with shown(Progress("restore", main.stat().st_size)) as progress:
        outcome.add(inbound.restore_rows(main, key, target, progress))
    outcome.add(inbound.restore_rest(head, target))
    head.path.unlink()
    return outcome
