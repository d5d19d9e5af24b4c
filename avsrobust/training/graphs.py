"""Forward and backward pass as a CUDA graph: launched as one, so that a small network does not wait for each of its kernels.

Conventions
    A graph repeats the same kernels on the same memory. Batches are copied to where the first one lay; gradients and losses
    appear where its did. So all batches must have one shape, and nothing in the passes may depend on a number of the batch on
    the host: the model draws its noise beforehand (`Trainable`), and all frames are scored (`Batch.complete`).
    The first passes are run one kernel at a time, on the stream of the graph, so that libraries and caches set themselves up.
    A batch that does not fit is run that way too; so are all where the graph cannot be captured, which is said.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, cast

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from avsrobust.callbacks import MessageCallback
from avsrobust.errors import OptionError
from avsrobust.training.model import Batch, Trainable
from avsrobust.training.recipe import TrainRecipe

# As torch.cuda.make_graphed_callables.
_WARM_UP = 3
_Shapes = tuple[tuple[str, torch.Size, torch.dtype], ...]


class GraphedPass:
    """A forward and backward pass that is captured once and replayed.

    Args:
        run: Adds the gradients of a batch and returns its losses, [L]; the second argument is the batch's share.
        parameters: The parameters that get gradients.
        device: The GPU.
        on_message: Called with a line where the pass cannot be captured.
    """

    def __init__(
        self,
        run: Callable[[Batch, float], Tensor],
        parameters: Sequence[nn.Parameter],
        device: torch.device,
        on_message: MessageCallback,
    ) -> None:
        self._run, self._parameters, self._device, self._on_message = run, parameters, device, on_message
        self._passes, self._possible = 0, True
        self._shapes: _Shapes | None = None
        self._batch: Batch | None = None
        self._replay: Callable[[], None] | None = None
        self._losses: Tensor | None = None
        self._gradients: list[Tensor | None] = []
        self._stream: Any = None

    def __call__(self, batch: Batch, share: float) -> Tensor:
        """Return the losses of a batch, and leave its gradients in the parameters, which have none before.

        Args:
            batch: On the host.
            share: Its share of the step; 1, the whole, is what is captured.
        """
        if not self._possible or share != 1 or not batch.complete or batch.drawn is None:
            return self._run(batch, share)
        shapes = _shapes_of(batch)
        if self._replay is not None:
            return self._replayed(batch) if shapes == self._shapes else self._run(batch, share)
        if self._passes < _WARM_UP or shapes != self._shapes:
            self._passes = self._passes + 1 if shapes == self._shapes else 1
            self._shapes = shapes
            with self._on_stream():
                return self._run(batch, share)
        try:
            self._capture(batch)
        except RuntimeError as error:
            self._possible, self._replay = False, None
            reason = " ".join(str(error).split())
            self._on_message(f"--cuda-graph: the step cannot be captured ({reason}); goes on without")
            for parameter in self._parameters:
                parameter.grad = None
            return self._run(batch, share)
        return self._replayed(batch)

    def _replayed(self, batch: Batch) -> Tensor:
        static = cast("Batch", self._batch).tensors()
        for name, part in batch.tensors().items():
            static[name].copy_(part.pin_memory() if self._device.type == "cuda" else part, non_blocking=True)
        cast("Callable[[], None]", self._replay)()
        for parameter, gradient in zip(self._parameters, self._gradients, strict=True):
            parameter.grad = gradient
        # The next replay overwrites them.
        return cast("Tensor", self._losses).clone()

    def _capture(self, batch: Batch) -> None:
        moved = batch.to(self._device)
        self._batch = moved.with_tensors({name: part.clone() for name, part in moved.tensors().items()})
        self._replay, self._losses = capture(lambda: self._run(cast("Batch", self._batch), 1), self._stream)
        self._gradients = [parameter.grad for parameter in self._parameters]

    def _on_stream(self) -> AbstractContextManager[object]:
        if self._stream is None:
            self._stream = cast("Any", torch.cuda.Stream)(self._device)
        return _Beside(self._stream)


def check_graphed(recipe: TrainRecipe, model: Trainable, accelerator: Accelerator) -> None:
    """Raise `OptionError` where the steps of a run cannot be a CUDA graph."""
    if accelerator.device.type != "cuda":
        raise OptionError(f"--cuda-graph: trains on {accelerator.device}; expected a GPU; leave it out")
    if accelerator.num_processes > 1 or recipe.run.accumulate > 1:
        raise OptionError(
            f"--cuda-graph: {accelerator.num_processes} process(es), run.accumulate {recipe.run.accumulate}; expected one "
            "process and no accumulation; leave it out"
        )
    if not callable(getattr(model, "draw", None)):
        raise OptionError(
            f"--cuda-graph: model family '{recipe.model.family}' draws its noise in the forward pass (no method 'draw'); "
            "leave it out"
        )


def capture(run: Callable[[], Tensor], stream: Any) -> tuple[Callable[[], None], Tensor]:
    """Capture a function's kernels as a CUDA graph.

    Args:
        run: The function, whose inputs lie where they will lie.
        stream: The stream that it was run on before.

    Returns:
        A function that runs the kernels again, and where they write the result.

    Raises:
        RuntimeError: Something in it cannot be captured.
    """
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        found = run()
    return graph.replay, found


class _Beside:
    """A stream that begins after all work so far, and that later work waits for."""

    def __init__(self, stream: Any) -> None:
        self._stream, self._context = stream, cast("Any", torch.cuda.stream(stream))

    def __enter__(self) -> None:
        self._stream.wait_stream(torch.cuda.current_stream())
        self._context.__enter__()

    def __exit__(self, *error: object) -> None:
        self._context.__exit__(*error)
        torch.cuda.current_stream().wait_stream(self._stream)


def _shapes_of(batch: Batch) -> _Shapes:
    return tuple((name, part.shape, part.dtype) for name, part in batch.tensors().items())
