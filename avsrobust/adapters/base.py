"""The interface between the benchmark and a model.

Conventions
    B clips of T frames each. `frames` is uint8 [B, T, 3, H, W], RGB, at the size on disk; all clips of a batch share T, H, W.
    Audio arrives in the form that the adapter's `AudioInput` names, on the adapter's device:
    waveform float32 [B, S], mono, in [-1, 1), S = T seconds at `sample_rate` Hz, or [B, 2, S] with ``mono=False``; log_mel
    float32 [B, T, 1, 96, 64], VGGish's input; embedding float32 [B, T, 128], VGGish's output; native: a list of B
    `NativeSound`, each whole, at its own rate and length, on the CPU.
    `segment` returns one of three, of any h and w; the tensor's type and number of axes say which:
    probabilities, floating point [B, T, h, w] in [0, 1], that a pixel belongs to a sounding object (resized bilinearly to the
    mask's size);
    class logits, floating point [B, T, C, h, w], class 0 background (resized bilinearly, then the largest of the C); or
    class ids, integers [B, T, h, w], 0..70, 0 background (resized to the nearest).
    Or it returns a `Segmentation`: such a tensor with a mask that was decided in another way, and further readouts.
    Classes are AVSBench-semantic's 71, in its order (`datasets.taxonomy.AVSS_CLASSES`). They are scored as classes on avss,
    and as binary segmentation everywhere: the foreground is any class but background. A binary mask must not be returned as
    integers.
    An adapter may also have a method `segment_many(encoded, audio, rows)`, which answers several conditions at once: `audio` is
    [K, B, ...], `rows` the K lists of B views for an adapter with `needs_rows` or `needs_clips` (else empty), and it returns
    or yields K outputs as `segment` does, in order, each the same as `segment` would return. Where it yields them one at a time,
    memory holds one. It is called where it is defined in the same class as `segment` (or `segment_rows`), or in a subclass.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor

from avsrobust.errors import AdapterError

# The option that names the file of VGGish's weights, for models that take its embedding; adapters never get it.
VGGISH_OPTION = "vggish"
# Named here and not in their own files, which are part of the key of their results.
_BLIND = ("avsrobust.adapters.baselines", "avsrobust.adapters.predictions")
AudioKind = Literal["waveform", "log_mel", "embedding", "native"]
Resampler = Literal["resampy", "torchaudio", "soxr"]


@dataclass(frozen=True)
class AudioInput:
    """Form of the audio that a model takes.

    Attributes:
        kind: "waveform", "log_mel", "embedding" or "native"; shapes in the module's conventions.
        sample_rate: Rate of a waveform in Hz; None for the other kinds.
        resampler: Resampler of a waveform (`avsrobust.audio.resample`).
        mono: Whether a waveform is the mean of its channels.
    """

    kind: AudioKind
    sample_rate: int | None = None
    resampler: Resampler = "resampy"
    mono: bool = True

    @classmethod
    def waveform(cls, sample_rate: int, resampler: Resampler = "resampy", mono: bool = True) -> AudioInput:
        """Return the form of a waveform, float32 [B, S] in [-1, 1), or [B, 2, S] where it is not mono.

        Args:
            sample_rate: Rate in Hz; the audio is resampled to it.
            resampler: "resampy" (as VGGish's front end), "torchaudio" (its `Resample` with default parameters: what
                most models' own loaders call) or "soxr".
            mono: Take the mean of the channels; otherwise there are two, and a mono sound is in both.
        """
        return cls("waveform", sample_rate, resampler, mono)

    @classmethod
    def native(cls) -> AudioInput:
        """Return the form of native sound: a `NativeSound` per clip, as the file holds it."""
        return cls("native")

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
            value: An `AudioInput`, or the string "log_mel", "embedding" or "native".

        Raises:
            AdapterError: It is anything else.

        >>> AudioInput.of("log_mel").kind
        'log_mel'
        """
        if isinstance(value, AudioInput):
            if value.kind == "waveform" and not (isinstance(value.sample_rate, int) and value.sample_rate > 0):
                raise AdapterError(
                    f"audio: found a waveform at {value.sample_rate} Hz; expected AudioInput.waveform(sample_rate)"
                )
            if value.resampler not in get_args(Resampler):
                raise AdapterError(
                    f"audio: found the resampler {value.resampler!r}; expected {', '.join(get_args(Resampler))}"
                )
            if value.kind in get_args(AudioKind):
                return value
        if value == "log_mel":
            return cls.log_mel()
        if value == "embedding":
            return cls.embedding()
        if value == "native":
            return cls.native()
        hint = "; a waveform needs its rate" if value == "waveform" else ""
        raise AdapterError(
            f"audio: found {value!r}; expected AudioInput.waveform(sample_rate), AudioInput.native(), AudioInput.log_mel() "
            f"or AudioInput.embedding(){hint}"
        )


@dataclass(frozen=True)
class NativeSound:
    """Sound of one clip under one condition as it is stored: every sample, at the file's own rate, with all its channels.

    Conditions that are rendered when they are read (``made:`` rows) have no file; `samples` are then what a wav file of
    them would hold.

    Attributes:
        samples: float32 [S, channels]: 16-bit values divided by 32768, or a float file's own values.
        sample_rate: Rate in Hz.
        path: The wav file, absolute; None where there is none. A model whose loader wants a path uses `file`.
    """

    samples: Tensor
    sample_rate: int
    path: Path | None = None

    @contextmanager
    def file(self) -> Iterator[Path]:
        """Yield the path of a wav file of this sound: the stored one, or a temporary one, deleted when the block ends."""
        if self.path is not None:
            yield self.path
            return
        import soundfile

        with tempfile.TemporaryDirectory(prefix="avsrobust-") as folder:
            path = Path(folder) / "sound.wav"
            stored = (self.samples * 32768).round().clamp(-32768, 32767).to(torch.int16).numpy()
            soundfile.write(path, stored, self.sample_rate, subtype="PCM_16")
            yield path


@dataclass(frozen=True)
class ClipView:
    """One clip under one condition, without the answer: for adapters with `needs_clips`. No labels, no targets.

    Inputs that are looked up per clip (first-stage masks, captions, features made elsewhere) depend on the sound, so they
    are looked up per condition: `avsrobust.adapters.clip_files.ClipFiles`. The view that `encode_frames` gets is of the
    picture alone: condition "", no level, draw 0, no sound.

    Attributes:
        dataset: Data set of the clip.
        split: Split of the clip.
        clip_id: Id of the clip, unique in its split.
        condition: Name of the condition; "" in `encode_frames`.
        level: Level in the condition's unit, or None.
        draw: Number of the draw, from 0.
        seed: Seed of the row; in `encode_frames` a number that follows from data set, split and clip.
        frames: Absolute paths of the T frames.
        sound: Absolute path of the wav file; None where the condition is rendered when it is read, and in `encode_frames`.
        num_frames: T.
        sample_rate: Native rate of the sound in Hz.
    """

    dataset: str
    split: str
    clip_id: str
    condition: str
    level: float | None
    draw: int
    seed: int
    frames: tuple[Path, ...]
    sound: Path | None
    num_frames: int
    sample_rate: int


@dataclass(frozen=True)
class Segmentation:
    """An answer of `segment` with the mask apart from the probabilities, and with further readouts of the model.

    IoU, FPR and every score at a protocol's threshold come from the mask; the best F of 255 thresholds and all else that
    sweeps a threshold comes from the probabilities.

    Attributes:
        probabilities: The output without a mask apart from it: probabilities or class ids [B, T, h, w], class logits
            [B, T, C, h, w].
        mask: The mask, of any size, resized to the nearest: bool [B, T, h, w], foreground; where these are
            classes, integers, class ids. None: the probabilities above 0.5, or the largest logits.
        readouts: Further answers by name (letters, digits, "_", ".", "-"), each a tensor as `probabilities` or a
            `Segmentation` of its own; each becomes a line of its own in reports. The same names in every call.
    """

    probabilities: Tensor
    mask: Tensor | None = None
    readouts: Mapping[str, Tensor | Segmentation] = field(default_factory=dict)


@dataclass(frozen=True)
class RowView:
    """One row, with its target, for adapters with `needs_rows`.

    For baselines and stored predictions only: a model that reads the target or the condition is given the answer. Reports
    mark whoever receives it as a baseline; models that must know the clip take a `ClipView`.

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


def sees_targets(adapter: object) -> bool:
    """Return whether an adapter receives the targets, so that reports mark it as a baseline.

    The adapter `predictions` takes rows for the size of their masks alone, and is not one.
    """
    reads_size_alone = type(adapter).__module__ == "avsrobust.adapters.predictions"
    return bool(getattr(adapter, "needs_rows", False)) and not reads_size_alone


def looks_at_frames(adapter: object) -> bool:
    """Return whether an adapter looks at the pictures (`Adapter.needs_frames`); the baselines and `predictions` do not."""
    return type(adapter).__module__ not in _BLIND and bool(getattr(adapter, "needs_frames", True))


class Adapter:
    """One AVS model behind the benchmark's interface. Subclass it, or write a class with the same members.

    Attributes:
        audio: Form of the audio that `segment` takes.
        needs_frames: `encode_frames` looks at the pictures. Where it does not, none is decoded, and it is called with a black
            pixel for each, uint8 [B, T, 3, 1, 1].
        needs_clips: `encode_frames` and `segment` are called with a further argument, a `ClipView` per clip.
        needs_seed: The model draws random numbers. Each call is about one clip, and torch's, numpy's and Python's global
            generators are seeded before it with the clip's seed (`ClipView.seed`), and put back after it.
        needs_rows: `segment_rows` is called instead of `segment`, with a `RowView` per clip; reports mark such adapters as
            baselines.
        device: Device that the model is on.
    """

    audio: ClassVar[AudioInput] = AudioInput.log_mel()
    needs_frames: ClassVar[bool] = True
    needs_clips: ClassVar[bool] = False
    needs_seed: ClassVar[bool] = False
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

    def segment(self, encoded: Any, audio: Any) -> Tensor | Segmentation:
        """Segment the clips under one condition; called once per condition.

        Args:
            encoded: The encoding that `encode_frames` returned; must stay unchanged.
            audio: Audio of the clips; shapes in the module's conventions.

        With `needs_clips` both methods take a sequence of B `ClipView` as their last argument.

        Returns:
            Probabilities or class ids [B, T, h, w], or class logits [B, T, C, h, w]; or a `Segmentation`.
        """
        raise NotImplementedError(f"{type(self).__name__} must define segment(encoded, audio)")

    def extras(self) -> Mapping[str, Tensor]:
        """Return further values of the last call of `segment`, which are stored with the scores.

        Returns:
            Finite floating-point values [B, T] by name. This default returns none.
        """
        return {}

    def segment_rows(self, encoded: Any, audio: Any, rows: Sequence[RowView]) -> Tensor | Segmentation:
        """Segment the clips under one condition, as `segment` does; called instead of it for adapters with `needs_rows`.

        Args:
            encoded: The encoding that `encode_frames` returned.
            audio: Audio of the clips.
            rows: Views of the B rows, in the order of the clips.
        """
        raise NotImplementedError(f"{type(self).__name__} sets needs_rows, so it must define segment_rows")
