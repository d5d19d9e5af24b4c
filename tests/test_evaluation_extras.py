from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from avsrobust.adapters.base import Adapter
from avsrobust.errors import AdapterError
from avsrobust.evaluation import parts
from avsrobust.evaluation.extras import rows_of_extras
from avsrobust.evaluation.runner import evaluate
from avsrobust.files import sha256_of_file
from avsrobust.manifest import Manifest
from avsrobust.results import EXTRAS_NAME, RUN_NAME, read_run


class Model(Adapter):
    """Says how loud the sound is, frame by frame; may be interrupted."""

    def __init__(self, interrupt_after: int = 10**6) -> None:
        self._left = [interrupt_after]
        self._loudness = torch.empty(0)

    def encode_frames(self, frames: Tensor) -> Tensor:
        self._left[0] -= 1
        if self._left[0] < 0:
            raise KeyboardInterrupt
        return frames.float().mean(dim=2) / 255

    def segment(self, encoded: Tensor, audio: Tensor) -> Tensor:
        self._loudness = audio.mean(dim=(2, 3, 4))
        return encoded

    def extras(self) -> dict[str, Tensor]:
        return {"loudness": self._loudness, "half": self._loudness / 2}


def run(build: Manifest, adapter: Any, output: Path, **choices: Any) -> Path:
    evaluate(build, adapter, **{"name": "model", "output": output, "check": False, **choices})
    return output / EXTRAS_NAME


def test_values_are_kept_frame_by_frame_for_every_row(make_build: Callable[..., Manifest], tmp_path: Path) -> None:
    build = make_build(clips=2, levels=(-5.0,), masked=(0,))
    table = pd.read_parquet(run(build, Model(), tmp_path / "out"))
    assert list(table.columns) == ["split", "clip_id", "condition", "level", "frame", "name", "value"]
    assert len(table) == 2 * 5 * 5 * 2
    features = np.load(build.folder / "features.npy")
    for row in build.rows:
        of_row = table[(table["clip_id"] == row.clip_id) & (table["condition"] == row.condition)].sort_values("frame")
        expected = torch.from_numpy(features[row.log_mel_row]).mean(dim=(1, 2, 3))
        assert of_row.loc[of_row["name"] == "loudness", "value"].to_numpy() == pytest.approx(expected.numpy())
        assert of_row.loc[of_row["name"] == "half", "value"].to_numpy() == pytest.approx(expected.numpy() / 2)
        assert of_row["level"].isna().all() == (row.level is None)
    assert read_run(tmp_path / "out" / RUN_NAME).details["extras"] == ["half", "loudness"]


def clips_of_extras(path: Path) -> set[tuple[str, str]]:
    return {key[:2] for key in rows_of_extras(path)}


def test_interruption_and_batch_size_change_no_byte(
    make_build: Callable[..., Manifest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = make_build(clips=5)
    whole = run(build, Model(), tmp_path / "whole", batch_size=2)
    monkeypatch.setattr(parts, "CLIPS_PER_PART", 2)
    with pytest.raises(KeyboardInterrupt):
        run(build, Model(interrupt_after=3), tmp_path / "resumed")
    resumed = run(build, Model(), tmp_path / "resumed")
    assert sha256_of_file(whole) == sha256_of_file(resumed)


def test_results_that_have_lost_their_extras_are_made_again(
    make_build: Callable[..., Manifest], tmp_path: Path
) -> None:
    build = make_build(clips=2)
    path = run(build, Model(), tmp_path / "out")
    path.unlink()
    assert run(build, Model(), tmp_path / "out").exists()
    assert len(clips_of_extras(path)) == 2


def test_more_clips_join_those_there(make_build: Callable[..., Manifest], tmp_path: Path) -> None:
    build = make_build(clips=3)

    class Fails(Model):
        def segment(self, encoded: Tensor, audio: Tensor) -> Tensor:
            self._left[0] -= 1
            if self._left[0] == 10**6 - 9:
                raise AdapterError("once")
            return super().segment(encoded, audio)

    path = run(build, Fails(), tmp_path / "out")
    assert len(clips_of_extras(path)) == 2
    assert len(clips_of_extras(run(build, Fails(), tmp_path / "out"))) == 3


def test_adapters_without_extras_leave_no_file(make_build: Callable[..., Manifest], tmp_path: Path) -> None:
    build = make_build(clips=1)

    class Silent:
        audio = "log_mel"

        def encode_frames(self, frames: Tensor) -> Tensor:
            return frames

        def segment(self, encoded: Tensor, audio: Tensor) -> Tensor:
            return torch.zeros(len(encoded), 5, 4, 4)

    assert run(build, Model(), tmp_path / "out").exists()
    # That of another model would be taken for this one's.
    assert not run(build, Silent(), tmp_path / "out", replace=True).exists()
