"""Yardsticks: three models whose scores are known beforehand, to read the others' scores against.

Conventions
    They look at the answer (`needs_rows`); they say what a protocol gives, not how well anything segments.
    oracle: the target under a positive condition, nothing under a negative one; every strict G score is 1.
    visual_prior: the target always, whatever is heard: the perfectly deaf model, every strict G score is 0.
    empty: never anything: what a protocol's floors give away for free.
    All three answer in probabilities 0 and 1, float32 [B, T, H, W], zeros on frames without a mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from avsrobust.adapters.base import Adapter, RowView
from avsrobust.manifest import POSITIVE


class _Yardstick(Adapter):
    """What the three share: they answer from the rows alone."""

    needs_rows = True

    def segment_rows(self, encoded: Any, audio: Tensor, rows: Sequence[RowView]) -> Tensor:
        """Return the answer to each row, float32 [B, T, H, W]."""
        return torch.stack([self.answer(row) for row in rows]).to(self.device)

    def answer(self, row: RowView) -> Tensor:
        """Return the mask for one row, float32 [T, H, W]."""
        raise NotImplementedError


class Oracle(_Yardstick):
    """Segments what sounds, exactly: the target under positive conditions, nothing under negative ones."""

    def answer(self, row: RowView) -> Tensor:
        """Return the target where the picture's objects do sound, zeros where they do not."""
        target = row.target.to(torch.float32)
        return target if row.polarity == POSITIVE else torch.zeros_like(target)


class VisualPrior(_Yardstick):
    """Segments the objects whatever it hears: perfect eyes, no ears."""

    def answer(self, row: RowView) -> Tensor:
        """Return the target under every condition."""
        return row.target.to(torch.float32)


class Empty(_Yardstick):
    """Never segments anything."""

    def answer(self, row: RowView) -> Tensor:
        """Return zeros."""
        return torch.zeros_like(row.target, dtype=torch.float32)
