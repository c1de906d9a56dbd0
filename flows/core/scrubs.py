"""What scrubs remember of one destination: which archive was read again when, and which ones are due.

Pure: whoever calls tells the clock. Of several looks at one archive the newest by the store's clock counts,
and only for the manifest whose checksums it was compared with. Nothing from inside the database is named.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from flows.core.errors import ManifestUnreadable
from flows.core.manifest import ARCHIVE_NAME_PATTERN, Manifest, Sha256
from flows.core.naming import BACKUP_ID_PATTERN, BackupId

EVERY = timedelta(days=8)  # a scrub a week, and a day for one that begins late or takes long
NEVER = datetime.min.replace(tzinfo=UTC)
_TICK = timedelta(seconds=1)  # records' names, and some stores' dates, are of whole seconds
_AGREE = timedelta(seconds=3)  # clocks that differ by no more than ticks and a short upload explain
_SLOWEST = timedelta(days=1)  # a wrong time zone is less; an object's date that is later may be a copy's

Place = tuple[BackupId, str]
Reader = Literal["scrub", "sync", "verify"]


class Look(BaseModel):
    """One archive that was read again."""

    model_config = ConfigDict(frozen=True, extra="allow")

    backup_id: BackupId = Field(pattern=BACKUP_ID_PATTERN)
    archive: str = Field(pattern=ARCHIVE_NAME_PATTERN)
    manifest_sha256: Sha256
    read_at: AwareDatetime
    intact: bool = Field(description="Whether its checksum was still the manifest's.")

    @property
    def place(self) -> Place:
        return self.backup_id, self.archive


class ScrubRecord(BaseModel):
    """What one scrub, or a part of it, looked at on one destination."""

    model_config = ConfigDict(frozen=True, extra="allow")

    format_version: Literal[1] = 1
    plan: str
    destination: str
    by: Reader = "scrub"
    looks: tuple[Look, ...]

    def encode(self) -> bytes:
        return self.model_dump_json(indent=2).encode() + b"\n"

    def by_stores_clock(self, modified_at: datetime, named_at: datetime | None) -> "ScrubRecord":
        """Return the record with its looks dated by the store's clock, so that any host's can be compared.

        Each look began as long before the record was written as the writer's own clock says, and none later
        than that: a scrub that overlaps a heal comes before it, however late its record is written. A host
        slower than a day looks like a tool that copied the store and dated its objects anew: then damage
        counts as found at the store's date, and what was intact as read at the writer's, so that neither
        forgets damage.

        Args:
            modified_at: When the record was written, by the store's clock.
            named_at: The same by the writer's, to the second, as the record's key tells it; None if that
                tells nothing, and the writer's clock is believed.
        """
        looks = (
            look.model_copy(update={"read_at": _by_stores_clock(look, modified_at, named_at)})
            for look in self.looks
        )
        return self.model_copy(update={"looks": tuple(looks)})


@dataclass(frozen=True)
class StoredArchive:
    """An archive as a scrub sees it.

    Args:
        read_at: When it was last read again; for one that never was, when it was stored and read back, or
            `NEVER`.
        intact: False if that look found it damaged.
    """

    backup_id: BackupId
    name: str
    size_bytes: int
    read_at: datetime
    intact: bool = True


def decode(body: bytes) -> ScrubRecord:
    try:
        return ScrubRecord.model_validate_json(body)
    except ValidationError as error:
        raise ManifestUnreadable("a scrub's record is not readable") from error


def _by_stores_clock(look: Look, modified_at: datetime, named_at: datetime | None) -> datetime:
    written_at = modified_at
    if named_at and abs(modified_at - named_at) > _AGREE:
        may_be_copied = modified_at - named_at > _SLOWEST
        if not (may_be_copied and look.intact):
            written_at = named_at + _TICK
    before = max(written_at - look.read_at, -_TICK)
    return modified_at - min(before, modified_at - NEVER)


def newest_looks(records: Iterable[ScrubRecord]) -> dict[Place, Look]:
    """Return the look that counts for each archive; of two at the same time, the one that found damage.

    Args:
        records: Dated by the store's clock.
    """
    newest: dict[Place, Look] = {}
    for look in (look for record in records for look in record.looks):
        known = newest.setdefault(look.place, look)
        if (look.read_at, not look.intact) > (known.read_at, not known.intact):
            newest[look.place] = look
    return newest


def known_damage(manifest: Manifest, manifest_sha256: Sha256, looks: Mapping[Place, Look]) -> str:
    """Return what is known to be wrong with a copy's archives, in one line; empty if nothing is.

    Args:
        manifest_sha256: Of the manifest's own bytes.
        looks: Those that count on the copy's destination.
    """
    for archive in manifest.archives:
        look = looks.get((manifest.backup_id, archive.name))
        if look and look.manifest_sha256 == manifest_sha256 and not look.intact:
            return told_of(look)
    return ""


def is_intact_since(
    manifest: Manifest, manifest_sha256: Sha256, looks: Mapping[Place, Look], moment: datetime
) -> bool:
    """Return whether every archive of a backup was read since then, and found to be the manifest's.

    Args:
        looks: Those that count on the copy's destination, dated by the store's clock.
        moment: By the same clock, such as the store's date of a verification's record. A record's own
            `verified_at` is by its host's: one that is slow lets looks from before the verification count,
            unless that wrote a look of its own; one that is fast is believed until its clock has passed.
    """
    found = [looks.get((manifest.backup_id, archive.name)) for archive in manifest.archives]
    return all(
        look and look.intact and look.manifest_sha256 == manifest_sha256 and look.read_at >= moment
        for look in found
    )


def told_of(look: Look) -> str:
    """Return in one line what a look found wrong."""
    return (
        f"{look.archive}: its checksum was not the manifest's when it was read again at"
        f" {look.read_at:%Y-%m-%d %H:%M:%S %Z}"
    )


def last_scrub_at(records: Iterable[ScrubRecord]) -> datetime | None:
    """Return when a scrub last read anything; what others looked at does not count."""
    return max(
        (look.read_at for record in records if record.by == "scrub" for look in record.looks), default=None
    )


def due(
    archives: Iterable[StoredArchive],
    now: datetime,
    *,
    within: timedelta,
    scrubbed_at: datetime | None,
    every: timedelta = EVERY,
) -> list[StoredArchive]:
    """Return what to read again now: known damage first, then what was not read for longest.

    Whatever would be unread for longer than `within` before the next scrub is due. Beyond that, as much as
    falls to the time since the last scrub, so that one week does not bring everything at once; what was never
    read comes first then. A time that is yet to come counts as too long ago.

    Args:
        archives: All that the destination holds of the plan; any order.
        within: The time in which everything is to be read once.
        scrubbed_at: When the last scrub was; None if nothing was ever scrubbed here.
        every: The longest time until the next scrub.
    """
    past = (replace(one, read_at=now - within) if one.read_at > now else one for one in archives)
    oldest_first = sorted(past, key=lambda one: (one.intact, one.read_at, one.backup_id, one.name))
    elapsed = min(every, max(now - scrubbed_at, timedelta())) if scrubbed_at else every
    share = sum(archive.size_bytes for archive in oldest_first) * min(1.0, elapsed / within)
    chosen: list[StoredArchive] = []
    size_bytes = 0
    for archive in oldest_first:
        is_old = archive.read_at != NEVER and now + every - archive.read_at > within
        is_due = is_old or not archive.intact
        if not is_due and size_bytes >= share:
            break
        chosen.append(archive)
        size_bytes += archive.size_bytes
    return chosen


def superseded(records: Mapping[str, ScrubRecord], present: Collection[BackupId]) -> list[str]:
    """Return the names of the records that tell nothing any more.

    Every backup that such a record tells of is gone, or a later look at the same archive stands in another.

    Args:
        records: All of one destination, by name.
        present: The backups that are there.
    """
    counting = newest_looks(records.values())
    return sorted(
        name
        for name, record in records.items()
        if not any(look.backup_id in present and counting[look.place] == look for look in record.looks)
    )
