from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from avsrobust.errors import RecipeError
from avsrobust.training.losses import Similarity, dice_of_frames, mask_losses, similarity_loss
from avsrobust.training.model import Batch, Predictions
from avsrobust.training.recipe import LossPart

BOTH = LossPart()


def batch(target: torch.Tensor, positive: list[float]) -> Batch:
    items = len(positive)
    return Batch(
        frames=torch.zeros(items, 1, 3, 4, 4, dtype=torch.uint8),
        picture=torch.arange(items),
        audio=torch.zeros(items, 1, 1, 96, 64),
        target=target,
        scored=torch.ones(items, 1, dtype=torch.bool),
        positive=torch.tensor(positive),
        weight=torch.ones(items),
        audio_labels=torch.zeros(items, 1, 71),
        seed=0,
    )


def test_perfect_masks_cost_nothing() -> None:
    target = torch.zeros(2, 4, 4, dtype=torch.uint8)
    target[0, :2] = 1
    losses = mask_losses((target.float() - 0.5) * 100, target, BOTH)
    assert all(loss.item() < 1e-6 for loss in losses.values())


def test_an_empty_target_pushes_masks_down() -> None:
    target = torch.zeros(1, 4, 4, dtype=torch.uint8)
    logits = torch.zeros(1, 4, 4, requires_grad=True)
    total = torch.stack(list(mask_losses(logits, target, BOTH).values())).sum()
    (gradient,) = torch.autograd.grad(total, logits)
    assert (gradient > 0).all()


def test_zero_logits_cost_ln_2() -> None:
    losses = mask_losses(torch.zeros(1, 2, 2), torch.ones(1, 8, 8, dtype=torch.uint8), LossPart(dice=0))
    assert list(losses) == ["bce"]
    assert losses["bce"].item() == pytest.approx(math.log(2))


def test_dice_of_a_half_overlap() -> None:
    target = torch.zeros(1, 2, 2)
    target[0, 0] = 1
    assert dice_of_frames(torch.ones(1, 2, 2), target).item() == pytest.approx(1 - 5 / 7)


def test_classes_perfect_and_wrong() -> None:
    target = torch.zeros(1, 4, 4, dtype=torch.uint8)
    target[0, :2] = 2
    scores = F.one_hot(target.long(), 4).permute(0, 3, 1, 2).float()
    right = mask_losses(scores, target, BOTH)
    wrong = mask_losses(scores.roll(1, dims=1), target, BOTH)
    assert all(loss.item() < 1e-3 for loss in right.values())
    assert all(wrong[name] > right[name] + 0.3 for name in right)


def test_classes_of_an_empty_target() -> None:
    target = torch.zeros(1, 4, 4, dtype=torch.uint8)
    background = torch.zeros(1, 3, 4, 4)
    background[:, 0] = 1
    assert mask_losses(background, target, BOTH)["dice"].item() == pytest.approx(0, abs=1e-4)
    assert mask_losses(background.flip(1), target, BOTH)["dice"].item() > 0.5


def test_similarity_follows_the_pairs_label() -> None:
    head = Similarity(3, 3)
    with torch.no_grad():
        head.projection.weight.copy_(torch.eye(3))
        head.projection.bias.zero_()
    sound = torch.tensor([[1.0, 0, 0], [1.0, 0, 0]])
    target = torch.ones(2, 1, 4, 4, dtype=torch.uint8)
    alike, opposite = Predictions(sound, sound, sound, {}), Predictions(sound, sound, -sound, {})
    belongs, apart = batch(target, [1.0, 1.0]), batch(target * 0, [0.0, 0.0])
    expected = math.log(1 + math.exp(-1))
    assert similarity_loss(head, alike, belongs).item() == pytest.approx(expected)
    assert similarity_loss(head, opposite, apart).item() == pytest.approx(expected)
    assert similarity_loss(head, opposite, belongs).item() == pytest.approx(expected + 1)


def test_silent_seconds_of_positive_pairs_are_not_counted() -> None:
    head = Similarity(2, 2)
    sound, picture = torch.randn(2, 2), torch.randn(2, 2)
    target = torch.ones(2, 1, 4, 4, dtype=torch.uint8)
    target[1] = 0
    both = similarity_loss(head, Predictions(sound, sound, picture, {}), batch(target, [1.0, 1.0]))
    first = similarity_loss(head, Predictions(sound[:1], sound[:1], picture[:1], {}), batch(target[:1], [1.0]))
    assert both.item() == pytest.approx(first.item())


def test_a_model_without_features() -> None:
    with pytest.raises(RecipeError, match=r"loss.similarity: the model yields no projected sound"):
        similarity_loss(
            Similarity(1, 1), Predictions(torch.zeros(1), None, None, {}), batch(torch.zeros(1, 1, 4, 4), [1.0])
        )
