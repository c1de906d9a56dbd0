"""Verification: what is the host's fault and no backup's, and that bad news is told whatever else fails."""

import errno
import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prefect.settings import PREFECT_TASKS_DEFAULT_RETRIES, temporary_settings

from blocks.errors import StoreFull, StoreUnreachable
from blocks.spool import SpoolDirectory
from blocks.stores.memory import MemoryStore
from flows import verify
from flows.catalogue import Copy, read_store
from flows.core import naming
from flows.core.errors import Unverifiable, VerificationFailed
from flows.core.verification import Verdict
from flows.progress import Progress
from flows.proof import Proof
from flows.scrubbing import UnexpectedError
from flows.tasks import inbound, options
from flows.tasks.options import performed
from tests.servers.backups import BODIES, PLAN, store_backup
from tests.servers.plan import PlanOnDisk

NOW = datetime.now(UTC) - timedelta(days=1)


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> list[Proof]:
    """The proofs that a person is shown."""
    shown: list[Proof] = []
    monkeypatch.setattr(
        "flows.reports.publish_verification", lambda _plan, _copy, proof, _at: shown.append(proof)
    )
    return shown


def only_copy(plan: PlanOnDisk) -> Copy:
    (copy,) = read_store(plan.store, PLAN)
    return copy


def test_what_nobody_foresaw_on_this_host_disproves_no_backup(
    plan: PlanOnDisk, published: list[Proof], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> Iterator[bytes]:
        raise OSError(errno.ENOSPC, "No space left on device")

    store_backup(plan.store, NOW)
    monkeypatch.setattr(inbound, "paced", full)
    with pytest.raises(UnexpectedError, match="No space left on device"):
        verify.verify.fn(PLAN)
    assert only_copy(plan).verdict is None
    assert published == []


@pytest.mark.parametrize(
    ("verdict", "error"),
    [
        (Verdict.FAILED, VerificationFailed),
        (Verdict.UNVERIFIABLE, Unverifiable),
        (Verdict.VERIFIED, StoreFull),
    ],
)
def test_bad_news_is_told_also_if_it_cannot_be_written_down(
    plan: PlanOnDisk,
    published: list[Proof],
    monkeypatch: pytest.MonkeyPatch,
    verdict: Verdict,
    error: type[Exception],
) -> None:
    def refuse(*_: object) -> None:
        raise StoreFull("no room on local")

    store_backup(plan.store, NOW)
    monkeypatch.setattr(verify, "_proof", lambda *_: Proof(verdict, "3 rows differ"))
    monkeypatch.setattr(verify, "record", refuse)
    with pytest.raises(error, match="no room on local") as told:
        verify.verify.fn(PLAN)
    assert ("3 rows differ" in str(told.value)) is (verdict is not Verdict.VERIFIED)
    assert [proof.verdict for proof in published] == [verdict]


@pytest.mark.usefixtures("published")
def test_the_catalogue_is_published_with_the_verdict_that_was_just_found(
    plan: PlanOnDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Verdict | None] = []
    store_backup(plan.store, NOW)
    monkeypatch.setattr(verify, "_proof", lambda *_: Proof(Verdict.FAILED, "3 rows differ"))
    monkeypatch.setattr("flows.reports.publish_catalogue", lambda _: seen.append(only_copy(plan).verdict))
    with pytest.raises(VerificationFailed):
        verify.verify.fn(PLAN)
    assert seen == [Verdict.FAILED]


@pytest.mark.usefixtures("published")
def test_a_second_look_that_breaks_does_not_stand_for_the_damage(
    plan: PlanOnDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise UnexpectedError("RuntimeError: nobody foresaw this")

    made = store_backup(plan.store, NOW)
    plan.store.put(naming.object_key(PLAN, made, naming.MAIN_ARCHIVE), [BODIES[naming.MAIN_ARCHIVE][1][::-1]])
    monkeypatch.setattr(verify, "look_again", broken)
    with pytest.raises(VerificationFailed, match="its checksum is not the manifest's"):
        verify.verify.fn(PLAN)
    assert only_copy(plan).is_damaged


def test_no_setting_of_prefect_repeats_a_step() -> None:
    with temporary_settings({PREFECT_TASKS_DEFAULT_RETRIES: 3}):
        assert options.step(name="once")(only_copy).retries == 0


@pytest.mark.parametrize("times", [1, 3, 4])
def test_a_transfer_is_tried_again_also_without_prefect(tmp_path: Path, times: int) -> None:
    store = MemoryStore(name="memory")
    store_backup(store, NOW)
    store.fail("get", StoreUnreachable("no answer"), key_contains=naming.MAIN_ARCHIVE, times=times)
    (copy,) = read_store(store, PLAN)
    assert copy.manifest
    archive = copy.manifest.archive("main")
    with SpoolDirectory(tmp_path, "fetched") as spool:
        arguments = (copy, copy.manifest, archive, spool, Progress("fetch", 0))
        if times > options.TRANSFER_RETRIES:
            with pytest.raises(StoreUnreachable):
                performed(inbound.fetch, *arguments)
        else:
            fetched = performed(inbound.fetch, *arguments).read_bytes()
            assert hashlib.sha256(fetched).digest() == hashlib.sha256(BODIES[naming.MAIN_ARCHIVE][1]).digest()
