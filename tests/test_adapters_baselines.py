from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from avsrobust.adapters.base import RowView
from avsrobust.adapters.baselines import Empty, Oracle, VisualPrior
from avsrobust.errors import AdapterError


def row(polarity: str) -> RowView:
    target = torch.zeros(5, 4, 6, dtype=torch.bool)
    target[0, 1:3, 2:5] = True
    has_mask = torch.tensor([True, False, False, False, False])
    return RowView("s4", "train", "clip", "clean", polarity, None, 1, target, has_mask)


@pytest.mark.parametrize(
    ("adapter", "under_positive", "under_negative"), [(Oracle, 6, 0), (VisualPrior, 6, 6), (Empty, 0, 0)]
)
def test_baselines_answer_from_target_and_polarity(
    adapter: type[Oracle], under_positive: int, under_negative: int
) -> None:
    baseline = adapter.load(None, torch.device("cpu"))
    rows = [row("positive"), row("negative")]
    frames = torch.zeros(2, 5, 3, 4, 6, dtype=torch.uint8)
    answer = baseline.segment_rows(baseline.encode_frames(frames), torch.zeros(2), rows)
    assert answer.shape == (2, 5, 4, 6)
    assert answer.dtype == torch.float32
    assert answer.sum(dim=(1, 2, 3)).tolist() == [under_positive, under_negative]
    if under_positive:
        assert torch.equal(answer[0] > 0.5, rows[0].target)


@pytest.mark.parametrize(
    ("adapter", "under_positive", "under_negative"), [(Oracle, 21, 0), (VisualPrior, 21, 21), (Empty, 0, 0)]
)
def test_baselines_answer_in_classes_when_asked(
    adapter: type[Oracle], under_positive: int, under_negative: int
) -> None:
    baseline = adapter.load(None, torch.device("cpu"), task="semantic")
    rows = [replace(view, classes=view.target.to(torch.uint8) * 21) for view in (row("positive"), row("negative"))]
    answer = baseline.segment_rows(None, torch.zeros(2), rows)
    assert answer.dtype == torch.uint8
    assert answer.amax(dim=(1, 2, 3)).tolist() == [under_positive, under_negative]


def test_options_of_baselines_are_checked() -> None:
    cpu = torch.device("cpu")
    with pytest.raises(
        AdapterError, match=r"--option task=semantics: expected semantic or binary; did you mean 'semantic'"
    ):
        Oracle.load(None, cpu, task="semantics")
    with pytest.raises(AdapterError, match="--option size: Oracle takes no options"):
        Oracle.load(None, cpu, size="3")
    with pytest.raises(AdapterError, match="--checkpoint x: Empty takes none"):
        Empty.load(Path("x"), cpu)
    with pytest.raises(AdapterError, match="task=semantic: s4 has no classes to answer in"):
        Oracle.load(None, cpu, task="semantic").segment_rows(None, torch.zeros(1), [row("positive")])
