"""Finished clips of an evaluation that is under way, on disk, so that an interrupted one continues.

Conventions
    ``<output>/parts/`` holds ``identity.json`` and, per part, ``<number>.scores.parquet`` and, where there are any,
    ``<number>.masks.parquet``, ``<number>.extras.parquet`` and ``<number>.readout-<name>.parquet``, written before the scores,
    which commit the part. A part has 16 finished clips, or up to 64 where these took less than a second and have few frames.
    Parts are removed when the evaluation is finished; nothing else in that folder is touched.
"""

from __future__ import annotations

import json
import re
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from avsrobust.errors import AdapterError, ResultsError
from avsrobust.evaluation.extras import write_extras
from avsrobust.evaluation.scored_clips import ScoredClip
from avsrobust.evaluation.stored_scores import frames_of
from avsrobust.files import read_regular, write_text
from avsrobust.limits import TEXT_BYTES
from avsrobust.locks import require_held
from avsrobust.mask_overlaps import overlaps_array
from avsrobust.metrics.binary.counts import concatenate
from avsrobust.metrics.semantic.counts import concatenate_classes
from avsrobust.results import (
    INDEX_COLUMNS,
    PARTS_NAME,
    ScoreInfo,
    Scores,
    read_scores,
    readout_file,
    readout_of,
    write_scores,
)
from avsrobust.row_keys import rows_in
from avsrobust.row_sets import RowSet
from avsrobust.score_frames import FrameTable
from avsrobust.stored_masks import rows_of_masks, write_masks
from avsrobust.textfiles import parse_json

# The most: every part costs time, when it is written and when all are put together.
CLIPS_PER_PART = 64
# From so many on a part is written after a time, which a killed evaluation may lose, or where its histograms take 16 MB.
_FEW_CLIPS, _SECONDS, _FRAMES = 16, 1.0, 4096
# Parts that wait for the disk.
_MOST_WAITING = 2
_KEY_NAME = "identity.json"
_SCORES_SUFFIX = ".scores.parquet"
_MASKS_SUFFIX = ".masks.parquet"
_EXTRAS_SUFFIX = ".extras.parquet"
_PART = re.compile(r"\d{6,}\.(scores|masks|extras|readout-[A-Za-z0-9_.-]+)\.parquet")


class PartStore:
    """The parts folder of one evaluation; parts that are in it already are of the same model.

    Attributes:
        info: Metadata of the scores.
        keep_masks: Masks are written too.

    Args:
        output: The results folder.
        model_key: Key of the model.
        info: Metadata of the scores.
        keep_masks: Initial value of the attribute.
        on_saved: Called when a part is written, while nothing else is.
    """

    def __init__(
        self,
        output: Path,
        model_key: Mapping[str, Any],
        info: ScoreInfo,
        *,
        keep_masks: bool,
        on_saved: Callable[[], None] | None = None,
    ) -> None:
        self._folder = output / PARTS_NAME
        self._model_key = dict(model_key)
        self.info = info
        self.keep_masks = keep_masks
        self._pending: list[ScoredClip] = []
        self._number: int | None = None
        self._written = time.monotonic()
        self._yielded: set[str] = set()
        self._frames = FrameTable()
        self._masked: list[RowSet] = []
        self._on_saved = on_saved

    def begin(self) -> None:
        """Make the folder, where it is not there."""
        write_text(self._folder / _KEY_NAME, json.dumps(self._model_key, indent=2, sort_keys=True) + "\n")

    def _is_due(self) -> bool:
        if not _FEW_CLIPS <= len(self._pending) < CLIPS_PER_PART:
            return len(self._pending) >= CLIPS_PER_PART
        return time.monotonic() - self._written >= _SECONDS or sum(len(clip.index) for clip in self._pending) >= _FRAMES

    @contextmanager
    def writing(self) -> Iterator[Callable[[ScoredClip], None]]:
        """Yield a function that takes a finished clip, and writes parts in a thread: the disk holds nobody up.

        A part is written when it is due (see the conventions), what is left then by `flush`. What could not be written is
        raised by a later call, or at the end of the block.
        """
        with ThreadPoolExecutor(1, thread_name_prefix="avsrobust-writer") as thread:
            waiting: deque[Future[None]] = deque()

            def keep(clip: ScoredClip) -> None:
                self._pending.append(clip)
                if self._is_due():
                    clips, self._pending = self._pending, []
                    self._written = time.monotonic()
                    waiting.append(thread.submit(self._write, clips))
                while waiting and (len(waiting) > _MOST_WAITING or waiting[0].done()):
                    waiting.popleft().result()

            yield keep
            while waiting:
                waiting.popleft().result()

    def flush(self) -> None:
        """Write the finished clips that are still in memory."""
        if self._pending:
            self._write(self._pending)
            self._pending, self._written = [], time.monotonic()

    def _write(self, clips: Sequence[ScoredClip]) -> None:
        """Write a part."""
        require_held(self._folder.parent)
        if self._number is None:
            # Beyond those too that were never committed.
            self._number = max((int(path.name.split(".")[0]) for path in self._files(".parquet")), default=-1)
        self._number += 1
        place = self._folder / f"{self._number:06d}"
        evaluation = self.info.evaluation
        if self.keep_masks:
            tables = [table for clip in clips for table in clip.masks]
            draws = any(entry["draw"] for clip in clips for entry in clip.index)
            # One row group: each is read by itself, and takes as long as a hundred rows.
            whole = [pa.concat_tables(tables)] if tables else []
            write_masks(place.with_name(place.name + _MASKS_SUFFIX), whole, evaluation, draws=draws)
        if extras := [entry for clip in clips for entry in clip.extras]:
            write_extras(place.with_name(place.name + _EXTRAS_SUFFIX), extras, evaluation)
        for name in sorted({name for clip in clips for name in clip.readouts}):
            of_readout = [clip.readouts[name] for clip in clips if name in clip.readouts]
            scores = _scores_of(of_readout, self.info.of_readout(name))
            write_scores(place.with_name(f"{place.name}.{readout_file(name)}"), scores)
        write_scores(place.with_name(place.name + _SCORES_SUFFIX), _scores_of(clips, self.info))
        if self._on_saved is not None:
            self._on_saved()

    def frames(self) -> FrameTable:
        """Return the frames of all parts on disk, their histograms not in memory; each part is read once.

        Raises:
            ResultsError: Some have classes and some have not.
        """
        return frames_of(self.each(), self.info, into=self._frames)

    def each(self) -> Iterator[Scores]:
        """Yield the parts on disk that were not yielded before, one after the other, their histograms not in memory.

        A damaged or incomplete one is deleted, and its clips count as not done.
        """
        for path in self._files(_SCORES_SUFFIX):
            if path.name in self._yielded:
                continue
            masks = _beside(path, _MASKS_SUFFIX)
            try:
                scores = read_scores(path, in_memory=0)
                if scores.info.evaluation != self.info.evaluation:
                    raise ResultsError(f"{path}: is of another evaluation")
                masked = rows_of_masks(masks) if masks.exists() else RowSet()
                if masks.exists() and not RowSet.of(rows_in(scores)) <= masked:
                    raise ResultsError(f"{masks}: lacks rows")
                for readout in self._readout_files(path):
                    read_scores(readout)
            except (ResultsError, AdapterError):
                for readout in self._readout_files(path):
                    readout.unlink(missing_ok=True)
                for suffix in (_SCORES_SUFFIX, _MASKS_SUFFIX, _EXTRAS_SUFFIX):
                    _beside(path, suffix).unlink(missing_ok=True)
                continue
            self._yielded.add(path.name)
            self._masked.append(masked)
            yield scores

    def masked(self) -> RowSet:
        """Return the rows that have a mask in the parts that were yielded."""
        self._masked = [RowSet.union(self._masked)]
        return self._masked[0]

    def readout_names(self) -> list[str]:
        """Return the names of the further readouts that the parts have scores of, sorted."""
        files = (readout for path in self._files(_SCORES_SUFFIX) for readout in self._readout_files(path))
        names = {readout_of(file.name.partition(".")[2]) for file in files}
        return sorted(name for name in names if name is not None)

    def each_readout(self, name: str) -> Iterator[Scores]:
        """Yield the scores of a further readout that belong to the parts, one after the other."""
        for path in self._files(_SCORES_SUFFIX):
            number = path.name.removesuffix(_SCORES_SUFFIX)
            readout = path.with_name(f"{number}.{readout_file(name)}")
            if readout.exists():
                yield read_scores(readout, in_memory=0)

    def _readout_files(self, scores: Path) -> list[Path]:
        """Return the files of readouts of the part whose file of scores is given."""
        number = scores.name.removesuffix(_SCORES_SUFFIX)
        names = {path: path.name.removeprefix(f"{number}.") for path in self._folder.glob(f"{number}.*.parquet")}
        return sorted(path for path, name in names.items() if readout_of(name) is not None)

    def has_parts(self) -> bool:
        """Return whether any clip is finished, on disk or in memory."""
        return bool(self._pending or self._files(_SCORES_SUFFIX))

    def mask_files(self) -> list[Path]:
        """Return the files of stored masks that belong to the parts."""
        return self._committed(_MASKS_SUFFIX)

    def extras_files(self) -> list[Path]:
        """Return the files of further values that belong to the parts."""
        return self._committed(_EXTRAS_SUFFIX)

    def _committed(self, suffix: str) -> list[Path]:
        paths = [_beside(path, suffix) for path in self._files(_SCORES_SUFFIX)]
        return [path for path in paths if path.exists()]

    def _files(self, suffix: str) -> list[Path]:
        return sorted(path for path in self._folder.glob(f"*{suffix}") if _PART.fullmatch(path.name))


def unfinished_key(output: Path) -> object:
    """Return the key of the model whose parts are in the results folder `output`, or None where there are none."""
    try:
        return parse_json(read_regular(output / PARTS_NAME / _KEY_NAME, TEXT_BYTES, ResultsError), finite=False)
    except (OSError, ValueError, ResultsError):
        return None


def remove_parts(output: Path) -> None:
    """Delete the parts in `output`, and their folder where nothing else is in it."""
    folder = output / PARTS_NAME
    if not folder.is_dir():
        return
    for path in list(folder.iterdir()):
        if path.name == _KEY_NAME or _PART.fullmatch(path.name):
            path.unlink(missing_ok=True)
    if not any(folder.iterdir()):
        folder.rmdir()


def _scores_of(clips: Sequence[ScoredClip], info: ScoreInfo) -> Scores:
    """Return the scores of some clips, put together."""
    index = pd.DataFrame([entry for clip in clips for entry in clip.index], columns=INDEX_COLUMNS)
    statistics = concatenate([clip.statistics for clip in clips])
    classes = [clip.classes for clip in clips if clip.classes is not None]
    return Scores(
        info,
        index,
        statistics,
        classes=concatenate_classes(classes) if classes else None,
        overlaps=overlaps_array([frame for clip in clips for frame in clip.overlaps]),
    )


def _beside(scores: Path, suffix: str) -> Path:
    return scores.with_name(scores.name.replace(_SCORES_SUFFIX, suffix))
