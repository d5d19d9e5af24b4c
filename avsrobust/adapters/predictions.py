"""The adapter `predictions`: scores masks that any other program has written, one per (row, frame).

Conventions
    ``--option masks=DIR``: PNG, NPY, NPZ or JSON files, named as `adapters.prediction_layout` defines, with values as
    `adapters.prediction_values` defines: probabilities, or binary masks, of which all in the folder are on one scale.
    ``--option masks=FILE.parquet``: a file of ``--save-masks`` (`avsrobust.stored_masks`);
    ``--option masks=FILE.json``: the same as COCO run-length encodings in JSON (`adapters.prediction_json`).
    ``--option task=semantic``: the files hold class ids, 0..70 and 0 for background: grayscale, a palette's indices or AVSBench's
    colours; arrays hold them as integers. Such masks are resized to the nearest.
    Masks of any size are resized to the clip's mask files as a model's output is. Frames without a mask file are not scored and
    need no prediction. A prediction that is missing or unreadable fails its clip; it is never taken for an empty mask.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from avsrobust.adapters import prediction_json
from avsrobust.adapters.base import Adapter, RowView
from avsrobust.adapters.outputs import take_task
from avsrobust.adapters.prediction_frames import check_numbering, describe, first_frame_number, frames_with_mask
from avsrobust.adapters.prediction_layout import Found, PredictionFolder
from avsrobust.adapters.prediction_survey import survey_values
from avsrobust.adapters.prediction_values import (
    MASK_BYTES,
    ClassIds,
    Probability,
    read_class_ids,
    read_values,
    to_probability,
)
from avsrobust.adapters.resizing import resize_classes, resize_probability
from avsrobust.errors import AdapterError, ClipError
from avsrobust.rle import Mask
from avsrobust.stored_masks import StoredMasks
from avsrobust.vocabulary import CLASS_DATASET, SEMANTIC

Prediction = Probability | ClassIds
_FORMS = "masks=DIR, masks=FILE.parquet or masks=FILE.json"


class _Source(Protocol):
    def read(self, row: RowView) -> Prediction:
        """Return the row's predictions [T, h, w]: float32, or class ids, uint8; zeros on frames without a mask.

        Raises `ClipError`.
        """


class Predictions(Adapter):
    """Masks already on disk: PNG, NPY, NPZ or JSON files in a folder, one JSON file, or the parquet file of --save-masks."""

    needs_rows = True

    def __init__(self, source: _Source) -> None:
        self._source = source

    @classmethod
    def load(cls, checkpoint: Path | None, device: torch.device, **options: str) -> Predictions:
        """Open the predictions.

        Args:
            checkpoint: Must be None.
            device: Device of the output.
            **options: ``masks``: a folder, a parquet or a JSON file; ``task``: "binary" (the default) or "semantic".

        Raises:
            AdapterError: The predictions are not there or cannot be read, or an option is wrong.
        """
        task = take_task(options)
        unknown = sorted(set(options) - {"masks"})
        if checkpoint is not None or unknown:
            named = f"--option {unknown[0]}" if unknown else f"--checkpoint {checkpoint}"
            raise AdapterError(f"{named}: predictions takes only --option {_FORMS}, and task=semantic")
        if "masks" not in options:
            raise AdapterError(f"predictions: found no --option masks; expected {_FORMS}")
        adapter = cls(_open(Path(options["masks"]).absolute(), semantic=task == SEMANTIC))
        adapter.device = device
        return adapter

    def segment_rows(self, encoded: Any, audio: Tensor, rows: Sequence[RowView]) -> Tensor:
        """Return the stored predictions at the size of the clips' masks, float32 or, class ids, uint8 [B, T, H, W].

        Raises:
            ClipError: A prediction is missing or damaged.
        """
        return torch.stack([self._read(row) for row in rows]).to(self.device)

    def _read(self, row: RowView) -> Tensor:
        stored = torch.from_numpy(self._source.read(row))
        height, width = row.target.shape[-2:]
        if stored.is_floating_point():
            return resize_probability(stored, height, width)
        return resize_classes(stored, height, width)[0]


def _open(path: Path, *, semantic: bool) -> _Source:
    if path.suffix in (".parquet", ".json") and not path.is_dir():
        if semantic:
            raise AdapterError(f"--option task=semantic: {path} holds binary masks; expected a folder of class ids")
        return MaskTable(path) if path.suffix == ".parquet" else MaskJson(path)
    if path.is_dir():
        return MaskFolder(path, semantic=semantic)
    found = f"found a file '{path.suffix}'" if path.exists() else "found no such folder"
    raise AdapterError(f"--option masks={path}: {found}; expected a folder, a .parquet or a .json file")


class MaskTable:
    """Predictions in a parquet file of run-length encodings."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._masks = StoredMasks(path)
        self._first = first_frame_number(self._masks.smallest_frame)

    def read(self, row: RowView) -> Prediction:
        """Return the row's predictions, float32 [T, h, w].

        Raises:
            ClipError: A prediction is missing or damaged.
        """
        try:
            masks = self._masks.read(row.split, row.clip_id, row.condition, row.level, row.draw)
        except ValueError as error:
            raise ClipError(f"{self._path}: {describe(row)}: {error}; write it again") from error
        return _assemble(self._path, row, masks, self._first, _binary)


class MaskJson:
    """Predictions in one JSON file of run-length encodings."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._masks = prediction_json.JsonMasks(path)

    def read(self, row: RowView) -> Prediction:
        """Return the row's predictions, float32 [T, h, w].

        Raises:
            ClipError: A prediction is missing or damaged.
        """
        return _read_entries(self._path, row, self._masks.find(row))


class MaskFolder:
    """Predictions in a folder of PNG, NPY, NPZ or JSON files.

    Args:
        root: The folder.
        semantic: The files hold class ids.

    Raises:
        AdapterError: The names are in no known layout, or the values are on no one scale.
    """

    def __init__(self, root: Path, *, semantic: bool = False) -> None:
        self._root = root
        self._semantic = semantic
        self._folder = PredictionFolder(root)
        self._survey = survey_values(self._folder.files(), semantic=semantic)
        if semantic:
            self._survey.require_background(root)
        else:
            self._survey.require_no_ids(root, has_classes=False)
            self._scale = self._survey.scale(root)

    def read(self, row: RowView) -> Prediction:
        """Return the row's predictions [T, h, w]: float32, or class ids, uint8.

        Raises:
            ClipError: A prediction is missing or damaged.
            AdapterError: The folder's values are class ids of a data set that has classes.
        """
        if not self._semantic and row.dataset == CLASS_DATASET:
            self._survey.require_no_ids(self._root, has_classes=True)
        found = self._folder.find(row)
        if found.whole is not None and found.whole.suffix == ".json":
            if self._semantic:
                raise ClipError(f"{found.whole}: holds binary masks; expected class ids (--option task=semantic)")
            return _read_entries(found.whole, row, prediction_json.read_clip(found.whole))
        if found.whole is not None:
            return self._read_whole(found.whole, row)
        return _assemble(found.path, row, found.numbered, found.first, self._read_frame, self._expect(found, row))

    def _read_whole(self, path: Path, row: RowView) -> Prediction:
        num_frames = row.target.shape[0]
        values = self._read_file(path)
        if values.ndim != 3 or len(values) != num_frames or 0 in values.shape:
            raise ClipError(f"{path}: found 'masks' of shape {list(values.shape)}; expected [T={num_frames}, h, w]")
        return values

    def _read_frame(self, path: Path) -> Prediction:
        values = self._read_file(path)
        if values.ndim == 3 and len(values) == 1:
            values = values[0]
        if values.ndim != 2 or 0 in values.shape:
            raise ClipError(f"{path}: found values of shape {list(values.shape)}; expected one frame's [h, w]")
        return values

    def _read_file(self, path: Path) -> Prediction:
        return read_class_ids(path) if self._semantic else to_probability(path, read_values(path), self._scale)

    def _expect(self, found: Found, row: RowView) -> Callable[[int], str]:
        """Return the path that the prediction of a frame should have, named as those of the clip that are there."""
        model = next(iter(found.numbered.values()))
        lead = model.stem.rpartition("_")[0]

        def path(number: int) -> str:
            name = f"{lead}_{number}" if lead else str(number)
            return str(model.with_name(name + model.suffix))

        return path


def _read_entries(path: Path, row: RowView, entries: prediction_json.Entries) -> Prediction:
    """Decode a row's run-length encodings. Raises `ClipError`."""

    def decode(entry: Mapping[str, Any]) -> Probability:
        try:
            return _binary(prediction_json.decode(entry))
        except ValueError as error:
            raise ClipError(f"{path}: {describe(row)}: {error}; write it again") from error

    return _assemble(path, row, entries.by_number, entries.first, decode)


def _binary(mask: Mask) -> Probability:
    return mask.astype(np.float32)


def _assemble(
    path: Path,
    row: RowView,
    numbered: Mapping[int, Any],
    first: int,
    read: Callable[[Any], Prediction],
    expected: Callable[[int], str] | None = None,
) -> Prediction:
    """Return a row's predictions [T, h, w], read by frame number, zeros on frames without a mask.

    `first` is the number of frame 0; `expected` names the file of a number. Raises `ClipError` where one is missing.
    """
    num_frames, height, width = row.target.shape
    wanted = frames_with_mask(row)
    check_numbering(numbered, wanted, num_frames, first, f"{path}: {describe(row)}")
    for frame in wanted:
        if frame + first not in numbered:
            if expected is not None:
                counted = "; the others of this condition are counted from 1" if first else ""
                raise ClipError(
                    f"{expected(frame + first)}: not found; expected the prediction of frame {frame} there{counted}"
                )
            raise ClipError(f"{path}: has no mask of {describe(row)}, frame {frame}; expected one per frame")
    # Run lengths cost little to decode: masks of unscored frames may be stored again (--save-masks).
    frames = wanted if expected is not None else [frame for frame in range(num_frames) if frame + first in numbered]
    masks = {frame: read(numbered[frame + first]) for frame in frames}
    sizes = sorted({mask.shape for mask in masks.values()})
    if len(sizes) > 1:
        raise ClipError(f"{path}: {describe(row)}: found masks of the sizes {sizes}; expected one size in a clip")
    dtype = next((mask.dtype for mask in masks.values()), np.dtype(np.float32))
    shape = (num_frames, *(sizes[0] if sizes else (height, width)))
    MASK_BYTES.check(4 * shape[0] * shape[1] * shape[2], f"{path}: {describe(row)}", ClipError)
    stacked = np.zeros(shape, dtype)
    for frame, mask in masks.items():
        stacked[frame] = mask
    return stacked
