"""As a role that hosted databases give out: no superuser, no pg_authid, row security, and short time-outs."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from psycopg.conninfo import make_conninfo

from blocks import compression, gpg
from blocks.errors import RightsMissing
from blocks.gpg_keys import GpgSecretKey
from flows.core.naming import GLOBALS_ARCHIVE, BackupId, object_key
from flows.core.verification import Verdict
from tests.servers.plan import PlanOnDisk
from tests.servers.postgres import PostgresServer
from tests.servers.programs import stubbed_programs
from tests.servers.roles import ROLE_PASSWORD, create_limited_role, drop_role

Planned = Callable[..., PlanOnDisk]

ROLE = "rds_backup"
TABLES = f"""
    CREATE TABLE tenants (id int PRIMARY KEY, name text);
    INSERT INTO tenants SELECT n, 'tenant ' || n FROM generate_series(1, 100) n;
    ALTER TABLE tenants ENABLE ROW LEVEL SECURITY;
    CREATE POLICY few ON tenants USING (id <= 10);
    CREATE TABLE plain (id serial, note text);
    INSERT INTO plain (note) SELECT repeat('x', 500) FROM generate_series(1, 5000);
    GRANT SELECT ON ALL TABLES IN SCHEMA public TO {ROLE};
    GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO {ROLE};
"""
LONGER_THAN_THE_TIME_OUTS = "sleep 0.8; exec $REAL"


@pytest.fixture
def limited(postgres: PostgresServer) -> Iterator[str]:
    """The conninfo of a hosted database, on both majors; its role may not bypass row security yet."""
    create_limited_role(postgres, ROLE)
    with postgres.database("hosted") as conninfo:
        postgres.execute(TABLES, "hosted")
        yield make_conninfo(conninfo, user=ROLE, password=ROLE_PASSWORD)
    drop_role(postgres, ROLE)


@pytest.fixture
def plan(planned: Planned, limited: str) -> PlanOnDisk:
    return planned(limited)


def test_a_dump_outlives_every_time_out_of_its_role_and_holds_every_row(
    plan: PlanOnDisk, postgres: PostgresServer, tmp_path: Path
) -> None:
    postgres.execute(f"ALTER ROLE {ROLE} BYPASSRLS")
    slow = stubbed_programs(
        tmp_path / "slow", postgres.programs, pg_dump=f'{LONGER_THAN_THE_TIME_OUTS} "$@"; sleep 0.4'
    )
    plan.write(database=plan.settings["database"] | {"client_directory": str(slow)})
    made = plan.back_up()
    assert plan.verify() == made
    (backup,) = plan.backups()
    record = backup.copies[0].verification
    assert record is not None
    assert (record.verdict, record.tables, record.rows) == (Verdict.VERIFIED, 2, 5100)
    assert plan.manifest(made).timings.dump > 0.7


def test_manifest_and_report_say_that_the_passwords_are_not_in_the_backup(
    plan: PlanOnDisk, postgres: PostgresServer
) -> None:
    postgres.execute(f"ALTER ROLE {ROLE} BYPASSRLS")
    made = plan.back_up()
    assert plan.manifest(made).globals_passwords is False
    assert made in newest_report()
    assert "globals.sql holds no passwords" in newest_report()
    script = globals_script(plan, made)
    assert f"CREATE ROLE {ROLE}" in script
    assert "PASSWORD" not in script

    postgres.execute(f"GRANT SELECT ON pg_authid TO {ROLE}", "hosted")
    try:
        second = plan.back_up()
    finally:
        postgres.execute(f"REVOKE SELECT ON pg_authid FROM {ROLE}", "hosted")
    assert plan.manifest(second).globals_passwords is True
    assert "PASSWORD 'SCRAM-SHA-256$" in globals_script(plan, second)
    assert second in newest_report()
    assert "holds no passwords" not in newest_report()


def test_row_security_that_would_hide_rows_is_refused_with_the_remedy(
    plan: PlanOnDisk, postgres: PostgresServer
) -> None:
    with pytest.raises(RightsMissing) as refused:
        plan.back_up()
    assert f"row-level security hides rows of public.tenants from the role {ROLE}" in refused.value.message
    assert f'ALTER ROLE "{ROLE}" BYPASSRLS' in refused.value.hint
    assert plan.objects() == []

    postgres.execute(refused.value.hint.split(";")[0])
    made = plan.back_up()
    assert {table.table: table.rows for table in plan.facts(made).tables} == {"plain": 5000, "tenants": 100}


@pytest.mark.parametrize("postgres", ["postgres15"], indirect=True)
def test_a_table_that_the_role_may_not_read_is_refused_with_the_grant(
    plan: PlanOnDisk, postgres: PostgresServer
) -> None:
    postgres.execute(f"ALTER ROLE {ROLE} BYPASSRLS")
    postgres.execute('CREATE TABLE "Late.Comer" (x int); INSERT INTO "Late.Comer" VALUES (1)', "hosted")
    with pytest.raises(RightsMissing) as refused:
        plan.back_up()
    assert 'may not read public."Late.Comer"' in refused.value.message
    assert plan.objects() == []

    postgres.execute(refused.value.hint.split(";")[0], "hosted")
    assert plan.verify(plan.back_up())


def newest_report() -> str:
    """Return the report of the newest backup, as Prefect's UI shows it."""
    of_backup = ArtifactFilter(key=ArtifactFilterKey(any_=["shop-backup"]))
    with get_client(sync_client=True) as client:
        found = client.read_artifacts(artifact_filter=of_backup)
        return str(max(found, key=lambda artifact: str(artifact.created)).data)


def globals_script(plan: PlanOnDisk, identifier: BackupId) -> str:
    stored = plan.store.get(object_key(plan.name, identifier, GLOBALS_ARCHIVE))
    with GpgSecretKey(**plan.secret_keys["ops"]).unlock() as key:
        return b"".join(compression.decompressed(gpg.decrypt(stored, key))).decode()
