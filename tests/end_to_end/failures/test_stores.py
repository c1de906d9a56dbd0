"""A store is down, refuses, or dies while it is written to: alone, or beside another that holds on."""

import re
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from prefect.settings import PREFECT_API_URL

from blocks.errors import StoreForbidden, StoreUnreachable
from blocks.stores import LocalStore, S3Store, s3_access, upload_parts
from flows.catalogue import committed_backups, read_store
from flows.core.errors import CopiesMissing
from flows.core.verification import Verdict
from flows.tasks import outbound
from tests.servers.backups import store_backup
from tests.servers.ledger import Ledger, checksums, contents
from tests.servers.processes import children, go_on, meanwhile
from tests.servers.s3 import ACCESS_KEY_ID, SECRET_ACCESS_KEY, BrokenLine, S3Server, broken_line, start_s3
from tests.servers.slack import NO_SERVICE, SlackStub, slack_stub

BUCKET = "backups"
LOCAL = {"name": "local", "kind": "local", "path": "store"}
PART_BYTES = 1 << 20
HALF_WAY_BYTES = 4 << 20


@pytest.fixture(scope="module")
def s3_server() -> Iterator[S3Server]:
    server = start_s3(BUCKET)
    yield server
    server.stop()


@pytest.fixture
def line(s3_server: S3Server) -> Iterator[BrokenLine]:
    """A line to the S3 server that can break."""
    with broken_line(s3_server.port) as line:
        yield line


@pytest.fixture(autouse=True)
def small_parts_and_short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload_parts, "SMALLEST_PART_BYTES", PART_BYTES)
    monkeypatch.setattr(s3_access, "RETRIES", 0)
    monkeypatch.setattr(s3_access, "ASKED_TIMES", 1)
    for transfer in (outbound.upload, outbound.checksum, outbound.commit):
        monkeypatch.setattr(transfer, "retry_delay_seconds", [0.05])


@pytest.fixture
def bucket(s3_server: S3Server) -> Iterator[S3Store]:
    """The bucket, reached directly; it is empty again afterwards."""
    store = s3_server.store(BUCKET)
    yield store
    for upload in list(store.pending()):
        store.abort_pending(upload)
    for found in list(store.list()):
        store.delete(found.key)


def test_a_store_that_cannot_be_reached_is_found_before_anything_begins(
    ledger: Ledger, line: BrokenLine
) -> None:
    line.refuse()
    ledger.plan.write(stores=[_offsite(ledger, line.endpoint_url)])
    cause = ledger.failed()
    assert isinstance(cause, StoreUnreachable)
    assert f"s3://{BUCKET} at 127.0.0.1:{line.port}: no answer" in cause.message
    assert "endpoint_url" in cause.hint


def test_a_store_that_refuses_the_credentials_says_which_part_is_wrong(
    ledger: Ledger, s3_server: S3Server
) -> None:
    ledger.plan.write(stores=[_offsite(ledger, s3_server.endpoint_url, secret="wrong")])
    cause = ledger.failed()
    assert isinstance(cause, StoreForbidden)
    assert "SignatureDoesNotMatch" in cause.message
    assert "secret_access_key" in cause.hint


@pytest.mark.parametrize(
    ("die", "said", "is_stored"),
    [
        pytest.param(
            lambda line: line.break_after(up_bytes=HALF_WAY_BYTES),
            "cannot write",
            False,
            id="while it is written to",
        ),
        pytest.param(
            lambda line: line.break_after(down_bytes=HALF_WAY_BYTES),
            "cannot read",
            True,
            id="while it is read back",
        ),
    ],
)
def test_a_store_that_dies_half_way_fails_the_backup_and_prune_clears_what_it_kept(
    ledger: Ledger,
    line: BrokenLine,
    bucket: S3Store,
    monkeypatch: pytest.MonkeyPatch,
    die: Callable[[BrokenLine], None],
    said: str,
    is_stored: bool,
) -> None:
    ledger.plan.write(stores=[_offsite(ledger, line.endpoint_url)])
    good = ledger.plan.back_up()
    before = _objects(bucket)
    die(line)
    cause = ledger.failed()
    assert isinstance(cause, StoreUnreachable)
    assert re.match(f"{said} shop/.*/main.dump.zst.gpg on s3://{BUCKET}", cause.message)
    assert "endpoint_url" in cause.hint
    assert [backup.backup_id for backup in committed_backups(read_store(bucket, ledger.plan.name))] == [good]
    left = _objects(bucket).keys() - before.keys()
    assert any(key.endswith("main.dump.zst.gpg") for key in left) == is_stored
    assert bool(list(bucket.pending())) != is_stored

    line.mend()
    ledger.plan.back_up()  # what began after the newest backup might be one that still runs
    whole = {key: sha256 for key, sha256 in _objects(bucket).items() if key not in left}
    assert len(whole) > len(before)
    monkeypatch.setattr(S3Store, "now", lambda _: datetime.now(UTC) + timedelta(hours=25))
    ledger.plan.prune()
    assert _objects(bucket) == whole
    assert list(bucket.pending()) == []


def test_a_connection_to_the_store_that_breaks_once_costs_another_try_only(
    ledger: Ledger, line: BrokenLine, bucket: S3Store
) -> None:
    ledger.plan.write(stores=[_offsite(ledger, line.endpoint_url)])
    line.break_after(up_bytes=HALF_WAY_BYTES, once=True)
    made = ledger.plan.back_up()
    (backup,) = committed_backups(read_store(bucket, ledger.plan.name))
    assert (backup.backup_id, backup.problems) == (made, [])
    assert list(bucket.pending()) == []
    ledger.assert_at_rest()


def test_a_dump_that_is_killed_leaves_no_part_of_an_upload(
    ledger: Ledger, s3_server: S3Server, bucket: S3Store
) -> None:
    ledger.plan.write(stores=[_offsite(ledger, s3_server.endpoint_url)])

    def kill() -> None:
        stopped = ledger.halt_in_the_middle()
        (pg_dump,) = children("pg_dump", "--format=custom")
        pg_dump.kill()
        go_on(stopped)

    ledger.hold_programs()
    with meanwhile(kill):
        cause = ledger.failed()
    assert cause.message == "pg_dump was ended by SIGKILL"
    assert _objects(bucket) == {}
    assert list(bucket.pending()) == []
    assert contents(s3_server.directory) == {}


def test_of_two_stores_one_that_dies_fails_the_run_and_the_whole_copy_on_the_other_counts(
    ledger: Ledger, line: BrokenLine, bucket: S3Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.plan.write(stores=[LOCAL, _offsite(ledger, line.endpoint_url)])
    before = ledger.stored()
    line.break_after(up_bytes=HALF_WAY_BYTES)
    cause = ledger.failed_somehow()
    assert isinstance(cause, CopiesMissing)
    newest = ledger.plan.backups()[0]
    assert f"1 of 2 destinations hold backup {newest.backup_id}; offsite does not" in cause.message
    assert "no answer" in cause.message
    assert (
        cause.hint == "the copies on local are whole; mend offsite,"
        " then pgsalvo sync shop copies the backup there"
    )
    assert before.items() <= ledger.stored().items()
    assert committed_backups(read_store(bucket, ledger.plan.name)) == []

    monkeypatch.setattr(tempfile, "tempdir", "/tmp")  # the scratch server's user must get there
    assert ledger.plan.verify(newest.backup_id, destination="local") == newest.backup_id
    assert ledger.plan.backups()[0].verdict is Verdict.VERIFIED


def test_where_one_copy_is_required_a_store_that_dies_is_a_warning(
    ledger: Ledger, line: BrokenLine, bucket: S3Store, caplog: pytest.LogCaptureFixture
) -> None:
    ledger.plan.write(stores=[LOCAL, _offsite(ledger, line.endpoint_url)], required=1)
    line.break_after(up_bytes=HALF_WAY_BYTES)
    made = ledger.plan.back_up()
    assert ledger.plan.manifest(made)
    assert committed_backups(read_store(bucket, ledger.plan.name)) == []
    assert "offsite does not hold this backup: cannot write" in caplog.text
    assert "pruning failed" not in caplog.text  # a store that holds no copy is not pruned
    ledger.assert_at_rest()


@pytest.fixture
def slack(ledger: Ledger) -> Iterator[SlackStub]:
    """Whoever the plan's alerts go to."""
    with slack_stub() as slack:
        webhook = ledger.plan.secret("webhook", slack.url)
        ledger.plan.write(alerts=[{"kind": "slack", "webhook_url": webhook}])
        yield slack


def test_what_nobody_foresaw_in_a_prune_after_a_backup_is_told_as_such_and_the_backup_counts(
    ledger: Ledger, slack: SlackStub, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_: LocalStore) -> datetime:
        raise RuntimeError("nobody foresaw this")

    monkeypatch.setattr(LocalStore, "now", broken)
    made = ledger.plan.back_up()
    assert ledger.plan.manifest(made)
    said = f"backup {made} is committed, but pruning failed: RuntimeError: nobody foresaw this"
    assert said in caplog.text
    (text,) = slack.texts
    assert text.startswith("PRUNE_FAILED: plan shop, prune: RuntimeError")


def test_a_prune_that_fails_unheard_is_told_on_the_terminal_and_nothing_of_prefects_own_errors(
    ledger: Ledger, slack: SlackStub
) -> None:
    slack.default = NO_SERVICE
    store_backup(ledger.plan.store, datetime.now(UTC) - timedelta(days=9))  # prune refuses another database's
    done = ledger.plan.command(
        "backup",
        ledger.plan.name,
        "--no-verify",
        PREFECT_API_URL=PREFECT_API_URL.value() or "",
        PREFECT_HOME=str(ledger.plan.directory / "home"),
    )
    said = " ".join(done.stderr.split())
    assert done.returncode == 0, said
    assert "is committed, but pruning failed: " in said
    assert "the alert PRUNE_FAILED of plan shop was not delivered: the answer was 404" in said
    assert "Traceback" not in said
    assert "encountered exception" not in said.lower()


def _offsite(ledger: Ledger, endpoint_url: str, *, secret: str = SECRET_ACCESS_KEY) -> dict[str, Any]:
    (ledger.plan.directory / "s3-secret").write_text(secret)
    return {
        "name": "offsite",
        "kind": "s3",
        "bucket": BUCKET,
        "endpoint_url": endpoint_url,
        "access_key_id": ACCESS_KEY_ID,
        "secret_access_key": "file:s3-secret",
    }


def _objects(store: S3Store) -> dict[str, str]:
    return checksums({found.key: store.read(found.key) for found in store.list()})
