"""What a dump counts on that lies outside of it: libraries of the server, and other servers."""

import pytest

from blocks import scratch_preload
from flows.core.verification import Verdict
from tests.end_to_end.conftest import Planned
from tests.end_to_end.test_verdicts import judged, newest
from tests.servers.postgres import PASSWORD, SUPERUSER, PostgresServer

# Filled on the source, where a superuser reads them; here a role without power would have to.
NEAR = "CREATE TABLE near (n int); INSERT INTO near VALUES (1)"
FETCHED = f"""
    CREATE EXTENSION postgres_fdw;
    CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw
        OPTIONS (host '127.0.0.1', port '{{port}}', dbname 'outside');
    CREATE USER MAPPING FOR CURRENT_USER SERVER far
        OPTIONS (user '{SUPERUSER}', password '{PASSWORD}');
    CREATE FOREIGN TABLE far (n int) SERVER far OPTIONS (schema_name 'public', table_name 'near');
    CREATE MATERIALIZED VIEW fetched AS SELECT * FROM far;
"""


@pytest.mark.parametrize(
    "afterwards",
    [
        pytest.param("ALTER USER MAPPING FOR CURRENT_USER SERVER far OPTIONS (DROP password)", id="password"),
        pytest.param("DROP USER MAPPING FOR CURRENT_USER SERVER far", id="mapping"),
    ],
)
def test_a_view_that_a_role_without_power_cannot_fetch_is_only_warned_of(
    planned: Planned, postgres: PostgresServer, afterwards: str
) -> None:
    with postgres.database("outside") as conninfo:
        for statements in (NEAR, FETCHED.format(port=postgres.port), afterwards):
            postgres.execute(statements, "outside")
        plan = planned(conninfo)
        assert plan.back_up() == plan.verify()
    found = judged(newest(plan)).record
    assert (found.verdict, found.findings) == (Verdict.VERIFIED, {"MATVIEW_UNPOPULATED": 1})


def test_a_library_that_an_extension_must_find_loaded_is(
    planned: Planned, postgres15: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pg_stat_statements stands for those that refuse to be created otherwise: its view refuses."""
    monkeypatch.setattr(scratch_preload, "_REFUSING", frozenset(("pg_stat_statements",)))
    seen = {"name": "statements are seen", "sql": "SELECT count(*) FROM public.pg_stat_statements"}
    with postgres15.database("outside") as conninfo:
        postgres15.execute("CREATE EXTENSION pg_stat_statements", "outside")
        plan = planned(conninfo, verify={"secret_key": "ops", "assertions": [seen]})
        assert plan.back_up() == plan.verify()
