"""A run's spool directory is there as long as the run, and a killed run's is cleared by the next."""

import errno
import fcntl
import os
from pathlib import Path

import pytest

from blocks.errors import SpoolError, SpoolFull
from blocks.spool import LOCK_SUFFIX, SpoolDirectory, sweep


def _killed_run(root: Path, *, made: bool) -> Path:
    """Leave behind what a run leaves that is killed: its lock, and its directory if that was `made`."""
    directory = root / "killed-12345678"
    if made:
        directory.mkdir()
        (directory / "archive").write_bytes(b"encrypted")
    directory.with_suffix(LOCK_SUFFIX).touch()
    return directory


def test_nothing_is_left_of_a_run_that_ended(tmp_path: Path) -> None:
    with SpoolDirectory(tmp_path / "spool", "run") as spool:
        spool.file("archive").write(b"encrypted")
        assert (spool.path / "archive").read_bytes() == b"encrypted"
    assert list((tmp_path / "spool").iterdir()) == []


@pytest.mark.parametrize("made", [True, False], ids=["with its directory", "before that was made"])
def test_what_a_killed_run_left_is_swept_and_a_running_one_is_not(tmp_path: Path, made: bool) -> None:
    left = _killed_run(tmp_path, made=made)
    with SpoolDirectory(tmp_path, "run") as spool:
        assert sweep(tmp_path) == [left]
        assert sorted(tmp_path.iterdir()) == sorted([spool.path, spool.path.with_suffix(LOCK_SUFFIX)])
        assert spool.path.is_dir()


def test_what_is_not_ours_is_not_swept(tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    (tmp_path / "file").touch()
    assert sweep(tmp_path) == []
    assert len(list(tmp_path.iterdir())) == 2


def test_nothing_to_sweep_where_nothing_ever_ran(tmp_path: Path) -> None:
    assert sweep(tmp_path / "never") == []


def test_a_lock_swept_between_its_making_and_its_locking_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, attempts = fcntl.flock, list[int]()

    def swept_at_first(descriptor: int, how: int) -> None:
        if not attempts:
            attempts.append(descriptor)
            sweep(tmp_path)
        lock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", swept_at_first)
    with SpoolDirectory(tmp_path, "run") as spool:
        assert spool.path.with_suffix(LOCK_SUFFIX).exists()
        assert sweep(tmp_path) == []


def test_the_file_of_an_aborted_stream_gives_its_room_back(tmp_path: Path) -> None:
    open_before = len(list(Path("/proc/self/fd").iterdir()))
    with SpoolDirectory(tmp_path, "run") as spool:
        file = spool.file("archive")
        file.write(b"encrypted")
        file.abort(RuntimeError())
    assert len(list(Path("/proc/self/fd").iterdir())) == open_before


@pytest.mark.parametrize(
    ("number", "kind", "said"),
    [
        pytest.param(errno.ENOSPC, SpoolFull, "no room left in the spool directory", id="full"),
        pytest.param(errno.EACCES, SpoolError, "cannot write to", id="forbidden"),
    ],
)
def test_a_spool_directory_that_cannot_be_made_tells_which_setting_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[SpoolError], said: str
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(kind, match=said) as caught:
        SpoolDirectory(tmp_path, "run")
    assert "spool_directory" in caught.value.hint
