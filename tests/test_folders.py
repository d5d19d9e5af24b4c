"""Output folders: ours if they say so, nobody else's ever; one process at a time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from avsrobust.errors import OptionError
from avsrobust.files import write_text
from avsrobust.folders import MARKER_NAME, ensure_output_dir, foreign_entries, new_folder, read_marker
from avsrobust.locks import acquire


def test_a_new_and_an_empty_folder_become_ours(tmp_path: Path) -> None:
    ensure_output_dir(tmp_path / "new", "build", 1)
    (tmp_path / "empty").mkdir()
    ensure_output_dir(tmp_path / "empty", "build", 1)
    ensure_output_dir(tmp_path / "empty", "build", 1)
    assert read_marker(tmp_path / "new") == read_marker(tmp_path / "empty") == ("build", 1)


def test_a_folder_with_something_in_it_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(OptionError, match=r"holds thesis\.tex, which avsrobust did not write"):
        ensure_output_dir(tmp_path, "results", 1)
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize(("kind", "version"), [("results", 1), ("build", 2)])
def test_another_kind_or_format_is_refused(tmp_path: Path, kind: str, version: int) -> None:
    ensure_output_dir(tmp_path, "build", 1)
    with pytest.raises(OptionError, match=r"holds a build of format 1; expected (a|results)"):
        ensure_output_dir(tmp_path, kind, version)


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"kind": 3, "format": 1}', '{"kind": "\x1b[31m", "format": 1}', "{" * 9999, "[" * 4000]
)
def test_a_damaged_marker_is_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / MARKER_NAME).write_text(content)
    with pytest.raises(OptionError, match="is damaged") as caught:
        ensure_output_dir(tmp_path, "build", 1)
    assert "\n" not in str(caught.value)


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OptionError, match="cannot be used"):
        ensure_output_dir(tmp_path / "file", "build", 1)


def test_a_folder_whose_name_is_no_text_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"m\xe4rz")
    with pytest.raises(OptionError, match=r"m\\udce4rz': is a folder whose name holds bytes that are no text"):
        ensure_output_dir(folder, "build", 1)
    assert not folder.exists()


HOLDER = """
import sys, time
from pathlib import Path
from avsrobust.locks import acquire
with acquire(Path(sys.argv[1]), "avsrobust build"):
    print("held", flush=True)
    sys.stdin.readline()
"""


def test_a_second_process_learns_who_holds_the_folder_and_can_wait(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with (
        pytest.raises(OptionError, match=rf"in use by avsrobust build \(process {holder.pid} on .*--wait"),
        acquire(tmp_path, "avsrobust evaluate"),
    ):
        pass
    holder.stdin.write("\n")
    holder.stdin.flush()
    with acquire(tmp_path, "avsrobust evaluate", wait=True):
        assert foreign_entries(tmp_path) == []
    assert holder.wait() == 0


def test_a_killed_holder_gives_the_folder_up(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    holder.kill()
    holder.wait()
    with acquire(tmp_path, "avsrobust build"):
        pass


def test_a_new_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    with new_folder(tmp_path / "a" / "out") as temporary:
        (temporary / "inner").mkdir()
        (temporary / "inner" / "file").write_text("x")
        assert not (tmp_path / "a" / "out").exists()
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["out"]
    assert (tmp_path / "a" / "out" / "inner" / "file").read_text() == "x"
    with pytest.raises(FileNotFoundError), new_folder(tmp_path / "a" / "other"):
        (tmp_path / "nowhere").read_text()
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["out"]


def test_a_new_folder_takes_nobodys_place(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with new_folder(tmp_path / "empty") as temporary:
        (temporary / "file").write_text("x")
    assert (tmp_path / "empty" / "file").exists()
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for name in ("empty", "file", "link"):
        with pytest.raises(OptionError, match="is there already"), new_folder(tmp_path / name):
            pytest.fail("the block must not run")
    # Filled while the block worked.
    with pytest.raises(OptionError, match="is there already"), new_folder(tmp_path / "late"):
        write_text(tmp_path / "late" / "mine", "mine")
    assert [path.name for path in (tmp_path / "late").iterdir()] == ["mine"]
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_new_folder_needs_a_name_and_a_place(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path / "file" / "out", Path(".."), Path("/")):
        with pytest.raises(OptionError), new_folder(path):
            pytest.fail("the block must not run")
