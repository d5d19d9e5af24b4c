"""The paired bootstrap over classes: the scores of every resample are those of its clips, scored from the beginning."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from avsrobust.errors import MetricInputError, OptionError
from avsrobust.metrics import (
    SEMANTIC_PROTOCOLS,
    ClassStatistics,
    DatasetScore,
    PairedDifference,
    ScoredFrames,
    SemanticProtocol,
    SemanticScores,
    SemanticSums,
    class_intervals,
    class_statistics,
    concatenate,
    concatenate_classes,
    frame_statistics,
    paired_semantic_bootstraps,
    semantic_scores,
    semantic_sums,
    take,
    take_classes,
)
from avsrobust.metrics.bootstrap import CONDITION_STATISTICS, STATISTICS
from avsrobust.metrics.intervals import G_KEY, Interval, expanded_percentiles
from avsrobust.metrics.resampling import Clusters, Resampling
from avsrobust.metrics.semantic import bootstrap
from avsrobust.vocabulary import BACKGROUND, CLEAN, NEGATIVES, NUM_CLASSES

ALL = (CLEAN, *NEGATIVES)
EVERY = (*STATISTICS, *CONDITION_STATISTICS)
CLIPS = 7
IDS = np.array([0, 0, 0, 21, 33, 70], np.uint8)
STRICT = SEMANTIC_PROTOCOLS["strict"]
every_protocol = pytest.mark.parametrize("protocol", SEMANTIC_PROTOCOLS.values(), ids=lambda protocol: protocol.name)

Model = tuple[ClassStatistics, ScoredFrames]


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def model(skill: float, seed: int) -> Model:
    """A model that shows the target's class with this probability, else any; clips of one to four frames, one without objects."""
    classes, statistics, clip, condition = [], [], [], []
    for number in range(CLIPS):
        frames = 1 + number % 4
        target = generator(number).choice(IDS, (frames, 4, 5)) * (number != 2)
        for name in ALL:
            draws = generator([seed, number, len(name)])
            shown = np.where(
                draws.random(target.shape) < skill, target * (name == CLEAN), draws.choice(IDS, target.shape)
            )
            classes.append(class_statistics(shown, target))
            statistics.append(frame_statistics((shown > 0).astype(np.float32), target > 0))
            clip += [number] * frames
            condition += [name] * frames
    scored = ScoredFrames(concatenate(statistics), np.array(clip), np.array(condition), np.array(condition) != CLEAN)
    return concatenate_classes(classes), scored


def sums(which: Model, protocol: str = "strict") -> SemanticSums:
    return semantic_sums(*which, SEMANTIC_PROTOCOLS[protocol])


def part(which: Model, chosen: np.ndarray) -> Model:
    return take_classes(which[0], chosen), which[1].select(chosen)


def slow_score(which: Model, drawn: np.ndarray, protocol: str) -> DatasetScore:
    """The data set's score of the drawn clips."""
    return slow_scores(which, drawn, protocol).headline


def slow_scores(which: Model, drawn: np.ndarray, protocol: str) -> SemanticScores:
    """The scores of the drawn clips, each of them a clip of its own however often it was drawn."""
    classes, frames = which
    places = [np.flatnonzero(frames.clip == clip) for clip in drawn]
    order = np.concatenate(places)
    scored = ScoredFrames(
        take(frames.statistics, order),
        np.repeat(np.arange(len(drawn)), [len(place) for place in places]),
        frames.condition[order],
        frames.negative[order],
    )
    again = concatenate_classes([take_classes(classes, place) for place in places])
    return semantic_scores(again, scored, SEMANTIC_PROTOCOLS[protocol])


def value(score: DatasetScore, statistic: str) -> float | None:
    beside = {"mIoU-": score.miou_negative, "F-": score.f_negative}
    return beside[statistic] if statistic in beside else score.columns()[statistic]


def slow_difference(a: Model, b: Model, statistic: str, draws: np.ndarray, protocol: str) -> PairedDifference:
    whole = [value(slow_score(which, np.arange(CLIPS), protocol), statistic) for which in (a, b)]
    pairs = [[value(slow_score(which, drawn, protocol), statistic) for which in (a, b)] for drawn in draws]
    differences = np.array([first - second for first, second in pairs if first is not None and second is not None])
    rarer = min((differences <= 0).sum(), (differences >= 0).sum())
    low, high = np.percentile(differences, [2.5, 97.5])
    assert whole[0] is not None
    assert whole[1] is not None
    p = min(2 * (rarer + 1) / (len(differences) + 1), 1)
    return PairedDifference(statistic, *whole, whole[0] - whole[1], low, high, p, CLIPS, len(differences))


@every_protocol
def test_it_equals_scoring_every_resample_from_the_beginning(protocol: object) -> None:
    name = protocol.name  # type: ignore[attr-defined]
    a, b = model(0.7, 1), model(0.4, 2)
    found = paired_semantic_bootstraps(sums(a, name), sums(b, name), EVERY, 25, generator(3))
    draws = generator(3).integers(CLIPS, size=(25, CLIPS))
    for entry in found:
        expected = slow_difference(a, b, entry.statistic, draws, name)
        numbers = ("a", "b", "difference", "low", "high", "p")
        assert [getattr(entry, key) for key in numbers] == pytest.approx(
            [getattr(expected, key) for key in numbers], abs=1e-12
        )
        assert (entry.clips, entry.samples) == (expected.clips, expected.samples)


@every_protocol
def test_a_model_does_not_differ_from_itself(protocol: object) -> None:
    a = sums(model(0.6, 1), protocol.name)  # type: ignore[attr-defined]
    for entry in paired_semantic_bootstraps(a, a, EVERY, 200, generator()):
        assert (entry.difference, entry.low, entry.high, entry.p) == (0, 0, 0, 1)


def test_a_clear_difference_is_found_and_its_sign_turns_with_the_models() -> None:
    a, b = sums(model(0.95, 1)), sums(model(0.1, 2))
    (forward,) = paired_semantic_bootstraps(a, b, ["G_mIoU"], 300, generator())
    (backward,) = paired_semantic_bootstraps(b, a, ["G_mIoU"], 300, generator())
    assert forward.low is not None
    assert forward.low > 0
    assert backward.high == -forward.low


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = sums(model(0.7, 1)), sums(model(0.4, 2))
    whole = paired_semantic_bootstraps(a, b, EVERY, 50, generator())
    monkeypatch.setattr("avsrobust.metrics.bootstrap._BLOCK_RESAMPLES", 7)
    for entry, other in zip(paired_semantic_bootstraps(a, b, EVERY, 50, generator()), whole, strict=True):
        assert [entry.low, entry.high] == pytest.approx([other.low, other.high], abs=1e-12)


def test_only_rows_that_both_models_have_count() -> None:
    a, b = model(0.7, 1), model(0.4, 2)
    keep = (a[1].clip < 5) & ~((a[1].condition == "offscreen") & (a[1].clip == 3))
    for entry in paired_semantic_bootstraps(sums(a), sums(part(b, keep)), EVERY, 10, generator()):
        expected = [value(semantic_scores(*part(which, keep), STRICT).headline, entry.statistic) for which in (a, b)]
        assert [entry.a, entry.b] == pytest.approx(expected, abs=1e-12)
        assert entry.clips == 5


def test_conditions_at_levels_do_not_enter() -> None:
    classes, frames = model(0.7, 1)
    level = np.where(frames.condition == "noise", -3.0, np.nan)
    found = paired_semantic_bootstraps(
        sums((classes, replace(frames, level=level))), sums((classes, frames)), ["noise_mIoU", "mIoU"], 10, generator()
    )
    assert [entry.difference for entry in found] == [None, 0]


@pytest.mark.parametrize("missing", ALL)
def test_a_missing_condition_makes_it_undefined(missing: str) -> None:
    a = model(0.7, 1)
    (entry,) = paired_semantic_bootstraps(
        sums(part(a, a[1].condition != missing)), sums(a), ["G_mIoU"], 10, generator()
    )
    assert (entry.a, entry.difference, entry.low, entry.p, entry.samples) == (None, None, None, None, 0)


def test_no_common_clip_is_undefined() -> None:
    a = model(0.7, 1)
    (entry,) = paired_semantic_bootstraps(
        sums(part(a, a[1].clip < 3)), sums(part(a, a[1].clip >= 3)), ["mIoU"], 10, generator()
    )
    assert (entry.clips, entry.difference) == (0, None)


def test_what_cannot_be_used_is_refused() -> None:
    a = model(0.7, 1)
    with pytest.raises(OptionError, match="statistic: found 'miou'; expected one of mIoU"):
        paired_semantic_bootstraps(sums(a), sums(a), ["miou"], 10, generator())
    with pytest.raises(OptionError, match="samples: found 0"):
        paired_semantic_bootstraps(sums(a), sums(a), ["mIoU"], 0, generator())
    with pytest.raises(MetricInputError, match="found protocols strict and pooled"):
        paired_semantic_bootstraps(sums(a), sums(a, "pooled"), ["mIoU"], 10, generator())
    with pytest.raises(MetricInputError, match=r"classes: found .* frames next to 2; expected statistics of the same"):
        semantic_sums(a[0], a[1].select(np.arange(2)), STRICT)


@every_protocol
def test_a_slow_bootstrap_agrees(protocol: SemanticProtocol) -> None:
    which = model(0.7, 1)
    resampling = Resampling(Clusters(np.arange(CLIPS)), samples=40, seed=3)
    class_ids = [BACKGROUND, 21, 33, 70]
    found = class_intervals(
        semantic_sums(*which, protocol), list(range(CLIPS)), NEGATIVES, class_ids, resampling_of=lambda _: resampling
    )
    grouping = resampling.grouping([(CLEAN, None)])
    (times,) = resampling.blocks(np.eye(CLIPS), grouping)
    resamples = [slow_scores(which, np.repeat(np.arange(CLIPS), counts.astype(int)), protocol.name) for counts in times]
    for class_id in class_ids:
        slow = [scores.of_class(class_id) for scores in resamples]
        # Background is everywhere.
        clusters = CLIPS if class_id == BACKGROUND else len(clips_with(which, class_id, protocol))
        for name in ALL:
            conditions = [entry for score in slow for entry in score.conditions if entry.condition == name]
            values = {
                "miou": [c.miou for c in conditions],
                "f": [c.f for c in conditions],
                "fpr": [c.fpr for c in conditions],
            }
            for measure, of in values.items():
                expected = interval(of, CLIPS if measure == "fpr" else clusters)
                same(found[class_id].get(((name, None), measure)), expected)
        same(found[class_id].get((G_KEY, "miou")), interval([score.g_miou for score in slow], clusters))
        same(found[class_id].get((G_KEY, "fpr")), interval([score.g_fpr for score in slow], CLIPS))


def clips_with(which: Model, class_id: int, protocol: SemanticProtocol) -> set[int]:
    """Clips in which a class is predicted or true; strict does not count what is predicted alone under a negative condition."""
    classes, frames = which
    has_class = classes.class_id == class_id
    if protocol.name == "strict":
        has_class &= (classes.target > 0) | ~frames.negative[classes.frame]
    return set(frames.clip[classes.frame[has_class]].tolist())


def interval(values: list[float | None], clusters: int) -> Interval | None:
    defined = [value for value in values if value is not None]
    if not defined:
        return None
    low, high = np.percentile(defined, expanded_percentiles(clusters))
    return Interval(float(low), float(high))


def same(found: Interval | None, expected: Interval | None) -> None:
    assert (found is None) == (expected is None)
    if found is not None and expected is not None:
        assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def simulated(generator: np.random.Generator, clips: int, shares: tuple[float, ...]) -> tuple[SemanticSums, np.ndarray]:
    """Sums of clips of five frames under clean sound, class k in a share of them; and the true IoU of every class."""
    terms = np.zeros((clips, 3, NUM_CLASSES))
    truth = np.linspace(0.3, 0.8, len(shares))
    for class_id, (share, mean) in enumerate(zip(shares, truth, strict=True)):
        has = generator.random(clips) < share
        # Frames of a clip are alike.
        quality = generator.beta(4 * mean, 4 * (1 - mean), clips)
        terms[:, 0, class_id] = 5 * quality * has
        terms[:, 1, class_id] = 5 * quality * has
        terms[:, 2, class_id] = 5 * has
    flat = np.concatenate([terms.reshape(clips, -1), np.zeros((clips, 1)), np.ones((clips, 1))], axis=1)
    condition = np.full(clips, CLEAN)
    level = np.full(clips, np.nan)
    negative = np.zeros(clips, dtype=np.bool_)
    return (
        SemanticSums(STRICT, np.arange(clips), condition, level, negative, flat, np.zeros((clips, NUM_CLASSES))),
        truth,
    )


def test_coverage_is_about_95_percent_of_frequent_and_of_rare_classes() -> None:
    # Of 120 clips: 60, 24, 12 and 8 on average.
    shares, repetitions = (0.5, 0.2, 0.1, 0.07), 300
    generator = np.random.default_rng(5)
    covered = np.zeros(len(shares))
    for _ in range(repetitions):
        sums, truth = simulated(generator, 120, shares)
        found = class_intervals(sums, list(range(120)), NEGATIVES, range(len(shares)), samples=400)
        for class_id, value in enumerate(truth):
            of = found[class_id].get(((CLEAN, None), "miou"))
            covered[class_id] += of is not None and of.low <= value <= of.high
    rates = covered / repetitions
    assert (rates > 0.89).all(), rates
    assert (rates < 0.99).all(), rates


def test_a_class_of_one_cluster_has_no_interval_and_background_no_fpr() -> None:
    sums, _ = simulated(np.random.default_rng(0), 30, (1.0, 0.0))
    sums.terms[4, [1, NUM_CLASSES + 1, 2 * NUM_CLASSES + 1]] = (2.0, 2.0, 5.0)
    found = class_intervals(sums, list(range(30)), NEGATIVES, [0, 1, 2], samples=100)
    assert set(found[0]) == {((CLEAN, None), "miou"), ((CLEAN, None), "f")}
    assert set(found[1]) == {((CLEAN, None), "fpr")}
    assert set(found[2]) == {((CLEAN, None), "fpr")}
    assert set(class_intervals(sums, [0] * 4 + [1] + [0] * 25, NEGATIVES, [1], samples=100)[1]) == set(found[1])


@every_protocol
def test_classes_are_taken_a_few_at_a_time(protocol: SemanticProtocol, monkeypatch: pytest.MonkeyPatch) -> None:
    sums = semantic_sums(*model(0.7, 1), protocol)

    def all_classes() -> dict[int, object]:
        return dict(class_intervals(sums, list(range(CLIPS)), NEGATIVES, range(NUM_CLASSES), samples=60))

    several = all_classes()
    monkeypatch.setattr(bootstrap, "_CLASSES_AT_ONCE", 1)
    assert all_classes().keys() == several.keys()
    for class_id, of_class in all_classes().items():
        assert isinstance(of_class, dict)
        for key, one in of_class.items():
            same(one, several[class_id][key])  # type: ignore[index]


def test_memory_stays_flat() -> None:
    sums, _ = simulated(np.random.default_rng(0), 400, (0.3,) * NUM_CLASSES)
    tracemalloc.start()
    class_intervals(sums, list(range(400)), NEGATIVES, range(NUM_CLASSES), samples=5000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # All scores of all classes at once would take 8.5 MB for each of 71 / 8 parts of them, and their sums four times as much.
    assert peak < 40e6


def test_no_class_is_nothing() -> None:
    assert class_intervals(semantic_sums(*model(0.7, 1), STRICT), list(range(CLIPS)), NEGATIVES, []) == {}
