"""Frames as the published data loaders hand them to their networks.

Conventions
    Loaders resize with Pillow's bilinear filter on 8-bit pictures (as torchvision's transforms do), to a square, then scale to
    [0, 1] and normalise by ImageNet's mean and standard deviation per RGB channel (AVSBench, avs_s4/dataloader.py; AVSegFormer,
    dataloader/s4_dataset.py). Resizing tensors instead would give other pixels.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

MEAN = (0.485, 0.456, 0.406)
DEVIATION = (0.229, 0.224, 0.225)


def normalised_frames(frames: Tensor, size: int) -> Tensor:
    """Return frames, uint8 [B, T, 3, H, W], as float32 [B * T, 3, size, size] on the same device."""
    flat = frames.flatten(0, 1)
    if flat.shape[-2:] != (size, size):
        pictures = flat.permute(0, 2, 3, 1).cpu().numpy()
        resized = np.stack([_resize(picture, size) for picture in pictures])
        flat = torch.from_numpy(resized).permute(0, 3, 1, 2).to(frames.device)
    mean, deviation = (torch.tensor(values, device=flat.device)[:, None, None] for values in (MEAN, DEVIATION))
    return flat.to(torch.float32).div(255).sub(mean).div(deviation)


def _resize(picture: npt.NDArray[np.uint8], size: int) -> npt.NDArray[np.uint8]:
    return np.asarray(Image.fromarray(picture).resize((size, size), Image.Resampling.BILINEAR))
