from __future__ import annotations

from pathlib import Path

import pytest
import torch

from avsrobust.adapters.base import AudioInput
from avsrobust.manifest import load_manifest
from avsrobust.training.data import TrainingBuild, TrainingSet
from avsrobust.training.loading import TrainingBatches
from avsrobust.training.model import Batch
from avsrobust.training.recipe import DataPart, NegativesPart
from avsrobust.training.sampler import SampleIndex
from avsrobust.training.samples import collate

SIZE = 16
SOUNDS = {"log_mel": AudioInput.log_mel(), "waveform": AudioInput("waveform", 16000)}


@pytest.fixture(scope="module")
def builds(toy_builds: Path) -> list[TrainingBuild]:
    return [TrainingBuild(load_manifest(toy_builds / f"robust/{name}-seed42"), toy_builds) for name in ("s4", "ms3")]


def same(one: Batch, other: Batch) -> bool:
    mine, others = one.tensors(), other.tensors()
    return (
        one.seed == other.seed
        and mine.keys() == others.keys()
        and all(mine[name].dtype == others[name].dtype and torch.equal(mine[name], others[name]) for name in mine)
    )


@pytest.mark.parametrize("sees", [True, False])
@pytest.mark.parametrize("sound", SOUNDS)
@pytest.mark.parametrize("excerpt", ["frame", "clip"])
@pytest.mark.parametrize(("extra", "cache"), [(0, None), (2, None), (2, 0), (0, 1)])
def test_a_batch_is_its_samples_collated(
    builds: list[TrainingBuild], tmp_path: Path, sees: bool, sound: str, excerpt: str, extra: int, cache: int | None
) -> None:
    samples = TrainingSet(
        builds,
        DataPart(("s4", "ms3"), mirror=0.5, excerpt=excerpt, cache_mib=0 if cache == 0 else 2048),
        NegativesPart(0.3, ("offscreen", "silence", "noise"), extra=extra, weight=0.3),
        audio=SOUNDS[sound],
        image_size=SIZE,
        sees=sees,
    )
    if cache is not None:
        samples.decode_once(tmp_path / "pictures")
    indices = [SampleIndex(7 * number % len(samples), number // 5, (3, number)) for number in range(12)]
    batch = samples.read_batch(indices, seed=9)
    assert batch.frames.shape[1] == max(len(samples[index].frames) for index in indices)
    assert 0 < batch.positive.sum() < len(batch.positive)
    assert same(batch, collate([samples[index] for index in indices], seed=9))


def test_what_is_read_is_the_callers_own(builds: list[TrainingBuild], tmp_path: Path) -> None:
    samples = TrainingSet(
        builds, DataPart(("s4", "ms3"), mirror=0.0), NegativesPart(), audio=SOUNDS["log_mel"], image_size=SIZE
    )
    samples.decode_once(tmp_path / "pictures")
    indices = [SampleIndex(number, 0, (number,)) for number in range(3)]
    before = samples.read_batch(indices)
    for tensor in samples.read_batch(indices).tensors().values():
        tensor.zero_()
    assert before.audio.any()
    assert before.frames.any()
    assert same(before, samples.read_batch(indices))


@pytest.mark.parametrize("workers", [0, 2])
def test_loaders_yield_the_batches_in_order(builds: list[TrainingBuild], tmp_path: Path, workers: int) -> None:
    samples = TrainingSet(builds, DataPart(("s4", "ms3")), NegativesPart(0.3), audio=SOUNDS["log_mel"], image_size=SIZE)
    samples.decode_once(tmp_path / "pictures")
    indices = [[SampleIndex(number, 0, (number, part)) for number in range(2 + part)] for part in range(4)]
    found = list(TrainingBatches(samples, indices).loader(workers))
    assert len(found) == 4
    assert all(same(batch, samples.read_batch(part)) for batch, part in zip(found, indices, strict=True))
