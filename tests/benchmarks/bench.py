"""Measures pgsalvo against bare pg_dump, gpg and pg_restore: `make bench`.

Every contestant runs as a whole process, one after the other, in several rounds; the median counts.
Prefect's server runs beside them, as in production.
"""

import argparse
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from blocks.pgtools import find_server
from blocks.scratch import ScratchServer
from tests.benchmarks import commands, database
from tests.benchmarks.measure import Cost, cost
from tests.benchmarks.report import TITLES, Database, Report, machine, terminal
from tests.servers.plan import PlanOnDisk
from tests.servers.postgres import SUPERUSER, PostgresServer, programs, start_postgres
from tests.servers.prefect import PrefectServer, prefect_server

MAJOR = 15
SMALLER = 10  # memory is also measured with a database of this part of the size
RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Bench:
    """A database, a plan that backs it up, and those who read it in turn."""

    dbname: str
    server: PostgresServer
    prefect: PrefectServer
    plan: PlanOnDisk

    @property
    def contestants(self) -> dict[str, Callable[[], Cost]]:
        """Who runs in a round, in this order."""
        return {
            "raw-dump": lambda: self._shell(commands.RAW_DUMP),
            "facts-rows": lambda: self._facts("rows"),
            "facts-content": lambda: self._facts("content"),
            "usual": lambda: self._shell(commands.USUAL_SCRIPT),
            "same-steps": lambda: self._shell(commands.SAME_STEPS),
            "raw-restore": self._restore_raw,
            "backup": lambda: self._back_up("rows"),
            "verify": self._verify,
            "backup-content": lambda: self._back_up("content"),
            "verify-content": self._verify,
        }

    def prepare(self) -> Database:
        """Write the raw archive, with which all pages come into memory; tell how large everything is."""
        self._shell(commands.RAW_ARCHIVE)
        self._back_up("rows")
        stored = sum(found.size_bytes for found in self.plan.store.list())
        self._clear()
        raw_dump = (self.plan.directory / "raw.dump").stat().st_size
        return Database(database.size_bytes(self.server, self.dbname), raw_dump, stored)

    def measure(self, names: tuple[str, ...], runs: int) -> dict[str, list[Cost]]:
        """Run contestants in turn, `runs` times each."""
        costs: dict[str, list[Cost]] = {name: [] for name in names}
        for number in range(1, runs + 1):
            for name in names:
                costs[name].append(self.contestants[name]())
                terminal.print(f"{number}/{runs}  {costs[name][-1].work_seconds:7.1f} s  {TITLES[name]}")
            self._clear()
        return costs

    def _facts(self, proof: str) -> Cost:
        """Return the cost of taking facts without a dump; its work is the seconds that it prints."""
        whole = self._cost(commands.facts(proof))
        return replace(whole, work_seconds=float(self._log.read_text().split()[-1]))

    def _back_up(self, proof: str) -> Cost:
        """Return the cost of a first backup; its work is what lies between the manifest's two times."""
        self._clear()
        self.plan.write(verify=self.plan.settings["verify"] | {"proof": proof})
        whole = self._cost(self.plan.argv("backup", self.plan.name, "--no-verify"))
        manifest = self.plan.backups()[0].manifest
        assert manifest is not None
        return replace(whole, work_seconds=(manifest.finished_at - manifest.started_at).total_seconds())

    def _verify(self) -> Cost:
        """Return the cost of a verification; its work is the seconds that its record tells."""
        whole = self._cost(self.plan.argv("verify", self.plan.name))
        (copy,) = self.plan.backups()[0].copies
        assert copy.verification is not None
        return replace(whole, work_seconds=copy.verification.seconds)

    def _restore_raw(self) -> Cost:
        """Return the cost of pg_restore into an empty database, on a server as verify starts one."""
        with ScratchServer(find_server(MAJOR, configured=self.server.programs), self.plan.spool) as scratch:
            scratch.create_database(self.dbname, "UTF8", "C.UTF-8", "C.UTF-8", SUPERUSER)
            target = scratch.conninfo(self.dbname, scratch.superuser)
            postmaster = (scratch.directory / "data" / "postmaster.pid").read_text().split()[0]
            return self._cost(commands.shell(commands.RAW_RESTORE), int(postmaster), TARGET=target)

    def _shell(self, script: str) -> Cost:
        return self._cost(commands.shell(script))

    def _cost(self, argv: tuple[str, ...], server_pid: int = 0, **added: str) -> Cost:
        return cost(
            argv,
            self._environment | added,
            server_pid=server_pid or self.server.process.pid,
            log=self._log,
        )

    @property
    def _log(self) -> Path:
        return self.plan.directory / "last.log"

    @property
    def _environment(self) -> dict[str, str]:
        return self.prefect.environment | commands.variables(self.server, self.dbname, self.plan.directory)

    def _clear(self) -> None:
        """Remove what was stored, so that every backup is the first of its plan."""
        shutil.rmtree(self.plan.directory / "store", ignore_errors=True)
        for left in self.plan.directory.glob("*.gpg"):
            left.unlink()


@contextmanager
def bench(server: PostgresServer, prefect: PrefectServer, megabytes: int) -> Iterator[Bench]:
    """Make a database and a plan for it; both go at the end."""
    dbname = f"shop_{megabytes}"
    terminal.print(f"making a database of {megabytes} MB …")
    database.make(server, dbname, megabytes)
    with tempfile.TemporaryDirectory(prefix="pgsalvo-bench-") as directory:
        plan = PlanOnDisk.for_database(
            Path(directory),
            server.conninfo(dbname),
            prune="separate",
            verify={"secret_key": "ops", "schedule": "never"},
        )
        yield Bench(dbname, server, prefect, plan)
    server.drop_database(dbname)


def measured(megabytes: int, runs: int) -> Report:
    server = start_postgres(MAJOR, programs(MAJOR), database.SETTINGS)
    try:
        with prefect_server() as prefect:
            with bench(server, prefect, max(1, megabytes // SMALLER)) as smaller:
                smaller_database = smaller.prepare()
                smaller_costs = smaller.measure(("backup", "verify"), 1)
            with bench(server, prefect, megabytes) as whole:
                whole_database = whole.prepare()
                costs = whole.measure(tuple(whole.contestants), runs)
        ((version,),) = server.query("SHOW server_version")
        return Report(
            datetime.now(UTC), machine(version.split()[0]),
            whole_database, costs, smaller_database, smaller_costs,
        )  # fmt: skip
    finally:
        server.stop()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.bench", description=__doc__)
    parser.add_argument("--megabytes", type=int, default=2000, help="size of the database (default: 2000)")
    parser.add_argument("--runs", type=int, default=3, help="rounds, whose median counts (default: 3)")
    parser.add_argument("--output", type=Path, default=RESULTS, help="directory for the report")
    options = parser.parse_args()
    report = measured(options.megabytes, options.runs)
    report.show()
    report.write(options.output)
    terminal.print(f"written to {options.output}")


if __name__ == "__main__":
    main()
