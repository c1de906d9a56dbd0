"""The story of a scrub: stored archives are read again and compared with their manifests, without any key."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta

from prefect import flow

from blocks.errors import WorldError
from blocks.stores import Store
from flows import hooks, outcomes, reports
from flows.catalogue import Copy, read_store
from flows.core import scrubs
from flows.core.errors import ChecksumMismatch
from flows.core.manifest import Archive, Manifest
from flows.core.naming import BackupId, scrubs_prefix
from flows.core.scrubs import Look, ScrubRecord, StoredArchive
from flows.looking import look_again
from flows.outcomes import Failures, summed, told
from flows.plan import BackupPlan
from flows.plan_source import load_plan
from flows.progress import Progress, shown
from flows.scrub_records import recorded_looks, records_on
from flows.scrubbing import scrubbed


@dataclass
class Scrubbed:
    """What a scrub found on one destination.

    Args:
        archives: How many there are.
        read: How many of them were read again now.
        damaged: What is wrong with which backup there, also if an earlier scrub found it.
        error: Why its catalogue could not be read, or not to its end; empty if it could.
    """

    destination: str
    error: str = ""
    archives: int = 0
    read: int = 0
    read_bytes: int = 0
    damaged: dict[BackupId, str] = field(default_factory=dict)


@flow(name="scrub", on_failure=[hooks.alert], on_crashed=[hooks.alert])
@scrubbed
def scrub(plan: str, destination: str = "", everything: bool = False) -> list[Scrubbed]:
    """Read stored archives again and compare them with their manifests' checksums.

    Args:
        plan: Name of the backup plan.
        destination: Name of the store to read; all of the plan's if empty.
        everything: Read all archives, instead of the part that keeps each younger than the plan's scrub_days.
    """
    loaded = load_plan(plan)
    stores = [loaded.store(destination)] if destination else loaded.stores
    done, failures = scrub_stores(loaded, stores, everything=everything)
    reports.publish_scrub(loaded, done)
    outcomes.tell(done)
    if found := damage(loaded, done):
        failures.insert(0, found)
    outcomes.raise_all(f"scrubbing {plan}", failures)
    return done


def scrub_stores(
    plan: BackupPlan, stores: Sequence[Store], *, everything: bool = False
) -> tuple[list[Scrubbed], Failures]:
    """Scrub destinations; one that fails does not keep the others from it.

    Returns:
        What was found on each, and what could not be read.
    """
    done: list[Scrubbed] = []
    failures: Failures = []
    for store in stores:
        done.append(Scrubbed(store.name))
        try:
            _scrub_store(plan, store, everything, done[-1], failures)
        except WorldError as error:
            done[-1].error = told(error)
            failures.append(error)
    return done, failures


def damage(plan: BackupPlan, done: Iterable[Scrubbed]) -> ChecksumMismatch | None:
    """Return the error that tells of every damaged copy; None if there is none."""
    told = [
        f"backup {identifier} on {found.destination} is damaged: {problem}"
        for found in done
        for identifier, problem in found.damaged.items()
    ]
    if not told:
        return None
    more = f" (and {len(told) - 1} more)" if len(told) > 1 else ""
    return ChecksumMismatch(
        told[0] + more,
        f"pgsalvo sync {plan.name} heals what another destination has whole; find out what changes bytes",
    )


def scrubbed_rows(done: Iterable[Scrubbed]) -> list[dict[str, object]]:
    """Return what `pgsalvo scrub --json` prints of each destination."""
    return [asdict(destination) for destination in done]


def _scrub_store(
    plan: BackupPlan, store: Store, everything: bool, done: Scrubbed, failures: Failures
) -> None:
    copies = [(copy, copy.manifest) for copy in read_store(store, plan.name) if copy.manifest]
    records = list(records_on(store, plan.name).values())
    archives = _archives(copies, records)
    done.archives = len(archives)
    chosen = archives if everything or not plan.scrub_days else _due(plan, archives, records)
    held = {
        (copy.backup_id, archive.name): (copy, manifest, archive)
        for copy, manifest in copies
        for archive in manifest.archives
    }
    unread: Failures = []
    progress = Progress("scrub", sum(archive.size_bytes for archive in chosen), where=store.name)
    with shown(progress), recorded_looks(store, plan.name, "scrub") as recorder:
        for one in chosen:
            try:
                look = look_again(*held[one.backup_id, one.name], progress)
            except WorldError as error:
                unread.append(error)
                if error.transient and not _answers(store, plan):
                    break
            else:
                done.read, done.read_bytes = done.read + 1, done.read_bytes + one.size_bytes
                if look:
                    _note(look, done)
                    recorder.add(look)
    failures += summed(unread)
    if recorder.failure:
        failures.append(recorder.failure)
    done.damaged |= _known_damage(store, plan)


def _note(look: Look, done: Scrubbed) -> None:
    """Remember damage at once: it is told also if it cannot be written down."""
    if not look.intact:
        done.damaged.setdefault(look.backup_id, scrubs.told_of(look))


def _answers(store: Store, plan: BackupPlan) -> bool:
    """Return whether a destination still answers, so that only one archive is in trouble."""
    try:
        any(True for _ in store.list(scrubs_prefix(plan.name)))
    except WorldError:
        return False
    return True


def _known_damage(store: Store, plan: BackupPlan) -> dict[BackupId, str]:
    return {
        copy.backup_id: copy.problem
        for copy in read_store(store, plan.name)
        if copy.committed and copy.problem and not copy.unknown
    }


def _due(
    plan: BackupPlan, archives: Iterable[StoredArchive], records: Iterable[ScrubRecord]
) -> list[StoredArchive]:
    return scrubs.due(
        archives,
        datetime.now(UTC),
        within=timedelta(days=plan.scrub_days),
        scrubbed_at=scrubs.last_scrub_at(records),
    )


def _archives(copies: Iterable[tuple[Copy, Manifest]], records: Iterable[ScrubRecord]) -> list[StoredArchive]:
    """Return every archive of some copies with what was last seen of it."""
    looks = scrubs.newest_looks(records)
    return [
        _seen(copy, manifest, archive, looks.get((copy.backup_id, archive.name)))
        for copy, manifest in copies
        for archive in manifest.archives
    ]


def _seen(copy: Copy, manifest: Manifest, archive: Archive, look: Look | None) -> StoredArchive:
    """Tell when an archive was last read, and whether it was right or is under suspicion.

    The first time is when the backup was made, if it was read back.
    """
    intact = not copy.is_suspect
    if look is None or look.manifest_sha256 != copy.manifest_sha256:
        read_at = manifest.finished_at if manifest.read_back == "always" else scrubs.NEVER
    else:
        read_at, intact = look.read_at, intact and look.intact
    return StoredArchive(copy.backup_id, archive.name, archive.size_bytes, read_at, intact)
