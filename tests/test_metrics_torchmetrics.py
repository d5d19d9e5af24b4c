"""The torchmetrics coats give the numbers of the functions beneath, however the clips are dealt out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed
import torch.multiprocessing

from avsrobust.errors import MetricInputError, OptionError
from avsrobust.metrics import ScoredFrames, concatenate, dataset_score, frame_statistics, get_protocol
from avsrobust.metrics.torchmetrics import CONDITIONS, GFalsePositiveRate, GFMeasure, GMeanIoU, RobustnessScores

CLIPS = 5


def _row(clip: int, condition: str) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(clip * 10 + CONDITIONS.index(condition))
    pred = torch.rand(5, 12, 16, generator=generator)
    target = torch.rand(5, 12, 16, generator=torch.Generator().manual_seed(clip)) > 0.6
    target[0] &= clip != 2
    return pred, target


def _expected(protocol: str) -> dict[str, float]:
    rows = [(clip, condition, *_row(clip, condition)) for clip in range(CLIPS) for condition in CONDITIONS]
    condition = np.repeat([row[1] for row in rows], 5)
    frames = ScoredFrames(
        concatenate([frame_statistics(pred.numpy(), target.numpy()) for _, _, pred, target in rows]),
        np.repeat([row[0] for row in rows], 5),
        condition,
        condition != "clean",
    )
    columns = dataset_score(frames, get_protocol(protocol)).columns()
    return {name: np.nan if value is None else value for name, value in columns.items()}


def _feed(metric: RobustnessScores, clips: list[int], batch_size: int) -> None:
    for condition in CONDITIONS:
        for start in range(0, len(clips), batch_size):
            batch = clips[start : start + batch_size]
            preds, targets = zip(*(_row(clip, condition) for clip in batch), strict=True)
            metric.update(torch.stack(preds), torch.stack(targets), torch.tensor(batch), condition)


@pytest.mark.parametrize("protocol", ["avsbench", "bias_in_avs", "strict", "pooled"])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_scores_are_those_of_the_functions(protocol: str, batch_size: int) -> None:
    metric = RobustnessScores(protocol)
    _feed(metric, list(range(CLIPS)), batch_size)
    scores = {name: float(value) for name, value in metric.compute().items()}
    assert scores == pytest.approx(_expected(protocol), abs=1e-12, nan_ok=True)
    metric.reset()
    with pytest.raises(MetricInputError, match="found no clips"):
        metric.compute()


def test_single_scores_name_their_direction() -> None:
    expected = _expected("avsbench")
    for kind, column, higher in (
        (GMeanIoU, "G_mIoU", True),
        (GFMeasure, "G_F", True),
        (GFalsePositiveRate, "G_FPR", False),
    ):
        metric = kind()
        _feed(metric, [4, 2, 0, 1, 3], 2)
        assert float(metric.compute()) == pytest.approx(expected[column], abs=1e-12)
        assert metric.higher_is_better is higher


def test_a_missing_condition_leaves_g_undefined() -> None:
    metric = GMeanIoU()
    pred, target = _row(0, "clean")
    metric.update(pred[None], target[None], torch.tensor([0]), "clean")
    assert torch.isnan(metric.compute())


def test_wrong_input_is_refused() -> None:
    metric = RobustnessScores()
    pred, target = _row(0, "clean")
    with pytest.raises(MetricInputError, match="expected \\[B, T, H, W\\] twice"):
        metric.update(pred, target, torch.tensor([0]), "clean")
    with pytest.raises(MetricInputError, match="found 2 and 1 entries"):
        metric.update(pred[None], target[None], torch.tensor([0, 1]), "clean")
    with pytest.raises(MetricInputError, match="found 'quiet'"):
        metric.update(pred[None], target[None], torch.tensor([0]), "quiet")
    with pytest.raises(OptionError, match="strcit"):
        RobustnessScores("strcit")


def test_further_conditions_have_columns_and_enter_no_g_score() -> None:
    plain, metric = (
        RobustnessScores("strict"),
        RobustnessScores("strict", {"mixture": "positive", "unseen": "negative"}),
    )
    for each in (plain, metric):
        _feed(each, list(range(CLIPS)), 2)
    pred, target = _row(0, "clean")
    for name in ("mixture", "unseen"):
        metric.update(target[None].float(), target[None], torch.tensor([0]), name)
    scores, expected = metric.compute(), plain.compute()
    assert {name: float(scores[name]) for name in expected} == {name: float(value) for name, value in expected.items()}
    assert list(scores)[len(expected) :] == [
        f"{name}_{measure}" for name in ("mixture", "unseen") for measure in ("mIoU", "F", "FPR")
    ]
    assert float(scores["mixture_mIoU"]) == float(scores["unseen_F"]) == 1.0
    with pytest.raises(MetricInputError, match=r"found 'quiet'; expected one of clean, .*, mixture, unseen"):
        metric.update(pred[None], target[None], torch.tensor([0]), "quiet")
    with pytest.raises(OptionError, match="conditions: found 'mixture': 'good'; expected"):
        RobustnessScores(conditions={"mixture": "good"})
    with pytest.raises(OptionError, match="conditions: found 'noise'"):
        RobustnessScores(conditions={"noise": "positive"})


def test_a_protocol_may_be_an_object_and_must_be_binary() -> None:
    assert RobustnessScores(get_protocol("pooled")).protocol.average == "pixels"
    with pytest.raises(OptionError, match="found 'avsbench_padded', which is for classes alone"):
        RobustnessScores("avsbench_padded")


def _process(rank: int, folder: str) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    metric = RobustnessScores("strict")
    # As a distributed sampler does: 5 clips over 2 processes, clip 0 handed out twice.
    _feed(metric, [[0, 2, 4], [1, 3, 0]][rank], 2)
    torch.save({name: float(value) for name, value in metric.compute().items()}, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_processes_agree_with_one(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(_process, (str(tmp_path),), nprocs=2)
    for rank in range(2):
        scores = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert scores == pytest.approx(_expected("strict"), abs=1e-12, nan_ok=True)
