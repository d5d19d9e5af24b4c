"""One clip in memory: its frames and masks as tensors, read once whatever the number of conditions.

Conventions
    frames: uint8 [T, 3, H, W], RGB, at the size on disk. target: bool [T, h, w] at the mask files' own size, True where
    any sounding object of the clip is: by the row's rule `foreground` (s4, ms3), any class but background (avss).
    classes: uint8 [T, h, w], the class ids 0..70 of avss; other data sets have none.
    has_mask: bool [T]; frames without a mask have an empty target.
    The rows of a clip come in the order they are evaluated in: clean first, then by condition and level.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from avsrobust.adapters.base import RowView
from avsrobust.checksums import Checksums
from avsrobust.errors import DataSetError, ManifestError
from avsrobust.files import resolve_inside
from avsrobust.manifest import DATA_PREFIX, Manifest, Row, check_fingerprints, load_manifest
from avsrobust.seal import require_sealed
from avsrobust.vocabulary import CLASS_DATASET, CLEAN

# Its masks hold class ids; those of the others say only where something sounds.
ClipRows = tuple[Row, ...]


@dataclass(frozen=True)
class ClipSample:
    """One clip's pictures.

    Attributes:
        rows: The clip's rows, one per condition and level.
        frames: uint8 [T, 3, H, W].
        target: Foreground, bool [T, h, w].
        has_mask: bool [T], whether a frame has a mask.
        classes: Class ids, uint8 [T, h, w], or None.
    """

    rows: ClipRows
    frames: Tensor
    target: Tensor
    has_mask: Tensor
    classes: Tensor | None = None

    def view(self, row: Row) -> RowView:
        """Return the view of `row` for an adapter with `needs_rows`; its tensors are copies."""
        return RowView(
            dataset=row.dataset,
            split=row.split,
            clip_id=row.clip_id,
            condition=row.condition,
            polarity=row.polarity,
            level=row.level,
            seed=row.seed,
            target=self.target.clone(),
            has_mask=self.has_mask.clone(),
            classes=None if self.classes is None else self.classes.clone(),
        )


def clips_of(rows: Iterable[Row]) -> list[ClipRows]:
    """Group rows into clips, sorted by (split, clip_id), the rows of each with clean first."""
    ordered = sorted(rows, key=lambda row: (row.split, row.clip_id, row.condition != CLEAN, row.key))
    return [tuple(group) for _, group in groupby(ordered, key=lambda row: (row.split, row.clip_id))]


def load_clip(rows: ClipRows, data_root: Path, checksums: Checksums | None = None) -> ClipSample:
    """Read the frames and masks of one clip.

    Args:
        rows: The clip's rows.
        data_root: Folder of the data set.
        checksums: Checksums that the files are compared with as they are read; None: none.

    Raises:
        DataSetError: A picture is damaged, or the pictures do not fit together.
        ManifestError: A picture is not the one that was built.
    """
    frames = load_frames(rows[0], data_root, checksums)
    masks, has_mask = _load_masks(rows[0], data_root, (frames.shape[-2], frames.shape[-1]), checksums)
    classes = masks if rows[0].dataset == CLASS_DATASET else None
    return ClipSample(rows, frames, masks != 0, has_mask, classes)


def load_frames(row: Row, data_root: Path, checksums: Checksums | None = None) -> Tensor:
    """Return the frames of a row's clip, uint8 [T, 3, H, W].

    Args:
        row: A row of the clip.
        data_root: Folder of the data set.
        checksums: As for `load_clip`.

    Raises:
        DataSetError: A frame is damaged, or the frames differ in size.
        ManifestError: A frame is not the one that was built.
    """
    from avsrobust.datasets.masks import read_frame

    pictures = [
        read_frame(_locate(data_root, row, relative), _check_of(relative, checksums)) for relative in row.frames
    ]
    _require_one_size(row, "frames", [picture.shape for picture in pictures])
    return torch.from_numpy(np.stack(pictures))


def _load_masks(
    row: Row, data_root: Path, frame_size: tuple[int, int], checksums: Checksums | None = None
) -> tuple[Tensor, Tensor]:
    """Return the masks as they are stored, uint8 [T, h, w] (class ids, or 0 and 1), and which frames have one."""
    from avsrobust.datasets.masks import read_mask

    masks = {
        frame: read_mask(
            _locate(data_root, row, relative),
            row.dataset,
            row.labels,
            row.foreground,
            _check_of(relative, checksums),
        )
        for frame, relative in enumerate(row.masks)
        if relative is not None
    }
    _require_one_size(row, "masks", [mask.shape for mask in masks.values()])
    size = next(iter(masks.values())).shape if masks else frame_size
    stored = np.zeros((row.num_frames, *size), np.uint8)
    for frame, mask in masks.items():
        stored[frame] = mask
    return torch.from_numpy(stored), torch.tensor([relative is not None for relative in row.masks])


def picture_sizes(row: Row, data_root: Path) -> tuple[tuple[int, int] | None, ...]:
    """Return (width, height) of the first frame and of the first mask from their headers, None where that fails.

    For grouping clips only: errors are left to the reader of the pictures.
    """
    first_mask = next((mask for mask in row.masks if mask is not None), None)
    return tuple(_header_size(data_root, row, relative) for relative in (row.frames[0], first_mask))


def check_data(manifest: Manifest, data_root: Path, splits: Sequence[str]) -> None:
    """Check that a folder holds the data set that a manifest, whole or a selection, was built from.

    Args:
        manifest: The manifest.
        data_root: The folder.
        splits: Splits to check.

    Raises:
        ManifestError: The folder holds something else, or the manifest's own bytes are not those that were built.
    """
    require_sealed(manifest.path)
    try:
        check_fingerprints(manifest, data_root, splits)
    except ManifestError:
        # A fingerprint covers all rows of a split; a selection has fewer files.
        whole = load_manifest(manifest.path)
        if len(whole.rows) == len(manifest.rows):
            raise
        check_fingerprints(whole, data_root, splits)


def _check_of(relative: str, checksums: Checksums | None) -> Callable[[Path, bytes], None] | None:
    """Return the check of a data set's file that `avsrobust.datasets.pictures` calls with its bytes."""
    return None if checksums is None else partial(checksums.check, DATA_PREFIX + relative)


def _locate(data_root: Path, row: Row, relative: str) -> Path:
    return resolve_inside(data_root, relative, named_by=f"the manifest's clip {row.clip_id}")


def _header_size(data_root: Path, row: Row, relative: str | None) -> tuple[int, int] | None:
    from avsrobust.datasets.pictures import read_header

    if relative is None:
        return None
    try:
        header = read_header(_locate(data_root, row, relative))
    except DataSetError:
        return None
    return header.width, header.height


def _require_one_size(row: Row, noun: str, shapes: Sequence[tuple[int, ...]]) -> None:
    sizes = sorted({f"{shape[-1]}x{shape[-2]}" for shape in shapes})
    if len(sizes) > 1:
        raise DataSetError(
            f"{row.split}/{row.clip_id}: found {noun} of the sizes {', '.join(sizes)}; expected one size in a clip; "
            "restore the data set's own files"
        )
