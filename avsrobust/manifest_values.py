"""A manifest's row, whose fields are the file's columns, and its metadata.

Conventions
    `audio` is relative to the manifest's folder, or, with the prefix ``data:``, to the data root; with ``made:`` there is no
    file: whoever needs the sound makes it by the definition in `sound` (`avsrobust.audio.definitions`), and its log-mel by the
    front end that `log_mel` names after ``made:``.
    `frames`, `masks` and `annotated` are relative to the data root, or, with the prefix ``build:``, to the manifest's folder;
    `log_mel` to the manifest's folder. `annotated`: masks of everything annotated in the picture, where `masks` shows less.
    `tiles`: the clips in a composed picture, row by row. `source_dataset`: the data set of the source clip, where it is another.
    `draw` counts repeated draws of one condition, from 0.
    `foreground` is the rule by which binary masks are read ("non-zero", or "above half" where they hold grey values).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from avsrobust import __version__
from avsrobust.manifest_columns import (
    DATASET,
    FOREGROUND,
    LABELS,
    LEVEL,
    NAME,
    NUMBER,
    PATHS,
    POLARITY,
    SHA256,
    TEXT,
    column,
    columns_of,
)

_A_DAY_S = 86_400.0
_MOST_FRAMES = 10_000
_HIGHEST_RATE = 1_000_000
_TEXTS = pa.list_(pa.string())


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One clip under one condition; the fields are the manifest's columns, in its order (see the module's conventions)."""

    dataset: str = column(pa.string(), DATASET)
    split: str = column(pa.string(), NAME)
    clip_id: str = column(pa.string(), PATHS)
    labels: tuple[str, ...] = column(_TEXTS, LABELS)
    broad: tuple[str, ...] = column(_TEXTS, LABELS)
    condition: str = column(pa.string(), NAME)
    polarity: str = column(pa.string(), POLARITY)
    level: float | None = column(pa.float32(), LEVEL, nullable=True)
    source_clip_id: str | None = column(pa.string(), PATHS, nullable=True)
    source_labels: tuple[str, ...] | None = column(_TEXTS, LABELS, nullable=True)
    seed: int = column(pa.uint64(), NUMBER)
    audio: str = column(pa.string(), PATHS)
    audio_sha256: str = column(pa.string(), SHA256)
    log_mel: str = column(pa.string(), PATHS)
    log_mel_row: int = column(pa.int32(), NUMBER, low=0)
    frames: tuple[str, ...] = column(_TEXTS, PATHS)
    masks: tuple[str | None, ...] = column(_TEXTS, PATHS, has_gaps=True)
    foreground: str = column(pa.string(), FOREGROUND, default="non-zero")
    num_frames: int = column(pa.int32(), NUMBER, low=1, high=_MOST_FRAMES)
    sample_rate: int = column(pa.int32(), NUMBER, low=1, high=_HIGHEST_RATE)
    duration_s: float = column(pa.float32(), NUMBER, low=0.001, high=_A_DAY_S)
    draw: int = column(pa.int16(), NUMBER, low=0, optional=0)
    source_dataset: str | None = column(pa.string(), NAME, nullable=True, optional=None)
    sound: str | None = column(pa.string(), TEXT, nullable=True, optional=None)
    tiles: tuple[str, ...] | None = column(_TEXTS, PATHS, nullable=True, optional=None)
    annotated: tuple[str | None, ...] | None = column(_TEXTS, PATHS, nullable=True, has_gaps=True, optional=None)

    @property
    def key(self) -> tuple[str, str, str, float, int]:
        """Sort key and identity: split, clip_id, condition, level (no level sorts first), draw."""
        level = float("-inf") if self.level is None else self.level
        return (self.split, self.clip_id, self.condition, level, self.draw)


COLUMNS = columns_of(Row)
# The columns that are fields of `avsrobust.clips.Clip`, of one value in all rows of a clip with its own picture.
CLIP_COLUMNS = ("dataset", "split", "clip_id", "labels", "broad", "frames", "masks", "foreground", "num_frames")
SCHEMA = pa.schema([entry.arrow_field for entry in COLUMNS.values() if not entry.is_optional])


@dataclass(frozen=True)
class Skipped:
    """A clip, or one condition of it, that the build left out, and why."""

    clip_id: str
    condition: str | None
    reason: str


@dataclass(frozen=True)
class ManifestInfo:
    """The parquet file's key-value metadata.

    `recipe` is the recipe in full (plain JSON types). `fingerprints` maps each split to the SHA-256 of the names and sizes of
    the data set's files it uses (`fingerprint`). `release` is the form the data was published in (`vocabulary.RELEASES`).
    `muted` are the ids of clips whose own recording is silent; `survey` holds counts of the files' contents (plain JSON types).
    `checksums_sha256` is the SHA-256 of ``checksums.parquet`` beside the manifest (empty: there is none). `conditions` maps
    names to facts about conditions beyond `BASIC_FACTS`: polarity, levels, level_unit, draws (plain JSON types).
    """

    dataset: str
    seed: int
    recipe: dict[str, Any]
    fingerprints: dict[str, str]
    skipped: tuple[Skipped, ...] = ()
    notes: tuple[str, ...] = ()
    release: str = ""
    muted: tuple[str, ...] = ()
    survey: dict[str, Any] = field(default_factory=dict)
    checksums_sha256: str = ""
    conditions: dict[str, Any] = field(default_factory=dict)
    version: str = __version__
