"""The measured costs as tables, for the terminal and as Markdown, and as JSON with every single run."""

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from statistics import median

from rich import box
from rich.console import Console
from rich.table import Table

from tests.benchmarks.measure import Cost

BOUNDED_SPOOL_BYTES = 64 << 20
TITLES = {
    "raw-dump": "(a) pg_dump -Fc -Z0 > /dev/null",
    "usual": "(b) pg_dump -Fc | gpg --encrypt > f; sha256sum f",
    "same-steps": "a bare script of pgsalvo's steps",
    "backup": "pgsalvo backup --no-verify",
    "backup-content": 'the same with proof = "content"',
    "facts-rows": 'facts alone, proof = "rows"',
    "facts-content": 'facts alone, proof = "content"',
    "raw-restore": "(c) pg_restore -j2 of a raw archive",
    "verify": "pgsalvo verify",
    "verify-content": 'the same with proof = "content"',
    "backup-s3": "the same to an S3 server",
    "backup-both": "the same to both",
    "backup-bounded": f"the same to both, spool of {BOUNDED_SPOOL_BYTES >> 20} MiB",
    "rclone": "(d) rclone copyto",
    "boto3-file": "(e) boto3 upload_file",
    "boto3-pipe": "(f) boto3 upload_fileobj of a pipe",
    "store-pipe": "S3Store.put of a pipe",
    "store-spool": "S3Store.put of the spool, as a backup does",
}
OUT = ("raw-dump", "usual", "same-steps", "backup", "backup-content")
FACTS = ("raw-dump", "facts-rows", "facts-content")
BACK = ("raw-restore", "verify", "verify-content")
PLACES = ("backup", "backup-s3", "backup-both", "backup-bounded")
UPLOADS = ("rclone", "boto3-file", "boto3-pipe", "store-pipe", "store-spool")
COLUMNS = 140

terminal = Console(stderr=True, highlight=False)


@dataclass(frozen=True)
class Database:
    """What was measured with; sizes in bytes."""

    size: int
    raw_dump: int
    stored: int


@dataclass(frozen=True)
class Report:
    """Every run's cost by contestant, in the order of the rounds."""

    measured_at: datetime
    machine: Mapping[str, str]
    database: Database
    uploaded_bytes: int
    costs: Mapping[str, Sequence[Cost]]
    smaller: Database
    smaller_costs: Mapping[str, Sequence[Cost]]

    def tables(self, borders: box.Box) -> list[Table]:
        return [
            self._table("Backing up", OUT, {"(a)": "raw-dump", "(b)": "usual"}, borders),
            self._table("Taking facts", FACTS, {"(a)": "raw-dump"}, borders),
            self._table("Proving", BACK, {"(c)": "raw-restore"}, borders),
            self._table(
                "Backing up to a local disk, an S3 server, and both",
                PLACES,
                {"disk": "backup", "S3": "backup-s3"},
                borders,
            ),
            self._table(
                f"Uploading {_size(self.uploaded_bytes)} to an S3 server",
                UPLOADS,
                {"(d)": "rclone", "(e)": "boto3-file", "(f)": "boto3-pipe"},
                borders,
            ),
            self._memory(borders),
        ]

    def markdown(self) -> str:
        """Return the report as README quotes it."""
        rounds = len(self.costs["backup"])
        lines = [
            "# What pgsalvo costs",
            "",
            f"A database of {_size(self.database.size)} ({_size(self.database.raw_dump)} as a raw dump,"
            f" {_size(self.database.stored)} stored); medians of {rounds} alternating runs"
            f" on {', '.join(self.machine.values())}; {self.measured_at:%Y-%m-%d}.",
            "Seconds, and multiples of them, are without start-up, which stands beside: Python, Prefect,"
            " preflight, and telling Prefect at the end. Core-seconds are those of all processes and of"
            " PostgreSQL's server; memory is without the server. Prefect's server and the S3 server, which"
            " share the cores, are in neither.",
        ]
        for table in self.tables(box.MARKDOWN):
            title, table.title = table.title, None
            lines += ["", f"## {title}", "", _rendered(table)]
        return "\n".join(lines) + "\n"

    def json(self) -> str:
        return json.dumps(asdict(self), indent=2, default=str) + "\n"

    def write(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "benchmark.md").write_text(self.markdown())
        (directory / "benchmark.json").write_text(self.json())

    def show(self) -> None:
        for table in self.tables(box.SIMPLE_HEAD):
            Console(width=COLUMNS, highlight=False).print(table)

    def _table(
        self, title: str, contestants: Sequence[str], against: Mapping[str, str], borders: box.Box
    ) -> Table:
        table = _table(
            title,
            "",
            "seconds",
            "from–to",
            *(f"× {name}" for name in against),
            "start-up",
            "core-seconds",
            "peak memory",
            borders=borders,
        )
        for name in contestants:
            costs = self.costs[name]
            seconds = _work_seconds(costs)
            table.add_row(
                TITLES[name].replace("|", "\\|") if borders is box.MARKDOWN else TITLES[name],
                f"{seconds:.1f}",
                _range(costs),
                *(f"{seconds / _work_seconds(self.costs[other]):.2f}" for other in against.values()),
                _start_up(costs),
                f"{median(cost.core_seconds for cost in costs):.1f}",
                _size(median(cost.peak_bytes for cost in costs)),
            )
        return table

    def _memory(self, borders: box.Box) -> Table:
        table = _table(
            "Peak memory of the Python process",
            "database",
            TITLES["backup"],
            TITLES["verify"],
            borders=borders,
        )
        for database, costs in ((self.smaller, self.smaller_costs), (self.database, self.costs)):
            peaks = (
                max(cost.first_process_peak_bytes for cost in costs[name]) for name in ("backup", "verify")
            )
            table.add_row(_size(database.size), *map(_size, peaks))
        return table


def machine(server_version: str) -> dict[str, str]:
    """Tell what matters of this machine, and nothing by which it could be recognised."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cores": f"{os.cpu_count()} cores",
        "memory": f"{memory / 2**30:.0f} GiB of memory",
        "system": f"{platform.system()} {platform.machine()}",
        "python": f"Python {platform.python_version()}",
        "server": f"PostgreSQL {server_version}",
    }


def _table(title: str, first: str, *others: str, borders: box.Box) -> Table:
    table = Table(title=title, title_justify="left", box=borders)
    table.add_column(first, no_wrap=True)
    for header in others:
        table.add_column(header, justify="right", no_wrap=True)
    return table


def _rendered(table: Table) -> str:
    console = Console(width=COLUMNS, highlight=False)
    with console.capture() as captured:
        console.print(table)
    return "\n".join(line.strip() for line in captured.get().splitlines() if line.strip())


def _work_seconds(costs: Sequence[Cost]) -> float:
    return median(cost.work_seconds for cost in costs)


def _range(costs: Sequence[Cost]) -> str:
    seconds = sorted(cost.work_seconds for cost in costs)
    return f"{seconds[0]:.1f}–{seconds[-1]:.1f}"


def _start_up(costs: Sequence[Cost]) -> str:
    seconds = median(cost.seconds - cost.work_seconds for cost in costs)
    return f"{seconds:.1f}" if seconds else ""


def _size(size_bytes: float) -> str:
    return f"{size_bytes / 1e9:.2f} GB" if size_bytes >= 1e9 else f"{size_bytes / 1e6:.0f} MB"
