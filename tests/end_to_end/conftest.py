"""One Prefect server for the whole session, and a plan of its own for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect.testing.utilities import prefect_test_harness

from tests.servers.plan import PLANS_VARIABLE, PlanOnDisk
from tests.servers.postgres import PostgresServer

SHOP = """
    CREATE TYPE status AS ENUM ('new', 'paid');
    CREATE TABLE customers (id serial PRIMARY KEY, name text NOT NULL, status status DEFAULT 'new');
    INSERT INTO customers (name) SELECT 'customer ' || n FROM generate_series(1, 2000) n;
    CREATE TABLE orders (id bigserial PRIMARY KEY, customer int REFERENCES customers, total numeric);
    INSERT INTO orders (customer, total) SELECT 1 + n % 2000, n / 7.0 FROM generate_series(1, 20000) n;
    CREATE INDEX ON orders (customer);
    CREATE MATERIALIZED VIEW totals AS SELECT customer, sum(total) FROM orders GROUP BY 1;
"""


@pytest.fixture(scope="session")
def prefect() -> Iterator[None]:
    with prefect_test_harness(server_startup_timeout=90):
        yield


@pytest.fixture
def shop(postgres15: PostgresServer) -> Iterator[str]:
    """The conninfo of a small shop's database on PostgreSQL 15."""
    with postgres15.database("shop") as conninfo:
        postgres15.execute(SHOP, "shop")
        yield conninfo


@pytest.fixture
def plan(
    prefect: None,  # noqa: ARG001 - its API must be there
    shop: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> PlanOnDisk:
    """A plan for the shop, with a local store; the flows of this process read it."""
    plan = PlanOnDisk.for_database(tmp_path, shop)
    monkeypatch.setenv(PLANS_VARIABLE, str(plan.file))
    return plan
