"""Folders on file systems that have no locks, and folders that go away while they are held."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

import pytest

from avsrobust.errors import OptionError
from avsrobust.locks import LOCK_NAME, acquire, require_held


@pytest.mark.parametrize("wait", [False, True])
@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_named(
    number: int, wait: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_descriptor: int, _operation: int) -> None:
        raise OSError(number, os.strerror(number))

    # Mounting one takes rights that tests do not have.
    monkeypatch.setattr(fcntl, "flock", refuse)
    expected = (
        rf"{tmp_path}: its file system has no locks \({os.strerror(number)}\).* choose a folder on another file system"
    )
    with pytest.raises(OptionError, match=expected), acquire(tmp_path, "avsrobust", wait=wait):
        raise AssertionError
    assert list(tmp_path.iterdir()) == []


def test_a_trial_of_the_locks_leaves_nothing(tmp_path: Path) -> None:
    with acquire(tmp_path, "avsrobust"):
        assert sorted(path.name for path in tmp_path.iterdir()) == [".avsrobust.lock", ".avsrobust.owner"]


@pytest.mark.parametrize("instead", [False, True])
def test_a_folder_that_goes_away_while_it_is_held_is_named(tmp_path: Path, instead: bool) -> None:
    folder = tmp_path / "share"
    folder.mkdir()
    with acquire(folder, "avsrobust"):
        require_held(folder)
        folder.rename(tmp_path / "gone")
        if instead:
            # An empty mount point, in which another lock may lie.
            folder.mkdir()
            (folder / LOCK_NAME).touch()
        with pytest.raises(OptionError, match=rf"{folder}: is no more the folder that this command began to write to"):
            require_held(folder)
        if instead:
            (folder / LOCK_NAME).unlink()
            folder.rmdir()
        (tmp_path / "gone").rename(folder)
        require_held(folder)
    # Of folders that nobody holds nothing is known.
    require_held(tmp_path)
