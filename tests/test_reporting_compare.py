"""Comparing two models: the same clips only, the report's own numbers, honest intervals."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from avsrobust.errors import OptionError, ResultsError
from avsrobust.metrics import PROTOCOLS, concatenate
from avsrobust.reporting.columns import METRICS, MISSING
from avsrobust.reporting.compare import (
    Comparison,
    compare,
    compare_models,
    comparison_json,
    comparisons_json,
    render_comparison,
    render_comparisons,
)
from avsrobust.reporting.table_builder import build_table
from avsrobust.results import Scores

Make = Callable[..., Scores]


def net(skill: float, noise: int = 0) -> Callable[[np.ndarray, str, int], np.ndarray]:
    def predict(target: np.ndarray, condition: str, clip: int) -> np.ndarray:
        generator = np.random.default_rng([clip, len(condition), noise])
        return generator.random(target.shape) * np.where(target, skill if condition == "clean" else 0.7, 0.6)

    return predict


def difference(comparison: Comparison, statistic: str) -> tuple[float, float, float]:
    (split,) = comparison.splits
    entry = next(entry for entry in split.differences if entry.statistic == statistic)
    assert entry.difference is not None
    assert entry.low is not None
    assert entry.high is not None
    return entry.difference, entry.low, entry.high


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_it_compares_the_reports_own_numbers(make_scores: Make, protocol: str) -> None:
    a, b = make_scores(net(1.0), model="a", empty=(2,)), make_scores(net(0.7), model="b", empty=(2,))
    (split,) = compare(a, b, protocol, samples=50).splits
    table = build_table([a, b], [protocol])
    shown = {entry.statistic: (entry.a, entry.b) for entry in split.differences}
    for name in METRICS:
        expected = [line.score.columns()[name] for line in table.lines]
        assert list(shown[name]) == pytest.approx(expected, abs=1e-12)
    assert shown["mIoU-"] == pytest.approx([line.score.miou_negative for line in table.lines], abs=1e-12)


def test_a_model_does_not_differ_from_itself(make_scores: Make) -> None:
    a = make_scores(net(0.9))
    for entry in compare(a, a, samples=100).splits[0].differences:
        assert (entry.difference, entry.low, entry.high, entry.p) == (0, 0, 0, 1)


def test_a_real_difference_is_found_and_chance_is_not(make_scores: Make) -> None:
    clips = range(40)
    good, bad, other = (
        make_scores(net(skill, noise), model=str(noise), clips=clips) for skill, noise in ((1.0, 0), (0.7, 1), (1.0, 2))
    )
    _, low, _ = difference(compare(good, bad, samples=500), "mIoU")
    assert low > 0
    found, low, high = difference(compare(good, other, samples=500), "silence_mIoU")
    assert low < found < high
    assert low < 0 < high


def test_only_common_clips_count_and_the_others_are_told(make_scores: Make) -> None:
    a = make_scores(net(0.9), model="a", clips=range(6))
    b = make_scores(net(0.8), model="b", clips=range(2, 9))
    both = compare(a, b, samples=200)
    (split,) = both.splits
    assert (split.common, split.only_a, split.only_b) == (4, 2, 3)
    inner = [make_scores(net(skill), model=name, clips=range(2, 6)) for skill, name in ((0.9, "a"), (0.8, "b"))]
    assert compare(*inner, samples=200).splits[0].differences == split.differences
    assert "test: 4 common clips; 2 only in A, 3 only in B" in render_comparison(both)


def test_the_seed_alone_decides(make_scores: Make) -> None:
    a, b = make_scores(net(0.9), model="a"), make_scores(net(0.8), model="b")
    assert compare(a, b, samples=100, seed=1) == compare(a, b, samples=100, seed=1)
    assert compare(a, b, samples=100, seed=1).splits != compare(a, b, samples=100, seed=2).splits


def test_an_undefined_score_is_shown_as_such(make_scores: Make) -> None:
    a = make_scores("oracle", conditions=("clean", "silence"))
    b = make_scores("empty", conditions=("clean", "silence"))
    comparison = compare(a, b, "strict", samples=50)
    lines = render_comparison(comparison).splitlines()
    assert any("| G-mIoU ↑" in line and line.count(MISSING) == 5 for line in lines)
    assert any("| mIoU ↑" in line and "**+100.00**" in line for line in lines)
    content = json.loads(comparison_json(comparison))
    found = {entry["statistic"]: entry for entry in content["splits"][0]["differences"]}
    assert found["G_mIoU"]["difference"] is None
    assert found["silence_mIoU"]["difference"] == 0


def test_further_conditions_are_compared_too(make_scores: Make) -> None:
    pairs = [
        [make_scores(net(skill), model=name, levels=levels) for name, skill in (("a", 1.0), ("b", 0.7))]
        for levels in ((), (-3.0, 3.0))
    ]
    (plain,), (split,) = (compare(*pair, "strict", samples=50).splits for pair in pairs)
    assert split.differences == plain.differences
    assert [(entry.condition, entry.level, entry.polarity) for entry in split.further] == [
        ("mixture", -3.0, "positive"),
        ("mixture", 3.0, "positive"),
    ]
    for line, side in zip(build_table(pairs[1], ["strict"]).lines, ("a", "b"), strict=True):
        shown = {entry.statistic: getattr(entry, side) for group in split.further for entry in group.differences}
        for level in ("-3", "3"):
            score = line.score.condition("mixture", float(level))
            assert score is not None
            assert [shown[f"mixture@{level}_{name}"] for name in ("mIoU", "F", "FPR")] == pytest.approx(
                [score.miou, score.f, score.fpr], abs=1e-12
            )
    text, content = (show(compare(*pairs[1], "strict", samples=50)) for show in (render_comparison, comparison_json))
    assert "test: under further conditions" in text
    assert "| mixture -3 dB | mIoU ↑ |" in text
    assert len(json.loads(content)["splits"][0]["further"]) == 2
    for without in (compare(*pairs[0], samples=50), compare(pairs[0][0], pairs[1][1], samples=50)):
        assert "further" not in comparison_json(without)


def test_every_split_is_compared_by_itself(make_scores: Make) -> None:
    def joined(model: str, skill: float) -> Scores:
        parts = [make_scores(net(skill), model=model, split=split) for split in ("val", "test")]
        index = pd.concat([part.index for part in parts], ignore_index=True)
        return replace(parts[0], index=index, statistics=concatenate([part.statistics for part in parts]))

    comparison = compare(joined("a", 0.9), joined("b", 0.8), samples=50)
    assert [(split.split, split.common) for split in comparison.splits] == [("test", 6), ("val", 6)]


def test_names_are_told_apart_and_seeds_noted(make_scores: Make) -> None:
    a = replace(make_scores("oracle"), source=Path("one/scores.parquet"))
    b = replace(make_scores("oracle", seed=7), source=Path("two/scores.parquet"))
    comparison = compare(a, b, samples=20)
    assert (comparison.a, comparison.b) == ("oracle (one/scores.parquet)", "oracle (two/scores.parquet)")
    assert comparison.notes[0].startswith("the builds' seeds differ (42, 7)")


def test_what_does_not_belong_together_is_refused(make_scores: Make) -> None:
    a = make_scores("oracle")
    with pytest.raises(ResultsError, match="the second: is of data set ms3, the first of s4; expected results of one"):
        compare(a, make_scores("oracle", dataset="ms3"))
    with pytest.raises(ResultsError, match="the second: has split val, the first test; expected the same splits"):
        compare(a, make_scores("oracle", split="val"))
    with pytest.raises(ResultsError, match="has no scored clip of split test in common"):
        compare(a, make_scores("oracle", clips=range(50, 52)))
    with pytest.raises(OptionError, match="--protocol x: unknown"):
        compare(a, a, "x")
    with pytest.raises(OptionError, match="samples: found 0"):
        compare(a, a, samples=0)


def three(make_scores: Make, dataset: str = "s4") -> list[Scores]:
    skills = {"good": 1.0, "fair": 0.8, "poor": 0.6}
    return [make_scores(net(skill), model=name, dataset=dataset, clips=range(12)) for name, skill in skills.items()]


def test_all_pairs_or_all_with_a_reference(make_scores: Make) -> None:
    models = [*three(make_scores), *three(make_scores, "ms3")[:2]]
    every = compare_models(models, samples=50)
    assert [(entry.dataset, entry.a, entry.b) for entry in every.comparisons] == [
        ("s4", "good", "fair"),
        ("s4", "good", "poor"),
        ("s4", "fair", "poor"),
        ("ms3", "good", "fair"),
    ]
    with_reference = compare_models(models, "fair", samples=50)
    assert [(entry.dataset, entry.a, entry.b) for entry in with_reference.comparisons] == [
        ("s4", "good", "fair"),
        ("s4", "poor", "fair"),
        ("ms3", "good", "fair"),
    ]
    first = every.comparisons[0].splits[0].differences
    alone = compare(*models[:2], samples=50).splits[0].differences
    assert [replace(entry, p_holm=None) for entry in first] == [replace(entry, p_holm=None) for entry in alone]
    for corrected, single in zip(first, alone, strict=True):
        assert corrected.p_holm is not None
        assert single.p_holm == single.p
        assert corrected.p_holm >= single.p_holm


def test_one_pair_reads_as_before_and_several_have_an_overview(make_scores: Make) -> None:
    models = three(make_scores)
    pair = compare_models(models[:2], samples=400)
    assert render_comparisons(pair) == render_comparison(pair.comparisons[0])
    assert comparisons_json(pair) == comparison_json(pair.comparisons[0])
    content = json.loads(comparisons_json(pair))
    assert {"a", "b", "dataset", "protocol", "samples", "seed", "splits", "notes", "negatives"} <= content.keys()
    assert {"statistic", "a", "b", "difference", "low", "high", "p", "p_holm"} <= content["splits"][0]["differences"][
        0
    ].keys()
    several = compare_models(models, samples=400)
    text = render_comparisons(several)
    assert text.startswith("## s4, test: A - B, protocol avsbench, in percent")
    assert "p (Holm)" in text
    assert "p (Holm) |" not in render_comparisons(pair)
    content = json.loads(comparisons_json(several))
    assert (content["reference"], len(content["comparisons"])) == (None, 3)


def test_too_few_resamples_are_noted(make_scores: Make) -> None:
    assert "100 resamples are too few" in compare_models(three(make_scores), samples=100).notes[0]
    assert compare_models(three(make_scores), samples=1000).notes == ()


def test_the_clips_that_changed_most_are_listed(make_scores: Make) -> None:
    def other(target: np.ndarray, condition: str, clip: int) -> np.ndarray:
        return target * (0.0 if (clip, condition) == (3, "noise") else 0.9)

    a, b = make_scores("visual_prior", model="a"), make_scores(other, model="b")
    (split,) = compare(a, b, "strict", samples=20, changed=2).splits
    first = split.changed[0]
    assert (first.clip_id, first.condition, first.difference) == ("clip003", "noise", 1.0)
    assert len(split.changed) == 2
    comparison = compare(a, b, "strict", samples=20, changed=1)
    assert "| clip003 | noise" in render_comparison(comparison)
    assert json.loads(comparison_json(comparison))["splits"][0]["changed"][0]["clip_id"] == "clip003"
    assert "changed" not in comparison_json(compare(a, b, "strict", samples=20))
    with pytest.raises(OptionError, match="--changed: found -1"):
        compare(a, b, changed=-1)


def test_negatives_of_g_are_chosen_as_in_a_report(make_scores: Make) -> None:
    a, b = make_scores(net(1.0), model="a"), make_scores(net(0.7), model="b")
    (split,) = compare(a, b, "strict", samples=20, negatives=["silence"]).splits
    found = {entry.statistic: (entry.a, entry.b) for entry in split.differences}
    lines = build_table([a, b], ["strict"], negatives=["silence"]).lines
    for name in ("G_mIoU", "G_F", "G_FPR"):
        assert found[name] == pytest.approx([line.score.columns()[name] for line in lines])
    assert "G scores are over silence" in render_comparison(compare(a, b, samples=20, negatives=["silence"]))
    with pytest.raises(OptionError, match="--negatives: 'clean' is positive"):
        compare(a, b, negatives=["clean"])


def test_common_clips_of_all_models(make_scores: Make) -> None:
    models = [make_scores(net(0.9), model=str(n), clips=range(n, n + 8)) for n in range(3)]
    pairs = compare_models(models, samples=20)
    assert [entry.splits[0].common for entry in pairs.comparisons] == [7, 6, 7]
    common = compare_models(models, samples=20, common_clips=True)
    assert [entry.splits[0].common for entry in common.comparisons] == [6, 6, 6]
    assert "s4/test: 4 of 10 clips left out, on which not every model was scored" in common.notes


def test_what_no_pair_has_is_noted_or_refused(make_scores: Make) -> None:
    models = three(make_scores)
    lonely = make_scores("oracle", dataset="ms3")
    assert compare_models([*models, lonely], samples=20).notes[0] == (
        "ms3 is skipped: only oracle was evaluated on it; expected two models or more"
    )
    with pytest.raises(ResultsError, match="found no two results on one data set"):
        compare_models([lonely], samples=20)
    with pytest.raises(OptionError, match=r"--reference: 'goood' is no model of the results; .*did you mean 'good'"):
        compare_models(models, "goood")
    with pytest.raises(ResultsError, match="--reference good: found 2 results of it on s4"):
        compare_models([*models, models[0]], "good")


def test_other_sizes_are_refused(make_scores: Make) -> None:
    a = make_scores("oracle", model="a")
    b = make_scores("oracle", model="b")
    b = replace(b, info=replace(b.info, score_size="224:nearest"))
    with pytest.raises(ResultsError, match="scored at size 224:nearest, those of the first at the mask files' own"):
        compare(a, b)


def test_hostile_names_stay_inert_among_several(make_scores: Make) -> None:
    names = ("<script>x</script>", "a | b", "c\u202ed")
    models = [make_scores(net(0.5 + 0.1 * n), model=name) for n, name in enumerate(names)]
    text = render_comparisons(compare_models(models, samples=20, changed=1))
    assert "<script>" not in text
    assert "\u202e" not in text
    assert "| a | b |" not in text
    assert json.loads(comparisons_json(compare_models(models, samples=20)))["comparisons"][0]["a"] == names[0]
