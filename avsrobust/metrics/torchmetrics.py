"""`torchmetrics.Metric` coats over our scores, for validation loops (Lightning or not), distributed included.

Conventions
    `pred` is float [B, T, H, W], probabilities in [0, 1]; `target` bool [B, T, H, W], the clip's original mask, under negative
    conditions too. `clip` int64 [B] identifies the clip within the data set; `condition` is one name for the batch, or B.
    The state is counts per frame, so scores depend neither on batch size nor on how clips are spread over processes; a clip that
    a distributed sampler hands out twice counts once.
    Needs the extra `torchmetrics`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from avsrobust.errors import MetricInputError, OptionError
from avsrobust.metrics.binary.counts import NUM_THRESHOLDS, FrameStatistics, frame_statistics
from avsrobust.metrics.binary.dataset import dataset_score
from avsrobust.metrics.binary.protocols import DEFAULT_PROTOCOL, get_protocol
from avsrobust.metrics.rows import ScoredFrames
from avsrobust.vocabulary import CLEAN, NEGATIVES

try:
    from torchmetrics import Metric
except ImportError as error:
    raise OptionError(
        "avsrobust.metrics.torchmetrics: found no torchmetrics; install it with pip install 'avsrobust[torchmetrics]'"
    ) from error

CONDITIONS = (CLEAN, *NEGATIVES)
_SCALARS = ("pixels", "target_pixels", "tp_050", "fp_050", "tp_040", "fp_040")


class RobustnessScores(Metric):  # type: ignore[misc, unused-ignore]
    """All columns of a report line under one protocol: ``mIoU, F, silence_mIoU, ..., G_mIoU, G_F, G_FPR``.

    `compute` returns a dict of scalar tensors (float64); undefined scores, for example G scores while a condition is missing, are
    NaN. Raises `OptionError` for an unknown protocol.

    >>> metric = RobustnessScores("strict")
    >>> mask = torch.zeros(1, 5, 8, 8, dtype=torch.bool)
    >>> mask[..., :4] = True
    >>> for condition in CONDITIONS:
    ...     heard = condition == "clean"
    ...     metric.update(mask.float() * heard, mask, torch.tensor([0]), condition)
    >>> float(metric.compute()["G_mIoU"])
    1.0
    """

    is_differentiable = False
    higher_is_better: bool | None = None
    full_state_update = False
    frames: list[Tensor]

    def __init__(self, protocol: str = DEFAULT_PROTOCOL, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.protocol = get_protocol(protocol)
        self.add_state("frames", default=[], dist_reduce_fx="cat")

    def update(self, pred: Tensor, target: Tensor, clip: Tensor, condition: str | Sequence[str]) -> None:
        """Add a batch (see the module's conventions). Raises `MetricInputError`."""
        conditions = [condition] * len(pred) if isinstance(condition, str) else list(condition)
        if pred.ndim != 4 or pred.shape != target.shape:
            raise MetricInputError(
                f"pred and target: found shapes {tuple(pred.shape)} and {tuple(target.shape)}; expected [B, T, H, W] twice"
            )
        if not len(pred) == len(clip) == len(conditions):
            raise MetricInputError(
                f"clip and condition: found {len(clip)} and {len(conditions)} entries for {len(pred)} clips; expected as many"
            )
        for index, name in enumerate(conditions):
            if name not in CONDITIONS:
                raise MetricInputError(f"condition: found '{name}'; expected one of {', '.join(CONDITIONS)}")
            counts = _counts(pred[index], target[index])
            steps = torch.arange(len(counts), dtype=torch.int64)
            key = torch.tensor([int(clip[index]), CONDITIONS.index(name)]).expand(len(counts), 2)
            self.frames.append(torch.cat([key, steps[:, None], counts], dim=1).to(self.device))

    def compute(self) -> dict[str, Tensor]:
        """Return all columns of the report line."""
        if not len(self.frames):
            raise MetricInputError("compute: found no clips; expected update to have been called")
        table = self.frames if isinstance(self.frames, Tensor) else torch.cat(list(self.frames))
        columns = dataset_score(_scored(table.cpu().numpy()), self.protocol).columns()
        return {
            name: torch.tensor(float("nan") if value is None else value, dtype=torch.float64)
            for name, value in columns.items()
        }


class _OneColumn(RobustnessScores):
    column: str

    def compute(self) -> Tensor:  # type: ignore[override]
        """Return the one score, float64 scalar."""
        return super().compute()[self.column]


class GMeanIoU(_OneColumn):
    """G-mIoU: harmonic mean of the mIoU under clean sound and one minus that under negatives."""

    column = "G_mIoU"
    higher_is_better = True


class GFMeasure(_OneColumn):
    """G-F: harmonic mean of the F-measure under clean sound and one minus that under negatives."""

    column = "G_F"
    higher_is_better = True


class GFalsePositiveRate(_OneColumn):
    """G-FPR: mean activated share under negative sounds."""

    column = "G_FPR"
    higher_is_better = False


def _counts(pred: Tensor, target: Tensor) -> Tensor:
    statistics = frame_statistics(
        pred.detach().to("cpu", torch.float32).numpy(), target.detach().to("cpu", torch.bool).numpy()
    )
    scalars = np.stack([getattr(statistics, name) for name in _SCALARS], axis=1)
    return torch.from_numpy(np.concatenate([scalars, statistics.inside, statistics.outside], axis=1))


def _scored(table: np.ndarray[Any, np.dtype[np.int64]]) -> ScoredFrames:
    # One line per (clip, condition, frame), whoever scored it.
    _, first = np.unique(table[:, :3], axis=0, return_index=True)
    table = table[first]
    scalars = {name: table[:, 3 + index] for index, name in enumerate(_SCALARS)}
    start = 3 + len(_SCALARS)
    inside, outside = table[:, start : start + NUM_THRESHOLDS], table[:, start + NUM_THRESHOLDS :]
    condition = np.array(CONDITIONS)[table[:, 1]]
    return ScoredFrames(
        FrameStatistics(**scalars, inside=inside, outside=outside),
        clip=table[:, 0],
        condition=condition,
        negative=condition != CLEAN,
    )
