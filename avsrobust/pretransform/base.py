"""The interface between a pretransform and a sound encoder.

Conventions
    A sound of T frames is heard as T windows of one second: waveform float32 [T * rate], or VGGish's log-mel float32
    [T, 1, 96, 64]. The windows of one sound are one batch, whatever other sounds there are, so that an embedding
    depends on its sound alone. Its last bits are the encoder's: they may differ on another device or thread count.
    Encoders hear sounds and nothing else: neither pictures nor a clip's labels.
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
from avsrobust.errors import OptionError
from avsrobust.files import sha256_of_file

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Heard:
    """What an encoder makes of a sound: embeddings float32 [T, D] and scores in [0, 1], float32 [T, L], L may be 0."""

    embeddings: Floats
    scores: Floats


class Encoder(ABC):
    """A frozen network (or none) that turns the seconds of a sound into embeddings, and classes where it names any.

    `labels` are the L classes it scores, () for none. `identity` is the SHA-256 of its files, None where it has none.
    """

    audio: AudioInput
    labels: tuple[str, ...] = ()
    identity: str | None = None

    @abstractmethod
    def encode(self, sound: Tensor) -> Heard:
        """Return what is heard in one sound of T seconds (see the module's conventions)."""


def windows(sound: Tensor, sample_rate: int) -> list[NDArray[np.float32]]:
    """Return the seconds of a waveform [T * rate], T arrays float32 [rate]."""
    return list(sound.reshape(-1, sample_rate).numpy())


def heard(embeddings: Tensor, scores: Tensor | None = None) -> Heard:
    """Return tensors on any device as `Heard`."""
    found = embeddings.float().cpu().numpy()
    return Heard(found, np.zeros((len(found), 0), np.float32) if scores is None else scores.float().cpu().numpy())


def files_identity(files: Iterable[Path]) -> str:
    """Return the SHA-256 over the names and contents of `files`, in hex."""
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(f"{path.name}\t{sha256_of_file(path)}\n".encode())
    return digest.hexdigest()


def require_file(path: Path | None, encoder: str) -> Path:
    """Return the checkpoint file of `encoder`. Raises `OptionError` where none is named or it is no file."""
    if path is None or not path.is_file():
        found = "found none" if path is None else "found no file"
        raise OptionError(
            f"--checkpoint{'' if path is None else f' {path}'}: {found}; expected the weights' file of {encoder}; name it"
        )
    return path
