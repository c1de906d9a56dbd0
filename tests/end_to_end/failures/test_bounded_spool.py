"""A spool of 1 MiB for a dump of 12: whoever stalls slows the backup, whoever dies is left behind."""

import re
import shutil
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from blocks.errors import SpoolFull, StoreError, StoreUnreachable
from blocks.stores import LocalStore, S3Store, StoredObject, s3_access, upload_parts
from flows import attempt, backup
from flows.catalogue import committed_backups, read_store
from flows.core.naming import MAIN_ARCHIVE, MANIFEST_NAME
from flows.tasks import outbound, preflight
from tests.servers.ledger import Ledger
from tests.servers.processes import eventually, meanwhile
from tests.servers.runs import started_backup
from tests.servers.s3 import ACCESS_KEY_ID, SECRET_ACCESS_KEY, BrokenLine, S3Server, broken_line, start_s3

BUCKET = "backups"
LIMIT = 1 << 20
LOCAL = {"name": "local", "kind": "local", "path": "store"}
SECOND = {"name": "second", "kind": "local", "path": "second"}
FIRST_BYTES = 2 << 20


@pytest.fixture(scope="module")
def s3_server() -> Iterator[S3Server]:
    server = start_s3(BUCKET)
    yield server
    server.stop()


@pytest.fixture
def line(s3_server: S3Server) -> Iterator[BrokenLine]:
    with broken_line(s3_server.port) as line:
        yield line


@pytest.fixture
def bucket(s3_server: S3Server) -> Iterator[S3Store]:
    """The bucket, reached directly; it is empty again afterwards."""
    store = s3_server.store(BUCKET)
    yield store
    for upload in list(store.pending()):
        store.abort_pending(upload)
    for found in list(store.list()):
        store.delete(found.key)


@pytest.fixture(autouse=True)
def small_parts_and_short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload_parts, "SMALLEST_PART_BYTES", 256 << 10)
    monkeypatch.setattr(s3_access, "RETRIES", 0)
    monkeypatch.setattr(s3_access, "ASKED_TIMES", 1)
    for transfer in (outbound.upload, outbound.checksum, outbound.commit):
        monkeypatch.setattr(transfer, "retry_delay_seconds", [0.05])


@pytest.fixture
def bounded(ledger: Ledger, line: BrokenLine) -> Iterator[Ledger]:
    """The ledger, with a small spool and two destinations, one of them at the end of the line."""
    (ledger.plan.directory / "s3-secret").write_text(SECRET_ACCESS_KEY)
    offsite = {
        "name": "offsite",
        "kind": "s3",
        "bucket": BUCKET,
        "endpoint_url": line.endpoint_url,
        "access_key_id": ACCESS_KEY_ID,
        "secret_access_key": "file:s3-secret",
    }
    ledger.plan.write(stores=[LOCAL, offsite], spool_max_bytes=LIMIT, required=1)
    yield ledger
    shutil.rmtree(ledger.plan.directory / "second", ignore_errors=True)


class Gate:
    """A local store's `put` that stops amid its archive, or before it, until it is opened."""

    def __init__(self, store: str, *, after_bytes: int) -> None:
        self._store, self._after_bytes = store, after_bytes
        self._open = threading.Event()
        self.reached = threading.Event()

    def open(self) -> None:
        self._open.set()

    def passing(self, chunks: Any) -> Iterator[bytes]:
        passed = 0
        if not self._after_bytes:
            self._stop()
        for chunk in chunks:
            yield chunk
            passed += len(chunk)
            if passed >= self._after_bytes:
                self._stop()

    def _stop(self) -> None:
        self.reached.set()
        assert self._open.wait(60)

    def install(self, patch: pytest.MonkeyPatch) -> None:
        put = LocalStore.put

        def gated(store: LocalStore, key: str, chunks: Any, **more: Any) -> int:
            is_gated = store.name == self._store and key.endswith(MAIN_ARCHIVE)
            return put(store, key, self.passing(chunks) if is_gated else chunks, **more)

        patch.setattr(LocalStore, "put", gated)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], Gate]]:
    """Let the archive on `second` come to a halt after so many bytes."""
    made: list[Gate] = []

    def make(after_bytes: int) -> Gate:
        made.append(Gate("second", after_bytes=after_bytes))
        made[0].install(monkeypatch)
        return made[0]

    yield make
    for each in made:
        each.open()


def test_the_spool_never_holds_more_than_its_limit_and_every_copy_is_whole(
    bounded: Ledger, bucket: S3Store
) -> None:
    with _watched(bounded.plan.spool) as sizes:
        made = bounded.plan.back_up()
    assert 0 < max(sizes) < 2 * LIMIT  # segments that go while they are added up count twice
    manifest = bounded.plan.manifest(made)
    assert manifest.size_bytes > 8 * LIMIT
    assert [copy.problems for copy in bounded.plan.backups_everywhere()] == [[], []]
    (copy,) = committed_backups(read_store(bucket, bounded.plan.name))
    assert copy.manifest == manifest
    bounded.assert_at_rest()


def test_a_destination_that_stalls_slows_the_dump_and_is_told_of(
    bounded: Ledger,
    gate: Callable[[int], Gate],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(attempt, "WORTH_TELLING_SECONDS", 0.5)
    bounded.plan.write(stores=[LOCAL, SECOND], required=2)
    second = gate(FIRST_BYTES)

    def look_and_go_on() -> None:
        second.reached.wait(60)
        eventually(bounded._waits_for_its_reader, "pg_dump waits")
        time.sleep(1.0)
        second.open()

    with meanwhile(look_and_go_on):
        made = bounded.plan.back_up()
    assert [copy.backup_id for copy in bounded.plan.backups_everywhere()].count(made) == 1
    assert bounded.plan.manifest(made).timings.snapshot > 1.0
    assert re.search(r"the dump, and its snapshot with it, waited \d+ s for second: the spool", caplog.text)
    bounded.assert_at_rest()


@pytest.mark.parametrize("after_bytes", [0, FIRST_BYTES], ids=["never reads", "stops reading"])
def test_a_destination_that_takes_nothing_any_more_is_given_up_and_the_other_copy_committed(
    bounded: Ledger,
    gate: Callable[[int], Gate],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    after_bytes: int,
) -> None:
    monkeypatch.setattr(attempt, "LOST_SECONDS", 0.2)
    bounded.plan.write(stores=[LOCAL, SECOND], spool_stall_seconds=5)
    second, before = gate(after_bytes), set(bounded.stored())

    def open_once_committed() -> None:
        eventually(
            lambda: any(name.endswith(MANIFEST_NAME) for name in set(bounded.stored()) - before),
            "the other copy is committed while this upload still hangs",
        )
        second.open()

    with meanwhile(open_once_committed):
        made = bounded.plan.back_up()
    assert bounded.plan.manifest(made)
    assert "second does not hold this backup: second took nothing for 5 s" in caplog.text
    bounded.assert_at_rest()


def test_the_last_destination_that_takes_nothing_any_more_fails_the_backup(
    bounded: Ledger, gate: Callable[[int], Gate]
) -> None:
    bounded.plan.write(stores=[SECOND], spool_stall_seconds=1)
    second = gate(FIRST_BYTES)

    def open_once_stopped() -> None:
        second.reached.wait(60)
        eventually(lambda: not bounded.sessions(), "pg_dump was ended")
        second.open()

    with meanwhile(open_once_stopped):
        cause = bounded.failed_somehow()
    assert isinstance(cause, StoreUnreachable)
    assert cause.message == "second took nothing for 1 s"
    assert _files(bounded.plan.directory / "second") == []


def test_a_destination_that_no_longer_answers_at_all_fails_the_backup_and_keeps_what_it_has(
    bounded: Ledger,
    gate: Callable[[int], Gate],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(attempt, "LOST_SECONDS", 0.2)
    monkeypatch.setattr(backup, "CLEAR_SECONDS", 0.5)
    bounded.plan.write(stores=[SECOND], spool_stall_seconds=1)
    second, answers, asked, listed = gate(FIRST_BYTES), threading.Event(), threading.Event(), LocalStore.list

    def hanging(store: LocalStore, prefix: str = "") -> Iterator[StoredObject]:
        if second.reached.is_set():
            asked.set()
            assert answers.wait(60)
        yield from listed(store, prefix)

    def open_once_asked() -> None:
        asked.wait(60)
        second.open()  # Prefect waits for its threads

    monkeypatch.setattr(LocalStore, "list", hanging)
    with meanwhile(open_once_asked):
        cause = bounded.failed_somehow()
    assert cause.message == "second took nothing for 1 s"
    assert (
        "second keeps what was stored there until a later prune: second gave no answer within 0.5 s"
        in caplog.text
    )
    kept = _files(bounded.plan.directory / "second")
    assert kept
    answers.set()
    eventually(lambda: not _clearing(), "the store answers at last")
    assert _files(bounded.plan.directory / "second") == kept


def test_a_destination_that_dies_half_way_is_left_behind_and_sync_brings_it_up_to_date(
    bounded: Ledger, line: BrokenLine, bucket: S3Store, caplog: pytest.LogCaptureFixture
) -> None:
    line.break_after(up_bytes=2 * FIRST_BYTES)
    made = bounded.plan.back_up()
    assert bounded.plan.manifest(made)
    assert committed_backups(read_store(bucket, bounded.plan.name)) == []
    assert "the upload cannot begin again, for the full spool let go of its beginning" in caplog.text
    bounded.assert_at_rest()

    line.mend()
    bounded.plan.sync()
    assert made in [copy.backup_id for copy in committed_backups(read_store(bucket, bounded.plan.name))]


def test_the_last_destination_that_dies_fails_the_backup_and_leaves_nothing(
    bounded: Ledger, line: BrokenLine
) -> None:
    (offsite,) = [store for store in bounded.plan.settings["stores"] if store["name"] == "offsite"]
    bounded.plan.write(stores=[offsite], attempts=1)
    line.break_after(up_bytes=2 * FIRST_BYTES)
    cause = bounded.failed()
    assert isinstance(cause, StoreError)
    assert "cannot write shop/" in cause.message
    assert "the upload cannot begin again" in cause.message


def test_the_last_destination_that_breaks_once_gets_a_new_dump(
    bounded: Ledger, line: BrokenLine, bucket: S3Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backup, "PAUSES_SECONDS", (0.1,))
    (offsite,) = [store for store in bounded.plan.settings["stores"] if store["name"] == "offsite"]
    bounded.plan.write(stores=[offsite], attempts=2)
    line.break_after(up_bytes=2 * FIRST_BYTES, once=True)
    made = bounded.plan.back_up()
    assert [copy.backup_id for copy in committed_backups(read_store(bucket, bounded.plan.name))] == [made]


def test_an_upload_that_hangs_once_the_dump_has_ended_is_given_up_too(
    bounded: Ledger, gate: Callable[[int], Gate], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempt, "LOST_SECONDS", 0.2)
    del bounded.plan.settings["spool_max_bytes"]
    bounded.plan.write(stores=[LOCAL, SECOND], spool_stall_seconds=5)
    second, before = gate(FIRST_BYTES), set(bounded.stored())

    def open_once_committed() -> None:
        eventually(
            lambda: any(name.endswith(MANIFEST_NAME) for name in set(bounded.stored()) - before),
            "the other copy is committed while this upload still hangs",
        )
        second.open()

    with meanwhile(open_once_committed):
        made = bounded.plan.back_up()
    assert bounded.plan.manifest(made)


def test_an_archive_that_fits_the_spool_is_sent_again_after_a_passing_trouble(
    bounded: Ledger, line: BrokenLine, bucket: S3Store
) -> None:
    bounded.plan.write(spool_max_bytes=64 << 20, required=2)
    line.break_after(up_bytes=2 * FIRST_BYTES, once=True)
    made = bounded.plan.back_up()
    assert [copy.backup_id for copy in committed_backups(read_store(bucket, bounded.plan.name))] == [made]


def test_what_a_killed_run_left_in_the_spool_is_swept_by_the_next(bounded: Ledger, tmp_path: Path) -> None:
    bounded.plan.write(stores=[LOCAL | {"max_bytes_per_second": 1 << 20}])
    with started_backup(bounded, tmp_path / "log") as run:
        eventually(
            lambda: list(bounded.plan.spool.glob(f"2*/{MAIN_ARCHIVE}.0000[4-9]*")), "segments come and go"
        )
        run.process.kill()
        run.ended()
        eventually(lambda: not run.programs(), "the programs of the killed run ended")
        eventually(lambda: not bounded.sessions("pg%"), "its sessions ended")
    (left,) = bounded.plan.spool.glob("2*[!e]")
    assert left.is_dir()
    assert 0 < sum(path.stat().st_size for path in left.iterdir()) <= LIMIT
    bounded.plan.write(stores=[LOCAL])
    bounded.plan.back_up()
    bounded.assert_at_rest()


@pytest.mark.parametrize(("free_bytes", "fits"), [(LIMIT, True), (LIMIT - 1, False)])
def test_the_disk_needs_room_for_the_limit_and_not_for_the_backup(
    bounded: Ledger, monkeypatch: pytest.MonkeyPatch, free_bytes: int, fits: bool
) -> None:
    bounded.plan.write(stores=[LOCAL])
    monkeypatch.setattr(preflight, "COMPRESSED_SHARE", 100.0)
    monkeypatch.setattr(preflight, "free_bytes", lambda _: free_bytes)
    if fits:
        assert bounded.plan.back_up()
    else:
        cause = bounded.failed()
        assert isinstance(cause, SpoolFull)
        assert cause.message.endswith("0 MiB free, a backup needs about 1 MiB")
        assert "spool_max_bytes" in cause.hint


def _files(directory: Path) -> list[Path]:
    return sorted(path for path in directory.rglob("*") if path.is_file())


def _clearing() -> bool:
    """Return whether a store is still being asked by a thread that nobody waits for."""
    stacks = (traceback.extract_stack(frame) for frame in sys._current_frames().values())
    return any(call.name == "_delete_uncommitted" for stack in stacks for call in stack)


@contextmanager
def _watched(spool: Path) -> Iterator[list[int]]:
    """Measure again and again what the archives in the spool take of the disk."""
    sizes, ended = [0], threading.Event()

    def watch() -> None:
        while not ended.wait(0.002):
            found = 0
            for path in spool.glob("2*/*"):
                with suppress(FileNotFoundError):
                    found += path.stat().st_size
            sizes.append(found)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield sizes
    finally:
        ended.set()
        watcher.join()
