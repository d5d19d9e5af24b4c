"""From queries to pixels: the class and mask logits of all queries, combined into a map or class scores.

Conventions
    Class logits [N, Q, C + 1], the last one "no object"; mask logits [N, Q, h, w]; gates [N, Q] in 0..1.
    With a biased branch the result is the contrast 2 * clean - biased (Sun et al. 2024, "Unveiling and Mitigating Bias in
    Audio Visual Segmentation"): of the maps for binary segmentation, of the queries' logits for classes, as the published code
    takes them (image_processing_mask2former.py `post_process_semantic_segmentation` of its AVS and of its AVSS part).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

from model_adapters.m2f.config import M2FConfig
from model_adapters.m2f.decoder import masks_of

# Of a closed gate: its query's odds count for a millionth, and its logarithm stays finite.
_CLOSED = 1e-6


@dataclass(frozen=True)
class QueryLogits:
    """The decoder's output per query. A mask is the product of an embedding and the features, taken only where it is needed.

    Attributes:
        classes: Class logits [N, Q, C + 1].
        embeddings: Mask embeddings [N, Q, H].
        features: Mask features [N, H, h, w].
    """

    classes: Tensor
    embeddings: Tensor
    features: Tensor

    @cached_property
    def masks(self) -> Tensor:
        """Mask logits [N, Q, h, w]."""
        return masks_of(self.embeddings, self.features)


def read_out(
    config: M2FConfig,
    queries: Sequence[QueryLogits],
    gates: Sequence[Tensor],
    *,
    gate_classes: bool = True,
    mask_size: tuple[int, int] | None = None,
) -> Tensor:
    """Return logits [N, h, w], or class scores [N, C, h, w] >= 0, of the clean branch, or of the two branches contrasted.

    Args:
        config: Which readout, and how many classes.
        queries: The queries of the clean branch, then of the biased one, if any.
        gates: The gates [N, Q] of these branches.
        gate_classes: Whether inactive queries vote for the background only. In the published AVSS code every query votes.
        mask_size: Height and width that masks are resized to before classes are read out; None: they stay as they are.

    Returns:
        float32.
    """
    if config.semantic:
        clean = queries[0] if len(queries) == 1 else _contrasted(queries[0], queries[1])
        masks = clean.masks.float()
        masks = masks if mask_size is None else resize(masks, mask_size)
        return class_scores(clean.classes.float(), masks, gates[0] if gate_classes else None, config.readout_labels)
    if config.readout == "union":
        maps = [foreground_map(config, *branch) for branch in zip(queries, gates, strict=True)]
        return maps[0] if len(maps) == 1 else contrast(maps[0], maps[1])
    # Sums of masks are linear in the embeddings: these are weighed and contrasted, for one product in place of one per query.
    summed = [_foreground_embedding(config, *branch) for branch in zip(queries, gates, strict=True)]
    return _product(summed[0] if len(summed) == 1 else contrast(summed[0], summed[1]), queries[0].features)


def _contrasted(clean: QueryLogits, biased: QueryLogits) -> QueryLogits:
    with torch.autocast(clean.features.device.type, enabled=False):
        embeddings = contrast(clean.embeddings.float(), biased.embeddings.float()).to(clean.embeddings.dtype)
        return QueryLogits(contrast(clean.classes.float(), biased.classes.float()), embeddings, clean.features)


def contrast(clean: Tensor, biased: Tensor) -> Tensor:
    """Return 2 * clean - biased: the contribution of the audio doubled, that of the bias alone subtracted.

    Args:
        clean: Logits or class scores of the clean branch, of any shape.
        biased: Those of the biased branch, of the same shape.
    """
    return 2 * clean - biased


def foreground_map(config: M2FConfig, queries: QueryLogits, gate: Tensor) -> Tensor:
    """Return the logits [N, h, w] of the foreground, float32.

    Readout "queries": the sum of their masks' logits. "union": the logarithm of the sum of their odds, so that one query
    that says yes is enough, and without any active query the answer is no. "foreground": the sum, each weighted by the
    softmax over the first `readout_labels` classes and "no object", summed over all but class 0 (the background).

    Args:
        config: The readout, and its number of classes.
        queries: The decoded queries.
        gate: Their gate [N, Q] in [0, 1].
    """
    if config.readout == "union":
        return torch.logsumexp(queries.masks.float() + gate.float().clamp(min=_CLOSED).log()[..., None, None], dim=1)
    return _product(_foreground_embedding(config, queries, gate), queries.features)


def _foreground_embedding(config: M2FConfig, queries: QueryLogits, gate: Tensor) -> Tensor:
    """Return the weighted sum of the mask embeddings, float32 [N, H]."""
    weight = gate.float()
    if config.readout == "foreground":
        weight = weight * class_probabilities(queries.classes.float(), config.readout_labels)[..., 1:].sum(-1)
    # In full precision also where the network is not: in a contrast, much of it cancels.
    with torch.autocast(weight.device.type, enabled=False):
        return torch.bmm(weight.unsqueeze(1), queries.embeddings.float()).squeeze(1)


def _product(embedding: Tensor, features: Tensor) -> Tensor:
    """Return the logits [N, h, w] of embeddings [N, H] on features [N, H, h, w], float32."""
    with torch.autocast(features.device.type, enabled=False):
        return masks_of(embedding.to(features.dtype).unsqueeze(1), features).squeeze(1).float()


def class_scores(class_logits: Tensor, masks: Tensor, gate: Tensor | None, labels: int) -> Tensor:
    """Return scores [N, C, h, w] >= 0: the sum of the queries' mask probabilities, weighted by their class probabilities.

    Args:
        class_logits: [N, Q, C' + 1], C' >= C; the last one is "no object".
        masks: Mask logits [N, Q, h, w].
        gate: Gate [N, Q], which weighs the queries' votes for objects; their votes for the background (class 0) stay, so that a
            picture without active queries is background. None: the published rule, every query votes.
        labels: Number of classes, C.
    """
    probabilities = class_probabilities(class_logits, labels)
    if gate is not None:
        probabilities = torch.cat((probabilities[..., :1], probabilities[..., 1:] * gate.unsqueeze(-1)), dim=-1)
    return torch.einsum("nqc,nqhw->nchw", probabilities, masks.sigmoid())


def class_probabilities(class_logits: Tensor, labels: int) -> Tensor:
    """Return the probabilities [N, Q, C] of classes: the softmax over the first C classes and "no object", without the latter.

    Args:
        class_logits: [N, Q, C' + 1], C' >= C; the last one is "no object".
        labels: Number of classes, C.
    """
    taken = torch.cat((class_logits[..., :labels], class_logits[..., -1:]), dim=-1)
    return taken.softmax(dim=-1)[..., :-1]


def resize(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Return maps resized bilinearly.

    Args:
        maps: [N, h, w] or [N, C, h, w].
        size: Height and width of the result, in pixels.
    """
    if tuple(maps.shape[-2:]) == size:
        return maps
    if maps.dim() == 3:
        return F.interpolate(maps.unsqueeze(1), size=size, mode="bilinear", align_corners=False).squeeze(1)
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)
