"""More tables than a server has locks for them in one transaction."""

from collections.abc import Callable

from flows.core.verification import Verdict
from tests.servers.plan import PlanOnDisk
from tests.servers.postgres import PostgresServer

Planned = Callable[..., PlanOnDisk]

MANY = 5000


def test_five_thousand_tables_are_verified_with_the_default_number_of_locks(
    planned: Planned, postgres15: PostgresServer
) -> None:
    assert postgres15.query("SHOW max_locks_per_transaction") == [("64",)]
    with postgres15.database("many") as conninfo:
        for first in range(1, MANY, 500):  # each transaction's locks must fit too
            postgres15.execute(
                f"DO $$ BEGIN FOR n IN {first}..{first + 499} LOOP"
                " EXECUTE format('CREATE TABLE t_%s AS SELECT %s AS n', n, n); END LOOP; END $$",
                "many",
            )
        plan = planned(conninfo)
        made = plan.back_up()
        assert plan.verify() == made
    (backup,) = plan.backups()
    record = backup.copies[0].verification
    assert record is not None
    assert (record.verdict, record.tables, record.rows) == (Verdict.VERIFIED, MANY, MANY)
