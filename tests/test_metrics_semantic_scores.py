"""Semantic scores: the released code's numbers, an independent slow reference, closed forms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from avsrobust.errors import MetricInputError
from avsrobust.metrics import (
    PROTOCOLS,
    SEMANTIC_PROTOCOLS,
    ClassStatistics,
    ScoredFrames,
    SemanticScores,
    class_statistics,
    concatenate_classes,
    frame_statistics,
    g_score,
    semantic_scores,
    semantic_trivial_scores,
)
from avsrobust.vocabulary import CLEAN, NEGATIVES, NUM_CLASSES

GOLDEN = Path(__file__).parent / "golden" / "metrics_semantic.npz"
SEEDS = (0, 1, 2)
every_protocol = pytest.mark.parametrize("protocol", SEMANTIC_PROTOCOLS)
Clip = tuple[np.ndarray, np.ndarray]


def score(
    clips: Sequence[Clip], conditions: Sequence[str], protocol: str, of: Callable[..., SemanticScores] = semantic_scores
) -> SemanticScores:
    """Score clips (pred [T, H, W], target), each under its condition; clips of one target share a number."""
    statistics, frames = gather(clips, conditions)
    return of(statistics, frames, SEMANTIC_PROTOCOLS[protocol])


def gather(clips: Sequence[Clip], conditions: Sequence[str]) -> tuple[ClassStatistics, ScoredFrames]:
    numbers = dict.fromkeys(conditions, 0)
    clip, condition = [], []
    for name, (pred, _) in zip(conditions, clips, strict=True):
        clip += [numbers[name]] * len(pred)
        condition += [name] * len(pred)
        numbers[name] += 1
    binary = [frame_statistics((pred != 0).astype(np.float32), target != 0) for pred, target in clips]
    whole = {name: np.concatenate([getattr(part, name) for part in binary]) for name in binary[0].__dataclass_fields__}
    frames = ScoredFrames(type(binary[0])(**whole), np.array(clip), np.array(condition), np.isin(condition, NEGATIVES))
    return concatenate_classes([class_statistics(*pair) for pair in clips]), frames


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(GOLDEN) as archive:
        return dict(archive)


def golden_clips(golden: dict[str, np.ndarray], seed: int) -> list[Clip]:
    pred = (golden[f"s{seed}_logits_q_int8"] * np.float32(0.25)).argmax(axis=1)
    target = golden[f"s{seed}_gt_uint8"]
    return [(pred[:10], target[:10]), (pred[10:], target[10:])]


@pytest.mark.parametrize("seed", SEEDS)
def test_avsbench_agrees_with_the_released_test(golden: dict[str, np.ndarray], seed: int) -> None:
    scores = score(golden_clips(golden, seed), [CLEAN, CLEAN], "avsbench")
    (condition,) = scores.conditions
    assert np.nan_to_num(condition.iou) == pytest.approx(golden[f"s{seed}_final_iou_per_class"], abs=1e-6)
    assert np.nan_to_num(condition.f) == pytest.approx(golden[f"s{seed}_final_f_per_class"], abs=1e-6)
    counts = golden[f"s{seed}_count_per_class"]
    assert np.array_equal(condition.frames, counts)
    sums = np.nan_to_num(condition.iou) * counts, np.nan_to_num(condition.f) * counts
    assert sums[0] == pytest.approx(golden[f"s{seed}_sum_iou_per_class"], abs=1e-5)
    assert sums[1] == pytest.approx(golden[f"s{seed}_sum_f_per_class"], abs=1e-5)
    found = [
        scores.with_background.miou,
        scores.without_background.miou,
        scores.with_background.f,
        scores.without_background.f,
        np.count_nonzero(condition.frames),
        np.isnan(condition.iou).sum(),
        np.isnan(condition.f).sum(),
    ]
    for batches in ("final_miou_miouNoBg_F_FNoBg_nPresent_nanIou_nanF", "final_same_with_batch_of_2_clips"):
        assert found == pytest.approx(golden[f"s{seed}_{batches}"], abs=1e-6)
    assert scores.headline == scores.with_background


@pytest.mark.parametrize("seed", SEEDS)
def test_strict_with_background_is_what_the_released_test_prints_while_it_runs(
    golden: dict[str, np.ndarray], seed: int
) -> None:
    clips = golden_clips(golden, seed)
    for count, expected in enumerate(golden[f"s{seed}_running_per_iter_iou_F_nclasses"], start=1):
        scores = score(clips[:count], [CLEAN] * count, "strict")
        found = [scores.with_background.miou, scores.with_background.f, np.count_nonzero(scores.conditions[0].frames)]
        assert found == pytest.approx(expected, abs=1e-6)


def frame_miou(classes: ClassStatistics) -> np.ndarray:
    """AVSBench, avs_scripts/avss/utils/compute_color_metrics.py, `_batch_miou_fscore` (vid_miou_list): classes of IoU above 0."""
    iou = classes.intersection / classes.union
    return np.array([iou[(classes.frame == frame) & (iou > 0)].mean() for frame in range(classes.num_frames)])


def foreground_iou(classes: ClassStatistics) -> np.ndarray:
    """The same file, `calc_binary_miou`: IoU of everything but the last class."""
    both, predicted, true = (
        classes.of_class(name, NUM_CLASSES - 1) for name in ("intersection", "predicted", "target")
    )
    pixels = classes.pixels
    union = pixels - both
    empty = true == pixels
    return np.where(empty, predicted, pixels - predicted - true + both) / np.where(empty, pixels, union)


@pytest.mark.parametrize("seed", SEEDS)
def test_frames_agree_with_the_released_code(golden: dict[str, np.ndarray], seed: int) -> None:
    statistics, _ = gather(golden_clips(golden, seed), [CLEAN, CLEAN])
    assert frame_miou(statistics) == pytest.approx(golden[f"s{seed}_vid_miou_list_per_frame"], abs=1e-6)
    assert foreground_iou(statistics).mean() == pytest.approx(float(golden[f"s{seed}_binary_miou"]), abs=1e-6)


# An independent slow reference: loops over frames and classes, formulas as a person would write them.


def slow_class(pairs: Sequence[tuple[np.ndarray, np.ndarray]], class_id: int) -> tuple[list[float], list[float]]:
    """IoU and F of one class in each of these frames."""
    ious, fs = [], []
    for pred, target in pairs:
        tp = float(np.sum((pred == class_id) & (target == class_id)))
        fp = float(np.sum((pred == class_id) & (target != class_id)))
        fn = float(np.sum((pred != class_id) & (target == class_id)))
        ious.append(tp / (tp + fp + fn))
        precision, recall = (tp / (tp + fp) if tp else 0.0), (tp / (tp + fn) if tp else 0.0)
        fs.append(1.3 * precision * recall / (0.3 * precision + recall) if tp else 0.0)
    return ious, fs


def slow_condition(clips: Sequence[Clip], protocol: str, negative: bool) -> dict[int, tuple[float, float]]:
    """(IoU, F) of each class that counts."""
    pairs = [pair for pred, target in clips for pair in zip(pred, target, strict=True)]
    if protocol == "avsbench_padded":
        blank = np.zeros_like(clips[0][1][0])
        pairs += [(blank, blank) for pred, _ in clips for _ in range(10 - len(pred))]
    found = {}
    for class_id in (0, 1, 2, 70):
        seen = [(p, t) for p, t in pairs if (p == class_id).any() or (t == class_id).any()]
        if protocol in ("strict", "pooled") and negative:
            true = [(p, t) for p, t in pairs if (t == class_id).any()]
            seen = true if protocol == "strict" or not true else seen
            if not true:
                continue
        if not seen:
            continue
        if protocol == "pooled":
            seen = [(np.concatenate([p for p, _ in seen]), np.concatenate([t for _, t in seen]))]
        ious, fs = slow_class(seen, class_id)
        found[class_id] = (fmean(ious), fmean(fs))
    return found


def slow_mean(found: dict[int, tuple[float, float]], protocol: str, background: bool, place: int) -> float | None:
    skipped = None if background else (0 if protocol in ("strict", "pooled") else 70)
    values = [value[place] for class_id, value in found.items() if class_id != skipped]
    if protocol.startswith("avsbench"):
        return sum(values) / (71 if background else 70)
    return fmean(values) if values else None


@st.composite
def evaluations(draw: st.DrawFn) -> list[list[Clip]]:
    """Of each of the four conditions its clips; the targets are the same under each."""
    elements = st.sampled_from([0, 0, 1, 2, 70])
    lengths = draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))
    targets = [draw(arrays.arrays(np.uint8, (length, 2, 3), elements=elements)) for length in lengths]
    return [
        [(draw(arrays.arrays(np.uint8, target.shape, elements=elements)), target) for target in targets]
        for _ in range(4)
    ]


@settings(max_examples=60, deadline=None)
@given(evaluations(), st.sampled_from(sorted(SEMANTIC_PROTOCOLS)))
def test_scores_agree_with_the_slow_reference(clips: list[list[Clip]], protocol: str) -> None:
    names = (CLEAN, *NEGATIVES)
    flat = [clip for of_condition in clips for clip in of_condition]
    scores = score(flat, [name for name, group in zip(names, clips, strict=True) for _ in group], protocol)
    per_class = [slow_condition(group, protocol, name != CLEAN) for name, group in zip(names, clips, strict=True)]
    for background, found in ((True, scores.with_background), (False, scores.without_background)):
        for place, measure in enumerate(("miou", "f")):
            expected = [slow_mean(of_condition, protocol, background, place) for of_condition in per_class]
            assert [getattr(entry, measure) for entry in found.conditions] == pytest.approx(expected)
            negative = None if None in expected[1:] else fmean(expected[1:])
            assert getattr(found, f"{measure}_negative") == pytest.approx(negative)
            g = None if negative is None or expected[0] is None else g_score(expected[0], negative)
            assert getattr(found, f"g_{measure}") == pytest.approx(g)
        for entry, group in zip(found.conditions, clips, strict=True):
            shares = [[float((frame != 0).mean()) for frame in pred] for pred, _ in group]
            weights = [len(pred) for pred, _ in group]
            mean = np.average([fmean(clip) for clip in shares], weights=weights if protocol == "pooled" else None)
            assert entry.fpr == pytest.approx(mean)
            assert (entry.clips, entry.frames) == (len(group), sum(weights))
    for class_id in (0, 1, 2, 70):
        expected_iou = [of_condition.get(class_id, (None, None))[0] for of_condition in per_class]
        assert [entry.miou for entry in scores.of_class(class_id).conditions] == pytest.approx(expected_iou)


def objects(num_frames: int = 5) -> np.ndarray:
    """Two classes on background, in every frame."""
    target = np.zeros((num_frames, 6, 8), np.uint8)
    target[:, 1:3, 1:4] = 21
    target[:, 4:, 2:] = 70
    return target


def under_all(predict: Callable[[str], np.ndarray], protocol: str, num_frames: int = 5) -> SemanticScores:
    names = (CLEAN, *NEGATIVES)
    return score([(predict(name), objects(num_frames)) for name in names], names, protocol)


def oracle(name: str) -> np.ndarray:
    return objects() * (name == CLEAN)


@pytest.mark.parametrize("protocol", ["strict", "pooled"])
def test_baselines_bound_the_scores(protocol: str) -> None:
    best = under_all(oracle, protocol).headline
    assert (best.g_miou, best.g_f, best.g_fpr) == (1, 1, 0)
    visual_only = under_all(lambda _: objects(), protocol).headline
    assert (visual_only.miou, visual_only.miou_negative, visual_only.g_miou, visual_only.g_f) == (1, 1, 0, 0)
    assert visual_only.g_fpr == (6 + 12) / 48
    empty = under_all(lambda _: objects() * 0, protocol).headline
    assert (empty.miou, empty.g_miou, empty.g_fpr) == (0, 0, 0)


def test_avsbench_divides_by_71_and_leaves_the_last_class_out() -> None:
    scores = under_all(lambda _: objects(), "avsbench")
    assert scores.with_background.miou == pytest.approx(3 / 71)
    assert scores.without_background.miou == pytest.approx(2 / 70)
    assert scores.headline.columns() == scores.with_background.columns()
    assert scores.secondary.columns() == scores.without_background.columns()


def test_padded_frames_credit_background_alone() -> None:
    wrong = under_all(lambda _: np.full_like(objects(), 21), "avsbench_padded").conditions[0]
    plain = under_all(lambda _: np.full_like(objects(), 21), "avsbench").conditions[0]
    assert (plain.iou[0], wrong.iou[0], wrong.frames[0], wrong.padded) == (0, 0.5, 10, 5)
    assert np.array_equal(wrong.iou[1:], plain.iou[1:], equal_nan=True)
    long = under_all(lambda _: objects(10), "avsbench_padded", num_frames=10)
    assert (long.conditions[0].padded, long.conditions[0].frames[0]) == (0, 10)


def test_a_wrong_class_under_negative_sound_does_not_improve_strict() -> None:
    def hallucinate(name: str) -> np.ndarray:
        return objects() if name == CLEAN else np.where(objects() == 0, 33, objects())

    visual_only, wrong = (under_all(predict, "strict") for predict in (lambda _: objects(), hallucinate))
    assert wrong.headline.g_miou == visual_only.headline.g_miou == 0
    assert wrong.headline.miou_negative == 1
    assert wrong.headline.g_fpr == 1
    assert np.isnan(wrong.conditions[1].iou[33])


def test_a_wrong_class_under_clean_sound_counts_as_a_class() -> None:
    scores = under_all(lambda _: np.where(objects() == 21, 33, objects()), "strict")
    assert scores.headline.miou == pytest.approx(1 / 3)
    assert scores.with_background.miou == pytest.approx(2 / 4)


def test_floors_are_what_an_empty_model_scores() -> None:
    names = (CLEAN, *NEGATIVES)
    clips = [(objects(), objects())] * 4
    for protocol in SEMANTIC_PROTOCOLS:
        empty = score([(pred * 0, target) for pred, target in clips], names, protocol)
        assert score(clips, names, protocol, semantic_trivial_scores).headline == empty.headline


def test_scores_of_one_class() -> None:
    scores = under_all(oracle, "strict")
    assert scores.occurring_classes() == (0, 21, 70)
    wrong = under_all(lambda name: np.full_like(objects(), 33 if name == CLEAN else 44), "strict")
    assert wrong.occurring_classes() == (0, 21, 33, 70)
    of_class = scores.of_class(21)
    assert (of_class.miou, of_class.g_miou, of_class.g_fpr, of_class.clips) == (1, 1, 0, 1)
    background = scores.of_class(0)
    assert (background.miou, background.g_fpr) == (1, None)
    absent = scores.of_class(5)
    assert (absent.miou, absent.g_miou, absent.clips) == (None, None, 0)
    visual_only = under_all(lambda _: objects(), "strict").of_class(70)
    assert (visual_only.g_miou, visual_only.g_fpr) == (0, 12 / 48)


@every_protocol
def test_a_split_without_any_object_has_no_strict_score(protocol: str) -> None:
    target = np.zeros((2, 3, 3), np.uint8)
    scores = score([(target, target)] * 4, (CLEAN, *NEGATIVES), protocol)
    assert (scores.headline.miou is None) == (SEMANTIC_PROTOCOLS[protocol].classes == "present")
    assert (scores.empty_frames, scores.clips, scores.with_background.g_fpr) == (2, 1, 0)


def test_missing_conditions_are_named() -> None:
    scores = score([(objects(), objects())], [CLEAN], "strict").headline
    assert (scores.miou, scores.g_miou, scores.missing) == (1, None, NEGATIVES)


def test_statistics_of_other_frames_are_refused() -> None:
    statistics, frames = gather([(objects(), objects())], [CLEAN])
    with pytest.raises(MetricInputError, match="classes: found 5 frames next to 2; expected statistics of the same"):
        semantic_scores(statistics, frames.select(np.arange(2)), SEMANTIC_PROTOCOLS["strict"])


def test_protocols_bear_the_names_of_the_binary_ones() -> None:
    assert set(SEMANTIC_PROTOCOLS) - {"avsbench_padded"} == set(PROTOCOLS) - {"bias_in_avs"}
    for protocol in SEMANTIC_PROTOCOLS.values():
        assert protocol.background in (0, NUM_CLASSES - 1)
        assert protocol.description
        assert protocol.source
    with pytest.raises(TypeError, match="does not support item assignment"):
        SEMANTIC_PROTOCOLS["strict"] = SEMANTIC_PROTOCOLS["pooled"]  # type: ignore[index]
