"""Named breakdowns of a table: lines for parts of the clips or classes, next to the line over all.

Conventions
    A breakdown gives each line of a part a `category`. In the binary task a part is some clips. In the semantic task it is some
    classes (a single class under "category"), whose scores are means over these, or, where the breakdown is of clips, the
    scores over all classes on these clips.
    category: the labels of the clips; a clip with several counts in each. Classes: every class that occurs.
    train_source: clips whose YouTube source also gave a clip of train, and the others (`datasets.overlap`).
    avs_v3: the zero-shot split of AVS-V3: the 14 categories that its models never saw in training, and the 56 others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from types import MappingProxyType
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from avsrobust.datasets.taxonomy import AVSS_CLASSES
from avsrobust.errors import ResultsError
from avsrobust.metrics import ClipScores, SemanticSums
from avsrobust.reporting.split_results import SplitResult
from avsrobust.vocabulary import BACKGROUND, CLASS_DATASET

CATEGORY = "category"
TRAIN_SOURCE = "train_source"
AVS_V3 = "avs_v3"
# The source of each breakdown, for notes.
GROUPINGS: Mapping[str, str] = MappingProxyType(
    {
        CATEGORY: "the clips' labels",
        TRAIN_SOURCE: "whether the clip's YouTube source also gave a clip of train",
        AVS_V3: "the zero-shot split of AVS-V3 (Wang et al., AAAI 2024): 'unseen' are the 14 categories of meta_v3_unseen.csv",
    }
)
SEEN, UNSEEN = "seen", "unseen"
IN_TRAIN, NOT_IN_TRAIN = "source in train", "source not in train"
# GeWu-Lab/Generalizable-Audio-Visual-Segmentation, GAVS/segment_anything/dataset/v3/meta_v3_unseen.csv, column a_obj.
AVS_V3_UNSEEN = frozenset(
    {
        *("baby", "bell", "boy", "clock", "donkey", "emergency-car", "girl"),
        *("guzheng", "harp", "helicopter", "hen", "leopard", "squirrel", "tiger"),
    }
)

ClipNumbers = npt.NDArray[np.int64]
RowScores = TypeVar("RowScores", ClipScores, SemanticSums)


def clip_parts(result: SplitResult, by: str) -> dict[str, ClipNumbers]:
    """Return the clips of each part, by the part's title.

    Raises:
        ResultsError: The results do not say what the breakdown needs.
    """
    if by == TRAIN_SOURCE:
        return _by_train_source(result)
    if by == AVS_V3:
        return _by_avs_v3(result)
    return {category: result.clips_of(category) for category in result.categories}


def scores_of_clips(scores: RowScores, clips: ClipNumbers) -> RowScores:
    """Return the rows of these clips: every row is a clip's own, so nothing has to be counted again."""
    chosen = np.isin(scores.clip, clips)
    rows = {entry.name: getattr(scores, entry.name)[chosen] for entry in fields(scores) if entry.name != "protocol"}
    return replace(scores, **rows)


def class_parts(by: str) -> dict[str, tuple[int, ...]] | None:
    """Return the classes of each part, background in none; None where the breakdown is of clips, or has every class apart."""
    if by != AVS_V3:
        return None
    classes = [class_id for class_id in range(len(AVSS_CLASSES)) if class_id != BACKGROUND]
    unseen = tuple(class_id for class_id in classes if AVSS_CLASSES[class_id] in AVS_V3_UNSEEN)
    return {SEEN: tuple(class_id for class_id in classes if class_id not in unseen), UNSEEN: unseen}


def _by_train_source(result: SplitResult) -> dict[str, ClipNumbers]:
    """Clips whose source is in train, and the others."""
    if result.train_sources is None:
        raise ResultsError(
            f"{result.origin}: --by {TRAIN_SOURCE}: these results do not say which clips share their source with one of train; "
            "expected results on a build with the split train; build it too, and evaluate again"
        )
    shared = np.array([clip_id in result.train_sources for clip_id in result.clip_ids], dtype=np.bool_)
    return {IN_TRAIN: np.flatnonzero(shared), NOT_IN_TRAIN: np.flatnonzero(~shared)}


def _by_avs_v3(result: SplitResult) -> dict[str, ClipNumbers]:
    """Clips with a label that AVS-V3's models never saw, and those with other labels alone."""
    if result.dataset != CLASS_DATASET:
        raise ResultsError(
            f"{result.origin}: --by {AVS_V3}: is of {result.dataset}; the split is one of the categories of {CLASS_DATASET}; "
            f"name results on {CLASS_DATASET} alone"
        )
    unseen = np.array([not AVS_V3_UNSEEN.isdisjoint(labels) for labels in result.labels], dtype=np.bool_)
    labelled = np.array([bool(labels) for labels in result.labels], dtype=np.bool_)
    return {SEEN: np.flatnonzero(labelled & ~unseen), UNSEEN: np.flatnonzero(unseen)}
