"""The source of an adapter: its own file and what it imports from beside it, wherever that lies."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from avsrobust.adapters.lookup import load_adapter
from avsrobust.evaluation.adapter_source import source_sha256

FILES = {
    "model.py": "from avsrobust.adapters.base import Adapter\nimport torch\nimport network\nfrom parts import blocks\n"
    "class Net(Adapter):\n    pass\n",
    "network.py": "import json\nimport deeper\n",
    "deeper.py": "x = 1\n",
    "parts/__init__.py": "",
    "parts/blocks.py": "from . import heads\nfrom .heads import y\n",
    "parts/heads.py": "y = 1\n",
    "unused.py": "z = 1\n",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, content in FILES.items():
        (tmp_path / "a" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "a" / name).write_text(content)
    return tmp_path / "a"


def sha256(folder: Path, name: str = "model.py") -> str | None:
    adapter = load_adapter(f"{folder / name}:Net", checkpoint=None, device=torch.device("cpu"), options={})
    return source_sha256(adapter)


def test_neither_the_place_nor_the_name_of_the_file_counts(folder: Path) -> None:
    before = sha256(folder)
    assert before is not None
    shutil.copytree(folder, folder.with_name("b"))
    (folder.with_name("b") / "model.py").rename(folder.with_name("b") / "renamed.py")
    assert sha256(folder.with_name("b"), "renamed.py") == before


@pytest.mark.parametrize(
    "name", ["model.py", "network.py", "deeper.py", "parts/__init__.py", "parts/blocks.py", "parts/heads.py"]
)
def test_every_file_that_is_imported_counts(folder: Path, name: str) -> None:
    before = sha256(folder)
    with (folder / name).open("a") as stream:
        stream.write("# another model\n")
    assert sha256(folder) != before


def test_other_files_beside_it_do_not_count(folder: Path) -> None:
    before = sha256(folder)
    (folder / "unused.py").write_text("z = 2\n")
    (folder / "data.bin").write_bytes(b"x")
    assert sha256(folder) == before


def test_files_that_cannot_be_parsed_and_circles_are_no_trouble(folder: Path) -> None:
    (folder / "deeper.py").write_text("import network\ntry:\n    import broken, missing\nexcept Exception:\n    pass\n")
    (folder / "broken.py").write_text("def\n")
    before = sha256(folder)
    (folder / "broken.py").write_text("def x\n")
    assert None is not before != sha256(folder)


def test_a_class_without_a_file_has_none() -> None:
    assert source_sha256(type("Made", (), {"__module__": "nowhere"})()) is None


def test_of_the_bundled_models_their_package_counts_and_of_the_baselines_the_file() -> None:
    oracle = load_adapter("oracle", checkpoint=None, device=torch.device("cpu"), options={})
    empty = load_adapter("empty", checkpoint=None, device=torch.device("cpu"), options={})
    assert source_sha256(oracle) == source_sha256(empty) is not None
