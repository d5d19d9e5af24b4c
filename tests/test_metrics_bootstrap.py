import numpy as np
import pytest

from avsrobust.errors import MetricInputError, OptionError
from avsrobust.metrics import (
    PROTOCOLS,
    ClipScores,
    Protocol,
    ScoredFrames,
    clip_scores,
    dataset_score,
    frame_statistics,
    get_protocol,
    paired_bootstrap,
    summarise,
)
from avsrobust.metrics.bootstrap import STATISTICS

ALL = ("clean", "silence", "noise", "offscreen")
STRICT = get_protocol("strict")
every_protocol = pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=lambda protocol: protocol.name)


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def model(skill: float, seed: int, clips: int = 40) -> ScoredFrames:
    """A model whose probabilities follow target and polarity with the given weight, over the same clips for every call."""
    target = generator(99).random((clips, 1, 2, 5, 6)) < 0.3
    target[0] = False
    target = np.broadcast_to(target, (clips, 4, 2, 5, 6))
    right = target & (np.arange(4) == 0)[:, None, None, None]
    pred = skill * right + (1 - skill) * generator(seed).random(target.shape)
    frames = clips * 4 * 2
    condition = np.tile(np.repeat(ALL, 2), clips)
    return ScoredFrames(
        frame_statistics(pred.reshape(frames, 5, 6), target.reshape(frames, 5, 6)),
        np.repeat(np.arange(clips), 8),
        condition,
        condition != "clean",
    )


def scores(skill: float, seed: int, protocol: Protocol = STRICT) -> ClipScores:
    return clip_scores(model(skill, seed), protocol)


@every_protocol
@pytest.mark.parametrize("statistic", STATISTICS)
def test_the_values_are_those_of_the_report(protocol: Protocol, statistic: str) -> None:
    a, b = model(0.4, 1), model(0.1, 2)
    result = paired_bootstrap(clip_scores(a, protocol), clip_scores(b, protocol), statistic, 50, generator())
    attribute = {"mIoU-": "miou_negative", "F-": "f_negative"}.get(statistic, statistic.lower())
    expected = [getattr(dataset_score(frames, protocol), attribute) for frames in (a, b)]
    assert [result.a, result.b] == pytest.approx(expected, abs=1e-12)
    assert result.difference == pytest.approx(expected[0] - expected[1], abs=1e-12)
    assert result.low is not None
    assert result.high is not None
    assert result.low <= result.difference <= result.high
    assert (result.clips, result.samples) == (39 if protocol is STRICT else 40, 50)


def test_the_same_scores_do_not_differ() -> None:
    a = scores(0.2, 1)
    result = paired_bootstrap(a, a, "G_mIoU", 200, generator())
    assert (result.difference, result.low, result.high, result.p) == (0, 0, 0, 1)


def test_a_clear_difference_is_found_and_its_sign_turns_with_the_models() -> None:
    a, b = scores(0.45, 1), scores(0.1, 2)
    forward, backward = (paired_bootstrap(*pair, "G_mIoU", 999, generator()) for pair in ((a, b), (b, a)))
    assert forward.p == backward.p == 2 / 1000
    assert forward.low is not None
    assert backward.high is not None
    assert forward.low > 0
    assert forward.low == -backward.high


def test_models_of_equal_skill_do_not_differ_clearly() -> None:
    p = [paired_bootstrap(scores(0.2, s), scores(0.2, s + 50), "mIoU", 300, generator()).p for s in range(1, 13)]
    assert np.median([value for value in p if value is not None]) > 0.1


def test_it_equals_a_plain_loop_over_resampled_clips() -> None:
    a, b = scores(0.4, 1, get_protocol("avsbench")), scores(0.1, 2, get_protocol("avsbench"))
    draws = generator().integers(40, size=(30, 40))
    differences = []
    for drawn in draws:
        g = []
        for table in (a, b):
            means = [
                np.mean([table.value[(table.clip == clip) & (table.condition == name)][0, 0] for clip in drawn])
                for name in ALL
            ]
            rejected = 1 - np.mean(means[1:])
            g.append(2 * means[0] * rejected / (means[0] + rejected))
        differences.append(g[0] - g[1])
    result = paired_bootstrap(a, b, "G_mIoU", 30, generator())
    assert (result.low, result.high) == pytest.approx(np.percentile(differences, [2.5, 97.5]), abs=1e-12)


def test_the_generator_alone_decides_and_blocks_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = scores(0.4, 1), scores(0.3, 2)
    first, second = (paired_bootstrap(a, b, "F", 100, generator(5)) for _ in range(2))
    assert first == second
    monkeypatch.setattr("avsrobust.metrics.bootstrap._BLOCK_DRAWS", 39 * 7)
    assert paired_bootstrap(a, b, "F", 100, generator(5)) == first
    assert paired_bootstrap(a, b, "F", 100, generator(6)) != first


def test_only_rows_that_both_models_have_count() -> None:
    a, b = model(0.4, 1), model(0.1, 2)
    part = b.select((b.clip < 30) & ~((b.condition == "offscreen") & (b.clip == 7)))
    result = paired_bootstrap(clip_scores(a, STRICT), clip_scores(part, STRICT), "G_F", 20, generator())
    same = a.select((a.clip < 30) & ~((a.condition == "offscreen") & (a.clip == 7)))
    assert result.a == pytest.approx(dataset_score(same, STRICT).g_f, abs=1e-12)
    assert result.b == pytest.approx(dataset_score(part, STRICT).g_f, abs=1e-12)
    assert result.clips == 29


def test_pooling_keeps_clips_in_which_one_model_is_silent() -> None:
    """The empty target of clip 0 has no union where nothing is activated; the other model's false alarm there counts."""
    pooled = get_protocol("pooled")
    silent, loud = scores(0.0, 1, pooled), scores(0.0, 1, pooled)
    is_empty = silent.clip == 0
    silent.numerator[is_empty, :2] = silent.denominator[is_empty, :2] = 0
    result = paired_bootstrap(silent, loud, "mIoU-", 20, generator())
    assert result.b == pytest.approx(summarise(loud).miou_negative, abs=1e-12)
    assert result.a == pytest.approx(summarise(silent).miou_negative, abs=1e-12)


@pytest.mark.parametrize("missing", ["clean", "noise"])
def test_a_missing_condition_makes_it_undefined(missing: str) -> None:
    frames = model(0.3, 1)
    part = clip_scores(frames.select(frames.condition != missing), STRICT)
    result = paired_bootstrap(part, clip_scores(frames, STRICT), "G_mIoU", 20, generator())
    assert (result.a, result.b, result.difference, result.low, result.high, result.p) == (None,) * 6
    assert (result.clips, result.samples) == (39, 0)


def test_no_common_clip_is_undefined() -> None:
    frames = model(0.3, 1)
    a, b = (clip_scores(frames.select(flags), STRICT) for flags in (frames.clip < 20, frames.clip >= 20))
    assert paired_bootstrap(a, b, "mIoU", 20, generator()).clips == 0
    assert paired_bootstrap(a, b, "mIoU", 20, generator()).difference is None


def test_resamples_without_the_rare_condition_are_not_counted() -> None:
    frames = model(0.3, 1, clips=4)
    rare = clip_scores(frames.select((frames.condition != "offscreen") | (frames.clip == 2)), STRICT)
    result = paired_bootstrap(rare, rare, "G_mIoU", 200, generator())
    assert 0 < result.samples < 200
    assert result.p == 1


def test_options_that_cannot_be_used_are_refused() -> None:
    a = scores(0.3, 1)
    with pytest.raises(OptionError, match=r"found 'G_miou'; expected one of mIoU, .*; did you mean 'G_mIoU'\?"):
        paired_bootstrap(a, a, "G_miou", 10, generator())
    with pytest.raises(OptionError, match="samples: found 0; expected at least 1"):
        paired_bootstrap(a, a, "mIoU", 0, generator())
    with pytest.raises(MetricInputError, match="found protocols strict and pooled"):
        paired_bootstrap(a, scores(0.3, 1, get_protocol("pooled")), "mIoU", 10, generator())
