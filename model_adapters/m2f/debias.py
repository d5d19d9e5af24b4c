"""Debiasing: what to hold against the clean branch, so that what the picture alone suggests cancels out.

Conventions
    Projected sound [N, H], gates [N, Q], prompts [N, Q, H]. The result is 2 * clean - biased (readout.contrast).
    The biased branch hears the sound through the forward process of a diffusion model, x_t = sqrt(a_t) x + sqrt(1 - a_t) eps
    (Ho et al. 2020, equation 4), over 100 steps with betas linear from 0.0001 to 0.02; t is uniform in training and the
    last step, 99, in evaluation (bias_in_AVS, demo_avs_m2f_test.py `DDPM`, train.py). Or it has all queries switched on, or
    it is a frozen network that never hears anything.
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
    """One way of asking the decoder: what is added to the queries [N, Q, H], and which of them count [N, Q]."""

    prompt: Tensor
    gate: Tensor


class Contrast(Protocol):
    """A biased view to hold against the clean one."""

    def branch(self, audio: Tensor, gate: Tensor) -> Branch | None:
        """Return the biased branch for projected sound and its gate, or None where the decoder need not be asked."""

    def finish(self, logits: Tensor) -> Tensor:
        """Return the final logits, given those read out of the branches."""


@dataclass(frozen=True)
class NoisyAudio:
    """The biased branch hears forward-noised sound.

    `alpha_bar` is a number or [N], `eps` [N, H]. "reference" repeats a slip of the published code: the noise is put on the
    prompt of query 0 after gating, and all queries get the result, active or not.
    """

    alpha_bar: Tensor
    eps: Tensor
    behaviour: Behaviour = "paper"

    def branch(self, audio: Tensor, gate: Tensor) -> Branch:
        """Return the branch that hears noised sound, with the clean branch's gate."""
        if self.behaviour == "reference":
            noised = forward_noise(gate[:, :1] * audio, self.alpha_bar, self.eps)
            return Branch(noised.unsqueeze(1).expand(-1, gate.shape[1], -1), gate)
        return Branch(prompt_queries(forward_noise(audio, self.alpha_bar, self.eps), gate), gate)

    def finish(self, logits: Tensor) -> Tensor:
        """Return `logits`, which are contrasted already."""
        return logits


@dataclass(frozen=True)
class AllQueries:
    """The biased branch has every query switched on: attention to what could sound, not to what does.

    It hears `sound` [N, H] in place of the clean branch's own, where it is given.
    """

    sound: Tensor | None = None

    def branch(self, audio: Tensor, gate: Tensor) -> Branch:
        """Return the branch in which all queries are active."""
        opened = torch.ones_like(gate)
        return Branch(prompt_queries(audio if self.sound is None else self.sound, opened), opened)

    def finish(self, logits: Tensor) -> Tensor:
        """Return `logits`, which are contrasted already."""
        return logits


@dataclass(frozen=True)
class DeafModel:
    """The biased view is the answer of a frozen network that hears nothing: `logits` as the network's own, once per clip."""

    logits: Tensor

    def branch(self, audio: Tensor, gate: Tensor) -> None:
        """Return None: the deaf network has answered already."""
        return

    def finish(self, logits: Tensor) -> Tensor:
        """Return 2 * logits - those of the deaf network."""
        return readout.contrast(logits, self.logits)


def prompt_queries(audio: Tensor, gate: Tensor) -> Tensor:
    """Return the prompt of every query, [N, Q, H]: the projected sound [N, H] times the query's gate [N, Q]."""
    return gate.unsqueeze(-1) * audio.unsqueeze(1)


def alpha_bars() -> Tensor:
    """Return the share of signal left after each step, float32 [100]: the running product of 1 - beta."""
    return torch.cumprod(1 - torch.linspace(_BETA_FIRST, _BETA_LAST, STEPS), dim=0)


def forward_noise(x: Tensor, alpha_bar: Tensor, eps: Tensor) -> Tensor:
    """Return x_t [N, H] for x [N, H], noise [N, H], and the signal's share, a number or [N]."""
    share = alpha_bar.to(x).reshape(-1, 1)
    return share.sqrt() * x + (1 - share).sqrt() * eps.to(x)


def row_noise(seed: int, num_frames: int, width: int) -> Tensor:
    """Return the noise of one row, standard normal float32 [num_frames, width], from the row's own seed alone."""
    digest = hashlib.sha256(f"avsrobust.m2f.eps:{seed}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big"))
    return torch.randn(num_frames, width, generator=generator)
