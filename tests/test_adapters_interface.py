"""Clips, native sound, masks apart, readouts and seeds: in process and through `worker`, from a build to the report."""

import random
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from avsrobust.adapters.base import Adapter, AudioInput, ClipView, NativeSound, Segmentation, sees_targets
from avsrobust.adapters.lookup import load_adapter
from avsrobust.adapters.randomness import DropoutWatch, seeded
from avsrobust.errors import AdapterError, AdapterOutputError, OptionError
from avsrobust.evaluation.runner import evaluate
from avsrobust.manifest import Manifest
from avsrobust.reporting.loading import load_result, load_results
from avsrobust.reporting.report import report
from avsrobust.results import read_run, read_scores
from avsrobust.toy.build import toy_build

CPU = torch.device("cpu")
PYTHON = f"'{sys.executable}'"
FIRST = Path(__file__).parent / "golden/avsrobust_worker_protocol_1.py.txt"


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return toy_build(tmp_path_factory.mktemp("toy"))


class Looking(Adapter):
    """Answers by clip, keeps what it was given, and returns a mask apart and two readouts."""

    audio = AudioInput.native()
    needs_clips = True

    def __init__(self) -> None:
        self.seen: list[tuple[ClipView, NativeSound]] = []
        self.pictures: list[ClipView] = []

    def encode_frames(self, frames, clips):
        self.pictures += clips
        return frames[:, :, 0].float() / 255

    def segment(self, encoded, audio, clips):
        self.seen += zip(clips, audio, strict=True)
        shift = torch.tensor([(clip.seed % 7) / 20 for clip in clips])[:, None, None, None]
        probabilities = (encoded * 0.5 + shift).clamp(0, 1)
        return Segmentation(
            probabilities,
            mask=probabilities > 0.3,
            readouts={"second": 1 - probabilities, "third": Segmentation(probabilities, probabilities > 0.2)},
        )
