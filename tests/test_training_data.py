from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from avsrobust.adapters.base import AudioInput
from avsrobust.datasets.masks import read_mask
from avsrobust.datasets.taxonomy import AVSS_CLASSES
from avsrobust.manifest import load_manifest
from avsrobust.training.data import TrainingBuild, TrainingSet, collate
from avsrobust.training.recipe import DataPart, NegativesPart
from avsrobust.training.sampler import SampleIndex

SIZE = 32


@pytest.fixture(scope="module")
def builds(toy_builds: Path) -> list[TrainingBuild]:
    return [TrainingBuild(load_manifest(toy_builds / f"robust/{name}-seed42"), toy_builds) for name in ("s4", "ms3")]


def training_set(
    builds: list[TrainingBuild],
    data: DataPart | None = None,
    negatives: NegativesPart | None = None,
    audio: AudioInput | None = None,
) -> TrainingSet:
    return TrainingSet(
        builds,
        data or DataPart(("s4", "ms3"), mirror=0.0),
        negatives or NegativesPart(),
        audio=audio or AudioInput.log_mel(),
        image_size=SIZE,
    )


def indices(count: int) -> Iterator[SampleIndex]:
    return (SampleIndex(sample, 0, (sample,)) for sample in range(count))


def test_samples_are_the_labelled_seconds(builds: list[TrainingBuild]) -> None:
    training = training_set(builds)
    rows = [row for build in builds for row in build.manifest.select(["train"], ["clean"]).rows]
    assert len(training) == sum(mask is not None for row in rows for mask in row.masks)
    s4 = [row for row in rows if row.dataset == "s4"]
    assert training.datasets.count("s4") == len(s4)


def test_a_sample_is_a_frame_its_second_of_sound_and_its_mask(builds: list[TrainingBuild]) -> None:
    training = training_set(builds)
    row = builds[1].manifest.select(["train"], ["clean"]).rows[0]
    first = training.datasets.index("ms3")
    sample = training[SampleIndex(first + 3, 0, (0,))]
    assert sample.frames.shape == (1, 3, SIZE, SIZE)
    assert sample.frames.dtype == torch.uint8
    mel = np.load(builds[1].manifest.log_mel_path(row))[row.log_mel_row]
    np.testing.assert_array_equal(sample.queries[0].audio.numpy(), mel[3:4])
    assert row.masks[3] is not None
    mask = read_mask(builds[1].data_root / row.masks[3], "ms3")
    # Resizing to the nearest pixel moves the share of the mask a little.
    assert float(sample.queries[0].target.float().mean()) == pytest.approx(float(np.mean(mask)), abs=0.02)


def test_mirroring_mirrors_both(builds: list[TrainingBuild]) -> None:
    plain = training_set(builds)[SampleIndex(2, 0, (7,))]
    mirrored = training_set(builds, DataPart(("s4", "ms3"), mirror=1.0))[SampleIndex(2, 0, (7,))]
    assert torch.equal(mirrored.frames, plain.frames.flip(-1))
    assert torch.equal(mirrored.queries[0].target, plain.queries[0].target.flip(-1))
    assert not torch.equal(mirrored.frames, plain.frames)


def test_negatives_have_an_empty_target(builds: list[TrainingBuild]) -> None:
    kinds = ("offscreen", "silence", "noise")
    training = training_set(builds, negatives=NegativesPart(1.0, kinds))
    samples = [training[index] for index in indices(len(training))]
    assert all(sample.queries[0].positive == 0 and not sample.queries[0].target.any() for sample in samples)
    clean = [training_set(builds)[index] for index in indices(len(training))]
    assert all(sample.queries[0].positive == 1 for sample in clean)
    assert any(sample.queries[0].target.any() for sample in clean)
    different = [
        not torch.equal(one.queries[0].audio, other.queries[0].audio) for one, other in zip(samples, clean, strict=True)
    ]
    assert all(different)


def test_audio_labels(builds: list[TrainingBuild]) -> None:
    clean = training_set(builds)
    row = builds[0].manifest.select(["train"], ["clean"]).rows[0]
    audio_labels = clean[SampleIndex(0, 0, (0,))].queries[0].audio_labels
    assert audio_labels.shape == (1, len(AVSS_CLASSES))
    assert audio_labels.sum() == len(row.labels)
    silent = training_set(builds, negatives=NegativesPart(1.0, ("silence", "noise")))
    assert all(silent[index].queries[0].audio_labels.sum() == 0 for index in indices(len(silent)))
    offscreen = training_set(builds, negatives=NegativesPart(1.0, ("offscreen",)))
    assert any(offscreen[index].queries[0].audio_labels.sum() > 0 for index in indices(len(offscreen)))


def test_seconds_with_an_empty_mask_have_no_audio_labels(builds: list[TrainingBuild]) -> None:
    clean = training_set(builds)
    empty = [sample for sample in map(clean.__getitem__, indices(len(clean))) if not sample.queries[0].target.any()]
    assert empty
    assert all(sample.queries[0].audio_labels.sum() == 0 for sample in empty)


def test_whole_clips(builds: list[TrainingBuild]) -> None:
    training = training_set(builds, DataPart(("s4", "ms3"), excerpt="clip", mirror=0.0))
    clips = sum(len(build.manifest.select(["train"], ["clean"]).rows) for build in builds)
    assert len(training) == clips
    sample = training[SampleIndex(0, 0, (0,))]
    assert sample.frames.shape == (5, 3, SIZE, SIZE)
    assert sample.scored.tolist() == [True, False, False, False, False]
    assert sample.queries[0].audio.shape == (5, 1, 96, 64)


def test_a_second_of_a_waveform(builds: list[TrainingBuild]) -> None:
    whole = training_set(builds, DataPart(("s4", "ms3"), excerpt="clip", mirror=0.0), audio=AudioInput.waveform(8000))
    part = training_set(builds, audio=AudioInput.waveform(8000))
    clip = whole.datasets.index("ms3")
    first = part.datasets.index("ms3")
    assert torch.equal(
        part[SampleIndex(first + 2, 0, (0,))].queries[0].audio,
        whole[SampleIndex(clip, 0, (0,))].queries[0].audio[16000:24000],
    )


def test_the_cache_changes_nothing(builds: list[TrainingBuild]) -> None:
    cached, not_cached = training_set(builds), training_set(builds, DataPart(("s4", "ms3"), mirror=0.0, cache_mib=0))
    for index in [*indices(4), *indices(4)]:
        assert torch.equal(cached[index].frames, not_cached[index].frames)
        assert torch.equal(cached[index].queries[0].target, not_cached[index].queries[0].target)


def test_a_batch_is_filled_up_to_the_longest(builds: list[TrainingBuild]) -> None:
    clip = training_set(builds, DataPart(("s4", "ms3"), excerpt="clip", mirror=0.0))[SampleIndex(0, 0, (0,))]
    frame = training_set(builds)[SampleIndex(1, 0, (0,))]
    batch = collate([clip, frame], seed=9)
    assert batch.frames.shape == (2, 5, 3, SIZE, SIZE)
    assert batch.scored.sum(dim=1).tolist() == [1, 1]
    assert not batch.frames[1, 1:].any()
    assert batch.scored_target.shape == (2, SIZE, SIZE)
    assert batch.per_scored_frame(batch.positive).tolist() == [1.0, 1.0]
    assert batch.seed == 9


def test_extra_queries_share_the_same_pictures(builds: list[TrainingBuild]) -> None:
    part = NegativesPart(0.0, ("offscreen", "silence"), extra=2, weight=0.5)
    training = training_set(builds, negatives=part)
    batch = collate([training[index] for index in indices(3)])
    assert batch.frames.shape[0] == 3
    assert batch.picture.tolist() == [0, 1, 2, 0, 0, 1, 1, 2, 2]
    assert batch.positive.tolist() == [1, 1, 1, 0, 0, 0, 0, 0, 0]
    assert batch.weight.tolist() == [1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5]
    assert not batch.target[3:].any()
    assert batch.scored_picture.tolist() == batch.picture.tolist()


def test_scored_frames_find_their_picture(builds: list[TrainingBuild]) -> None:
    whole = DataPart(("s4", "ms3"), excerpt="clip", mirror=0.0)
    training = training_set(builds, whole, NegativesPart(0.0, ("silence",), extra=1))
    s4, ms3 = 0, training.datasets.index("ms3")
    batch = collate([training[SampleIndex(s4, 0, (0,))], training[SampleIndex(ms3, 0, (0,))]])
    own = batch.frames[batch.scored[:2]]
    assert len(own) == 6
    assert batch.scored_picture.tolist() == [0, 1, 2, 3, 4, 5] * 2
    assert torch.equal(own[batch.scored_picture], batch.frames[batch.picture][batch.scored])
