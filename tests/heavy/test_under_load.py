"""Backups in a row while others change rows and definitions: each verified, or clearly not made."""

import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from blocks.errors import DatabaseError
from flows import backup as backup_flow
from flows.core.errors import VerificationFailed
from flows.core.verification import Verdict
from tests.servers.plan import PLANS_VARIABLE, PlanOnDisk
from tests.servers.postgres import PASSWORD, SUPERUSER, WHEELS, PostgresServer
from tests.servers.reports import report
from tests.servers.traffic import DEFINITIONS, QUIET, ROWS, TABLES, traffic

RUNS = 30
SCALE = 3
TRANSACTIONS_A_SECOND = 60
DBNAME = "loaded"
# A backup that found no moment in which nobody changed what it dumps.
REFUSALS = ("LockNotGranted", "TablesChanged", "DefinitionsChanged")


@contextmanager
def pgbench(server: PostgresServer) -> Iterator[None]:
    """Let pgbench's own transactions run on its own tables, no faster than the machine bears."""
    connection = ("-h", "127.0.0.1", "-p", str(server.port), "-U", SUPERUSER, DBNAME)
    program, environment = server.programs / "pgbench", {"PGPASSWORD": PASSWORD}
    subprocess.run(
        (program, "--initialize", "--quiet", f"--scale={SCALE}", *connection),
        env=environment, check=True, capture_output=True,
    )  # fmt: skip
    load = ("--client=2", f"--rate={TRANSACTIONS_A_SECOND}", "--time=3600", "--no-vacuum")
    running = subprocess.Popen(
        (program, *load, *connection),
        env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield
        assert running.poll() is None
    finally:
        running.terminate()
        running.wait()


@pytest.mark.timeout(1200)
@pytest.mark.usefixtures("prefect")
def test_thirty_backups_under_load_are_verified_or_could_not_hold_the_database_still(
    postgres15: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGSALVO_TOOLS_DIRECTORY", str(WHEELS))
    monkeypatch.setenv(PLANS_VARIABLE, str(tmp_path / "plans.toml"))
    monkeypatch.setattr(backup_flow, "PAUSES_SECONDS", (0.1,))
    seen: Counter[str] = Counter()
    with postgres15.database(DBNAME) as conninfo:
        postgres15.execute(TABLES, DBNAME)
        plan = PlanOnDisk.for_database(
            tmp_path,
            conninfo,
            verify={"secret_key": "ops", "proof": "content", "schedule": "never"},
            prune="separate",
            attempts=5,
        )
        with pgbench(postgres15), traffic(postgres15, DBNAME, quiet=True) as others:
            for number in range(1, RUNS + 1):
                began = time.monotonic()
                outcome = backed_up_and_verified(plan)
                seen[outcome] += 1
                print(f"{number:2}/{RUNS}  {time.monotonic() - began:4.1f} s  {outcome}")
    assert set(seen) <= {Verdict.VERIFIED.value, *REFUSALS}
    assert seen[Verdict.VERIFIED.value] >= 20
    assert {*ROWS, *DEFINITIONS, *QUIET} == set(others.done)


def backed_up_and_verified(plan: PlanOnDisk) -> str:
    """Return the verdict, or why there was no backup."""
    try:
        made = plan.back_up()
    except DatabaseError as error:
        if not error.transient:
            raise
        return type(error).__name__
    try:
        assert plan.verify() == made
    except VerificationFailed:
        return str([finding for finding in report(plan)["findings"] if finding["severity"] == "error"])
    return Verdict.VERIFIED.value
