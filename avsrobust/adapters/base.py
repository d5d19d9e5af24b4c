"""The interface between the benchmark and a model.

Conventions
    B clips of T frames each. `frames` is uint8 [B, T, 3, H, W], RGB, at the size on disk; all clips of a batch share T, H, W.
    Audio arrives as the adapter asks for it (`AudioInput`), on the adapter's device:
    waveform float32 [B, S], mono, in [-1, 1), S = T seconds at `sample_rate`; log_mel float32 [B, T, 1, 96, 64], VGGish's
    input; embedding float32 [B, T, 128], VGGish's output.
    `segment` returns one of three, of any h and w; which one, the tensor itself says:
    probabilities, floating point [B, T, h, w] in [0, 1], that a pixel belongs to a sounding object (resized bilinearly to the
    mask's size);
    class logits, floating point [B, T, C, h, w], class 0 background (resized bilinearly, then the largest of the C); or
    class ids, integers [B, T, h, w], 0..70, 0 background (resized to the nearest).
    Classes are AVSBench-semantic's 71, in its order (`datasets.taxonomy.AVSS_CLASSES`). On avss they are scored as classes, and
    everywhere as sounding or not: there the probability is that of anything but background. A binary mask must not be
    returned as integers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor

from avsrobust.errors import AdapterError

AudioKind = Literal["waveform", "log_mel", "embedding"]


@dataclass(frozen=True)
class AudioInput:
    """What a model hears: its kind, and the rate in Hz where that is a waveform."""

    kind: AudioKind
    sample_rate: int | None = None

    @classmethod
    def waveform(cls, sample_rate: int) -> AudioInput:
        """Mono waveform, float32 [B, S], at `sample_rate` Hz."""
        return cls("waveform", sample_rate)

    @classmethod
    def log_mel(cls) -> AudioInput:
        """VGGish's log-mel input, float32 [B, T, 1, 96, 64]."""
        return cls("log_mel")

    @classmethod
    def embedding(cls) -> AudioInput:
        """VGGish's embedding, float32 [B, T, 128]."""
        return cls("embedding")

    @classmethod
    def of(cls, value: object) -> AudioInput:
        """Return what an adapter's `audio` asks for: an `AudioInput`, or the string "log_mel" or "embedding".

        Raises `AdapterError` for anything else.
        """
        if isinstance(value, AudioInput):
            if value.kind == "waveform" and not (isinstance(value.sample_rate, int) and value.sample_rate > 0):
                raise AdapterError(
                    f"audio: found a waveform at {value.sample_rate} Hz; expected AudioInput.waveform(sample_rate)"
                )
            if value.kind in get_args(AudioKind):
                return value
        if value == "log_mel":
            return cls.log_mel()
        if value == "embedding":
            return cls.embedding()
        hint = "; a waveform needs its rate" if value == "waveform" else ""
        raise AdapterError(
            f"audio: found {value!r}; expected AudioInput.waveform(sample_rate), AudioInput.log_mel() or "
            f"AudioInput.embedding(){hint}"
        )


@dataclass(frozen=True)
class RowView:
    """What an adapter that asks for it (`needs_rows`) learns about one row beside picture and sound.

    `target` is bool [T, H, W]; `has_mask` bool [T] says which frames have one; `classes` holds the class ids, uint8 [T, H, W],
    where the data set has classes (avss). For baselines and stored predictions only: a model that looks at these is not
    evaluated, it is told the answer.
    """

    dataset: str
    split: str
    clip_id: str
    condition: str
    polarity: str
    level: float | None
    seed: int
    target: Tensor
    has_mask: Tensor
    classes: Tensor | None = None


class Adapter:
    """One AVS model behind the benchmark's interface. Subclass it, or write a class with the same members."""

    audio: ClassVar[AudioInput] = AudioInput.log_mel()
    needs_rows: ClassVar[bool] = False
    device: torch.device = torch.device("cpu")

    @classmethod
    def load(cls, checkpoint: Path | None, device: torch.device, **options: str) -> Adapter:
        """Make the model ready on `device`.

        `options` are the strings of ``--option key=value``. This default makes a model without weights or options.
        Raises `AdapterError` for a checkpoint or option that cannot be used.
        """
        if checkpoint is not None:
            raise AdapterError(f"--checkpoint {checkpoint}: {cls.__name__} takes none; leave the option out")
        if options:
            raise AdapterError(f"--option {next(iter(options))}: {cls.__name__} takes no options; leave it out")
        adapter = cls()
        adapter.device = device
        return adapter

    def encode_frames(self, frames: Tensor) -> Any:
        """Return what of the pictures is independent of the sound; called once per clip. Default: the frames."""
        return frames

    def segment(self, encoded: Any, audio: Tensor) -> Tensor:
        """Return probabilities or class ids [B, T, h, w], or class logits [B, T, C, h, w]; called once per condition."""
        raise NotImplementedError(f"{type(self).__name__} must define segment(encoded, audio)")

    def extras(self) -> Mapping[str, Tensor]:
        """Return further values of the last call of `segment`, float [B, T] by name, kept beside the scores. Default: none."""
        return {}

    def segment_rows(self, encoded: Any, audio: Tensor, rows: Sequence[RowView]) -> Tensor:
        """Like `segment`, for adapters with `needs_rows`; `rows[b]` describes clip b under the present condition."""
        raise NotImplementedError(f"{type(self).__name__} sets needs_rows, so it must define segment_rows")
