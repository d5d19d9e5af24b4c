"""Baselines: three models whose scores are known beforehand, to read the others' scores against.

Conventions
    They look at the answer (`needs_rows`); they say what a protocol gives, not how well anything segments.
    oracle: the target under a positive condition, nothing under a negative one; every strict G score is 1.
    visual_prior: the target always, whatever is heard: the perfectly deaf model, every strict G score is 0.
    empty: never anything: what a protocol's floors give away for free.
    All three answer in probabilities 0 and 1, float32 [B, T, H, W], zeros on frames without a mask; with ``--option
    task=semantic``, on avss alone, in class ids, uint8 [B, T, H, W].
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from avsrobust.adapters.base import Adapter, RowView
from avsrobust.adapters.tasks import take_task
from avsrobust.errors import AdapterError
from avsrobust.vocabulary import POSITIVE, SEMANTIC


class _Baseline(Adapter):
    """What the three share: they answer from the rows alone."""

    needs_rows = True

    def __init__(self, *, semantic: bool = False) -> None:
        self.semantic = semantic

    @classmethod
    def load(cls, checkpoint: Path | None, device: torch.device, **options: str) -> Self:
        """Make it ready; ``task`` is ``binary`` (the default) or ``semantic``. Raises `AdapterError`."""
        adapter = cls(semantic=take_task(options) == SEMANTIC)
        # Which refuses a checkpoint and whatever other options there are.
        super().load(checkpoint, device, **options)
        adapter.device = device
        return adapter

    def segment_rows(self, encoded: Any, audio: Tensor, rows: Sequence[RowView]) -> Tensor:
        """Return the answer to each row, float32 or uint8 [B, T, H, W]."""
        return torch.stack([self._answer(row) for row in rows]).to(self.device)

    def shows(self, row: RowView) -> bool:
        """Tell whether the answer to a row is its target, or nothing."""
        raise NotImplementedError

    def _answer(self, row: RowView) -> Tensor:
        target = self._class_target(row) if self.semantic else row.target.to(torch.float32)
        return target if self.shows(row) else torch.zeros_like(target)

    def _class_target(self, row: RowView) -> Tensor:
        if row.classes is None:
            raise AdapterError(
                f"--option task=semantic: {row.dataset} has no classes to answer in; leave the option out, or add --dataset avss"
            )
        return row.classes


class Oracle(_Baseline):
    """Segments what sounds, exactly: the target under positive conditions, nothing under negative ones."""

    def shows(self, row: RowView) -> bool:
        """The target where the picture's objects do sound."""
        return row.polarity == POSITIVE


class VisualPrior(_Baseline):
    """Segments the objects whatever it hears: perfect eyes, no ears."""

    def shows(self, row: RowView) -> bool:
        """The target under every condition."""
        return True


class Empty(_Baseline):
    """Never segments anything."""

    def shows(self, row: RowView) -> bool:
        """Nothing, ever."""
        return False
