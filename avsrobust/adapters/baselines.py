"""Baselines: three models whose scores are known beforehand, to read the others' scores against.

Conventions
    They read the target (`needs_rows`); their scores describe a protocol, not a way to segment.
    oracle: the target under a positive condition, nothing under a negative one; every strict G score is 1.
    visual_prior: the target always, whatever the audio: a perfect visual-only model, every strict G score is 0.
    empty: nothing always: its scores are each protocol's trivial scores.
    All three return probabilities 0 and 1, float32 [B, T, H, W], zeros on frames without a mask; with ``--option
    task=semantic``, on avss alone, class ids, uint8 [B, T, H, W].
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from avsrobust.adapters.base import Adapter, RowView
from avsrobust.adapters.outputs import take_task
from avsrobust.errors import AdapterError
from avsrobust.vocabulary import POSITIVE, SEMANTIC


class _Baseline(Adapter):
    """Base of the three: the output follows from the rows alone."""

    needs_rows = True

    def __init__(self, *, semantic: bool = False) -> None:
        self.semantic = semantic

    @classmethod
    def load(cls, checkpoint: Path | None, device: torch.device, **options: str) -> Self:
        """Make the baseline ready.

        Args:
            checkpoint: Must be None.
            device: Device of the output.
            **options: ``task``: "binary" (the default) or "semantic".

        Raises:
            AdapterError: A checkpoint or another option was given.
        """
        adapter = cls(semantic=take_task(options) == SEMANTIC)
        # Which refuses a checkpoint and whatever other options there are.
        super().load(checkpoint, device, **options)
        adapter.device = device
        return adapter

    def segment_rows(self, encoded: Any, audio: Tensor, rows: Sequence[RowView]) -> Tensor:
        """Return the output for each row, float32 or uint8 [B, T, H, W]."""
        return torch.stack([self._answer(row) for row in rows]).to(self.device)

    def shows(self, row: RowView) -> bool:
        """Return whether the output for a row is its target, and not an empty mask."""
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
    """Segments exactly the sounding objects: the target under positive conditions, nothing under negative ones."""

    def shows(self, row: RowView) -> bool:
        """The target under positive conditions."""
        return row.polarity == POSITIVE


class VisualPrior(_Baseline):
    """Segments the objects whatever the audio: perfect vision, no hearing."""

    def shows(self, row: RowView) -> bool:
        """The target under every condition."""
        return True


class Empty(_Baseline):
    """Never segments anything."""

    def shows(self, row: RowView) -> bool:
        """Never the target."""
        return False
