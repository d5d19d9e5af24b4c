"""One update of the weights: forward and backward passes over a batch's parts, clipping, AdamW; and its numbers for the log.

Conventions
    A GPU is kept busy where the host runs ahead of it. Nothing here waits for a number: losses and norms of gradients stay on the
    device until some steps' are read together (`Pending.read`). On a CPU they are read after every step.
    Only in reading them is it seen that a loss is not finite; checkpoints and validations read before they look at the weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from avsrobust.callbacks import MessageCallback
from avsrobust.errors import OptionError
from avsrobust.training.graphs import GraphedPass
from avsrobust.training.losses import Similarity, mask_losses, similarity_loss
from avsrobust.training.model import Batch
from avsrobust.training.recipe import LossPart, OptimizerPart

# Steps whose numbers are read together on a GPU.
READ_EVERY = 20


class Losses(nn.Module):
    """The model and the losses around it, as one module: distributed training wraps a forward pass."""

    def __init__(self, network: nn.Module, weights: LossPart, similarity: Similarity | None) -> None:
        super().__init__()
        self.model = network
        self.similarity = similarity
        self._weights = weights
        self.weight_of = {"bce": weights.bce, "dice": weights.dice, "similarity": weights.similarity, **weights.extra}

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return the losses by name, not yet weighted (`weight_of`)."""
        predictions = self.model(batch)
        frame_weight = batch.per_scored_frame(batch.weight)
        named = mask_losses(predictions.logits, batch.scored_target, self._weights, frame_weight)
        named |= {name: predictions.extra[name] for name in self._weights.extra if name in predictions.extra}
        if self.similarity is not None:
            named["similarity"] = similarity_loss(self.similarity, predictions, batch)
        return named


class Update:
    """Updates of a module's weights.

    Args:
        accelerator: The devices.
        module: `Losses`, as the accelerator has prepared it.
        optimizer: AdamW, likewise.
        part: Its settings.
        graphed: Whether forward and backward pass are replayed as a CUDA graph; needs one process and whole batches.
        on_message: Called with a line where that cannot be.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        module: Any,
        optimizer: Any,
        part: OptimizerPart,
        *,
        graphed: bool = False,
        on_message: MessageCallback = lambda _line: None,
    ) -> None:
        self._accelerator, self._module, self._optimizer = accelerator, module, optimizer
        self._clip = part.clip_norm or math.inf
        self._parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
        self._weight_of = accelerator.unwrap_model(module).weight_of
        self._names: list[str] = []
        self._weights: Tensor | None = None
        self._pass: Callable[[Batch, float], Tensor] = self._forward_backward
        if graphed:
            self._pass = GraphedPass(self._forward_backward, self._parameters, accelerator.device, on_message)

    def __call__(self, micro: Sequence[Batch], lr: float) -> Numbers:
        """Update the weights once; return the numbers of the step, which are still on the device.

        Args:
            micro: This process's parts of the batch, on the host.
            lr: The learning rate.
        """
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        self._optimizer.zero_grad()
        parts = []
        for number, batch in enumerate(micro):
            # Dropout and its like draw from torch's own generator.
            torch.manual_seed(batch.seed)
            last = number == len(micro) - 1
            with nullcontext() if last else self._accelerator.no_sync(self._module):
                parts.append(self._pass(batch, 1 / len(micro)))
        losses = parts[0] if len(parts) == 1 else torch.stack(parts).sum(dim=0)
        norm = self._accelerator.clip_grad_norm_(self._parameters, self._clip)
        self._optimizer.step()
        return Numbers(tuple(self._names), torch.cat((losses, torch.as_tensor(norm).detach().float().reshape(1))), lr)

    def _forward_backward(self, batch: Batch, share: float) -> Tensor:
        """Add a part's gradients, weighted with its share of the batch; return its losses, likewise, in `_names`' order."""
        named = self._module(batch.to(self._accelerator.device))
        if self._weights is None:
            self._names = list(named)
            weights = [self._weight_of[name] * share for name in self._names]
            self._weights = torch.tensor(weights, device=self._accelerator.device)
        losses = torch.stack([named[name] for name in self._names]) * self._weights
        self._accelerator.backward(losses.sum())
        return losses.detach().float()


@dataclass(frozen=True)
class Numbers:
    """The numbers of a step: its losses, in the order of `names`, and the norm of the gradients, [L + 1] on the device."""

    names: tuple[str, ...]
    values: Tensor
    lr: float


@dataclass
class Pending:
    """Steps whose numbers have not been read.

    Attributes:
        accelerator: The devices; losses are means over its processes.
        log: Called with the number of a step and its numbers by name.
    """

    accelerator: Accelerator
    log: Callable[[int, dict[str, float]], None]
    _steps: list[tuple[int, Numbers]] = field(default_factory=list)

    def add(self, step: int, numbers: Numbers) -> None:
        """Add a step's numbers; `step` counts from 1. On a CPU, and where there are many, they are read."""
        self._steps.append((step, numbers))
        if self.accelerator.device.type == "cpu" or len(self._steps) >= READ_EVERY:
            self.read()

    def read(self) -> None:
        """Log all steps that were added.

        Raises:
            OptionError: A loss is not finite.
        """
        if not self._steps:
            return
        steps, self._steps = self._steps, []
        values = self.accelerator.reduce(torch.stack([numbers.values for _, numbers in steps]), reduction="mean")
        for (step, numbers), (*losses, norm) in zip(steps, values.tolist(), strict=True):
            named = dict(sorted(zip(numbers.names, losses, strict=True)))
            _require_finite(named, step)
            self.log(step, {"loss": sum(named.values()), **named, "lr": numbers.lr, "gradient_norm": norm})


def _require_finite(losses: dict[str, float], step: int) -> None:
    for name, value in losses.items():
        if not math.isfinite(value):
            raise OptionError(
                f"step {step}: loss '{name}' is {value}; expected a finite number; lower optimizer.lr, or train "
                "in float32; the last checkpoint is in the output folder"
            )
