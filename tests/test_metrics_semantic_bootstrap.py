"""The paired bootstrap over classes: the scores of every resample are those of its clips, scored from the beginning."""

from __future__ import annotations

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
    SemanticSums,
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
from avsrobust.vocabulary import CLEAN, NEGATIVES

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
    """The data set's score of the drawn clips, each of them a clip of its own however often it was drawn."""
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
    return semantic_scores(again, scored, SEMANTIC_PROTOCOLS[protocol]).headline


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
