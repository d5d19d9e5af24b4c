"""Overlaps of negatives with one another: what evaluating stores, and what a report makes of it, against loops over masks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from statistics import fmean

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import Tensor

from avsrobust.adapters.base import Adapter, RowView
from avsrobust.errors import ResultsError
from avsrobust.evaluation.runner import evaluate
from avsrobust.manifest import Manifest
from avsrobust.mask_overlaps import concatenate_overlaps, other_name, overlaps_array, pair_counts, stored_pairs
from avsrobust.reporting.formats import find_format
from avsrobust.reporting.pair_overlaps import pair_overlaps
from avsrobust.reporting.split_results import split_result
from avsrobust.reporting.table_builder import build_table
from avsrobust.results import SCORES_NAME, Scores, read_scores, write_scores

NEGATIVES = ("noise", "offscreen", "silence")


class Model(Adapter):
    """Its mask, as large as the frame, depends on frames and sound; it records its masks."""

    needs_rows = True

    def __init__(self) -> None:
        self.masks: dict[tuple[str, str], np.ndarray] = {}

    def encode_frames(self, frames: Tensor) -> Tensor:
        return frames.float().mean(dim=2) / 255

    def segment_rows(self, encoded: Tensor, audio: Tensor, rows: Sequence[RowView]) -> Tensor:
        loudness = audio.mean(dim=(2, 3, 4))[..., None, None]
        probability = torch.sigmoid(40 * (encoded - 0.5) + 40 * torch.sin(100 * loudness) - 20)
        for row, mask in zip(rows, probability, strict=True):
            self.masks[row.clip_id, row.condition] = mask.numpy() > 0.5
        return probability


def run(build: Manifest, output: Path, model: Model | None = None, **choices: object) -> Scores:
    evaluate(build, model or Model(), name="model", output=output, check=False, **choices)  # type: ignore[arg-type]
    return read_scores(output)


def test_arrays() -> None:
    some = overlaps_array([None, [], [("silence", 3), ("offscreen@-6.0#2", 4)]])
    whole = concatenate_overlaps([(2, None), (3, some)])
    assert pair_counts(whole, 5).tolist() == [-1, -1, -1, 0, 2]
    frame, names, both = stored_pairs(whole)
    assert (frame.tolist(), names.tolist(), both.tolist()) == ([4, 4], ["silence", "offscreen@-6.0#2"], [3, 4])
    assert concatenate_overlaps([(2, None)]) is None
    assert other_name("noise", np.nan) == other_name("noise", -np.inf) == "noise"


def test_overlaps_are_those_of_the_masks(tiny_build: Manifest, tmp_path: Path) -> None:
    model = Model()
    scores = run(tiny_build, tmp_path / "out", model)
    assert scores.overlaps is not None
    result = split_result(scores, "test")
    found = pair_overlaps(result)
    pairs = [("clean", name) for name in NEGATIVES] + list(combinations(NEGATIVES, 2))
    assert {frozenset(key[0] for key in pair) for pair in found} == {frozenset(pair) for pair in pairs}
    for ((first, _), (second, _)), (defined, with_empty) in found.items():
        skipped, counted = [], []
        for clip_id in result.clip_ids:
            masks = [model.masks[clip_id, name] for name in (first, second)]
            both = [int((a & b).sum()) for a, b in zip(*masks, strict=True)]
            either = [int((a | b).sum()) for a, b in zip(*masks, strict=True)]
            if own := [b / e for b, e in zip(both, either, strict=True) if e]:
                skipped.append(fmean(own))
            counted.append(fmean(b / e if e else 1.0 for b, e in zip(both, either, strict=True)))
        assert defined.value == (pytest.approx(fmean(skipped)) if skipped else None)
        assert with_empty.value == pytest.approx(fmean(counted))
    assert len({value.value for value, _ in found.values()}) > 2


@pytest.mark.parametrize("order", [("silence", "offscreen", "noise"), ("offscreen", "noise", "silence")])
def test_a_negative_that_is_added_later_is_compared_with_the_others(
    order: Sequence[str], tiny_build: Manifest, tmp_path: Path
) -> None:
    whole = run(tiny_build, tmp_path / "whole")
    for name in ("clean", *order):
        later = run(tiny_build, tmp_path / "pieces", conditions=[name])
    assert later.overlaps == whole.overlaps
    assert (tmp_path / "pieces" / SCORES_NAME).read_bytes() == (tmp_path / "whole" / SCORES_NAME).read_bytes()


def test_older_results_say_that_they_store_none(tiny_build: Manifest, tmp_path: Path) -> None:
    scores = run(tiny_build, tmp_path / "out")
    write_scores(tmp_path / "old.parquet", replace(scores, overlaps=None))
    old = read_scores(tmp_path / "old.parquet")
    assert old.overlaps is None
    assert len(pair_overlaps(split_result(old, "test"))) == 3
    table = build_table([old], ["strict"], scores=["overlap"])
    (note,) = [note for note in table.notes if "are not stored" in note]
    assert "model on s4/test: overlaps of negatives with one another are not stored in these results" in note
    assert "overlap_noise_offscreen" not in table.columns
    columns = build_table([scores], ["strict"], scores=["overlap"]).columns
    assert {"overlap_silence_noise", "overlap_noise_offscreen", "overlap1_silence_offscreen"} <= set(columns)
    assert not any("are not stored" in note for note in build_table([scores], ["strict"], scores=["overlap"]).notes)


def test_an_overlap_that_no_masks_have_is_refused(tiny_build: Manifest, tmp_path: Path) -> None:
    scores = run(tiny_build, tmp_path / "out")
    wrong = overlaps_array([None if n else [("noise", 10**6)] for n in range(len(scores.index))])
    write_scores(tmp_path / "wrong.parquet", replace(scores, overlaps=wrong))
    with pytest.raises(ResultsError, match="an overlap of negatives that no two masks have"):
        read_scores(tmp_path / "wrong.parquet")


def test_draws_of_one_condition_are_a_pair_of_it_with_itself(make_scores: Callable[..., Scores]) -> None:
    scores = make_scores("visual_prior", conditions=("clean", "silence", "noise"), clips=range(2))
    index = scores.index.assign(condition=scores.index["condition"].replace("noise", "silence"))
    index["draw"] = (scores.index["condition"] == "noise").astype(np.int16)
    areas = (scores.statistics.tp_050 + scores.statistics.fp_050).tolist()
    stored = [
        None if name == "clean" else [("silence", area)] if draw else []
        for name, draw, area in zip(index["condition"], index["draw"], areas, strict=True)
    ]
    drawn = replace(scores, index=index, overlaps=overlaps_array(stored))
    found = pair_overlaps(split_result(drawn, "test"))
    assert found[("silence", None), ("silence", None)][0].value == 1
    assert found[("clean", None), ("silence", None)][0].clips == 2


def test_clips_whose_source_gave_a_train_clip_are_named(toy_builds: Path, tmp_path: Path) -> None:
    from avsrobust.adapters.baselines import Oracle
    from avsrobust.manifest import load_manifest

    build = load_manifest(toy_builds / "robust/ms3-seed42")
    evaluate(build, Oracle(), name="oracle", output=tmp_path / "out", check=False)
    found = read_scores(tmp_path / "out").info.train_sources
    assert found is not None
    counts = {split: entry["shared"] for split, entry in build.info.survey.get("train_overlap", {}).items()}
    assert len(found) == sum(counts.values())


def test_results_with_overlaps_render(tiny_build: Manifest, tmp_path: Path) -> None:
    scores = run(tiny_build, tmp_path / "out")
    table = build_table([scores], ["strict"], scores=["overlap"])
    assert "silence / noise" in str(find_format("md")(table))
    assert isinstance(scores.overlaps, pa.ListArray)
