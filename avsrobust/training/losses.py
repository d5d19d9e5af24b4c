"""Losses of training: what the masks should be, and whether picture and sound belong together.

Conventions
    N scored frames; logits [N, h, w] or class scores [N, C, h, w] >= 0; targets uint8 [N, S, S]. Predictions are resized
    bilinearly to the targets' size. Every loss is a mean over frames, weighted by their items' weight [N], a scalar. Empty
    targets count like all others: that is how a negative sound teaches silence.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avsrobust.errors import RecipeError
from avsrobust.training.model import Batch, Predictions
from avsrobust.training.recipe import LossPart

# Keeps Dice defined, and its gradient alive, where neither prediction nor target has a pixel.
_SMOOTH = 1.0
_SMALLEST = 1e-6


class Similarity(nn.Module):
    """Classifier-guided similarity: do sound and picture belong together?

    Cosine similarity of the sound, projected to the picture's width by a layer of its own, and the pooled picture, against
    the pair's label by binary cross-entropy (AVSBench-Robust, model/AVSegFormer_robust.py `CosineModule`; scripts/s4/train.py).
    """

    def __init__(self, audio_width: int, visual_width: int) -> None:
        super().__init__()
        self.projection = nn.Linear(audio_width, visual_width)

    def forward(self, audio: Tensor, visual: Tensor, positive: Tensor, counted: Tensor) -> Tensor:
        """Return the loss over the frames that are `counted`, bool [N]; `positive` [N] is the pairs' label."""
        similarity = F.cosine_similarity(self.projection(audio), visual)
        each = F.binary_cross_entropy_with_logits(similarity, positive, reduction="none")
        return (each * counted).sum() / counted.sum().clamp(min=1)


def mask_losses(logits: Tensor, target: Tensor, weights: LossPart, of_frame: Tensor | None = None) -> dict[str, Tensor]:
    """Return the losses of masks by name, unweighted among each other: bce (of classes: cross-entropy) and dice.

    `of_frame` [N] weighs the frames; None: all alike.
    """
    resized = _resize(logits, (target.shape[-2], target.shape[-1])).float()
    of_frame = resized.new_ones(len(resized)) if of_frame is None else of_frame
    if logits.dim() == 3:
        wanted = (target != 0).to(resized.dtype)
        each = F.binary_cross_entropy_with_logits(resized, wanted, reduction="none")
        overlap = dice_of_frames(torch.sigmoid(resized), wanted) if weights.dice else None
    else:
        chances = (resized + _SMALLEST) / (resized + _SMALLEST).sum(dim=1, keepdim=True)
        each = F.nll_loss(chances.log(), target.long(), reduction="none")
        overlap = _class_dice(chances, target.long()) if weights.dice else None
    losses: dict[str, Tensor] = {}
    if weights.bce:
        losses["bce"] = _mean(each.flatten(1).mean(dim=1), of_frame)
    if overlap is not None:
        losses["dice"] = _mean(overlap, of_frame)
    return losses


def similarity_loss(head: Similarity, predictions: Predictions, batch: Batch) -> Tensor:
    """Return the similarity loss of a batch.

    Seconds of a positive pair in which nothing sounds are no evidence of either and are not counted.
    """
    if predictions.audio is None or predictions.visual is None:
        raise RecipeError("loss.similarity: the model yields no projected sound and pooled picture; set it to 0")
    positive = batch.per_scored_frame(batch.positive)
    sounding = (batch.scored_target != 0).flatten(1).any(dim=1)
    return torch.as_tensor(head(predictions.audio, predictions.visual, positive, sounding | (positive == 0)))


def dice_of_frames(probability: Tensor, target: Tensor) -> Tensor:
    """Return the Dice loss of each frame, [N]: 1 - (2 overlap + 1) / (sum + 1), of [N, S, S] in [0, 1].

    >>> import torch
    >>> full = torch.ones(1, 2, 2)
    >>> dice_of_frames(full, full), dice_of_frames(full, torch.zeros(1, 2, 2))
    (tensor([0.]), tensor([0.8000]))
    """
    overlap = (probability * target).flatten(1).sum(dim=1)
    total = probability.flatten(1).sum(dim=1) + target.flatten(1).sum(dim=1)
    return 1 - (2 * overlap + _SMOOTH) / (total + _SMOOTH)


def _class_dice(chances: Tensor, target: Tensor) -> Tensor:
    """Dice loss of each frame, [N]: the mean of that of everything but background, and that of the classes it has."""
    foreground = dice_of_frames(1 - chances[:, 0], (target != 0).to(chances.dtype))
    wanted = F.one_hot(target, chances.shape[1]).permute(0, 3, 1, 2).to(chances.dtype)
    there = wanted.flatten(2).any(dim=2)
    there[:, 0] = False
    each = dice_of_frames(chances.flatten(0, 1), wanted.flatten(0, 1)).reshape(there.shape)
    classes = (each * there).sum(dim=1) / there.sum(dim=1).clamp(min=1)
    return torch.where(there.any(dim=1), (foreground + classes) / 2, foreground)


def _mean(values: Tensor, weight: Tensor) -> Tensor:
    return (values * weight).sum() / weight.sum()


def _resize(maps: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(maps.shape[-2:]) == size:
        return maps
    four = maps if maps.dim() == 4 else maps.unsqueeze(1)
    resized = F.interpolate(four, size=size, mode="bilinear", align_corners=False)
    return resized if maps.dim() == 4 else resized.squeeze(1)
