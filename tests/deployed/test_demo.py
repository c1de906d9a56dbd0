"""The demo as a newcomer runs it: killed, whole, interrupted, and whole again, in one directory."""

import fcntl
import json
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import psycopg
import pytest

from blocks.errors import StoreFull
from blocks.pgtools import find_server
from deployments import demo_database, sample_shop
from deployments.demo import MARK
from deployments.demo_database import DemoServer, running_server
from deployments.demo_terminal import explained
from flows.core.errors import PlanError
from tests.servers.disk import remove
from tests.servers.ports import accepts
from tests.servers.postgres import PostgresServer, programs
from tests.servers.prefect import answered

pytestmark = pytest.mark.timeout(900)  # the set-up of most is two whole demos and two in part

SECONDS = 150.0  # a whole demo, which on an idle machine takes a tenth of it
ROWS = 200_000


@dataclass
class Demo:
    """A directory to run the demo in, and what its runs wrote there."""

    home: Path
    outputs: list[str] = field(default_factory=list)

    @property
    def directory(self) -> Path:
        return self.home / ".demo"

    @property
    def backups(self) -> list[Path]:
        return sorted(path.parent for path in (self.directory / "store" / "shop").glob("*/manifest.json"))

    @property
    def port(self) -> int:
        plans = tomllib.loads((self.directory / "plans.toml").read_text())
        return int(plans["plans"]["shop"]["database"]["port"])

    def start(self, *options: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            (sys.executable, "-m", "deployments.demo", *options),
            cwd=self.home,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *options: str) -> int:
        with self.start(*options) as process:
            return self.end_of(process, SECONDS)

    def until(self, process: "subprocess.Popen[str]", text: str) -> None:
        """Read until a line holds `text`."""
        assert process.stdout is not None
        for line in process.stdout:
            self.outputs.append(line)
            if text in line:
                return
        raise AssertionError(f"{text!r} was never said:\n{''.join(self.outputs)}")

    def end_of(self, process: "subprocess.Popen[str]", seconds: float) -> int:
        """Read the rest, and return the exit status."""
        said, _ = process.communicate(timeout=seconds)
        self.outputs.append(said)
        return process.returncode

    def left_over(self) -> list[str]:
        """Everything that runs on behalf of this demo."""
        found = []
        for process in psutil.process_iter():
            try:
                name, argv, variables = process.name(), process.cmdline(), process.environ()
            except psutil.Error:
                continue
            data = str((self.directory / "postgres").resolve() / "data")
            if variables.get(MARK) == str(self.directory) or (name == "postgres" and data in argv):
                found.append(" ".join(argv))
        return found


@pytest.fixture(scope="module")
def demo() -> Iterator[Demo]:
    """Not pytest's own directory, which as root the database's user could not enter."""
    home = Path(tempfile.mkdtemp(prefix="pgsalvo-demo-test-"))
    home.chmod(0o755)
    yield Demo(home)
    remove(home)


@dataclass(frozen=True)
class Course:
    """What became of the four runs, in their order."""

    left_by_the_kill: list[str]
    killed_whole: int
    said: str
    interrupted: int
    said_when_interrupted: str
    left_by_the_interrupt: list[str]
    second_whole: int
    said_the_second_time: str


@pytest.fixture(scope="module")
def course(demo: Demo) -> Course:
    with demo.start() as process:
        demo.until(process, "2 back up")
        process.kill()
    left_by_the_kill = demo.left_over()
    killed_whole = demo.run()
    said = demo.outputs[-1]
    with demo.start() as process:
        demo.until(process, "4 verify")
        process.send_signal(signal.SIGINT)
        interrupted = demo.end_of(process, SECONDS)
    said_when_interrupted, left_by_the_interrupt = demo.outputs[-1], demo.left_over()
    second_whole = demo.run()
    return Course(
        left_by_the_kill,
        killed_whole,
        said,
        interrupted,
        said_when_interrupted,
        left_by_the_interrupt,
        second_whole,
        demo.outputs[-1],
    )


def record_of(backup: Path) -> dict[str, object]:
    (file,) = (backup / "verifications").glob("*-verified.json")
    return dict(json.loads(file.read_text()))


def test_a_demo_that_was_killed_does_not_break_the_next(course: Course) -> None:
    assert len(course.left_by_the_kill) > 1  # the database's server and Prefect's
    assert (course.killed_whole, course.said.count("error:")) == (0, 0)


def test_an_interrupted_demo_says_so_and_leaves_nothing_running(course: Course) -> None:
    assert course.interrupted == 130
    assert course.said_when_interrupted.splitlines()[-2].startswith("error: interrupted")
    assert course.left_by_the_interrupt == []


def test_the_demo_works_again_after_an_interrupt(course: Course) -> None:
    assert (course.second_whole, course.said_the_second_time.count("error:")) == (0, 0)
    assert "with a sample shop of last time" in course.said_the_second_time


def test_nothing_is_left_running(course: Course, demo: Demo) -> None:
    assert course.second_whole == 0
    assert demo.left_over() == []
    assert not accepts(demo.port)


def test_each_demo_adds_a_backup(course: Course, demo: Demo) -> None:
    assert course.second_whole == 0
    assert len(demo.backups) == 3  # the interrupted one was committed before it was interrupted


@pytest.mark.parametrize(("said", "backup"), [("said", 0), ("said_the_second_time", -1)])
def test_the_proof_shows_what_the_store_says(course: Course, demo: Demo, said: str, backup: int) -> None:
    folder = demo.backups[backup]
    record = record_of(folder)
    proof = getattr(course, said).partition("The proof")[2]

    assert isinstance(record["rows"], int)
    assert record["rows"] >= ROWS
    assert f"{record['rows']:,} rows of 8 tables came back equal" in proof
    assert f".demo/store/shop/{folder.name}/" in proof
    size = sum(path.stat().st_size for path in folder.glob("*.gpg"))
    assert f"{size / 2**20:.1f} MiB, compressed and encrypted" in proof


def test_each_step_is_shown_in_its_order(course: Course) -> None:
    headings = re.findall(r"^(\d [a-z ]+?)   ", course.said, re.MULTILINE)

    assert headings == ["1 doctor", "2 back up", "3 list", "4 verify", "5 prune"]


def test_the_next_commands_work_as_they_are_printed(course: Course, demo: Demo) -> None:
    printed = course.said_the_second_time.partition("Try next")[2].splitlines()
    lines = [line for line in printed if line.strip() and " demo --" not in line]

    assert len(lines) == 3
    for line in lines:
        subprocess.run(("bash", "-ec", line), cwd=demo.home, check=True, capture_output=True, timeout=SECONDS)


def test_no_secret_is_shown_or_lies_anywhere_else(course: Course, demo: Demo) -> None:
    assert course.second_whole == 0
    password_file = demo.directory / "shop.password"
    secret_key = demo.directory / "keys" / "ops.secret.asc"
    password = password_file.read_text().strip()
    key_line = secret_key.read_text().splitlines()[3]
    holders = [
        path
        for path in demo.directory.rglob("*")
        if path.is_file() and {password.encode(), key_line.encode()} & set(_words(path.read_bytes()))
    ]

    assert password not in "".join(demo.outputs)
    assert key_line not in "".join(demo.outputs)
    assert sorted(holders) == [secret_key, password_file]
    assert [path.stat().st_mode & 0o777 for path in holders] == [0o600, 0o600]


def _words(content: bytes) -> list[bytes]:
    return re.findall(rb"[A-Za-z0-9+/=_-]{16,}", content)


def test_the_plan_is_one_that_can_be_read(course: Course, demo: Demo) -> None:
    assert course.second_whole == 0
    listed = subprocess.run(
        (sys.executable, "-m", "flows.cli", "--plans", ".demo/plans.toml", "list", "shop", "--json"),
        cwd=demo.home, check=True, capture_output=True, text=True,
    )  # fmt: skip

    verdicts = [backup["verdict"] for backup in json.loads(listed.stdout)["backups"]]
    assert verdicts == ["verified", None, "verified"]


def test_with_keep_the_database_stays_up_and_its_commands_work_as_printed(course: Course, demo: Demo) -> None:
    assert course.second_whole == 0
    with demo.start("--keep") as process:
        demo.until(process, "Try in another terminal")
        assert process.stdout is not None
        lines = list(iter(process.stdout.readline, "\n"))
        rescued = subprocess.run(
            ("bash", "-ec", "".join(lines)),
            cwd=demo.home, check=False, capture_output=True, text=True, timeout=SECONDS,
        )  # fmt: skip
        process.send_signal(signal.SIGTERM)
        status = demo.end_of(process, SECONDS)

    assert len(lines) == 5
    assert rescued.returncode == 0, rescued.stderr
    assert re.search(r"^DELETE (\d{5})$.*^ *\1$", rescued.stdout, re.MULTILINE | re.DOTALL)
    assert (status, demo.left_over()) == (0, [])


def test_the_ui_shows_both_runs_and_nothing_is_left_of_it(course: Course, demo: Demo) -> None:
    assert course.second_whole == 0
    with demo.start("--ui") as process:
        demo.until(process, "Look around")
        address = re.findall(r"server: (http://127\.0\.0\.1:\d+)", "".join(demo.outputs))[-1]
        page = answered("GET", f"{address}/runs", headers={"Accept": "text/html"})
        finished = {
            "flow_runs": {"state": {"type": {"any_": ["COMPLETED"]}}},
            "sort": "END_TIME_DESC",
            "limit": 2,
        }
        runs = answered("POST", f"{address}/api/flow_runs/filter", json=finished).json()
        process.send_signal(signal.SIGINT)
        status = demo.end_of(process, SECONDS)

    assert "<html" in page.text
    assert {run["deployment_id"] is not None for run in runs} == {True}
    assert [run["state"]["message"] for run in runs] == [demo.backups[-1].name] * 2
    assert (status, demo.left_over()) == (0, [])


def test_a_second_demo_beside_it_is_refused(demo: Demo) -> None:
    demo.directory.mkdir(exist_ok=True)
    with (demo.directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        status = demo.run()

    assert status == 1
    assert demo.outputs[-1] == f"error: {demo.directory}: another demo is running there\n"


def test_a_directory_that_cannot_be_used_is_one_line(tmp_path: Path) -> None:
    (tmp_path / ".demo").touch()
    demo = Demo(tmp_path)

    assert demo.run() == 1
    assert demo.outputs == [f"error: cannot use {tmp_path}/.demo: File exists\n"]


@pytest.mark.parametrize(
    ("error", "line"),
    [
        pytest.param(StoreFull("no space left", "free some"), ("no space left", "free some"), id="world"),
        pytest.param(PlanError("no such plan", "write it"), ("no such plan", "write it"), id="meaning"),
        pytest.param(OSError(28, "No space left", "/x/y"), ("/x/y: No space left", ""), id="a-file"),
        pytest.param(OSError("closed"), ("the demo: closed", ""), id="no-file"),
        pytest.param(psycopg.OperationalError("row 7: secret"), ("the sample database: OperationalError", ""),
                     id="a-server's-words-may-hold-rows"),
        pytest.param(RuntimeError("one\ntwo"), ("RuntimeError: one", ""), id="anything-else"),
    ],
)  # fmt: skip
def test_every_error_is_one_line(error: Exception, line: tuple[str, str]) -> None:
    assert explained(error) == line


def rows_of_all_tables(server: PostgresServer) -> dict[str, int]:
    tables = (
        "SELECT relname::text FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
    )
    return {
        table: int(
            server.query(f"SELECT sum(hashtextextended(t::text, 0)::numeric) FROM {table} AS t", "shop")[0][0]
        )
        for (table,) in server.query(tables, "shop")
    }


def test_the_shop_has_the_same_rows_on_every_major(
    postgres15: PostgresServer, postgres17: PostgresServer
) -> None:
    contents = []
    for server in (postgres15, postgres17):
        steps = list(sample_shop.make(server.connect))
        assert sample_shop.exists(server.connect)
        contents.append(rows_of_all_tables(server))
        server.drop_database("shop")

    assert len(steps) > 3
    assert len(contents[0]) == 8
    assert contents[0] == contents[1]


def test_a_shop_that_was_not_finished_does_not_exist_and_is_made_again(postgres15: PostgresServer) -> None:
    making = sample_shop.make(postgres15.connect)
    for what in making:
        if what == "customers":
            making.close()

    assert not sample_shop.exists(postgres15.connect)
    list(sample_shop.make(postgres15.connect))
    assert postgres15.query("SELECT count(*) FROM customers", "shop") == [(12000,)]
    postgres15.drop_database("shop")


@pytest.fixture
def closed(tmp_path: Path) -> Iterator[Path]:
    """A directory that as root the database's user cannot enter."""
    directory = tmp_path / ".demo"
    directory.mkdir(mode=0o700)
    yield directory
    shutil.rmtree((directory / "postgres").resolve(), ignore_errors=True)


def major_and_directory(server: DemoServer) -> tuple[int, str]:
    with server.connect("postgres") as session:
        row = session.execute("SELECT current_setting('data_directory')").fetchone()
        assert row is not None
        return session.info.server_version // 10_000, str(row[0])


def test_a_closed_directory_and_programs_out_of_reach_are_no_obstacle(
    closed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    beyond = closed / "programs"
    shutil.copytree(programs(17).parent, beyond, symlinks=True)
    found = find_server(17, configured=beyond / "bin")
    monkeypatch.setattr(demo_database, "_programs", lambda _data: found)

    with running_server(closed) as server:
        first = major_and_directory(server)
    with running_server(closed) as server:
        second = major_and_directory(server)

    assert first == second == (17, str((closed / "postgres").resolve() / "data"))


def test_a_cluster_of_another_major_is_made_anew(closed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    majors = iter((15, 17))
    directories = {major: programs(major) for major in (15, 17)}
    monkeypatch.setattr(
        demo_database,
        "_programs",
        lambda _data: find_server(major := next(majors), configured=directories[major]),
    )

    with running_server(closed) as server:
        first = major_and_directory(server)
    with running_server(closed) as server:
        second = major_and_directory(server)

    assert (first[0], second[0]) == (15, 17)


def test_without_its_password_a_cluster_is_made_anew(closed: Path) -> None:
    with running_server(closed) as server:
        first = server.password_file.read_text()
    server.password_file.unlink()
    with running_server(closed) as server:
        major_and_directory(server)

    assert server.password_file.read_text() != first
