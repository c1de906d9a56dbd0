"""One try at a backup: its snapshot, its linked steps, and the destinations that still count.

    dump → Pipe → encrypt → SpoolFile → upload, one for each destination

The steps of an archive run at the same time. The first that fails ends the others; only an upload's failure
costs no more than its destination.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

from prefect.futures import PrefectFuture, wait

from blocks import compression
from blocks.gpg_program import PreparedRecipients
from blocks.process import Command
from blocks.spool import Chain, Pipe, SpoolDirectory
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

R = TypeVar("R")


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
        told = [future.result(raise_on_failure=False) for future in self.uploaded]
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
    spool: SpoolDirectory
    recipients: PreparedRecipients
    chain: Chain
    destinations: Destinations
    streams: list[Streams] = field(default_factory=list)
    transfers: dict[UUID, Store] = field(default_factory=dict)
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
            wait(steps)
        for step in steps:
            result = step.result(raise_on_failure=False)
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
            wait([*steps, *(step for stream in self.streams for step in stream.steps)])
            raise

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
        spool_file = self.spool.file(name)
        self.chain.add(spool_file.abort)
        encrypted = outbound.encrypt.submit(name, source, self.recipients, spool_file, self.chain)
        self.link(encrypted)
        uploaded = [
            self.transfer(
                outbound.upload.submit(
                    name, self.key(name), store, spool_file, self.destinations, expected_bytes
                ),
                store,
            )
            for store in self.destinations.live
        ]
        self.streams.append(Streams(name, kind, encrypted, uploaded))
        return self.streams[-1]
