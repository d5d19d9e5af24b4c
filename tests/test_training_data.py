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
from avsrobust.training.data import Source, TrainingSet, collate
from avsrobust.training.order import Slot
from avsrobust.training.recipe import DataPart, NegativesPart

SIZE = 32


@pytest.fixture(scope="module")
def sources(toy_builds: Path) -> list[Source]:
    return [Source(load_manifest(toy_builds / f"robust/{name}-seed42"), toy_builds) for name in ("s4", "ms3")]


def items(
    sources: list[Source],
    data: DataPart | None = None,
    negatives: NegativesPart | None = None,
    audio: AudioInput | None = None,
) -> TrainingSet:
    return TrainingSet(
        sources,
        data or DataPart(("s4", "ms3"), mirror=0.0),
        negatives or NegativesPart(),
        audio=audio or AudioInput.log_mel(),
        image_size=SIZE,
    )


def slots(count: int) -> Iterator[Slot]:
    return (Slot(item, 0, (item,)) for item in range(count))


def test_items_are_the_labelled_seconds(sources: list[Source]) -> None:
    training = items(sources)
    rows = [row for source in sources for row in source.manifest.select(["train"], ["clean"]).rows]
    assert len(training) == sum(mask is not None for row in rows for mask in row.masks)
    s4 = [row for row in rows if row.dataset == "s4"]
    assert training.datasets.count("s4") == len(s4)


def test_an_item_is_a_frame_its_second_of_sound_and_its_mask(sources: list[Source]) -> None:
    training = items(sources)
    row = sources[1].manifest.select(["train"], ["clean"]).rows[0]
    first = training.datasets.index("ms3")
    sample = training[Slot(first + 3, 0, (0,))]
    assert sample.frames.shape == (1, 3, SIZE, SIZE)
    assert sample.frames.dtype == torch.uint8
    mel = np.load(sources[1].manifest.log_mel_path(row))[row.log_mel_row]
    np.testing.assert_array_equal(sample.questions[0].audio.numpy(), mel[3:4])
    assert row.masks[3] is not None
    mask = read_mask(sources[1].data_root / row.masks[3], "ms3")
    # Resizing to the nearest pixel moves the share of the mask a little.
    assert float(sample.questions[0].target.float().mean()) == pytest.approx(float(np.mean(mask)), abs=0.02)


def test_mirroring_mirrors_both(sources: list[Source]) -> None:
    plain = items(sources)[Slot(2, 0, (7,))]
    mirrored = items(sources, DataPart(("s4", "ms3"), mirror=1.0))[Slot(2, 0, (7,))]
    assert torch.equal(mirrored.frames, plain.frames.flip(-1))
    assert torch.equal(mirrored.questions[0].target, plain.questions[0].target.flip(-1))
    assert not torch.equal(mirrored.frames, plain.frames)


def test_negatives_have_an_empty_target(sources: list[Source]) -> None:
    kinds = ("offscreen", "silence", "noise")
    training = items(sources, negatives=NegativesPart(1.0, kinds))
    samples = [training[slot] for slot in slots(len(training))]
    assert all(sample.questions[0].positive == 0 and not sample.questions[0].target.any() for sample in samples)
    clean = [items(sources)[slot] for slot in slots(len(training))]
    assert all(sample.questions[0].positive == 1 for sample in clean)
    assert any(sample.questions[0].target.any() for sample in clean)
    different = [
        not torch.equal(one.questions[0].audio, other.questions[0].audio)
        for one, other in zip(samples, clean, strict=True)
    ]
    assert all(different)


def test_what_is_heard(sources: list[Source]) -> None:
    clean = items(sources)
    row = sources[0].manifest.select(["train"], ["clean"]).rows[0]
    heard = clean[Slot(0, 0, (0,))].questions[0].heard
    assert heard.shape == (1, len(AVSS_CLASSES))
    assert heard.sum() == len(row.labels)
    silent = items(sources, negatives=NegativesPart(1.0, ("silence", "noise")))
    assert all(silent[slot].questions[0].heard.sum() == 0 for slot in slots(len(silent)))
    offscreen = items(sources, negatives=NegativesPart(1.0, ("offscreen",)))
    assert any(offscreen[slot].questions[0].heard.sum() > 0 for slot in slots(len(offscreen)))


def test_seconds_with_an_empty_mask_hear_nothing(sources: list[Source]) -> None:
    clean = items(sources)
    empty = [sample for sample in map(clean.__getitem__, slots(len(clean))) if not sample.questions[0].target.any()]
    assert empty
    assert all(sample.questions[0].heard.sum() == 0 for sample in empty)


def test_whole_clips(sources: list[Source]) -> None:
    training = items(sources, DataPart(("s4", "ms3"), excerpt="clip", mirror=0.0))
    clips = sum(len(source.manifest.select(["train"], ["clean"]).rows) for source in sources)
    assert len(training) == clips
    sample = training[Slot(0, 0, (0,))]
    assert sample.frames.shape == (5, 3, SIZE, SIZE)
    assert sample.scored.tolist() == [True, False, False, False, False]
    assert sample.questions[0].audio.shape == (5, 1, 96, 64)


def test_a_second_of_a_waveform(sources: list[Source]) -> None:
    whole = items(sources, DataPart(("s4", "ms3"), excerpt="clip", mirror=0.0), audio=AudioInput.waveform(8000))
    part = items(sources, audio=AudioInput.waveform(8000))
    clip = whole.datasets.index("ms3")
    first = part.datasets.index("ms3")
    assert torch.equal(
        part[Slot(first + 2, 0, (0,))].questions[0].audio, whole[Slot(clip, 0, (0,))].questions[0].audio[16000:24000]
    )


def test_the_cache_changes_nothing(sources: list[Source]) -> None:
    cached, not_cached = items(sources), items(sources, DataPart(("s4", "ms3"), mirror=0.0, cache_mib=0))
    for slot in [*slots(4), *slots(4)]:
        assert torch.equal(cached[slot].frames, not_cached[slot].frames)
        assert torch.equal(cached[slot].questions[0].target, not_cached[slot].questions[0].target)


def test_a_batch_is_filled_up_to_the_longest(sources: list[Source]) -> None:
    clip = items(sources, DataPart(("s4", "ms3"), excerpt="clip", mirror=0.0))[Slot(0, 0, (0,))]
    frame = items(sources)[Slot(1, 0, (0,))]
    batch = collate([clip, frame], seed=9)
    assert batch.frames.shape == (2, 5, 3, SIZE, SIZE)
    assert batch.scored.sum(dim=1).tolist() == [1, 1]
    assert not batch.frames[1, 1:].any()
    assert batch.scored_target.shape == (2, SIZE, SIZE)
    assert batch.per_scored_frame(batch.positive).tolist() == [1.0, 1.0]
    assert batch.seed == 9


def test_sounds_beside_ask_the_same_pictures(sources: list[Source]) -> None:
    part = NegativesPart(0.0, ("offscreen", "silence"), beside=2, weight=0.5)
    training = items(sources, negatives=part)
    batch = collate([training[slot] for slot in slots(3)])
    assert batch.frames.shape[0] == 3
    assert batch.picture.tolist() == [0, 1, 2, 0, 0, 1, 1, 2, 2]
    assert batch.positive.tolist() == [1, 1, 1, 0, 0, 0, 0, 0, 0]
    assert batch.weight.tolist() == [1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5]
    assert not batch.target[3:].any()
    assert batch.scored_picture.tolist() == batch.picture.tolist()


def test_scored_frames_find_their_picture(sources: list[Source]) -> None:
    whole = DataPart(("s4", "ms3"), excerpt="clip", mirror=0.0)
    training = items(sources, whole, NegativesPart(0.0, ("silence",), beside=1))
    s4, ms3 = 0, training.datasets.index("ms3")
    batch = collate([training[Slot(s4, 0, (0,))], training[Slot(ms3, 0, (0,))]])
    own = batch.frames[batch.scored[:2]]
    assert len(own) == 6
    assert batch.scored_picture.tolist() == [0, 1, 2, 3, 4, 5] * 2
    assert torch.equal(own[batch.scored_picture], batch.frames[batch.picture][batch.scored])
