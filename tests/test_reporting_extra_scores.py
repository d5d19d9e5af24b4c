"""Extra scores, declared negatives, breakdowns and signatures through every format."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import avsrobust
from avsrobust.errors import OptionError, ResultsError
from avsrobust.metrics import PROTOCOLS, dataset_score, find_protocol
from avsrobust.reporting.extra_scores import GROUPS
from avsrobust.reporting.formats import find_format
from avsrobust.reporting.model import Table
from avsrobust.reporting.report import report
from avsrobust.reporting.split_results import split_result
from avsrobust.reporting.table_builder import build_table
from avsrobust.results import Scores

Make = Callable[..., Scores]
BASELINES = ("oracle", "visual_prior", "empty")


def renamed(scores: Scores, **names: str) -> Scores:
    """The same results with other names of conditions."""
    return replace(scores, index=scores.index.assign(condition=scores.index["condition"].replace(names)))


def cells(table: Table, model: str) -> dict[str, str]:
    rows = csv.DictReader(io.StringIO(str(find_format("csv")(table))))
    return next(row for row in rows if row["model"] == model)


@pytest.fixture
def table(make_scores: Make) -> Table:
    results = [make_scores(name, levels=(-3.0, 3.0, 9.0), empty=(1,)) for name in BASELINES]
    return build_table(results, ["strict"], scores=["all"])


def test_the_oracle_is_best_in_every_score_that_has_a_best(table: Table) -> None:
    (oracle,) = [line for line in table.lines if line.subject.model == "oracle"]
    assert {entry.group for entry in oracle.extra} == set(GROUPS) - {"iiou"}
    for entry in oracle.extra:
        if entry.higher_is_better is None or entry.value is None:
            continue
        assert entry.value == (1 if entry.higher_is_better else 0), entry.column
        if entry.ceiling is not None:
            assert entry.ceiling == entry.value


def test_the_baselines_take_their_known_values(table: Table) -> None:
    prior, empty = cells(table, "visual_prior"), cells(table, "empty")
    share = np.mean([(3 + clip % 7) * (6 + clip % 5) / (12 * 16) for clip in range(6) if clip != 1])
    assert float(prior["mixture_area_mIoU"]) == float(prior["mixture_area_mIoU_kept"]) == 1
    assert [float(prior[f"mixture@{level}_mIoU_kept"]) for level in (-3, 3, 9)] == [1, 1, 1]
    assert (prior["overlap_clean_silence"], prior["overlap1_clean_silence"]) == ("1.0", "1.0")
    assert float(prior["silence_TNR"]) == pytest.approx(1 / 6)
    assert float(prior["universal_threshold"] or "nan") != float(prior["universal_threshold"] or "nan")
    assert float(prior["fixed_G_FPR"]) == pytest.approx(share)
    assert float(prior["natural_empty_frames_FPR"]) == 0
    assert prior["natural_unlabelled_clips_FPR"] == ""
    assert (empty["silence_AOC"], empty["silence_S"], empty["silence_TNR"]) == ("1.0", "0.0", "1.0")
    # The empty clip is right under every level, where strict counts it in no negative but in no clip at all either.
    assert (empty["mixture_area_mIoU"], empty["mixture_area_mIoU_kept"]) == ("0.0", "")
    assert (empty["overlap_clean_silence"], empty["overlap1_clean_silence"]) == ("", "1.0")


def test_every_format_has_every_extra_score(table: Table) -> None:
    columns = {entry.column for line in table.lines for entry in line.extra}
    assert len(columns) > 40
    content = json.loads(str(find_format("json")(table)))
    assert {entry["column"] for line in content["lines"] for entry in line["extra"]} == columns
    assert {"value", "trivial", "ceiling", "clips", "frames", "higher_is_better"} <= set(
        content["lines"][0]["extra"][0]
    )
    frame = pd.read_parquet(io.BytesIO(find_format("parquet")(table)))  # type: ignore[arg-type]
    header = next(csv.reader(io.StringIO(str(find_format("csv")(table)))))
    assert columns <= set(frame.columns) & set(header)
    assert len(header) == len(set(header))
    assert header[-1] == "signature"
    assert frame.set_index("model").loc["visual_prior", "silence_S"] == float(cells(table, "visual_prior")["silence_S"])
    for name in ("md", "latex", "html"):
        text = str(find_format(name)(table))
        for group in {entry.group for line in table.lines for entry in line.extra}:
            assert GROUPS[group].title in text, (name, group)
    page = str(find_format("html")(table))
    assert page.count(".levels-") == 2 * len(table.lines)
    assert "visual_prior: mIoU in percent under mixture: -3 dB 100.00, 3 dB 100.00, 9 dB 100.00." in page


def test_nothing_is_extra_unless_it_is_requested(make_scores: Make) -> None:
    table = build_table([make_scores("oracle")], ["strict"])
    assert table.lines[0].extra == ()
    some = build_table([make_scores("oracle")], ["strict"], scores=["natural,activation", "activation"])
    assert list(dict.fromkeys(entry.group for entry in some.lines[0].extra)) == ["activation", "natural"]
    with pytest.raises(
        OptionError, match=r"--scores: found 'activaton'; expected levels, .*all; did you mean 'activation'"
    ):
        build_table([make_scores("oracle")], ["strict"], scores=["activaton"])


def test_interactive_iou_of_the_pair_of_distractors(make_scores: Make) -> None:
    def both(targets: np.ndarray, condition: str, clip: int) -> np.ndarray:
        return targets * 1.0

    made = make_scores(both, conditions=("clean", "silence", "noise"))
    index = made.index.assign(
        level=[1.0 if name != "clean" else None for name in made.index["condition"]], polarity="positive"
    )
    pair = renamed(replace(made, index=index), silence="distractor", noise="distractor_swapped")
    row = cells(build_table([pair], ["strict"], scores=["iiou"]), "net")
    assert (row["distractor@1_IIoU"], row["distractor@1_IIoU_area"]) == ("1.0", "1.0")


def test_clips_without_an_on_screen_label_are_counted_apart(make_scores: Make) -> None:
    def labels(clip: int) -> tuple[str, ...]:
        return () if clip < 2 else ("dog",)

    def everywhere(targets: np.ndarray, condition: str, clip: int) -> np.ndarray:
        return np.full(targets.shape, 0.25 if clip == 1 else 0.75)

    scores = make_scores(everywhere, labels=labels, empty=(0, 1, 2))
    found = {entry.column: entry for entry in build_table([scores], ["strict"], scores=["natural"]).lines[0].extra}
    unlabelled, empty = (found[f"natural_{name}_FPR"] for name in ("unlabelled_clips", "empty_frames"))
    assert (unlabelled.value, unlabelled.clips, unlabelled.frames) == (0.5, 2, 4)
    assert (empty.value, empty.clips, empty.frames) == (1, 1, 2)
    # Where no clip has a label, nothing is known of labels.
    unknown = make_scores(everywhere, labels=lambda clip: (), empty=(0, 1, 2))
    found = {entry.column: entry for entry in build_table([unknown], ["strict"], scores=["natural"]).lines[0].extra}
    assert found["natural_unlabelled_clips_FPR"].value is None
    assert found["natural_empty_frames_FPR"].clips == 3


# Negatives of G.


def test_g_over_declared_negatives_in_every_format(make_scores: Make) -> None:
    def net(targets: np.ndarray, condition: str, clip: int) -> np.ndarray:
        return targets * {"clean": 0.9, "noise": 0.8, "matched_noise": 0.7}.get(condition, 0.0)

    scores = make_scores(net, conditions=("clean", "silence", "noise", "offscreen", "matched_noise"))
    wanted = ["matched_noise,silence", "silence"]
    table = build_table([scores], ["strict"], negatives=wanted)
    (line,) = table.lines
    expected = dataset_score(split_result(scores, "test").frames, PROTOCOLS["strict"], ("silence", "matched_noise"))
    assert table.negatives == ("silence", "matched_noise")
    assert line.score == expected
    assert line.score.g_miou == pytest.approx(2 / 3)
    assert "negatives:silence+matched_noise;" in line.signature
    row = cells(table, "net")
    plain = cells(build_table([scores], ["strict"]), "net")
    # The columns stay as they are; the G scores are others.
    assert list(row) == list(plain)
    assert {name for name in row if row[name] != plain[name]} == {"G_mIoU", "G_F", "G_FPR", "signature"}
    assert json.loads(str(find_format("json")(table)))["negatives"] == ["silence", "matched_noise"]
    for name in ("md", "html"):
        text = str(find_format(name)(table)).replace("\\_", "_")
        assert "G scores are over silence, matched_noise" in text
        assert line.signature in text
    assert "silence+matched" in str(find_format("latex")(table))
    assert table.subjects[0].diagnostics.auroc is not None
    assert "G scores are over" not in str(find_format("md")(build_table([scores], ["strict"])))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "matched",
            "'matched' is in no result; expected negative conditions of the results, silence, noise, offscreen",
        ),
        ("mixture@3", "'mixture@3' is positive; expected negative"),
        ("silence,", "'' is in no result"),
        ("silense", "did you mean 'silence'"),
    ],
)
def test_negatives_that_are_none_are_refused(name: str, message: str, make_scores: Make) -> None:
    with pytest.raises(OptionError, match=f"--negatives: .*{message}"):
        build_table([make_scores("oracle", levels=(3.0,))], ["strict"], negatives=[name])


# One threshold for all conditions.


def test_the_universal_threshold_is_chosen_on_val_and_applied_to_test(make_scores: Make) -> None:
    def net(sure: float, wrong: float) -> Callable[[np.ndarray, str, int], np.ndarray]:
        return lambda targets, condition, clip: targets * (sure if condition == "clean" else wrong)

    val = make_scores(net(0.9, 0.7), split="val")
    test = make_scores(net(0.9, 0.75))
    table = build_table([val, test], ["strict"], scores=["threshold"])
    found = {line.subject.split: {entry.column: entry.value for entry in line.extra} for line in table.lines}
    # The smallest threshold above every wrong probability.
    assert found["test"]["universal_threshold"] == pytest.approx(np.ceil(0.7 * 254) / 254)
    assert found["test"]["best_on_split_threshold"] == pytest.approx(np.ceil(0.75 * 254) / 254)
    assert (found["test"]["universal_G_mIoU"], found["test"]["best_on_split_G_mIoU"]) == (0, 1)
    assert found["test"]["fixed_G_mIoU"] == 0
    assert found["val"]["best_on_split_G_mIoU"] == 1
    assert "universal_G_mIoU" not in found["val"]
    text = str(find_format("md")(table))
    assert "best on test itself: an upper bound" in text
    alone = build_table([test], ["strict"], scores=["threshold"]).lines[0]
    assert {entry.value for entry in alone.extra if entry.column.startswith("universal")} == {None}
    twice = build_table([val, replace(val, source=None), test], ["strict"], scores=["threshold"]).lines
    assert all(e.value is None for line in twice for e in line.extra if e.column.startswith("universal"))


# Batches and signatures.


def test_a_batch_stands_in_name_and_signature(make_scores: Make) -> None:
    table = build_table([make_scores("oracle")], ["avsbench@batch=2", "avsbench"])
    assert [line.protocol.name for line in table.lines] == ["avsbench", "avsbench@batch=2"]
    assert [line.signature.split(";")[7] for line in table.lines] == ["batch:1", "batch:2"]
    assert find_protocol("avsbench@negative_batch=2").name == "avsbench@negative_batch=2"
    assert find_protocol("avsbench@batch=1") == find_protocol("avsbench")
    assert find_protocol("avsbench@negative_batch=3,batch=2").name == "avsbench@batch=2,negative_batch=3"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("avsbench@batch=0", "found batch '0'; expected a number of clips, at least 1"),
        ("avsbench@batch=two", "found batch 'two'"),
        ("avsbench@bach=2", "'bach' is no argument; did you mean 'batch'"),
        ("avsbench@batch=2,batch=3", "'batch' is given twice"),
        ("strict@batch=2", "protocol strict@batch=2: found a batch of 2 clips, which changes nothing"),
        ("avsbench_padded@batch=2", "avsbench_padded is for classes alone"),
        ("avsbensh@batch=2", "did you mean 'avsbench'"),
    ],
)
def test_arguments_that_a_protocol_does_not_take(spec: str, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        find_protocol(spec)


def test_the_signature_holds_all_that_a_number_depends_on(make_scores: Make) -> None:
    (line,) = build_table([make_scores("oracle")], ["bias_in_avs"]).lines
    assert line.signature == (
        "protocol:bias_in_avs;task:binary;threshold:0.4;beta2:0.1;sweep:255;empty:scored;average:clips;batch:1;"
        f"negatives:silence+noise+offscreen;version:{avsrobust.__version__}"
    )
    assert cells(build_table([make_scores("oracle")], ["bias_in_avs"]), "oracle")["signature"] == line.signature


# Breakdowns.


def test_clips_whose_source_is_in_train_have_a_line(make_scores: Make) -> None:
    def net(targets: np.ndarray, condition: str, clip: int) -> np.ndarray:
        return targets * (condition == "clean" and clip < 2)

    scores = make_scores(net, dataset="ms3")
    with pytest.raises(
        ResultsError, match="--by train_source: these results do not say which clips share their source"
    ):
        build_table([scores], ["strict"], by="train_source")
    known = replace(scores, info=replace(scores.info, train_sources=("clip000", "clip001", "clip999")))
    lines = build_table([known], ["strict"], by="train_source").lines
    assert [(line.category, line.score.clips, line.score.miou) for line in lines] == [
        ("all", 6, pytest.approx(1 / 3)),
        ("source in train", 2, 1),
        ("source not in train", 4, 0),
    ]


def test_the_zero_shot_split_of_avs_v3(make_scores: Make) -> None:
    def labels(clip: int) -> tuple[str, ...]:
        return ((), ("dog",), ("dog", "baby"), ("helicopter",))[clip]

    scores = make_scores("oracle", dataset="avss", clips=range(4), labels=labels)
    lines = build_table([scores], ["strict"], by="avs_v3").lines
    assert [(line.category, line.score.clips) for line in lines] == [("all", 4), ("seen", 1), ("unseen", 2)]
    with pytest.raises(ResultsError, match="--by avs_v3: is of s4; the split is one of the categories of avss"):
        build_table([make_scores("oracle")], ["strict"], by="avs_v3")


def test_report_takes_them_all(make_scores: Make) -> None:
    rendered = report([make_scores("oracle")], ["strict"], None, "csv", None, ["silence"], ["all"])
    assert "negatives:silence;" in str(rendered.content)
