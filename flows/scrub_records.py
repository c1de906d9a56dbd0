"""Records of what was read again on a destination: they lie there, so nothing else has to remember it."""

import secrets
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from blocks.errors import ObjectMissing, StoreError
from blocks.stores import Store, StoredObject
from flows.core import scrubs
from flows.core.errors import ManifestUnreadable
from flows.core.naming import BackupId, scrub_key, scrubs_prefix, started_at
from flows.core.scrubs import Look, Reader, ScrubRecord
from flows.documents import read_document

SECONDS_BETWEEN_RECORDS = 300.0


def read_records(store: Store, found: Iterable[StoredObject]) -> dict[str, ScrubRecord]:
    """Return the readable records among the objects that were found, by key, dated by the store's clock."""
    records = {}
    for each in found:
        try:
            record = scrubs.decode(read_document(store, each.key, each.size_bytes))
        except (ManifestUnreadable, ObjectMissing):
            continue
        records[each.key] = record.by_stores_clock(each.modified_at, _named_at(each.key))
    return records


def _named_at(key: str) -> datetime | None:
    """Return when a record was written, by its writer's clock; None if its name does not tell."""
    try:
        return started_at(BackupId(key.rpartition("/")[2]))
    except ValueError:
        return None


def records_on(store: Store, plan: str) -> dict[str, ScrubRecord]:
    """Return every readable record on a destination, by key."""
    return read_records(store, store.list(scrubs_prefix(plan)))


def superseded_records(store: Store, plan: str, present: Collection[BackupId]) -> list[str]:
    """Return the keys of the records on a destination that newer ones make superfluous."""
    return scrubs.superseded(records_on(store, plan), present)


@dataclass
class LookRecorder:
    """Writes looks to the destination that they are about: damage at once, the rest now and then.

    Where nothing is ever deleted, the rest is written at the end only.

    Args:
        failure: Why what was found last is not written; the next write tries again.
    """

    store: Store
    plan: str
    by: Reader
    failure: StoreError | None = None
    _looks: list[Look] = field(default_factory=list)
    _written_at: float = field(default_factory=time.monotonic)

    def add(self, look: Look) -> None:
        self._looks.append(look)
        is_late = time.monotonic() - self._written_at > SECONDS_BETWEEN_RECORDS
        if not look.intact or (is_late and not self.store.append_only):
            self.write()

    def write(self) -> None:
        """Write what was not written yet; that it cannot be written ends nobody's work."""
        self._written_at = time.monotonic()
        if not self._looks:
            return
        record = ScrubRecord(
            plan=self.plan, destination=self.store.name, by=self.by, looks=tuple(self._looks)
        )
        try:
            self.store.create(scrub_key(self.plan, datetime.now(UTC), secrets.token_hex(3)), record.encode())
        except StoreError as error:
            self.failure = error
        else:
            self.failure, self._looks = None, []


def write_look(store: Store, plan: str, by: Reader, look: Look) -> StoreError | None:
    """Write one look to the destination that it is about; return what kept it from being written."""
    with recorded_looks(store, plan, by) as recorder:
        recorder.add(look)
    return recorder.failure


@contextmanager
def recorded_looks(store: Store, plan: str, by: Reader) -> Iterator[LookRecorder]:
    """Yield a recorder; what it was told is on the destination when the block ends, however it ends."""
    recorder = LookRecorder(store, plan, by)
    try:
        yield recorder
    finally:
        recorder.write()
