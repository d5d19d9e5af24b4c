"""The interface of a model that can be trained: a forward pass on a batch, an adapter to evaluate it, and an export.

Conventions
    A batch has B audio queries of T seconds each. Its N scored frames are those that have a mask, in order (`Batch.scored`
    flattened); a model predicts these alone, so that one without memory need not look at the others.
    Binary models predict logits [N, h, w], foreground where positive; models of C classes scores [N, C, h, w] >= 0, of which
    each pixel's largest counts. Any h, w; losses resize bilinearly.
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

_DRAWN = "drawn."
FAMILIES = {"m2f": "model_adapters.m2f.training:M2FTraining"}


class Batch(NamedTuple):
    """The samples of one forward pass.

    Attributes:
        frames: uint8 [P, T, 3, S, S]. The first P queries are the pictures' own, in order; further ones query the same
            pictures with other audio, so that a model may encode each picture once.
        picture: int64 [B]; query b is about ``frames[picture[b]]``.
        audio: [B, T, ...] or [B, samples], as the model's `AudioInput` says.
        target: uint8 [B, T, S, S], 1 (or the class id) where an object sounds, all 0 under negative audio.
        scored: bool [B, T], whether a frame has a mask.
        positive: float32 [B], 1 where picture and audio belong together.
        weight: float32 [B], of the query in the mask losses.
        audio_labels: float32 [B, T, 71], 1 for the categories (AVSBench-semantic's ids) in the audio of a second.
        seed: Seed of all noise that the model draws for this batch.
        drawn: That noise, where the model has drawn it before its forward pass (`Trainable`), by the model's own names.
        complete: Whether every frame is known to be scored; then nothing needs to be looked up on the device.
    """

    frames: Tensor
    picture: Tensor
    audio: Tensor
    target: Tensor
    scored: Tensor
    positive: Tensor
    weight: Tensor
    audio_labels: Tensor
    seed: int
    drawn: Mapping[str, Tensor] | None = None
    complete: bool = False

    def tensors(self) -> dict[str, Tensor]:
        """Return all tensors by name, those of `drawn` as "drawn.NAME"."""
        own = {name: part for name, part in self._asdict().items() if isinstance(part, Tensor)}
        return own | {f"{_DRAWN}{name}": part for name, part in (self.drawn or {}).items()}

    def with_tensors(self, tensors: Mapping[str, Tensor]) -> Batch:
        """Return the batch with other tensors, named as `tensors` names them."""
        own = {name: part for name, part in tensors.items() if not name.startswith(_DRAWN)}
        drawn = {name.removeprefix(_DRAWN): part for name, part in tensors.items() if name.startswith(_DRAWN)}
        return Batch(**own, seed=self.seed, drawn=None if self.drawn is None else drawn, complete=self.complete)

    def known(self) -> Batch:
        """Return the batch, on the host, with `complete` as its frames are."""
        return self._replace(complete=bool(self.scored.all()))

    def to(self, device: torch.device) -> Batch:
        """Return the batch on another device; to a GPU the copies go on beside what the host does next."""
        moved = {name: _pinned(part, device).to(device, non_blocking=True) for name, part in self.tensors().items()}
        return self.with_tensors(moved)

    def of_scored(self, values: Tensor) -> Tensor:
        """Return values [B', T, ...] of the first B' queries for each of their scored frames, [N', ...]."""
        return values.flatten(0, 1) if self.complete else values[self.scored[: len(values)]]

    @property
    def scored_target(self) -> Tensor:
        """The targets of the scored frames, uint8 [N, S, S]."""
        return self.of_scored(self.target)

    @property
    def scored_picture(self) -> Tensor:
        """Number of each scored frame among the pictures' own scored frames, ``frames[scored[:P]]``, int64 [N]."""
        if self.complete:
            seconds = self.scored.shape[1]
            within = torch.arange(seconds, device=self.picture.device)
            return (self.picture.unsqueeze(1) * seconds + within).flatten()
        own = self.scored[: len(self.frames)]
        number = torch.full(own.shape, -1, dtype=torch.int64, device=own.device)
        number[own] = torch.arange(int(own.sum()), device=own.device)
        return number[self.picture][self.scored]

    def per_scored_frame(self, values: Tensor) -> Tensor:
        """Return values [B] of the queries for each of their scored frames, [N]."""
        return self.of_scored(values.unsqueeze(1).expand(self.scored.shape))


def _pinned(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor of the host in memory from which a GPU copies by itself."""
    return tensor.pin_memory() if device.type == "cuda" and tensor.device.type == "cpu" else tensor


class Predictions(NamedTuple):
    """A model's predictions of N scored frames.

    Attributes:
        logits: Masks; see the module's conventions.
        audio: Projected audio [N, A] for the similarity loss, or None.
        visual: Pooled picture [N, V] for the similarity loss, or None.
        extra: The model's own losses by name, scalars.
    """

    logits: Tensor
    audio: Tensor | None
    visual: Tensor | None
    extra: dict[str, Tensor]


class Trainable(Protocol):
    """A model that can be trained.

    Attributes:
        audio: Form of the audio that `network` takes.
        image_size: Side S of the square frames that it takes.
        network: Maps a `Batch` to `Predictions`.
        reads_pictures: Whether it looks at frames and masks; False: at the audio alone, and whether a mask is empty. A model
            without the attribute looks at them.
        notes: Lines for people on how it was made.
        extra_losses: Names of the losses that the model itself may yield.
    """

    audio: AudioInput
    image_size: int
    network: nn.Module
    notes: tuple[str, ...]
    extra_losses: ClassVar[tuple[str, ...]]

    @classmethod
    def open(
        cls, options: Mapping[str, Any], start: Path | None, seed: int, where: str, losses: Collection[str]
    ) -> Trainable:
        """Return the model that a recipe describes.

        Args:
            options: The recipe's `model.options`.
            start: Origin of the weights; None: drawn from `seed`.
            seed: Seed of whatever is drawn.
            where: The recipe, for messages.
            losses: Those of `extra_losses` that the recipe weighs.

        Raises:
            RecipeError: An option is unknown or has a wrong value.
            AdapterError: The start cannot be read or does not fit.
        """

    # A model may also have a method `compile()`, for ``--compile``, and one `draw(batch) -> Mapping[str, Tensor]`, which draws
    # its noise of a batch on the host: `Batch.drawn`. Without it the forward pass draws, and there is no ``--cuda-graph``.

    @property
    def similarity_widths(self) -> tuple[int, int] | None:
        """Widths A and V of `Predictions.audio` and `.visual`, or None where the model yields neither."""

    def adapter(self, device: torch.device) -> Adapter:
        """Return an adapter that evaluates the model and shares its weights."""

    def export(self, path: Path, info: Mapping[str, str]) -> None:
        """Write a file for ``--checkpoint``, atomically, with `info` as its metadata."""


def find_family(name: str, where: str) -> type[Trainable]:
    """Return the class of a model family.

    Args:
        name: Name of a family in `FAMILIES`, or MODULE:CLASS.
        where: The recipe, for messages.

    Raises:
        RecipeError: The name is unknown, or its module cannot be imported.
    """
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
