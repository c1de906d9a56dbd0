"""How containers are run, and what it means when they do not run."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from blocks.container_connection import explicit_parameters, mounts_of, password_file
from blocks.container_programs import dumping
from blocks.container_runtime import runtime_of
from blocks.containers import (
    Container,
    Mount,
    Runtime,
    container_error,
    image_of,
    in_container,
    passwd,
    run_command,
)
from blocks.docker_client import DockerPostgresClient
from blocks.elsewhere import Elsewhere
from blocks.errors import ConfigurationError, ProgramFailed, ProgramMissing, ProgramTooOld, WorldError
from blocks.process import Command, secret_file
from blocks.scratch_directory import Account

DOCKER = Runtime("docker", {"DOCKER_HOST": "unix:///run/docker.sock"})
US = Account(1000, 1001)
APART = (
    "--pull=never",
    "--log-driver=none",
    "--read-only",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges",
    "--security-opt=label=disable",
)
INFO_OF_20 = '{"ServerErrors":["Cannot connect to the Docker daemon at unix:///x. Is it running?"]}'
VERSION = 'case "$*" in info*) echo "{}" ;; *--version) echo "pg_dump (PostgreSQL) %s" ;; esac'


def test_a_dump_is_run_as_us_off_the_daemons_log_and_writes_to_a_fifo() -> None:
    container = Container(
        "pgsalvo-1-1", "postgres:15", US, mounts=(Mount(Path("/dev/shm/d"), Path("/run/pgsalvo")),)
    )
    dump = Command(("pg_dump", "--no-password", "--dbname=dbname=shop", "--format=custom"), pass_fds=(7,))
    assert dumping(dump, DOCKER, container, Path("/dev/shm/d")) == Command(
        (
            *("docker", "run", "--rm", "--interactive", "--name=pgsalvo-1-1", "--label=pgsalvo=pg_dump"),
            *(*APART, "--user=1000:1001", "--network=host"),
            "--mount=type=bind,source=/dev/shm/d,target=/run/pgsalvo,readonly",
            *("--env=PGPASSFILE=/run/pgsalvo/passfile", "--env=LC_ALL=C.UTF-8", "--entrypoint=pg_dump"),
            *("postgres:15", "--no-password", "--dbname=dbname=shop", "--format=custom"),
            *("--file=/run/pgsalvo/pgsalvo-1-1", "--no-sync"),
        ),
        DOCKER.environment,
        elsewhere=Elsewhere(
            "pg_dump",
            ("docker", "rm", "--force", "--volumes", "pgsalvo-1-1"),
            Path("/dev/shm/d/pgsalvo-1-1"),
            Path("/dev/shm/d"),
        ),
    )


@pytest.mark.parametrize(
    ("account", "user"),
    [pytest.param(Account(65534, 61999), "65534:61999", id="root"), pytest.param(None, "1000:1001", id="us")],
)
def test_a_scratch_servers_program_sees_its_directory_and_no_network(
    account: Account | None, user: str
) -> None:
    uid, gid = (account.uid, account.gid) if account else (None, None)
    postgres = Command(("postgres", "-D", "/s/data"), {"TZ": "UTC"}, uid=uid, gid=gid, isolated=True)
    found = in_container(
        postgres,
        directory=Path("/s"),
        image="postgres:16",
        runtime=DOCKER,
        name="pgsalvo-2",
        us=US,
        memory="2g",
    )
    assert found == Command(
        (
            *("docker", "run", "--rm", "--interactive", "--name=pgsalvo-2", "--label=pgsalvo=postgres"),
            *(*APART, f"--user={user}", "--network=none", "--memory=2g"),
            *("--mount=type=bind,source=/s,target=/s",),
            *("--mount=type=bind,source=/s/passwd,target=/etc/passwd,readonly",),
            *("--env=TZ=UTC", "--entrypoint=postgres", "postgres:16", "-D", "/s/data"),
        ),
        DOCKER.environment,
        elsewhere=Elsewhere(
            "postgres", ("docker", "rm", "--force", "--volumes", "pgsalvo-2"), directory=Path("/s")
        ),
    )


def test_a_path_with_a_comma_or_a_quote_is_one_mount() -> None:
    assert Mount(Path('/a,b"c')).option == ('type=bind,"source=/a,b""c","target=/a,b""c",readonly')


def test_the_servers_major_is_filled_in() -> None:
    assert image_of("registry.example/postgres:{major}-alpine", 17) == "registry.example/postgres:17-alpine"


def test_both_users_of_a_scratch_server_have_names() -> None:
    names = {Account(0, 0): "admin", Account(65534, 61999): "scratch"}
    assert passwd(names) == "admin:x:0:0::/:\nscratch:x:65534:61999::/:\n"


@pytest.mark.parametrize(
    ("information", "is_root", "options", "maps_us_to_root"),
    [
        pytest.param({"SecurityOptions": ["name=seccomp"]}, True, (), False, id="docker"),
        pytest.param({"SecurityOptions": ["name=userns"]}, True, ("--userns=host",), False, id="remapped"),
        pytest.param({"SecurityOptions": ["name=rootless"]}, False, (), True, id="rootless docker"),
        pytest.param({"host": {}}, True, (), False, id="podman"),
        pytest.param({"host": {}}, False, ("--userns=keep-id",), False, id="rootless podman"),
    ],
)
def test_we_are_the_same_user_inside_as_outside(
    information: dict[str, Any], is_root: bool, options: tuple[str, ...], maps_us_to_root: bool
) -> None:
    runtime = runtime_of(DOCKER, information, is_root=is_root)
    assert (runtime.options, runtime.maps_us_to_root) == (options, maps_us_to_root)
    user = "--user=0:0" if maps_us_to_root else "--user=1000:1001"
    argv = run_command(runtime, Container("n", "i", US), ("pg_dump",)).argv
    assert user in argv
    assert set(options) <= set(argv)


def test_a_virtual_machine_is_refused() -> None:
    with pytest.raises(ProgramFailed, match="virtual machine"):
        runtime_of(DOCKER, {"OperatingSystem": "Docker Desktop"}, is_root=False)


@pytest.mark.parametrize(
    ("status", "said", "kind", "message", "hint"),
    [
        pytest.param(1, "pg_dump: error: no", None, "", "", id="pg_dump itself"),
        pytest.param(-9, "", None, "", "", id="the client was killed"),
        pytest.param(
            125,
            "docker: Error response from daemon: bind source path does not exist: /x.",
            ProgramFailed,
            "did not start, or was lost: bind source path does not exist: /x",
            "on this host",
            id="another host's daemon",
        ),
        pytest.param(
            125,
            "Error: image:1: no such image",
            ProgramFailed,
            "did not start, or was lost: image:1: no such image",
            "pull",
            id="no image",
        ),
        pytest.param(
            125,
            'time="2026-01-28T02:00:00Z" level=error msg="error waiting for container: unexpected EOF"',
            ProgramFailed,
            "or was lost: error waiting for container: unexpected EOF",
            "its daemon ended meanwhile",
            id="daemon gone",
        ),
        pytest.param(126, "docker: permission denied", ProgramMissing, "cannot be run", "", id="no program"),
        pytest.param(
            127, "docker: not found", ProgramMissing, "no pg_dump in the image postgres:15", "", id="missing"
        ),
        pytest.param(137, "", ProgramFailed, "was killed in its container", "memory", id="out of memory"),
        pytest.param(139, "", ProgramFailed, "by signal 11", "on purpose", id="crashed"),
    ],
)
def test_what_runs_the_container_is_told_from_the_program_in_it(
    status: int, said: str, kind: type[WorldError] | None, message: str, hint: str
) -> None:
    command = run_command(DOCKER, Container("n", "postgres:15", US), ("pg_dump", "--dbname=postgres:15"))
    error = container_error(command, status, ["Unable to find it locally", said])
    assert type(error) is (kind or type(None))
    if error is not None:
        assert message in error.message
        assert hint in error.hint


def test_a_program_of_this_host_has_no_containers_error() -> None:
    assert container_error(Command(("pg_dump",)), 127, []) is None


def test_all_that_libpq_would_find_here_is_said_in_the_conninfo(tmp_path: Path) -> None:
    (tmp_path / "root.crt").touch()
    (tmp_path / "postgresql.key").touch()
    given = {"host": "db", "sslkey": "/keys/client.key", "user": "app", "passfile": "/p", "dbname": None}
    variables = {"user": "me", "sslmode": "verify-full", "passfile": "/q", "dbname": "shop"}
    assert explicit_parameters(given, variables, tmp_path) == {
        "host": "db",
        "user": "app",
        "dbname": "shop",
        "sslmode": "verify-full",
        "sslkey": "/keys/client.key",
        "sslrootcert": str(tmp_path / "root.crt"),
    }


def test_a_connection_service_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="service"):
        explicit_parameters({"service": "shop"}, {}, tmp_path)


@pytest.mark.parametrize(
    ("parameters", "mounted"),
    [
        pytest.param({"host": "db", "sslrootcert": "system"}, [], id="nothing"),
        pytest.param({"host": "/run/postgresql"}, ["/run/postgresql"], id="socket"),
        pytest.param({"host": "@abstract"}, [], id="abstract socket"),
        pytest.param({"sslcert": "/k/a", "sslkey": "/k/a", "sslcrldir": "/k/d"}, ["/k/a", "/k/d"], id="tls"),
    ],
)
def test_files_that_the_conninfo_names_are_seen_read_only(
    parameters: dict[str, str], mounted: list[str]
) -> None:
    assert mounts_of(parameters) == tuple(Mount(Path(name)) for name in mounted)


def test_the_password_is_what_libpq_would_take_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("PGPASSFILE", raising=False)
    monkeypatch.delenv("PGPASSWORD", raising=False)
    assert password_file({}, {}) == b""
    (tmp_path / ".pgpass").write_bytes(b"*:*:*:*:usual\n")
    assert password_file({}, {}) == b"*:*:*:*:usual\n"
    (tmp_path / "named").write_bytes(b"*:*:*:*:named\n")
    assert password_file({}, {"passfile": str(tmp_path / "named")}) == b"*:*:*:*:named\n"
    monkeypatch.setenv("PGPASSWORD", "from:here")
    assert password_file({}, {}) == b"*:*:*:*:from\\:here\n"
    with secret_file(b"*:*:*:*:resolved\n") as (path, _):
        assert password_file({"PGPASSFILE": path}, {}) == b"*:*:*:*:resolved\n"


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"image": ""}, id="no image"),
        pytest.param({"image": "--privileged"}, id="an option for an image"),
        pytest.param({"program": "docker run"}, id="two words"),
        pytest.param({"network": "-v"}, id="an option for a network"),
        pytest.param({"memory": "lots"}, id="no size"),
    ],
)
def test_a_field_that_docker_would_misread_is_refused(settings: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        DockerPostgresClient(**settings)


@pytest.mark.parametrize(
    ("script", "kind", "message", "hint"),
    [
        pytest.param(
            f"echo '{INFO_OF_20}'", ProgramFailed, "Cannot connect to the Docker", "systemctl", id="20.10"
        ),
        pytest.param(
            "echo '{}'; echo 'Cannot connect to the Docker daemon at unix:///x' >&2; exit 1",
            ProgramFailed,
            "Cannot connect",
            "systemctl start docker",
            id="daemon down",
        ),
        pytest.param("exit 1", ProgramFailed, "does not work here: no word", "", id="it says nothing"),
        pytest.param(
            "echo 'permission denied while trying to connect to the docker API' >&2; exit 1",
            ProgramFailed,
            "permission denied",
            "socket",
            id="no rights",
        ),
        pytest.param(
            'if [ "$1" = info ]; then echo "{}"; exit; fi'
            "; echo 'Error response from daemon: no such host' >&2; exit 1",
            ProgramMissing,
            "the image postgres:16 is not here and cannot be pulled: no such host",
            "pull postgres:16",
            id="no image",
        ),
        pytest.param(
            VERSION % "15.9", ProgramTooOld, "is 15.9, the server needs 16", "postgres:16", id="old"
        ),
        pytest.param("echo nonsense", ProgramFailed, "does not tell about itself", "", id="not Docker"),
    ],
)
def test_what_keeps_containers_from_running_is_said_with_its_remedy(
    tmp_path: Path, script: str, kind: type[WorldError], message: str, hint: str
) -> None:
    with pytest.raises(kind) as caught:
        DockerPostgresClient(program=stub(tmp_path, script)).find(16)
    assert message in caught.value.message
    assert "\n" not in caught.value.message
    assert hint in caught.value.hint


def test_a_missing_docker_is_said_with_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(ProgramMissing, match=r"no program .*docker") as caught:
        DockerPostgresClient(program=str(tmp_path / "docker")).find(16)
    assert "apt-get install docker.io" in caught.value.hint


def test_programs_newer_than_the_server_are_taken_with_a_warning(tmp_path: Path) -> None:
    client = DockerPostgresClient(program=stub(tmp_path, VERSION % "17.1"), image="pg")
    programs, warning = client.find(16)
    assert (programs.version, programs.major, programs.image) == ("17.1", 17, "pg")
    assert "newer than the server" in warning
    assert client.find(17)[1] == ""


def stub(directory: Path, script: str) -> str:
    program = directory / "docker"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return str(program)
