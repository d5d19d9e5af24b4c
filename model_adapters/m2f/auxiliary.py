"""This family's own losses, next to those of the masks: they give the queries, the gate and the pixels their meaning.

Conventions
    N scored frames of a batch, the pictures' own first (N' of them), Q queries, of which the first K have a category.
    `labels` float32 [N, 71] is 1 for the categories in the audio. A frame teaches categories of pixels where exactly one sounds
    and its mask is not empty: only then is the category of its pixels known. All losses are scalars; 0 where no frame teaches.

    active_queries   the gate against the categories in the audio ("active queries" of the paper: those of the classes found
                     in the audio); queries without a category are always active. Where a clip has several categories, it is
                     not known which of them sound in a given second: that is left to the masks.
    quiet_gate       the gate closes for the forward process carried to its end: log-mels of noise of any level, colour and
                     spread.
    biased           the biased branch against the masks of the frames with foreground: a visual prior that marks the objects
                     that could sound, not a mere offset, and that does not learn to detect silence.
    visual_queries   whatever the audio, the query of the category in the picture marks its pixels, and no other query does.
                     Outside the mask a silent object of the other query's category may stand: that counts less.
    roles            of a network that scores classes: query 0 is the background, the others together mark the foreground. Else
                     all queries begin alike, and then no mask changes any score: a saddle that is left slowly or not at all.
    pixel_classes    a linear layer, used in training alone, predicts the category of a pixel from its mask features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avsrobust.training.losses import dice_of_frames
from model_adapters.m2f.decoder import EncodedFrames
from model_adapters.m2f.network import M2FNetwork
from model_adapters.m2f.readout import QueryLogits

ACTIVE_QUERIES = "active_queries"
QUIET_GATE = "quiet_gate"
BIASED = "biased"
VISUAL_QUERIES = "visual_queries"
PIXEL_CLASSES = "pixel_classes"
ROLES = "roles"
NAMES = (ACTIVE_QUERIES, QUIET_GATE, BIASED, VISUAL_QUERIES, PIXEL_CLASSES, ROLES)
AUDIO_LOSSES = (ACTIVE_QUERIES, QUIET_GATE)
GATE_LOSSES = (ACTIVE_QUERIES, QUIET_GATE, VISUAL_QUERIES)

# Levels, colours (half the difference of the outer bands, and of these from the middle) and spreads of the noise, in the
# log-mel's unit: beyond those of VGGish log-mels of any recording.
_LEVELS, _COLOUR, _SPREAD = (-3.0, 3.0), 1.5, 1.5
_ELSEWHERE = 0.1
# Pixels of a shrunk mask that belong to the object, and the label of those that teach nothing.
_INSIDE, _IGNORED = 0.5, -100
_SMALLEST = 1e-6
# Of audio that the gate alone is trained on: the share that is mixed, and the change of level in nepers.
_MIXED, _GAIN = 0.5, (-1.0, 1.0)


@dataclass(frozen=True)
class Teachable:
    """Which of N' frames teach categories of pixels; the others stay, with no weight, so that shapes depend on no label.

    Attributes:
        teaches: Whether each does, bool [N'].
        category: The category of each that does, int64 [N'].
        mask: The masks, float32 [N', h, w] in [0, 1].
    """

    teaches: Tensor
    category: Tensor
    mask: Tensor


@dataclass(frozen=True)
class LabelledAudio:
    """Audio and its categories.

    Attributes:
        audio: Log-mels [N, 1, 96, 64].
        labels: float32 [N, 71], 1 for the categories in the audio.
        exact: bool [N], whether all of a second's labels are known to sound.
    """

    audio: Tensor
    labels: Tensor
    exact: Tensor

    @classmethod
    def of(cls, audio: Tensor, labels: Tensor) -> LabelledAudio:
        """Return audio with the labels of its clips: exact where these name one category at most."""
        return cls(audio, labels, labels.sum(dim=1) <= 1)


def teachable(labels: Tensor, target: Tensor, size: tuple[int, int]) -> Teachable:
    """Return which frames teach categories of pixels.

    Args:
        labels: float32 [N', 71].
        target: uint8 [N', S, S].
        size: Height and width of the masks that are returned.
    """
    foreground = target != 0
    mask = F.interpolate(foreground.float().unsqueeze(1), size=size, mode="area").squeeze(1)
    teaches = (labels.sum(dim=1) == 1) & foreground.flatten(1).any(dim=1)
    return Teachable(teaches, labels.argmax(dim=1), mask)


def active_queries(gate_logits: Tensor, labels: Tensor, assignment: Tensor, categories: int, exact: Tensor) -> Tensor:
    """Return the binary cross-entropy of a gate against the categories in the audio.

    Args:
        gate_logits: [N, Q].
        labels: float32 [N, 71].
        assignment: float32 [71, Q], 1 where a query has a category.
        categories: Number K of queries with a category.
        exact: bool [N], as in `LabelledAudio`.
    """
    expected = gate_of_labels(labels, assignment, categories)
    known = exact.unsqueeze(1) | (expected == 0)
    known[:, categories:] = True
    each = F.binary_cross_entropy_with_logits(gate_logits.float(), expected, reduction="none")
    return (each * known).sum() / known.sum().clamp(min=1)


@dataclass(frozen=True)
class Mixture:
    """How N seconds of audio are mixed.

    Attributes:
        other: Number of the audio that each may be mixed with, int64 [N].
        chosen: Whether it is, bool [N].
        level: Change of level in nepers, float32 [N, 1, 1, 1].
    """

    other: Tensor
    chosen: Tensor
    level: Tensor

    @classmethod
    def drawn(cls, count: int, seed: int) -> Mixture:
        """Return the mixture of `count` seconds that a seed draws, on the host."""
        generator = torch.Generator().manual_seed(seed)
        other = torch.randperm(count, generator=generator)
        chosen = torch.rand(count, generator=generator) < _MIXED
        return cls(other, chosen, torch.empty(count, 1, 1, 1).uniform_(*_GAIN, generator=generator))


def mix_audio(audio: Tensor, labels: Tensor, mixture: Mixture) -> LabelledAudio:
    """Return audio at other levels, half of it mixed with other audio of the batch.

    Only audio of one category at most is mixed, so that the labels of the mixture are exact. Log-mels are mixed as if
    magnitudes added up, which they do on average up to a constant.

    Args:
        audio: Log-mels [N, 1, 96, 64].
        labels: float32 [N, 71].
        mixture: What is mixed, on the audio's device.
    """
    known = LabelledAudio.of(audio, labels).exact
    chosen = mixture.chosen & known & known[mixture.other]
    first, second = audio + mixture.level, audio[mixture.other]
    mixed = torch.where(chosen.view(-1, 1, 1, 1), torch.logaddexp(first, second), first)
    together = torch.maximum(labels, labels[mixture.other])
    return LabelledAudio(mixed, torch.where(chosen.unsqueeze(1), together, labels), known)


def gate_of_labels(labels: Tensor, assignment: Tensor, categories: int) -> Tensor:
    """Return the target gate [N, Q]: 1 for the queries of the labels' categories, and for queries without a category.

    Args:
        labels: float32 [N, 71].
        assignment: float32 [71, Q], 1 where a query has a category.
        categories: Number K of queries with a category.
    """
    gate = (labels @ assignment).clamp(max=1)
    gate[:, categories:] = 1
    return gate


def quiet_gate(network: M2FNetwork, noise: Tensor, categories: int) -> Tensor:
    """Return the loss of the network's gate on noise.

    Args:
        network: A network with a learned gate.
        noise: The projected audio of `coloured_noise`, [N, H].
        categories: Number K of queries with a category.
    """
    gate_logits = gate_logits_of(network, noise)
    expected = torch.zeros_like(gate_logits)
    expected[:, categories:] = 1
    return F.binary_cross_entropy_with_logits(gate_logits, expected)


def coloured_noise(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Return log-mels of noise, each of one level, colour and spread.

    Args:
        shape: [N, 1, 96, 64].
        generator: Source of all draws, on the CPU.
    """

    def uniform(low: float, high: float) -> Tensor:
        return torch.empty(shape[0], 1, 1, 1).uniform_(low, high, generator=generator)

    band = torch.linspace(-1, 1, shape[-1])
    tilt, bow = uniform(-_COLOUR, _COLOUR) * band, uniform(-_COLOUR, _COLOUR) * (band**2 - 0.5)
    level, spread = uniform(*_LEVELS), uniform(0, _SPREAD)
    return level + tilt + bow + spread * torch.randn(tuple(shape), generator=generator)


def visual_queries(masks: Tensor, frames: Teachable, assignment: Tensor, categories: int) -> Tensor:
    """Return the loss of the queries' masks on the frames that teach.

    Args:
        masks: Mask logits [N', Q, h, w].
        frames: Which frames teach.
        assignment: float32 [71, Q], 1 where a query has a category.
        categories: Number K of queries with a category.
    """
    expected = assignment[frames.category][:, :categories]
    # Of each frame, 1 where it teaches and its category has a query.
    weight = (frames.teaches & expected.any(dim=1)).float()
    count = weight.sum().clamp(min=1)
    chosen, target = masks[:, :categories].float(), frames.mask
    right = chosen.take_along_dim(expected.argmax(dim=1).view(-1, 1, 1, 1), dim=1).squeeze(1)
    each = F.binary_cross_entropy_with_logits(right, target, reduction="none").flatten(1).mean(dim=1)
    found = ((each + dice_of_frames(torch.sigmoid(right), target)) * weight).sum() / count
    others = ((1 - expected) * weight.unsqueeze(1))[..., None, None]
    wrong = others * (_ELSEWHERE + (1 - _ELSEWHERE) * target).unsqueeze(1)
    return found + (F.softplus(chosen) * wrong).sum() / wrong.sum().clamp(min=_SMALLEST)


def roles(queries: QueryLogits, target: Tensor) -> Tensor:
    """Return the loss of the queries' roles, background and objects.

    Args:
        queries: The decoded queries.
        target: Class ids, uint8 [N, S, S].
    """
    masks, size = queries.masks.float(), (queries.masks.shape[-2], queries.masks.shape[-1])
    foreground = F.interpolate((target != 0).float().unsqueeze(1), size=size, mode="area").squeeze(1)
    background, objects = masks[:, 0], torch.logsumexp(masks[:, 1:], dim=1)
    shapes = F.binary_cross_entropy_with_logits(background, 1 - foreground) + F.binary_cross_entropy_with_logits(
        objects, foreground
    )
    classes = queries.classes[:, 0].float()
    role = F.cross_entropy(classes, torch.zeros(len(classes), dtype=torch.int64, device=classes.device))
    return shapes + dice_of_frames(torch.sigmoid(objects), foreground).mean() + role


def pixel_classes(head: nn.Module, encoded: EncodedFrames, frames: Teachable) -> Tensor:
    """Return the loss of a classifier of pixels, on those inside the masks.

    Args:
        head: Layer from mask features [.., H] to logits [.., 71].
        encoded: Features of the frames.
        frames: Which frames teach.
    """
    inside = (frames.mask > _INSIDE) & frames.teaches[:, None, None]
    category = torch.where(inside, frames.category[:, None, None], _IGNORED)
    logits = head(encoded.mask_features.permute(0, 2, 3, 1)).float().flatten(0, 2)
    total = F.cross_entropy(logits, category.flatten(), ignore_index=_IGNORED, reduction="sum")
    return total / inside.sum().clamp(min=1)


def gate_logits_of(network: M2FNetwork, audio: Tensor) -> Tensor:
    """Return the logits [N, Q] of a learned gate for projected audio [N, H]."""
    if network.query_gate is None:
        raise TypeError("the network has no learned gate")
    return torch.as_tensor(network.query_gate(audio)).float()
