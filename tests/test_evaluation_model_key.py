from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from avsrobust.errors import AdapterError
from avsrobust.evaluation.model_key import (
    checkpoint_sha256,
    differences,
    evaluation_sha256,
    make_model_key,
    state_of,
    with_states,
)
from avsrobust.folders import ensure_output_dir
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


def key_of_model(build: Manifest, output: Path, **changes: Any) -> dict[str, Any]:
    choices: dict[str, Any] = {
        "adapter": Plain(),
        "name": "plain",
        "checkpoint": None,
        "options": {},
        "device": torch.device("cpu"),
        "output": output,
        **changes,
    }
    adapter = choices.pop("adapter")
    return make_model_key(build, adapter, **choices)


def test_the_same_model_has_the_same_key(tiny_build: Manifest, tmp_path: Path) -> None:
    one, other = key_of_model(tiny_build, tmp_path), key_of_model(tiny_build, tmp_path)
    assert one == other
    assert differences(json.loads(json.dumps(one)), other) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"adapter": Plain(threshold=0.4)}, "setting threshold in memory"),
        ({"adapter": Plain(seed=1)}, "weights in memory"),
        ({"adapter": Module()}, r"adapter class \(Plain there, Module here\)"),
        ({"name": "other"}, r"name \(plain there, other here\)"),
        ({"options": {"size": "3"}}, r"option size \(none there, 3 here\)"),
        ({"checkpoint": Path(__file__)}, r"checkpoint \(none there, \w{12}\.\. here\)"),
    ],
    ids=["setting", "weights", "class", "name", "option", "checkpoint"],
)
def test_what_may_change_the_scores_is_told_apart_and_named(
    tiny_build: Manifest, tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    there, here = key_of_model(tiny_build, tmp_path), key_of_model(tiny_build, tmp_path, **changes)
    assert any(re.match(words, found) for found in differences(there, here)), differences(there, here)


def test_the_device_is_no_part_of_it_but_one_state_is_known_per_kind(tiny_build: Manifest, tmp_path: Path) -> None:
    on_cpu = key_of_model(tiny_build, tmp_path)
    elsewhere = key_of_model(tiny_build, tmp_path, adapter=Plain(threshold=0.4), device=torch.device("meta"))
    assert differences(on_cpu, elsewhere) == []
    assert evaluation_sha256(on_cpu) == evaluation_sha256(elsewhere)
    both = with_states(on_cpu, elsewhere)
    assert differences(both, on_cpu) == differences(both, elsewhere) == []
    assert differences(both, key_of_model(tiny_build, tmp_path, device=torch.device("meta"))) == [
        "setting threshold in memory"
    ]


@pytest.mark.parametrize(
    "there", [None, [], {}, {"states": 3, "options": [], "option_files": "x"}, {"states": {"cpu": 1}}]
)
def test_a_damaged_key_is_another_one(tiny_build: Manifest, tmp_path: Path, there: object) -> None:
    assert differences(there, key_of_model(tiny_build, tmp_path, options={"a": "b"})) != []


@pytest.mark.parametrize("make", [lambda seed: Plain(seed=seed), Module])
def test_weights_in_memory_are_told_apart(make: Callable[[int], object]) -> None:
    assert state_of(make(0)) == state_of(make(0))
    assert state_of(make(0)) != state_of(make(1))


def test_settings_and_buffers_of_modules_count() -> None:
    assert state_of(Module(scale=2.0)) != state_of(Module())
    stepped = Module()
    stepped.steps += 1
    assert state_of(stepped) != state_of(Module())


def test_weights_without_storage_have_a_checksum() -> None:
    with torch.device("meta"):
        assert state_of(Module()) == state_of(Module())


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
        return list(key_of_model(tiny_build, tmp_path / "out", options=options)["option_files"].values())

    before = now()
    assert now() == before
    time.sleep(0.01)
    (masks / "clean" / "0.png").write_bytes(b"2")
    assert now()[1] != before[1]
    script.write_text("x = 2")
    assert now()[0] != before[0]


def test_results_inside_an_options_folder_do_not_count(tiny_build: Manifest, tmp_path: Path) -> None:
    options = {"repo": str(tmp_path)}
    before = key_of_model(tiny_build, tmp_path / "out", options=options)
    for name in ("out", ".git", "__pycache__"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("x")
    ensure_output_dir(tmp_path / "m" / "s4-seed42", "results", 1)
    (tmp_path / "m" / "s4-seed42" / "file").write_text("x")
    assert key_of_model(tiny_build, tmp_path / "out", options=options) == before
