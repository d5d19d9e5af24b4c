"""Finished clips of an evaluation that is under way, on disk, so that an interrupted one continues.

Conventions
    ``<output>/parts/`` holds ``identity.json`` and, per `CLIPS_PER_PART` finished clips, ``<number>.scores.parquet`` and,
    where there are any, ``<number>.masks.parquet`` and ``<number>.extras.parquet``, written before the scores, which commit
    the part.
    Parts are caches: those of another evaluation are discarded. They are removed when the evaluation is finished.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from avsrobust.errors import AdapterError, ResultsError
from avsrobust.evaluation.extras import write_extras
from avsrobust.evaluation.samples import CLASS_DATASET
from avsrobust.evaluation.scoring import ScoredClip
from avsrobust.evaluation.stored_masks import ClipKey, StoredMasks, write_masks
from avsrobust.files import remove_temporaries, write_text
from avsrobust.metrics.binary.counts import concatenate, take
from avsrobust.metrics.semantic.counts import concatenate_classes, take_classes
from avsrobust.results import INDEX_COLUMNS, ScoreInfo, Scores, read_scores, write_scores

PARTS_NAME = "parts"
CLIPS_PER_PART = 16
_IDENTITY_NAME = "identity.json"
_SCORES_SUFFIX = ".scores.parquet"
_MASKS_SUFFIX = ".masks.parquet"
_EXTRAS_SUFFIX = ".extras.parquet"


class PartStore:
    """The parts folder of one evaluation. `discarded` says whether parts of another one were there."""

    def __init__(self, output: Path, identity: Mapping[str, Any], info: ScoreInfo, *, keep_masks: bool) -> None:
        self._folder = output / PARTS_NAME
        self._info = info
        self._keep_masks = keep_masks
        self._pending: list[ScoredClip] = []
        self.discarded = False
        if self._folder.is_dir():
            if parts_identity(output) != dict(identity):
                self.discarded = any(self._folder.glob(f"*{_SCORES_SUFFIX}"))
                shutil.rmtree(self._folder)
            else:
                remove_temporaries(self._folder)
        write_text(self._folder / _IDENTITY_NAME, json.dumps(dict(identity), indent=2, sort_keys=True) + "\n")

    def add(self, clips: Iterable[ScoredClip]) -> None:
        """Take finished clips; write a part when there are enough."""
        self._pending.extend(clips)
        if len(self._pending) >= CLIPS_PER_PART:
            self.flush()

    def flush(self) -> None:
        """Write the finished clips that are still in memory."""
        if not self._pending:
            return
        number = 1 + max((int(path.name.split(".")[0]) for path in self._score_files()), default=-1)
        if self._keep_masks:
            tables = (table for clip in self._pending for table in clip.masks)
            write_masks(self._folder / f"{number:06d}{_MASKS_SUFFIX}", tables)
        if extras := [entry for clip in self._pending for entry in clip.extras]:
            write_extras(self._folder / f"{number:06d}{_EXTRAS_SUFFIX}", extras)
        index = pd.DataFrame([entry for clip in self._pending for entry in clip.index], columns=INDEX_COLUMNS)
        statistics = concatenate([clip.statistics for clip in self._pending])
        classes = [clip.classes for clip in self._pending if clip.classes is not None]
        scores = Scores(self._info, index, statistics, classes=concatenate_classes(classes) if classes else None)
        write_scores(self._folder / f"{number:06d}{_SCORES_SUFFIX}", scores)
        self._pending.clear()

    def read(self) -> list[Scores]:
        """Return the parts on disk; a damaged or incomplete one is deleted, and its clips count as not done."""
        found: list[Scores] = []
        for path in self._score_files():
            try:
                scores = read_scores(path)
                masks = _beside(path, _MASKS_SUFFIX)
                if self._keep_masks and not clips_in(scores) <= set(StoredMasks(masks).clips):
                    raise ResultsError(f"{masks}: lacks clips")
                found.append(scores)
            except (ResultsError, AdapterError):
                path.unlink()
        return found

    def mask_files(self) -> list[Path]:
        """Return the files of stored masks that belong to the parts."""
        return [_beside(path, _MASKS_SUFFIX) for path in self._score_files()]

    def extras_files(self) -> list[Path]:
        """Return the files of further values that belong to the parts; those of adapters without any have none."""
        paths = [_beside(path, _EXTRAS_SUFFIX) for path in self._score_files()]
        return [path for path in paths if path.exists()]

    def remove(self) -> None:
        """Delete the folder."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _score_files(self) -> list[Path]:
        return sorted(self._folder.glob(f"*{_SCORES_SUFFIX}"))


def parts_identity(output: Path) -> object:
    """Return the identity of the evaluation whose parts are in `output`, or None where there are none."""
    try:
        return json.loads((output / PARTS_NAME / _IDENTITY_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def clips_in(scores: Scores) -> set[ClipKey]:
    """Return the clips, (split, clip_id), that `scores` holds."""
    return set(zip(scores.index["split"], scores.index["clip_id"], strict=True))


def has_classes(parts: Sequence[Scores]) -> bool | None:
    """Return whether finished clips of avss have scores of classes; None where that says nothing about the adapter."""
    known = [part.classes is not None for part in parts if part.info.dataset == CLASS_DATASET and len(part.index)]
    return known[0] if known else None


def merge_scores(parts: Iterable[Scores], info: ScoreInfo) -> Scores:
    """Return all frames of `parts`, with classes or all without, under `info`.

    Of a clip that several parts hold, those of the first part.
    """
    seen: set[ClipKey] = set()
    indices, statistics, classes = [], [], []
    for part in parts:
        keys = pd.Series(list(zip(part.index["split"], part.index["clip_id"], strict=True)), dtype=object)
        fresh = ~keys.isin(seen).to_numpy(dtype=bool)
        indices.append(part.index[fresh])
        statistics.append(take(part.statistics, fresh))
        if part.classes is not None:
            classes.append(take_classes(part.classes, fresh))
        seen |= clips_in(part)
    index = pd.concat(indices, ignore_index=True)
    return Scores(info, index, concatenate(statistics), classes=concatenate_classes(classes) if classes else None)


def _beside(scores: Path, suffix: str) -> Path:
    return scores.with_name(scores.name.replace(_SCORES_SUFFIX, suffix))
