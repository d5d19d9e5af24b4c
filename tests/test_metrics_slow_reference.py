"""Every protocol against a second implementation: plain loops over clips, frames and thresholds, on the pixels themselves.

It shares no code with the package but the table of thresholds, which is checked against torch elsewhere.
"""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from avsrobust.metrics import (
    PROTOCOLS,
    ScoredFrames,
    concatenate,
    dataset_score,
    f_measure,
    false_positive_rate,
    frame_statistics,
    get_protocol,
    mask_iou,
    threshold_curve,
    trivial_score,
)
from avsrobust.metrics.binary.thresholds import thresholds

TABLE = thresholds()
CONDITIONS = ("clean", "silence", "noise", "offscreen", "mixture", "unseen")
NEGATIVE = ("silence", "noise", "offscreen", "unseen")
EXACT = 1e-12


@dataclass(frozen=True)
class Frame:
    clip: int
    condition: str
    level: float
    pred: np.ndarray
    target: np.ndarray


def slow_iou(activated: np.ndarray, target: np.ndarray) -> float:
    if not target.any():
        return float((~activated).sum() / target.size)
    return float((activated & target).sum() / (activated | target).sum())


def slow_f(activated: np.ndarray, target: np.ndarray, beta2: float) -> float:
    hits = (activated & target).sum()
    if hits == 0:
        return 0.0
    precision, recall = hits / activated.sum(), hits / target.sum()
    return float((1 + beta2) * precision * recall / (beta2 * precision + recall))


def slow_clip_f(frames: list[Frame], beta2: float) -> float:
    visible = [frame for frame in frames if frame.target.any()]
    if not visible:
        return 0.0
    best = 0.0
    for threshold in TABLE:
        values = [slow_f(frame.pred >= threshold, frame.target, beta2) for frame in visible]
        best = max(best, sum(values) / len(values))
    return best


def slow_clip(frames: list[Frame], protocol: str) -> tuple[float, float, float] | None:
    """IoU, F and FPR of one clip under one condition, or None where the protocol leaves the clip out."""
    cut = np.float32(0.4 if protocol == "bias_in_avs" else 0.5)
    beta2 = 0.1 if protocol == "bias_in_avs" else 0.3
    fpr = np.mean([(frame.pred > cut).mean() for frame in frames])
    if protocol != "strict":
        iou = np.mean([slow_iou(frame.pred > cut, frame.target) for frame in frames])
        return float(iou), slow_clip_f(frames, beta2), float(fpr)
    visible = [frame for frame in frames if frame.target.any()]
    if not visible:
        return None
    in_iou = visible if frames[0].condition in NEGATIVE else frames
    iou = np.mean([slow_iou(frame.pred > cut, frame.target) for frame in in_iou])
    f = np.mean([slow_f(frame.pred > cut, frame.target, beta2) for frame in visible])
    return float(iou), float(f), float(fpr)


def slow_pooled(frames: list[Frame]) -> tuple[float | None, ...]:
    hits = unions = activated = targets = pixels = 0
    for frame in frames:
        mask = frame.pred > np.float32(0.5)
        hits += int((mask & frame.target).sum())
        unions += int((mask | frame.target).sum())
        activated += int(mask.sum())
        targets += int(frame.target.sum())
        pixels += mask.size
    false_positives, misses = activated - hits, targets - hits
    f_denominator = 1.3 * hits + 0.3 * misses + false_positives
    return (
        hits / unions if unions else None,
        1.3 * hits / f_denominator if f_denominator else None,
        activated / pixels,
    )


def slow_condition(frames: list[Frame], protocol: str) -> tuple[float | None, ...]:
    if protocol == "pooled":
        return slow_pooled(frames)
    clips = sorted({frame.clip for frame in frames})
    scores = [slow_clip([frame for frame in frames if frame.clip == clip], protocol) for clip in clips]
    kept = [score for score in scores if score is not None]
    return tuple(float(np.mean([score[i] for score in kept])) for i in range(3)) if kept else (None, None, None)


def slow_g(positive: float | None, negatives: list[float | None]) -> float | None:
    if positive is None or None in negatives:
        return None
    rejected = 1 - sum(negatives) / 3  # type: ignore[arg-type]
    return 0.0 if positive + rejected == 0 else 2 * positive * rejected / (positive + rejected)


def gathered(frames: list[Frame]) -> ScoredFrames:
    condition = np.array([frame.condition for frame in frames])
    return ScoredFrames(
        concatenate([frame_statistics(frame.pred[None], frame.target[None]) for frame in frames]),
        np.array([frame.clip for frame in frames]),
        condition,
        np.isin(condition, NEGATIVE),
        np.array([frame.level for frame in frames]),
    )


HARD = np.concatenate([TABLE, np.nextafter(TABLE, np.float32(-1))[1:], np.float32([0.4, 0.5])]).tolist()
probabilities = st.one_of(st.floats(0, 1, width=32), st.sampled_from(HARD), st.sampled_from([0.0, 1.0]))


@st.composite
def data_sets(draw: st.DrawFn) -> list[Frame]:
    frames = []
    for clip in draw(st.permutations([11, 2, 305]))[: draw(st.integers(1, 3))]:
        shape = draw(st.tuples(st.integers(1, 3), st.integers(1, 4)))
        count = draw(st.integers(1, 3))
        targets = draw(hnp.arrays(np.bool_, (count, *shape), elements=st.booleans()))
        targets[draw(hnp.arrays(np.bool_, count))] = False
        for condition in CONDITIONS:
            levels = [-5.0, 5.0] if condition == "mixture" else [np.nan]
            for level in levels:
                if draw(st.integers(0, 9)) == 0:
                    continue
                preds = draw(hnp.arrays(np.float32, (count, *shape), elements=probabilities))
                frames += [Frame(clip, condition, level, p, t) for p, t in zip(preds, targets, strict=True)]
    return draw(st.permutations(frames)) if frames else data_set(0)


def data_set(seed: int) -> list[Frame]:
    """Four clips of three frames, of which 0, 1, 2 and all show no target."""
    generator = np.random.default_rng(seed)
    frames = []
    for clip in range(4):
        target = generator.random((3, 5, 7)) < 0.4
        target[:clip] = False
        for condition in CONDITIONS:
            pred = generator.random((3, 5, 7), dtype=np.float32) ** 2
            frames += [Frame(clip, condition, np.nan, p, t) for p, t in zip(pred, target, strict=True)]
    return frames


def approx(expected: float | None) -> object:
    return None if expected is None else pytest.approx(expected, abs=EXACT)


def check_protocol(frames: list[Frame], protocol: str) -> None:
    score = dataset_score(gathered(frames), get_protocol(protocol))
    keys = {(frame.condition, None if np.isnan(frame.level) else frame.level) for frame in frames}
    assert {(entry.condition, entry.level) for entry in score.conditions} == keys
    slow = {}
    for condition, level in keys:
        same = [f for f in frames if f.condition == condition and (f.level == level or level is None)]
        slow[condition, level] = slow_condition(same, protocol)
        entry = score.condition(condition, level)
        assert entry is not None
        assert entry.negative == (condition in NEGATIVE)
        for found, expected in zip((entry.miou, entry.f, entry.fpr), slow[condition, level], strict=True):
            assert found == approx(expected)
    nothing = (None, None, None)
    clean = slow.get(("clean", None), nothing)
    negatives = [slow.get((name, None), nothing) for name in ("silence", "noise", "offscreen")]
    assert score.g_miou == approx(slow_g(clean[0], [entry[0] for entry in negatives]))
    assert score.g_f == approx(slow_g(clean[1], [entry[1] for entry in negatives]))
    fprs = [entry[2] for entry in negatives]
    assert score.g_fpr == approx(None if None in fprs else sum(fprs) / 3)  # type: ignore[arg-type]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("seed", [1, 2])
def test_protocols_on_dense_data(protocol: str, seed: int) -> None:
    check_protocol(data_set(seed), protocol)


@settings(max_examples=30, deadline=None)
@given(data_sets(), st.sampled_from(sorted(PROTOCOLS)))
def test_protocols_on_anything(frames: list[Frame], protocol: str) -> None:
    check_protocol(frames, protocol)


@settings(max_examples=15, deadline=None)
@given(data_sets(), st.sampled_from(sorted(PROTOCOLS)))
def test_floors_are_the_scores_of_zeros(frames: list[Frame], protocol: str) -> None:
    zeros = [Frame(f.clip, f.condition, f.level, np.zeros_like(f.pred), f.target) for f in frames]
    chosen = get_protocol(protocol)
    assert trivial_score(gathered(frames), chosen) == dataset_score(gathered(zeros), chosen)


@settings(max_examples=40, deadline=None)
@given(data_sets())
def test_functions_of_one_clip(frames: list[Frame]) -> None:
    first = [
        f for f in frames if (f.clip, f.condition, f.level) == (frames[0].clip, frames[0].condition, frames[0].level)
    ]
    first = first or frames[:1]
    pred, target = np.stack([f.pred for f in first]), np.stack([f.target for f in first])
    for threshold in (0.5, 0.4):
        masks = pred > np.float32(threshold)
        iou = [slow_iou(mask, frame.target) for mask, frame in zip(masks, first, strict=True)]
        assert mask_iou(pred, target, threshold) == pytest.approx(iou, abs=EXACT)
        assert false_positive_rate(pred, threshold) == pytest.approx(masks.mean(axis=(1, 2)), abs=EXACT)
    assert f_measure(pred, target) == approx(slow_clip_f(first, 0.3))
    assert f_measure(pred, target, beta2=0.1) == approx(slow_clip_f(first, 0.1))


@pytest.mark.parametrize("seed", [1, 2])
def test_the_threshold_curve(seed: int) -> None:
    frames = data_set(seed)
    curve = threshold_curve(gathered(frames))
    assert curve is not None
    for position, threshold in list(enumerate(TABLE))[::23]:
        means = []
        for condition in CONDITIONS[:4]:
            clips = []
            for clip in range(4):
                same = [f for f in frames if (f.clip, f.condition) == (clip, condition)]
                visible = [f for f in same if f.target.any()]
                counted = same if condition == "clean" else visible
                if visible:
                    clips.append(np.mean([slow_iou(f.pred >= threshold, f.target) for f in counted]))
            means.append(float(np.mean(clips)))
        assert curve.miou[position] == approx(means[0])
        assert curve.miou_negative[position] == approx(sum(means[1:]) / 3)
        assert curve.g_miou[position] == approx(slow_g(means[0], list(means[1:])))
    assert curve.best_index == int(np.flatnonzero(curve.g_miou == curve.g_miou.max())[0])
