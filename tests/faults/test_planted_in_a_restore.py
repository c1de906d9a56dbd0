"""Faults planted in what a real dump was restored into: each level of proof finds just those it can."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from psycopg import sql
from pydantic import SecretStr

from blocks.postgres import PostgresDatabase, Session
from blocks.snapshot import locked_snapshot
from blocks.soundness import corrupt_indexes, violated_constraints
from flows.core.comparison import compare
from flows.core.contents import sampled_rows, without_filled_views, without_foreign_keys
from flows.core.facts import Facts, Proof
from flows.core.findings import Finding
from flows.core.naming import BackupId
from flows.core.sampling import Portion
from flows.core.verification import Tier
from flows.gathering import facts_of
from flows.progress import Progress
from flows.tasks import inbound
from tests.faults.corpus import IN_A_RESTORE
from tests.faults.source import DBNAME, RESTORER, SAMPLED, source
from tests.faults.table import LEVELS, WARNING, Fault, Level
from tests.servers.postgres import PostgresServer
from tests.servers.programs import run

PORTIONS: dict[Level, Portion] = {
    "schema": Portion("schema"),
    "sample": Portion("sample", SAMPLED),
    "rows": Portion(),
    "content": Portion(),
}
BACKUP_ID = BackupId("20260101T000000Z-000000")
STATEMENT_SECONDS = 10.0


@dataclass(frozen=True)
class Restored:
    """What a level restored of the dump, and what it is held against."""

    level: Level
    facts: Facts
    session: Session

    def findings(self, plant: str) -> set[str]:
        """Plant a fault, and return what a verification of this level finds, in the tables' words."""
        portion = PORTIONS[self.level]
        with self.session.transaction(force_rollback=True):
            self.session.execute(plant.encode())
            state = inbound.look.fn(self.session, self.session, self.facts, portion)
            compared = compare(self.facts, state, tier=portion.tier, sampled=portion.tables)
            return {_brief(finding) for finding in compared.findings} | self._unsound()

    def _unsound(self) -> set[str]:
        if self.level == "schema":
            return set()
        with self._without_power():
            indexes = corrupt_indexes(self.session, statement_seconds=STATEMENT_SECONDS).corrupt
            found = {f"INDEX_CORRUPT index {index.schema}.{index.name}" for index in indexes}
            if self.level == "sample":
                return found
            violated = violated_constraints(self.session, statement_seconds=STATEMENT_SECONDS).violated
            return found | {
                f"CONSTRAINT_VIOLATED constraint {one.name} on {one.schema}.{one.table}" for one in violated
            }

    @contextmanager
    def _without_power(self) -> Iterator[None]:
        with self.session.transaction(force_rollback=True):
            self.session.execute(
                sql.SQL("SET LOCAL SESSION AUTHORIZATION {}").format(sql.Identifier(RESTORER))
            )
            yield


def _brief(finding: Finding) -> str:
    severity = WARNING if finding.severity == "warning" else ""
    return f"{severity}{finding.rule} {finding.kind} {finding.object}"


@pytest.fixture(scope="module")
def restored(
    postgres15: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[Restored]]:
    """The same backup, restored as each level does it, each into a database of its own."""
    archive = tmp_path_factory.mktemp("faults") / "main.dump"
    conninfo = postgres15.conninfo(DBNAME)
    with source(postgres15), ExitStack() as stack:
        counted, read = _facts(conninfo, "rows"), _facts(conninfo, "content")
        archive.write_bytes(run(postgres15, "pg_dump", "--format=custom", f"--dbname={conninfo}"))
        yield [
            Restored(
                level,
                counted if level == "rows" else read,
                stack.enter_context(_database(postgres15, archive, level, read)),
            )
            for level in LEVELS
        ]


def _facts(conninfo: str, proof: Proof) -> Facts:
    database = PostgresDatabase(conninfo=SecretStr(conninfo))
    with locked_snapshot(
        database, lock_name=DBNAME, busy_timeout_seconds=0, on_wait=lambda _: None
    ) as snapshot:
        return facts_of(snapshot, BACKUP_ID, DBNAME, Progress("facts", 0, "rows"), proof, sessions=1)


@contextmanager
def _database(server: PostgresServer, archive: Path, level: Level, facts: Facts) -> Iterator[Session]:
    """Restore what a level restores; yield a superuser's session."""
    entries = archive.with_suffix(f".{level}")
    entries.write_text("\n".join(_entries(server, archive, PORTIONS[level].tier, facts)))
    name = f"{DBNAME}_{level}"
    with server.database(name) as conninfo:
        run(server, "pg_restore", f"--use-list={entries}", f"--dbname={conninfo}", str(archive))
        with server.connect(name) as session:
            yield session


def _entries(server: PostgresServer, archive: Path, tier: Tier, facts: Facts) -> list[str]:
    """Return what of the archive a tier restores, as pg_restore lists it."""
    before, data, after = (
        run(server, "pg_restore", "--list", f"--section={section}", str(archive)).decode().splitlines()
        for section in ("pre-data", "data", "post-data")
    )
    if tier != "full":
        after = without_filled_views(after)
    if tier == "sample":
        keys = (item.name for item in facts.objects or () if item.is_foreign_key)
        after, data = without_foreign_keys(after, keys), sampled_rows(data, SAMPLED)
    return [*before, *([] if tier == "schema" else data), *after]


def _found(restored: list[Restored], plant: str) -> dict[Level, set[str]]:
    """Return what each level finds; they are asked at the same time."""
    with ThreadPoolExecutor(len(restored)) as pool:
        findings = pool.map(lambda one: one.findings(plant), restored)
        return dict(zip(LEVELS, findings, strict=True))


def test_an_unspoilt_restore_has_no_finding_at_any_level(restored: list[Restored]) -> None:
    assert _found(restored, "SELECT") == {level: set() for level in LEVELS}


@pytest.mark.parametrize("fault", IN_A_RESTORE, ids=lambda fault: fault.name)
def test_each_level_finds_of_a_fault_what_the_table_says(restored: list[Restored], fault: Fault) -> None:
    assert _found(restored, fault.plant) == {level: fault.found_at(level) for level in LEVELS}
