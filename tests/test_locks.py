"""Folders on file systems that have no locks."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

import pytest

from avsrobust.errors import OptionError
from avsrobust.locks import acquire


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
