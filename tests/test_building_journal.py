"""The journal of an unfinished build: only what it vouches for is taken over, and only with those bytes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from avsrobust.building import build as building
from avsrobust.building.build import build
from avsrobust.building.journal import JOURNAL_NAME, read_journal, record, remove_journal
from avsrobust.checksums import FileSum, sum_of_file
from avsrobust.conditions.recipe import load_recipe
from avsrobust.datasets.read import read_dataset
from avsrobust.files import sha256_of_file

CLIPS = 6
FILES = CLIPS + 1 + 4
KILLED = """
import os, signal, sys
from pathlib import Path
from avsrobust.building import build as building
from avsrobust.conditions.recipe import load_recipe
from avsrobust.datasets.read import read_dataset
building.write_checksums = lambda *arguments: os.kill(os.getpid(), signal.SIGKILL)
building.build(read_dataset("s4", Path(sys.argv[1])), load_recipe("standard"), 42, Path(sys.argv[2]))
"""


@pytest.fixture(scope="module")
def data(toys: Callable[..., Path]) -> Path:
    """A toy of S4. Tests must not change it."""
    return toys("s4", clips=CLIPS, seed=0)


@pytest.fixture(scope="module")
def unfinished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build that was killed when all files were made and nothing vouched for them but the journal."""
    output = tmp_path_factory.mktemp("unfinished") / "b"
    code = [sys.executable, "-c", KILLED, str(data), str(output)]
    assert subprocess.run(code, check=False, capture_output=True).returncode == -signal.SIGKILL
    return output


@pytest.fixture(scope="module")
def built(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Checksums of all files of a build that nothing happened to."""
    output = tmp_path_factory.mktemp("built") / "b"
    build(read_dataset("s4", data), load_recipe("standard"), 42, output)
    return checksums(output)


def checksums(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): sha256_of_file(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def made(folder: Path) -> list[Path]:
    return sorted([*folder.rglob("*.wav"), *folder.rglob("*.npy")])


def complete(data: Path, unfinished: Path, tmp_path: Path, damage=None) -> tuple[Path, int]:
    output = Path(shutil.copytree(unfinished, tmp_path / "b"))
    if damage is not None:
        damage(output)
    report = build(read_dataset("s4", data), load_recipe("standard"), 42, output)
    assert report.rendered + report.reused == FILES
    return output, report.rendered


def test_what_the_journal_vouches_for_is_taken_over(data, unfinished, built, tmp_path) -> None:
    assert len(read_journal(unfinished)) == len(made(unfinished)) == FILES
    output, rendered = complete(data, unfinished, tmp_path)
    assert rendered == 0
    assert checksums(output) == built
    assert not (output / JOURNAL_NAME).exists()


@pytest.mark.parametrize("fill", ["zeros", "garbage", "one bit"])
def test_files_of_the_right_size_and_other_bytes_are_made_again(data, unfinished, built, tmp_path, fill) -> None:
    def damage(output: Path) -> None:
        for path in made(output)[::3]:
            content = path.read_bytes()
            other = {
                "zeros": bytes(len(content)),
                "garbage": os.urandom(len(content)),
                "one bit": content[:-1] + bytes([content[-1] ^ 1]),
            }
            path.write_bytes(other[fill])

    output, rendered = complete(data, unfinished, tmp_path, damage)
    assert rendered == len(made(unfinished)[::3])
    assert checksums(output) == built


@pytest.mark.parametrize(
    "content",
    [None, b"", b"\0" * 4096, b'["audio/silence', b'[1, 2, 3]\nnull\n{"a": 1}\n\xff\xfe\n', b"[" * 100_000],
    ids=["gone", "empty", "zeros", "torn", "other values", "too deep"],
)
def test_a_journal_that_is_gone_or_damaged_vouches_for_nothing(data, unfinished, built, tmp_path, content) -> None:
    def damage(output: Path) -> None:
        for path in (output / JOURNAL_NAME).iterdir():
            path.unlink() if content is None else path.write_bytes(content)

    output, rendered = complete(data, unfinished, tmp_path, damage)
    assert rendered == FILES
    assert checksums(output) == built


def test_a_finished_build_gets_back_what_was_changed_in_it(data, unfinished, built, tmp_path) -> None:
    output, _ = complete(data, unfinished, tmp_path)
    for path in made(output)[1::4]:
        path.write_bytes(bytes(path.stat().st_size))
    report = build(read_dataset("s4", data), load_recipe("standard"), 42, output)
    assert report.rendered == len(made(output)[1::4])
    assert checksums(output) == built


def test_files_are_flushed_before_the_journal_and_both_before_the_manifest(data, tmp_path, monkeypatch) -> None:
    flushed: list[str] = []
    real = os.fsync

    def noted(descriptor: int) -> None:
        flushed.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    output = tmp_path / "b"
    build(read_dataset("s4", data), load_recipe("standard"), 42, output)
    first = {}
    for number, path in enumerate(flushed):
        first.setdefault(path, number)
    last = {path: number for number, path in enumerate(flushed)}
    journal = [number for number, path in enumerate(flushed) if f"/{JOURNAL_NAME}/" in path]
    manifest = min(number for path, number in first.items() if "/.manifest.parquet." in path)
    for path in made(output):
        assert first[str(path)] < max(journal) < manifest
        # The name of the file, after the file, and the names of the folders above it.
        assert first[str(path)] < last[str(path.parent)] < manifest
    for name in ("checksums.parquet", "seal.json"):
        assert any(f"/.{name}." in path for path in flushed[:manifest])
    assert last[str(output)] > manifest


def test_several_processes_write_several_journals(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a")
    record(tmp_path, [sum_of_file("a", tmp_path / "a")])
    code = (
        "import sys; from pathlib import Path; from avsrobust.building.journal import record; "
        "from avsrobust.checksums import sum_of_file; root = Path(sys.argv[1]); (root / 'b').write_bytes(b'b'); "
        "record(root, [sum_of_file('b', root / 'b')])"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    assert len(list((tmp_path / JOURNAL_NAME).iterdir())) == 2
    assert read_journal(tmp_path) == {name: sum_of_file(name, tmp_path / name) for name in ("a", "b")}
    remove_journal(tmp_path)
    assert read_journal(tmp_path) == {}
    remove_journal(tmp_path)


def test_nothing_but_the_build_stays_behind(data, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(building, "write_checksums", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        build(read_dataset("s4", data), load_recipe("standard"), 42, tmp_path / "b", workers=2)
    shared = Path("/dev/shm")
    if shared.is_dir():
        assert not list(shared.glob(f"joblib_memmapping_folder_{os.getpid()}_*"))


def test_a_sum_is_of_size_and_content(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"")
    assert sum_of_file("a", tmp_path / "a") == FileSum(
        "a", 0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    )
