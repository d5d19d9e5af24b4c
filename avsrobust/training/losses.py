"""Training losses: of the masks, and of the similarity of audio and picture.

Conventions
    N scored frames; logits [N, h, w] or class scores [N, C, h, w] >= 0; targets uint8 [N, S, S]. Predictions are resized
    bilinearly to the targets' size. Every loss is a scalar, the mean over frames weighted by their queries' weight [N]. Empty
    targets count like all others: that is how negative audio teaches silence. Nothing is looked up on the host: what does not
    count has weight 0, and where nothing counts a loss is 0.
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
    """Classifier-guided similarity: binary cross-entropy of cos(W audio, picture) against whether the two belong together.

    Source: AVSBench-Robust, model/AVSegFormer_robust.py `CosineModule`; scripts/s4/train.py.
    """

    def __init__(self, audio_width: int, visual_width: int) -> None:
        super().__init__()
        self.projection = nn.Linear(audio_width, visual_width)

    def forward(self, audio: Tensor, visual: Tensor, positive: Tensor, counted: Tensor) -> Tensor:
        """Return the mean loss of the counted frames.

        Args:
            audio: Projected audio [N, A].
            visual: Pooled picture [N, V].
            positive: float32 [N], 1 where the two belong together.
            counted: bool [N].
        """
        similarity = F.cosine_similarity(self.projection(audio), visual)
        each = F.binary_cross_entropy_with_logits(similarity, positive, reduction="none")
        return (each * counted).sum() / counted.sum().clamp(min=1)


def mask_losses(
    logits: Tensor, target: Tensor, weights: LossPart, frame_weight: Tensor | None = None
) -> dict[str, Tensor]:
    """Return the mask losses by name, "bce" (of classes: cross-entropy) and "dice", not yet weighted against each other.

    Args:
        logits: Logits [N, h, w], or class scores [N, C, h, w] >= 0.
        target: uint8 [N, S, S], 0 for background.
        weights: The recipe's weights; a loss of weight 0 is left out.
        frame_weight: float32 [N]; None: all frames alike.
    """
    resized = _resize(logits, (target.shape[-2], target.shape[-1])).float()
    frame_weight = resized.new_ones(len(resized)) if frame_weight is None else frame_weight
    if logits.dim() == 3:
        expected = (target != 0).to(resized.dtype)
        each = F.binary_cross_entropy_with_logits(resized, expected, reduction="none")
        overlap = dice_of_frames(torch.sigmoid(resized), expected) if weights.dice else None
    else:
        probabilities = (resized + _SMALLEST) / (resized + _SMALLEST).sum(dim=1, keepdim=True)
        each = F.nll_loss(probabilities.log(), target.long(), reduction="none")
        overlap = _class_dice(probabilities, target.long()) if weights.dice else None
    losses: dict[str, Tensor] = {}
    if weights.bce:
        losses["bce"] = _mean(each.flatten(1).mean(dim=1), frame_weight)
    if overlap is not None:
        losses["dice"] = _mean(overlap, frame_weight)
    return losses


def similarity_loss(head: Similarity, predictions: Predictions, batch: Batch) -> Tensor:
    """Return the similarity loss of a batch, a scalar.

    Seconds of a positive pair in which nothing sounds are no evidence of either and are not counted.

    Raises:
        RecipeError: The model yields no projected audio or pooled picture.
    """
    if predictions.audio is None or predictions.visual is None:
        raise RecipeError("loss.similarity: the model yields no projected sound and pooled picture; set it to 0")
    positive = batch.per_scored_frame(batch.positive)
    has_foreground = (batch.scored_target != 0).flatten(1).any(dim=1)
    return torch.as_tensor(head(predictions.audio, predictions.visual, positive, has_foreground | (positive == 0)))


def dice_of_frames(probability: Tensor, target: Tensor) -> Tensor:
    """Return the Dice loss of each frame, [N]: 1 - (2 overlap + 1) / (sum + 1).

    Args:
        probability: [N, S, S] in [0, 1].
        target: [N, S, S] of 0 and 1.

    >>> import torch
    >>> full = torch.ones(1, 2, 2)
    >>> dice_of_frames(full, full), dice_of_frames(full, torch.zeros(1, 2, 2))
    (tensor([0.]), tensor([0.8000]))
    """
    overlap = (probability * target).flatten(1).sum(dim=1)
    total = probability.flatten(1).sum(dim=1) + target.flatten(1).sum(dim=1)
    return 1 - (2 * overlap + _SMOOTH) / (total + _SMOOTH)


def _class_dice(probabilities: Tensor, target: Tensor) -> Tensor:
    """Return each frame's mean, [N], of the Dice loss of the foreground and that of the classes in its target."""
    foreground = dice_of_frames(1 - probabilities[:, 0], (target != 0).to(probabilities.dtype))
    expected = F.one_hot(target, probabilities.shape[1]).permute(0, 3, 1, 2).to(probabilities.dtype)
    present = expected.flatten(2).any(dim=2)
    present[:, 0] = False
    each = dice_of_frames(probabilities.flatten(0, 1), expected.flatten(0, 1)).reshape(present.shape)
    classes = (each * present).sum(dim=1) / present.sum(dim=1).clamp(min=1)
    return torch.where(present.any(dim=1), (foreground + classes) / 2, foreground)


def _mean(values: Tensor, weight: Tensor) -> Tensor:
    return (values * weight).sum() / weight.sum().clamp(min=_SMALLEST)


def _resize(maps: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(maps.shape[-2:]) == size:
        return maps
    four = maps if maps.dim() == 4 else maps.unsqueeze(1)
    resized = F.interpolate(four, size=size, mode="bilinear", align_corners=False)
    return resized if maps.dim() == 4 else resized.squeeze(1)
