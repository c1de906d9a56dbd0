"""One backup carried to another destination: its archives, its holds, and the manifest last."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from blocks.errors import ObjectMissing, StoreError
from blocks.stores import Store
from flows.beside import logger
from flows.catalogue import Copy
from flows.core.errors import BackupError
from flows.core.manifest import Archive, Manifest, sha256
from flows.core.naming import RESTORE_GUIDE_NAME, BackupId, manifest_key, object_key, plan_prefix
from flows.core.read_back import ReadBack, told_of
from flows.core.restore_guide import restore_guide
from flows.core.scrubs import Look
from flows.destinations import Destinations
from flows.progress import Progress
from flows.scrub_records import LookRecorder
from flows.tasks import outbound
from flows.tasks.copies import Sources, copy_archive, rehash
from flows.tasks.options import performed
from flows.tasks.reading_back import Passage


@dataclass
class Copied:
    """A backup that a destination has whole now.

    Args:
        sources: The destinations that archives were read from; none if all were there and right.
        healed: It was there before, and damaged.
        checked: How what was copied was checked, for a person.
    """

    backup_id: BackupId
    size_bytes: int
    sources: list[str] = field(default_factory=list)
    healed: bool = False
    checked: str = ""


def copy_backup(
    target: Store,
    here: Copy | None,
    copies: Sequence[Copy],
    sources: Sources,
    progress: Progress,
    recorder: LookRecorder,
    read_back: ReadBack = "always",
) -> Copied:
    """Make a backup whole on a destination; what lies there already and is right stays.

    What replaces a damaged copy is read back whole, whatever the plan says.

    Args:
        here: What the destination has of it: nothing, what a killed copy left, or a damaged copy.
        copies: Whole ones of the same backup, the nearest first.
        sources: Where they lie; those that turn out damaged are noted in it.
        recorder: Is told of what was read on the destination.

    Raises:
        ChecksumMismatch: An archive is damaged on every source, or the destination changed what it was given.
        BackupError: The destinations do not agree on the manifest, or a damaged copy may not be replaced.
        StoreError: The destination failed, or all sources did.
    """
    manifest, body = _agreed_manifest(here, copies)
    healed = here is not None and here.committed
    if healed and target.append_only:
        raise BackupError(
            f"backup {manifest.backup_id} on {target.name} is damaged, and nothing is ever replaced there",
            "delete it there by hand; the next sync copies it again",
        )
    has_other_manifest = healed and _has_other_manifest(target, manifest, body)
    destinations = Destinations([target], lambda _: None)
    carrier = _Carrier(
        target, here, manifest, sources, progress, "always" if healed else read_back, destinations
    )
    looks = [look for archive in carrier.in_order if (look := carrier.made_whole(archive, sha256(body)))]
    for warning in destinations.warnings:
        logger.warning(warning)
    _copy_holds(manifest, target, copies)
    if has_other_manifest:
        target.delete(manifest_key(manifest.plan, manifest.backup_id))
    guide = (plan_prefix(manifest.plan) + RESTORE_GUIDE_NAME, restore_guide().encode())
    performed(outbound.commit, manifest, body, guide, target, destinations)
    for look in looks:
        recorder.add(look)
    checked = told_of(destinations.checks.get(target.name, ()))
    return Copied(manifest.backup_id, manifest.size_bytes, carrier.used, healed, checked)


@dataclass
class _Carrier:
    """Brings the archives of one backup to one destination.

    Args:
        used: The sources that archives were read from.
    """

    target: Store
    here: Copy | None
    manifest: Manifest
    sources: Sources
    progress: Progress
    read_back: ReadBack
    destinations: Destinations
    used: list[str] = field(default_factory=list)

    @property
    def in_order(self) -> list[Archive]:
        """The largest archive first, so that nothing else lies there and grows old while it is sent.

        Of what a killed copy left the smallest comes first, which tells a prune that somebody completes it.
        """
        by_size = sorted(self.manifest.archives, key=lambda archive: archive.size_bytes, reverse=True)
        return [by_size[-1], *by_size[:-1]] if self._completes else by_size

    @property
    def _completes(self) -> bool:
        return self.here is not None and not self.here.committed

    def made_whole(self, archive: Archive, manifest_sha256: str) -> Look | None:
        """Let an archive be on the destination; return a look at it, if all of it was read there."""
        key = object_key(self.manifest.plan, self.manifest.backup_id, archive.name)
        read_at = datetime.now(UTC)
        if not self._is_there(archive, key):
            passage = self._copied(archive, key)
            read_at = datetime.now(UTC)
            check = performed(
                outbound.checksum, archive, key, self.target, self.destinations, self.read_back, passage
            )
            if not check.is_rehashed:
                return None
        return Look(
            backup_id=self.manifest.backup_id,
            archive=archive.name,
            manifest_sha256=manifest_sha256,
            read_at=read_at,
            intact=True,
        )

    def _is_there(self, archive: Archive, key: str) -> bool:
        """Return whether an archive is whole on the destination, as after a copy that was killed."""
        if self.here is None or self.here.sizes.get(archive.name) != archive.size_bytes:
            return False
        if self._completes and archive == self.in_order[0]:
            return False  # anew, so that its date is of now
        if self.target.locks_objects and self.target.locked_until(key) is None:
            return False  # the copy was killed before the lock
        return performed(rehash, archive, key, self.target, self.progress)

    def _copied(self, archive: Archive, key: str) -> Passage | None:
        passage = None if self.read_back == "always" else Passage()
        source = performed(copy_archive, archive, key, self.sources, self.target, self.progress, passage)
        if source not in self.used:
            self.used.append(source)
        return passage


def _agreed_manifest(here: Copy | None, copies: Sequence[Copy]) -> tuple[Manifest, bytes]:
    """Return the manifest and its bytes, which are the same wherever a copy lies."""
    everywhere = [*copies, *([here] if here else [])]
    known = {copy.manifest_sha256: copy.store.name for copy in everywhere if copy.manifest}
    if len(known) > 1:
        raise BackupError(
            f"backup {copies[0].backup_id} is not the same on {' and '.join(sorted(known.values()))}",
            "verify each of them by --destination, and delete the one that is wrong by hand",
        )
    unread = BackupError(
        f"the manifest of backup {copies[0].backup_id} changed while it was being copied", "sync again"
    )
    for copy, manifest in ((copy, copy.manifest) for copy in copies if copy.manifest):
        try:
            body = copy.store.read(manifest_key(manifest.plan, copy.backup_id))
        except StoreError as error:
            unread.__cause__ = error
            continue
        if sha256(body) == copy.manifest_sha256:
            return manifest, body
    raise unread


def _has_other_manifest(target: Store, manifest: Manifest, body: bytes) -> bool:
    """Return whether a damaged manifest lies where the right one is to be."""
    try:
        return target.read(manifest_key(manifest.plan, manifest.backup_id)) != body
    except ObjectMissing:
        return False


def _copy_holds(manifest: Manifest, target: Store, copies: Sequence[Copy]) -> None:
    for copy in copies:
        for name in copy.holds:
            key = object_key(manifest.plan, manifest.backup_id, f"holds/{name}.json")
            if not target.exists(key):
                target.create(key, _read_hold(copy, key))


def _read_hold(copy: Copy, key: str) -> bytes:
    try:
        return copy.store.read(key)
    except StoreError as error:
        raise BackupError(
            f"a hold cannot be copied from {copy.store.name}: {error.message}", error.hint
        ) from error
