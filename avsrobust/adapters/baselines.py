"""Baselines: models whose scores are known beforehand, to read the others' scores against.

Conventions
    They read the target (`needs_rows`); their scores describe a protocol, not a way to segment.
    oracle: the target under a positive condition, nothing under a negative one; every strict G score is 1.
    visual_prior: everything annotated, whatever the audio: a perfect visual-only model, every strict G score is 0.
    empty: nothing always: its scores are each protocol's trivial scores.
    presence: everything annotated in each second in which anything is audible: right under silence alone.
    match_gate: everything annotated in the picture whenever the audio belongs to any part of it, nothing otherwise. It decides
    whether audio and picture match as a whole, and never where the audio comes from: every G score is 1, IIoU is 0.
    All return probabilities 0 and 1, float32 [B, T, H, W], zeros on frames without a mask; with ``--option
    task=semantic``, on avss alone, class ids, uint8 [B, T, H, W].
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from avsrobust.adapters.base import Adapter, AudioInput, RowView
from avsrobust.adapters.outputs import take_task
from avsrobust.errors import AdapterError
from avsrobust.vocabulary import POSITIVE, SEMANTIC

_PRESENCE_RATE = 16000
# Half a step of 16-bit samples: resampling of zeros gives none.
_AUDIBLE = 0.5 / 32768


class _Baseline(Adapter):
    """Base of all: the output follows from the rows alone."""

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

    def _answer(self, row: RowView) -> Tensor:
        raise NotImplementedError

    def sounding(self, row: RowView) -> Tensor:
        """Return what sounds according to the annotations, float32 or uint8 [T, H, W]."""
        return self._of_kind(row, row.target, row.classes)

    def everything(self, row: RowView) -> Tensor:
        """Return everything annotated in the picture, whether it sounds or not, float32 or uint8 [T, H, W]."""
        if row.annotated is None:
            return self.sounding(row)
        return self._of_kind(row, row.annotated, row.annotated_classes)

    def _of_kind(self, row: RowView, foreground: Tensor, classes: Tensor | None) -> Tensor:
        if not self.semantic:
            return foreground.to(torch.float32)
        if classes is None:
            raise AdapterError(
                f"--option task=semantic: {row.dataset} has no classes to answer in; leave the option out, or add --dataset avss"
            )
        return classes


class Oracle(_Baseline):
    """Segments exactly the sounding objects: the target under positive conditions, nothing under negative ones."""

    def _answer(self, row: RowView) -> Tensor:
        target = self.sounding(row)
        return target if row.polarity == POSITIVE else torch.zeros_like(target)


class VisualPrior(_Baseline):
    """Segments all annotated objects whatever the audio: a perfect visual-only model."""

    def _answer(self, row: RowView) -> Tensor:
        return self.everything(row)


class Empty(_Baseline):
    """Never segments anything."""

    def _answer(self, row: RowView) -> Tensor:
        return torch.zeros_like(self.sounding(row))


class Presence(_Baseline):
    """Segments all annotated objects in every second in which anything is audible: right under silence alone."""

    audio = AudioInput.waveform(_PRESENCE_RATE)

    def segment_rows(self, encoded: Any, audio: Tensor, rows: Sequence[RowView]) -> Tensor:
        """Return the output for each row, float32 or uint8 [B, T, H, W]; `audio` is float32 [B, T * 16000]."""
        answers = torch.stack([self.everything(row) for row in rows]).to(self.device)
        seconds = audio.to(self.device).reshape(len(rows), answers.shape[1], -1)
        audible = seconds.abs().amax(dim=-1) > _AUDIBLE
        return answers * audible[..., None, None].to(answers.dtype)


class MatchGate(_Baseline):
    """Segments all annotated objects whenever the audio belongs to any part of the picture: it knows whether, but not where."""

    def _answer(self, row: RowView) -> Tensor:
        everything = self.everything(row)
        return everything if row.polarity == POSITIVE else torch.zeros_like(everything)
