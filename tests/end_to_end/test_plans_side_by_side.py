"""One backup of a plan at a time, any number of plans; and a plan whose database is another one suddenly."""

from pathlib import Path
from typing import Any, TypeAlias

import psycopg
import pytest

from blocks.errors import BackupLockHeld
from blocks.locks import lock_key
from flows.core.errors import SourceChanged
from tests.servers.plan import PlanOnDisk
from tests.servers.postgres import PostgresServer
from tests.servers.processes import eventually, meanwhile

Session: TypeAlias = "psycopg.Connection[tuple[Any, ...]]"


ASKING = """SELECT count(*) FROM pg_stat_activity
            WHERE application_name = 'pgsalvo' AND query LIKE '%advisory%'"""


def hold_backup_lock(session: Session, plan: PlanOnDisk) -> None:
    """Do what a running backup of the plan does first."""
    session.execute("SELECT pg_advisory_lock(%s)", [lock_key(plan.name)])


def test_a_second_backup_of_a_plan_waits_for_the_first(plan: PlanOnDisk, postgres15: PostgresServer) -> None:
    plan.write(busy_timeout_seconds=60)
    with postgres15.connect("shop") as other:
        hold_backup_lock(other, plan)
        moments: list[str] = []

        def end_the_other() -> None:
            eventually(lambda: postgres15.query(ASKING) == [(1,)], "the backup asks for the lock")
            assert plan.backups() == []
            moments.append("the other ends")
            other.close()

        with meanwhile(end_the_other):
            made = plan.back_up()
            moments.append("committed")
    assert moments == ["the other ends", "committed"]
    assert [backup.backup_id for backup in plan.backups()] == [made]


def test_a_backup_that_does_not_end_in_time_is_named_and_leaves_the_second_nothing_to_clear(
    plan: PlanOnDisk, postgres15: PostgresServer
) -> None:
    plan.write(busy_timeout_seconds=0.1)
    with postgres15.connect("shop") as other:
        hold_backup_lock(other, plan)
        pid = other.info.backend_pid
        with pytest.raises(BackupLockHeld) as held:
            plan.back_up()
    assert f"another backup of shop, by the session with pid {pid}" in held.value.message
    assert "pg_terminate_backend" in held.value.hint
    assert plan.objects() == []
    assert list(plan.spool.glob("2*")) == []


def test_another_plan_of_the_same_database_does_not_wait(
    plan: PlanOnDisk, postgres15: PostgresServer, tmp_path: Path
) -> None:
    with postgres15.connect("shop") as other:
        hold_backup_lock(other, plan)
        hourly = PlanOnDisk(tmp_path, dict(plan.settings), plan.secret_keys, name="shop-hourly")
        hourly.write(busy_timeout_seconds=0)
        made = hourly.back_up()
    assert [backup.backup_id for backup in hourly.backups()] == [made]
    assert plan.backups() == []


def test_a_plans_database_is_not_replaced_unnoticed(plan: PlanOnDisk, postgres15: PostgresServer) -> None:
    first = plan.back_up()
    postgres15.execute("CREATE DATABASE restored TEMPLATE shop")
    try:
        (plan.directory / "database-url").write_text(postgres15.conninfo("restored"))
        with pytest.raises(SourceChanged) as refused:
            plan.back_up()
        assert f"has backups of another database; the newest is {first}" in refused.value.message
        assert "--new-source" in refused.value.hint
        assert [backup.backup_id for backup in plan.backups()] == [first]

        second = plan.back_up(new_source=True)
        third = plan.back_up()
        plan.prune()
        assert plan.verify("latest") == third
    finally:
        postgres15.drop_database("restored")
    assert [backup.backup_id for backup in plan.backups()] == [third, second, first]
    assert [plan.manifest(each).new_source for each in (first, second, third)] == [False, True, True]
