"""Whether stored scores can be true: counts that no mask of pixels can have, or frames that are there twice.

Conventions
    Types are checked where a file is opened (`results.read_scores`); here are the values, which every metric takes for granted. A
    wrong one means damage, or another program's mistake: the results are refused, never repaired.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from avsrobust.errors import ResultsError
from avsrobust.metrics import ClassStatistics, FrameStatistics
from avsrobust.metrics.classes import NUM_CLASSES
from avsrobust.results import SORT_COLUMNS, Scores

Flags = npt.NDArray[np.bool_]
_POLARITIES = ("negative", "positive")
_NEVER_NULL = ("split", "clip_id", "labels", "condition", "polarity", "frame")


def check_scores(scores: Scores) -> None:
    """Raise `ResultsError`, naming the file and a frame, where `scores` cannot be those of masks and sounds."""
    for problem, wrong in _problems(scores):
        if wrong.any():
            first = scores.index.iloc[int(np.argmax(wrong))]
            where = f"clip {first['clip_id']}, {first['condition']}, frame {first['frame']}"
            others = "" if (count := int(np.count_nonzero(wrong))) == 1 else f" and {count - 1} more"
            raise ResultsError(
                f"{_origin(scores)}: {problem} ({where}{others}); the results are damaged; evaluate again"
            )


def _origin(scores: Scores) -> str:
    return f"results of {scores.info.model}" if scores.source is None else str(scores.source)


def _problems(scores: Scores) -> Iterator[tuple[str, Flags]]:
    """Yield what may be wrong and, for each frame, whether it is; the later ones take the earlier for granted."""
    index = scores.index
    if len(index) != len(scores.statistics):
        raise ResultsError(
            f"{_origin(scores)}: found {len(index)} frames and statistics of {len(scores.statistics)}; evaluate again"
        )
    for name in _NEVER_NULL:
        yield f"has no {name}", index[name].isna().to_numpy(dtype=np.bool_)
    yield (
        "has a label that is no text",
        np.array([not _are_texts(labels) for labels in index["labels"]], dtype=np.bool_),
    )
    polarity = index["polarity"].to_numpy()
    yield f"has a polarity that is not {' or '.join(_POLARITIES)}", ~np.isin(polarity.astype(str), _POLARITIES)
    yield "has a level that is not finite", np.isinf(_floats(index["level"]))
    yield "has a frame number below 0", index["frame"].to_numpy() < 0
    yield "is there twice", index.duplicated(SORT_COLUMNS).to_numpy(dtype=np.bool_)
    key = index[SORT_COLUMNS[:-1]].assign(level=_floats(index["level"]))
    kinds = polarity == "negative"
    per_row = pd.Series(kinds).groupby([key[name].to_numpy() for name in key], dropna=False).transform("nunique")
    yield "is of both polarities", per_row.to_numpy() > 1
    yield from _counts(scores.statistics)
    pair = (_floats(index["clean_intersection"]), _floats(index["clean_union"]))
    known = ~np.isnan(pair[0])
    order = (pair[0] >= 0) & (pair[0] <= pair[1]) & (pair[1] <= scores.statistics.pixels)
    yield "has an overlap with the clean mask that is impossible", (known != ~np.isnan(pair[1])) | (known & ~order)
    if scores.classes is not None:
        yield from _classes(scores.classes, scores.statistics)


def _counts(statistics: FrameStatistics) -> Iterator[tuple[str, Flags]]:
    background = statistics.pixels - statistics.target_pixels
    yield "has no pixel", statistics.pixels <= 0
    yield "has a target of impossible size", (statistics.target_pixels < 0) | (background < 0)
    for name, most, column in (
        ("true", statistics.target_pixels, "tp"),
        ("false", background, "fp"),
    ):
        at_050, at_040 = getattr(statistics, f"{column}_050"), getattr(statistics, f"{column}_040")
        yield f"has an impossible number of {name} positives", (at_050 < 0) | (at_050 > at_040) | (at_040 > most)
    for name, expected in (("inside", statistics.target_pixels), ("outside", background)):
        histogram = getattr(statistics, name)
        wrong = (histogram < 0).any(axis=1) | (histogram.sum(axis=1) != expected)
        yield f"has a histogram of probabilities {name} the target that does not add up to its pixels", wrong


def _classes(classes: ClassStatistics, statistics: FrameStatistics) -> Iterator[tuple[str, Flags]]:
    smaller, larger = (of(classes.predicted, classes.target) for of in (np.minimum, np.maximum))
    # None is above the frame's pixels, so that no sum of them below can wrap.
    entries = (classes.intersection < 0) | (classes.intersection > smaller) | (larger <= 0)
    entries |= larger > statistics.pixels[classes.frame]
    wrong = np.zeros(classes.num_frames, dtype=np.bool_)
    wrong[classes.frame[entries]] = True
    yield "has an impossible count of a class", wrong
    twice = np.zeros(classes.num_frames, dtype=np.bool_)
    pairs = pd.Series(classes.frame * NUM_CLASSES + classes.class_id)
    twice[classes.frame[pairs.duplicated().to_numpy()]] = True
    yield "has a class twice", twice
    for name in ("predicted", "target"):
        sums = classes.per_frame(getattr(classes, name))
        yield f"has classes whose {name} pixels do not add up to its own", sums != statistics.pixels


def _are_texts(labels: Sequence[Any]) -> bool:
    return all(isinstance(label, str) for label in labels)


def _floats(column: pd.Series[Any]) -> npt.NDArray[np.float64]:
    return np.asarray(pd.to_numeric(column).to_numpy(dtype=np.float64, na_value=np.nan))
