"""The catalogue: what the stores hold of one plan, read from the stores alone."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from blocks.errors import ObjectMissing
from blocks.stores import Store, StoredObject
from flows.core import manifest as manifests
from flows.core import scrubs
from flows.core.errors import (
    BackupError,
    BackupNotFound,
    ManifestError,
    ManifestUnknown,
)
from flows.core.manifest import Manifest
from flows.core.naming import (
    MANIFEST_NAME,
    BackupId,
    is_backup_id,
    manifest_key,
    plan_prefix,
    scrubs_prefix,
    split_key,
    started_at,
)
from flows.core.retention import CatalogueEntry
from flows.core.scrubs import Look, Place
from flows.core.verification import Verdict, VerificationRecord
from flows.documents import read_document
from flows.scrub_records import read_records
from flows.verdicts import NOT_VERIFIED, Verifications, read_verifications, tells_of_damage


@dataclass(frozen=True)
class Copy:
    """One backup on one destination: its manifest, or why that cannot be trusted.

    A damaged copy, of which an archive is missing, short or changed, has both a manifest and a problem.

    Args:
        problem: What is wrong with it in one line; empty if nothing is known to be.
        remedy: What to do about it.
        unknown: It is no damage: only another release can tell.
    """

    backup_id: BackupId
    store: Store
    newest_object_at: datetime
    sizes: dict[str, int]
    manifest: Manifest | None = None
    manifest_sha256: str = ""
    verifications: Verifications = NOT_VERIFIED
    holds: tuple[str, ...] = ()
    problem: str = ""
    remedy: str = ""
    unknown: bool = False

    @property
    def committed(self) -> bool:
        """True if a manifest is there, readable or not."""
        return MANIFEST_NAME in self.sizes

    @property
    def verification(self) -> VerificationRecord | None:
        """The verification that counts."""
        return self.verifications.counting

    @property
    def verdict(self) -> Verdict | None:
        """The verdict that counts: a damaged copy has failed, whatever an earlier verification said."""
        if self.problem:
            return Verdict.UNVERIFIABLE if self.unknown else Verdict.FAILED
        return self.verification.verdict if self.verification else None

    @property
    def is_suspect(self) -> bool:
        """True if a verification found its bytes wrong or missing, and no scrub has told since which."""
        return not self.problem and self.verification is not None and tells_of_damage(self.verification)

    @property
    def is_damaged(self) -> bool:
        """True if its bytes are known to be wrong or missing, which says nothing of the other copies."""
        return self.is_suspect or bool(self.problem and not self.unknown)

    @property
    def is_disproved(self) -> bool:
        """True if it came back other than it was dumped, as every copy would: they hold the same bytes."""
        return self._verdict_if_whole is Verdict.FAILED

    @property
    def is_sound(self) -> bool:
        """True if it is worth copying: whole as far as is known, and not known to be unfit for a restore."""
        return self.manifest is not None and not self.problem and self.verdict is not Verdict.FAILED

    @property
    def entry(self) -> CatalogueEntry:
        """What retention looks at: a damaged copy stands there with the verdict that it has once healed."""
        return CatalogueEntry(
            self.backup_id,
            started_at(self.backup_id),
            self._verdict_if_whole,
            self.holds,
            damaged=self.is_damaged,
        )

    @property
    def _verdict_if_whole(self) -> Verdict | None:
        found = self.verifications.if_whole
        return found.verdict if found else None


@dataclass(frozen=True)
class Backup:
    """One backup with its copies; there is at least one."""

    backup_id: BackupId
    copies: list[Copy] = field(default_factory=list)

    @property
    def manifest(self) -> Manifest | None:
        return next((copy.manifest for copy in self.copies if copy.manifest), None)

    @property
    def verdict(self) -> Verdict | None:
        """Failed if any copy was disproved; else verified if any whole copy is.

        A damaged copy counts only if no other is there: it tells of its destination, not of the backup.
        """
        if any(copy.is_disproved for copy in self.copies):
            return Verdict.FAILED
        whole = [copy for copy in self.copies if not copy.is_damaged]
        verdicts = {copy.verdict for copy in whole or self.copies}
        for verdict in (Verdict.FAILED, Verdict.VERIFIED, Verdict.UNVERIFIABLE):
            if verdict in verdicts:
                return verdict
        return None

    @property
    def has_unverified_copy(self) -> bool:
        """True if nobody knows of some copy whether it can be restored."""
        return any(copy.verdict in (None, Verdict.UNVERIFIABLE) for copy in self.copies)

    @property
    def problems(self) -> list[str]:
        """What is wrong with which copy."""
        return [f"{copy.store.name}: {copy.problem}" for copy in self.copies if copy.problem]

    def copy_on(self, destination: str) -> Copy | None:
        return next((copy for copy in self.copies if copy.store.name == destination), None)


def read_store(store: Store, plan: str) -> list[Copy]:
    """Return everything that one destination holds of a plan, oldest first, litter included."""
    objects: dict[BackupId, dict[str, tuple[int, datetime]]] = {}
    records: list[StoredObject] = []
    for found in store.list(plan_prefix(plan)):
        if (split := split_key(plan, found.key)) is not None:
            objects.setdefault(split[0], {})[split[1]] = (found.size_bytes, found.modified_at)
        elif found.key.startswith(scrubs_prefix(plan)):
            records.append(found)
    looks = scrubs.newest_looks(read_records(store, records).values())
    return [_copy(store, plan, identifier, objects[identifier], looks) for identifier in sorted(objects)]


def committed_backups(copies: Iterable[Copy]) -> list[Backup]:
    """Return the committed backups among copies of any destinations, newest first."""
    backups: dict[BackupId, Backup] = {}
    for copy in copies:
        if copy.committed:
            backups.setdefault(copy.backup_id, Backup(copy.backup_id)).copies.append(copy)
    return sorted(backups.values(), key=lambda backup: backup.backup_id, reverse=True)


def find(backups: list[Backup], wanted: str) -> Backup:
    """Return the backup that `wanted` names: an id, `latest`, or `oldest-unverified`.

    Args:
        backups: Committed ones, newest first.
    """
    if wanted == "latest" and backups:
        return backups[0]
    if wanted == "oldest-unverified":
        unverified = [backup for backup in backups if backup.has_unverified_copy]
        never_tried = [one for one in unverified if any(copy.verdict is None for copy in one.copies)]
        if unverified:
            return (never_tried or unverified)[-1]
        raise BackupNotFound("every backup has been verified", "verify latest does it again")
    for backup in backups:
        if backup.backup_id == wanted:
            return backup
    if not backups:
        raise BackupNotFound("no backup is there", "run pgsalvo backup, or look at the plan's other stores")
    hint = f"the newest is {backups[0].backup_id}; pgsalvo list shows all"
    if wanted != "latest" and not is_backup_id(wanted):
        raise BackupNotFound(f"not a backup's id: {wanted!r}", hint)
    raise BackupNotFound(f"there is no backup {wanted}", hint)


def newest_manifest(store: Store, plan: str) -> Manifest | None:
    """Return the newest readable manifest on a destination, without reading all of them."""
    sizes = {
        split[0]: found.size_bytes
        for found in store.list(plan_prefix(plan))
        if (split := split_key(plan, found.key)) is not None and split[1] == MANIFEST_NAME
    }
    for identifier in sorted(sizes, reverse=True):
        try:
            return manifests.decode(read_document(store, manifest_key(plan, identifier), sizes[identifier]))
        except (ManifestError, ObjectMissing):
            continue
    return None


def _copy(
    store: Store,
    plan: str,
    identifier: BackupId,
    objects: dict[str, tuple[int, datetime]],
    looks: Mapping[Place, Look],
) -> Copy:
    sizes = {name: size for name, (size, _) in objects.items()}
    newest = max(modified_at for _, modified_at in objects.values())
    holds = tuple(
        name.removeprefix("holds/").removesuffix(".json")
        for name in sorted(sizes)
        if name.startswith("holds/")
    )
    if MANIFEST_NAME not in sizes:
        return Copy(identifier, store, newest, sizes, holds=holds)
    try:
        body = read_document(store, manifest_key(plan, identifier), sizes[MANIFEST_NAME])
        document = manifests.decode(body)
        _check_identity(document, plan, identifier)
    except (BackupError, ObjectMissing) as error:
        unknown = isinstance(error, ManifestUnknown)
        return Copy(
            identifier, store, newest, sizes,
            holds=holds, problem=error.message, remedy=error.hint, unknown=unknown,
        )  # fmt: skip
    digest = manifests.sha256(body)
    verified = read_verifications(store, plan, document, objects, digest, looks)
    problem = _incomplete(document, sizes) or scrubs.known_damage(document, digest, looks)
    remedy = _remedy(store, plan) if problem else ""
    return Copy(identifier, store, newest, sizes, document, digest, verified, holds, problem, remedy)


def _remedy(store: Store, plan: str) -> str:
    if store.append_only:
        return "nothing is replaced there: take it away by hand, and the next sync copies it again"
    return f"pgsalvo sync {plan} heals it if another destination has it whole and retention keeps it"


def _check_identity(document: Manifest, plan: str, identifier: BackupId) -> None:
    if (document.plan, document.backup_id) != (plan, identifier):
        raise BackupError(f"the manifest is of backup {document.backup_id} of the plan {document.plan}")
    for kind in ("main", "globals", "facts"):
        document.archive(kind)


def _incomplete(document: Manifest, sizes: Mapping[str, int]) -> str:
    """Return which archive is not there or not of its size, in one line; empty if all are."""
    for archive in document.archives:
        if archive.name not in sizes:
            return f"{archive.name} is missing"
        if sizes[archive.name] != archive.size_bytes:
            return f"{archive.name} has {sizes[archive.name]} bytes instead of {archive.size_bytes}"
    return ""
