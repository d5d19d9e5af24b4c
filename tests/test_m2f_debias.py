"""The biased branches and their noise."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model_adapters.m2f.debias import (
    LAST_STEP,
    STEPS,
    AllQueries,
    NoisyAudio,
    alpha_bars,
    forward_noise,
    prompt_queries,
    row_noise,
)


def test_schedule_is_the_product_of_one_minus_beta() -> None:
    bars = alpha_bars()
    assert bars.shape == (STEPS,)
    assert abs(float(bars[0]) - (1 - 1e-4)) < 1e-7
    product = 1.0
    for step in range(STEPS):
        product *= 1 - (1e-4 + (0.02 - 1e-4) * step / (STEPS - 1))
    assert abs(float(bars[LAST_STEP]) - product) < 1e-6


@given(share=st.floats(0, 1), seed=st.integers(0, 100))
@settings(max_examples=25, deadline=None)
def test_forward_noise_keeps_the_variance(share: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x, eps = torch.randn(2, 4000, generator=generator), torch.randn(2, 4000, generator=generator)
    noised = forward_noise(x, torch.tensor(share), eps)
    torch.testing.assert_close(noised, share**0.5 * x + (1 - share) ** 0.5 * eps, atol=1e-5, rtol=1e-5)
    assert abs(float(noised.var()) - 1) < 0.12


def test_forward_noise_takes_a_step_per_frame() -> None:
    x = torch.ones(2, 3)
    noised = forward_noise(x, torch.tensor([1.0, 0.0]), torch.zeros(2, 3))
    assert torch.equal(noised, torch.tensor([[1.0] * 3, [0.0] * 3]))


def test_prompt_is_gated_per_query() -> None:
    prompt = prompt_queries(torch.tensor([[1.0, 2.0]]), torch.tensor([[0.0, 1.0, 0.5]]))
    assert torch.equal(prompt, torch.tensor([[[0.0, 0.0], [1.0, 2.0], [0.5, 1.0]]]))


def test_noised_prompt_goes_to_active_queries_only() -> None:
    audio, eps = torch.randn(2, 4), torch.randn(2, 4)
    gate = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    branch = NoisyAudio(torch.tensor(0.25), eps).branch(audio, gate)
    expected = 0.5 * audio + 0.75**0.5 * eps
    assert torch.equal(branch.gate, gate)
    torch.testing.assert_close(branch.prompt[0], torch.stack((torch.zeros(4), expected[0])))
    torch.testing.assert_close(branch.prompt[1], torch.stack((expected[1], torch.zeros(4))))


def test_reference_noises_the_gated_prompt_of_query_0_for_all() -> None:
    audio, eps = torch.randn(2, 4), torch.randn(2, 4)
    gate = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    branch = NoisyAudio(torch.tensor(0.25), eps, "reference").branch(audio, gate)
    noise = 0.75**0.5 * eps
    expected = torch.stack((noise[0], 0.5 * audio[1] + noise[1]))
    for query in range(2):
        torch.testing.assert_close(branch.prompt[:, query], expected)


def test_all_queries_opens_the_gate() -> None:
    audio, gate = torch.randn(2, 4), torch.zeros(2, 3)
    branch = AllQueries().branch(audio, gate)
    assert torch.equal(branch.gate, torch.ones(2, 3))
    assert torch.equal(branch.prompt, audio.unsqueeze(1).expand(2, 3, 4))


def test_row_noise_depends_on_the_row_alone() -> None:
    torch.manual_seed(0)
    first = row_noise(2**64 - 1, 5, 8)
    torch.manual_seed(1)
    assert torch.equal(row_noise(2**64 - 1, 5, 8), first)
    assert not torch.equal(row_noise(2**64 - 2, 5, 8), first)
    many = row_noise(7, 100, 100)
    assert abs(float(many.mean())) < 0.05
    assert abs(float(many.std()) - 1) < 0.05
