"""A step replayed as a graph. Without a GPU: what stands in for the graph runs the captured function on the same memory."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from avsrobust.training import graphs
from avsrobust.training.graphs import GraphedPass
from avsrobust.training.model import Batch

CPU = torch.device("cpu")


def batch(seed: int, items: int = 4, *, complete: bool = True) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    nothing = torch.zeros(items, 1)
    return Batch(
        frames=torch.zeros(items, 1, 3, 1, 1, dtype=torch.uint8),
        picture=torch.arange(items),
        audio=torch.randn(items, 1, 5, generator=generator),
        target=torch.zeros(items, 1, 1, 1, dtype=torch.uint8),
        scored=torch.ones(items, 1, dtype=torch.bool),
        positive=nothing[:, 0],
        weight=nothing[:, 0],
        audio_labels=nothing[..., None],
        seed=seed,
        drawn={"noise": torch.randn(items, 5, generator=generator)},
        complete=complete,
    )


class Step:
    """A small model's forward and backward pass; counts how often it is run rather than replayed."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.layer, self.unused, self.runs = nn.Linear(5, 2), nn.Parameter(torch.zeros(2)), 0

    @property
    def parameters(self) -> list[nn.Parameter]:
        return [*self.layer.parameters(), self.unused]

    def __call__(self, one: Batch, share: float) -> Tensor:
        self.runs += 1
        assert one.drawn is not None
        losses = self.layer(one.audio[:, 0] + one.drawn["noise"]).square().mean(dim=0) * share
        losses.sum().backward()
        return losses.detach()


def take(step: Callable[[Batch, float], Tensor], parameters: list[nn.Parameter], one: Batch, share: float = 1) -> Any:
    for parameter in parameters:
        parameter.grad = None
    losses = step(one, share)
    return losses, [None if parameter.grad is None else parameter.grad.clone() for parameter in parameters]


@pytest.fixture
def replays(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of replays so far; a replay overwrites losses and gradients where they lie, as a graph does."""
    done = [0]

    def capture(run: Callable[[], Tensor], _stream: object) -> tuple[Callable[[], None], Tensor]:
        found = run()
        gradients = [parameter.grad for parameter in current[0].parameters]

        def replay() -> None:
            done[0] += 1
            for parameter in current[0].parameters:
                parameter.grad = None
            found.copy_(run())
            for parameter, gradient in zip(current[0].parameters, gradients, strict=True):
                if gradient is not None and parameter.grad is not None:
                    gradient.copy_(parameter.grad)

        return replay, found

    monkeypatch.setattr(graphs, "capture", capture)
    monkeypatch.setattr(GraphedPass, "_on_stream", lambda _self: nullcontext())
    return done


current: list[Step] = []


@pytest.fixture
def step() -> Step:
    current[:] = [Step()]
    return current[0]


def refuse(line: str) -> None:
    raise AssertionError(line)


def test_replayed_it_returns_the_same_and_earlier_losses_stay(step: Step, replays: list[int]) -> None:
    graphed, plain = GraphedPass(step, step.parameters, CPU, refuse), Step()
    kept = []
    for seed in range(8):
        losses, gradients = take(graphed, step.parameters, batch(seed))
        expected, wanted = take(plain, plain.parameters, batch(seed))
        kept.append((losses, expected))
        assert [value is None for value in gradients] == [value is None for value in wanted] == [False, False, True]
        assert all(torch.equal(one, other) for one, other in zip(gradients[:2], wanted[:2], strict=True))
    assert replays == [5]
    assert all(torch.equal(losses, expected) for losses, expected in kept)


def test_batches_that_do_not_fit_are_run(step: Step, replays: list[int]) -> None:
    graphed, plain = GraphedPass(step, step.parameters, CPU, refuse), Step()
    odd = [(batch(5, items=3), 1.0), (batch(6, complete=False), 1.0), (batch(7), 0.5)]
    for one, share in [*[(batch(seed), 1.0) for seed in range(5)], *odd, (batch(8), 1.0)]:
        losses, gradients = take(graphed, step.parameters, one, share)
        expected, wanted = take(plain, plain.parameters, one, share)
        assert torch.equal(losses, expected)
        assert all(torch.equal(left, right) for left, right in zip(gradients[:2], wanted[:2], strict=True))
    assert replays == [3]


def test_where_it_cannot_be_captured_it_says_so_and_goes_on(step: Step, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_run: object, _stream: object) -> None:
        raise RuntimeError("operation not permitted\nwhen stream is capturing")

    monkeypatch.setattr(graphs, "capture", fail)
    monkeypatch.setattr(GraphedPass, "_on_stream", lambda _self: nullcontext())
    lines: list[str] = []
    graphed, plain = GraphedPass(step, step.parameters, CPU, lines.append), Step()
    for seed in range(6):
        losses, _ = take(graphed, step.parameters, batch(seed))
        assert torch.equal(losses, take(plain, plain.parameters, batch(seed))[0])
    assert lines == [
        "--cuda-graph: the step cannot be captured (operation not permitted when stream is capturing); goes on without"
    ]
