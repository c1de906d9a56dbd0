"""One try at a backup: its snapshot, its linked steps, and the destinations that still count.

    dump → Pipe → encrypt → Spool → upload, one for each destination

The steps of an archive run at the same time. The first that fails ends the others; only an upload's failure
costs no more than its destination.
"""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from threading import Event
from typing import Any, TypeVar
from uuid import UUID

from prefect.futures import PrefectFuture

from blocks import compression
from blocks.errors import StoreUnreachable
from blocks.gpg_program import PreparedRecipients
from blocks.process import Command
from blocks.spool import Chain, Pipe
from blocks.spool_segments import Spool, SpoolReader, SpoolStream
from blocks.stores import Store
from flows.core import naming
from flows.core.facts import Facts
from flows.core.manifest import Archive, ArchiveKind, Timings
from flows.core.naming import BackupId
from flows.destinations import Destinations
from flows.plan import BackupPlan
from flows.progress import Progress
from flows.tasks import outbound
from flows.tasks.outbound import Dumped, Encrypted
from flows.tasks.preflight import Ready
from flows.tasks.reading_back import Passage

R = TypeVar("R")

WORTH_TELLING_SECONDS = 10.0
LOST_SECONDS = 60.0  # how long an upload's end is waited for once its destination was given up
LOOK_SECONDS = 1.0


@dataclass
class Streams:
    """The running steps of one archive; the facts have no dump of their own."""

    name: str
    kind: ArchiveKind
    encrypted: PrefectFuture[Encrypted]
    uploaded: list[PrefectFuture[float]]
    dumped: PrefectFuture[Dumped] | None = None
    plain_bytes: int = 0

    @property
    def links(self) -> list[PrefectFuture[Any]]:
        """The steps that end when the archive lies in the spool."""
        return [*([self.dumped] if self.dumped else []), self.encrypted]

    @property
    def steps(self) -> list[PrefectFuture[Any]]:
        return [*self.links, *self.uploaded]

    @property
    def dump_seconds(self) -> float:
        return self.dumped.result().seconds if self.dumped else 0.0

    @property
    def upload_seconds(self) -> float:
        """Of the slowest destination that took it."""
        told = [_result_by_now(future) for future in self.uploaded]
        return max((seconds for seconds in told if isinstance(seconds, float)), default=0.0)

    @property
    def archive(self) -> Archive:
        """What the manifest says of it, once every step has ended."""
        encrypted = self.encrypted.result()
        return Archive(
            name=self.name,
            kind=self.kind,
            size_bytes=encrypted.size_bytes,
            sha256=encrypted.sha256,
            plain_bytes=self.dumped.result().plain_bytes if self.dumped else self.plain_bytes,
        )


@dataclass
class Attempt:
    """What the steps of one attempt share."""

    plan: BackupPlan
    ready: Ready
    backup_id: BackupId
    started_at: datetime
    spool: Spool
    recipients: PreparedRecipients
    chain: Chain
    destinations: Destinations
    streams: list[Streams] = field(default_factory=list)
    transfers: dict[UUID, Store] = field(default_factory=dict)
    passages: dict[tuple[str, str], Passage] = field(default_factory=dict)
    snapshot_seconds: float = 0.0

    def key(self, name: str) -> str:
        return naming.object_key(self.plan.name, self.backup_id, name)

    def start_dump(self, name: str, kind: ArchiveKind, command: Command, progress: Progress) -> None:
        """Start the steps of an archive that a program writes."""
        pipe = Pipe()
        self.chain.add(pipe.abort)
        silence_seconds = self.plan.database.silence_seconds
        dumped = outbound.dump.submit(kind, command, pipe, self.chain, progress, silence_seconds)
        self._start_encryption(name, kind, pipe.read(), self.ready.expected_bytes).dumped = dumped
        self.link(dumped)

    def store_facts(self, facts: Facts) -> None:
        """Store the facts, bound to the other archives by their checksums, and wait until they are stored."""
        checksums = {stream.name: stream.encrypted.result().sha256 for stream in self.streams}
        bound = facts.model_copy(update={"archives": checksums})
        body = bound.model_dump_json().encode()
        stream = self._start_encryption(
            naming.FACTS_ARCHIVE, "facts", compression.compressed([body]), len(body)
        )
        stream.plain_bytes = len(body)
        self.finish(stream.steps)

    def passage(self, name: str, store: Store) -> Passage | None:
        """Return what notes an archive's way to a destination; None where all of it is read back."""
        if self.plan.read_back == "always":
            return None
        return self.passages.setdefault((name, store.name), Passage())

    def link(self, step: PrefectFuture[Any]) -> None:
        """Fail the chain with a step, even one that Prefect ends before its own code runs."""
        step.add_done_callback(self._fail_unless_completed)

    def _fail_unless_completed(self, step: PrefectFuture[Any]) -> None:
        result = step.result(raise_on_failure=False)
        if isinstance(result, BaseException):
            self.chain.fail(result)

    def transfer(self, step: PrefectFuture[R], store: Store) -> PrefectFuture[R]:
        """Note that a destination counts only if this step completes, whatever ends it."""
        self.transfers[step.task_run_id] = store
        return step

    def finish(self, steps: "list[PrefectFuture[Any]]") -> None:
        """Wait for steps; raise the first cause if one failed, never what followed from it."""
        with self.stopped_with(*steps):
            self._await(steps)
        for step in steps:
            result = _result_by_now(step)
            if step.task_run_id in self.transfers and isinstance(result, BaseException):
                self.destinations.give_up(self.transfers[step.task_run_id], result)
        if self.chain.first_cause is not None:
            raise self.chain.first_cause

    @contextmanager
    def stopped_with(self, *steps: "PrefectFuture[Any]") -> Iterator[None]:
        """End every link if this thread is cancelled, and wait until none of them writes any more."""
        try:
            yield
        except BaseException as error:
            self.chain.fail(error)
            self._await([*steps, *(step for stream in self.streams for step in stream.steps)])
            raise

    def _await(self, steps: "Sequence[PrefectFuture[Any]]") -> None:
        """Wait until steps have ended; one that hangs on a lost destination is not waited for for ever."""
        ended = {step.task_run_id: Event() for step in steps}
        for step in steps:
            step.add_done_callback(lambda done: ended[done.task_run_id].set())
        for step in steps:
            until = math.inf
            while not ended[step.task_run_id].wait(LOOK_SECONDS) and time.monotonic() < until:
                self.spool.give_up_stalled()
                store = self.transfers.get(step.task_run_id)
                if store is not None and store.name in self.destinations.lost:
                    until = min(until, time.monotonic() + LOST_SECONDS)

    def note_waiting(self) -> None:
        """Tell which destinations the dump waited for, and its snapshot with it."""
        self.destinations.notes.extend(
            f"the dump, and its snapshot with it, waited {seconds:.0f} s for {name}:"
            " the spool was full (spool_max_bytes)"
            for name, seconds in self.spool.waited_seconds.items()
            if seconds >= WORTH_TELLING_SECONDS
        )

    @property
    def archives(self) -> tuple[Archive, ...]:
        return tuple(stream.archive for stream in self.streams)

    def timings(self, facts_seconds: float, checksum_seconds: float) -> Timings:
        return Timings(
            dump=max(stream.dump_seconds for stream in self.streams),
            facts=facts_seconds,
            encrypt=max(stream.encrypted.result().seconds for stream in self.streams),
            upload=max(stream.upload_seconds for stream in self.streams),
            checksum=checksum_seconds,
            snapshot=self.snapshot_seconds,
        )

    def _start_encryption(
        self, name: str, kind: ArchiveKind, source: Iterator[bytes], expected_bytes: int
    ) -> Streams:
        spooled = self.spool.file(name)
        self.chain.add(spooled.abort)
        readers = [(store, self._reader(spooled, store)) for store in self.destinations.live]
        encrypted = outbound.encrypt.submit(name, source, self.recipients, spooled, self.chain)
        self.link(encrypted)
        uploaded = [self._start_upload(name, store, reader, expected_bytes) for store, reader in readers]
        self.streams.append(Streams(name, kind, encrypted, uploaded))
        return self.streams[-1]

    def _reader(self, spooled: SpoolStream, store: Store) -> SpoolReader:
        """Return what an upload reads from; a lost destination needs the spool no more."""

        def give_up(seconds: float) -> None:
            cause = StoreUnreachable(
                f"{store.name} took nothing for {seconds:.0f} s",
                "see what holds it up there, or raise spool_stall_seconds",
            )
            self.destinations.give_up(store, cause)

        reader = spooled.reader(store.name, give_up)
        self.destinations.when_lost(store, reader.leave)
        return reader

    def _start_upload(
        self, name: str, store: Store, reader: SpoolReader, expected_bytes: int
    ) -> PrefectFuture[float]:
        """Start an upload; however it ends, the dump waits for it no more."""
        key, passage = self.key(name), self.passage(name, store)
        step = outbound.upload.submit(name, key, store, reader, self.destinations, expected_bytes, passage)
        step.add_done_callback(lambda _: reader.leave())
        return self.transfer(step, store)


def _result_by_now(step: PrefectFuture[Any]) -> Any:
    """Return what a step ended with, None while it has not."""
    try:
        return step.result(timeout=0, raise_on_failure=False)
    except TimeoutError:
        return None
