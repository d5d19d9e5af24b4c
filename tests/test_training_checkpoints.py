from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import nn

from avsrobust.errors import OptionError
from avsrobust.files import remove_temporaries
from avsrobust.limits import TEXT_BYTES
from avsrobust.training.checkpoints import (
    Progress,
    checkpoint_folders,
    latest_checkpoint,
    restore,
    save_checkpoint,
)


def trained(seed: int = 0, width: int = 3) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(seed)
    module = nn.Sequential(nn.Linear(width, 4), nn.Linear(4, 1))
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.1)
    step(module, optimizer, width)
    return module, optimizer


def step(module: nn.Module, optimizer: torch.optim.Optimizer, width: int = 3) -> None:
    optimizer.zero_grad()
    module(torch.ones(2, width)).sum().backward()
    optimizer.step()


def test_a_restored_run_goes_on_bit_for_bit(tmp_path: Path) -> None:
    module, optimizer = trained()
    save_checkpoint(tmp_path, Progress(1, 1, 0.5), module, optimizer)
    other, other_optimizer = trained(seed=1)
    found = latest_checkpoint(tmp_path)
    assert found is not None
    assert found.progress == Progress(1, 1, 0.5)
    restore(found, other, other_optimizer)
    for _ in range(3):
        step(module, optimizer)
        step(other, other_optimizer)
    for one, two in zip(module.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two)


def test_the_latest_two_stay(tmp_path: Path) -> None:
    for number in (1, 2, 3, 10):
        save_checkpoint(tmp_path, Progress(number), *trained())
    assert [path.name for path in checkpoint_folders(tmp_path)] == ["step-000003", "step-000010"]


def test_the_same_step_again(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, Progress(4), *trained())
    save_checkpoint(tmp_path, Progress(4, 4, 0.25), *trained())
    found = latest_checkpoint(tmp_path)
    assert found is not None
    assert found.progress.best_score == 0.25


def test_none_yet(tmp_path: Path) -> None:
    assert latest_checkpoint(tmp_path) is None


def test_what_a_killed_process_left_is_no_checkpoint(tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path, Progress(2), *trained())
    half = folder.with_name(".step-000003.1.ab.avsrobust-tmp")
    half.mkdir()
    assert checkpoint_folders(tmp_path) == [folder]
    remove_temporaries(tmp_path)
    assert not half.exists()
    assert folder.exists()


def test_one_that_did_not_arrive_whole_is_passed_over(tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path, Progress(2), *trained())
    later = save_checkpoint(tmp_path, Progress(3), *trained())
    (later / "state.json").unlink()
    found = latest_checkpoint(tmp_path)
    assert found is not None
    assert found.progress.step == 2
    (folder / "state.json").unlink()
    assert latest_checkpoint(tmp_path) is None


def test_a_damaged_one_is_named(tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path, Progress(2), *trained())
    weights = folder / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:20])
    with pytest.raises(OptionError, match=r"step-000002: damaged .* delete this folder"):
        latest_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[" * 100_000, "step-000002: damaged"),
        (b'{"step": 2, "surprise": 1}', "step-000002: damaged"),
        (b"\xff", "step-000002: damaged"),
        (b" " * (TEXT_BYTES.value + 1), r"state\.json: found .* bytes; expected at most"),
    ],
)
def test_a_state_of_anything_else_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    folder = save_checkpoint(tmp_path, Progress(2), *trained())
    (folder / "state.json").write_bytes(content)
    with pytest.raises(OptionError, match=message):
        latest_checkpoint(tmp_path)


def test_a_score_that_is_no_number_is_read(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, Progress(2, 2, math.nan), *trained())
    found = latest_checkpoint(tmp_path)
    assert found is not None
    assert found.progress.best_score is not None
    assert math.isnan(found.progress.best_score)


def test_of_another_network(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, Progress(2), *trained(width=5))
    found = latest_checkpoint(tmp_path)
    assert found is not None
    with pytest.raises(OptionError, match="the checkpoint is of another network"):
        restore(found, *trained())
