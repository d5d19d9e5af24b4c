"""Frames and masks as small pictures: mosaics for the page, overlays as files.

Conventions
    frames: uint8 [T, H, W, 3], RGB. masks: T masks, bool [h, w] each, of any size; they are brought to the size of the
    frames, nearest pixel.
    The true mask is shown by its outline, the predicted one by a tint, so that both can be seen at once.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from avsrobust.reporting.media import Medium

Frames = npt.NDArray[np.uint8]
Masks = npt.NDArray[np.bool_]

COLUMNS = 5
# Pixels of a frame's longer side: 5 of them at half that size fill a column of the page on a fine screen.
LONGER_SIDE = 160
_WEBP_QUALITY = 62
_OUTLINE = (255, 255, 255)
_TINT = (255, 64, 129)
_OPACITY = 150
_QUIETEST, _LOUDEST = 0.01, 4.0
# Anchors of the spectrogram's palette, dark to bright (matplotlib's "inferno" at 0, 1/4, .., 1).
_PALETTE = ((0, 0, 4), (87, 16, 110), (188, 55, 84), (249, 142, 9), (252, 255, 164))


@dataclass(frozen=True)
class Mosaic:
    """Layout of a clip's frames in one picture: number of frames, (width, height) of each in pixels."""

    num_frames: int
    cell: tuple[int, int]

    @classmethod
    def of(cls, num_frames: int, width: int, height: int) -> Mosaic:
        """Return the layout for frames of this size."""
        scale = min(1.0, LONGER_SIDE / max(width, height))
        return cls(num_frames, (max(1, round(width * scale)), max(1, round(height * scale))))

    @property
    def columns(self) -> int:
        """Frames in a row."""
        return min(self.num_frames, COLUMNS)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the mosaic."""
        return self.columns * self.cell[0], -(-self.num_frames // self.columns) * self.cell[1]

    def frames(self, frames: Frames) -> Medium:
        """Return the mosaic of frames."""
        picture = Image.new("RGB", self.size)
        for number, frame in enumerate(frames):
            picture.paste(Image.fromarray(frame).resize(self.cell, Image.Resampling.BOX), self._corner(number))
        return Medium("image/webp", _webp(picture))

    def target(self, masks: Sequence[Masks]) -> Medium:
        """Return the mosaic of true masks, as outlines."""
        return _transparent(_outline(self._masks(masks)), _OUTLINE, 255)

    def prediction(self, masks: Sequence[Masks]) -> Medium:
        """Return the mosaic of predicted masks, as tints."""
        return _transparent(self._masks(masks), _TINT, _OPACITY)

    def _masks(self, masks: Sequence[Masks]) -> Masks:
        width, height = self.size
        mosaic = np.zeros((height, width), np.bool_)
        for number, mask in enumerate(masks):
            left, top = self._corner(number)
            mosaic[top : top + self.cell[1], left : left + self.cell[0]] = _resized(mask, self.cell)
        return mosaic

    def _corner(self, number: int) -> tuple[int, int]:
        return number % self.columns * self.cell[0], number // self.columns * self.cell[1]


def overlay(
    frame: npt.NDArray[np.uint8], predicted: npt.NDArray[np.bool_], true: npt.NDArray[np.bool_] | None
) -> bytes:
    """Return one frame with its predicted mask as a tint and its true mask as an outline, as a PNG.

    Args:
        frame: uint8 [H, W, 3].
        predicted: bool [h, w].
        true: bool [h, w], or None where the frame has no mask.
    """
    size = (frame.shape[1], frame.shape[0])
    shown = frame.astype(np.float64)
    chosen = _resized(predicted, size)
    share = _OPACITY / 255
    shown[chosen] = (1 - share) * shown[chosen] + share * np.array(_TINT)
    if true is not None:
        shown[_outline(_resized(true, size))] = _OUTLINE
    stream = io.BytesIO()
    Image.fromarray(shown.round().astype(np.uint8)).save(stream, "PNG", optimize=True)
    return stream.getvalue()


def spectrogram_picture(log_mel: npt.NDArray[np.float32]) -> Medium:
    """Return a log-mel, float32 [T, 1, steps, bands], as a picture: time to the right, frequency upwards.

    Its colours run from log(0.01), which is silence to VGGish's front end, to 4, which is near full scale.
    """
    bands = log_mel.reshape(-1, log_mel.shape[-1]).T[::-1]
    share = np.clip((bands - np.log(_QUIETEST)) / (_LOUDEST - np.log(_QUIETEST)), 0, 1)
    anchors = np.linspace(0, 1, len(_PALETTE))
    channels = [np.interp(share, anchors, [colour[channel] for colour in _PALETTE]) for channel in range(3)]
    picture = Image.fromarray(np.stack(channels, axis=-1).round().astype(np.uint8))
    return Medium("image/webp", _webp(picture.resize((min(picture.width, 320), picture.height), Image.Resampling.BOX)))


def _webp(picture: Image.Image) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, "WEBP", quality=_WEBP_QUALITY, method=2)
    return stream.getvalue()


def _resized(mask: npt.NDArray[np.bool_], size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    if (mask.shape[1], mask.shape[0]) == size:
        return mask
    resized: Masks = np.asarray(Image.fromarray(mask.astype(np.uint8)).resize(size, Image.Resampling.NEAREST)) != 0
    return resized


def _outline(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """The pixels of a mask with a neighbour, of four, that is none of it."""
    padded = np.pad(mask, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    edge: npt.NDArray[np.bool_] = mask & ~inner
    return edge


def _transparent(mask: npt.NDArray[np.bool_], colour: tuple[int, int, int], opacity: int) -> Medium:
    """A mask as a PNG of one bit per pixel, transparent where it is not set."""
    picture = Image.fromarray(mask.astype(np.uint8), "P")
    picture.putpalette([0, 0, 0, *colour])
    stream = io.BytesIO()
    # Without `optimize`, which takes six times as long and saves nothing.
    picture.save(stream, "PNG", bits=1, transparency=bytes([0, opacity]))
    return Medium("image/png", stream.getvalue())
