"""Draws, batches, ceilings and the extra scores against a second implementation: plain loops over clips and frames, on pixels.

It shares no code with the package but the table of thresholds, which is checked against torch elsewhere.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avsrobust.metrics import (
    PROTOCOLS,
    SEMANTIC_PROTOCOLS,
    ClassStatistics,
    ScoredFrames,
    activation_scores,
    area_auroc,
    ceiling_score,
    class_statistics,
    concatenate,
    concatenate_classes,
    dataset_score,
    find_protocol,
    frame_statistics,
    interactive_iou,
    level_curves,
    natural_negatives,
    semantic_ceiling_scores,
    semantic_scores,
    threshold_curve,
)
from avsrobust.metrics.binary.thresholds import thresholds

TABLE = thresholds()
NONE = np.nan
NEGATIVE = ("silence", "noise", "offscreen", "matched_noise", "unseen")
FOUR = tuple((name, NONE, 1) for name in ("clean", "silence", "noise", "offscreen"))
EXACT = 1e-12
seeds = st.integers(0, 10**6)


@dataclass(frozen=True)
class Pixels:
    """One frame: its keys, probabilities [H, W] and target [H, W]; of classes, ids of both."""

    clip: int
    condition: str
    frame: int
    pred: np.ndarray
    target: np.ndarray
    level: float = np.nan
    draw: int = 0
    pred_ids: np.ndarray | None = None
    target_ids: np.ndarray | None = None

    @property
    def mask(self) -> np.ndarray:
        return self.pred > np.float32(0.5)

    @property
    def is_negative(self) -> bool:
        return self.condition in NEGATIVE


def scored(frames: Sequence[Pixels]) -> ScoredFrames:
    """The frames as the package reads them."""
    return ScoredFrames(
        concatenate([frame_statistics(frame.pred[None], frame.target[None]) for frame in frames]),
        np.array([frame.clip for frame in frames]),
        np.array([frame.condition for frame in frames], dtype=np.str_),
        np.array([frame.is_negative for frame in frames], dtype=np.bool_),
        np.array([frame.level for frame in frames]),
        np.array([frame.draw for frame in frames]),
        np.array([frame.frame for frame in frames]),
    )


def classes_of(frames: Sequence[Pixels]) -> ClassStatistics:
    """Their classes."""
    return concatenate_classes([class_statistics(frame.pred_ids[None], frame.target_ids[None]) for frame in frames])


def random_frames(
    seed: int,
    rows: Sequence[tuple[str, float, int]] = (("clean", np.nan, 1), ("silence", np.nan, 1)),
    clips: int = 3,
    per_clip: int = 2,
    size: tuple[int, int] = (4, 5),
    empty: float = 0.2,
) -> list[Pixels]:
    """Frames of every clip under each (condition, level, draws); one target per clip and frame, some of them empty."""
    generator = np.random.default_rng(seed)
    targets = generator.random((clips, per_clip, *size)) < 0.4
    targets[generator.random((clips, per_clip)) < empty] = False
    frames = []
    for condition, level, draws in rows:
        for draw in range(draws):
            for clip in range(clips):
                for frame in range(per_clip):
                    # Some maps are empty, so that counts of nothing occur.
                    pred = generator.random(size).astype(np.float32) * np.float32(generator.choice([0.3, 1.0]))
                    frames.append(Pixels(clip, condition, frame, pred, targets[clip, frame], level, draw))
    generator.shuffle(frames)  # type: ignore[arg-type]
    return frames


def of(frames: Sequence[Pixels], condition: str, level: float = NONE) -> list[Pixels]:
    return [
        f for f in frames if f.condition == condition and (f.level == level or (np.isnan(level) and np.isnan(f.level)))
    ]


def mean_over_clips(frames: Sequence[Pixels], value: object) -> float:
    """Mean over clips of the mean over their draws of `value(frames of one draw)`."""
    per_clip = []
    for clip in sorted({frame.clip for frame in frames}):
        own = [frame for frame in frames if frame.clip == clip]
        draws = sorted({frame.draw for frame in own})
        per_clip.append(fmean(value([frame for frame in own if frame.draw == draw]) for draw in draws))  # type: ignore[operator]
    return fmean(per_clip)


def slow_iou(frame: Pixels) -> float:
    if not frame.target.any():
        return float((~frame.mask).mean())
    return float((frame.mask & frame.target).sum() / (frame.mask | frame.target).sum())


def slow_f(mask: np.ndarray, target: np.ndarray) -> float:
    hits = (mask & target).sum()
    if hits == 0:
        return 0.0
    precision, recall = hits / mask.sum(), hits / target.sum()
    return float(1.3 * precision * recall / (0.3 * precision + recall))


def slow_best_f(frames: Sequence[Pixels]) -> float:
    visible = [frame for frame in frames if frame.target.any()]
    if not visible:
        return 0.0
    return max(fmean(slow_f(frame.pred >= t, frame.target) for frame in visible) for t in TABLE)


# Draws: averaged per clip before anything else.


@given(seeds)
@settings(max_examples=15, deadline=None)
def test_draws_are_averaged_per_clip_before_anything_else(seed: int) -> None:
    frames = random_frames(seed, (*FOUR[:3], ("offscreen", NONE, 3)))
    score = dataset_score(scored(frames), PROTOCOLS["avsbench"])
    offscreen = score.condition("offscreen")
    assert offscreen is not None
    own = of(frames, "offscreen")
    assert offscreen.miou == pytest.approx(mean_over_clips(own, lambda f: fmean(map(slow_iou, f))), abs=EXACT)
    assert offscreen.f == pytest.approx(mean_over_clips(own, slow_best_f), abs=EXACT)
    assert offscreen.fpr == pytest.approx(mean_over_clips(own, lambda f: fmean(x.mask.mean() for x in f)), abs=EXACT)
    assert (offscreen.clips, offscreen.frames, score.clips) == (3, 6, 3)


def test_a_clip_with_fewer_draws_weighs_as_much_as_the_others() -> None:
    frames = [f for f in random_frames(3, (("offscreen", NONE, 4),)) if f.clip != 1 or f.draw == 2]
    for name in ("avsbench", "pooled"):
        found = dataset_score(scored(frames), PROTOCOLS[name]).condition("offscreen")
        assert found is not None
        assert found.clips == 3
    assert found.fpr == pytest.approx(mean_over_clips(frames, lambda f: fmean(x.mask.mean() for x in f)), abs=EXACT)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_equal_draws_change_no_score(protocol: str) -> None:
    frames = random_frames(5, FOUR)
    again = [replace(f, draw=draw) for f in frames for draw in (range(3) if f.condition == "offscreen" else (0,))]
    once, thrice = (dataset_score(scored(part), PROTOCOLS[protocol]) for part in (frames, again))
    assert thrice.columns() == pytest.approx(once.columns(), abs=EXACT)
    assert [(c.clips, c.frames, c.empty_frames, c.skipped) for c in thrice.conditions] == [
        (c.clips, c.frames, c.empty_frames, c.skipped) for c in once.conditions
    ]
    curves = [threshold_curve(scored(part)) for part in (frames, again)]
    assert curves[0] is not None
    assert curves[1] is not None
    assert curves[1].g_miou == pytest.approx(curves[0].g_miou, abs=EXACT)
    assert area_auroc(scored(frames)) == area_auroc(scored(again))


@pytest.mark.parametrize("protocol", SEMANTIC_PROTOCOLS)
def test_equal_draws_change_no_semantic_score(protocol: str) -> None:
    generator = np.random.default_rng(2)
    frames = [
        replace(f, pred_ids=generator.integers(0, 4, (4, 5)), target_ids=f.target * np.int64(1 + f.clip))
        for f in random_frames(2, FOUR)
    ]
    again = [replace(f, draw=draw) for f in frames for draw in (range(3) if f.condition == "offscreen" else (0,))]
    once, thrice = (
        semantic_scores(classes_of(part), scored(part), SEMANTIC_PROTOCOLS[protocol]) for part in (frames, again)
    )
    assert thrice.headline.columns() == pytest.approx(once.headline.columns(), abs=EXACT)
    for one, other in zip(once.conditions, thrice.conditions, strict=True):
        assert np.array_equal(one.frames, other.frames)
        assert (one.num_clips, one.num_frames, one.empty_frames) == (
            other.num_clips,
            other.num_frames,
            other.empty_frames,
        )


# Batches.


@given(seeds, st.integers(1, 4), st.integers(1, 6))
@settings(max_examples=15, deadline=None)
def test_a_batch_is_scored_as_one(seed: int, size: int, clips: int) -> None:
    frames = random_frames(seed, FOUR[:2], clips=clips)
    score = dataset_score(scored(frames), find_protocol(f"avsbench@batch={size}").binary)  # type: ignore[arg-type]
    for name in ("clean", "silence"):
        own = of(frames, name)
        batches = [range(first, min(first + size, clips)) for first in range(0, clips, size)]
        parts = [[f for f in own if f.clip in batch] for batch in batches]
        found = score.condition(name)
        assert found is not None
        assert found.f == pytest.approx(fmean(map(slow_best_f, parts)), abs=EXACT)
        assert found.miou == pytest.approx(fmean(fmean(map(slow_iou, part)) for part in parts), abs=EXACT)
        assert found.clips == clips


def test_negatives_alone_in_batches_as_in_the_released_configuration() -> None:
    frames = scored(random_frames(7, FOUR, clips=4))
    released, both, one = (
        dataset_score(frames, find_protocol(name).binary)  # type: ignore[arg-type]
        for name in ("avsbench@negative_batch=2", "avsbench@batch=2", "avsbench")
    )
    assert (released.f, released.f_negative) == (one.f, both.f_negative)
    assert both.f_negative < one.f_negative  # type: ignore[operator]


# Ceilings and G.


@given(seeds)
@settings(max_examples=10, deadline=None)
def test_the_ceiling_is_the_score_of_perfect_masks(seed: int) -> None:
    frames = random_frames(seed, (*FOUR, ("noisy", 5.0, 1)))
    perfect = [replace(f, pred=np.float32(1) * f.target * (not f.is_negative)) for f in frames]
    for protocol in PROTOCOLS.values():
        assert ceiling_score(scored(frames), protocol) == dataset_score(scored(perfect), protocol)


def test_the_ceiling_of_g_f_under_a_sweep_from_threshold_0() -> None:
    frames = random_frames(1, FOUR, empty=0)
    ceiling = ceiling_score(scored(frames), PROTOCOLS["avsbench"])
    trivial = fmean(1.3 * q / (0.3 * q + 1) for q in [f.target.mean() for f in of(frames, "silence")])
    assert (ceiling.miou, ceiling.f, ceiling.g_miou, ceiling.g_fpr) == (1, 1, 1, 0)
    assert ceiling.g_f == pytest.approx(2 * (1 - trivial) / (2 - trivial), abs=2e-2)
    assert ceiling_score(scored(frames), PROTOCOLS["strict"]).g_f == 1


def test_the_ceiling_of_a_mean_over_all_classes_counts_absent_ones() -> None:
    frames = [
        replace(f, pred_ids=np.zeros((4, 5), np.int64), target_ids=f.target * np.int64(1 + f.clip))
        for f in random_frames(4, FOUR, empty=0)
    ]
    ceiling = semantic_ceiling_scores(classes_of(frames), scored(frames), SEMANTIC_PROTOCOLS["avsbench"])
    # Background and three classes of 71.
    assert ceiling.headline.miou == pytest.approx(4 / 71)
    assert (
        semantic_ceiling_scores(classes_of(frames), scored(frames), SEMANTIC_PROTOCOLS["strict"]).headline.g_miou == 1
    )


@given(
    seeds,
    st.lists(st.sampled_from(["silence", "noise", "offscreen", "unseen", "matched_noise@-6"]), min_size=1, unique=True),
)
@settings(max_examples=15, deadline=None)
def test_g_is_over_the_negatives_that_are_declared(seed: int, negatives: list[str]) -> None:
    frames = random_frames(seed, (*FOUR, ("unseen", NONE, 1), ("matched_noise", -6.0, 1), ("matched_noise", 3.0, 1)))
    score = dataset_score(scored(frames), PROTOCOLS["avsbench"], negatives)
    keys = [(name.split("@")[0], float(name.split("@")[1]) if "@" in name else NONE) for name in negatives]
    miou = [mean_over_clips(of(frames, *key), lambda f: fmean(map(slow_iou, f))) for key in keys]
    clean = mean_over_clips(of(frames, "clean"), lambda f: fmean(map(slow_iou, f)))
    b = 1 - fmean(miou)
    assert score.g_miou == pytest.approx(2 * clean * b / (clean + b), abs=EXACT)


# Extra scores.


@given(seeds)
@settings(max_examples=15, deadline=None)
def test_activation(seed: int) -> None:
    frames = random_frames(seed, (("clean", NONE, 1), ("offscreen", NONE, 2), ("noisy", 5.0, 1)))

    def slow_aoc(own: Sequence[Pixels]) -> float:
        shares = [sum(f.mask.sum() / f.mask.size <= k / 20 for f in own) / len(own) for k in range(21)]
        return sum((a + b) / 2 * 0.05 for a, b in itertools.pairwise(shares))

    found = {(entry.condition, entry.level): entry for entry in activation_scores(scored(frames))}
    assert list(found) == [("clean", None), ("offscreen", None), ("noisy", 5.0)]
    for (name, level), entry in found.items():
        own = of(frames, name, NONE if level is None else level)
        pixels = own[0].mask.size
        assert entry.aoc == pytest.approx(mean_over_clips(own, slow_aoc), abs=EXACT)
        s = mean_over_clips(own, lambda f, n=pixels: (sum(x.mask.sum() for x in f) / (n * len(f))) ** 0.5)
        assert entry.s == pytest.approx(s, abs=EXACT)
        empty = mean_over_clips(own, lambda f: fmean(not x.mask.any() for x in f))
        assert entry.empty_rate == pytest.approx(empty, abs=EXACT)
        assert entry.lenient_rate == pytest.approx(empty, abs=EXACT)  # 1 % of 20 pixels is none.
        assert entry.negative == (name == "offscreen")


@pytest.mark.parametrize(
    ("marked", "aoc", "s", "empty", "lenient"),
    [(0, 1, 0, 1, 1), (1, 0.975, 0.1, 0, 1), (2, 0.975, 0.02**0.5, 0, 0), (100, 0.025, 1, 0, 0)],
)
def test_activation_in_closed_form(marked: int, aoc: float, s: float, empty: float, lenient: float) -> None:
    pred = (np.arange(100).reshape(10, 10) < marked).astype(np.float32)
    (found,) = activation_scores(scored([Pixels(0, "silence", 0, pred, pred > 2)]))
    assert (found.aoc, found.s, found.empty_rate, found.lenient_rate) == pytest.approx((aoc, s, empty, lenient))


PAIRED = (
    ("distractor", 1.0, 1),
    ("distractor_swapped", 1.0, 1),
    ("distractor", 3.0, 1),
    ("distractor_swapped", 3.0, 1),
)


@given(seeds)
@settings(max_examples=15, deadline=None)
def test_interactive_iou(seed: int) -> None:
    generator = np.random.default_rng(seed)
    frames = [
        replace(f, target=np.roll(f.target, 2, axis=1) if "swapped" in f.condition else f.target)
        for f in random_frames(seed, PAIRED)
        # Some pictures lack one of their two rows.
        if generator.random() < 0.9
    ]
    # Masks that are mostly right, so that bars are passed.
    frames = [
        replace(f, pred=np.where(generator.random((4, 5)) < 0.8, f.target, f.pred).astype(np.float32)) for f in frames
    ]
    found = {entry.level: entry for entry in interactive_iou(scored(frames))}
    for level in (1.0, 3.0):
        values: dict[int, list[float]] = {}
        for one in of(frames, "distractor", level):
            for other in of(frames, "distractor_swapped", level):
                same = (one.clip, one.frame) == (other.clip, other.frame)
                if same and one.target.any() and other.target.any():
                    values.setdefault(one.clip, []).append(min(slow_iou(one), slow_iou(other)))
        if not values:
            assert level not in found or found[level].at_half is None
            continue
        share = [fmean(fmean(v >= k / 20 for v in own) for own in values.values()) for k in range(21)]
        area = sum((a + b) / 2 * 0.05 for a, b in itertools.pairwise(share))
        entry = found[level]
        assert (entry.at_half, entry.area) == pytest.approx((share[10], area), abs=EXACT)
        assert (entry.clips, entry.pictures) == (len(values), sum(map(len, values.values())))


def test_interactive_iou_in_closed_form() -> None:
    left = np.zeros((4, 6), dtype=np.bool_)
    left[1:3, :2] = True
    pair = (left, left[:, ::-1])

    def share(masks: Sequence[np.ndarray]) -> tuple[float | None, float | None]:
        rows = zip(("distractor", "distractor_swapped"), masks, pair, strict=True)
        (found,) = interactive_iou(
            scored([Pixels(0, name, 0, np.float32(mask), target) for name, mask, target in rows])
        )
        return found.at_half, found.area

    assert share(pair) == (1, 1)
    # A gate that marks every annotated object, a model that ignores the sound, and an empty mask.
    both = left | left[:, ::-1]
    assert share((both, both)) == (1, pytest.approx(0.525))
    assert share((left, left)) == (0, pytest.approx(0.025))
    assert share((left & False, left & False)) == (0, pytest.approx(0.025))
    assert interactive_iou(scored([Pixels(0, "distractor", 0, np.float32(left), left)])) == ()


@given(seeds)
@settings(max_examples=10, deadline=None)
def test_natural_negatives(seed: int) -> None:
    frames = random_frames(seed, FOUR[:2], clips=4, empty=0.5)
    without = {1}
    empty, clips = natural_negatives(scored(frames), np.array([f.clip in without for f in frames]))
    clean = of(frames, "clean")
    groups = (
        (empty, [f for f in clean if f.clip not in without and not f.target.any()]),
        (clips, [f for f in clean if f.clip in without]),
    )
    for found, own in groups:
        assert (found.frames, found.clips) == (len(own), len({f.clip for f in own}))
        if own:
            assert found.fpr == pytest.approx(
                mean_over_clips(own, lambda f: fmean(x.mask.mean() for x in f)), abs=EXACT
            )
            marked = mean_over_clips(own, lambda f: fmean(bool(x.mask.any()) for x in f))
            assert found.marked_rate == pytest.approx(marked, abs=EXACT)
        else:
            assert (found.fpr, found.marked_rate) == (None, None)


def test_level_curves() -> None:
    levels = (-6.0, 0.0, 3.0, 10.0)
    frames = random_frames(9, (("clean", NONE, 1), *(("noisy", level, 1) for level in levels), ("mixture", 0.0, 1)))
    score = dataset_score(scored(frames), PROTOCOLS["avsbench"])
    curves = {(curve.condition, curve.measure): curve for curve in level_curves(score)}
    # A single level is no curve.
    assert list(curves) == [("noisy", "miou"), ("noisy", "f")]
    values = [mean_over_clips(of(frames, "noisy", level), lambda f: fmean(map(slow_iou, f))) for level in levels]
    clean = mean_over_clips(of(frames, "clean"), lambda f: fmean(map(slow_iou, f)))
    area = (6 * (values[0] + values[1]) + 3 * (values[1] + values[2]) + 7 * (values[2] + values[3])) / 2 / 16
    curve = curves["noisy", "miou"]
    assert (curve.levels, curve.scores) == (levels, pytest.approx(values))
    assert (curve.area, curve.area_kept) == (pytest.approx(area), pytest.approx(area / clean))
    assert curve.kept == pytest.approx([value / clean for value in values])
    perfect = level_curves(ceiling_score(scored(frames), PROTOCOLS["strict"]))
    assert [(entry.area, entry.area_kept) for entry in perfect] == [(1, 1), (1, 1)]


@given(seeds)
@settings(max_examples=10, deadline=None)
def test_the_threshold_curve_is_strict_at_each_threshold(seed: int) -> None:
    frames = scored(random_frames(seed, FOUR, empty=0.3))
    curve = threshold_curve(frames)
    for index in (0, 1, 60, 254):
        protocol = replace(PROTOCOLS["strict"], threshold=index / 254)
        score = dataset_score(frames, protocol)
        if score.miou is None:
            assert curve is None
            return
        assert curve is not None
        found = (
            curve.miou,
            curve.miou_negative,
            curve.g_miou,
            curve.f,
            curve.f_negative,
            curve.g_f,
            curve.fpr_negative,
        )
        expected = (score.miou, score.miou_negative, score.g_miou, score.f, score.f_negative, score.g_f, score.g_fpr)
        assert [float(values[index]) for values in found] == pytest.approx(expected, abs=EXACT)
