"""Imports of a long session: each call finds what a new process would, whatever was imported before."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from avsrobust import plugin_sources
from avsrobust.adapters.lookup import find_adapter, load_adapter
from avsrobust.datasets.registry import find_dataset
from avsrobust.errors import AdapterError
from avsrobust.evaluation.adapter_source import source_sha256
from avsrobust.plugins import Registry

CPU = torch.device("cpu")
MODEL = """
class Model:
    audio = "log_mel"
    name = NAME

    @classmethod
    def load(cls, checkpoint, device):
        return cls()

    def encode_frames(self, frames): ...
    def segment(self, encoded, audio): ...
"""


def write(path: Path, content: str) -> Path:
    """Write a file, over one of the same time: content alone tells, and often not by its size."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    os.utime(path, ns=(1_700_000_000_000_000_000, 1_700_000_000_000_000_000))
    return path


@pytest.fixture(autouse=True)
def restored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in ("_FOLDERS", "_WORKING", "_ADDED"):
        monkeypatch.setattr(plugin_sources, name, set())


def named(spec: str) -> str:
    return str(vars(find_adapter(spec))["name"])


def test_a_module_is_that_of_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b", "empty"):
        write(tmp_path / name / "place.txt", "")
    for name in ("a", "b"):
        write(tmp_path / name / "cwd_model.py", f"NAME = '{name}'{MODEL}")
    found = []
    for name in ("a", "b", "a"):
        monkeypatch.chdir(tmp_path / name)
        found.append(named("cwd_model:Model"))
    assert found == ["a", "b", "a"]
    monkeypatch.chdir(tmp_path / "empty")
    with pytest.raises(AdapterError, match="found no module cwd_model"):
        find_adapter("cwd_model:Model")


def test_so_is_a_package_and_its_neighbours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        # A folder is a package without a file of its own, too.
        write(tmp_path / name / "cwd_package" / "inner.py", f"from cwd_part import NAME{MODEL}")
        write(tmp_path / name / "cwd_part.py", f"NAME = '{name}'")
    found = []
    for name in ("a", "b"):
        monkeypatch.chdir(tmp_path / name)
        found.append(named("cwd_package.inner:Model"))
    assert found == ["a", "b"]


def test_names_of_our_own_modules_leave_the_import_path_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = list(sys.path)
    monkeypatch.chdir(tmp_path)
    assert find_dataset("s4").name == "s4"
    assert find_adapter("avsrobust.adapters.baselines:Oracle").__name__ == "Oracle"
    assert sys.path == before


def test_a_folder_that_the_user_imports_from_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a" / "own_model.py", f"NAME = 'a'{MODEL}")
    (tmp_path / "b").mkdir()
    monkeypatch.syspath_prepend(tmp_path / "a")
    for name in ("a", "b"):
        monkeypatch.chdir(tmp_path / name)
        assert named("own_model:Model") == "a"
    assert sys.path[0] == str(tmp_path / "a")


def test_a_file_is_imported_with_neighbours_that_have_changed(tmp_path: Path) -> None:
    write(tmp_path / "deep_part.py", "NAME = 'old'")
    write(tmp_path / "kept_part.py", "from deep_part import NAME")
    spec = f"{write(tmp_path / 'model.py', f'from kept_part import NAME{MODEL}')}:Model"
    first = find_adapter(spec)
    kept = sys.modules["kept_part"]
    assert (named(spec), sys.modules["kept_part"]) == ("old", kept)
    # Of the same size, within the second: neither time nor what was compiled tells.
    write(tmp_path / "deep_part.py", "NAME = 'new'")
    assert named(spec) == "new"
    assert vars(first)["name"] == "old"
    write(tmp_path / "model.py", MODEL.replace("NAME", "'own'"))
    assert named(spec) == "own"


def test_a_neighbour_that_is_imported_late_is_noted_too(tmp_path: Path) -> None:
    write(tmp_path / "late_neighbour.py", "NAME = 'old'")
    late = MODEL.replace("NAME", "''").replace(
        "return cls()", "from late_neighbour import NAME; return NAME_OF(cls, NAME)"
    )
    path = write(
        tmp_path / "model.py", f"def NAME_OF(cls, name):\n    made = cls(); made.name = name; return made\n{late}"
    )

    def loaded() -> str:
        return str(load_adapter(f"{path}:Model", checkpoint=None, device=CPU, options={}).name)  # type: ignore[attr-defined]

    assert loaded() == "old"
    write(tmp_path / "late_neighbour.py", "NAME = 'new'")
    assert loaded() == "new"


def test_a_folder_that_is_on_the_path_already_comes_first_for_its_own_files(tmp_path: Path) -> None:
    specs = {}
    for name in ("a", "b"):
        write(tmp_path / name / "twice_part.py", f"NAME = '{name}'")
        path = write(tmp_path / name / "model.py", f"from twice_part import NAME{MODEL}")
        specs[name] = f"{path}:Model"
    assert [named(specs[name]) for name in "abbaab"] == list("abbaab")


def test_modules_of_the_user_are_not_imported_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "users_part.py", "NAME = 'old'")
    path = write(tmp_path / "model.py", f"from users_part import NAME{MODEL}")
    monkeypatch.syspath_prepend(tmp_path)
    users = importlib.import_module("users_part")
    assert named(f"{path}:Model") == "old"
    write(tmp_path / "users_part.py", "NAME = 'new'")
    assert named(f"{path}:Model") == "old"
    assert sys.modules["users_part"] is users


def test_installed_packages_below_a_folder_are_nobodys_neighbours(tmp_path: Path) -> None:
    installed = write(tmp_path / "a" / ".venv" / "site-packages" / "installed_part.py", "NAME = 'installed'")
    write(tmp_path / "b" / "installed_part.py", "NAME = 'b'")
    first = write(
        tmp_path / "a" / "model.py",
        f"import sys\nsys.path.insert(0, {str(installed.parent)!r})\nfrom installed_part import NAME{MODEL}",
    )
    second = write(tmp_path / "b" / "model.py", f"NAME = 'b'{MODEL}")
    assert named(f"{first}:Model") == "installed"
    module = sys.modules["installed_part"]
    assert named(f"{second}:Model") == "b"
    assert sys.modules["installed_part"] is module


def test_find_current_imports_once_and_again_after_a_change(tmp_path: Path) -> None:
    registry: Registry[object] = Registry(
        "thing", "--thing", "avsrobust.things", {}, lambda spec, found: found, AdapterError
    )
    write(tmp_path / "current_part.py", "VALUE = 1")
    path = write(tmp_path / "thing.py", "from current_part import VALUE\nTHING = [VALUE]")
    spec = f"{path}:THING"
    first = registry.find_current(spec)
    assert registry.find_current(spec) is first
    assert registry.find(spec) is not first
    write(tmp_path / "current_part.py", "VALUE = 2")
    assert registry.find_current(spec) == [2]
    (tmp_path / "thing.py").unlink()
    with pytest.raises(AdapterError, match=r"thing\.py: not found"):
        registry.find_current(spec)


CHANGES: dict[str, Callable[[Path], object]] = {
    "its file": lambda folder: write(folder / "sha_model.py", f"from sha_part import NAME{MODEL}\n"),
    "a neighbour": lambda folder: write(folder / "sha_part.py", "NAME = 'new'"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("by_name", [True, False])
def test_code_that_has_changed_since_its_import_has_no_checksum(
    change: Callable[[Path], object], by_name: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("sha_model", "sha_part"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    write(tmp_path / "sha_part.py", "NAME = 'old'")
    path = write(tmp_path / "sha_model.py", f"from sha_part import NAME{MODEL}")
    monkeypatch.chdir(tmp_path)
    spec = "sha_model:Model" if by_name else f"{path}:Model"
    adapter = find_adapter(spec)()  # type: ignore[call-arg]
    before = source_sha256(adapter)
    assert before == source_sha256(adapter)
    change(tmp_path)
    with pytest.raises(
        AdapterError, match=r"sha_\w+\.py: has changed since this process imported it.*start Python again"
    ):
        source_sha256(adapter)
    if by_name:
        for name in ("sha_part", "sha_model"):
            (tmp_path / "__pycache__" / f"{name}.{sys.implementation.cache_tag}.pyc").unlink(missing_ok=True)
            importlib.reload(sys.modules[name])
    after = source_sha256(find_adapter(spec)())  # type: ignore[call-arg]
    assert after not in (None, before)
