"""An update's numbers: read together, in order, and never after a checkpoint."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from avsrobust.errors import OptionError
from avsrobust.training import step as step_module
from avsrobust.training.step import Numbers, Pending


class _Gpu:
    """What `Pending` asks of an accelerator, on a device that is no CPU; counts what is read."""

    device = SimpleNamespace(type="cuda")

    def __init__(self) -> None:
        self.reads = 0

    def reduce(self, values: torch.Tensor, reduction: str) -> torch.Tensor:
        assert reduction == "mean"
        self.reads += 1
        return values


def numbers(bce: float, dice: float, norm: float) -> Numbers:
    return Numbers(("dice", "bce"), torch.tensor([dice, bce, norm]), 0.5)


def test_on_a_gpu_steps_are_read_together_and_logged_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step_module, "READ_EVERY", 3)
    accelerator: Any = _Gpu()
    logged: list[tuple[int, dict[str, float]]] = []
    pending = Pending(accelerator, lambda step, values: logged.append((step, values)))
    for step in range(1, 6):
        pending.add(step, numbers(step, 2.0 * step, 0.25))
        assert len(logged) == (3 if step >= 3 else 0)
    pending.read()
    pending.read()
    assert accelerator.reads == 2
    assert [step for step, _ in logged] == [1, 2, 3, 4, 5]
    assert logged[3][1] == {"loss": 12.0, "bce": 4.0, "dice": 8.0, "lr": 0.5, "gradient_norm": 0.25}
    assert list(logged[3][1]) == ["loss", "bce", "dice", "lr", "gradient_norm"]


def test_a_loss_that_is_not_finite_is_told_with_its_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step_module, "READ_EVERY", 100)
    accelerator: Any = _Gpu()
    logged: list[int] = []
    pending = Pending(accelerator, lambda step, _values: logged.append(step))
    for step, loss in ((7, 1.0), (8, float("nan")), (9, 1.0)):
        pending.add(step, numbers(1.0, loss, 1.0))
    with pytest.raises(OptionError, match=r"step 8: loss 'dice' is nan; expected a finite number; lower optimizer.lr"):
        pending.read()
    assert logged == [7]
