"""The table: closed forms, order, categories, trivial scores, what is missing and what is said about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from avsrobust.errors import OptionError, ResultsError
from avsrobust.metrics import PROTOCOLS, dataset_score, g_score, get_protocol
from avsrobust.reporting.columns import CSV_COLUMNS, METRICS
from avsrobust.reporting.model import Line, Table
from avsrobust.reporting.presentation import best_columns, sections
from avsrobust.reporting.split_results import split_result
from avsrobust.reporting.table_builder import build_table
from avsrobust.results import Run, Scores

Make = Callable[..., Scores]
BASELINES = ("oracle", "visual_prior", "empty")


def net(skill: float, visual_share: float) -> Callable[[np.ndarray, str, int], np.ndarray]:
    """A model that finds the target with `skill` and goes on doing so by `visual_share` under negative sound."""

    def predict(target: np.ndarray, condition: str, clip: int) -> np.ndarray:
        generator = np.random.default_rng([clip, len(condition)])
        listens = condition in ("clean", "mixture")
        return generator.random(target.shape) * np.where(target, skill if listens else skill * visual_share, 0.55)

    return predict


def only(table: Table) -> Line:
    assert len(table.lines) == 1
    return table.lines[0]


def test_the_columns_are_those_of_the_contract() -> None:
    assert ",".join(CSV_COLUMNS) == (
        "model,dataset,split,protocol,clips,mIoU,F,silence_mIoU,silence_F,silence_FPR,noise_mIoU,noise_F,noise_FPR,"
        "offscreen_mIoU,offscreen_F,offscreen_FPR,G_mIoU,G_F,G_FPR,seed,recipe,release"
    )


def test_the_oracle_is_perfect_and_the_visual_only_model_worthless(make_scores: Make) -> None:
    table = build_table([make_scores(name) for name in BASELINES], ["strict"])
    found = {line.subject.model: line.score.columns() for line in table.lines}
    assert (found["oracle"]["G_mIoU"], found["oracle"]["G_F"], found["oracle"]["G_FPR"]) == (1, 1, 0)
    assert (found["visual_prior"]["mIoU"], found["visual_prior"]["G_mIoU"], found["visual_prior"]["G_F"]) == (1, 0, 0)
    assert (found["empty"]["mIoU"], found["empty"]["G_mIoU"], found["empty"]["G_FPR"]) == (0, 0, 0)
    assert table.warnings == ()


def test_diagnostics_of_the_baselines(make_scores: Make) -> None:
    table = build_table([make_scores(name) for name in BASELINES], ["avsbench"])
    found = {subject.model: subject.diagnostics for subject in table.subjects}
    assert [found[name].overlap.value for name in BASELINES] == [0, 1, None]
    assert [found[name].auroc for name in BASELINES] == [1, 0.5, 0.5]
    assert found["oracle"].best_g_miou == 1
    assert found["oracle"].best_threshold is not None
    assert found["oracle"].best_threshold > 0
    assert (found["oracle"].clips, found["oracle"].frames, found["oracle"].empty_frames) == (6, 12, 0)
    assert {(entry.condition, entry.auroc) for entry in found["oracle"].conditions} == {
        ("silence", 1.0),
        ("noise", 1.0),
        ("offscreen", 1.0),
    }


def test_the_best_threshold_saves_a_model_that_only_turns_down(make_scores: Make) -> None:
    def quieter(target: np.ndarray, condition: str, clip: int) -> np.ndarray:
        return target * (0.9 if condition == "clean" else 0.7)

    (subject,) = build_table([make_scores(quieter)], ["strict"]).subjects
    assert subject.diagnostics.best_g_miou == 1
    assert subject.diagnostics.best_threshold == pytest.approx(0.7, abs=1 / 254)
    assert subject.diagnostics.overlap.value == 1


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_line_holds_what_the_metrics_say(make_scores: Make, protocol: str) -> None:
    scores = make_scores(net(0.9, 0.8), empty=(2,))
    line = only(build_table([scores], [protocol]))
    expected = dataset_score(split_result(scores, "test").frames, get_protocol(protocol))
    assert line.score == expected
    cells = line.cells()
    assert [cells[name] for name in CSV_COLUMNS[:5]] == ["net", "s4", "test", protocol, expected.clips]
    assert expected.miou is not None
    assert expected.miou_negative is not None
    assert cells["G_mIoU"] == g_score(expected.miou, expected.miou_negative)


def test_trivial_scores_are_those_of_the_empty_model(make_scores: Make) -> None:
    for protocol in PROTOCOLS:
        table = build_table([make_scores(net(0.9, 0.8), empty=(1,)), make_scores("empty", empty=(1,))], [protocol])
        model, empty = table.lines
        assert empty.subject.model == "empty"
        assert model.trivial == empty.score


def test_lines_are_sorted_and_baselines_come_last(make_scores: Make) -> None:
    results = [
        make_scores("oracle"),
        make_scores(net(0.9, 0.5), model="zebra"),
        make_scores("empty"),
        make_scores(net(0.9, 0.5), model="ant"),
        make_scores("oracle", dataset="ms3"),
        make_scores("oracle", split="val"),
    ]
    table = build_table(results, ["strict", "avsbench", "strict"])
    keys = [(line.subject.dataset, line.subject.split, line.protocol.name, line.subject.model) for line in table.lines]
    assert keys == [
        *(
            ("s4", "test", name, model)
            for name in ("avsbench", "strict")
            for model in ("ant", "zebra", "empty", "oracle")
        ),
        ("s4", "val", "avsbench", "oracle"),
        ("s4", "val", "strict", "oracle"),
        ("ms3", "test", "avsbench", "oracle"),
        ("ms3", "test", "strict", "oracle"),
    ]
    assert [section.dataset for section in sections(table)] == ["s4", "s4", "ms3"]


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.permutations(range(5)))
def test_the_order_of_results_does_not_matter(make_scores: Make, order: list[int]) -> None:
    results = [
        make_scores("oracle", clips=range(2)),
        make_scores("empty", clips=range(2)),
        make_scores("oracle", clips=range(2), seed=7),
        make_scores("oracle", clips=range(2), dataset="ms3"),
        make_scores(net(0.8, 0.5), clips=range(2)),
    ]
    straight, shuffled = (build_table([results[i] for i in chosen], ["avsbench"]) for chosen in (range(5), order))
    assert [line.cells() for line in straight.lines] == [line.cells() for line in shuffled.lines]
    assert straight.warnings == shuffled.warnings


def test_categories_count_a_clip_for_each_of_its_labels(make_scores: Make) -> None:
    scores = make_scores(net(0.9, 0.8), labels=lambda clip: ("dog", "man") if clip < 2 else ("man",))
    table = build_table([scores], ["strict"], by="category")
    assert table.columns[3:6] == ("protocol", "category", "clips")
    assert [(line.category, line.score.clips) for line in table.lines] == [("all", 6), ("dog", 2), ("man", 6)]
    frames = split_result(scores, "test").frames
    expected = dataset_score(frames.select(frames.clip < 2), get_protocol("strict"))
    assert table.lines[1].score == expected
    assert table.lines[2].score == table.lines[0].score
    assert any(note.startswith("by category: a clip with several labels counts in each") for note in table.notes)


def test_a_missing_negative_leaves_the_g_scores_empty_and_is_told(make_scores: Make) -> None:
    table = build_table([make_scores("oracle", conditions=("clean", "silence", "noise"))], ["avsbench"])
    columns = only(table).score.columns()
    assert [columns[name] for name in ("G_mIoU", "G_F", "G_FPR", "offscreen_mIoU")] == [None] * 4
    assert columns["silence_mIoU"] is not None
    assert table.warnings == (
        "oracle on s4/test: not evaluated under offscreen; G scores need all of them and are left empty",
    )


def test_missing_clean_leaves_overlap_and_auroc_undefined(make_scores: Make) -> None:
    table = build_table([make_scores("oracle", conditions=("silence", "noise", "offscreen"))], ["avsbench"])
    (subject,) = table.subjects
    diagnostics = subject.diagnostics
    assert (diagnostics.overlap.value, diagnostics.auroc, diagnostics.curve) == (None, None, None)
    assert only(table).score.columns()["mIoU"] is None
    assert "not evaluated under clean" in table.warnings[0]


def test_rows_that_are_missing_are_counted(make_scores: Make) -> None:
    scores = make_scores("oracle")
    gone = (scores.index["condition"] == "noise") & (scores.index["clip_id"] <= "clip001")
    gone |= (scores.index["condition"] == "clean") & (scores.index["clip_id"] == "clip005")
    kept = split_result(scores, "test").frames.select(~gone.to_numpy()).statistics
    table = build_table([replace(scores, index=scores.index[~gone], statistics=kept)], ["avsbench"])
    assert table.subjects[0].diagnostics.missing_rows == 3
    assert table.warnings == (
        "oracle on s4/test: 1 clip of 6 without a row under clean; that condition's means are over the others",
        "oracle on s4/test: 2 clips of 6 without a row under noise; that condition's means are over the others",
    )


def test_empty_targets_are_counted_and_strict_says_whom_it_leaves_out(make_scores: Make) -> None:
    results = [make_scores("oracle", empty=(0, 3)), make_scores("empty", empty=(0, 3))]
    table = build_table(results, ["avsbench", "strict"])
    assert {subject.diagnostics.empty_frames for subject in table.subjects} == {4}
    assert [line.score.clips for line in table.lines] == [6, 6, 4, 4]
    told = [note for note in table.notes if "skipped, whose frames" in note]
    assert told == ["s4/test, strict: 2 clips skipped, whose frames all have an empty target"]


def test_failed_clips_are_told_and_a_model_that_failed_everywhere_has_no_line(make_scores: Make) -> None:
    results = [
        make_scores("oracle", failed=("clip900",)),
        make_scores(net(1, 1), clips=(), failed=("clip000", "clip001"), model="broken"),
    ]
    table = build_table(results, ["avsbench"])
    assert only(table).subject.model == "oracle"
    assert table.warnings == (
        "broken on s4/test: no clip could be scored; it has no line",
        "broken on s4/test: 2 clips could not be scored and enter no number; see 'failed' in run.json next to the scores",
        "oracle on s4/test: 1 clip could not be scored and enter no number; see 'failed' in run.json next to the scores",
    )


def test_several_results_of_one_model_stay_apart_and_both_files_are_named(make_scores: Make) -> None:
    first = replace(make_scores("oracle"), source=Path("results/a/scores.parquet"))
    second = replace(make_scores("oracle", seed=7), source=Path("results/b/scores.parquet"))
    third = replace(first, source=Path("results/c/scores.parquet"))
    table = build_table([first, second], ["avsbench"])
    assert [line.subject.name for line in table.lines] == ["oracle (seed 7)", "oracle (seed 42)"]
    assert [line.subject.model for line in table.lines] == ["oracle", "oracle"]
    assert table.warnings[0] == (
        "oracle on s4/test: 2 results, each a line of its own: results/b/scores.parquet (seed 7), "
        "results/a/scores.parquet (seed 42); name the ones to report, or evaluate with --name"
    )
    assert table.warnings[1] == "s4/test: models were scored on different builds; their negatives differ"
    same_seed = build_table([third, first], ["avsbench"])
    assert [(line.subject.name, line.subject.source) for line in same_seed.lines] == [
        ("oracle (1)", "results/a/scores.parquet"),
        ("oracle (2)", "results/c/scores.parquet"),
    ]


def test_models_on_different_clips_or_manifests_do_not_compare(make_scores: Make) -> None:
    results = [make_scores("oracle"), make_scores("empty", clips=range(4))]
    assert build_table(results, ["avsbench"]).warnings == (
        "s4/test: models were scored on different clips (empty 4, oracle 6); --common-clips scores them on common ones",
    )
    results = [make_scores("oracle"), make_scores("empty")]
    runs = [Run(name, "s4", {"manifest": {"sha256": checksum}}) for name, checksum in (("oracle", "1"), ("empty", "2"))]
    assert build_table(results, ["avsbench"], runs=runs).warnings == (
        "s4/test: models were scored on different builds; their negatives differ",
    )
    assert build_table(results, ["avsbench"], runs=[runs[0], runs[0]]).warnings == ()


def test_conditions_at_levels_are_kept_apart_from_the_g_scores(make_scores: Make) -> None:
    plain = only(build_table([make_scores("oracle")], ["strict"]))
    line = only(build_table([make_scores("oracle", levels=(-5.0, 5.0))], ["strict"]))
    assert line.score.columns() == plain.score.columns()
    mixtures = [entry for entry in line.score.conditions if entry.condition == "mixture"]
    assert [(entry.level, entry.negative, entry.miou) for entry in mixtures] == [(-5, False, 1), (5, False, 1)]
    found = line.subject.diagnostics.under("mixture", -5.0)
    assert found is not None
    assert (found.overlap.value, found.auroc) == (1, None)


def test_the_best_value_follows_the_metrics_direction(make_scores: Make) -> None:
    results = [make_scores(net(0.95, 0.9), model="a"), make_scores(net(0.9, 0.1), model="b"), make_scores("oracle")]
    lines = build_table(results, ["strict"]).lines
    best = dict(zip([line.subject.model for line in lines], best_columns(lines), strict=True))
    a, b = (line.score.columns() for line in lines[:2])
    for name, metric in METRICS.items():
        first, second = a[name], b[name]
        assert first is not None
        assert second is not None
        assert first != second
        assert (name in best["a"]) == ((first > second) == metric.higher_is_better)
        assert (name in best["a"]) != (name in best["b"])
    assert best["oracle"] == frozenset()


def test_values_that_look_equal_share_the_mark_and_one_line_has_none(make_scores: Make) -> None:
    twice = [make_scores(net(0.9, 0.5), model="a"), make_scores(net(0.9, 0.5), model="b")]
    assert best_columns(build_table(twice, ["strict"]).lines) == [frozenset(METRICS)] * 2
    assert best_columns(build_table(twice[:1], ["strict"]).lines) == [frozenset()]
    baselines = build_table([make_scores("oracle"), make_scores("empty")], ["strict"]).lines
    assert [("G_mIoU" in best, "G_FPR" in best) for best in best_columns(baselines)] == [(False, True), (True, True)]


def test_what_cannot_be_shown_is_refused(make_scores: Make) -> None:
    scores = make_scores("oracle")
    with pytest.raises(OptionError, match=r"--protocol strikt: unknown; .*did you mean 'strict'"):
        build_table([scores], ["strikt"])
    with pytest.raises(OptionError, match="--protocol: found none"):
        build_table([scores], [])
    with pytest.raises(
        OptionError, match="--by: found 'categry'; expected category, train_source, avs_v3; did you mean 'category'"
    ):
        build_table([scores], ["strict"], by="categry")
    with pytest.raises(ResultsError, match="found no scored frame and no failed clip"):
        build_table([make_scores("oracle", clips=())], ["strict"])
