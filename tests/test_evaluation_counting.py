"""Counts of a group on a device are those of its clips on the CPU, each by itself; both are those of the metrics."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from avsrobust.adapters.checked_output import CheckedOutput
from avsrobust.evaluation.batches import ClipGroup, LoadedClip
from avsrobust.evaluation.clip_data import ClipSample, Target, clips_of
from avsrobust.evaluation.counting import ClipCounter, FrameOutput
from avsrobust.evaluation.device_counting import GroupCounter, count_classes, device_counts
from avsrobust.evaluation.scored_clips import ScoredClip, scored_clip
from avsrobust.manifest import Manifest
from avsrobust.metrics.binary.counts import FIELDS, frame_statistics
from avsrobust.metrics.binary.thresholds import NUM_THRESHOLDS, thresholds
from avsrobust.metrics.semantic.counts import class_statistics, statistics_of_counts
from avsrobust.vocabulary import NUM_CLASSES

KINDS = ("probabilities", "binary", "ids", "logits", "masked", "masked ids")


def values_of(generator: np.random.Generator, shape: tuple[int, ...]) -> torch.Tensor:
    """Probabilities, many of which are thresholds, 0 and 1 among them."""
    random = generator.random(shape, dtype=np.float32)
    table = thresholds(NUM_THRESHOLDS)
    exact = generator.choice(np.concatenate([table, np.float32([0.4, 0, 0, 1, 1])]), shape)
    return torch.from_numpy(np.where(generator.random(shape) < 0.5, random, exact).astype(np.float32))


def output_of(kind: str, generator: np.random.Generator, shape: tuple[int, int, int, int]) -> CheckedOutput:
    def ids() -> torch.Tensor:
        return torch.from_numpy(generator.integers(0, NUM_CLASSES, shape, dtype=np.uint8))

    if kind == "binary":
        return CheckedOutput(torch.from_numpy(generator.integers(0, 2, shape).astype(np.float32)), {})
    if kind == "ids":
        return CheckedOutput(ids(), {})
    if kind == "masked ids":
        return CheckedOutput(ids(), {}, ids())
    if kind == "logits":
        clips, frames, height, width = shape
        logits = generator.normal(size=(clips, frames, NUM_CLASSES, height, width)).astype(np.float32)
        return CheckedOutput(torch.from_numpy(logits), {})
    mask = torch.from_numpy(generator.random(shape) < 0.5) if kind == "masked" else None
    return CheckedOutput(values_of(generator, shape), {}, mask)


def samples_of(build: Manifest, generator: np.random.Generator, clips: int, size: tuple[int, int]) -> list[ClipSample]:
    """Clips of two pictures and three masks, with as many annotated frames, but not the same ones."""
    rows = clips_of(build.rows)[0]
    frames = rows[0].num_frames
    counts = [int(generator.integers(1, frames + 1)) for _ in range(3)]
    picture_of = tuple(int(generator.integers(0, 2)) for _ in rows)
    target_of = tuple(int(generator.integers(0, 3)) for _ in rows)
    samples = []
    for number in range(clips):
        targets = []
        for count in counts:
            has_mask = np.zeros(frames, np.bool_)
            has_mask[generator.permutation(frames)[:count]] = True
            classes = torch.from_numpy(generator.integers(0, NUM_CLASSES, (frames, *size), dtype=np.uint8))
            targets.append(Target(classes > 40, torch.from_numpy(has_mask), classes))
        pictures = tuple(torch.zeros((frames, 3, 2, 2), dtype=torch.uint8) for _ in range(2))
        named = tuple(replace(row, clip_id=f"clip{number}") for row in rows)
        samples.append(ClipSample(named, pictures, tuple(targets), picture_of, target_of))
    return samples


def facts(clip: ScoredClip) -> list[Any]:
    classes = clip.classes
    return [
        clip.index,
        [np.asarray(getattr(clip.statistics, name)).tolist() for name in FIELDS],
        clip.overlaps,
        [table.to_pylist() for table in clip.masks],
        clip.extras,
        classes and [classes.num_frames, *(part.tolist() for part in (classes.frame, classes.class_id))],
        classes and [classes.intersection.tolist(), classes.predicted.tolist(), classes.target.tolist()],
    ]


@settings(deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    kind=st.sampled_from(KINDS),
    clips=st.integers(1, 3),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    inner=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    keep_masks=st.booleans(),
    as_foreground=st.booleans(),
)
def test_a_group_on_a_device_is_its_clips_on_the_cpu(
    tiny_build: Manifest,
    seed: int,
    kind: str,
    clips: int,
    size: tuple[int, int],
    inner: tuple[int, int],
    keep_masks: bool,
    as_foreground: bool,
) -> None:
    generator = np.random.default_rng(seed)
    samples = samples_of(tiny_build, generator, clips, size)
    group = ClipGroup.of([LoadedClip(sample, (torch.zeros(1),) * len(sample.rows)) for sample in samples])
    counter = GroupCounter(group, torch.device("cpu"), keep_masks=keep_masks)
    apart = [ClipCounter(sample, keep_masks=keep_masks) for sample in samples]
    frames = samples[0].rows[0].num_frames
    output = output_of(kind, generator, (clips, frames, *inner))
    for position in range(len(samples[0].rows)):
        # A model that does not listen answers the same again; on the CPU that is counted once.
        if generator.random() < 0.5:
            output = output_of(kind, generator, (clips, frames, *inner))
        extras = [{"loudness": generator.random(frames)} for _ in samples]
        counter.add(position, FrameOutput.of_batch(output, as_foreground=as_foreground), extras)
        for number, clip in enumerate(apart):
            clip.add(position, FrameOutput.of_clip(output, number, as_foreground=as_foreground), extras[number])
    counter.seal()
    together = [scored_clip(sample, rows) for sample, rows in zip(samples, counter.result(), strict=True)]
    alone = [scored_clip(sample, clip.rows) for sample, clip in zip(samples, apart, strict=True)]
    assert [facts(clip) for clip in together] == [facts(clip) for clip in alone]


@settings(deadline=None)
@given(seed=st.integers(0, 2**32 - 1), frames=st.integers(1, 4), at_once=st.sampled_from([1, 64, 1 << 24]))
def test_device_counts_are_the_metrics(seed: int, frames: int, at_once: int) -> None:
    generator = np.random.default_rng(seed)
    pred = values_of(generator, (frames, 7, 11))
    target = torch.from_numpy(generator.random((frames, 7, 11)) < 0.4)
    expected = frame_statistics(pred.numpy(), target.numpy())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("avsrobust.evaluation.device_counting._MOST_PIXELS", at_once)
        found = device_counts(pred, target).numpy()
    assert (found[:, :255] == expected.inside).all()
    assert (found[:, 255:510] == expected.outside).all()
    stored = (expected.tp_050, expected.fp_050, expected.tp_040, expected.fp_040)
    assert (found[:, 510:] == np.stack(stored, axis=1)).all()


@given(seed=st.integers(0, 2**32 - 1))
def test_classes_on_a_device_are_the_metrics(seed: int) -> None:
    generator = np.random.default_rng(seed)
    ids, truth = (generator.integers(0, NUM_CLASSES, (3, 6, 5)) for _ in range(2))
    found = statistics_of_counts(count_classes(torch.from_numpy(ids), torch.from_numpy(truth)).numpy())
    expected = class_statistics(ids, truth)
    for name in ("frame", "class_id", "intersection", "predicted", "target"):
        assert (getattr(found, name) == getattr(expected, name)).all(), name
