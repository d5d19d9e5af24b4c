"""One model's scored frames on one split, as the metrics read them.

Conventions
    Clips are numbered by the position of (split, clip_id) among the sorted ids given or found.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from avsrobust.metrics import ClassStatistics, ScoredFrames, take, take_classes
from avsrobust.metrics.coded_texts import CodedTexts
from avsrobust.remote import address_of
from avsrobust.reporting.columns import condition_title
from avsrobust.reporting.escape import one_line
from avsrobust.results import FailedClip, Scores
from avsrobust.vocabulary import NEGATIVE

# Data set, release, split.
SplitKey = tuple[str, str, str]


@dataclass(frozen=True)
class SplitResult:
    """One model's results on one split: N scored frames, and their context.

    Attributes:
        model: The model as its results name it.
        dataset: Data set.
        split: Split.
        seed: Seed of the build.
        source: The results' file, or None for results in memory.
        clip_ids: ``clip_ids[i]`` is the clip numbered i.
        labels: Labels of each of `clip_ids`.
        frames: The scored frames.
        clean_intersection: float64 [N], pixels in both the frame's mask and the same model's mask under clean audio; NaN
            where there is no such mask to compare with, and under clean audio itself.
        clean_union: float64 [N], pixels in either of the two; NaN alike.
        failed: Clips of the split that could not be scored.
        classes: Pixels per class of the same N frames; None where the model or the data set has no classes.
        recipe: Recipe of the build; empty where the results do not say.
        release: Release of the data; empty where the results do not say.
        muted: Ids of clips whose own recording is silent.
        notes: Sentences that belong next to every table of these results.
        train_sources: Ids of clips whose source also gave a clip of train; None where the results do not say.
        units: Unit of the levels of conditions, where the results say it.
        overlaps: Overlaps of the masks of negatives with one another, N lists (`avsrobust.mask_overlaps`); None where the results
            store none.
        renamed_from: The model as its results name it, where a report names it otherwise; else empty.
        is_limited: Whether a smoke run scored a part of the split.
    """

    model: str
    dataset: str
    split: str
    seed: int
    source: str | None
    clip_ids: tuple[str, ...]
    labels: tuple[tuple[str, ...], ...]
    frames: ScoredFrames
    clean_intersection: npt.NDArray[np.float64]
    clean_union: npt.NDArray[np.float64]
    failed: tuple[FailedClip, ...]
    classes: ClassStatistics | None
    recipe: str = ""
    release: str = ""
    muted: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    train_sources: frozenset[str] | None = None
    units: Mapping[str, str] = field(default_factory=dict)
    overlaps: pa.ListArray | None = None
    renamed_from: str = ""
    is_limited: bool = False

    def condition_title(self, condition: str, level: float | None) -> str:
        """Return a condition's name for people, with its level in its unit."""
        return condition_title(condition, level, self.units.get(condition))

    @property
    def key(self) -> tuple[str, str, str, int, str]:
        """Model, data set, release, seed and recipe: the same for all splits of one model on one build."""
        return (self.model, self.dataset, self.release, self.seed, self.recipe)

    @property
    def split_key(self) -> SplitKey:
        """Data set, release and split: results with the same key were scored on the same data."""
        return (self.dataset, self.release, self.split)

    @property
    def original_model(self) -> str:
        """The model as its results name it."""
        return self.renamed_from or self.model

    @property
    def origin(self) -> str:
        """The results' file, or the model, for messages."""
        return one_line(address_of(self.source or f"{self.model} (in memory)"))

    @property
    def scored_clips(self) -> tuple[str, ...]:
        """The ids of its clips that have a scored frame, sorted."""
        return tuple(self.clip_ids[clip] for clip in np.unique(self.frames.clip))

    @property
    def muted_clips(self) -> tuple[str, ...]:
        """Those of `scored_clips` whose own recording is silent."""
        muted = frozenset(self.muted)
        return tuple(clip_id for clip_id in self.scored_clips if clip_id in muted)

    @property
    def is_unlabelled(self) -> npt.NDArray[np.bool_]:
        """Whether the clip of each frame has no on-screen label, bool [N]; nowhere where no clip has a label at all."""
        without = np.array([not labels for labels in self.labels], dtype=np.bool_)
        return np.asarray(without[self.frames.clip] & ~without.all(), dtype=np.bool_)

    @property
    def categories(self) -> tuple[str, ...]:
        """All labels of its clips, sorted."""
        return tuple(sorted({label for labels in self.labels for label in labels}))

    def clips_of(self, category: str) -> npt.NDArray[np.int64]:
        """Return the numbers of the clips that have this label."""
        return np.array([clip for clip, labels in enumerate(self.labels) if category in labels], dtype=np.int64)


def splits_of(scores: Scores) -> list[str]:
    """Return the splits that have a scored frame or a failed clip, sorted."""
    return sorted({*scores.index["split"].unique(), *(entry.split for entry in scores.info.failed)})


def clip_ids_of(scores: Scores, split: str) -> list[str]:
    """Return the clips of a split that have a scored frame, sorted."""
    return sorted(pd.unique(_objects(scores.index["clip_id"])[_objects(scores.index["split"]) == split]))


def split_result(scores: Scores, split: str, clip_ids: Sequence[str] | None = None) -> SplitResult:
    """Return the results of one split.

    Args:
        scores: Stored results.
        split: Split; one without a scored frame has N = 0 frames.
        clip_ids: Sorted ids that number the clips, where the numbers of several results must agree; they hold all clips of
            the split. None: the split's own clips.
    """
    of_split = np.asarray(_objects(scores.index["split"]) == split, dtype=np.bool_)
    # Most results are of one split, and need not be copied.
    is_all = bool(of_split.all())
    chosen: Any = slice(None) if is_all else np.flatnonzero(of_split)
    index = scores.index if is_all else scores.index.iloc[chosen]
    codes, words = pd.factorize(_objects(index["clip_id"]))
    ids = sorted(words) if clip_ids is None else list(clip_ids)
    number = {clip_id: position for position, clip_id in enumerate(ids)}
    clip = np.array([number[clip_id] for clip_id in words], dtype=np.int32)[codes]
    frames = ScoredFrames(
        scores.statistics if is_all else take(scores.statistics, chosen),
        clip,
        _texts(index["condition"]),
        np.asarray(_objects(index["polarity"]) == NEGATIVE, dtype=np.bool_),
        _levels(index["level"]),
        _draws(index),
        _ints(index["frame"]),
    )
    return SplitResult(
        model=scores.info.model,
        dataset=scores.info.dataset,
        split=split,
        seed=scores.info.seed,
        source=None if scores.source is None else str(scores.source),
        clip_ids=tuple(ids),
        labels=_labels(index, clip, len(ids)),
        frames=frames,
        clean_intersection=_floats(index["clean_intersection"]),
        clean_union=_floats(index["clean_union"]),
        failed=tuple(entry for entry in scores.info.failed if entry.split == split),
        classes=scores.classes if scores.classes is None or is_all else take_classes(scores.classes, chosen),
        recipe=scores.info.recipe,
        release=scores.info.release,
        muted=scores.info.muted,
        notes=scores.info.notes,
        train_sources=None if scores.info.train_sources is None else frozenset(scores.info.train_sources),
        units={
            name: facts["level_unit"]
            for name, facts in scores.info.conditions.items()
            if facts.get("level_unit") is not None
        },
        overlaps=scores.overlaps if scores.overlaps is None or is_all else scores.overlaps.take(pa.array(chosen)),
        is_limited=split in scores.info.limited,
    )


def _objects(column: pd.Series[Any]) -> npt.NDArray[np.object_]:
    """Texts as Python's, which numpy compares faster than pandas its own."""
    return column.to_numpy(dtype=object)


def _floats(column: pd.Series[Any]) -> npt.NDArray[np.float64]:
    if column.dtype == np.float64:
        return column.to_numpy()
    return np.asarray(pd.to_numeric(column).to_numpy(dtype=np.float64, na_value=np.nan))


def _texts(column: pd.Series[Any]) -> CodedTexts:
    """Texts of which few are different."""
    codes, words = pd.factorize(_objects(column))
    return CodedTexts(list(words), codes)


def _levels(column: pd.Series[Any]) -> npt.NDArray[np.float64]:
    """The level of each frame; where none has one, a single NaN that stands for all."""
    return np.broadcast_to(np.nan, len(column)) if column.isna().all() else _floats(column)


def _draws(index: pd.DataFrame) -> npt.NDArray[np.integer[Any]] | None:
    """The draw of each frame, 0 where a condition draws once; None where results say nothing of draws."""
    if "draw" not in index.columns:
        return None
    return _ints(index["draw"] if index["draw"].dtype.kind in "iu" else pd.to_numeric(index["draw"]).fillna(0))


def _ints(column: pd.Series[Any]) -> npt.NDArray[np.integer[Any]]:
    """Integers of whatever size they are; none, in a column of any kind, are 64-bit ones."""
    return column.to_numpy() if column.dtype.kind in "iu" else column.to_numpy(dtype=np.int64)


def _labels(index: pd.DataFrame, clip: npt.NDArray[np.int32], num_clips: int) -> tuple[tuple[str, ...], ...]:
    numbers, first = np.unique(clip, return_index=True)
    labels: list[tuple[str, ...]] = [()] * num_clips
    for number, of_clip in zip(numbers, index["labels"].iloc[first], strict=True):
        labels[number] = tuple(of_clip)
    return tuple(labels)
