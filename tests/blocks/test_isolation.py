"""Programs without a network, on the real kernel: as root and as an ordinary user."""

import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from blocks.isolation import can_do_without_network, without_network
from blocks.process import Command, Process, run, run_checked
from blocks.scratch_commands import initdb_command, server_command
from blocks.scratch_directory import Account
from tests.blocks.test_scratch import server_programs
from tests.servers.listener import listening
from tests.servers.ports import wait_until

ACCOUNT = Account(65534, 61200)
ORDINARY = 1  # the number that strangers have in a user namespace is 65534: another one
AS_ROOT = os.geteuid() == 0
CONNECT = "import socket, sys; socket.create_connection(('127.0.0.1', int(sys.argv[1])), 5)"


def test_root_makes_the_namespace_and_then_becomes_the_servers_user() -> None:
    command = Command(("postgres", "-D", "/d"), {"TZ": "UTC"}, uid=65534, gid=61200, isolated=True)
    wrapped = ("unshare", "--net", "--setuid=65534", "--setgid=61200", "--", "postgres", "-D", "/d")
    assert without_network(command) == Command(wrapped, {"TZ": "UTC"}, isolated=True)
    assert without_network(replace(command, gid=None)).argv[3] == "--setgid=65534"


def test_an_ordinary_user_stays_himself_in_a_user_namespace() -> None:
    wrapped = ("unshare", "--user", "--map-current-user", "--net", "--", "postgres")
    assert without_network(Command(("postgres",))) == Command(wrapped)


def commands(*argv: str) -> list[Command]:
    """Return a call as it is made here: as root for the server's user, as an ordinary user for himself."""
    own = without_network(Command(argv))
    if not AS_ROOT:
        return [own]
    return [without_network(Command(argv, uid=ACCOUNT.uid, gid=ACCOUNT.gid)), replace(own, uid=ACCOUNT.uid)]


def test_a_program_without_a_network_reaches_no_listener_on_this_host() -> None:
    with listening() as listener:
        argv = ("/usr/bin/env", "python3", "-c", CONNECT, str(listener.port))
        run_checked(Command(argv))
        wait_until(lambda: listener.connections == 1, "the connection that is not kept off")
        for command in commands(*argv):
            done = run(command)
            assert done.status == 1
            assert "OSError" in "".join(done.stderr_lines)
        assert listener.connections == 1


def test_a_program_without_a_network_is_who_it_was_and_has_no_capability() -> None:
    for command in commands("sh", "-c", "id -u; grep CapEff /proc/self/status"):
        user, capabilities = run_checked(command).decode().splitlines()
        assert int(user) == (ACCOUNT.uid if AS_ROOT else os.geteuid())
        assert int(capabilities.split()[1], 16) == 0


def test_the_process_that_is_started_becomes_the_program() -> None:
    for command in commands("sleep", "60"):
        with Process(command) as process:
            name = Path(f"/proc/{process.pid}/comm")
            wait_until(lambda name=name: name.read_text() == "sleep\n", "sleep")  # type: ignore[misc]


def test_where_no_namespace_can_be_had_it_is_known_beforehand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = Command(("postgres",), uid=ACCOUNT.uid if AS_ROOT else None)
    assert can_do_without_network(command)
    refusing = tmp_path / "unshare"
    refusing.write_text("#!/bin/sh\necho 'unshare: unshare failed: Operation not permitted' >&2; exit 1\n")
    refusing.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not can_do_without_network(command)
    refusing.unlink()
    assert not can_do_without_network(command)


@pytest.fixture
def place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="pgsalvo-isolation-") as name:
        if AS_ROOT:
            os.chown(name, ORDINARY, ORDINARY)
        yield Path(name)


@pytest.mark.parametrize("major", [14, 17])
def test_an_ordinary_users_server_knows_by_the_kernel_who_comes_to_its_socket(
    major: int, place: Path
) -> None:
    """Peer authentication sees through the user namespace; 14 runs without its collector of statistics."""
    programs = server_programs(major)
    account = Account(ORDINARY, ORDINARY) if AS_ROOT else None
    owner = place.owner()
    data = place / "data"
    run_checked(initdb_command(programs, data, "scratch", account))
    (data / "pg_hba.conf").write_text("local all all peer map=us\n")
    (data / "pg_ident.conf").write_text(f'us "{owner}" scratch\n')
    started = server_command(programs, data, place, account, jobs=1)
    command = replace(without_network(replace(started, uid=None, gid=None)), uid=started.uid, gid=started.gid)
    with Process(command) as server:
        wait_until(lambda: "ready to accept connections" in "".join(server.stderr_lines), "the server")
        psql = ("psql", "-XAtc", "SELECT current_user", f"dbname=template1 user=scratch host={place}")
        assert run_checked(replace(started, argv=psql)) == b"scratch\n"
        if AS_ROOT:
            assert run(Command(psql)).status != 0
