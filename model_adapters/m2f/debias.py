"""Debiasing: a biased branch is subtracted from the clean one, so that the bias of the picture alone cancels out.

Conventions
    Projected audio [N, H], gates [N, Q], prompts [N, Q, H]. The result is 2 * clean - biased (readout.contrast).
    The biased branch takes the audio after the forward process of a diffusion model, x_t = sqrt(a_t) x + sqrt(1 - a_t) eps
    (Ho et al. 2020, equation 4), over 100 steps with betas linear from 0.0001 to 0.02; t is uniform in training and the
    last step, 99, in evaluation (bias_in_AVS, demo_avs_m2f_test.py `DDPM`, train.py). Or it has all queries switched on, or
    it is a frozen network without audio.
    eps comes from a generator seeded per row, on the CPU: an evaluation is the same on any machine and in any order.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from model_adapters.m2f import readout

Behaviour = Literal["paper", "reference"]
STEPS = 100
LAST_STEP = STEPS - 1
_BETA_FIRST, _BETA_LAST = 1e-4, 0.02


class Branch(NamedTuple):
    """One pass of the decoder.

    Attributes:
        prompt: Added to the query features, [N, Q, H].
        gate: Weight of each query's mask, [N, Q] in [0, 1].
    """

    prompt: Tensor
    gate: Tensor


class Contrast(Protocol):
    """A biased branch, and the way of subtracting it."""

    def branch(self, audio: Tensor, gate: Tensor) -> Branch | None:
        """Return the biased branch for projected audio [N, H] and its gate [N, Q], or None where the decoder is not needed."""

    def finish(self, logits: Tensor) -> Tensor:
        """Return the final logits, given those that were read out of the branches."""


@dataclass(frozen=True)
class NoisyAudio:
    """The biased branch takes noised audio.

    Attributes:
        alpha_bar: The signal's share, a number or [N].
        eps: Standard normal noise [N, H].
        behaviour: "reference" repeats a slip of the published code: the noise is put on the prompt of query 0 after gating, and
            all queries get the result, active or not.
    """

    alpha_bar: Tensor
    eps: Tensor
    behaviour: Behaviour = "paper"

    def branch(self, audio: Tensor, gate: Tensor) -> Branch:
        """Return the branch of noised audio, with the clean branch's gate."""
        if self.behaviour == "reference":
            noised = forward_noise(gate[:, :1] * audio, self.alpha_bar, self.eps)
            return Branch(noised.unsqueeze(1).expand(-1, gate.shape[1], -1), gate)
        return Branch(prompt_queries(forward_noise(audio, self.alpha_bar, self.eps), gate), gate)

    def finish(self, logits: Tensor) -> Tensor:
        """Return `logits` unchanged: `readout.read_out` has contrasted the branches."""
        return logits


@dataclass(frozen=True)
class AllQueries:
    """The biased branch has every query switched on: it marks every object that could sound.

    Attributes:
        audio: Projected audio [N, H] of the biased branch; None: that of the clean branch.
    """

    audio: Tensor | None = None

    def branch(self, audio: Tensor, gate: Tensor) -> Branch:
        """Return the branch in which all queries are active."""
        opened = torch.ones_like(gate)
        return Branch(prompt_queries(audio if self.audio is None else self.audio, opened), opened)

    def finish(self, logits: Tensor) -> Tensor:
        """Return `logits` unchanged: `readout.read_out` has contrasted the branches."""
        return logits


@dataclass(frozen=True)
class VisualOnly:
    """The biased logits are those of a frozen network without audio.

    Attributes:
        logits: Logits or class scores of that network, of the same shape as the clean ones; computed once per clip.
    """

    logits: Tensor

    def branch(self, audio: Tensor, gate: Tensor) -> None:
        """Return None: the network without audio has run already."""
        return

    def finish(self, logits: Tensor) -> Tensor:
        """Return 2 * logits - those of the network without audio."""
        return readout.contrast(logits, self.logits)


def prompt_queries(audio: Tensor, gate: Tensor) -> Tensor:
    """Return the prompt of every query, [N, Q, H].

    Args:
        audio: Projected audio [N, H].
        gate: Gate [N, Q], by which each query's prompt is scaled.
    """
    return gate.unsqueeze(-1) * audio.unsqueeze(1)


def alpha_bars() -> Tensor:
    """Return the share of signal left after each step, float32 [100]: the running product of 1 - beta."""
    return torch.cumprod(1 - torch.linspace(_BETA_FIRST, _BETA_LAST, STEPS), dim=0)


def forward_noise(x: Tensor, alpha_bar: Tensor, eps: Tensor) -> Tensor:
    """Return x_t = sqrt(a) x + sqrt(1 - a) eps, [N, H] (Ho et al. 2020, equation 4).

    Args:
        x: Signal [N, H].
        alpha_bar: The signal's share a, a number or [N].
        eps: Standard normal noise [N, H].
    """
    share = alpha_bar.to(x).reshape(-1, 1)
    return share.sqrt() * x + (1 - share).sqrt() * eps.to(x)


def row_noise(seed: int, num_frames: int, width: int) -> Tensor:
    """Return the noise of one row, standard normal, from the row's own seed alone.

    Args:
        seed: The row's seed.
        num_frames: Number of the clip's frames, T.
        width: Width of the projected audio, H.

    Returns:
        float32 [T, H].
    """
    digest = hashlib.sha256(f"avsrobust.m2f.eps:{seed}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big"))
    return torch.randn(num_frames, width, generator=generator)
