"""What `make bench` measures with: that costs are counted whole, and that its scripts do what they say."""

import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.benchmarks import commands, database, facts
from tests.benchmarks.bench import bench
from tests.benchmarks.measure import Cost, cost
from tests.benchmarks.report import BOUNDED_SPOOL_BYTES, TITLES, UPLOADS, Database, Report
from tests.benchmarks.uploads import BUCKET, KEY, Uploads, uploads
from tests.servers.postgres import PostgresServer, programs, start_postgres
from tests.servers.prefect import prefect_server
from tests.servers.s3 import S3Server, start_s3

MEGABYTE = 1_000_000
SIZES = Database(size=2_000 * MEGABYTE, raw_dump=1_400 * MEGABYTE, stored=450 * MEGABYTE)
UPLOADED = 1 << 30
RUN = Cost(10.0, 10.0, 12.0, 6.0, 20 * MEGABYTE, 15 * MEGABYTE)
CHILD = """
import time
kept, began = b"x" * 80_000_000, time.process_time()
while time.process_time() < began + 0.5:
    continue
"""


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """A server of its own: others' sessions, such as Prefect's, do not end."""
    server = start_postgres(15, programs(15))
    yield server
    server.stop()


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    server = start_s3(BUCKET)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def uploading(s3: S3Server) -> Iterator[Uploads]:
    """Uploads of a file that is more than one part for each contestant that knows its size."""
    with uploads(s3, mebibytes=17) as uploading:
        yield uploading


def test_a_commands_cost_is_that_of_its_children_too(server: PostgresServer, tmp_path: Path) -> None:
    parent = f"import subprocess, sys; subprocess.check_call([sys.executable, '-c', {CHILD!r}])"
    spent = cost((sys.executable, "-c", parent), {}, server_pid=server.process.pid, log=tmp_path / "log")
    assert 0.5 <= spent.core_seconds < 5
    assert spent.peak_bytes > 80 * MEGABYTE > spent.first_process_peak_bytes > 5 * MEGABYTE
    assert spent.seconds >= 0.5


def test_a_command_that_fails_is_no_measurement(server: PostgresServer, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="went wrong"):
        cost(
            commands.shell("echo went wrong | cat; false | cat; true"),
            {"PATH": os.environ["PATH"]},
            server_pid=server.process.pid,
            log=tmp_path / "log",
        )


def test_the_scripts_store_the_whole_database(server: PostgresServer, tmp_path: Path) -> None:
    with server.database("bench_target") as target:
        database.make(server, "bench", megabytes=1)
        unpack = 'gpg --batch -q --decrypt "$OUT/same.gpg" | zstd -d > "$OUT/raw.dump"'
        for script in (
            commands.RAW_DUMP,
            commands.USUAL_SCRIPT,
            commands.SAME_STEPS,
            f"{unpack}\n{commands.RAW_RESTORE}",
        ):
            cost(
                commands.shell(script),
                commands.variables(server, "bench", tmp_path) | {"TARGET": target},
                server_pid=server.process.pid,
                log=tmp_path / "log",
            )
        for count in commands.COUNTS.split("; "):
            assert server.query(count, "bench_target") == server.query(count, "bench") != [(0,)]
        server.drop_database("bench")


def test_facts_taken_alone_are_those_of_the_whole_database(server: PostgresServer, tmp_path: Path) -> None:
    with server.database("bench") as conninfo:
        server.execute("CREATE TABLE known AS SELECT generate_series(1, 70)", "bench")
        ((table,), (counted,)) = (facts.take(conninfo, proof)[0].tables for proof in facts.PROOFS)
        spent = cost(
            commands.facts("content"),
            os.environ | commands.variables(server, "bench", tmp_path),
            server_pid=server.process.pid,
            log=tmp_path / "log",
        )
    assert (table.rows, table.content is None) == (70, True)
    assert (counted.rows, counted.content is None) == (70, False)
    assert 0 < float((tmp_path / "log").read_text()) < spent.seconds


@pytest.mark.parametrize("contestant", UPLOADS)
def test_an_upload_stores_the_whole_file(uploading: Uploads, contestant: str) -> None:
    spent = uploading.contestants[contestant]()
    stored = uploading.server.client.get_object(Bucket=BUCKET, Key=KEY)["Body"].read()
    assert stored == uploading.file.read_bytes()
    assert 0 < spent.work_seconds <= spent.seconds
    assert spent.first_process_peak_bytes > 10 * MEGABYTE


def test_a_measured_backup_goes_to_its_own_destinations_only(server: PostgresServer, s3: S3Server) -> None:
    with prefect_server() as prefect, bench(server, prefect, s3, megabytes=1) as tried:
        for contestant, places, spool_max_bytes in (
            ("backup-bounded", {"local", "offsite"}, BOUNDED_SPOOL_BYTES),
            ("backup-s3", {"offsite"}, None),
        ):
            tried.contestants[contestant]()
            (backup,) = tried.plan.backups_everywhere()
            assert {copy.store.name for copy in backup.copies if copy.committed} == places
            assert tried.plan.loaded.spool_max_bytes == spool_max_bytes


def test_the_report_tells_medians_and_what_they_are_a_multiple_of() -> None:
    costs = {name: [RUN, RUN, replace(RUN, work_seconds=99.0)] for name in TITLES}
    costs["backup"] = [replace(RUN, seconds=18.0, work_seconds=seconds) for seconds in (15.0, 99.0, 14.0)]
    report = Report(
        datetime(2026, 1, 28, tzinfo=UTC), {"cores": "2 cores"}, SIZES, UPLOADED, costs, SIZES, costs
    )
    row = next(line for line in report.markdown().splitlines() if line.startswith("| pgsalvo backup"))
    assert row.replace(" ", "").startswith("|pgsalvobackup--no-verify|15.0|14.0–99.0|1.50|1.50|3.0|12.0|")


def test_the_report_tells_what_facts_and_proofs_cost_beside_a_dump_and_a_restore() -> None:
    costs = {name: [RUN] for name in TITLES}
    costs["facts-content"] = [replace(RUN, work_seconds=4.0)]
    costs["verify-content"] = [replace(RUN, seconds=21.0, work_seconds=18.0)]
    markdown = Report(datetime(2026, 1, 28, tzinfo=UTC), {}, SIZES, UPLOADED, costs, SIZES, costs).markdown()
    assert '|factsalone,proof="content"|4.0|4.0–4.0|0.40|' in markdown.replace(" ", "")
    assert '|thesamewithproof="content"|18.0|18.0–18.0|1.80|3.0|' in markdown.replace(" ", "")


def test_the_report_tells_what_destinations_and_uploads_cost_beside_others() -> None:
    costs = {name: [RUN] for name in TITLES}
    costs["backup-both"] = [replace(RUN, seconds=18.0, work_seconds=15.0)]
    costs["rclone"] = [replace(RUN, work_seconds=5.0)]
    costs["store-pipe"] = [replace(RUN, work_seconds=4.0)]
    report = Report(datetime(2026, 1, 28, tzinfo=UTC), {}, SIZES, UPLOADED, costs, SIZES, costs)
    markdown = report.markdown().replace(" ", "")
    assert "|thesametoboth|15.0|15.0–15.0|1.50|1.50|3.0|" in markdown
    assert "Uploading1.07GB" in markdown
    assert "|S3Store.putofapipe|4.0|4.0–4.0|0.80|0.40|0.40|" in markdown
