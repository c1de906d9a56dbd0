"""A real OpenSSH server for tests, which offers SFTP to whoever runs the tests."""

import getpass
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blocks.stores import SftpStore
from tests.servers.ports import accepts, free_port, wait_until
from tests.servers.s3 import _rclone as rclone

SSHD = "/usr/sbin/sshd"
PRIVILEGE_SEPARATION_DIRECTORY = Path("/run/sshd")


@dataclass
class SftpServer:
    """A running server; `directory` is empty, and everybody's to write for."""

    directory: Path
    port: int
    process: "subprocess.Popen[bytes]"

    @property
    def key_file(self) -> Path:
        """The private key that is let in."""
        return self.directory.parent / "user_key"

    @property
    def host_key(self) -> str:
        return public_key(self.directory.parent / "host_ed25519")

    def store(self, directory: Path | str, **fields: Any) -> SftpStore:
        """Return a store on this server; `fields` are the block's, and replace those given here."""
        given = {
            "host": "127.0.0.1",
            "port": self.port,
            "user": getpass.getuser(),
            "directory": str(directory),
            "key_file": str(self.key_file),
            "host_key": self.host_key,
        }
        return SftpStore(**(given | fields))

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()
        shutil.rmtree(self.directory.parent, ignore_errors=True)


def start_sftp(
    subsystem: str = "internal-sftp",
    *,
    host_keys: tuple[str, ...] = ("ed25519",),
    lines: tuple[str, ...] = (),
) -> SftpServer:
    """Start a server on a free port; stop it with `stop()`.

    Args:
        subsystem: What serves SFTP, such as `internal-sftp -R`, which lets nobody write.
        host_keys: The kinds of its keys; ed25519 is made fastest.
        lines: More of sshd_config's.
    """
    for program in (SSHD, "ssh-keygen"):
        assert shutil.which(program), f"{program} is not there: apt-get install openssh-server openssh-client"
    if os.geteuid() == 0:
        PRIVILEGE_SEPARATION_DIRECTORY.mkdir(mode=0o755, exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix="pgsalvo-test-sftp-"))
    (directory / "data").mkdir()
    for kind in host_keys:
        make_key(directory / f"host_{kind}", kind)
    make_key(directory / "user_key", "ed25519")
    (directory / "authorized_keys").write_text(public_key(directory / "user_key"))
    port = free_port()
    config = [
        f"Port {port}",
        "ListenAddress 127.0.0.1",
        *(f"HostKey {directory}/host_{kind}" for kind in host_keys),
        f"AuthorizedKeysFile {directory}/authorized_keys",
        f"PidFile {directory}/sshd.pid",
        "UsePAM no",
        "PasswordAuthentication no",
        "KbdInteractiveAuthentication no",
        "StrictModes no",
        "PermitRootLogin yes",
        "MaxStartups 100",
        f"Subsystem sftp {subsystem}",
        *lines,
    ]
    (directory / "sshd_config").write_text("\n".join(config) + "\n")
    process = subprocess.Popen(
        (SSHD, "-D", "-f", directory / "sshd_config", "-E", directory / "sshd.log"),
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    server = SftpServer(directory / "data", port, process)
    wait_until(lambda: _answers(server), "sshd")
    return server


def start_password_sftp(user: str, password: str) -> SftpServer:
    """Start a server of another make, which lets in one user by a password; stop it with `stop()`."""
    directory = Path(tempfile.mkdtemp(prefix="pgsalvo-test-sftp-"))
    (directory / "data").mkdir()
    make_key(directory / "host_ed25519")
    port = free_port()
    log = (directory / "sshd.log").open("wb")
    process = subprocess.Popen(
        (rclone(), "serve", "sftp", directory / "data", "--addr", f"127.0.0.1:{port}", "--user", user,
         "--pass", password, "--key", directory / "host_ed25519", "--vfs-cache-mode", "writes",
         "--cache-dir", directory / "cache"),
        stdout=log, stderr=log, env={"PATH": os.environ["PATH"], "RCLONE_CONFIG": os.devnull},
    )  # fmt: skip
    log.close()
    server = SftpServer(directory / "data", port, process)
    wait_until(lambda: _answers(server), "rclone serve sftp")
    return server


def make_key(path: Path, kind: str = "ed25519", passphrase: str = "") -> Path:
    """Make a key pair of a kind that ssh-keygen knows; return the private key's file."""
    subprocess.run(("ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-C", "tests", "-f", path), check=True)
    return path


def public_key(private: Path) -> str:
    return private.with_name(f"{private.name}.pub").read_text().strip()


def fingerprint(private: Path) -> str:
    """Return what ssh-keygen says of a key: SHA256:…"""
    said = subprocess.run(
        ("ssh-keygen", "-l", "-f", private), check=True, capture_output=True, text=True
    ).stdout
    return said.split()[1]


def _answers(server: SftpServer) -> bool:
    assert server.process.poll() is None, (server.directory.parent / "sshd.log").read_text()
    return accepts(server.port)
