"""Losses of this family beside those of the masks: they teach what the queries, the gate and the pixels stand for.

Conventions
    N scored frames of a batch, the pictures' own first (N' of them), Q queries, of which the first K have a category.
    `heard` float32 [N, 71] says which categories sound. A frame teaches categories of pixels where exactly one sounds and
    its mask is not empty: only then is it known whose pixels these are. All losses are scalars; 0 where nothing teaches.

    active_queries   the gate against the categories that sound ("active queries" of the paper: those of the classes found
                     in the sound); queries without a category are always active. Where a clip has several, nobody says
                     which of them sound in a given second: that is left to the masks.
    quiet_gate       the gate closes for the forward process carried to its end: log-mels of noise of any level, colour and
                     spread.
    biased           the biased branch against the masks of the frames in which something sounds: a visual prior that marks
                     what could sound, not a mere offset, and that does not learn to listen for silence.
    visual_queries   whatever sounds, the query of the category in the picture marks its pixels, and no other query does.
                     Outside the mask a silent object of the other query's category may stand: that counts less.
    roles            of a network that scores classes: query 0 is the background, the others together mark what sounds. Else all
                     queries begin alike, and then no mask changes any score: a saddle that is left slowly or not at all.
    pixel_classes    a linear layer, used in training alone, tells the category of a pixel from its mask features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avsrobust.training.losses import dice_of_frames
from model_adapters.m2f.network import EncodedFrames, M2FNetwork
from model_adapters.m2f.readout import QueryLogits

ACTIVE_QUERIES = "active_queries"
QUIET_GATE = "quiet_gate"
BIASED = "biased"
VISUAL_QUERIES = "visual_queries"
PIXEL_CLASSES = "pixel_classes"
ROLES = "roles"
NAMES = (ACTIVE_QUERIES, QUIET_GATE, BIASED, VISUAL_QUERIES, PIXEL_CLASSES, ROLES)
OF_SOUNDS = (ACTIVE_QUERIES, QUIET_GATE)
OF_THE_GATE = (ACTIVE_QUERIES, QUIET_GATE, VISUAL_QUERIES)

# Levels, colours (half the difference of the outer bands, and of these from the middle) and spreads of the noise, in the
# log-mel's unit: beyond those of VGGish log-mels of any recording.
_LEVELS, _COLOUR, _SPREAD = (-3.0, 3.0), 1.5, 1.5
_ELSEWHERE = 0.1
# Of sounds that the gate is taught alone: the share that is mixed, and the change of level in nepers.
_MIXED, _GAIN = 0.5, (-1.0, 1.0)


@dataclass(frozen=True)
class Teachable:
    """The frames that teach categories of pixels: `frame` int64 [M] of N', `category` int64 [M], `mask` [M, h, w]."""

    frame: Tensor
    category: Tensor
    mask: Tensor


@dataclass(frozen=True)
class Sounds:
    """Sounds [N, 1, 96, 64], what is heard in them [N, 71], and of which of them that is exact, bool [N]."""

    audio: Tensor
    heard: Tensor
    exact: Tensor

    @classmethod
    def of(cls, audio: Tensor, heard: Tensor) -> Sounds:
        """Return sounds as they are labelled: exact where one category is named at most."""
        return cls(audio, heard, heard.sum(dim=1) <= 1)


def teachable(heard: Tensor, target: Tensor, size: tuple[int, int]) -> Teachable:
    """Return which of N' frames teach, given `heard` [N', 71] and targets uint8 [N', S, S]; masks at `size`, in 0..1."""
    frame = torch.nonzero((heard.sum(dim=1) == 1) & (target != 0).flatten(1).any(dim=1)).flatten()
    mask = F.interpolate((target[frame] != 0).float().unsqueeze(1), size=size, mode="area").squeeze(1)
    return Teachable(frame, heard[frame].argmax(dim=1), mask)


def active_queries(gate_logits: Tensor, heard: Tensor, assignment: Tensor, categories: int, exact: Tensor) -> Tensor:
    """Return the loss of gate logits [N, Q]; `assignment` [71, Q] says through which query a category speaks.

    `exact` bool [N] marks the sounds of which all categories are known to sound (`Sounds`).
    """
    wanted = gate_of_labels(heard, assignment, categories)
    unsure = ~exact.unsqueeze(1) & (wanted > 0)
    unsure[:, categories:] = False
    each = F.binary_cross_entropy_with_logits(gate_logits.float(), wanted, reduction="none")
    return each[~unsure].mean()


def mix_sounds(audio: Tensor, heard: Tensor, seed: int) -> Sounds:
    """Return the sounds [N, 1, 96, 64] at other levels, half of them mixed with another one of them.

    Only sounds of one category at most are mixed, so that it is known what is heard. Log-mels are mixed as if magnitudes
    added up, which is what they do on average up to a constant.
    """
    generator = torch.Generator().manual_seed(seed)
    known = Sounds.of(audio, heard).exact
    other = torch.randperm(len(audio), generator=generator).to(audio.device)
    chosen = (torch.rand(len(audio), generator=generator) < _MIXED).to(audio.device) & known & known[other]
    level = torch.empty(len(audio), 1, 1, 1).uniform_(*_GAIN, generator=generator).to(audio.device)
    first, second = audio + level, audio[other]
    mixed = torch.where(chosen.view(-1, 1, 1, 1), torch.logaddexp(first, second), first)
    return Sounds(mixed, torch.where(chosen.unsqueeze(1), torch.maximum(heard, heard[other]), heard), known)


def gate_of_labels(heard: Tensor, assignment: Tensor, categories: int) -> Tensor:
    """Return the gate [N, Q] that is right for what sounds: the queries of its categories, and those without one."""
    gate = (heard @ assignment).clamp(max=1)
    gate[:, categories:] = 1
    return gate


def quiet_gate(network: M2FNetwork, audio: Tensor, categories: int, seed: int) -> Tensor:
    """Return the loss of the gate on noise shaped like the log-mels `audio` [N, 1, 96, 64]."""
    noise = coloured_noise(audio.shape, torch.Generator().manual_seed(seed))
    gate_logits = gate_logits_of(network, network.embed_audio(noise.to(audio.device)))
    wanted = torch.zeros_like(gate_logits)
    wanted[:, categories:] = 1
    return F.binary_cross_entropy_with_logits(gate_logits, wanted)


def coloured_noise(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Return log-mels of noise, `shape` [N, 1, 96, 64]: each of one level, colour and spread."""

    def uniform(low: float, high: float) -> Tensor:
        return torch.empty(shape[0], 1, 1, 1).uniform_(low, high, generator=generator)

    band = torch.linspace(-1, 1, shape[-1])
    tilt, bow = uniform(-_COLOUR, _COLOUR) * band, uniform(-_COLOUR, _COLOUR) * (band**2 - 0.5)
    level, spread = uniform(*_LEVELS), uniform(0, _SPREAD)
    return level + tilt + bow + spread * torch.randn(tuple(shape), generator=generator)


def visual_queries(masks: Tensor, frames: Teachable, assignment: Tensor) -> Tensor:
    """Return the loss of query masks [N', Q, h, w] on the pictures of `frames`; `assignment` as in `active_queries`."""
    categories = int(assignment.any(dim=0).sum())
    wanted = assignment[frames.category][:, :categories] > 0
    known = wanted.any(dim=1)
    if not known.any():
        return masks.sum() * 0
    chosen, target = masks[frames.frame[known], :categories].float(), frames.mask[known]
    right = chosen[wanted[known]]
    found = F.binary_cross_entropy_with_logits(right, target) + dice_of_frames(torch.sigmoid(right), target).mean()
    others = ~wanted[known]
    wrong = F.softplus(chosen[others])
    weight = (target + _ELSEWHERE * (1 - target)).unsqueeze(1).expand_as(chosen)[others]
    return found + (wrong * weight).sum() / weight.sum()


def roles(queries: QueryLogits, target: Tensor) -> Tensor:
    """Return the loss of what queries [N, Q ..] are there for, given class ids `target` uint8 [N, S, S]."""
    masks, size = queries.masks.float(), (queries.masks.shape[-2], queries.masks.shape[-1])
    sounding = F.interpolate((target != 0).float().unsqueeze(1), size=size, mode="area").squeeze(1)
    background, objects = masks[:, 0], torch.logsumexp(masks[:, 1:], dim=1)
    shapes = F.binary_cross_entropy_with_logits(background, 1 - sounding) + F.binary_cross_entropy_with_logits(
        objects, sounding
    )
    classes = queries.classes[:, 0].float()
    kind = F.cross_entropy(classes, torch.zeros(len(classes), dtype=torch.int64, device=classes.device))
    return shapes + dice_of_frames(torch.sigmoid(objects), sounding).mean() + kind


def pixel_classes(head: nn.Module, encoded: EncodedFrames, frames: Teachable) -> Tensor:
    """Return the loss of `head`, which maps mask features [.., H] to logits [.., 71], on the pixels inside the masks."""
    inside = frames.mask > 0.5
    if not inside.any():
        # Distributed training waits for gradients of the head all the same.
        return torch.as_tensor(head(encoded.mask_features.mean(dim=(0, 2, 3)))).sum() * 0
    features = encoded.mask_features[frames.frame].permute(0, 2, 3, 1)[inside]
    category = frames.category[torch.nonzero(inside)[:, 0]]
    return F.cross_entropy(head(features).float(), category)


def gate_logits_of(network: M2FNetwork, sound: Tensor) -> Tensor:
    """Return the logits [N, Q] of a learned gate for projected sound [N, H]."""
    if network.query_gate is None:
        raise TypeError("the network has no learned gate")
    return torch.as_tensor(network.query_gate(sound)).float()
