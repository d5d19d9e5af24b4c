"""The serving side of `worker`: ``python -m avsrobust.adapters.serve NAME`` serves the adapter that ``--adapter NAME`` runs.

Conventions
    For an environment that has both avsrobust and the model's own needs (a built CUDA extension, another torch), and for several
    GPUs at once: ``--adapter worker --option command="/env/bin/python -m avsrobust.adapters.serve avsegformer"
    --option workers=2``, with the adapter's own options and checkpoint as usual.
    Clips without targets (`needs_clips`), native sounds, masks apart and readouts pass the pipe; adapters that need the rows
    (`needs_rows`) run in process.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from avsrobust.adapters.base import AudioInput, ClipView, NativeSound, Segmentation
from avsrobust.adapters.calling import AdapterCaller, Audio
from avsrobust.adapters.encodings import EncodingGuard
from avsrobust.adapters.lookup import load_adapter
from avsrobust.adapters.remote import avsrobust_worker
from avsrobust.errors import AdapterError

Array = npt.NDArray[Any]


class ServedAdapter:
    """An adapter behind the worker's interface: arrays in, arrays out."""

    def __init__(self, spec: str, checkpoint: str | None, device: str, options: Mapping[str, str]) -> None:
        on = torch.device(device)
        path = None if checkpoint is None else Path(checkpoint)
        adapter = load_adapter(spec, checkpoint=path, device=on, options=options)
        self._caller = AdapterCaller(adapter, type(adapter).__name__, on)
        audio = AudioInput.of(adapter.audio)
        form = {"resampler": audio.resampler, "mono": audio.mono}
        self.audio = audio.kind if audio.sample_rate is None else (audio.kind, audio.sample_rate, form)
        self.needs_seed = self._caller.needs_seed
        self.needs_clips = self._caller.needs_clips or self.needs_seed

    def encode_frames(self, frames: Array, clips: Sequence[SimpleNamespace] = ()) -> Any:
        """Return the adapter's encoding of frames, uint8 [B, T, 3, H, W]."""
        return self._caller.encode(self._tensor(frames), lambda: [_clip_view(clip) for clip in clips])

    def segment(
        self, encoded: Any, audio: Array | Sequence[SimpleNamespace], clips: Sequence[SimpleNamespace] = ()
    ) -> Array | avsrobust_worker.Segmentation:
        """Return the adapter's answer: probabilities, class logits or class ids (`adapters.base`), or a `Segmentation`."""
        given: Audio = (
            self._tensor(audio) if isinstance(audio, np.ndarray) else [_native_sound(sound) for sound in audio]
        )
        with EncodingGuard(encoded, self._caller.name) as guard:
            answer = self._caller.segment_unchecked(
                encoded, given, self._no_rows, lambda: [_clip_view(clip) for clip in clips]
            )
            guard.check()
        return _answer(answer)

    def extras(self) -> dict[str, Array]:
        """Return the adapter's further values of its last masks, by name."""
        return {str(name): _array(values) for name, values in self._caller.extras_unchecked().items()}

    def _tensor(self, array: Array) -> Tensor:
        return torch.from_numpy(array).to(self._caller.device)

    def _no_rows(self) -> NoReturn:
        raise AdapterError(
            f"{self._caller.name}: needs the rows (needs_rows), which a worker does not receive; run it in process"
        )


def _clip_view(clip: SimpleNamespace) -> ClipView:
    sound = None if clip.sound is None else Path(clip.sound)
    return ClipView(**{**vars(clip), "frames": tuple(map(Path, clip.frames)), "sound": sound})


def _native_sound(sound: SimpleNamespace) -> NativeSound:
    path = None if sound.path is None else Path(sound.path)
    return NativeSound(torch.from_numpy(sound.samples), sound.sample_rate, path)


def _answer(answer: Any) -> Array | avsrobust_worker.Segmentation:
    if not isinstance(answer, Segmentation):
        return _array(answer)
    mask = None if answer.mask is None else _array(answer.mask)
    readouts = {str(name): _answer(readout) for name, readout in answer.readouts.items()}
    return avsrobust_worker.Segmentation(_array(answer.probabilities), mask, readouts)


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
