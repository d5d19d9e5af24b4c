"""The interface between the benchmark and a model.

Conventions
    B clips of T frames each. `frames` is uint8 [B, T, 3, H, W], RGB, at the size on disk; all clips of a batch share T, H, W.
    Audio arrives in the form that the adapter's `AudioInput` names, on the adapter's device:
    waveform float32 [B, S], mono, in [-1, 1), S = T seconds at `sample_rate` Hz; log_mel float32 [B, T, 1, 96, 64], VGGish's
    input; embedding float32 [B, T, 128], VGGish's output.
    `segment` returns one of three, of any h and w; the tensor's type and number of axes say which:
    probabilities, floating point [B, T, h, w] in [0, 1], that a pixel belongs to a sounding object (resized bilinearly to the
    mask's size);
    class logits, floating point [B, T, C, h, w], class 0 background (resized bilinearly, then the largest of the C); or
    class ids, integers [B, T, h, w], 0..70, 0 background (resized to the nearest).
    Classes are AVSBench-semantic's 71, in its order (`datasets.taxonomy.AVSS_CLASSES`). They are scored as classes on avss,
    and as binary segmentation everywhere: the foreground is any class but background. A binary mask must not be returned as
    integers.
    An adapter may also have a method `segment_many(encoded, audio, rows)`, which answers several conditions at once: `audio` is
    [K, B, ...], `rows` the K lists of B views for an adapter with `needs_rows` (else empty), and it returns or yields K outputs
    as `segment` does, in order, each the same as `segment` would return. Where it yields them one at a time, memory holds one.
    It is called where it is defined in the same class as `segment` (or `segment_rows`), or in a subclass.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor

from avsrobust.errors import AdapterError

# The option that names the file of VGGish's weights, for models that take its embedding; adapters never get it.
VGGISH_OPTION = "vggish"
AudioKind = Literal["waveform", "log_mel", "embedding"]


@dataclass(frozen=True)
class AudioInput:
    """Form of the audio that a model takes.

    Attributes:
        kind: "waveform", "log_mel" or "embedding"; shapes in the module's conventions.
        sample_rate: Rate of a waveform in Hz; None for the other kinds.
    """

    kind: AudioKind
    sample_rate: int | None = None

    @classmethod
    def waveform(cls, sample_rate: int) -> AudioInput:
        """Return the form of a mono waveform, float32 [B, S] in [-1, 1).

        Args:
            sample_rate: Rate in Hz; the audio is resampled to it.
        """
        return cls("waveform", sample_rate)

    @classmethod
    def log_mel(cls) -> AudioInput:
        """Return the form of VGGish's log-mel input, float32 [B, T, 1, 96, 64]."""
        return cls("log_mel")

    @classmethod
    def embedding(cls) -> AudioInput:
        """Return the form of VGGish's embedding, float32 [B, T, 128]."""
        return cls("embedding")

    @classmethod
    def of(cls, value: object) -> AudioInput:
        """Return the form that an adapter's attribute `audio` names.

        Args:
            value: An `AudioInput`, or the string "log_mel" or "embedding".

        Raises:
            AdapterError: It is anything else.

        >>> AudioInput.of("log_mel")
        AudioInput(kind='log_mel', sample_rate=None)
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
    """One row, with its target, for adapters with `needs_rows`.

    For baselines and stored predictions only: a model that reads the target or the condition is given the answer.

    Attributes:
        dataset: Data set of the clip.
        split: Split of the clip.
        clip_id: Id of the clip, unique in its split.
        condition: Name of the condition.
        polarity: "positive" or "negative".
        level: Level in the condition's unit, or None.
        seed: Seed of the row.
        target: Foreground that sounds, bool [T, H, W]; False on frames without a mask.
        has_mask: bool [T], whether a frame has a mask.
        classes: Class ids, uint8 [T, H, W] in 0..70, where the data set has classes (avss); else None.
        draw: Number of the draw, from 0.
        annotated: Foreground of everything annotated in the picture, bool [T, H, W], where some of it does not sound
            (distractors, silent seconds); None where that is `target`.
        annotated_classes: The same as class ids, or None.
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
    draw: int = 0
    annotated: Tensor | None = None
    annotated_classes: Tensor | None = None


class Adapter:
    """One AVS model behind the benchmark's interface. Subclass it, or write a class with the same members.

    Attributes:
        audio: Form of the audio that `segment` takes.
        needs_rows: `segment_rows` is called instead of `segment`, with a `RowView` per clip.
        device: Device that the model is on.
    """

    audio: ClassVar[AudioInput] = AudioInput.log_mel()
    needs_rows: ClassVar[bool] = False
    device: torch.device = torch.device("cpu")

    @classmethod
    def load(cls, checkpoint: Path | None, device: torch.device, **options: str) -> Adapter:
        """Make the model ready. This default makes a model without weights or options.

        Args:
            checkpoint: File of weights (``--checkpoint``), or None.
            device: Device that frames and audio will be on.
            **options: The strings of ``--option key=value``.

        Raises:
            AdapterError: The checkpoint or an option cannot be used.
        """
        if checkpoint is not None:
            raise AdapterError(f"--checkpoint {checkpoint}: {cls.__name__} takes none; leave the option out")
        if options:
            raise AdapterError(f"--option {next(iter(options))}: {cls.__name__} takes no options; leave it out")
        adapter = cls()
        adapter.device = device
        return adapter

    def encode_frames(self, frames: Tensor) -> Any:
        """Return an encoding of the frames, anything that is independent of the audio; called once per batch of clips.

        Args:
            frames: uint8 [B, T, 3, H, W]. This default returns them.
        """
        return frames

    def segment(self, encoded: Any, audio: Tensor) -> Tensor:
        """Segment the clips under one condition; called once per condition.

        Args:
            encoded: The encoding that `encode_frames` returned; must stay unchanged.
            audio: Audio of the clips; shapes in the module's conventions.

        Returns:
            Probabilities or class ids [B, T, h, w], or class logits [B, T, C, h, w].
        """
        raise NotImplementedError(f"{type(self).__name__} must define segment(encoded, audio)")

    def extras(self) -> Mapping[str, Tensor]:
        """Return further values of the last call of `segment`, which are stored with the scores.

        Returns:
            Finite floating-point values [B, T] by name. This default returns none.
        """
        return {}

    def segment_rows(self, encoded: Any, audio: Tensor, rows: Sequence[RowView]) -> Tensor:
        """Segment the clips under one condition, as `segment` does; called instead of it for adapters with `needs_rows`.

        Args:
            encoded: The encoding that `encode_frames` returned.
            audio: Audio of the clips.
            rows: Views of the B rows, in the order of the clips.
        """
        raise NotImplementedError(f"{type(self).__name__} sets needs_rows, so it must define segment_rows")
