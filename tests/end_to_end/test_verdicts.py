"""Three verdicts: what was restored equal, what differs, and what could not be looked at here."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from blocks import pgtools
from flows.core import verification
from flows.core.errors import Unverifiable, VerificationFailed
from flows.core.naming import MAIN_ARCHIVE
from flows.core.verification import Verdict, VerificationRecord
from tests.servers.every_feature import every_feature
from tests.servers.forgery import StoredBackup, opened, sealed
from tests.servers.plan import PLANS_VARIABLE, PlanOnDisk
from tests.servers.postgres import WHEELS, PostgresServer
from tests.servers.programs import path_with_only, run

DBNAME = "doctored"
TABLES = """
    CREATE SCHEMA shop;
    CREATE TABLE shop.customers (id serial PRIMARY KEY, name text);
    INSERT INTO shop.customers (name) SELECT 'customer ' || n FROM generate_series(1, 100) n;
    CREATE TABLE shop.orders (id serial PRIMARY KEY, customer int REFERENCES shop.customers);
    INSERT INTO shop.orders (customer) SELECT n FROM generate_series(1, 100) n;
"""
ORPHANS = "SET session_replication_role = replica; DELETE FROM shop.customers WHERE id = 7"


@pytest.fixture(autouse=True)
def wheels(monkeypatch: pytest.MonkeyPatch) -> None:
    """The programs of majors that the system has not."""
    monkeypatch.setenv("PGSALVO_TOOLS_DIRECTORY", str(WHEELS))


@dataclass(frozen=True)
class Judged:
    """What a verification left beside the backup."""

    record: VerificationRecord
    plain: bytes
    report: dict[str, object]


def judged(stored: StoredBackup) -> Judged:
    (record,) = stored.folder.glob("verifications/*.json")
    (report,) = stored.folder.glob("verifications/*.report.json.zst.gpg")
    body = record.read_bytes()
    return Judged(verification.decode(body), body, json.loads(opened(report)))


def newest(plan: PlanOnDisk) -> StoredBackup:
    return StoredBackup(plan.directory / "store" / plan.name / plan.backups()[0].backup_id)


def planned(directory: Path, conninfo: str, monkeypatch: pytest.MonkeyPatch) -> PlanOnDisk:
    plan = PlanOnDisk.for_database(directory, conninfo)
    monkeypatch.setenv(PLANS_VARIABLE, str(plan.file))
    return plan


@pytest.mark.usefixtures("prefect")
def test_a_database_with_one_of_everything_is_verified(
    postgres: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with every_feature(postgres) as conninfo:
        plan = planned(tmp_path, conninfo, monkeypatch)
        assert plan.back_up() == plan.verify()
    found = judged(newest(plan))
    assert found.record.verdict is Verdict.VERIFIED
    assert (found.record.findings, found.record.reason) == ({}, "")
    assert found.report["restore_errors"] == []
    assert found.report["notes"] == [
        "the content of large objects was not compared, only their number and size",
        "indexes that were not checked, for amcheck does not know gin, gist: 2",
    ]
    tables = {(line["schema_name"], line["table"]): line["restored"] for line in found.report["tables"]}  # type: ignore[attr-defined]
    assert tables['Odd.Schema "x" y', "new\nline; -- %s"] == 7
    assert tables["app", "by_mood"] == 30  # its leaves may have swapped rows
    assert tables["app", "no_columns"] == 3
    assert found.record.tables == len(tables)


@dataclass(frozen=True)
class Doctored:
    """A backup whose dump can be exchanged for one of what somebody has made of the database since.

    Manifest and facts are made to fit the other dump, so that only a comparison can tell.
    """

    server: PostgresServer
    plan: PlanOnDisk
    stored: StoredBackup

    def exchange(self, statements: str, *options: str) -> None:
        self.server.execute(statements, DBNAME)
        connection = f"--dbname={self.server.conninfo(DBNAME)}"
        self.stored.path(MAIN_ARCHIVE).write_bytes(
            sealed(run(self.server, "pg_dump", "--format=custom", connection, *options))
        )
        self.stored.tell()
        self.stored.bind()


@pytest.fixture
def doctored(
    prefect: None,  # noqa: ARG001 - its API must be there
    postgres15: PostgresServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Doctored]:
    with postgres15.database(DBNAME) as conninfo:
        postgres15.execute(TABLES, DBNAME)
        plan = planned(tmp_path, conninfo, monkeypatch)
        plan.back_up()
        yield Doctored(postgres15, plan, newest(plan))


@pytest.mark.parametrize(
    ("statements", "options", "findings", "objects"),
    [
        pytest.param(
            "DELETE FROM shop.orders WHERE id > 90", (), {"ROWS_DIFFER": 1}, ["shop.orders"], id="rows lost"
        ),
        pytest.param(
            "DROP TABLE shop.orders; SELECT setval('shop.customers_id_seq', 3);"
            " CREATE TABLE shop.fresh AS SELECT 1",
            (),
            {"OBJECT_MISSING": 2, "OBJECT_UNEXPECTED": 1, "SEQUENCE_BEHIND": 1},
            ["shop.fresh", "shop.orders", "shop.customers_id_seq", "shop.orders_id_seq"],
            id="objects lost",
        ),
        pytest.param(
            "", ("--exclude-schema=shop",), {"EMPTY_RESTORE": 1, "OBJECT_MISSING": 3}, [DBNAME], id="all lost"
        ),
        pytest.param(
            ORPHANS,
            (),
            {"RESTORE_ERROR": 1, "ROWS_DIFFER": 1, "OBJECT_MISSING": 1},
            ["shop.customers", "orders_customer_fkey on shop.orders"],
            id="a broken reference",
        ),
    ],
)
def test_what_differs_fails_and_is_named_in_the_encrypted_report_only(
    doctored: Doctored,
    statements: str,
    options: tuple[str, ...],
    findings: dict[str, int],
    objects: list[str],
) -> None:
    doctored.exchange(statements, *options)
    with pytest.raises(VerificationFailed) as caught:
        doctored.plan.verify()
    found = judged(doctored.stored)
    assert found.record.verdict is Verdict.FAILED
    assert found.record.findings == findings
    named = {finding["object"] for finding in found.report["findings"]}  # type: ignore[attr-defined]
    assert named >= set(objects)
    assert bool(found.report["restore_errors"]) == ("RESTORE_ERROR" in findings)
    for name in ("shop.", "orders", "customers", DBNAME):
        assert name.encode() not in found.plain.replace(b'"plan": "shop"', b"")
    assert "orders" not in caught.value.message


@pytest.mark.usefixtures("prefect")
def test_an_extension_that_is_not_here_makes_it_unverifiable_and_names_the_package(
    postgres17: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the source has it: its programs are a copy of the wheel's."""
    share = postgres17.programs.parent / "share" / "extension"
    (share / "far_away.control").write_text("default_version = '1'\n")
    (share / "far_away--1.sql").write_text("CREATE FUNCTION far() RETURNS int LANGUAGE sql AS 'SELECT 1';\n")
    with postgres17.database("extended") as conninfo:
        postgres17.execute("CREATE EXTENSION far_away", "extended")
        plan = planned(tmp_path, conninfo, monkeypatch)
        plan.back_up()
    with pytest.raises(Unverifiable) as caught:
        plan.verify()
    assert "the scratch server of PostgreSQL 17 has no extension far_away" in caught.value.message
    assert caught.value.hint.endswith("apt-get install postgresql-17-far-away")
    found = judged(newest(plan))
    assert (found.record.verdict, found.record.findings) == (Verdict.UNVERIFIABLE, {})
    assert plan.backups()[0].verdict is Verdict.UNVERIFIABLE

    monkeypatch.setenv("PGSALVO_TOOLS_DIRECTORY", str(tmp_path / "none"))
    monkeypatch.setenv("PATH", path_with_only(tmp_path / "path", "gpg", "gpgconf", "gpg-connect-agent"))
    monkeypatch.setattr(pgtools, "SYSTEM_DIRECTORIES", ())
    with pytest.raises(Unverifiable) as caught:
        plan.verify()
    assert "PostgreSQL 17" in caught.value.message
    assert "install" in caught.value.hint
