"""The main job on a small database: back up, verify, list, prune, restore."""

from flows.core.verification import Verdict
from tests.servers.plan import PlanOnDisk
from tests.servers.postgres import PostgresServer


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
