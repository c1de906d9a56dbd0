"""A scratch server in a container: we come in, it gets out to nobody, and it ends with us."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from blocks.errors import ScratchLacks
from blocks.scratch import ScratchServer, sweep_scratch
from blocks.scratch_container import container_launcher
from tests.servers.docker import Engine
from tests.servers.processes import eventually

ROOT = Path(__file__).parents[2]
IMAGE = "localhost/pgsalvo-server:{major}"
VERIFYING = """
import sys, time
from pathlib import Path
from blocks.scratch import ScratchServer
from blocks.scratch_container import container_launcher
image, program, root = sys.argv[1:]
with ScratchServer(container_launcher(image, program, 16), Path(root)) as scratch:
    print(scratch.directory, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def scratch(engine: Engine, tmp_path: Path) -> Iterator[ScratchServer]:
    with ScratchServer(container_launcher(IMAGE, engine.program, 16), tmp_path) as server:
        assert len(engine.containers()) == 1
        yield server
    assert engine.containers() == []
    assert not server.directory.exists()


def test_we_come_in_as_its_superuser_by_the_socket_and_as_its_restorer(
    scratch: ScratchServer,
) -> None:
    assert scratch.create_database("shop", "UTF8", "C", "C", "owner") == []
    restorer = scratch.create_restorer()
    with scratch.connect("shop") as session:
        query = "SELECT current_setting('server_version_num')::int / 10000, usesuper FROM pg_user"
        assert session.execute(f"{query} WHERE usename = current_user").fetchone() == (16, True)
    with psycopg.connect(scratch.conninfo("shop", restorer)) as session:
        assert session.execute("SELECT current_user").fetchone() == (restorer,)


def test_the_server_has_no_network(scratch: ScratchServer) -> None:
    assert scratch.is_off_network
    with socket.create_server(("127.0.0.1", 0)) as listener, scratch.connect("template1") as session:
        listener.settimeout(0.1)
        session.execute("CREATE EXTENSION dblink SCHEMA public")
        session.execute("SET statement_timeout = '3s'")  # it would wait for an answer, if it got through
        target = f"host=127.0.0.1 port={listener.getsockname()[1]} user=x"
        with pytest.raises(psycopg.OperationalError, match="could not establish connection"):
            session.execute("SELECT public.dblink_connect(%s)", [target])
        with pytest.raises(TimeoutError):
            listener.accept()


def test_restored_code_sees_no_file_of_the_host_and_has_no_power(
    scratch: ScratchServer, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("planted")
    with scratch.connect("template1") as session:
        assert session.execute("SELECT pg_stat_file(%s, true)", [str(tmp_path / "secret")]).fetchone() == (
            None,
        )
        session.execute("CREATE TEMP TABLE told (line text)")
        session.execute("COPY told FROM PROGRAM 'while read -r line; do echo $line; done </proc/self/status'")
        told = dict(line.split(":") for (line,) in session.execute("SELECT line FROM told") if ":" in line)
    assert int(told["Uid"].split()[0]) != 0
    assert {told[name].strip() for name in ("CapPrm", "CapEff", "CapBnd")} == {"0000000000000000"}
    assert told["NoNewPrivs"].strip() == "1"


def test_a_killed_run_leaves_neither_container_nor_directory(engine: Engine, tmp_path: Path) -> None:
    argv = (sys.executable, "-c", VERIFYING, IMAGE, engine.program, str(tmp_path))
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(argv, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as verification:
        assert verification.stdout is not None
        directory = Path(verification.stdout.readline().strip())
        assert engine.containers()
        verification.kill()
    eventually(lambda: not engine.containers(), "the server's container ends", 10)
    assert directory in sweep_scratch(tmp_path)


def test_an_image_of_another_major_is_refused(engine: Engine) -> None:
    with pytest.raises(ScratchLacks, match=r"holds PostgreSQL 16.*, not 17"):
        container_launcher(IMAGE.replace("{major}", "16"), engine.program, 17)


def test_an_image_without_a_server_is_refused(engine: Engine) -> None:
    with pytest.raises(ScratchLacks, match="no postgres in the image"):
        container_launcher("localhost/pgsalvo-client:15", engine.program, 15)
