"""Reports of the semantic task: its lines, and that these never mix with lines of the binary task."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch

from avsrobust.adapters.baselines import Empty, Oracle, VisualPrior
from avsrobust.datasets.taxonomy import AVSS_CLASSES
from avsrobust.errors import OptionError, ResultsError
from avsrobust.evaluation.runner import evaluate
from avsrobust.metrics import SEMANTIC_PROTOCOLS, class_statistics, semantic_scores, take_classes
from avsrobust.reporting.breakdowns import AVS_V3_UNSEEN
from avsrobust.reporting.columns import CSV_COLUMNS, METRICS
from avsrobust.reporting.compare import compare, comparison_json, render_comparison
from avsrobust.reporting.formats import find_format, format_names
from avsrobust.reporting.report import report
from avsrobust.reporting.split_results import split_result
from avsrobust.reporting.table_builder import build_table
from avsrobust.results import Scores, read_scores, write_scores

Make = Callable[..., Scores]
CLASS_OF = (21, 70)


def with_classes(scores: Scores, shows: Callable[[str], bool], wrong: int | None = None) -> Scores:
    """Add the classes of a model that shows the target, of one class per clip, or nothing (`wrong`: this class instead)."""
    targets, preds = [], []
    for clip, condition, pixels in zip(
        scores.index["clip_id"], scores.index["condition"], scores.statistics.target_pixels, strict=True
    ):
        class_id = CLASS_OF[int(clip[4:]) % 2]
        target = np.zeros((12, 16), np.uint8)
        target.flat[: int(pixels)] = class_id
        targets.append(target)
        preds.append(np.where(target > 0, wrong or class_id, 0) * shows(condition))
    return replace(scores, classes=class_statistics(np.stack(preds), np.stack(targets)))


@pytest.fixture
def oracle(make_scores: Make) -> Scores:
    return with_classes(make_scores("oracle", dataset="avss"), lambda condition: condition == "clean")


@pytest.fixture
def visual_only(make_scores: Make) -> Scores:
    return with_classes(make_scores("visual_prior", dataset="avss", model="net"), lambda condition: True)


@pytest.fixture
def binary(make_scores: Make) -> Scores:
    return make_scores("visual_prior", dataset="avss", model="plain")


def rows_of(results: list[Scores], protocols: list[str], **choices: Any) -> list[dict[str, str]]:
    content = report(results, protocols, format="csv", **choices).content
    assert isinstance(content, str)
    return list(csv.DictReader(io.StringIO(content)))


def test_lines_are_the_semantic_scores(oracle: Scores, visual_only: Scores) -> None:
    table = build_table([oracle, visual_only], list(SEMANTIC_PROTOCOLS))
    assert [(line.subject.model, line.protocol.name) for line in table.lines] == [
        (model, protocol) for protocol in sorted(SEMANTIC_PROTOCOLS) for model in ("net", "oracle")
    ]
    for line in table.lines:
        entry = split_result(oracle if line.subject.model == "oracle" else visual_only, "test")
        assert entry.classes is not None
        expected = semantic_scores(entry.classes, entry.frames, SEMANTIC_PROTOCOLS[line.protocol.name])
        assert line.score == expected.headline
        assert line.semantic is not None
        assert line.semantic.secondary == expected.secondary
    strict = {line.subject.model: line.score for line in table.lines if line.protocol.name == "strict"}
    assert (strict["oracle"].g_miou, strict["oracle"].g_f, strict["oracle"].g_fpr) == (1, 1, 0)
    assert (strict["net"].miou, strict["net"].g_miou) == (1, 0)
    assert table.warnings == ()


def test_trivial_scores_are_those_of_the_empty_model(make_scores: Make, visual_only: Scores) -> None:
    empty = with_classes(make_scores("empty", dataset="avss"), lambda condition: False)
    for protocol in SEMANTIC_PROTOCOLS:
        model, nothing = build_table([visual_only, empty], [protocol]).lines
        assert model.trivial == nothing.score


def test_a_model_of_the_wrong_class_hears_but_does_not_know(make_scores: Make) -> None:
    wrong = with_classes(make_scores("oracle", dataset="avss", model="net"), lambda c: c == "clean", wrong=33)
    (by_class,) = build_table([wrong], ["strict"]).lines
    assert (by_class.score.miou, by_class.score.g_fpr) == (0, 0)
    (binary,) = build_table([wrong], ["strict"], task="binary").lines
    assert (binary.score.miou, binary.score.g_miou) == (1, 1)


def test_csv_keeps_its_columns_and_marks_lines_that_are_not_by_class(
    oracle: Scores, binary: Scores, make_scores: Make
) -> None:
    rows = rows_of([oracle, binary, make_scores("oracle")], ["strict"])
    assert list(rows[0]) == [*CSV_COLUMNS, "signature"]
    assert [(row["dataset"], row["model"], row["protocol"]) for row in rows] == [
        ("s4", "oracle", "strict"),
        ("avss", "oracle", "strict"),
        ("avss", "plain", "strict-binary"),
    ]
    assert [row["protocol"] for row in rows_of([binary], ["strict"])] == ["strict"]
    requested = rows_of([oracle, binary], ["strict"], task="binary")
    assert [(row["model"], row["protocol"], row["mIoU"]) for row in requested] == [
        ("plain", "strict", "1.0"),
        ("oracle", "strict", "1.0"),
    ]


def test_tasks_share_no_block(oracle: Scores, visual_only: Scores, binary: Scores) -> None:
    content = report([oracle, visual_only, binary], ["strict"], format="md").content
    assert isinstance(content, str)
    first, second = content.split("## avss, test: does the sound")[0].split(
        "## avss, test: protocol strict, binary segmentation"
    )
    assert first.startswith("## avss, test: protocol strict, semantic segmentation")
    assert "mIoU and F are means over classes without background" in first
    assert "Means over classes with background (strict)" in first
    assert "By class (strict)" in first
    assert "| elephant " in first
    assert "plain" not in first
    assert "plain" in second
    assert "oracle" not in second
    (warning,) = build_table([oracle, visual_only, binary], ["strict"]).warnings
    assert warning.startswith("avss/test: net, oracle scored as semantic, plain only as binary segmentation")


def test_binary_lines_on_avss_say_so(binary: Scores) -> None:
    table = build_table([binary], ["strict"])
    assert table.warnings == ()
    assert any(note.startswith("avss, binary segmentation: any class but background") for note in table.notes)
    assert str(find_format("md")(table)).startswith("## avss, test: protocol strict, binary segmentation")


def test_only_results_with_classes_can_be_requested(oracle: Scores, binary: Scores) -> None:
    assert [row["model"] for row in rows_of([oracle, binary], ["strict"], task="semantic")] == ["oracle"]
    with pytest.raises(
        ResultsError, match=r"--task semantic: no result holds classes \(first: plain .*evaluated on avss"
    ):
        build_table([binary], ["strict"], task="semantic")
    with pytest.raises(
        OptionError, match="--task: found 'semantics'; expected semantic or binary; did you mean 'semantic'"
    ):
        build_table([binary], ["strict"], task="semantics")


def test_protocols_of_one_task_alone_are_said_to_be_so(oracle: Scores, binary: Scores, make_scores: Make) -> None:
    table = build_table([oracle], ["bias_in_avs"])
    assert table.lines == ()
    assert table.warnings == (
        "oracle on avss/test: no line under bias_in_avs, which scores no classes; --task binary has it",
    )
    for name in format_names():
        assert find_format(name)(table)
    table = build_table([make_scores("oracle")], ["avsbench_padded"])
    assert table.warnings == ("oracle on s4/test: no line under avsbench_padded, which is for classes alone",)
    with pytest.raises(
        OptionError,
        match=r"--protocol stric: unknown; .*known names: avsbench, .*avsbench_padded; did you mean 'strict'",
    ):
        build_table([binary], ["stric"])


def test_by_category_a_line_is_a_class(oracle: Scores, visual_only: Scores) -> None:
    rows = rows_of([oracle, visual_only], ["strict"], by="category")
    assert [(row["category"], row["model"], row["clips"], row["mIoU"]) for row in rows] == [
        (category, model, clips, "1.0")
        for category, clips in (("all", "6"), ("background", "6"), ("elephant", "3"), ("woman", "3"))
        for model in ("net", "oracle")
    ]
    assert [row["G_mIoU"] for row in rows[4:]] == ["0.0", "1.0"] * 2
    assert [row["G_FPR"] == "" for row in rows] == [False] * 2 + [True] * 2 + [False] * 4


def test_json_holds_tasks_classes_and_both_means(oracle: Scores, binary: Scores) -> None:
    content = json.loads(str(find_format("json")(build_table([oracle, binary], ["avsbench"]))))
    semantic, plain = content["lines"]
    assert (semantic["task"], semantic["protocol"], plain["task"], plain["protocol"]) == (
        "semantic", "avsbench", "binary", "avsbench"
    )  # fmt: skip
    assert semantic["mIoU"] == semantic["mIoU_with_background"] == pytest.approx(3 / 71)
    assert semantic["mIoU_without_background"] == pytest.approx(2 / 70)
    assert plain["mIoU_with_background"] is None
    assert [(entry["class"], entry["class_id"], entry["mIoU"]) for entry in content["classes"]] == [
        ("background", 0, 1.0),
        ("elephant", 21, 1.0),
        ("woman", 70, 1.0),
    ]
    assert content["semantic_protocols"]["avsbench"]["background"] == 70
    assert content["protocols"]["avsbench"]["threshold"] == 0.5


def test_parquet_has_the_task(oracle: Scores, binary: Scores) -> None:
    content = find_format("parquet")(build_table([oracle, binary], ["strict"]))
    assert isinstance(content, bytes)
    frame = pd.read_parquet(io.BytesIO(content))
    assert frame["task"].tolist() == ["semantic", "binary"]
    assert frame["protocol"].tolist() == ["strict", "strict"]
    assert frame["threshold"].isna().tolist() == [True, False]
    assert frame["mIoU_without_background"].iloc[0] == frame["mIoU"].iloc[0] == 1


def test_the_page_shows_classes_and_has_unique_anchors(oracle: Scores, visual_only: Scores, binary: Scores) -> None:
    content = str(find_format("html")(build_table([oracle, visual_only, binary], ["strict", "avsbench"])))
    for heading in (
        "Protocol strict, semantic segmentation",
        "Protocol strict, binary segmentation",
        "By class, avsbench",
    ):
        assert heading in content
    assert "Means over classes without background, avsbench" in content
    anchors = [part.split('"')[0] for part in content.split(' id="')[1:]]
    assert len(anchors) == len(set(anchors))
    assert "of classes, p is the probability of any but background" in content


def test_latex_names_the_task(oracle: Scores, binary: Scores) -> None:
    content = str(find_format("latex")(build_table([oracle, binary], ["strict"])))
    assert "% avss, test, protocol strict, semantic segmentation" in content
    assert "% avss, test, protocol strict, binary segmentation" in content
    assert content.count(r"\begin{tabular}") == 2


@pytest.mark.parametrize("protocol", SEMANTIC_PROTOCOLS)
def test_comparing_by_class_shows_the_reports_own_numbers(
    make_scores: Make, visual_only: Scores, protocol: str
) -> None:
    wrong = with_classes(make_scores("oracle", dataset="avss"), lambda condition: condition != "noise", wrong=70)
    comparison = compare(wrong, visual_only, protocol, samples=20)
    assert comparison.task == "semantic"
    (split,) = comparison.splits
    table = build_table([wrong, visual_only], [protocol])
    scores = [next(line.score for line in table.lines if line.subject.model == name) for name in ("oracle", "net")]
    shown = {entry.statistic: [entry.a, entry.b] for entry in split.differences}
    for name in METRICS:
        assert shown[name] == pytest.approx([score.columns()[name] for score in scores], abs=1e-12)
    assert shown["mIoU-"] == pytest.approx([score.miou_negative for score in scores], abs=1e-12)
    text = render_comparison(comparison)
    assert f"avss, protocol {protocol}, semantic segmentation, 20 resamples" in text
    assert f"means over classes {SEMANTIC_PROTOCOLS[protocol].headline}" in text
    assert json.loads(comparison_json(comparison))["task"] == "semantic"


def test_comparing_takes_the_finest_task_that_both_have(oracle: Scores, visual_only: Scores, binary: Scores) -> None:
    for pair, task in (((oracle, visual_only), None), ((oracle, visual_only), "semantic")):
        assert compare(*pair, samples=10, task=task).task == "semantic"
    text = render_comparison(compare(oracle, visual_only, samples=10, task="binary"))
    assert "binary segmentation, 10 resamples" in text
    assert "classes are not compared" in text
    mixed = compare(oracle, binary, samples=10)
    assert mixed.task == "binary"
    assert "classes, which only one of the two has, are not compared" in render_comparison(mixed)
    assert "classes" not in render_comparison(compare(binary, replace(binary), samples=10))
    assert compare(binary, replace(binary), samples=10).task == "binary"


def test_comparing_refuses_what_the_task_does_not_have(oracle: Scores, binary: Scores, make_scores: Make) -> None:
    with pytest.raises(ResultsError, match="--task semantic: no classes in the second; expected two results of models"):
        compare(oracle, binary, task="semantic")
    s4 = make_scores("oracle")
    with pytest.raises(
        ResultsError, match=r"no classes in the first and the second; .* evaluated on avss; --task binary"
    ):
        compare(s4, s4, task="semantic")
    with pytest.raises(OptionError, match=r"--task: found 'semantics'; .*did you mean 'semantic'"):
        compare(oracle, oracle, task="semantics")
    with pytest.raises(OptionError, match=r"found 'bias_in_avs', which scores no classes; expected .*or --task binary"):
        compare(oracle, oracle, "bias_in_avs")
    with pytest.raises(
        OptionError, match="found 'avsbench_padded', which is for classes alone; expected one of avsbench"
    ):
        compare(binary, binary, "avsbench_padded")


def test_stored_results_report_as_those_in_memory(oracle: Scores, tmp_path: Path) -> None:
    write_scores(tmp_path / "scores.parquet", oracle)
    stored = read_scores(tmp_path)
    for protocol in SEMANTIC_PROTOCOLS:
        assert rows_of([stored], [protocol]) == rows_of([oracle], [protocol])


@pytest.fixture(scope="module")
def toy_scores(tmp_path_factory: pytest.TempPathFactory, toy_in: Callable[..., Path]) -> dict[str, Scores]:
    """The baselines, in classes, on the test split of an avss toy: toy -> build -> evaluate."""
    from avsrobust.building.build import build
    from avsrobust.conditions.recipe import load_recipe
    from avsrobust.datasets.read import read_dataset
    from avsrobust.manifest import load_manifest

    root = tmp_path_factory.mktemp("avss")
    toy_in(root / "data", avss=20, seed=3)
    table = read_dataset("avss", root / "data", splits=["test"])
    manifest = load_manifest(build(table, load_recipe("standard"), 42, root / "robust").manifest)
    scores = {}
    for name, baseline in {"oracle": Oracle, "visual_prior": VisualPrior, "empty": Empty}.items():
        adapter = baseline.load(None, torch.device("cpu"), task="semantic")
        outcome = evaluate(manifest, adapter, name=name, output=root / name, batch_size=2)
        assert outcome.failed == ()
        scores[name] = read_scores(outcome.scores)
    return scores


@pytest.mark.parametrize("protocol", ["strict", "pooled"])
def test_the_chain_on_the_toy(toy_scores: dict[str, Scores], protocol: str) -> None:
    found = {row["model"]: row for row in rows_of(list(toy_scores.values()), [protocol])}
    assert [found["oracle"][name] for name in ("mIoU", "F", "G_mIoU", "G_F", "G_FPR")] == ["1.0"] * 4 + ["0.0"]
    assert [found["visual_prior"][name] for name in ("mIoU", "F", "G_mIoU", "G_F")] == ["1.0", "1.0", "0.0", "0.0"]
    assert float(found["visual_prior"]["G_FPR"]) > 0
    assert [found["empty"][name] for name in ("mIoU", "F", "G_mIoU", "G_FPR")] == ["0.0"] * 4
    binary = {row["model"]: row for row in rows_of(list(toy_scores.values()), [protocol], task="binary")}
    assert binary["oracle"]["G_mIoU"] == "1.0"
    assert all(row["protocol"] == protocol for row in binary.values())


def test_the_released_habits_on_the_toy(toy_scores: dict[str, Scores]) -> None:
    found = {row["model"]: row for row in rows_of(list(toy_scores.values()), ["avsbench"])}
    classes = toy_scores["oracle"].classes
    assert classes is not None
    present = len(set(classes.class_id.tolist()))
    assert float(found["oracle"]["mIoU"]) == pytest.approx(present / 71)
    padded = {row["model"]: row for row in rows_of(list(toy_scores.values()), ["avsbench_padded"])}
    assert padded["oracle"]["mIoU"] == found["oracle"]["mIoU"]
    assert float(padded["empty"]["mIoU"]) > float(found["empty"]["mIoU"])


def test_the_zero_shot_split_is_a_mean_over_its_classes(oracle: Scores, make_scores: Make) -> None:
    net = with_classes(
        make_scores("oracle", dataset="avss", model="net"), lambda condition: condition == "clean", wrong=33
    )
    unseen_classes = [name for name in np.array(AVSS_CLASSES)[list(CLASS_OF)] if name in AVS_V3_UNSEEN]
    assert unseen_classes == []
    table = build_table([oracle, net], ["strict"], by="avs_v3")
    found = {(line.subject.model, line.category): line.score for line in table.lines}
    assert list(dict.fromkeys(category for _, category in found)) == ["all", "seen", "unseen"]
    assert (found["oracle", "seen"].miou, found["oracle", "seen"].clips) == (1, 6)
    # No class of the targets is unseen, and the net's wrong class is seen.
    assert (found["oracle", "unseen"].miou, found["oracle", "unseen"].clips) == (None, 0)
    assert found["net", "seen"].miou == 0
    for name in ("md", "html"):
        text = str(find_format(name)(table))
        assert "By AVS-V3 zero-shot split" in text
        assert "By class" in text


@pytest.mark.parametrize("protocol", SEMANTIC_PROTOCOLS)
def test_a_breakdown_of_clips_scores_all_classes_on_them(protocol: str, oracle: Scores, visual_only: Scores) -> None:
    known = [
        replace(scores, info=replace(scores.info, train_sources=("clip000", "clip003")))
        for scores in (oracle, visual_only)
    ]
    for scores, line in zip(known, build_table(known, [protocol], by="train_source").lines[2:4][::-1], strict=True):
        entry = split_result(scores, "test")
        assert entry.classes is not None
        chosen = np.isin(entry.frames.clip, (0, 3))
        expected = semantic_scores(
            take_classes(entry.classes, chosen), entry.frames.select(chosen), SEMANTIC_PROTOCOLS[protocol]
        )
        assert line.category == "source in train"
        assert line.score == expected.headline


@pytest.mark.parametrize("name", ["csv", "json", "parquet"])
def test_classes_have_intervals_too(name: str, oracle: Scores, visual_only: Scores) -> None:
    content = report([oracle, visual_only], ["strict"], by="category", format=name, intervals=True).content
    if name == "csv":
        lines = list(csv.DictReader(io.StringIO(str(content))))
    elif name == "json":
        lines = [{**line, **_ends(line["intervals"])} for line in json.loads(content)["classes"]]
    else:
        lines = pq.read_table(io.BytesIO(bytes(content))).to_pylist()  # type: ignore[arg-type]
    key = "class" if name == "json" else "category"
    of_classes = [line for line in lines if line.get(key) in {AVSS_CLASSES[class_id] for class_id in CLASS_OF}]
    assert len(of_classes) == 4
    for line in of_classes:
        for column in ("mIoU", "F", "silence_mIoU", "silence_FPR", "G_mIoU", "G_FPR"):
            low, score, high = (float(line[f"{column}{end}"]) for end in ("_low", "", "_high"))
            assert low <= score <= high
    # A perfect model is sure of it; shares of pixels depend on which clips are drawn.
    perfect = next(line for line in of_classes if line["model"] == "oracle")
    assert (float(perfect["mIoU_low"]), float(perfect["mIoU_high"])) == (1.0, 1.0)
    shown = next(line for line in of_classes if line["model"] == "net")
    assert float(shown["silence_FPR_low"]) < float(shown["silence_FPR_high"])


def _ends(intervals: dict[str, list[float]]) -> dict[str, float]:
    return {
        f"{name}_{end}": value
        for name, pair in intervals.items()
        for end, value in zip(("low", "high"), pair, strict=True)
    }
