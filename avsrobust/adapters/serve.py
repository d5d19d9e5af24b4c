"""The other end of `worker` for adapters of ours: ``python -m avsrobust.adapters.serve NAME`` serves what --adapter NAME runs.

Conventions
    For an environment that has avsrobust beside what the model needs (a built CUDA extension, another torch), and for several
    GPUs at once: ``--adapter worker --option command="/env/bin/python -m avsrobust.adapters.serve avsegformer"
    --option workers=2``, with the adapter's own options and checkpoint as usual.
    Workers learn nothing of a row but picture and sound: adapters that need more (`needs_rows`) run in process.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from avsrobust.adapters.base import AudioInput
from avsrobust.adapters.encodings import EncodingGuard
from avsrobust.adapters.lookup import load_adapter
from avsrobust.adapters.remote import avsrobust_worker
from avsrobust.adapters.surroundings import surroundings
from avsrobust.errors import AdapterError

Array = npt.NDArray[Any]


class ServedAdapter:
    """An adapter behind the worker's interface: arrays in, arrays out."""

    def __init__(self, spec: str, checkpoint: str | None, device: str, options: Mapping[str, str]) -> None:
        self._device = torch.device(device)
        path = None if checkpoint is None else Path(checkpoint)
        self._adapter = load_adapter(spec, checkpoint=path, device=self._device, options=options)
        heard = AudioInput.of(self._adapter.audio)
        self.audio = heard.kind if heard.sample_rate is None else (heard.kind, heard.sample_rate)

    @torch.no_grad()
    def encode_frames(self, frames: Array) -> Any:
        """Return what the adapter makes of frames, uint8 [B, T, 3, H, W]."""
        with surroundings(type(self._adapter)):
            return self._adapter.encode_frames(self._tensor(frames))

    @torch.no_grad()
    def segment(self, encoded: Any, audio: Array) -> Array:
        """Return what the adapter returns: probabilities, class logits or class ids (`adapters.base`)."""
        with EncodingGuard(encoded, type(self._adapter).__name__) as guard, surroundings(type(self._adapter)):
            masks = self._adapter.segment(encoded, self._tensor(audio))
            guard.check()
        return _array(masks)

    def extras(self) -> dict[str, Array]:
        """Return what the adapter says beside its last masks."""
        with surroundings(type(self._adapter)):
            extras: Mapping[str, Tensor] = getattr(self._adapter, "extras", dict)()
        return {str(name): _array(values) for name, values in extras.items()}

    def _tensor(self, array: Array) -> Tensor:
        return torch.from_numpy(array).to(self._device)


def _array(values: Tensor) -> Array:
    # numpy has no bfloat16.
    plain = values.detach().cpu()
    return np.asarray(plain.float() if plain.dtype == torch.bfloat16 else plain)


def main(arguments: list[str]) -> None:
    """Serve the adapter that the one argument names."""
    if len(arguments) != 1:
        raise AdapterError("python -m avsrobust.adapters.serve: expected one argument, what you would give --adapter")
    avsrobust_worker.serve(functools.partial(ServedAdapter, arguments[0]))


if __name__ == "__main__":
    main(sys.argv[1:])
