"""Builds and data on S3: a server of moto on this machine, its own process."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import avsrobust as ar
from avsrobust.errors import DataSetError, OptionError
from avsrobust.evaluation_targets import local_data_root
from avsrobust.files import sha256_of_file
from avsrobust.manifest import Manifest
from avsrobust.remote import local_copy
from avsrobust.remote.store import Store

BIN = Path(sys.executable).parent


@pytest.fixture
def remote(s3: Any, tmp_path: Path, make_build: Callable[..., Manifest]) -> tuple[Any, Manifest]:
    """A build and its data, on the server in s3://lab, and on this machine."""
    build = make_build(clips=3)
    (build.folder / "data_root").unlink(missing_ok=True)
    for name in ("build", "data"):
        s3.put(f"{tmp_path / name}/", f"lab/{name}/", recursive=True)
    return s3, build


def evaluate(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(BIN / "avsrobust"), "evaluate", "--adapter", "visual_prior", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_an_evaluation_from_s3_has_the_bytes_of_a_local_one(remote: tuple[Any, Manifest], tmp_path: Path) -> None:
    system, build = remote
    places = ("--manifest", "s3://lab/build", "--data-root", "s3://lab/data")
    done = evaluate(tmp_path, *places)
    assert done.returncode == 0, done.stderr
    (one,) = ar.evaluate("visual_prior", build, data_root=tmp_path / "data", output=tmp_path / "local")
    assert sha256_of_file(tmp_path / done.stdout.strip()) == sha256_of_file(one.scores)
    # The same again is of the same model, and fetches nothing.
    copies = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.png")}
    assert len(copies) == 3 * 5 * 2
    (again,) = ar.evaluate(
        "visual_prior", "s3://lab/build/manifest.parquet", data_root="s3://lab/data", output=tmp_path / "results"
    )
    assert again.reused == 3
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.png")} == copies
    # Nothing was written there.
    assert sorted(system.ls("lab")) == ["lab/build", "lab/data"]


def test_a_file_that_changes_there_is_fetched_again(remote: tuple[Any, Manifest], tmp_path: Path) -> None:
    system, _ = remote
    names = ["frames/group/clip0/0.png", "frames/group/clip0/1.png"]
    folder = local_copy("s3://lab/data", names)
    before = [(folder / name).stat().st_mtime_ns for name in names]
    content = (folder / names[0]).read_bytes()
    # As many bytes.
    system.pipe(f"lab/data/{names[0]}", content[:-1] + b"x")
    assert local_copy("s3://lab/data/", names) == folder
    assert (folder / names[0]).read_bytes() == content[:-1] + b"x"
    assert (folder / names[1]).stat().st_mtime_ns == before[1]
    # A copy that was cut off, or taken away, is made whole.
    (folder / names[0]).write_bytes(b"")
    (folder / names[1]).unlink()
    local_copy("s3://lab/data", names)
    assert (folder / names[0]).read_bytes() == content[:-1] + b"x"
    assert (folder / names[1]).read_bytes() == (tmp_path / "data" / names[1]).read_bytes()
    shutil.rmtree(tmp_path / "cache")
    assert local_copy("s3://lab/data", names) == folder


def test_what_is_missing_there_is_named(remote: tuple[Any, Manifest], tmp_path: Path) -> None:
    system, build = remote
    system.rm("lab/data/frames/group/clip1/2.png")
    with pytest.raises(DataSetError, match=r"s3://lab/data: lacks frames/group/clip1/2.png and 0 more"):
        local_data_root("s3://lab/data", [build], ["test"])
    with pytest.raises(DataSetError, match=r"s3://lab/nothing: found no file"):
        local_copy("s3://lab/nothing")
    with pytest.raises(OptionError, match=r"gopher9://lab: cannot be opened; expected s3://"):
        local_copy("gopher9://lab")
    done = evaluate(tmp_path, "--manifest", "s3://lab/build", "--data-root", "s3://lab/data")
    assert (done.returncode, done.stdout) == (2, "")
    assert "error: s3://lab/data: lacks frames/group/clip1/2.png" in done.stderr
    assert not (tmp_path / "results").exists()


def test_other_data_there_are_refused_as_they_are_here(remote: tuple[Any, Manifest], tmp_path: Path) -> None:
    system, _ = remote
    system.pipe("lab/data/frames/group/clip0/0.png", b"longer than it was" * 1000)
    done = evaluate(tmp_path, "--manifest", "s3://lab/build", "--data-root", "s3://lab/data")
    assert done.returncode == 2
    assert "the files of split 'test' are not those that" in done.stderr


def test_many_connections_at_once_unless_configured(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec

    assert s3.exists("lab")
    assert Store.open("s3://lab/x").system.config_kwargs == {"max_pool_connections": 32}
    monkeypatch.setitem(fsspec.config.conf, "s3", {"config_kwargs": {"max_pool_connections": 5, "retries": {}}})
    assert Store.open("s3://lab/x").system.config_kwargs == {"max_pool_connections": 5, "retries": {}}


def test_a_file_that_is_a_folder_too_is_one_line(s3: Any) -> None:
    # S3 has names, not folders: both can be there.
    s3.pipe_file("lab/build/x", b"1")
    s3.pipe_file("lab/build/x/y", b"2")
    with pytest.raises(DataSetError, match="s3://lab/build: cannot be fetched"):
        local_copy("s3://lab/build", ["x", "x/y"])
