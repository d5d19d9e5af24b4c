"""From queries to pixels, against slow loops and closed forms."""

from __future__ import annotations

import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model_adapters.m2f.config import M2FConfig, with_readout
from model_adapters.m2f.readout import (
    QueryLogits,
    class_probabilities,
    class_scores,
    contrast,
    foreground_map,
    read_out,
    resize,
)

FOREGROUND = M2FConfig(num_labels=30, readout="foreground", readout_labels=22)
QUERIES = M2FConfig()


def queries_of(classes: torch.Tensor, masks: torch.Tensor) -> QueryLogits:
    """Return queries with these masks [N, Q, h, w]: a feature per pixel, so that an embedding is its mask."""
    pixels = masks.shape[-2] * masks.shape[-1]
    features = torch.eye(pixels).view(pixels, *masks.shape[-2:]).expand(len(masks), -1, -1, -1)
    return QueryLogits(classes, masks.flatten(2), features)


def random_queries(seed: int, labels: int = 30, queries: int = 4) -> QueryLogits:
    generator = torch.Generator().manual_seed(seed)
    classes = 3 * torch.randn(2, queries, labels + 1, generator=generator)
    return queries_of(classes, torch.randn(2, queries, 3, 5, generator=generator))


@given(seed=st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_foreground_map_is_the_slow_sum(seed: int) -> None:
    answer = random_queries(seed)
    gate = torch.rand(2, 4, generator=torch.Generator().manual_seed(seed))
    found = foreground_map(FOREGROUND, answer, gate)
    for n in range(2):
        expected = torch.zeros(3, 5)
        for q in range(4):
            logits = [float(value) for value in answer.classes[n, q]]
            powers = [math.exp(value) for value in [*logits[:22], logits[-1]]]
            chance = sum(powers[1:22]) / sum(powers)
            expected += float(gate[n, q]) * chance * answer.masks[n, q]
        torch.testing.assert_close(found[n], expected, atol=1e-5, rtol=1e-4)


def test_queries_map_is_the_gated_sum() -> None:
    answer = random_queries(1, labels=1)
    gate = torch.tensor([[1.0, 0.0, 0.5, 0.0], [0.0, 0.0, 0.0, 0.0]])
    found = foreground_map(QUERIES, answer, gate)
    torch.testing.assert_close(found[0], answer.masks[0, 0] + 0.5 * answer.masks[0, 2])
    assert torch.equal(found[1], torch.zeros(3, 5))


@given(seed=st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_union_adds_up_the_odds_of_active_queries(seed: int) -> None:
    answer = random_queries(seed, labels=1)
    gate = torch.rand(2, 4, generator=torch.Generator().manual_seed(seed))
    found = foreground_map(M2FConfig(readout="union"), answer, gate)
    odds = (gate[..., None, None] * answer.masks.exp()).sum(dim=1)
    torch.testing.assert_close(found.exp(), odds, rtol=1e-3, atol=1e-4)


def test_union_of_closed_queries_says_no() -> None:
    answer = random_queries(2, labels=1)
    config = M2FConfig(readout="union")
    assert float(foreground_map(config, answer, torch.zeros(2, 4)).max()) < -5
    closed = torch.tensor([[1.0, 0.0, 0.0, 0.0]] * 2)
    torch.testing.assert_close(foreground_map(config, answer, closed), answer.masks[:, 0], atol=1e-3, rtol=1e-3)


def test_class_probabilities_leave_room_for_no_object() -> None:
    probabilities = class_probabilities(torch.zeros(1, 1, 31), 22)
    torch.testing.assert_close(probabilities, torch.full((1, 1, 22), 1 / 23))
    sure = torch.full((1, 1, 31), -50.0)
    sure[..., -1] = 50.0
    assert float(class_probabilities(sure, 22).max()) < 1e-6


def test_published_scores_are_the_sum_over_all_queries() -> None:
    answer = random_queries(3, labels=5)
    expected = torch.einsum("nqc,nqhw->nchw", class_probabilities(answer.classes, 5), answer.masks.sigmoid())
    torch.testing.assert_close(class_scores(answer.classes, answer.masks, None, 5), expected)


def test_inactive_queries_vote_for_the_background_only() -> None:
    answer = random_queries(4, labels=5)
    scores = class_scores(answer.classes, answer.masks, torch.zeros(2, 4), 5)
    assert torch.equal(scores.argmax(1), torch.zeros(2, 3, 5, dtype=torch.long))
    assert float(scores[:, 0].min()) > 0
    torch.testing.assert_close(
        class_scores(answer.classes, answer.masks, torch.ones(2, 4), 5),
        class_scores(answer.classes, answer.masks, None, 5),
    )


def test_contrast_of_equal_branches_changes_nothing() -> None:
    answer, gate = random_queries(5), torch.ones(2, 4)
    alone = read_out(FOREGROUND, [answer], [gate])
    torch.testing.assert_close(read_out(FOREGROUND, [answer, answer], [gate, gate]), alone)
    assert float(contrast(torch.tensor(3.0), torch.tensor(1.0))) == 5.0


def test_semantic_contrast_is_of_logits_not_of_scores() -> None:
    config = with_readout(M2FConfig(num_labels=71), "semantic")
    clean, biased, gate = random_queries(6, labels=71), random_queries(7, labels=71), torch.ones(2, 4)
    merged = queries_of(2 * clean.classes - biased.classes, 2 * clean.masks - biased.masks)
    torch.testing.assert_close(
        read_out(config, [clean, biased], [gate, gate]), class_scores(merged.classes, merged.masks, gate, 71)
    )


def test_resize_of_maps_and_of_stacks_agree() -> None:
    maps = torch.randn(2, 3, 4)
    assert resize(maps, (3, 4)) is maps
    torch.testing.assert_close(resize(maps, (6, 8)), resize(maps.unsqueeze(1), (6, 8)).squeeze(1))


def test_masks_of_another_size() -> None:
    answer, gate = random_queries(8, labels=71), torch.ones(2, 4)
    config = with_readout(M2FConfig(num_labels=71), "semantic")
    found = read_out(config, [answer], [gate], mask_size=(6, 10))
    labels = config.readout_labels
    torch.testing.assert_close(found, class_scores(answer.classes, resize(answer.masks, (6, 10)), gate, labels))
