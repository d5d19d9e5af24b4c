"""Rows of a clip with other pictures, other targets, made sounds and several draws: read once, scored apart, kept apart."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from avsrobust.adapters.base import Adapter, AudioInput
from avsrobust.adapters.lookup import load_adapter
from avsrobust.audio.io import FULL_SCALE
from avsrobust.audio.made import render_row
from avsrobust.building.build import build
from avsrobust.building.render import Roots
from avsrobust.conditions.recipe import parse_recipe
from avsrobust.datasets.read import read_dataset
from avsrobust.evaluation.clip_data import clips_of, load_clip
from avsrobust.evaluation.robust_dataset import RobustDataset
from avsrobust.evaluation.runner import evaluate
from avsrobust.evaluation.sound import SoundReader
from avsrobust.manifest import Manifest, load_manifest
from avsrobust.metrics import ratios
from avsrobust.results import read_scores
from avsrobust.stored_masks import StoredMasks

CONDITIONS: dict[str, dict[str, Any]] = {
    "clean": {},
    "silence": {},
    "noise": {},
    "offscreen": {"draws": 2, "pool": "dataset"},
    "mixture": {"levels": [0.0]},
    "partial": {},
    "distractor": {"levels": [1.0]},
    "distractor_swapped": {"levels": [1.0]},
}
RECIPE = {"kind": "build", "name": "pictures", "description": "d", "store_audio": False, "conditions": CONDITIONS}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, toy_in: Callable[..., Path]) -> Manifest:
    folder = tmp_path_factory.mktemp("pictures")
    toy_in(folder / "data", s4=24, seed=1)
    data = read_dataset("s4", folder / "data", splits=["test"])
    return load_manifest(build(data, parse_recipe(RECIPE, "test"), 42, folder / "build").manifest)


class Counting(Adapter):
    """Marks a corner whose size follows from the audio; counts its calls."""

    audio = AudioInput.waveform(8000)
    encoded = 0

    @classmethod
    def load(cls, checkpoint: Path | None, device: torch.device, **options: str) -> Counting:
        return cls()

    def encode_frames(self, frames: Tensor) -> Any:
        Counting.encoded += len(frames)
        return frames

    def segment(self, encoded: Any, audio: Tensor) -> Tensor:
        batch, frames, _, height, width = encoded.shape
        loud = audio.abs().mean(dim=1).clamp(0.05, 0.9)
        ramp = torch.linspace(0, 1, height)[None, None, :, None].expand(batch, frames, height, width)
        return (ramp < loud[:, None, None, None]).to(torch.float32) * 0.9


def ious(folder: Path) -> pd.Series:
    scores = read_scores(folder)
    counts = scores.statistics
    value = ratios.iou(counts.tp_050, counts.fp_050, counts.target_pixels, counts.pixels)
    return scores.index.assign(iou=value).groupby("condition")["iou"].mean()


def run(built: Manifest, name: str, output: Path, **choices: Any) -> Path:
    adapter = load_adapter(name, checkpoint=None, device=torch.device("cpu"), options={})
    evaluate(built, adapter, name=name, output=output, **choices)
    return output


def test_every_picture_of_a_clip_is_encoded_once(built: Manifest, tmp_path: Path) -> None:
    clips = clips_of(built.select(["test"]).rows)
    Counting.encoded = 0
    evaluate(built, Counting(), name="counting", output=tmp_path / "a", check=False)
    assert Counting.encoded == sum(len({row.frames for row in clip}) for clip in clips)
    assert Counting.encoded == 2 * len(clips)


def test_batches_change_no_byte(built: Manifest, tmp_path: Path) -> None:
    for size in (1, 3):
        evaluate(built, Counting(), name="counting", output=tmp_path / str(size), batch_size=size, save_masks=True)
    for name in ("scores.parquet", "masks.parquet"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "3" / name).read_bytes()


def test_baselines_take_the_values_they_must(built: Manifest, tmp_path: Path) -> None:
    positive = ["clean", "mixture", "partial", "distractor", "distractor_swapped"]
    oracle = ious(run(built, "oracle", tmp_path / "oracle"))
    assert all(oracle[name] == 1 for name in positive)
    assert all(oracle[name] == 0 for name in ("silence", "noise", "offscreen"))
    presence = ious(run(built, "presence", tmp_path / "presence"))
    assert (presence["silence"], presence["noise"], presence["offscreen"], presence["clean"]) == (0, 1, 1, 1)
    gate = ious(run(built, "match_gate", tmp_path / "gate"))
    prior = ious(run(built, "visual_prior", tmp_path / "prior"))
    assert (gate["silence"], gate["noise"], gate["offscreen"], gate["clean"]) == (0, 0, 0, 1)
    # They mark all tiles, and the objects of silent seconds (2 of 5).
    assert 0.6 < gate["partial"] == prior["partial"] < 1
    assert 0 < gate["distractor"] < 0.7
    assert gate["distractor"] == prior["distractor"]


def test_a_second_evaluation_finds_everything_there(built: Manifest, tmp_path: Path) -> None:
    evaluate(built, Counting(), name="counting", output=tmp_path, conditions=["clean", "offscreen"], save_masks=True)
    more = evaluate(built, Counting(), name="counting", output=tmp_path, save_masks=True)
    assert more.rows_kept > 0
    assert more.rows_added > 0
    again = evaluate(built, Counting(), name="counting", output=tmp_path, save_masks=True)
    assert any("already evaluated" in note for note in again.notes)
    index = read_scores(tmp_path).index
    assert sorted(index.loc[index["condition"] == "offscreen", "draw"].unique()) == [0, 1]
    # What a model answers to another picture says nothing about the same one.
    composed = index["condition"].isin(["clean", "distractor", "distractor_swapped"])
    assert index.loc[composed, "clean_union"].isna().all()
    assert index.loc[~composed, "clean_union"].notna().all()


def test_masks_of_two_draws_are_kept_apart(built: Manifest, tmp_path: Path) -> None:
    evaluate(built, Counting(), name="counting", output=tmp_path, save_masks=True, conditions=["offscreen"])
    row = next(row for row in built.rows if row.condition == "offscreen" and row.split == "test")
    stored = StoredMasks(tmp_path / "masks.parquet")
    first, second = (stored.read(row.split, row.clip_id, "offscreen", None, draw) for draw in (0, 1))
    assert first.keys() == second.keys() == set(range(5))
    assert any((first[frame] != second[frame]).any() for frame in first)
    masks = str(tmp_path / "masks.parquet")
    adapter = load_adapter("predictions", checkpoint=None, device=torch.device("cpu"), options={"masks": masks})
    evaluate(built, adapter, name="stored", output=tmp_path / "again", conditions=["offscreen"])
    one, other = read_scores(tmp_path).statistics, read_scores(tmp_path / "again").statistics
    assert np.array_equal(one.tp_050, other.tp_050)
    assert np.array_equal(one.fp_050, other.fp_050)


def test_made_sounds_are_read_as_their_definition_says(built: Manifest) -> None:
    root = built.data_root()
    roots = Roots(built.folder.absolute(), root)
    for name in ("mixture", "partial", "noise"):
        row = next(row for row in built.rows if row.condition == name)
        assert row.audio.startswith("made:")
        samples = render_row(row, roots.read)[0].samples / FULL_SCALE
        read = SoundReader(built, root, AudioInput.waveform(row.sample_rate)).read(row)
        assert np.array_equal(read.numpy()[: len(samples)], samples.astype(np.float32)[: len(read)])
        assert SoundReader(built, root, AudioInput.log_mel()).read(row).shape == (5, 1, 96, 64)


def test_targets_follow_the_row(built: Manifest) -> None:
    clip = next(iter(clips_of(built.select(["test"]).rows)))
    sample = load_clip(clip, built, built.data_root())
    at = {row.condition: position for position, row in enumerate(clip)}
    own, partial = sample.of_row(at["clean"]), sample.of_row(at["partial"])
    silent = [frame for frame in range(5) if not partial.target[frame].any()]
    assert silent in ([0, 1], [3, 4])
    assert partial.annotated is not None
    assert torch.equal(partial.annotated, own.target)
    one, other = sample.of_row(at["distractor"]), sample.of_row(at["distractor_swapped"])
    assert one.annotated is not None
    assert torch.equal(one.annotated, one.target | other.target)
    assert not (one.target & other.target).any()


def test_a_dataset_of_all_rows_has_their_pictures(built: Manifest) -> None:
    items = RobustDataset(built, split="test", audio=AudioInput.waveform(8000))
    for index, row in enumerate(items.rows):
        if row.condition in ("partial", "distractor"):
            item = items[index]
            assert torch.equal(item["target"], item["mask"])
            assert item["frames"].shape[-2:] == item["mask"].shape[-2:]
