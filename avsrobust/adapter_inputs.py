"""Inputs for the contract test of adapters: random frames, audio and clips, or a clip of a build.

Conventions
    Inputs follow from their seed. Adapters with `needs_clips` get views of random clips, whose frames and sounds lie in files of
    a temporary folder; ones that look up further files per clip need a clip of a build (`RealClip`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from avsrobust.adapters.base import AudioInput, ClipView, NativeSound, RowView
from avsrobust.adapters.calling import Audio
from avsrobust.audio.front_ends import BANDS, STEPS
from avsrobust.audio.vggish import EMBEDDING_SIZE
from avsrobust.errors import ManifestError
from avsrobust.vocabulary import CLEAN, NEGATIVE, POSITIVE

if TYPE_CHECKING:
    from avsrobust.manifest import Manifest, Row

# In Hz, of the sounds of random clips.
_NATIVE_RATE = 16_000


@dataclass(frozen=True)
class RealClip:
    """A clip of a build under clean sound and under a negative.

    Attributes:
        clean: View of the row of clean sound.
        negative: View of the row of a negative.
    """

    clean: ClipView
    negative: ClipView

    @classmethod
    def of(cls, build: Manifest | Path | str) -> RealClip:
        """Return the first clip of a build that has both rows. Raises `ManifestError`."""
        from avsrobust.evaluation.clip_views import ClipViewer
        from avsrobust.manifest import Manifest, load_manifest

        manifest = build if isinstance(build, Manifest) else load_manifest(build)
        viewer = ClipViewer(manifest, manifest.data_root())
        clean: dict[tuple[str, str], Row] = {}
        for row in sorted(manifest.rows, key=lambda row: (row.split != "test", row.condition != CLEAN)):
            if row.condition == CLEAN:
                clean[row.split, row.clip_id] = row
            elif row.polarity == NEGATIVE and (row.split, row.clip_id) in clean:
                return cls(viewer.of_row(clean[row.split, row.clip_id]), viewer.of_row(row))
        raise ManifestError(f"{manifest.path}: has no clip under both {CLEAN} and a negative; name a build that has")


@dataclass(frozen=True)
class Inputs:
    """Frames, audio, rows and views of B random clips.

    Attributes:
        frames: Uint8 [B, T, 3, H, W].
        audio: Audio in the adapter's form.
        rows: Views of the rows, for adapters that see targets.
        clips: Views of the clips, for adapters that look up files.
    """

    frames: Tensor
    audio: Audio
    rows: tuple[RowView, ...]
    clips: tuple[ClipView, ...]

    def clip(self, index: int) -> Inputs:
        """Return the inputs of one clip."""
        return Inputs(
            self.frames[index, None], self.audio[index : index + 1], (self.rows[index],), (self.clips[index],)
        )

    def copy(self) -> Inputs:
        """Return the inputs with tensors of their own."""
        return replace(self, frames=self.frames.clone(), audio=_copy(self.audio))

    def with_sound_of(self, other: Inputs) -> Inputs:
        """Return the inputs with the audio of other ones."""
        clips = zip(self.clips, other.clips, strict=True)
        return replace(self, audio=other.audio, clips=tuple(replace(clip, sound=of.sound) for clip, of in clips))

    def pictures(self) -> list[ClipView]:
        """Return the views of the pictures alone, as `encode_frames` gets them."""
        return [replace(clip, condition="", level=None, draw=0, sound=None) for clip in self.clips]


def _copy(audio: Audio) -> Audio:
    if isinstance(audio, Tensor):
        return audio.clone()
    return [replace(sound, samples=sound.samples.clone()) for sound in audio]


def samples_of(audio: Audio) -> list[Tensor]:
    """Return the tensors of an adapter's audio."""
    return [audio] if isinstance(audio, Tensor) else [sound.samples for sound in audio]


class InputMaker:
    """Makes random inputs for one adapter.

    Args:
        audio: The audio that the adapter takes.
        device: The device that frames and audio go to.
        folder: A folder for files of frames and sounds.
        looks_up: Whether the adapter looks at the clips' files (`needs_clips`).
        real: A clip whose view takes the place of theirs; None: all are random.
    """

    def __init__(
        self, audio: AudioInput, device: torch.device, folder: Path, *, looks_up: bool, real: RealClip | None = None
    ) -> None:
        self._audio = audio
        self._device = device
        self._folder = folder
        self._looks_up = looks_up
        self._real = real
        self._made = 0

    def make(self, seed: int, *, batch: int, num_frames: int, size: tuple[int, int]) -> Inputs:
        """Return the inputs of a seed.

        Args:
            seed: The seed.
            batch: Number of clips.
            num_frames: Frames of each clip.
            size: Height and width of the frames.
        """
        generator = torch.Generator().manual_seed(seed)
        frames = torch.randint(0, 256, (batch, num_frames, 3, *size), dtype=torch.uint8, generator=generator)
        # Darker, so that a mean over the batch is another than that of each clip.
        frames[1::2] //= 3
        sounds = [self._make_native(num_frames, generator) for _ in range(batch)] if self._needs_sounds() else []
        audio: Audio = sounds if self._audio.kind == "native" else self._make_sound(batch, num_frames, generator)
        target = torch.rand((batch, num_frames, *size), generator=generator) > 0.5
        rows = tuple(_row(index, seed, clip_target) for index, clip_target in enumerate(target))
        clips = tuple(
            self._make_clip(index, seed, frames[index], sounds[index] if sounds else None) for index in range(batch)
        )
        given = audio.to(self._device) if isinstance(audio, Tensor) else audio
        return Inputs(frames.to(self._device), given, rows, clips)

    def _needs_sounds(self) -> bool:
        return self._audio.kind == "native" or self._looks_up

    def _make_native(self, num_frames: int, generator: torch.Generator) -> NativeSound:
        """Return a random stereo sound that lies in a file."""
        import soundfile

        samples = torch.randint(-9000, 9000, (num_frames * _NATIVE_RATE, 2), dtype=torch.int16, generator=generator)
        path = self._folder / f"{self._made}.wav"
        self._made += 1
        soundfile.write(path, samples.numpy(), _NATIVE_RATE, subtype="PCM_16")
        return NativeSound(samples.to(torch.float32) / 32768, _NATIVE_RATE, path)

    def _make_clip(self, index: int, seed: int, frames: Tensor, sound: NativeSound | None) -> ClipView:
        """Return the view of a random clip, whose files are there if the adapter looks at clips."""
        if self._real is not None:
            return replace(self._real.clean, seed=seed + index)
        paths = self._write_frames(frames) if self._looks_up else ()
        path = None if sound is None else sound.path
        return ClipView(
            "avss", "test", f"clip{index}", CLEAN, None, 0, seed + index, paths, path, len(frames), _NATIVE_RATE
        )

    def _write_frames(self, frames: Tensor) -> tuple[Path, ...]:
        from PIL import Image

        paths = []
        for frame in frames:
            paths.append(self._folder / f"{self._made}.png")
            self._made += 1
            Image.fromarray(np.ascontiguousarray(frame.permute(1, 2, 0).numpy())).save(paths[-1], compress_level=1)
        return tuple(paths)

    def _make_sound(self, batch: int, num_frames: int, generator: torch.Generator) -> Tensor:
        if self._audio.kind == "waveform":
            samples = num_frames * (self._audio.sample_rate or 0)
            shape = (batch, samples) if self._audio.mono else (batch, 2, samples)
            return torch.rand(shape, generator=generator) * 2 - 1
        if self._audio.kind == "embedding":
            # VGGish's embeddings come after a ReLU.
            return torch.randn((batch, num_frames, EMBEDDING_SIZE), generator=generator).clamp(min=0)
        return torch.randn((batch, num_frames, 1, STEPS, BANDS), generator=generator)


def _row(index: int, seed: int, target: Tensor) -> RowView:
    return RowView(
        dataset="avss",
        split="test",
        clip_id=f"clip{index}",
        condition=CLEAN,
        polarity=POSITIVE,
        level=None,
        seed=seed,
        target=target,
        has_mask=torch.ones(len(target), dtype=torch.bool),
        # Any class but background will do.
        classes=target.to(torch.uint8),
    )
