"""Adapters that look at no picture: none is decoded for them, all are compared with what was built, and no score changes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from avsrobust.adapters.base import Adapter, looks_at_frames
from avsrobust.adapters.baselines import Oracle, VisualPrior
from avsrobust.adapters.lookup import load_adapter
from avsrobust.building.build import build
from avsrobust.conditions.recipe import load_recipe
from avsrobust.datasets import masks
from avsrobust.datasets.read import read_dataset
from avsrobust.evaluation import scorer
from avsrobust.evaluation.runner import EvaluationReport, evaluate
from avsrobust.manifest import load_manifest

CPU = torch.device("cpu")


class Blind(Adapter):
    """Keeps the shapes of the frames that it is given."""

    needs_frames = False

    def __init__(self) -> None:
        self.seen: list[tuple[tuple[int, ...], bool]] = []

    def encode_frames(self, frames: Tensor) -> Any:
        self.seen.append((tuple(frames.shape), bool(frames.any())))
        return frames

    def segment(self, encoded: Any, audio: Any) -> Tensor:
        batch, seconds = encoded.shape[:2]
        return torch.full((batch, seconds, 4, 4), 0.5)


@pytest.fixture
def folder(tmp_path: Path, toy_in: Callable[..., Path]) -> Path:
    toy_in(tmp_path / "data", ms3=8, seed=5)
    build(read_dataset("ms3", tmp_path / "data"), load_recipe("standard"), 42, tmp_path / "build", on_error="skip")
    return tmp_path


def run(folder: Path, adapter: Adapter, name: str, **choices: Any) -> EvaluationReport:
    manifest = load_manifest(folder / "build")
    return evaluate(manifest, adapter, name="model", output=folder / name, splits=("train",), check=False, **choices)


def test_who_looks_at_frames() -> None:
    class Own(VisualPrior):
        """Of somebody else, who may look."""

    found = [looks_at_frames(each) for each in (Oracle(), VisualPrior(), Own(), Blind(), Adapter())]
    assert found == [False, False, True, False, True]


@pytest.mark.parametrize("choices", [{}, {"batch_size": 3}, {"score_size": "frame"}], ids=str)
def test_no_frame_is_decoded_and_no_score_changes(
    folder: Path, monkeypatch: pytest.MonkeyPatch, choices: dict[str, Any]
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(scorer, "looks_at_frames", lambda _adapter: True)
        expected = run(folder, VisualPrior(), "with", **choices)
    monkeypatch.setattr(masks, "read_pixels", lambda *_: pytest.fail("a frame was decoded"))
    found = run(folder, VisualPrior(), "without", **choices)
    assert found.failed == expected.failed == ()
    assert found.scores.read_bytes() == expected.scores.read_bytes()


def test_it_gets_a_black_pixel_for_each_frame(folder: Path) -> None:
    adapter = Blind()
    report = run(folder, adapter, "blind", batch_size=1)
    assert report.failed == ()
    assert adapter.seen
    assert set(adapter.seen) == {((1, 5, 3, 1, 1), False)}


def test_it_gets_eight_clips_at_a_time(folder: Path) -> None:
    adapter = Blind()
    report = run(folder, adapter, "blind")
    assert {seen[0] for seen in adapter.seen} == {(min(8, report.clips), 5, 3, 1, 1)}


def test_stored_predictions_are_read_without_frames(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = run(folder, Oracle(), "oracle", save_masks=True).masks
    monkeypatch.setattr(masks, "read_pixels", lambda *_: pytest.fail("a frame was decoded"))
    adapter = load_adapter("predictions", checkpoint=None, device=CPU, options={"masks": str(stored)})
    assert run(folder, adapter, "stored").failed == ()


def test_a_frame_that_changed_costs_its_clip(folder: Path) -> None:
    row = next(row for row in load_manifest(folder / "build").rows if row.split == "train")
    path = folder / "data" / row.frames[1]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    failed = run(folder, VisualPrior(), "model").failed
    assert [clip.clip_id for clip in failed] == [row.clip_id]
    assert failed[0].error.startswith(f"{path}: found sha256 ")


def test_without_checksums_frames_are_decoded(tiny_build: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = []
    read = masks.read_pixels
    monkeypatch.setattr(masks, "read_pixels", lambda *args: decoded.append(args) or read(*args))
    assert not tiny_build.info.checksums_sha256
    splits = tuple(tiny_build.distinct("split"))
    evaluate(tiny_build, VisualPrior(), name="model", output=tmp_path / "out", splits=splits, check=False)
    assert decoded
