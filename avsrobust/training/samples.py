"""Samples of training one by one, and batches of them.

Conventions
    See `avsrobust.training.model.Batch` for shapes. Clips of fewer seconds than the longest in a batch are padded with unscored
    black frames and zero audio. `avsrobust.training.data.TrainingSet.read_batch` makes the same batches at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from avsrobust.training.model import Batch


class AudioQuery(NamedTuple):
    """Audio and the target that is right for it; the fields are those of `Batch`, without the first axis."""

    audio: Tensor
    target: Tensor
    positive: float
    weight: float
    audio_labels: Tensor


class Sample(NamedTuple):
    """The frames of a sample and its audio queries.

    Attributes:
        frames: uint8 [T, 3, S, S].
        scored: bool [T], whether a frame has a mask.
        queries: The sample's own query, then the extra negatives.
    """

    frames: Tensor
    scored: Tensor
    queries: tuple[AudioQuery, ...]


def collate(samples: Sequence[Sample], seed: int = 0) -> Batch:
    """Return the batch of some samples, padded to the longest (see the module's conventions).

    Args:
        samples: The samples.
        seed: Seed of all noise that the model draws for the batch.
    """
    longest = max(len(sample.frames) for sample in samples)
    # The samples' own queries first (`Batch`).
    numbered = [(number, sample.queries[0]) for number, sample in enumerate(samples)]
    numbered += [(number, query) for number, sample in enumerate(samples) for query in sample.queries[1:]]
    queries = [query for _, query in numbered]
    audio_length = max(len(query.audio) for query in queries)
    return Batch(
        frames=torch.stack([_padded(sample.frames, longest) for sample in samples]),
        picture=torch.tensor([number for number, _ in numbered]),
        audio=torch.stack([_padded(query.audio, audio_length) for query in queries]),
        target=torch.stack([_padded(query.target, longest) for query in queries]),
        scored=torch.stack([_padded(samples[number].scored, longest) for number, _ in numbered]),
        positive=torch.tensor([query.positive for query in queries]),
        weight=torch.tensor([query.weight for query in queries]),
        audio_labels=torch.stack([_padded(query.audio_labels, longest) for query in queries]),
        seed=seed,
    )


def _padded(tensor: Tensor, length: int) -> Tensor:
    missing = length - len(tensor)
    return tensor if missing == 0 else torch.cat((tensor, tensor.new_zeros(missing, *tensor.shape[1:])))
