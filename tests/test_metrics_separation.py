import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avsrobust.errors import MetricInputError
from avsrobust.metrics import (
    MaskOverlap,
    ScoredFrames,
    area_auroc,
    auroc,
    frame_statistics,
    mask_overlap,
    separation,
    threshold_curve,
)
from avsrobust.metrics.rows import Rows
from avsrobust.vocabulary import NEGATIVES

ALL = ("clean", *NEGATIVES)
areas = st.lists(st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 1.0]), min_size=1, max_size=12)


def constant_frames(values: dict[str, list[float]], target: np.ndarray) -> ScoredFrames:
    """One frame per clip and condition: the target's pixels at the given probability, the others at 0."""
    pred = np.stack([np.where(target, value, 0.0) for clips in values.values() for value in clips]).astype(np.float32)
    condition = np.repeat(list(values), [len(clips) for clips in values.values()])
    return ScoredFrames(
        frame_statistics(pred, np.broadcast_to(target, pred.shape)),
        np.concatenate([np.arange(len(clips)) for clips in values.values()]),
        condition,
        condition != "clean",
    )


TARGET = np.array([[True, True], [False, False]])


@settings(deadline=None)
@given(areas, areas)
def test_auroc_equals_the_count_over_all_pairs(clean: list[float], negative: list[float]) -> None:
    pairs = [(c > n) + 0.5 * (c == n) for c in clean for n in negative]
    assert auroc(np.array(clean), np.array(negative)) == pytest.approx(sum(pairs) / len(pairs))


@settings(deadline=None)
@given(areas, areas)
def test_auroc_of_the_two_sides_adds_to_one(clean: list[float], negative: list[float]) -> None:
    forward, backward = auroc(np.array(clean), np.array(negative)), auroc(np.array(negative), np.array(clean))
    assert forward is not None
    assert backward is not None
    assert forward + backward == pytest.approx(1)


def test_auroc_closed_forms() -> None:
    low, high = np.array([0.1, 0.2]), np.array([0.3, 0.4, 0.5])
    assert (auroc(high, low), auroc(low, high), auroc(low, low)) == (1, 0, 0.5)
    assert auroc(low, np.zeros(0)) is None
    assert auroc(np.zeros(0), low) is None


@pytest.mark.parametrize(("clean", "negative", "name"), [(np.nan, 0.0, "clean_area"), (0.0, np.inf, "negative_area")])
def test_auroc_refuses_what_is_not_finite(clean: float, negative: float, name: str) -> None:
    with pytest.raises(MetricInputError, match=f"{name}: found NaN or infinite values"):
        auroc(np.array([clean]), np.array([negative]))


def test_area_auroc_compares_clean_with_all_negatives() -> None:
    frames = constant_frames({"clean": [1, 1], "silence": [0, 0], "noise": [0, 1], "offscreen": [0, 0]}, TARGET)
    assert area_auroc(frames) == pytest.approx(1 - 0.5 / 6)
    assert area_auroc(frames, ["silence"]) == 1
    assert area_auroc(frames.select(frames.condition == "clean")) is None


def test_overlap_averages_frames_then_clips_and_counts_the_undefined() -> None:
    intersection, union = np.array([4, 0, 0, 1]), np.array([4, 4, 0, 4])
    assert mask_overlap(intersection, union, np.array([5, 5, 5, 2])) == MaskOverlap(0.375, 2, 3, 1)


def test_overlap_of_empty_masks_is_undefined() -> None:
    zeros = np.zeros(3, dtype=int)
    assert mask_overlap(zeros, zeros, np.arange(3)) == MaskOverlap(None, 0, 0, 3)
    assert mask_overlap(zeros[:0], zeros[:0], zeros[:0]) == MaskOverlap(None, 0, 0, 0)


def test_overlap_refuses_what_does_not_fit() -> None:
    with pytest.raises(MetricInputError, match=r"found shapes \(2,\), \(2,\), \(1,\)"):
        mask_overlap(np.zeros(2), np.zeros(2), np.zeros(1))
    with pytest.raises(MetricInputError, match="below 0 or above union"):
        mask_overlap(np.array([3]), np.array([2]), np.array([0]))
    with pytest.raises(MetricInputError, match="below 0 or above union"):
        mask_overlap(np.array([-1]), np.array([2]), np.array([0]))


def test_the_best_threshold_lies_where_clean_and_negative_part() -> None:
    """Clean masks at 0.8, negative ones at 0.6: above 0.6 and up to 0.8 G-mIoU is 1; the smallest such threshold wins."""
    frames = constant_frames({"clean": [0.8, 0.8], **{name: [0.6, 0.6] for name in NEGATIVES}}, TARGET)
    curve = threshold_curve(frames)
    assert curve is not None
    assert (
        np.flatnonzero(curve.g_miou == 1).tolist()
        == np.flatnonzero((curve.threshold > np.float32(0.6)) & (curve.threshold <= np.float32(0.8))).tolist()
    )
    assert curve.best_index == np.flatnonzero(curve.g_miou == 1)[0]
    assert curve.best_threshold == curve.threshold[curve.best_index]
    # At threshold 0 every pixel is activated, under clean and negative sound alike.
    assert (curve.miou[0], curve.miou_negative[0]) == (0.5, 0.5)


@pytest.mark.parametrize("missing", ALL)
def test_no_curve_without_every_condition(missing: str) -> None:
    frames = constant_frames({name: [0.8] for name in ALL}, TARGET)
    assert threshold_curve(frames.select(frames.condition != missing)) is None


def test_no_curve_without_a_visible_object() -> None:
    assert threshold_curve(constant_frames({name: [0.8] for name in ALL}, np.zeros((2, 2), dtype=bool))) is None


def curve_in_order_of_rows(frames: ScoredFrames) -> np.ndarray:
    """Sums of the curve, added block by block in the order of the rows, [conditions, 3, 255]."""
    rows = frames.rows
    counted = rows.sum(frames.statistics.target_pixels[rows.order] > 0) > 0
    sums = np.zeros((len(ALL), 3, 255))
    for block, index, start in rows.blocks():
        scores = separation._strict_scores(frames, index, start) * rows.weight[block, None, None]
        for position, name in enumerate(ALL):
            sums[position] += scores[(rows.condition[block] == name) & counted[block]].sum(axis=0)
    return sums


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["as files have them", "shuffled"]), st.integers(1, 9))
def test_the_curve_has_the_same_digits_whatever_the_order_of_frames(seed: int, order: str, block: int) -> None:
    generator = np.random.default_rng(seed)
    clips, length = int(generator.integers(2, 7)), int(generator.integers(1, 4))
    shape = (clips * len(ALL) * length, 5, 7)
    target = generator.random(shape) < 0.3
    target[generator.random(len(target)) < 0.3] = False
    target[0, 0, 0] = target[: len(ALL) * length : length, 0, 0] = True
    condition = np.tile(np.repeat(sorted(ALL), length), clips)
    frames = ScoredFrames(
        frame_statistics(generator.random(shape, dtype=np.float32), target),
        np.repeat(np.arange(clips), len(ALL) * length),
        condition,
        condition != "clean",
    )
    if order == "shuffled":
        frames = frames.select(generator.permutation(len(frames)))
    with pytest.MonkeyPatch.context() as patch:
        blocks = Rows.blocks
        patch.setattr(Rows, "blocks", lambda self: blocks(self, block))
        expected = curve_in_order_of_rows(frames)
        curve = threshold_curve(frames)
    assert curve is not None
    counted = frames.rows.sum(frames.statistics.target_pixels[frames.rows.order] > 0) > 0
    means = expected / [[[(counted & (frames.rows.condition == name)).sum()]] for name in ALL]
    assert (curve.miou.tobytes(), curve.f.tobytes()) == (means[0, 0].tobytes(), means[0, 1].tobytes())
    assert curve.fpr_negative.tobytes() == means[1:].mean(axis=0)[2].tobytes()
