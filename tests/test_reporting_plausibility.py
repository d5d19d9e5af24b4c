"""Results that cannot be true are refused, in one line that names the file and the frame."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from avsrobust.errors import ResultsError
from avsrobust.metrics import ClassStatistics, class_statistics, take
from avsrobust.reporting.compare import compare
from avsrobust.reporting.formats import format_names
from avsrobust.reporting.plausibility import check_scores
from avsrobust.reporting.report import report
from avsrobust.reporting.table_builder import build_table
from avsrobust.results import FailedClip, Scores

Make = Callable[..., Scores]
FILE = Path("results/net/s4/scores.parquet")


@pytest.fixture
def scores(make_scores: Make) -> Scores:
    return replace(make_scores("oracle", model="net"), source=FILE)


def counts(scores: Scores, name: str, frame: int, value: int) -> Scores:
    values = getattr(scores.statistics, name).copy()
    values[frame] = value
    return replace(scores, statistics=replace(scores.statistics, **{name: values}))


def cell(scores: Scores, name: str, frame: int, value: object) -> Scores:
    index = scores.index.copy()
    index.loc[frame, name] = value
    return replace(scores, index=index)


def of_info(scores: Scores, **changes: Any) -> Scores:
    return replace(scores, info=replace(scores.info, **changes))


def refused(scores: Scores, match: str) -> None:
    with pytest.raises(ResultsError, match=match) as caught:
        check_scores(scores)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(str(scores.source))
    with pytest.raises(ResultsError, match=match):
        build_table([scores], ["strict"])
    with pytest.raises(ResultsError, match=match):
        compare(scores, scores)


def test_true_scores_pass(scores: Scores, make_scores: Make) -> None:
    check_scores(scores)
    check_scores(make_scores("empty", clips=()))
    check_scores(make_scores("oracle", clips=(0,), empty=(0,), levels=(-3.0, 3.0)))


@pytest.mark.parametrize(
    ("name", "value", "match"),
    [
        ("pixels", 0, "clip clip000, clean, frame 1: it has no pixels; the results are damaged; evaluate again"),
        ("tp_050", 10**6, "it has more true positives at threshold 0.5 than at 0.4"),
        ("fp_050", 1, "it has more false positives at threshold 0.5 than at 0.4"),
    ],
)
def test_impossible_counts(scores: Scores, name: str, value: int, match: str) -> None:
    refused(counts(scores, name, 1, value), match)


def test_both_polarities_in_one_row(scores: Scores) -> None:
    refused(
        cell(scores, "polarity", 3, "positive"), r"clip clip000, noise, frame 0 \(and 1 more\): .* of both polarities"
    )


def test_frames_without_statistics(scores: Scores) -> None:
    refused(replace(scores, statistics=take(scores.statistics, np.arange(4))), "found 48 frames and statistics of 4")


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"seed": -1}, "found seed -1, expected 0 to"),
        ({"seed": 2**64}, "found seed 18446744073709551616"),
        ({"failed": (FailedClip("test", "a", 3),)}, "found a failed clip that is not split, clip and error"),
        ({"failed": (FailedClip("\ud800", "a", "b"),)}, "found a failed clip whose split is no text"),
        ({"notes": (None,)}, "found an entry of 'notes' that is no text"),
        ({"muted": (["a"],)}, "found an entry of 'muted' that is no text"),
        ({"recipe": None}, "found a recipe that is no text"),
    ],
)
def test_metadata_of_other_types(scores: Scores, changes: dict[str, Any], match: str) -> None:
    refused(of_info(scores, **changes), match)


@pytest.fixture
def semantic(make_scores: Make) -> Scores:
    scores = replace(make_scores("oracle", dataset="avss", model="net"), source=FILE)
    targets = np.zeros((len(scores.index), 12, 16), np.uint8)
    targets[:, 2:5, 3:9] = 21
    return replace(scores, classes=class_statistics(targets, targets))


def test_impossible_classes(semantic: Scores) -> None:
    check_scores(semantic)
    classes = semantic.classes
    assert classes is not None

    def changed(**columns: np.ndarray) -> Scores:
        return replace(semantic, classes=replace(classes, **columns))

    def entry(name: str, value: int) -> np.ndarray:
        values = getattr(classes, name).copy()
        values[1] = value
        return values

    for name, value in (("intersection", -1), ("intersection", 100), ("predicted", 2**62), ("target", -5)):
        refused(changed(**{name: entry(name, value)}), "frame 0: the counts of a class are impossible")
    refused(changed(class_id=entry("class_id", 0)), "frame 0: a class is there twice")
    refused(
        changed(predicted=entry("predicted", 20)), "the predicted pixels of its classes do not add up to all pixels"
    )
    nothing = np.zeros(0, dtype=np.int64)
    none = ClassStatistics(len(semantic.index), *[nothing] * 5)
    refused(replace(semantic, classes=none), r"frame 0 \(and 47 more\): the predicted pixels of its classes")


ODD: dict[str, Callable[[Make], Scores]] = {
    "one frame": lambda make: of_frames(make("oracle"), [0]),
    "one frame of a negative": lambda make: of_frames(make("oracle"), [3]),
    "all failed": lambda make: make("oracle", clips=(), failed=("a", "b")),
    "no labels": lambda make: make("oracle", labels=lambda clip: ()),
    "labels that look like columns": lambda make: make("oracle", labels=lambda clip: ("all", "", "mIoU")),
    "unknown conditions": lambda make: make("oracle", conditions=("", "G", "mIoU", "all", "clean ")),
    "clean at a level": lambda make: at_level(make("oracle"), 3.0),
    "enormous levels": lambda make: make("oracle", levels=(3e38, -3e38, 1e-45)),
    "all targets empty": lambda make: make("oracle", empty=range(6)),
    "no names": lambda make: of_info(make("oracle", split=""), model="", dataset=""),
}


def of_frames(scores: Scores, frames: list[int]) -> Scores:
    index = scores.index.iloc[frames].reset_index(drop=True)
    return replace(scores, index=index, statistics=take(scores.statistics, np.array(frames)))


def at_level(scores: Scores, level: float) -> Scores:
    return replace(scores, index=scores.index.assign(level=level))


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("by", [None, "category"])
def test_odd_results_are_reported_in_every_format(make_scores: Make, odd: str, by: str | None) -> None:
    scores = ODD[odd](make_scores)
    for name in format_names():
        assert report([scores, make_scores("empty")], ["avsbench", "strict", "pooled"], by, name).content
