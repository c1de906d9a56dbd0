"""Measures pgsalvo against bare programs: pg_dump, gpg, pg_restore, rclone and boto3. `make bench` runs it.

Every contestant runs as a whole process, one after the other, in several rounds; the median counts.
Prefect's server runs beside them, as in production, and an S3 server on the same cores.
"""

import argparse
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from blocks.pgtools import find_server
from blocks.scratch import ScratchServer
from tests.benchmarks import commands, database
from tests.benchmarks.measure import Cost, cost
from tests.benchmarks.report import BOUNDED_SPOOL_BYTES, TITLES, Database, Report, machine, terminal
from tests.benchmarks.uploads import BUCKET, MIB, uploads
from tests.servers.plan import PlanOnDisk
from tests.servers.postgres import SUPERUSER, PostgresServer, programs, start_postgres
from tests.servers.prefect import PrefectServer, prefect_server
from tests.servers.s3 import S3Server, start_s3

MAJOR = 15
SMALLER = 10  # memory is also measured with a database of this part of the size
RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Bench:
    """A database, a plan that backs it up, and those who read it in turn."""

    dbname: str
    server: PostgresServer
    prefect: PrefectServer
    s3: S3Server
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
            "backup": lambda: self._back_up(),
            "verify": self._verify,
            "backup-content": lambda: self._back_up("content"),
            "verify-content": self._verify,
            "backup-s3": lambda: self._back_up(places=("s3",)),
            "backup-both": lambda: self._back_up(places=("disk", "s3")),
            "backup-bounded": lambda: self._back_up(
                places=("disk", "s3"), spool_max_bytes=BOUNDED_SPOOL_BYTES
            ),
        }

    def prepare(self) -> Database:
        """Write the raw archive, with which all pages come into memory; tell how large everything is."""
        self._shell(commands.RAW_ARCHIVE)
        self._back_up()
        stored = sum(found.size_bytes for found in self.plan.store.list())
        self._clear()
        raw_dump = (self.plan.directory / "raw.dump").stat().st_size
        return Database(database.size_bytes(self.server, self.dbname), raw_dump, stored)

    def measure(self, names: tuple[str, ...], runs: int) -> dict[str, list[Cost]]:
        return in_turn({name: self.contestants[name] for name in names}, runs)

    def _facts(self, proof: str) -> Cost:
        """Return the cost of taking facts without a dump; its work is the seconds that it prints."""
        whole = self._cost(commands.facts(proof))
        return replace(whole, work_seconds=float(self._log.read_text().split()[-1]))

    def _back_up(self, proof: str = "rows", places: tuple[str, ...] = ("disk",), **settings: object) -> Cost:
        """Return the cost of a first backup; its work is what lies between the manifest's two times."""
        self._clear()
        settings |= {
            "verify": self.plan.settings["verify"] | {"proof": proof},
            "stores": [self._stores[place] for place in places],
        }
        replace(self.plan, settings=self.plan.settings | settings).write()
        whole = self._cost(self.plan.argv("backup", self.plan.name, "--no-verify"))
        manifest = self.plan.backups_everywhere()[0].manifest
        assert manifest is not None
        return replace(whole, work_seconds=(manifest.finished_at - manifest.started_at).total_seconds())

    @property
    def _stores(self) -> dict[str, dict[str, Any]]:
        """The settings of each place that a backup may go to."""
        (disk,) = self.plan.settings["stores"]
        return {"disk": disk, "s3": self.plan.s3_store(self.s3, BUCKET, self.plan.name)}

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
        bucket = self.s3.store(BUCKET)
        for stored in bucket.list():
            bucket.delete(stored.key)
        for left in self.plan.directory.glob("*.gpg"):
            left.unlink()


def in_turn(contestants: Mapping[str, Callable[[], Cost]], runs: int) -> dict[str, list[Cost]]:
    """Run contestants in turn, `runs` times each."""
    costs: dict[str, list[Cost]] = {name: [] for name in contestants}
    for number in range(1, runs + 1):
        for name, run in contestants.items():
            costs[name].append(run())
            terminal.print(f"{number}/{runs}  {costs[name][-1].work_seconds:7.1f} s  {TITLES[name]}")
    return costs


@contextmanager
def bench(server: PostgresServer, prefect: PrefectServer, s3: S3Server, megabytes: int) -> Iterator[Bench]:
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
        yield Bench(dbname, server, prefect, s3, plan)
    server.drop_database(dbname)


def measured(megabytes: int, upload_mebibytes: int, runs: int) -> Report:
    with ExitStack() as ends:
        server = start_postgres(MAJOR, programs(MAJOR), database.SETTINGS)
        ends.callback(server.stop)
        s3 = start_s3(BUCKET)
        ends.callback(s3.stop)
        with prefect_server() as prefect:
            with bench(server, prefect, s3, max(1, megabytes // SMALLER)) as smaller:
                smaller_database = smaller.prepare()
                smaller_costs = smaller.measure(("backup", "verify"), 1)
            with bench(server, prefect, s3, megabytes) as whole:
                whole_database = whole.prepare()
                costs = whole.measure(tuple(whole.contestants), runs)
        with uploads(s3, upload_mebibytes) as uploading:
            costs |= in_turn(uploading.contestants, runs)
        ((version,),) = server.query("SHOW server_version")
        return Report(
            datetime.now(UTC), machine(version.split()[0]), whole_database,
            upload_mebibytes * MIB, costs, smaller_database, smaller_costs,
        )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.bench", description=__doc__)
    parser.add_argument("--megabytes", type=int, default=2000, help="size of the database (default: 2000)")
    parser.add_argument(
        "--upload-mebibytes", type=int, default=1024, help="size of the uploads (default: 1024)"
    )
    parser.add_argument("--runs", type=int, default=3, help="rounds, whose median counts (default: 3)")
    parser.add_argument("--output", type=Path, default=RESULTS, help="directory for the report")
    options = parser.parse_args()
    report = measured(options.megabytes, options.upload_mebibytes, options.runs)
    report.show()
    report.write(options.output)
    terminal.print(f"written to {options.output}")


if __name__ == "__main__":
    main()
