"""The size at which masks are scored, where it is not that of the mask files.

Conventions
    ``--score-size SIZE[:MODE]``: SIZE is a number of pixels, for squares, or "frame", the size of the clip's frames. MODE is
    how the annotated masks get there: "nearest" (pixel centres; the default, and the only one for class ids) or
    "bilinear" (without antialiasing, foreground above one half). Outputs of adapters are resized as always: probabilities and
    logits bilinearly, ids and masks of their own to the nearest (`adapters.resizing`).
    The annotated masks are resized before anything else sees them, so baselines answer at that size too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import overload

import torch
from torch import Tensor

from avsrobust.adapters.resizing import resize_mask
from avsrobust.errors import DataSetError, OptionError, did_you_mean
from avsrobust.evaluation.clip_data import ClipSample, Target

FRAME = "frame"
MODES = ("nearest", "bilinear")
_LARGEST = 4096


@dataclass(frozen=True)
class ScoreSize:
    """Size of scored masks.

    Attributes:
        side: Height and width in pixels; None: those of the clip's frames.
        mode: How annotated masks are resized, one of `MODES`.
    """

    side: int | None
    mode: str = "nearest"

    @classmethod
    def of(cls, value: str | int | ScoreSize) -> ScoreSize:
        """Return the size that a text such as "224", "384:bilinear" or "frame" names.

        Raises:
            OptionError: It names none.

        >>> str(ScoreSize.of("384:bilinear")), str(ScoreSize.of(224))
        ('384:bilinear', '224:nearest')
        """
        if isinstance(value, ScoreSize):
            return value
        size, _, mode = str(value).partition(":")
        mode = mode or "nearest"
        if mode not in MODES:
            raise OptionError(
                f"--score-size {value}: expected {' or '.join(MODES)} behind ':'{did_you_mean(mode, MODES)}"
            )
        if size == FRAME:
            return cls(None, mode)
        if not re.fullmatch(r"[0-9]{1,5}", size) or not 1 <= int(size) <= _LARGEST:
            raise OptionError(
                f"--score-size {value}: expected a number of pixels up to {_LARGEST}, such as 224, or {FRAME}, with "
                f":nearest or :bilinear behind it{did_you_mean(size, [FRAME])}"
            )
        return cls(int(size), mode)

    def __str__(self) -> str:
        return f"{FRAME if self.side is None else self.side}:{self.mode}"

    def resized(self, sample: ClipSample) -> ClipSample:
        """Return a clip with its annotated masks at this size.

        Raises:
            DataSetError: The masks hold class ids, which have no bilinear mean.
        """
        pictures = {target: picture for picture, target in zip(sample.picture_of, sample.target_of, strict=True)}
        targets = []
        for position, target in enumerate(sample.targets):
            height, width = sample.pictures[pictures[position]].shape[-2:]
            size = (height, width) if self.side is None else (self.side, self.side)
            targets.append(self._target(target, size, sample))
        return replace(sample, targets=tuple(targets))

    def _target(self, target: Target, size: tuple[int, int], sample: ClipSample) -> Target:
        if target.classes is not None and self.mode != "nearest":
            row = sample.rows[0]
            raise DataSetError(
                f"{row.split}/{row.clip_id}: its masks hold class ids, which cannot be resized as '{self.mode}'; "
                "expected --score-size SIZE:nearest"
            )
        return Target(
            target=self._mask(target.target, size),
            has_mask=target.has_mask,
            classes=self._mask(target.classes, size),
            annotated=self._mask(target.annotated, size),
            annotated_classes=self._mask(target.annotated_classes, size),
        )

    @overload
    def _mask(self, mask: Tensor, size: tuple[int, int]) -> Tensor: ...

    @overload
    def _mask(self, mask: None, size: tuple[int, int]) -> None: ...

    def _mask(self, mask: Tensor | None, size: tuple[int, int]) -> Tensor | None:
        if mask is None or self.mode == "nearest":
            return None if mask is None else resize_mask(mask, *size)
        stored = mask[:, None].to(torch.float32)
        return torch.nn.functional.interpolate(stored, size=size, mode="bilinear", align_corners=False)[:, 0] > 0.5
