"""The family's own losses, against closed forms and loops."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from model_adapters.m2f.auxiliary import (
    LabelledAudio,
    Mixture,
    Teachable,
    active_queries,
    coloured_noise,
    mix_audio,
    pixel_classes,
    roles,
    visual_queries,
)
from model_adapters.m2f.decoder import EncodedFrames
from model_adapters.m2f.readout import QueryLogits

DOG, CAT, MAN = 5, 7, 9
# Three categories speak through queries 0, 1, 2; query 3 has none.
ASSIGNMENT = torch.zeros(71, 4)
ASSIGNMENT[DOG, 0] = ASSIGNMENT[CAT, 1] = ASSIGNMENT[MAN, 2] = 1
SILENCE = math.log(0.01)


def labels_of(*categories: tuple[int, ...]) -> torch.Tensor:
    labels = torch.zeros(len(categories), 71)
    for row, named in enumerate(categories):
        labels[row, list(named)] = 1
    return labels


def test_of_several_categories_only_the_absent_ones_teach_the_gate() -> None:
    logits = torch.zeros(2, 4, requires_grad=True)
    labelled = LabelledAudio.of(torch.zeros(2, 1, 96, 64), labels_of((DOG,), (DOG, CAT)))
    active_queries(logits, labelled.labels, ASSIGNMENT, 3, labelled.exact).backward()
    assert logits.grad is not None
    assert torch.sign(logits.grad).tolist() == [[-1, 1, 1, -1], [0, 0, 1, -1]]
    logits.grad = None
    exact = torch.tensor([True, True])
    active_queries(logits, labels_of((DOG,), (DOG, CAT)), ASSIGNMENT, 3, exact).backward()
    assert torch.sign(logits.grad).tolist() == [[-1, 1, 1, -1], [-1, -1, 1, -1]]


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_mixed_sounds_are_louder_and_keep_their_categories(seed: int) -> None:
    audio = torch.full((6, 1, 96, 64), SILENCE)
    for row in range(5):
        audio[row, ..., 10 * row : 10 * row + 5] = 2.0
    labels = labels_of((DOG,), (CAT,), (MAN,), (DOG, CAT), (DOG,), ())
    mixed = mix_audio(audio, labels, Mixture.drawn(6, seed))
    again = mix_audio(audio, labels, Mixture.drawn(6, seed))
    assert torch.equal(mixed.audio, again.audio)
    assert torch.equal(mixed.labels, again.labels)
    assert mixed.exact.tolist() == [True, True, True, False, True, True]
    bands = torch.stack([mixed.audio[:, 0, 0, 10 * row] > 0.5 for row in range(5)], dim=1)
    for row in range(6):
        loud = set(bands[row].nonzero().flatten().tolist())
        # Its own band stays, and at most one other comes with the category that belongs to it.
        assert row == 5 or row in loud
        assert len(loud - {row}) <= 1
        expected = labels[row].clone()
        for other in loud - {row}:
            assert other != 3
            expected = torch.maximum(expected, labels[other])
        assert torch.equal(mixed.labels[row], expected)


def test_some_sounds_are_mixed_and_some_are_not() -> None:
    labels = torch.zeros(200, 71)
    labels[torch.arange(200), torch.arange(200) % 70 + 1] = 1
    mixed = mix_audio(torch.full((200, 1, 96, 64), SILENCE), labels, Mixture.drawn(200, 3))
    share = float((mixed.labels.sum(dim=1) == 2).float().mean())
    assert 0.3 < share < 0.7


def test_coloured_noise_goes_beyond_white_noise_in_level_and_colour() -> None:
    noise = coloured_noise((400, 1, 96, 64), torch.Generator().manual_seed(0))
    of_band = noise.mean(dim=(1, 2))
    level = of_band.mean(dim=1)
    slope = of_band[:, 48:].mean(dim=1) - of_band[:, :16].mean(dim=1)
    # White noise at full scale: mean 2.33, bands from 1.2 to 3.3 (vggish_log_mel of uniform noise in [-1, 1)).
    assert float(level.min()) < -2
    assert float(level.max()) > 2.4
    assert float(slope.min()) < -1.5
    assert float(slope.max()) > 1.5
    assert torch.equal(noise, coloured_noise((400, 1, 96, 64), torch.Generator().manual_seed(0)))


def test_visual_queries_is_the_slow_sum() -> None:
    generator = torch.Generator().manual_seed(1)
    masks = 3 * torch.randn(3, 4, 2, 2, generator=generator)
    target = torch.tensor([[[1.0, 0.0], [0.5, 0.0]], [[0.0, 1.0], [0.0, 0.0]]])
    # The second frame teaches nothing, whatever its mask.
    teaches, category = torch.tensor([True, False, True]), torch.tensor([DOG, MAN, CAT])
    frames = Teachable(teaches, category, torch.stack((target[1], torch.ones(2, 2), target[0])))
    found, dice, wrong, weights = [], [], 0.0, 0.0
    for frame, right, mask in ((2, 1, target[0]), (0, 0, target[1])):
        chance = torch.sigmoid(masks[frame, right])
        found.append(F.binary_cross_entropy(chance, mask))
        dice.append(1 - (2 * (chance * mask).sum() + 1) / (chance.sum() + mask.sum() + 1))
        for query in {0, 1, 2} - {right}:
            weight = mask + 0.1 * (1 - mask)
            wrong += float((weight * -torch.log(1 - torch.sigmoid(masks[frame, query]))).sum())
            weights += float(weight.sum())
    expected = float(sum(found) / 2 + sum(dice) / 2) + wrong / weights
    assert float(visual_queries(masks, frames, ASSIGNMENT, 3)) == pytest.approx(expected, rel=1e-5)


def test_visual_queries_of_no_known_category() -> None:
    frames = Teachable(torch.tensor([True]), torch.tensor([30]), torch.ones(1, 2, 2))
    assert float(visual_queries(torch.ones(1, 4, 2, 2), frames, ASSIGNMENT, 3)) == 0


def test_a_batch_that_teaches_no_pixel_reaches_every_weight_all_the_same() -> None:
    head, features = nn.Linear(3, 71), torch.randn(2, 3, 2, 2, requires_grad=True)
    nothing = Teachable(torch.tensor([False, True]), torch.tensor([DOG, CAT]), torch.zeros(2, 2, 2))
    loss = pixel_classes(head, EncodedFrames(features), nothing)
    assert float(loss.detach()) == 0
    gradients = torch.autograd.grad(loss, [*head.parameters(), features])
    assert all(float(gradient.abs().max()) == 0 for gradient in gradients)


def queries_of(classes: torch.Tensor, masks: torch.Tensor) -> QueryLogits:
    """Return queries with these masks [N, Q, h, w]: a feature per pixel, so that an embedding is its mask."""
    pixels = masks.shape[-2] * masks.shape[-1]
    return QueryLogits(classes, masks.flatten(2), torch.eye(pixels).view(1, pixels, *masks.shape[-2:]))


def test_roles_are_right_where_query_0_is_the_background_and_the_others_mark_what_sounds() -> None:
    target = torch.zeros(1, 4, 4, dtype=torch.uint8)
    target[0, :2] = 9
    sounding = torch.tensor([[[1.0, 1.0], [0.0, 0.0]]])
    masks = torch.stack((10 - 20 * sounding, 20 * sounding - 10, torch.full_like(sounding, -20.0)), dim=1)
    classes = torch.zeros(1, 3, 6)
    classes[0, 0, 0] = 20
    assert float(roles(queries_of(classes, masks), target)) == pytest.approx(0, abs=1e-3)
    swapped = masks[:, [1, 0, 2]]
    assert float(roles(queries_of(classes, swapped), target)) > 10
    assert float(roles(queries_of(classes[:, [1, 0, 2]], masks), target)) == pytest.approx(math.log(6), abs=1e-3)
