"""The interface between a pretransform and an audio encoder.

Conventions
    Audio of T frames is encoded as T windows of one second: waveform float32 [T * rate], or VGGish's log-mel float32
    [T, 1, 96, 64]. The windows of one sound are one batch, whatever other sounds there are, so that an embedding
    depends on its sound alone. Its last bits are the encoder's: they may differ on another device or thread count.
    Encoders take audio and nothing else: neither pictures nor a clip's labels.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from avsrobust.adapters.base import AudioInput
from avsrobust.files import sha256_of_file

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Encoding:
    """The encoded seconds of a sound.

    Attributes:
        embeddings: float32 [T, D].
        scores: Scores of the encoder's classes, float32 [T, L] in [0, 1]; L may be 0.
    """

    embeddings: Floats
    scores: Floats


class Encoder(ABC):
    """A frozen network, or a fixed statistic, that turns the seconds of a sound into embeddings and class scores.

    Attributes:
        audio: Form of the audio that it takes.
        labels: The L classes that it scores; () for none.
        checksum: SHA-256 of its files; None where it has none.
    """

    audio: AudioInput
    labels: tuple[str, ...] = ()
    checksum: str | None = None

    @abstractmethod
    def encode(self, sound: Tensor) -> Encoding:
        """Return the encoding of one sound of T seconds (see the module's conventions)."""


def windows(sound: Tensor, sample_rate: int) -> list[NDArray[np.float32]]:
    """Return the seconds of a waveform [T * rate] as T arrays, float32 [rate]."""
    return list(sound.reshape(-1, sample_rate).numpy())


def encoding_of(embeddings: Tensor, scores: Tensor | None = None) -> Encoding:
    """Return the `Encoding` of embeddings [T, D] and scores [T, L] (None: no classes) on any device."""
    found = embeddings.float().cpu().numpy()
    return Encoding(found, np.zeros((len(found), 0), np.float32) if scores is None else scores.float().cpu().numpy())


def files_checksum(files: Iterable[Path]) -> str:
    """Return the SHA-256 over the names and contents of `files`, in hex."""
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(f"{path.name}\t{sha256_of_file(path)}\n".encode())
    return digest.hexdigest()
