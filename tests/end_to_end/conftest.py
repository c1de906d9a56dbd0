"""A plan of its own for each test, and the stores that it may name."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flows import beside
from tests.servers.plan import PLANS_VARIABLE, PlanOnDisk
from tests.servers.postgres import WHEELS, PostgresServer
from tests.servers.s3 import S3Server, start_s3

BUCKET = "backups"
SHOP = """
    CREATE TYPE status AS ENUM ('new', 'paid');
    CREATE TABLE customers (id serial PRIMARY KEY, name text NOT NULL, status status DEFAULT 'new');
    INSERT INTO customers (name) SELECT 'customer ' || n FROM generate_series(1, 2000) n;
    CREATE TABLE orders (id bigserial PRIMARY KEY, customer int REFERENCES customers, total numeric);
    INSERT INTO orders (customer, total) SELECT 1 + n % 2000, n / 7.0 FROM generate_series(1, 20000) n;
    CREATE INDEX ON orders (customer);
    CREATE MATERIALIZED VIEW totals AS SELECT customer, sum(total) FROM orders GROUP BY 1;
"""

PREFECT_SECONDS = 120.0

Planned = Callable[..., PlanOnDisk]


@pytest.fixture(scope="module", autouse=True)
def patient_with_prefect() -> Iterator[None]:
    """Prefect may take longer on a busy machine than a backup waits for it, and no artifact is lost."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(beside, "LIMIT_SECONDS", PREFECT_SECONDS)
        yield


@pytest.fixture
def shop(postgres15: PostgresServer) -> Iterator[str]:
    """The conninfo of a small shop's database on PostgreSQL 15."""
    with postgres15.database("shop") as conninfo:
        postgres15.execute(SHOP, "shop")
        yield conninfo


@pytest.fixture
def planned(
    prefect: None,  # noqa: ARG001 - its API must be there
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Planned:
    """Write a plan for the database of a conninfo; the flows of this process read it."""

    def write(conninfo: str, **settings: Any) -> PlanOnDisk:
        plan = PlanOnDisk.for_database(tmp_path, conninfo, **settings)
        monkeypatch.setenv(PLANS_VARIABLE, str(plan.file))
        return plan

    monkeypatch.setenv("PGSALVO_TOOLS_DIRECTORY", str(WHEELS))
    return write


@pytest.fixture
def plan(planned: Planned, shop: str) -> PlanOnDisk:
    """A plan for the shop, with a local store."""
    return planned(shop)


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    """A real S3 server with an empty bucket, `backups`."""
    server = start_s3(BUCKET)
    yield server
    server.stop()
