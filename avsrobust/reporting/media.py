"""Media of the page's gallery: plain values, prepared by `avsrobust.gallery` and shown by the format html.

Conventions
    Pictures of a clip's frames are mosaics: the frames in reading order in a grid, all of one size. A mask has the mosaic's size
    and is transparent where there is none, so that it can be laid over the frames.
    Scores are fractions in [0, 1] of the whole clip; None is undefined.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass

from avsrobust.reporting.split_results import SplitKey


@dataclass(frozen=True)
class Medium:
    """A picture or a sound: its MIME type and its bytes."""

    mime: str
    content: bytes

    @property
    def uri(self) -> str:
        """The medium as a ``data:`` URI, which a page holds itself.

        >>> Medium("image/png", b"abc").uri
        'data:image/png;base64,YWJj'
        """
        return f"data:{self.mime};base64,{base64.b64encode(self.content).decode('ascii')}"


@dataclass(frozen=True)
class PredictedMask:
    """The masks of one model in one row.

    Attributes:
        source: File of the model's scores, as `Subject.source` names it.
        mask: Mosaic of the masks.
        iou: Mean IoU over the frames whose target is not empty.
        area: Mean activated share of the frame.
        overlap: Mean overlap with the model's own masks under clean audio; None under clean.
    """

    source: str
    mask: Medium
    iou: float | None
    area: float | None
    overlap: float | None


@dataclass(frozen=True)
class GalleryRow:
    """One clip under one condition.

    Attributes:
        condition: Name of the condition.
        level: Its level, or None.
        title: The condition for people, with level and draw.
        negative: Whether none of the picture's objects makes the sound.
        origin: Description of the sound's source, where it is another clip's; otherwise empty.
        sound: The sound.
        duration_s: Its duration in seconds.
        spectrogram: Its log-mel spectrogram.
        picture: Position of its frames in the clip's `pictures`.
        target: Position of its masks in the clip's `targets`.
        masks: The models' masks.
        links: Names of its files and where they lie, as URLs.
    """

    condition: str
    level: float | None
    title: str
    negative: bool
    origin: str
    sound: Medium
    duration_s: float
    spectrogram: Medium
    picture: int
    target: int
    masks: tuple[PredictedMask, ...]
    links: tuple[tuple[str, str], ...]

    @property
    def media(self) -> tuple[Medium, ...]:
        """The media of the row alone."""
        return (self.sound, self.spectrogram, *(entry.mask for entry in self.masks))


@dataclass(frozen=True)
class ClipRanks:
    """How bad a clip is for one model, by each order of the gallery; None is undefined.

    Attributes:
        source: File of the model's scores.
        largest: Largest activated share under a negative condition; more is worse.
        clean_iou: IoU under clean audio; less is worse.
        change: Least change of the masks between clean and a negative (1 - overlap); less is worse.
    """

    source: str
    largest: float | None
    clean_iou: float | None
    change: float | None


@dataclass(frozen=True)
class GalleryClip:
    """One clip with its media.

    Attributes:
        split_key: Data set, release and split.
        clip_id: Id of the clip.
        labels: Its categories.
        size: Width and height of the mosaics in pixels.
        columns: Frames in a row of a mosaic.
        num_frames: Frames of the clip.
        pictures: Mosaics of its different frames.
        targets: Mosaics of its different true masks, as outlines.
        rows: The clip under each condition, clean first.
        ranks: For each model, how bad the clip is.
    """

    split_key: SplitKey
    clip_id: str
    labels: tuple[str, ...]
    size: tuple[int, int]
    columns: int
    num_frames: int
    pictures: tuple[Medium, ...]
    targets: tuple[Medium, ...]
    rows: tuple[GalleryRow, ...]
    ranks: tuple[ClipRanks, ...]

    @property
    def num_bytes(self) -> int:
        """Bytes of its media."""
        media = [*self.pictures, *self.targets, *(medium for row in self.rows for medium in row.media)]
        return sum(len(medium.content) for medium in media)


@dataclass(frozen=True)
class Gallery:
    """Clips to look at and listen to, worst first, and sentences about what is not shown."""

    clips: tuple[GalleryClip, ...]
    notes: tuple[str, ...] = ()
