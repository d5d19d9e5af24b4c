"""The one loop that scores clips, as validation in training uses it; evaluation's use is in test_evaluation_runner."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from avsrobust.adapters.base import Adapter, AudioInput
from avsrobust.adapters.calling import AdapterCaller
from avsrobust.errors import AdapterError, ClipError, DataSetError
from avsrobust.evaluation.batches import load_batch, plan_batches
from avsrobust.evaluation.clip_data import clips_of
from avsrobust.evaluation.scoring import ScoredClip, score_clips
from avsrobust.evaluation.sound import SoundReader
from avsrobust.manifest import Manifest
from avsrobust.results import FailedClip


class Logits(Adapter):
    """Three classes, of which each pixel's grey value chooses one."""

    def encode_frames(self, frames: Tensor) -> Any:
        return frames.float().mean(2) / 255

    def segment(self, encoded: Any, audio: Tensor) -> Tensor:
        grey = encoded[:, :, None]
        return torch.cat([0.6 - grey, grey - 0.2, 0.5 * grey], dim=2)


class Foreground(Logits):
    """The same, reduced by itself to the foreground."""

    def segment(self, encoded: Any, audio: Tensor) -> Tensor:
        return (super().segment(encoded, audio).argmax(dim=2) != 0).float()


class FailsOn(Logits):
    def __init__(self, call: int, error: type[Exception]) -> None:
        self._left = call
        self._error = error

    def segment(self, encoded: Any, audio: Tensor) -> Tensor:
        self._left -= 1
        if self._left == 0:
            raise self._error("broken")
        return super().segment(encoded, audio)


def score(build: Manifest, adapter: Adapter, batch_size: int = 1, **choices: Any) -> list[ScoredClip | FailedClip]:
    root = build.data_root()
    sounds = SoundReader(build, root, AudioInput.log_mel())
    batches = plan_batches(clips_of(build.rows), build, root, batch_size)
    caller = AdapterCaller(adapter, "model", torch.device("cpu"))
    return list(score_clips(caller, batches, lambda batch: load_batch(batch, build, root, sounds), **choices))


def numbers(outcomes: Sequence[ScoredClip | FailedClip]) -> list[list[Any]]:
    assert all(isinstance(outcome, ScoredClip) for outcome in outcomes)
    clips = sorted((clip for clip in outcomes if isinstance(clip, ScoredClip)), key=lambda clip: clip.clip_id)
    return [
        [clip.clip_id, clip.index, *(np.asarray(part).tolist() for part in vars(clip.statistics).values())]
        for clip in clips
    ]


def test_batches_do_not_matter(tiny_build: Manifest) -> None:
    assert numbers(score(tiny_build, Logits())) == numbers(score(tiny_build, Logits(), 3))


def test_classes_are_scored_as_foreground_by_their_largest(tiny_build: Manifest) -> None:
    reduced = score(tiny_build, Logits(), as_foreground=True)
    assert numbers(reduced) == numbers(score(tiny_build, Foreground()))
    assert numbers(reduced) != numbers(score(tiny_build, Logits()))


def test_a_failure_is_listed_or_raised(tiny_build: Manifest) -> None:
    outcomes = score(tiny_build, FailsOn(6, ValueError))
    assert [type(outcome).__name__ for outcome in outcomes].count("FailedClip") == 1
    with pytest.raises(AdapterError, match="model: segment raised ValueError: broken"):
        score(tiny_build, FailsOn(6, ValueError), keep_going=False)


def test_until_one_clip_is_scored_only_a_clips_own_failure_is_listed(tiny_build: Manifest) -> None:
    with pytest.raises(AdapterError, match="broken"):
        score(tiny_build, FailsOn(1, ValueError))
    for adapter, choices in ((FailsOn(1, ClipError), {}), (FailsOn(1, ValueError), {"any_scored": True})):
        assert isinstance(score(tiny_build, adapter, **choices)[0], FailedClip)


def test_a_clip_that_cannot_be_read_is_listed_or_raised(make_build) -> None:
    build = make_build(clips=2)
    root = build.data_root()
    (root / build.rows[0].frames[0]).write_bytes(b"damaged")
    first, second = score(build, Logits())
    assert isinstance(first, FailedClip)
    assert isinstance(second, ScoredClip)
    with pytest.raises(DataSetError, match=rf"{first.split}/{first.clip_id}: "):
        score(build, Logits(), keep_going=False)
