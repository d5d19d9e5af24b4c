"""The adapter `predictions`: scores masks that any other program has written, one per (row, frame).

Conventions
    ``--option masks=DIR``: ``DIR/<condition>[/<level>]/<clip_id>/<frame>.png``, grayscale, 0..255 = probability times 255, or
    mode "1"; or ``DIR/<condition>[/<level>]/<clip_id>.npz`` with the array `masks` [T, h, w]: bool, floating point in [0, 1]
    or uint8 = probability times 255. Frames count from 0; <level> is there where the condition has one, as in "-5" or "2.5".
    ``--option masks=FILE.parquet``: what ``--save-masks`` writes (`avsrobust.evaluation.stored_masks`).
    ``--option task=semantic``: the pictures hold class ids, 0..70 and 0 for background: grayscale, or a palette's indices; the
    arrays hold them as integers. Such masks are resized to the nearest.
    Masks of any size are resized to the clip's mask files as a model's output is. Frames without a mask file are not scored and
    need no prediction. A prediction that is missing or unreadable fails its clip; it is never taken for an empty mask.
"""

from __future__ import annotations

import logging
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from avsrobust.adapters.base import Adapter, RowView
from avsrobust.adapters.tasks import SEMANTIC, take_task
from avsrobust.errors import AdapterError, AvsRobustError, ClipError
from avsrobust.evaluation.outputs import resize_classes, resize_probability
from avsrobust.evaluation.stored_masks import StoredMasks
from avsrobust.files import resolve_inside
from avsrobust.vocabulary import NUM_CLASSES

_LOG = logging.getLogger(__name__)
Probability = npt.NDArray[np.float32]
ClassIds = npt.NDArray[np.uint8]
Prediction = Probability | ClassIds


class _Source(Protocol):
    def read(self, row: RowView) -> Prediction:
        """Return the row's predictions [T, h, w]: float32, or class ids, uint8; zeros on frames without a mask.

        Raises `ClipError`.
        """


class Predictions(Adapter):
    """Masks already on disk: PNG or NPZ files in a folder, or the parquet file of --save-masks."""

    needs_rows = True

    def __init__(self, source: _Source) -> None:
        self._source = source

    @classmethod
    def load(cls, checkpoint: Path | None, device: torch.device, **options: str) -> Predictions:
        """Open ``masks=DIR`` or ``masks=FILE.parquet``. Raises `AdapterError` where it is not there."""
        task = take_task(options)
        unknown = sorted(set(options) - {"masks"})
        if checkpoint is not None or unknown:
            named = f"--option {unknown[0]}" if unknown else f"--checkpoint {checkpoint}"
            raise AdapterError(
                f"{named}: predictions takes only --option masks=DIR or masks=FILE.parquet, and task=semantic"
            )
        if "masks" not in options:
            raise AdapterError("predictions: found no --option masks; expected masks=DIR or masks=FILE.parquet")
        path = Path(options["masks"])
        if path.suffix == ".parquet":
            if task == SEMANTIC:
                raise AdapterError(f"--option task=semantic: {path} holds binary masks; expected a folder of class ids")
            adapter = cls(MaskTable(path))
        elif path.is_dir():
            adapter = cls(MaskFolder(path, semantic=task == SEMANTIC))
        else:
            raise AdapterError(f"--option masks={path}: found no such folder; expected a folder or a .parquet file")
        adapter.device = device
        return adapter

    def segment_rows(self, encoded: Any, audio: Tensor, rows: Sequence[RowView]) -> Tensor:
        """Return the stored predictions at the size of the clips' masks, float32 or, class ids, uint8 [B, T, H, W]."""
        return torch.stack([self._read(row) for row in rows]).to(self.device)

    def _read(self, row: RowView) -> Tensor:
        stored = torch.from_numpy(self._source.read(row))
        height, width = row.target.shape[-2:]
        if stored.is_floating_point():
            return resize_probability(stored, height, width)
        return resize_classes(stored, height, width)[0]


class MaskTable:
    """Predictions in a parquet file of run-length encodings."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._masks = StoredMasks(path)

    def read(self, row: RowView) -> Prediction:
        """Return the row's predictions, float32 [T, h, w]. Raises `ClipError`."""
        try:
            masks = self._masks.read(row.split, row.clip_id, row.condition, row.level)
        except ValueError as error:
            raise ClipError(f"{self._path}: {_describe(row)}: {error}; write it again") from error
        for frame in _frames_with_mask(row):
            if frame not in masks:
                raise ClipError(f"{self._path}: has no mask of {_describe(row)}, frame {frame}; expected one per frame")
        return _stack({frame: mask.astype(np.float32) for frame, mask in masks.items()}, row, self._path)


class MaskFolder:
    """Predictions in a folder of PNG or NPZ files; `semantic`: class ids."""

    def __init__(self, root: Path, *, semantic: bool = False) -> None:
        self._root = root
        self._semantic = semantic
        self._seen_ink = False

    def read(self, row: RowView) -> Prediction:
        """Return the row's predictions [T, h, w]: float32, or class ids, uint8. Raises `ClipError`."""
        level = "" if row.level is None else f"{row.level:g}/"
        try:
            folder = resolve_inside(self._root, f"{row.condition}/{level}{row.clip_id}", named_by="the manifest")
        except AvsRobustError as error:
            raise ClipError(str(error)) from error
        archive = folder.with_name(f"{folder.name}.npz")
        if archive.exists() and folder.exists():
            raise ClipError(f"{archive}: found beside a folder of the same name; expected one of the two; remove one")
        return self._read_archive(archive, row) if archive.exists() else self._read_pictures(folder, row)

    def _read_archive(self, path: Path, row: RowView) -> Prediction:
        try:
            with np.load(path, allow_pickle=False) as archive:
                stored = archive["masks"]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise ClipError(f"{path}: cannot be read ({error}); expected an NPZ file with the array 'masks'") from error
        if stored.ndim != 3 or len(stored) != row.target.shape[0] or 0 in stored.shape:
            raise ClipError(
                f"{path}: found 'masks' of shape {list(stored.shape)}; expected [T={row.target.shape[0]}, h, w]"
            )
        return _class_ids(path, stored, "'masks'") if self._semantic else _archive_probability(path, stored)

    def _read_pictures(self, folder: Path, row: RowView) -> Prediction:
        pictures = {frame: self._read_picture(folder / f"{frame}.png") for frame in _frames_with_mask(row)}
        return _stack(pictures, row, folder)

    def _read_picture(self, path: Path) -> Prediction:
        from PIL import Image

        try:
            with Image.open(path, formats=("PNG",)) as picture:
                mode, values = picture.mode, np.asarray(picture)
        except FileNotFoundError as error:
            raise ClipError(
                f"{path}: not found; expected the prediction of this frame there (or in {path.parent}.npz)"
            ) from error
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise ClipError(f"{path}: cannot be read as PNG ({error}); write it again") from error
        if self._semantic:
            if mode not in ("L", "P"):
                raise ClipError(
                    f"{path}: found a picture of mode {mode}; expected class ids, 8-bit grayscale (L) or a palette (P)"
                )
            return _class_ids(path, values, "pixels")
        if mode == "1":
            return values.astype(np.float32)
        if mode != "L":
            raise ClipError(
                f"{path}: found a picture of mode {mode}; expected 8-bit grayscale (L, probability times 255) or "
                "1-bit (1); convert it"
            )
        self._warn_of_ones(path, values)
        return values.astype(np.float32) / np.float32(255)

    def _warn_of_ones(self, path: Path, values: npt.NDArray[np.uint8]) -> None:
        """Binary masks stored as 0 and 1 would all count as empty: say so at the first picture with anything in it."""
        if not self._seen_ink and values.any():
            self._seen_ink = True
            if values.max() == 1:
                _LOG.warning(
                    "%s: holds only the values 0 and 1, which are probabilities of 0 and 1/255; "
                    "store binary masks as 0 and 255, or as 1-bit pictures",
                    path,
                )


def _archive_probability(path: Path, stored: npt.NDArray[Any]) -> Probability:
    if stored.dtype == np.bool_:
        return stored.astype(np.float32)
    if stored.dtype == np.uint8:
        if stored.max() == 1:
            raise ClipError(
                f"{path}: 'masks' is uint8 (probability times 255) but holds only 0 and 1; store it as bool, or as float"
            )
        return stored.astype(np.float32) / np.float32(255)
    if not np.issubdtype(stored.dtype, np.floating):
        raise ClipError(f"{path}: found 'masks' of dtype {stored.dtype}; expected bool, uint8 or floating point")
    # NaN fails both comparisons.
    if not (stored.min() >= 0 and stored.max() <= 1):
        raise ClipError(
            f"{path}: found 'masks' from {stored.min():.4g} to {stored.max():.4g}; expected probabilities in [0, 1]"
        )
    return stored.astype(np.float32)


def _class_ids(path: Path, stored: npt.NDArray[Any], what: str) -> ClassIds:
    if stored.dtype.kind not in "iu":
        raise ClipError(f"{path}: found {what} of dtype {stored.dtype}; expected class ids, integers")
    if not (stored.min() >= 0 and stored.max() < NUM_CLASSES):
        raise ClipError(
            f"{path}: found {what} from {stored.min()} to {stored.max()}; expected class ids 0..{NUM_CLASSES - 1}; "
            "for binary masks leave out --option task=semantic"
        )
    return stored.astype(np.uint8)


def _frames_with_mask(row: RowView) -> list[int]:
    return [frame for frame, has_mask in enumerate(row.has_mask.tolist()) if has_mask]


def _stack(masks: Mapping[int, Prediction], row: RowView, path: Path) -> Prediction:
    """Return the masks as one array [T, h, w], zeros where there is none."""
    num_frames, height, width = row.target.shape
    kept = {frame: masks[frame] for frame in sorted(masks) if 0 <= frame < num_frames}
    sizes = sorted({mask.shape for mask in kept.values()})
    if len(sizes) > 1:
        raise ClipError(f"{path}: {_describe(row)}: found masks of the sizes {sizes}; expected one size in a clip")
    dtype = next((mask.dtype for mask in kept.values()), np.dtype(np.float32))
    stacked = np.zeros((num_frames, *(sizes[0] if sizes else (height, width))), dtype)
    for frame, mask in kept.items():
        stacked[frame] = mask
    return stacked


def _describe(row: RowView) -> str:
    level = "" if row.level is None else f" at {row.level:g} dB"
    return f"clip {row.clip_id} under {row.condition}{level}"
