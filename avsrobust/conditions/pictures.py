"""Pictures that a build makes for rows whose frames or masks are not the clip's own.

Conventions
    A made picture lies below ``pictures/`` in the build's folder, under a name that is a checksum of its definition: rows that
    need the same picture share one file. Rows name it with the prefix ``build:``.
    Composed frames are JPEG, quality 95 without chroma subsampling; masks are PNG: 0 and 255 (s4, ms3) or class ids (avss).
    The tiles of a composition lie row by row in a grid; each is half as wide and half as high as the first clip's pictures, so
    that four of them are as large as one. Another clip's picture is cut at its longer sides to the tile's proportions.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from avsrobust.clips import Clip
from avsrobust.files import resolve_inside
from avsrobust.manifest import BUILD_PREFIX

PICTURES_FOLDER = "pictures"
_JPEG_QUALITY = 95
# Measured on photographs of 224x224, resized to tiles, and on their masks.
_JPEG_BYTES_PER_PIXEL = 0.74
_MASK_BYTES = 500
_NAMED_BY = "the plan"


@dataclass(frozen=True)
class MadePicture:
    """A picture that the build makes; equal definitions are one file."""

    @property
    def suffix(self) -> str:
        """The file's ending."""
        return ".png"

    @property
    def path(self) -> str:
        """Path in the build's folder."""
        digest = hashlib.sha256(repr(self).encode("utf-8", "backslashreplace")).hexdigest()[:32]
        return f"{PICTURES_FOLDER}/{digest[:2]}/{digest}{self.suffix}"

    @property
    def expected_bytes(self) -> int:
        """Bytes of the file, roughly: known before it is made."""
        return _MASK_BYTES

    @property
    def named(self) -> str:
        """The path as rows name it."""
        return BUILD_PREFIX + self.path

    def content(self, data_root: Path) -> bytes:
        """Return the file's bytes. Raises `DataSetError` for a picture of the data set that cannot be read."""
        raise NotImplementedError


@dataclass(frozen=True)
class EmptyMask(MadePicture):
    """A mask without foreground."""

    width: int
    height: int

    def content(self, data_root: Path) -> bytes:
        """Return the file's bytes."""
        return _png(np.zeros((self.height, self.width), np.uint8))


@dataclass(frozen=True)
class Grid:
    """Layout of a composition: columns, rows, and (width, height) of a tile in pixels."""

    columns: int
    rows: int
    tile: tuple[int, int]

    @classmethod
    def of(cls, picture_size: tuple[int, int], num_tiles: int) -> Grid:
        """Return the grid of 2 (2x1) or 4 (2x2) tiles for pictures of this size (width, height)."""
        width, height = picture_size
        return cls(2, num_tiles // 2, (max(1, width // 2), max(1, height // 2)))


@dataclass(frozen=True)
class ComposedFrame(MadePicture):
    """Frames side by side; `tiles` are files of the data set, row by row."""

    grid: Grid
    tiles: tuple[str, ...]

    @property
    def suffix(self) -> str:
        """The file's ending."""
        return ".jpg"

    @property
    def expected_bytes(self) -> int:
        """Bytes of the file, roughly: known before it is made."""
        width, height = self.grid.tile
        return int(len(self.tiles) * width * height * _JPEG_BYTES_PER_PIXEL)

    def content(self, data_root: Path) -> bytes:
        """Return the file's bytes."""
        from avsrobust.datasets.masks import read_frame

        tiles = []
        for tile in self.tiles:
            frame = read_frame(resolve_inside(data_root, tile, named_by=_NAMED_BY)).transpose(1, 2, 0)
            tiles.append(np.asarray(_fit(Image.fromarray(frame), self.grid.tile, Image.Resampling.BOX)))
        stream = io.BytesIO()
        Image.fromarray(_compose(self.grid, tiles)).save(stream, "JPEG", quality=_JPEG_QUALITY, subsampling=0)
        return stream.getvalue()


@dataclass(frozen=True)
class MaskTile:
    """A mask of the data set, and how it is read (`avsrobust.datasets.masks.read_mask`)."""

    mask: str
    dataset: str
    labels: tuple[str, ...]
    foreground: str


@dataclass(frozen=True)
class ComposedMask(MadePicture):
    """Masks side by side; None is a tile without foreground."""

    grid: Grid
    tiles: tuple[MaskTile | None, ...]

    def content(self, data_root: Path) -> bytes:
        """Return the file's bytes."""
        from avsrobust.datasets.masks import read_mask

        width, height = self.grid.tile
        tiles: list[NDArray[np.uint8]] = []
        for tile in self.tiles:
            if tile is None:
                tiles.append(np.zeros((height, width), np.uint8))
                continue
            path = resolve_inside(data_root, tile.mask, named_by=_NAMED_BY)
            mask = read_mask(path, tile.dataset, tile.labels, tile.foreground)
            stored = mask.astype(np.uint8) * np.uint8(255 if mask.dtype == np.bool_ else 1)
            tiles.append(np.asarray(_fit(Image.fromarray(stored), self.grid.tile, Image.Resampling.NEAREST)))
        return _png(_compose(self.grid, tiles))


@dataclass(frozen=True)
class Picture:
    """Frames and masks of a row where they are not the clip's own.

    Attributes:
        frames: As rows name them.
        masks: As rows name them; None where a frame has none.
        made: The pictures among them that the build makes.
        annotated: Masks of everything annotated in the picture, where `masks` shows less of it; None otherwise.
        tiles: The clips in a composed picture, row by row; None for a picture of one clip.
    """

    frames: tuple[str, ...]
    masks: tuple[str | None, ...]
    made: tuple[MadePicture, ...] = ()
    annotated: tuple[str | None, ...] | None = None
    tiles: tuple[str, ...] | None = None


def mask_tile(clip: Clip, frame: int) -> MaskTile | None:
    """Return the mask of one frame of a clip, None where it has none."""
    mask = clip.masks[frame]
    return None if mask is None else MaskTile(mask, clip.dataset, clip.labels, clip.foreground)


def _fit(picture: Image.Image, size: tuple[int, int], resampling: Image.Resampling) -> Image.Image:
    """Cut a picture, in the middle, to the proportions of `size`, and resize it."""
    width, height = picture.size
    scale = min(width / size[0], height / size[1])
    cut_width, cut_height = size[0] * scale, size[1] * scale
    left, top = (width - cut_width) / 2, (height - cut_height) / 2
    return picture.resize(size, resampling, box=(left, top, left + cut_width, top + cut_height))


def _compose(grid: Grid, tiles: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    rows = [np.concatenate(tiles[start : start + grid.columns], axis=1) for start in range(0, len(tiles), grid.columns)]
    return np.concatenate(rows, axis=0)


def _png(picture: NDArray[np.uint8]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "PNG", optimize=True)
    return stream.getvalue()
