"""The main job: back up, verify, list, restore, prune, while an application and its migrations go on."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from flows import backup as backup_flow
from flows.core.errors import BackupNotFound
from flows.core.verification import Verdict
from tests.servers.backups import store_backup
from tests.servers.plan import PlanOnDisk
from tests.servers.postgres import PostgresServer
from tests.servers.processes import eventually, meanwhile
from tests.servers.s3 import S3Server
from tests.servers.traffic import TABLES, traffic

Planned = Callable[..., PlanOnDisk]


def test_a_backup_is_verified_and_restored(plan: PlanOnDisk, postgres15: PostgresServer) -> None:
    backup_id = plan.back_up(label="first")
    assert plan.verify() == backup_id
    assert [backup.verdict for backup in plan.backups()] == [Verdict.VERIFIED]
    (record,) = [copy.verification for copy in plan.backups()[0].copies]
    assert record is not None
    assert (record.tables, record.rows) == (2, 22_000)
    with postgres15.database("target"):
        (plan.directory / "target-url").write_text(postgres15.conninfo("target"))
        assert plan.restore(f"file:{plan.directory / 'target-url'}") == backup_id
        assert postgres15.query("SELECT count(*), sum(customer) FROM orders", "target") == postgres15.query(
            "SELECT count(*), sum(customer) FROM orders", "shop"
        )
    plan.prune()
    assert [backup.backup_id for backup in plan.backups()] == [backup_id]
    assert plan.manifest(backup_id).label == "first"
    assert not list(plan.spool.glob("*"))


@pytest.mark.parametrize("destinations", [("local",), ("offsite",), ("local", "offsite")], ids="+".join)
def test_what_others_change_meanwhile_is_never_a_difference(
    planned: Planned,
    postgres: PostgresServer,
    s3: S3Server,
    monkeypatch: pytest.MonkeyPatch,
    destinations: tuple[str, ...],
) -> None:
    monkeypatch.setattr(backup_flow, "PAUSES_SECONDS", (0.1,))
    with busy_database(postgres) as conninfo:
        plan = planned(conninfo)
        stores = {
            "local": plan.settings["stores"][0],
            "offsite": plan.s3_store(s3, "backups", f"{postgres.major}-{len(destinations)}"),
        }
        plan.write(stores=[stores[name] for name in destinations], attempts=5)
        with traffic(postgres, "busy") as others:
            made = plan.back_up()
            changed = others.done.total()
    assert changed > 20
    for _ in destinations:
        assert plan.verify() == made
    (found,) = plan.backups_everywhere()
    assert [(copy.store.name, copy.verdict) for copy in found.copies] == [
        (name, Verdict.VERIFIED) for name in destinations
    ]
    assert found.manifest is not None
    assert {copy.manifest_sha256 for copy in found.copies} == {found.copies[0].manifest_sha256}


@pytest.mark.parametrize(
    "change",
    [
        pytest.param("TRUNCATE stock; INSERT INTO stock SELECT generate_series(1, 1000)", id="refill"),
        pytest.param(
            "CREATE TABLE new AS SELECT * FROM stock; ALTER TABLE stock RENAME TO old;"
            " ALTER TABLE new RENAME TO stock; DROP TABLE old",
            id="replace",
        ),
    ],
)
def test_no_backup_holds_a_table_between_two_of_its_states(
    planned: Planned, postgres15: PostgresServer, change: str
) -> None:
    """A snapshot that is older than the locks would find the table empty or gone, in facts and dump alike."""
    with busy_database(postgres15) as conninfo:
        plan = planned(conninfo)
        with postgres15.connect("busy") as migration:
            migration.execute(f"BEGIN; {change}".encode())
            with meanwhile(lambda: _commit_once_waited_for(postgres15, migration)):
                made = plan.back_up()
    rows = {table.table: table.rows for table in plan.facts(made).tables}
    assert rows["stock"] == 1000
    assert plan.verify() == made


def test_the_oldest_backup_that_was_never_verified_is_verified_next(plan: PlanOnDisk) -> None:
    made = [plan.back_up(), plan.back_up()]
    assert plan.verify("oldest-unverified") == made[0]
    assert plan.verify("oldest-unverified") == made[1]
    with pytest.raises(BackupNotFound, match="every backup has been verified"):
        plan.verify("oldest-unverified")


def test_a_backup_prunes_after_itself_unless_that_is_left_to_another_host(plan: PlanOnDisk) -> None:
    first = plan.back_up()
    now, source = datetime.now(UTC), plan.manifest(first).source
    old = [store_backup(plan.store, now - timedelta(days=days), source=source) for days in (2, 3, 40)]
    few = {"keep_daily": 2, "keep_weekly": 0, "keep_monthly": 0, "min_keep": 1}

    plan.write(retention=few, prune="separate")
    second = plan.back_up()
    assert [backup.backup_id for backup in plan.backups()] == [second, first, *old]

    plan.write(prune="after-backup")
    third = plan.back_up()
    assert [backup.backup_id for backup in plan.backups()] == [third, second, first, old[0]]


@contextmanager
def busy_database(server: PostgresServer) -> Iterator[str]:
    with server.database("busy") as conninfo:
        server.execute(TABLES, "busy")
        yield conninfo


def _commit_once_waited_for(
    server: PostgresServer, migration: "psycopg.Connection[tuple[object, ...]]"
) -> None:
    waiting = "SELECT FROM pg_stat_activity WHERE application_name = 'pgsalvo' AND wait_event_type = 'Lock'"
    eventually(lambda: server.query(waiting), "the backup waits for the table")
    migration.execute("COMMIT")
