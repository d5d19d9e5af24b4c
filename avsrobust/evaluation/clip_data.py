"""One clip in memory: its frames and masks as tensors, read once whatever the number of conditions.

Conventions
    Most rows of a clip have its own frames and masks; those of some conditions have composed ones, or masks that are empty in
    silent seconds. Every different picture is read once.
    frames: uint8 [T, 3, H, W], RGB, at the size on disk; black, and without memory, for adapters that look at no picture.
    target: bool [T, h, w] at the mask files' own size, True where any sounding object of the clip is: by the row's rule
    `foreground` (s4, ms3), any class but background (avss).
    classes: uint8 [T, h, w], the class ids 0..70 of avss; other data sets have none.
    has_mask: bool [T]; frames without a mask have an empty target.
    The rows of a clip come in the order they are evaluated in: clean first, then by condition and level.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from avsrobust.adapters.base import RowView
from avsrobust.checksums import Checksums
from avsrobust.errors import DataSetError, ManifestError
from avsrobust.manifest import Manifest, Row, check_fingerprints, load_manifest, picture_entry
from avsrobust.seal import require_sealed
from avsrobust.vocabulary import CLASS_DATASET, CLEAN

# Its masks hold class ids; those of the others say only where something sounds.
ClipRows = tuple[Row, ...]


@dataclass(frozen=True)
class Target:
    """The masks of one picture in memory.

    Attributes:
        target: Foreground that sounds, bool [T, h, w].
        has_mask: bool [T], whether a frame has a mask.
        classes: Class ids, uint8 [T, h, w], or None.
        annotated: Foreground of everything annotated, bool [T, h, w]; None where that is `target`.
        annotated_classes: The same as class ids, or None.
    """

    target: Tensor
    has_mask: Tensor
    classes: Tensor | None = None
    annotated: Tensor | None = None
    annotated_classes: Tensor | None = None

    @cached_property
    def num_annotated(self) -> int:
        """Number of frames with a mask."""
        return int(np.count_nonzero(self.has_mask.numpy()))


@dataclass(frozen=True)
class ClipSample:
    """One clip's pictures: one, and where rows have other frames or masks than the clip's own, those too.

    Attributes:
        rows: The clip's rows, one per condition, level and draw.
        pictures: The different frames, each uint8 [T, 3, H, W]; row i has ``pictures[picture_of[i]]``.
        targets: The different masks; row i has ``targets[target_of[i]]``.
        picture_of: Position of each row's frames.
        target_of: Position of each row's masks.
        has_frames: Whether the frames were decoded.
    """

    rows: ClipRows
    pictures: tuple[Tensor, ...]
    targets: tuple[Target, ...]
    picture_of: tuple[int, ...]
    target_of: tuple[int, ...]
    has_frames: bool = True

    @property
    def frames(self) -> Tensor:
        """Frames of the first row."""
        return self.pictures[self.picture_of[0]]

    @property
    def target(self) -> Tensor:
        """Foreground of the first row."""
        return self.of_row(0).target

    @property
    def has_mask(self) -> Tensor:
        """Annotated frames of the first row."""
        return self.of_row(0).has_mask

    @property
    def classes(self) -> Tensor | None:
        """Class ids of the first row, or None."""
        return self.of_row(0).classes

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shapes of all pictures and masks, and numbers of annotated frames: clips that agree in them can be stacked."""
        tensors = (*self.pictures, *(target.target for target in self.targets))
        annotated = tuple(target.num_annotated for target in self.targets)
        return (self.picture_of, self.target_of, annotated, *(tuple(tensor.shape) for tensor in tensors))

    def of_row(self, position: int) -> Target:
        """Return the masks of the row at `position`."""
        return self.targets[self.target_of[position]]

    def view(self, position: int) -> RowView:
        """Return the view of the row at `position` for an adapter with `needs_rows`; its tensors are copies."""
        row, masks = self.rows[position], self.of_row(position)
        return RowView(
            dataset=row.dataset,
            split=row.split,
            clip_id=row.clip_id,
            condition=row.condition,
            polarity=row.polarity,
            level=row.level,
            draw=row.draw,
            seed=row.seed,
            target=_copy(masks.target),
            has_mask=_copy(masks.has_mask),
            classes=None if masks.classes is None else _copy(masks.classes),
            annotated=None if masks.annotated is None else _copy(masks.annotated),
            annotated_classes=None if masks.annotated_classes is None else _copy(masks.annotated_classes),
        )


def _copy(tensor: Tensor) -> Tensor:
    # numpy's, as in `_foreground`.
    return torch.from_numpy(tensor.numpy().copy())


def clips_of(rows: Iterable[Row]) -> list[ClipRows]:
    """Group rows into clips, sorted by (split, clip_id), the rows of each with clean first."""
    clips: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        clips.setdefault((row.split, row.clip_id), []).append(row)
    # Rows of a manifest are sorted, and sorting them again needs a key for each: here one for each clip.
    return [tuple(sorted(clips.pop(clip), key=order_in_clip)) for clip in sorted(clips)]


def order_in_clip(row: Row) -> tuple[bool, tuple[str, str, str, float, int]]:
    """Return what the rows of a clip are sorted by."""
    return (row.condition != CLEAN, row.key)


def picture_order(rows: ClipRows) -> tuple[int, ...]:
    """Return for each row the position of its frames among the different frames of the clip, in the order of the rows."""
    return _positions([row.frames for row in rows])


def load_clip(
    rows: ClipRows,
    build: Manifest,
    data_root: Path,
    checksums: Checksums | None = None,
    *,
    needs_frames: bool = True,
) -> ClipSample:
    """Read the frames and masks of one clip, each picture once.

    Args:
        rows: The clip's rows.
        build: The manifest they are of.
        data_root: Folder of the data set.
        checksums: Checksums that the files are compared with as they are read; None: none.
        needs_frames: Decode the frames. Otherwise their files are compared with the checksums alone.

    Raises:
        DataSetError: A picture is damaged, or the pictures do not fit together.
        ManifestError: A picture is not the one that was built.
    """
    # Without checksums only decoding finds a damaged file.
    has_frames = needs_frames or checksums is None
    reader = _PictureReader(build, data_root, checksums, has_frames)
    picture_of = picture_order(rows)
    target_of = _positions([(row.frames, row.masks, row.annotated) for row in rows])
    pictures = [reader.frames(rows[picture_of.index(number)]) for number in range(max(picture_of) + 1)]
    targets = []
    for number in range(max(target_of) + 1):
        first = target_of.index(number)
        targets.append(reader.target(rows[first], pictures[picture_of[first]].shape[-2:]))
    return ClipSample(rows, tuple(pictures), tuple(targets), picture_of, target_of, has_frames)


def _positions(values: Sequence[Hashable]) -> tuple[int, ...]:
    """Return for each value its position among the different ones, in order of first appearance."""
    known: dict[Hashable, int] = {}
    return tuple(known.setdefault(value, len(known)) for value in values)


@dataclass(frozen=True)
class _PictureReader:
    """Reads the pictures of a manifest's rows."""

    build: Manifest
    data_root: Path
    checksums: Checksums | None
    decodes_frames: bool

    def frames(self, row: Row) -> Tensor:
        """Return a row's frames, uint8 [T, 3, H, W]."""
        from avsrobust.datasets.masks import read_pixels
        from avsrobust.datasets.pictures import read_checked, size_of_content

        if not self.decodes_frames:
            sizes = []
            for name in row.frames:
                path = self._locate(name)
                width, height = size_of_content(path, read_checked(path, self._check_of(name)))
                sizes.append((height, width))
            _require_one_size(row, "frames", sizes)
            return torch.zeros(1, dtype=torch.uint8).expand(len(sizes), 3, *sizes[0])
        pictures = [read_pixels(self._locate(name), self._check_of(name)) for name in row.frames]
        _require_one_size(row, "frames", [picture.shape[:2] for picture in pictures])
        frames = np.empty((len(pictures), 3, *pictures[0].shape[:2]), np.uint8)
        for frame, picture in zip(frames, pictures, strict=True):
            frame[...] = picture.transpose(2, 0, 1)
        return torch.from_numpy(frames)

    def target(self, row: Row, frame_size: Sequence[int]) -> Target:
        """Return a row's masks; `frame_size` (height, width) is that of masks which are all missing."""
        masks, has_mask = self._masks(row, row.masks, frame_size)
        is_classes = row.dataset == CLASS_DATASET
        everything = None if row.annotated is None else self._masks(row, row.annotated, frame_size)[0]
        return Target(
            target=_foreground(masks),
            has_mask=has_mask,
            classes=masks if is_classes else None,
            annotated=None if everything is None else _foreground(everything),
            annotated_classes=everything if is_classes else None,
        )

    def _masks(self, row: Row, names: Sequence[str | None], frame_size: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return the masks as they are stored, uint8 [T, h, w] (class ids, or 0 and 1), and which frames have one."""
        from avsrobust.datasets.masks import read_mask

        masks = {
            frame: read_mask(self._locate(name), row.dataset, row.labels, row.foreground, self._check_of(name))
            for frame, name in enumerate(names)
            if name is not None
        }
        _require_one_size(row, "masks", [mask.shape for mask in masks.values()])
        size = next(iter(masks.values())).shape if masks else tuple(frame_size)
        stored = np.zeros((row.num_frames, *size), np.uint8)
        for frame, mask in masks.items():
            stored[frame] = mask
        return torch.from_numpy(stored), torch.tensor([name is not None for name in names])

    def _locate(self, name: str) -> Path:
        return self.build.picture_path(name, self.data_root)

    def _check_of(self, name: str) -> Callable[[Path, bytes], None] | None:
        """Return the check of a picture that `avsrobust.datasets.pictures` calls with its bytes."""
        return None if self.checksums is None else partial(self.checksums.check, picture_entry(name))


def picture_sizes(rows: ClipRows, build: Manifest, data_root: Path) -> tuple[tuple[int, int] | None, ...]:
    """Return (width, height) of the first frame and of the first mask from their headers, None where that fails.

    For grouping clips only: errors are left to the reader of the pictures. Composed pictures follow from the clip's own.
    """
    row = rows[0]
    first_mask = next((mask for mask in row.masks if mask is not None), None)
    return tuple(_header_size(build, data_root, name) for name in (row.frames[0], first_mask))


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


def _header_size(build: Manifest, data_root: Path, name: str | None) -> tuple[int, int] | None:
    from avsrobust.datasets.pictures import read_size

    if name is None:
        return None
    try:
        return read_size(build.picture_path(name, data_root))
    except DataSetError:
        return None


def _foreground(masks: Tensor) -> Tensor:
    # numpy's, in this thread alone: clips are read while a model works on the other cores.
    return torch.from_numpy(np.asarray(masks.numpy() != 0))


def _require_one_size(row: Row, noun: str, shapes: Sequence[tuple[int, ...]]) -> None:
    sizes = sorted({f"{shape[-1]}x{shape[-2]}" for shape in shapes})
    if len(sizes) > 1:
        raise DataSetError(
            f"{row.split}/{row.clip_id}: found {noun} of the sizes {', '.join(sizes)}; expected one size in a clip; "
            "restore the data set's own files"
        )
