"""Multi-scale deformable attention in plain torch, for checkouts whose CUDA extension is not built.

Conventions
    Deformable DETR (Zhu et al., ICLR 2021), equation 3: each query sums, over heads' levels l and points k, bilinear samples of
    level l's values at its location, times its attention weight. N clips' frames, Q queries, M heads of D channels, L levels
    of h_l x w_l positions, P points.
    Locations are (x, y) in [0, 1] of the level, 0 and 1 being the outer edges of the border pixels; outside, values are 0.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def ms_deform_attn(value: Tensor, shapes: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
    """Return the attended values, [N, Q, M * D], of `value`'s dtype.

    `value`: [N, sum of h_l * w_l, M, D], level after level. `shapes`: whole numbers [L, 2], (h_l, w_l).
    `locations`: [N, Q, M, L, P, 2]. `weights`: [N, Q, M, L, P].
    """
    batch, _, heads, channels = value.shape
    queries = locations.shape[1]
    total = torch.zeros(batch * heads, channels, queries, dtype=value.dtype, device=value.device)
    start = 0
    for level, (height, width) in enumerate(shapes.tolist()):
        maps = value[:, start : start + height * width].permute(0, 2, 3, 1)
        start += height * width
        sampled = functional.grid_sample(
            maps.reshape(batch * heads, channels, height, width),
            (2 * locations[:, :, :, level] - 1).transpose(1, 2).flatten(0, 1),
            mode="bilinear",
            padding_mode="zeros",
            align_corners=False,
        )
        weight = weights[:, :, :, level].transpose(1, 2).flatten(0, 1)[:, None]
        total += (sampled * weight).sum(-1)
    return total.reshape(batch, heads * channels, queries).transpose(1, 2)
