"""Losses of this family beside those of the masks: they teach what the queries, the gate and the pixels stand for.

Conventions
    N scored frames of a batch, the pictures' own first (N' of them), Q queries, of which the first K have a category.
    `heard` float32 [N, 71] says which categories sound. A frame teaches categories of pixels where exactly one sounds and
    its mask is not empty: only then is it known whose pixels these are. All losses are scalars; 0 where nothing teaches.

    active_queries   the gate against the categories that sound ("active queries" of the paper: those of the classes found
                     in the sound); queries without a category are always active.
    quiet_gate       the gate closes for the forward process carried to its end: log-mels of noise of any level and spread.
    biased           the biased branch against the masks of the frames in which something sounds: a visual prior that marks
                     what could sound, not a mere offset, and that does not learn to listen for silence.
    visual_queries   without any sound, the query of the category in the picture marks its pixels, all others mark nothing.
    pixel_classes    a linear layer, used in training alone, tells the category of a pixel from its mask features.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avsrobust.training.losses import dice_of_frames
from model_adapters.m2f.network import EncodedFrames, M2FNetwork

ACTIVE_QUERIES = "active_queries"
QUIET_GATE = "quiet_gate"
BIASED = "biased"
VISUAL_QUERIES = "visual_queries"
PIXEL_CLASSES = "pixel_classes"
NAMES = (ACTIVE_QUERIES, QUIET_GATE, BIASED, VISUAL_QUERIES, PIXEL_CLASSES)
OF_THE_GATE = (ACTIVE_QUERIES, QUIET_GATE, VISUAL_QUERIES)

# Levels and spreads of the noise, in the log-mel's unit: beyond those of VGGish log-mels of any recording.
_LEVELS, _SPREAD = (-3.0, 3.0), 1.5


@dataclass(frozen=True)
class Teachable:
    """The frames that teach categories of pixels: `frame` int64 [M] of N', `category` int64 [M], `mask` [M, h, w]."""

    frame: Tensor
    category: Tensor
    mask: Tensor


def teachable(heard: Tensor, target: Tensor, size: tuple[int, int]) -> Teachable:
    """Return which of N' frames teach, given `heard` [N', 71] and targets uint8 [N', S, S]; masks at `size`, in 0..1."""
    frame = torch.nonzero((heard.sum(dim=1) == 1) & (target != 0).flatten(1).any(dim=1)).flatten()
    mask = F.interpolate((target[frame] != 0).float().unsqueeze(1), size=size, mode="area").squeeze(1)
    return Teachable(frame, heard[frame].argmax(dim=1), mask)


def active_queries(gate_logits: Tensor, heard: Tensor, assignment: Tensor, categories: int) -> Tensor:
    """Return the loss of gate logits [N, Q]; `assignment` [71, Q] says through which query a category speaks."""
    return F.binary_cross_entropy_with_logits(gate_logits.float(), gate_of_labels(heard, assignment, categories))


def gate_of_labels(heard: Tensor, assignment: Tensor, categories: int) -> Tensor:
    """Return the gate [N, Q] that is right for what sounds: the queries of its categories, and those without one."""
    gate = (heard @ assignment).clamp(max=1)
    gate[:, categories:] = 1
    return gate


def quiet_gate(network: M2FNetwork, audio: Tensor, categories: int, seed: int) -> Tensor:
    """Return the loss of the gate on noise shaped like the log-mels `audio` [N, 1, 96, 64]."""
    generator = torch.Generator().manual_seed(seed)
    level = torch.empty(len(audio), 1, 1, 1).uniform_(*_LEVELS, generator=generator)
    spread = torch.empty(len(audio), 1, 1, 1).uniform_(0, _SPREAD, generator=generator)
    noise = level + spread * torch.randn(audio.shape, generator=generator)
    gate_logits = gate_logits_of(network, network.embed_audio(noise.to(audio.device)))
    wanted = torch.zeros_like(gate_logits)
    wanted[:, categories:] = 1
    return F.binary_cross_entropy_with_logits(gate_logits, wanted)


def visual_queries(network: M2FNetwork, encoded: EncodedFrames, frames: Teachable, assignment: Tensor) -> Tensor:
    """Return the loss of the queries' masks without any prompt, on the pictures of `frames`."""
    categories = int(assignment.any(dim=0).sum())
    wanted = assignment[frames.category][:, :categories] > 0
    known = wanted.any(dim=1)
    if not known.any():
        return encoded.mask_features.sum() * 0
    index = frames.frame[known]
    chosen = EncodedFrames(tuple(level[index] for level in encoded.levels), encoded.mask_features[index])
    masks = network.decode(chosen, None).masks[:, :categories].float()
    right, wrong, target = masks[wanted[known]], masks[~wanted[known]], frames.mask[known]
    found = F.binary_cross_entropy_with_logits(right, target) + dice_of_frames(torch.sigmoid(right), target).mean()
    return found + F.binary_cross_entropy_with_logits(wrong, torch.zeros_like(wrong))


def pixel_classes(head: nn.Module, encoded: EncodedFrames, frames: Teachable) -> Tensor:
    """Return the loss of `head`, which maps mask features [.., H] to logits [.., 71], on the pixels inside the masks."""
    inside = frames.mask > 0.5
    if not inside.any():
        return encoded.mask_features.sum() * 0
    features = encoded.mask_features[frames.frame].permute(0, 2, 3, 1)[inside]
    category = frames.category[torch.nonzero(inside)[:, 0]]
    return F.cross_entropy(head(features).float(), category)


def gate_logits_of(network: M2FNetwork, sound: Tensor) -> Tensor:
    """Return the logits [N, Q] of a learned gate for projected sound [N, H]."""
    if network.query_gate is None:
        raise TypeError("the network has no learned gate")
    return torch.as_tensor(network.query_gate(sound)).float()
