"""What a plan says of its proofs, on real servers: how thorough, how much, where, and what is accepted.

One backup is made, and each test proves a copy of it under a plan of its own.
"""

import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prefect import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey

from flows import cli, progress, reports, terminal
from flows.core.errors import Unverifiable, VerificationFailed
from flows.core.naming import MAIN_ARCHIVE
from flows.core.verification import Tier, Verdict
from flows.reports import catalogue_rows
from tests.end_to_end.test_verdicts import Judged, judged, newest
from tests.servers.forgery import StoredBackup, opened, sealed
from tests.servers.plan import PLANS_VARIABLE, PlanOnDisk
from tests.servers.ports import wait_until
from tests.servers.postgres import WHEELS, PostgresServer
from tests.servers.roles import drop_role
from tests.servers.slack import slack_stub

DBNAME = "proved"
KEEPER = "keeper_of_proved"
TABLES = f"""
    GRANT ALL ON SCHEMA public TO {KEEPER};
    SET ROLE {KEEPER};
    CREATE TABLE customers (id int PRIMARY KEY, name text NOT NULL);
    INSERT INTO customers SELECT n, 'customer ' || lpad(n::text, 3, '0') FROM generate_series(1, 100) n;
    CREATE TABLE orders (id serial PRIMARY KEY, customer int REFERENCES customers, total int,
        CHECK (total > 0));
    INSERT INTO orders (customer, total) SELECT n, n FROM generate_series(1, 50) n;
    CREATE FUNCTION slowed(n int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$
        BEGIN PERFORM pg_sleep(0.00); RETURN n; END $$;
    CREATE INDEX ON orders (slowed(id));
    CREATE MATERIALIZED VIEW totals AS SELECT customer, sum(total) FROM orders GROUP BY 1;
    CREATE TYPE mood AS ENUM ('bad', 'good');
    CREATE TABLE moods (mood mood, n int) PARTITION BY HASH (mood);
    CREATE TABLE moods_0 PARTITION OF moods FOR VALUES WITH (MODULUS 2, REMAINDER 0);
    CREATE TABLE moods_1 PARTITION OF moods FOR VALUES WITH (MODULUS 2, REMAINDER 1);
    INSERT INTO moods SELECT (ARRAY['bad', 'good']::mood[])[1 + n % 2], n FROM generate_series(1, 30) n;
    ANALYZE customers, orders, moods;
"""
MET = {"name": "enough orders", "sql": "SELECT count(*) FROM orders", "expect": ">= 50"}
UNMET = {"name": "no large orders", "sql": "SELECT max(total) FROM public.orders", "expect": "< 50"}


@pytest.fixture(scope="module")
def backed_up(
    prefect: None,  # noqa: ARG001 - its API must be there
    postgres15: PostgresServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[PlanOnDisk]:
    """A plan with one backup, of which also the content was read; its database is still there."""
    with postgres15.database(DBNAME) as conninfo, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PGSALVO_TOOLS_DIRECTORY", str(WHEELS))
        postgres15.execute(f"CREATE ROLE {KEEPER}")
        postgres15.execute(TABLES, DBNAME)
        verify = {"secret_key": "ops", "proof": "content"}
        plan = PlanOnDisk.for_database(tmp_path_factory.mktemp("plan"), conninfo, verify=verify)
        patch.setenv(PLANS_VARIABLE, str(plan.file))
        plan.back_up()
        yield plan
    drop_role(postgres15, KEEPER)


@pytest.fixture
def plan(backed_up: PlanOnDisk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PlanOnDisk:
    """A copy of the plan with its backup."""
    copy = backed_up.copied(tmp_path / "plan")
    monkeypatch.setenv(PLANS_VARIABLE, str(copy.file))
    return copy


def edit_dump(stored: StoredBackup, old: bytes, new: bytes) -> None:
    """Exchange some bytes of the dump for as many others, and let manifest and facts fit to it."""
    dump = opened(stored.path(MAIN_ARCHIVE))
    assert (dump.count(old), len(old)) == (1, len(new))
    stored.path(MAIN_ARCHIVE).write_bytes(sealed(dump.replace(old, new)))
    stored.tell()
    stored.bind()


def only(found: Judged, part: str) -> dict[str, Any]:
    """Return the one entry that a part of the encrypted report has."""
    listed: Any = found.report[part]
    assert len(listed) == 1
    return dict(listed[0])


def newest_report() -> str:
    """Return the report of the newest verification, as Prefect's UI shows it."""
    of_verification = ArtifactFilter(key=ArtifactFilterKey(any_=["shop-verification"]))
    with get_client(sync_client=True) as client:
        found = client.read_artifacts(artifact_filter=of_verification)
        return str(max(found, key=lambda artifact: str(artifact.created)).data)


def listed(plan: PlanOnDisk) -> dict[str, Any]:
    """Return the newest backup as `pgsalvo list` shows it."""
    return catalogue_rows(plan.loaded, plan.backups())[0]


def test_a_changed_value_is_found_by_content_though_as_many_rows_came_back(plan: PlanOnDisk) -> None:
    edit_dump(newest(plan), b"customer 042", b"customer 999")
    with pytest.raises(VerificationFailed) as caught:
        plan.verify()
    found = judged(newest(plan))
    finding = only(found, "findings")
    assert found.record.findings == {"CONTENT_DIFFERS": 1}
    assert finding["object"] == "public.customers"
    assert finding["message"] == "100 rows were restored, but not the same ones"
    assert "customers" not in caught.value.message


def test_the_plans_questions_are_answered_and_a_wrong_answer_fails(plan: PlanOnDisk) -> None:
    plan.prove(assertions=[MET, UNMET])
    with pytest.raises(VerificationFailed, match="1 difference: ASSERTION_FAILED 1"):
        plan.verify()
    found = judged(newest(plan))
    assert found.report["answers"] == [
        {"name": "enough orders", "expect": ">= 50", "shown": "50", "is_met": True},
        {"name": "no large orders", "expect": "< 50", "shown": "50", "is_met": False},
    ]
    assert "| no large orders | \\< 50 | 50 | ❌ |" in newest_report().splitlines()


def test_what_is_accepted_with_a_reason_is_verified_and_the_reason_stands_in_the_report(
    plan: PlanOnDisk,
) -> None:
    known = {"rule": "ASSERTION_FAILED", "object": "no large orders", "reason": "until the import is mended"}
    idle = {"rule": "OWNER_DIFFERS", "object": "public.*", "reason": "once upon a time"}
    plan.prove(assertions=[UNMET], ignore=[known, idle])
    plan.verify()
    found = judged(newest(plan))
    accepted = only(found, "accepted")
    assert (found.record.verdict, found.record.findings) == (Verdict.VERIFIED, {})
    assert (accepted["rule"], accepted["reason"]) == ("ASSERTION_FAILED", "until the import is mended")
    assert any("OWNER_DIFFERS of public.*" in note for note in found.report["notes"])  # type: ignore[attr-defined]
    assert b"import" not in found.plain


@pytest.mark.parametrize(
    ("tier", "tables", "compared"),
    [
        pytest.param("schema", 0, {}, id="schema"),
        pytest.param("sample", 2, {"customers": 100, "moods": 30}, id="sample"),
    ],
)
def test_a_cheaper_proof_is_told_as_such_and_counts_for_nothing_else(
    plan: PlanOnDisk, tier: Tier, tables: int, compared: dict[str, int]
) -> None:
    plan.prove(sample_tables=["public.cust*", "public.moods"], assertions=[MET])
    plan.verify(tier=tier)
    found = judged(newest(plan))
    assert (found.record.verdict, found.record.tier) == (Verdict.VERIFIED, tier)
    assert (found.record.tables, found.record.findings) == (tables, {})
    rows = {line["table"]: line["restored"] for line in found.report["tables"]}  # type: ignore[attr-defined]
    assert {table: number for table, number in rows.items() if number is not None} == compared
    rules: Any = found.report["rules"]
    assert rules["ASSERTION_FAILED"] == "not checked: not all rows were restored"
    assert listed(plan)["verdict"] is None
    assert not [reason for reason in listed(plan)["kept_because"] if "verified" in reason]


def test_a_sample_of_nothing_proves_nothing(plan: PlanOnDisk) -> None:
    plan.prove(tier="sample", sample_tables=["shop.*"])
    with pytest.raises(Unverifiable, match="the sample holds no table"):
        plan.verify()
    assert judged(newest(plan)).record.verdict is Verdict.UNVERIFIABLE


def test_a_plan_may_ask_for_a_cheaper_proof_and_the_command_for_the_whole(plan: PlanOnDisk) -> None:
    plan.prove(tier="schema")
    plan.verify(tier="full")
    assert judged(newest(plan)).record.tier == "full"
    assert listed(plan)["verdict"] is Verdict.VERIFIED
    assert "newest verified" in listed(plan)["kept_because"]


def test_the_command_shows_the_verdict_with_its_grounds_and_what_a_cheaper_proof_is_worth(
    plan: PlanOnDisk, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terminal, "quiet_prefect", lambda: None)
    monkeypatch.setattr(reports, "_listeners", [])
    monkeypatch.setattr(progress, "_listeners", [])
    for variable in cli.EPHEMERAL_SERVER:
        monkeypatch.setenv(variable, "")
    monkeypatch.setattr(sys, "argv", ["pgsalvo", "verify", plan.name, "--tier", "schema"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    out, err = capsys.readouterr()
    assert not ended.value.code
    assert out.endswith("is verified by its schema only, which does not count for retention\n")
    assert f"✅ verified: {plan.backups()[0].backup_id} on local" in err
    assert "only definitions were restored" in err


def test_a_backup_that_was_not_counted_proves_its_definitions_only(plan: PlanOnDisk) -> None:
    later = [f"{datetime.now(UTC) + timedelta(hours=hours):%H:%M}" for hours in (2, 3)]
    plan.write(facts="off-hours", off_hours="-".join(later))
    identifier = plan.back_up()
    assert (plan.facts(identifier).proof, plan.facts(identifier).tables) == ("none", ())
    with pytest.raises(Unverifiable, match="no table was counted") as caught:
        plan.verify(identifier)
    assert "--tier schema" in caught.value.hint
    plan.verify(identifier, tier="schema")
    verdicts = [path.name.split("-")[-1] for path in newest(plan).folder.glob("verifications/*Z-*-*.json")]
    assert sorted(verdicts) == ["unverifiable.json", "verified.json"]


def test_a_restore_that_takes_too_long_is_a_warning_only(plan: PlanOnDisk) -> None:
    plan.prove(rto_minutes=0.001)
    plan.verify()
    found = judged(newest(plan))
    assert (found.record.verdict, found.record.findings) == (Verdict.VERIFIED, {"RTO_EXCEEDED": 1})
    finding = only(found, "findings")
    assert finding["severity"] == "warning"
    assert "the plan allows 0.001" in finding["message"]


def test_a_running_server_lends_a_database_and_has_none_afterwards(
    plan: PlanOnDisk, postgres17: PostgresServer
) -> None:
    plan.prove(scratch={"kind": "server", "conninfo": plan.secret("scratch-url", postgres17.conninfo())})
    plan.verify()
    found = judged(newest(plan))
    assert (found.record.verdict, found.record.findings) == (Verdict.VERIFIED, {})
    assert found.report["restored_into"] == "PostgreSQL 17 with a network (server)"
    assert "restored into PostgreSQL 17, the source is 15" in found.report["notes"]  # type: ignore[operator]
    plan.verify(tier="sample")
    left = "SELECT datname FROM pg_database UNION ALL SELECT rolname FROM pg_roles"
    assert not [name for (name,) in postgres17.query(left) if name.startswith("pgsalvo_scratch_")]


def test_the_source_itself_is_refused_as_the_scratch_server(
    plan: PlanOnDisk, postgres15: PostgresServer
) -> None:
    plan.prove(scratch={"kind": "server", "conninfo": plan.secret("scratch-url", postgres15.conninfo())})
    with pytest.raises(Unverifiable, match="the scratch server is the source itself"):
        plan.verify()
    record = judged(newest(plan)).record
    assert (record.verdict, record.reason) == (Verdict.UNVERIFIABLE, "ScratchLacks")
    assert postgres15.query("SELECT count(*) FROM orders", DBNAME) == [(50,)]


def test_a_statement_that_never_ends_is_cancelled_and_proves_nothing(plan: PlanOnDisk) -> None:
    edit_dump(newest(plan), b"pg_sleep(0.00)", b"pg_sleep(60.0)")
    plan.prove(statement_limit_seconds=0.5)
    with pytest.raises(Unverifiable, match="a statement was cancelled after") as caught:
        plan.verify()
    assert "statement_limit_seconds" in caught.value.hint
    found = judged(newest(plan))
    assert found.record.verdict is Verdict.UNVERIFIABLE
    assert "RESTORE_ERROR" in found.record.findings


def test_a_snapshot_that_becomes_old_is_told_while_the_dump_goes_on(plan: PlanOnDisk) -> None:
    with slack_stub() as slack:
        webhook = plan.secret("webhook", slack.url)
        plan.write(snapshot_limit_minutes=0.00001, alerts=[{"kind": "slack", "webhook_url": webhook}])
        identifier = plan.back_up()
        wait_until(lambda: bool(slack.messages), "the alert")
    (message,) = slack.messages
    assert "SNAPSHOT_OLD" in message["text"]
    assert "snapshot is older than 1e-05 minutes" in str(message)
    assert "snapshot_limit_minutes" in str(message)
    assert plan.backups()[0].backup_id == identifier


def test_several_sessions_count_what_one_counts(backed_up: PlanOnDisk, plan: PlanOnDisk) -> None:
    alone = backed_up.facts(backed_up.backups()[0].backup_id)
    plan.write(fact_sessions=3)
    together = plan.facts(plan.back_up())
    assert together.tables
    for part in ("proof", "tables", "sequences", "objects", "large_objects", "roles", "settings"):
        assert getattr(together, part) == getattr(alone, part), part
