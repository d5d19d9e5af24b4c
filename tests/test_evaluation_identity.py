from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from avsrobust.errors import AdapterError
from avsrobust.evaluation.identity import (
    checkpoint_sha256,
    evaluation_identity,
    source_sha256,
    state_sha256,
)
from avsrobust.manifest import Manifest


class Plain:
    def __init__(self, threshold: float = 0.5, seed: int = 0) -> None:
        torch.manual_seed(seed)
        self.threshold = threshold
        self.network = nn.Linear(3, 2)
        self.table = torch.arange(4)
        self.cache = {"anything": object()}


class Module(nn.Module):
    def __init__(self, seed: int = 0, scale: float = 1.0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.layer = nn.Linear(3, 2).to(torch.bfloat16)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.scale = scale


def identity(build: Manifest, output: Path, **changes: Any) -> dict[str, Any]:
    choices: dict[str, Any] = {
        "adapter": Plain(),
        "rows": build.rows,
        "spec": "plain",
        "checkpoint": None,
        "options": {},
        "device": torch.device("cpu"),
        "save_masks": False,
        "output": output,
        **changes,
    }
    rows, adapter = choices.pop("rows"), choices.pop("adapter")
    return evaluation_identity(build, rows, adapter, **choices)


def test_the_same_evaluation_has_the_same_identity(tiny_build: Manifest, tmp_path: Path) -> None:
    assert identity(tiny_build, tmp_path) == identity(tiny_build, tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {"adapter": Plain(threshold=0.4)},
        {"adapter": Plain(seed=1)},
        {"adapter": Module()},
        {"spec": "other"},
        {"options": {"size": "3"}},
        {"device": torch.device("meta")},
        {"save_masks": True},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_what_may_change_the_scores_changes_the_identity(
    tiny_build: Manifest, tmp_path: Path, changes: dict[str, Any]
) -> None:
    assert identity(tiny_build, tmp_path, **changes) != identity(tiny_build, tmp_path)


def test_other_rows_are_another_evaluation(tiny_build: Manifest, tmp_path: Path) -> None:
    fewer = identity(tiny_build, tmp_path, rows=tiny_build.rows[:-1])
    assert fewer != identity(tiny_build, tmp_path)


@pytest.mark.parametrize("make", [lambda seed: Plain(seed=seed), Module])
def test_weights_in_memory_are_told_apart(make: Callable[[int], object]) -> None:
    assert state_sha256(make(0)) == state_sha256(make(0))
    assert state_sha256(make(0)) != state_sha256(make(1))


def test_settings_and_buffers_of_modules_count() -> None:
    assert state_sha256(Module(scale=2.0)) != state_sha256(Module())
    stepped = Module()
    stepped.steps += 1
    assert state_sha256(stepped) != state_sha256(Module())


def test_weights_without_storage_have_a_checksum() -> None:
    with torch.device("meta"):
        assert state_sha256(Module()) == state_sha256(Module())


def test_the_file_of_the_class_counts(tmp_path: Path) -> None:
    assert source_sha256(Plain()) is not None
    assert source_sha256(type("Made", (), {"__module__": "nowhere"})()) is None


def test_checkpoints_are_files_or_folders(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.bin").write_bytes(b"1")
    before = checkpoint_sha256(tmp_path / "folder")
    (tmp_path / "folder" / "a.bin").write_bytes(b"2")
    assert checkpoint_sha256(tmp_path / "folder") != before
    with pytest.raises(AdapterError, match=r"--checkpoint .*none: cannot be read \(No such file"):
        checkpoint_sha256(tmp_path / "none")


def test_what_options_name_counts(tiny_build: Manifest, tmp_path: Path) -> None:
    masks, script = tmp_path / "masks", tmp_path / "worker.py"
    (masks / "clean").mkdir(parents=True)
    (masks / "clean" / "0.png").write_bytes(b"1")
    script.write_text("x = 1")

    def now() -> list[object]:
        options = {"masks": str(masks), "command": f"python {script} --fast"}
        return list(identity(tiny_build, tmp_path / "out", options=options)["option_files"].values())

    before = now()
    assert now() == before
    time.sleep(0.01)
    (masks / "clean" / "0.png").write_bytes(b"2")
    assert now()[1] != before[1]
    script.write_text("x = 2")
    assert now()[0] != before[0]


def test_results_inside_an_options_folder_do_not_count(tiny_build: Manifest, tmp_path: Path) -> None:
    options = {"repo": str(tmp_path)}
    before = identity(tiny_build, tmp_path / "out", options=options)
    for name in ("out", ".git", "__pycache__"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("x")
    assert identity(tiny_build, tmp_path / "out", options=options) == before
