"""What training asks of a model: one forward pass on a batch, and how to evaluate and store the result.

Conventions
    B items of T seconds. A batch's N scored frames are those that have a mask, in order (`Batch.scored` flattened); only
    for these the model answers, so that a model without memory need not look at the others.
    Binary models answer in logits [N, h, w], sounding where positive; models of C classes in scores [N, C, h, w] >= 0, of
    which each pixel's largest counts. Any h, w; losses resize bilinearly.
"""

from __future__ import annotations

import importlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol, cast

import torch
from torch import Tensor, nn

from avsrobust.adapters.base import Adapter, AudioInput
from avsrobust.errors import RecipeError, did_you_mean

FAMILIES = {"m2f": "model_adapters.m2f.training:M2FTraining"}


class Batch(NamedTuple):
    """What a model learns from in one go.

    frames: uint8 [P, T, 3, S, S]; item b sees frames[picture[b]], picture int64 [B]. The first P items are the pictures'
    own, in order; further ones ask the same pictures with other sounds, so that a model may encode each picture once.
    audio: [B, T, ...] or [B, samples], as the model asks. target: uint8 [B, T, S, S], 1 (or the class id) where an object
    sounds, all 0 under a negative sound. scored: bool [B, T]. positive: float32 [B], 1 where picture and sound belong
    together. weight: float32 [B], of the item in the mask losses. heard: float32 [B, T, 71], 1 for the categories
    (AVSBench-semantic's ids) of what sounds. seed: of all noise that the model draws for this batch.
    """

    frames: Tensor
    picture: Tensor
    audio: Tensor
    target: Tensor
    scored: Tensor
    positive: Tensor
    weight: Tensor
    heard: Tensor
    seed: int

    def to(self, device: torch.device) -> Batch:
        """Return the batch on another device."""
        tensors = {name: part.to(device) for name, part in self._asdict().items() if name != "seed"}
        return Batch(**tensors, seed=self.seed)

    @property
    def scored_target(self) -> Tensor:
        """The targets of the scored frames, uint8 [N, S, S]."""
        return self.target[self.scored]

    @property
    def scored_picture(self) -> Tensor:
        """Which of the pictures' own scored frames, ``frames[scored[:P]]``, each scored frame is, int64 [N]."""
        own = self.scored[: len(self.frames)]
        number = torch.full(own.shape, -1, dtype=torch.int64, device=own.device)
        number[own] = torch.arange(int(own.sum()), device=own.device)
        return number[self.picture][self.scored]

    def per_scored_frame(self, values: Tensor) -> Tensor:
        """Return the values [B] of the items for each of their scored frames, [N]."""
        return values.unsqueeze(1).expand(self.scored.shape)[self.scored]


class Predictions(NamedTuple):
    """A model's answer on N scored frames.

    logits: see the module's conventions. audio [N, A] and visual [N, V]: the projected sound and the pooled picture, for the
    similarity loss, or None. extra: the model's own losses by name, scalars.
    """

    logits: Tensor
    audio: Tensor | None
    visual: Tensor | None
    extra: dict[str, Tensor]


class Trainable(Protocol):
    """A model that can be trained. `network` is an `nn.Module` that maps a `Batch` to `Predictions`."""

    audio: AudioInput
    image_size: int
    network: nn.Module
    notes: tuple[str, ...]
    # Names of the losses that the model itself may yield.
    extra_losses: ClassVar[tuple[str, ...]]

    @classmethod
    def open(
        cls, options: Mapping[str, Any], start: Path | None, seed: int, where: str, losses: Collection[str]
    ) -> Trainable:
        """Return the model for a recipe's `options`, its weights from `start`, or drawn from `seed`.

        `where` is the recipe, for messages; `losses` names those of `extra_losses` that are wanted. Raises `RecipeError` for
        bad options, `AdapterError` for a bad start.
        """

    @property
    def similarity_widths(self) -> tuple[int, int] | None:
        """Widths of `Predictions.audio` and `.visual`, or None where the model yields neither."""

    def adapter(self, device: torch.device) -> Adapter:
        """Return the model as it will be evaluated, sharing its weights."""

    def export(self, path: Path, info: Mapping[str, str]) -> None:
        """Write a file that ``--checkpoint`` takes, atomically, with `info` as its metadata."""


def find_family(name: str, where: str) -> type[Trainable]:
    """Return the `Trainable` class of a family's name or of MODULE:CLASS. Raises `RecipeError`."""
    spec = FAMILIES.get(name, name)
    module, separator, attribute = spec.partition(":")
    if not separator:
        raise RecipeError(
            f"{where}: key model.family: found '{name}'; expected one of {', '.join(FAMILIES)}, or MODULE:CLASS"
            f"{did_you_mean(name, FAMILIES)}"
        )
    try:
        return cast("type[Trainable]", getattr(importlib.import_module(module), attribute))
    except (ImportError, AttributeError) as error:
        raise RecipeError(
            f"{where}: key model.family: '{name}' cannot be imported ({error}); expected an importable class; "
            "for m2f, run 'pip install \"avsrobust[train]\"'"
        ) from error
