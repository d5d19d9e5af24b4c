from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from avsrobust.adapters.base import Adapter, AudioInput, ClipView, Segmentation
from avsrobust.adapters.clip_files import ClipFiles, OpenedFiles, without_condition
from avsrobust.errors import AdapterError, ClipError
from avsrobust.manifest import Manifest
from avsrobust.testing import AdapterCheck, check_adapter


def view(condition: str = "silence", level: float | None = None, draw: int = 0) -> ClipView:
    return ClipView("s4", "test", "group/clip0", condition, level, draw, 1, (), None, 5, 16_000)


def test_files_are_found_per_condition_level_and_draw(tmp_path: Path) -> None:
    for name in ("clean/clip0.npy", "silence/group/clip0.npy", "mixture/-5/clip0.npy", "noise/draw2/clip0.npy"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    files = ClipFiles(tmp_path)
    assert files.path(view("clean")) == tmp_path / "clean/clip0.npy"
    assert files.path(view("silence")) == tmp_path / "silence/group/clip0.npy"
    assert files.path(view("mixture", -5.0)) == tmp_path / "mixture/-5/clip0.npy"
    assert files.path(view("noise", draw=2)) == tmp_path / "noise/draw2/clip0.npy"
    with pytest.raises(
        ClipError, match=r"offscreen/group/clip0.npy: not found; expected what was made of this clip's sound"
    ):
        files.path(view("offscreen"))
    with pytest.raises(AdapterError, match="looked up in encode_frames, which is called once for all conditions"):
        files.path(view(""))
    with pytest.raises(AdapterError, match="not found; expected a folder of one folder per condition"):
        ClipFiles(tmp_path / "none")


def test_opened_files_are_recorded_and_judged(tmp_path: Path) -> None:
    np.save(tmp_path / "clip0.npy", np.zeros(1))
    with OpenedFiles() as opened:
        np.load(tmp_path / "clip0.npy")
    np.load(tmp_path / "clip0.npy")
    assert opened.paths == [str(tmp_path / "clip0.npy")]
    assert without_condition(opened.paths, view("silence")) == opened.paths
    assert without_condition(opened.paths, view("clean")) == []
    assert without_condition(["/x/silence/clip0.npy", "/weights.pt"], view("silence")) == []


class FirstStage(Adapter):
    """Multiplies first-stage masks, which lie under `folder`, in."""

    needs_clips = True

    def __init__(self, folder: Path, by_condition: bool) -> None:
        self._folder = folder
        self._files = ClipFiles(folder) if by_condition else None

    def encode_frames(self, frames: Tensor, clips: Sequence[ClipView] = ()) -> Tensor:
        return frames[:, :, 0].float() / 255

    def segment(self, encoded: Tensor, audio: Any, clips: Sequence[ClipView] = ()) -> Tensor:
        names = [
            self._files.path(clip) if self._files else self._folder / "clean" / f"{Path(clip.clip_id).name}.npy"
            for clip in clips
        ]
        return encoded * torch.from_numpy(np.stack([np.load(name) for name in names]))[..., None, None]


def checked(model: Adapter, **choices: Any) -> AdapterCheck:
    check = check_adapter(model, **choices)
    assert check.passed, str(check)
    return check


@pytest.mark.parametrize("by_condition", [True, False])
def test_check_adapter_warns_of_a_clean_file_under_a_negative(
    tiny_build: Manifest, tmp_path: Path, by_condition: bool
) -> None:
    for condition in ("clean", "noise", "offscreen", "silence"):
        (tmp_path / condition).mkdir()
        # Of the first clip alone, one value per frame.
        np.save(tmp_path / condition / "clip0.npy", np.full(len(tiny_build.rows[0].frames), 0.5, np.float32))
    check = checked(FirstStage(tmp_path, by_condition), build=tiny_build)
    assert bool(check.warnings) is not by_condition
    if check.warnings:
        assert "clean/clip0.npy is read under 'noise'" in check.warnings[0].message
        assert "WARNING  files looked up per clip are looked up per condition" in str(check)


class Reading(Adapter):
    """Opens the files that its views name."""

    audio = AudioInput.native()
    needs_clips = True

    def encode_frames(self, frames: Tensor, clips: Sequence[ClipView] = ()) -> Tensor:
        from PIL import Image

        for clip, of_clip in zip(clips, frames, strict=True):
            picture = np.asarray(Image.open(clip.frames[0]))
            assert np.array_equal(picture, of_clip[0].permute(1, 2, 0).numpy())
        return frames[:, :, 0].float() / 255

    def segment(self, encoded: Tensor, audio: Any, clips: Sequence[ClipView] = ()) -> Segmentation:
        assert all(sound.path == clip.sound for sound, clip in zip(audio, clips, strict=True))
        loud = torch.stack([sound.samples.abs().mean() for sound in audio])[:, None, None, None]
        return Segmentation(encoded * loud, encoded > 0.5, {"other": encoded})


def test_check_adapter_makes_files_of_its_random_clips() -> None:
    assert not checked(Reading()).warnings


class Seeded(Adapter):
    audio = AudioInput.waveform(8000, mono=False)
    needs_seed = True

    def __init__(self, dropout: float = 0.0) -> None:
        self._dropout = dropout

    def segment(self, encoded: Tensor, audio: Tensor) -> Tensor:
        assert audio.shape[1:] == (2, 8000 * encoded.shape[1])
        values = torch.rand(encoded[:, :, 0].shape)
        return torch.nn.functional.dropout(values, self._dropout).clamp(0, 1)


def test_check_adapter_seeds_and_still_finds_dropout() -> None:
    checked(Seeded())
    check = check_adapter(Seeded(0.3))
    assert [failure.name for failure in check.failures] == ["no dropout is left on"]
    assert "it calls dropout with p=0.3" in check.failures[0].message


class Overwriting(Adapter):
    """Returns readouts that show its own buffer."""

    def __init__(self) -> None:
        self._buffer = torch.zeros(1)

    def segment(self, encoded: Tensor, audio: Tensor) -> Segmentation:
        values = (encoded[:, :, 0].float() / 255 + audio.mean().sigmoid()) / 2
        if self._buffer.shape != values.shape:
            self._buffer = torch.zeros_like(values)
        self._buffer.copy_(values)
        return Segmentation(values.clone(), None, {"late": self._buffer})


def test_readouts_are_checked_too() -> None:
    check = check_adapter(Overwriting())
    assert "a returned tensor is not overwritten by a later call" in [failure.name for failure in check.failures]
