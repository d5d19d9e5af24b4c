"""`torchmetrics.Metric` classes over the scores of this package, for validation loops, distributed or not.

Conventions
    `pred` is float [B, T, H, W], probabilities in [0, 1]; `target` bool [B, T, H, W], the clip's original mask, under negative
    conditions too. `clip` int64 [B] identifies the clip within the data set; `condition` is one name for the batch, or B.
    The state is counts per frame, so scores depend neither on batch size nor on how clips are spread over processes; a clip that
    a distributed sampler hands out twice counts once.
    Needs the extra `torchmetrics`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from avsrobust.errors import MetricInputError, OptionError
from avsrobust.metrics.binary.counts import NUM_THRESHOLDS, FrameStatistics, frame_statistics
from avsrobust.metrics.binary.dataset import dataset_score
from avsrobust.metrics.binary.frames import ScoredFrames
from avsrobust.metrics.binary.protocols import DEFAULT_PROTOCOL, Protocol
from avsrobust.metrics.protocols import find_protocol
from avsrobust.optional_packages import import_obstacle
from avsrobust.vocabulary import CLEAN, NEGATIVE, NEGATIVES, POSITIVE, counted

_INSTALL = "'avsrobust[torchmetrics]'"

try:
    from torchmetrics import Metric
except ImportError as error:
    raise OptionError(f"avsrobust.metrics.torchmetrics: {import_obstacle(error, 'torchmetrics', _INSTALL)}") from error

CONDITIONS = (CLEAN, *NEGATIVES)
_POLARITIES = {name: POSITIVE if name == CLEAN else NEGATIVE for name in CONDITIONS}
_SCALARS = ("pixels", "target_pixels", "tp_050", "fp_050", "tp_040", "fp_040")


class RobustnessScores(Metric):  # type: ignore[misc, unused-ignore]
    """All columns of a report line under one protocol: ``mIoU, F, silence_mIoU, ..., G_mIoU, G_F, G_FPR``.

    Args:
        protocol: A binary protocol, or its name as in `metrics.find_protocol`.
        conditions: Polarity, "positive" or "negative", of each condition beyond `CONDITIONS`. They enter no G score; their
            columns ``<condition>_mIoU``, ``_F`` and ``_FPR`` follow the others.
        **kwargs: Arguments of `torchmetrics.Metric`.

    Raises:
        OptionError: The protocol is unknown or for classes alone, or a polarity is neither of the two.

    >>> metric = RobustnessScores("strict")
    >>> mask = torch.zeros(1, 5, 8, 8, dtype=torch.bool)
    >>> mask[..., :4] = True
    >>> for condition in CONDITIONS:
    ...     shown = condition == "clean"
    ...     metric.update(mask.float() * shown, mask, torch.tensor([0]), condition)
    >>> float(metric.compute()["G_mIoU"])
    1.0
    """

    is_differentiable = False
    higher_is_better: bool | None = None
    full_state_update = False
    frames: list[Tensor]

    def __init__(
        self,
        protocol: str | Protocol = DEFAULT_PROTOCOL,
        conditions: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.protocol = _binary_protocol(protocol)
        self.polarities = {**_POLARITIES, **_checked_polarities(conditions or {})}
        self.add_state("frames", default=[], dist_reduce_fx="cat")

    def update(self, pred: Tensor, target: Tensor, clip: Tensor, condition: str | Sequence[str]) -> None:
        """Add a batch.

        Args:
            pred: Probabilities in [0, 1], float [B, T, H, W].
            target: The clips' original masks, bool [B, T, H, W].
            clip: Number of each clip within the data set, int64 [B].
            condition: The condition of the batch, or of each of its clips.

        Raises:
            MetricInputError: The arguments do not fit together, or a condition has no polarity.
        """
        conditions = [condition] * len(pred) if isinstance(condition, str) else list(condition)
        if pred.ndim != 4 or pred.shape != target.shape:
            raise MetricInputError(
                f"pred and target: found shapes {tuple(pred.shape)} and {tuple(target.shape)}; expected [B, T, H, W] twice"
            )
        if not len(pred) == len(clip) == len(conditions):
            raise MetricInputError(
                f"clip and condition: found {len(clip)} and {len(conditions)} entries for {counted(len(pred), 'clip')}; "
                "expected as many"
            )
        known = list(self.polarities)
        for index, name in enumerate(conditions):
            if name not in known:
                raise MetricInputError(
                    f"condition: found '{name}'; expected one of {', '.join(known)}; name others, with their polarity, in "
                    "conditions="
                )
            counts = _counts(pred[index], target[index])
            steps = torch.arange(len(counts), dtype=torch.int64)
            key = torch.tensor([int(clip[index]), known.index(name)]).expand(len(counts), 2)
            self.frames.append(torch.cat([key, steps[:, None], counts], dim=1).to(self.device))

    def compute(self) -> dict[str, Tensor]:
        """Return all columns of the report line as float64 scalars; an undefined score is NaN.

        A G score is undefined while one of its conditions is missing.

        Raises:
            MetricInputError: `update` has not been called.
        """
        if not len(self.frames):
            raise MetricInputError("compute: found no clips; expected update to have been called")
        table = self.frames if isinstance(self.frames, Tensor) else torch.cat(list(self.frames))
        score = dataset_score(_scored(table.cpu().numpy(), self.polarities), self.protocol)
        columns = score.columns()
        for name in list(self.polarities)[len(CONDITIONS) :]:
            found = score.condition(name)
            values = (None, None, None) if found is None else (found.miou, found.f, found.fpr)
            columns |= {f"{name}_{measure}": value for measure, value in zip(("mIoU", "F", "FPR"), values, strict=True)}
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
    """G-mIoU: harmonic mean of mIoU under clean audio and one minus mIoU-."""

    column = "G_mIoU"
    higher_is_better = True


class GFMeasure(_OneColumn):
    """G-F: harmonic mean of F under clean audio and one minus F-."""

    column = "G_F"
    higher_is_better = True


class GFalsePositiveRate(_OneColumn):
    """G-FPR: mean activated share under the negatives of G."""

    column = "G_FPR"
    higher_is_better = False


def _binary_protocol(protocol: str | Protocol) -> Protocol:
    """The binary protocol, or `OptionError`."""
    if isinstance(protocol, Protocol):
        return protocol
    found = find_protocol(protocol).binary
    if found is None:
        raise OptionError(f"protocol: found '{protocol}', which is for classes alone; expected a binary protocol")
    return found


def _checked_polarities(conditions: Mapping[str, str]) -> Mapping[str, str]:
    """`conditions`, or `OptionError`."""
    for name, polarity in conditions.items():
        if name in _POLARITIES or polarity not in (POSITIVE, NEGATIVE):
            raise OptionError(
                f"conditions: found '{name}': '{polarity}'; expected conditions other than {', '.join(CONDITIONS)}, each with "
                f"'{POSITIVE}' or '{NEGATIVE}'"
            )
    return conditions


def _counts(pred: Tensor, target: Tensor) -> Tensor:
    """Counts of the T frames of one clip, int64 [T, counts]."""
    statistics = frame_statistics(
        pred.detach().to("cpu", torch.float32).numpy(), target.detach().to("cpu", torch.bool).numpy()
    )
    scalars = np.stack([getattr(statistics, name) for name in _SCALARS], axis=1)
    return torch.from_numpy(np.concatenate([scalars, statistics.inside, statistics.outside], axis=1))


def _scored(table: np.ndarray[Any, np.dtype[np.int64]], polarities: Mapping[str, str]) -> ScoredFrames:
    """The frames of a state [N, 3 + counts], each (clip, condition, frame) once."""
    # A distributed sampler may hand out a clip twice.
    _, first = np.unique(table[:, :3], axis=0, return_index=True)
    table = table[first]
    scalars = {name: table[:, 3 + index] for index, name in enumerate(_SCALARS)}
    start = 3 + len(_SCALARS)
    inside, outside = table[:, start : start + NUM_THRESHOLDS], table[:, start + NUM_THRESHOLDS :]
    names = np.array(list(polarities))
    negative = np.array([polarity == NEGATIVE for polarity in polarities.values()])
    return ScoredFrames(
        FrameStatistics(**scalars, inside=inside, outside=outside),
        clip=table[:, 0],
        condition=names[table[:, 1]],
        negative=negative[table[:, 1]],
    )
