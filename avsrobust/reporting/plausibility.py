"""Plausibility of results: conditions that the metrics take for granted of frames that belong together.

Conventions
    Types, empty cells and counts of a single frame are checked where a file is opened (`results.read_scores`). These checks
    concern rows, their classes and the metadata, of results in memory too. Anything wrong means damage, or another program's
    mistake: the results are refused, never repaired.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from avsrobust.errors import ResultsError
from avsrobust.metrics import ClassStatistics, FrameStatistics
from avsrobust.remote import address_of
from avsrobust.reporting.escape import one_line
from avsrobust.results import SORT_COLUMNS, ScoreInfo, Scores, with_draws
from avsrobust.score_checks import row_numbers
from avsrobust.vocabulary import NEGATIVE, NUM_CLASSES, counted

Flags = npt.NDArray[np.bool_]
_HIGHEST_SEED = 2**64 - 1


def check_scores(scores: Scores) -> None:
    """Raise `ResultsError`, naming the file and a frame, where `scores` cannot be those of masks and sounds."""
    origin = one_line(f"results of {scores.info.model}" if scores.source is None else address_of(scores.source))
    for problem in _problems_of_info(scores.info):
        raise ResultsError(f"{origin}: {problem} in its metadata; the results are damaged; evaluate again")
    if len(scores.index) != len(scores.statistics):
        found = f"{counted(len(scores.index), 'frame')} and statistics of {len(scores.statistics)}"
        raise ResultsError(f"{origin}: found {found}; expected as many of both; evaluate again")
    for problem, wrong in _problems(scores):
        if wrong.any():
            frame = scores.index.iloc[int(np.argmax(wrong))]
            where = one_line(f"clip {frame['clip_id']}, {frame['condition']}, frame {frame['frame']}")
            count = int(np.count_nonzero(wrong))
            others = "" if count == 1 else f" (and {count - 1} more)"
            raise ResultsError(f"{origin}: {where}{others}: {problem}; the results are damaged; evaluate again")


def _problems_of_info(info: ScoreInfo) -> Iterator[str]:
    for name in ("model", "dataset", "recipe", "release"):
        if not isinstance(getattr(info, name), str):
            yield f"found a {name} that is no text"
    if not 0 <= info.seed <= _HIGHEST_SEED:
        yield f"found seed {info.seed}, expected 0 to 2^64 - 1,"
    if not _are_texts(part for entry in info.failed for part in (entry.split, entry.clip_id, entry.error)):
        yield "found a failed clip that is not split, clip and error"
    if not all(_is_unicode(entry.split) for entry in info.failed):
        yield "found a failed clip whose split is no text"
    for name in ("muted", "notes"):
        if not _are_texts(getattr(info, name)):
            yield f"found an entry of '{name}' that is no text"


def _problems(scores: Scores) -> Iterator[tuple[str, Flags]]:
    """Yield what may be wrong and, for each frame, whether it is; the later ones take the earlier for granted."""
    index, statistics = scores.index, scores.statistics
    yield "it has no pixels", statistics.pixels <= 0
    for name, column in (("true", "tp"), ("false", "fp")):
        more = getattr(statistics, f"{column}_050") > getattr(statistics, f"{column}_040")
        yield f"it has more {name} positives at threshold 0.5 than at 0.4", more
    yield "the frames of its clip and condition are of both polarities", _of_both_polarities(index)
    if scores.classes is not None:
        yield from _problems_of_classes(scores.classes, statistics)


def _of_both_polarities(index: pd.DataFrame) -> Flags:
    """Whether the clip and condition of each frame have frames of both polarities."""
    negative = index["polarity"] == NEGATIVE
    condition, _ = pd.factorize(index["condition"])
    negatives, frames = np.bincount(condition, weights=negative), np.bincount(condition)
    # Nearly always a condition has one polarity, and its clips need no look.
    if ((negatives == 0) | (negatives == frames)).all():
        return np.zeros(len(index), dtype=np.bool_)
    _, row = np.unique(row_numbers(with_draws(index), SORT_COLUMNS[:-1]), return_inverse=True)
    share = np.bincount(row, weights=negative) / np.bincount(row)
    return np.asarray((share > 0) & (share < 1))[row]


def _problems_of_classes(classes: ClassStatistics, statistics: FrameStatistics) -> Iterator[tuple[str, Flags]]:
    smaller, larger = (of(classes.predicted, classes.target) for of in (np.minimum, np.maximum))
    # None is above the frame's pixels, so that no sum of them below can wrap.
    entries = (classes.intersection < 0) | (classes.intersection > smaller) | (larger <= 0)
    entries |= larger > statistics.pixels[classes.frame]
    yield "the counts of a class are impossible", _of_frames(classes, entries)
    pairs = pd.Series(classes.frame * NUM_CLASSES + classes.class_id)
    yield "a class is there twice", _of_frames(classes, pairs.duplicated().to_numpy())
    for name in ("predicted", "target"):
        sums = classes.per_frame(getattr(classes, name))
        yield f"the {name} pixels of its classes do not add up to all pixels", sums != statistics.pixels


def _of_frames(classes: ClassStatistics, entries: Flags) -> Flags:
    flags = np.zeros(classes.num_frames, dtype=np.bool_)
    flags[classes.frame[entries]] = True
    return flags


def _are_texts(values: Iterable[Any]) -> bool:
    return all(isinstance(value, str) for value in values)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
