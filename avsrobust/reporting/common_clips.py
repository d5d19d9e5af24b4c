"""Results cut down to the clips that all of them have, so that models which failed on different clips compare.

Conventions
    Results share clips per data set, release and split. A clip counts where every result of the split has a scored frame of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa

from avsrobust.metrics import take, take_classes
from avsrobust.reporting.escape import one_line
from avsrobust.reporting.naming import split_name
from avsrobust.reporting.split_results import SplitKey, clip_ids_of, splits_of
from avsrobust.results import Scores
from avsrobust.vocabulary import counted


def on_common_clips(results: Sequence[Scores]) -> tuple[list[Scores], list[str]]:
    """Return the results with the clips alone that every result of the same split was scored on, and what was left out.

    Args:
        results: Results, of any data sets. Splits of a single result stay as they are.

    Returns:
        The results in their order, and a sentence for each split that loses clips.
    """
    clips: dict[SplitKey, list[set[str]]] = {}
    for scores in results:
        for split in splits_of(scores):
            clips.setdefault(_key(scores, split), []).append(set(clip_ids_of(scores, split)))
    common = {key: set.intersection(*found) for key, found in clips.items()}
    notes = [
        f"{split_name(key)}: {lost} of {counted(len(set.union(*found)), 'clip')} left out, on which not every model was scored"
        for key, found in clips.items()
        if (lost := len(set.union(*found)) - len(common[key]))
    ]
    return [_with_clips(scores, common) for scores in results], [one_line(note) for note in notes]


def _key(scores: Scores, split: str) -> SplitKey:
    return (scores.info.dataset, scores.info.release, split)


def _with_clips(scores: Scores, common: dict[SplitKey, set[str]]) -> Scores:
    """The results with the rows of some clips."""
    kept = np.zeros(len(scores.index), dtype=np.bool_)
    for split in splits_of(scores):
        of_split = (scores.index["split"] == split).to_numpy()
        kept |= of_split & scores.index["clip_id"].isin(list(common[_key(scores, split)])).to_numpy()
    if kept.all():
        return scores
    chosen = np.flatnonzero(kept)
    return replace(
        scores,
        index=scores.index.iloc[chosen].reset_index(drop=True),
        statistics=take(scores.statistics, chosen),
        classes=None if scores.classes is None else take_classes(scores.classes, chosen),
        overlaps=None if scores.overlaps is None else scores.overlaps.take(pa.array(chosen)),
    )
