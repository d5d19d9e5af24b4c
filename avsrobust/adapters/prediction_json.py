"""Predictions as COCO run-length encodings in JSON, one file for all rows or one per clip.

Conventions
    An entry is ``{"size": [height, width], "counts": ...}``, with counts as COCO's string or as a list of runs, or has that
    under ``segmentation``, as COCO's annotations do.
    One file for all rows is a list of entries, or ``{"annotations": [...]}``, each with ``clip_id``, ``condition``, ``frame``
    and, where there are any, ``split`` and ``level``; or nested objects ``{condition: {clip_id: frames}}``, with the level in the
    name where the condition has one (``"mixture/-5"``).
    `frames`, which is also all that the file of one clip holds (or has under ``masks``), is a list with an entry, or null, per
    frame, or an object ``{"0": entry, ...}``. Numbers of frames count from 0, or from 1 where no 0 occurs in the file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from avsrobust.adapters.base import RowView
from avsrobust.adapters.prediction_frames import describe, first_frame_number
from avsrobust.errors import AdapterError, AvsRobustError, ClipError
from avsrobust.files import read_regular
from avsrobust.limits import Limit
from avsrobust.rle import Mask, decode_entry

JSON_BYTES = Limit(512 << 20, "bytes", "run lengths of AVSS's test clips under four conditions have 60 MB")
SCHEMA = (
    'a list of {"clip_id", "condition", "frame", "size": [h, w], "counts": string or list} '
    "or {condition: {clip_id: [entry per frame]}}"
)
_Key = tuple[str, str, float | None, int]


@dataclass(frozen=True)
class Entries:
    """The entries of one row, not yet decoded.

    Attributes:
        by_number: Entries by frame number.
        first: Number of the first frame.
    """

    by_number: Mapping[int, Mapping[str, Any]]
    first: int


def decode(entry: Mapping[str, Any]) -> Mask:
    """Return an entry's mask, bool [H, W].

    Raises:
        ValueError: The entry is malformed.
    """
    inner = entry.get("segmentation", entry)
    if not isinstance(inner, Mapping):
        raise ValueError("its segmentation is no object with size and counts (polygons are not read)")
    return decode_entry(inner.get("size"), inner.get("counts"))


def read_clip(path: Path) -> Entries:
    """Return the entries of one clip's file.

    Raises:
        ClipError: The file is missing or malformed.
    """
    content = _read(path, ClipError)
    if isinstance(content, dict) and "masks" in content:
        content = content["masks"]
    try:
        entries = dict(_frames(content))
    except ValueError as error:
        raise ClipError(f"{path}: {error}; expected a list with one entry per frame") from error
    first = 0 if isinstance(content, list) else first_frame_number(min(entries, default=None))
    return Entries(entries, first)


class JsonMasks:
    """One JSON file of all predictions.

    Raises:
        AdapterError: The file is missing or malformed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._rows: dict[_Key, dict[int, Mapping[str, Any]]] = {}
        content = _read(path, AdapterError)
        try:
            records = content.get("annotations", content) if isinstance(content, dict) else content
            smallest = self._take_records(records) if isinstance(records, list) else self._take_nested(records)
        except ValueError as error:
            raise AdapterError(f"{path}: {error}; expected {SCHEMA}") from error
        self._first = first_frame_number(smallest)

    def find(self, row: RowView) -> Entries:
        """Return a row's entries.

        Raises:
            ClipError: There are none, or there are some under two names.
        """
        level = None if row.level is None else float(np.float32(row.level))
        name = row.clip_id.rpartition("/")[2]
        keys = (
            (f"{row.split}\0{row.clip_id}", row.condition, level, row.draw),
            *((clip, row.condition, level, row.draw) for clip in (row.clip_id, name)),
        )
        found = [self._rows[key] for key in dict.fromkeys(keys) if key in self._rows]
        if not found:
            raise ClipError(f"{self.path}: has no mask of {describe(row)}; expected {SCHEMA}")
        if len(found) > 1:
            raise ClipError(f"{self.path}: has masks of {describe(row)} under two names; expected one clip_id")
        return Entries(found[0], self._first)

    def _take_records(self, records: list[Any]) -> int | None:
        smallest: int | None = None
        for number, record in enumerate(records):
            if not isinstance(record, dict):
                raise ValueError(f"entry {number} is no object")
            clip_id, condition, frame, split = (record.get(key) for key in ("clip_id", "condition", "frame", "split"))
            if not isinstance(clip_id, str) or not isinstance(condition, str) or type(frame) is not int or frame < 0:
                raise ValueError(f"entry {number} has not a clip_id, a condition and a frame")
            level = record.get("level")
            if level is not None and (isinstance(level, bool) or not isinstance(level, int | float)):
                raise ValueError(f"entry {number} has a level that is no number")
            draw = record.get("draw", 0)
            if type(draw) is not int or draw < 0:
                raise ValueError(f"entry {number} has a draw that is no whole number")
            key = clip_id if split is None else f"{split}\0{clip_id}"
            self._add((key, condition, _level(level), draw), frame, record)
            smallest = frame if smallest is None else min(smallest, frame)
        return smallest

    def _take_nested(self, content: object) -> int | None:
        if not isinstance(content, dict):
            raise ValueError("holds neither a list nor an object")
        smallest: int | None = None
        for name, clips in content.items():
            condition, level, draw = _parts(name)
            if not isinstance(clips, dict):
                raise ValueError(f"holds no object of clips under '{name[:40]}'")
            for clip_id, frames in clips.items():
                for frame, entry in _frames(frames):
                    self._add((clip_id, condition, _level(level or None), draw), frame, entry)
                    first = 0 if isinstance(frames, list) else frame
                    smallest = first if smallest is None else min(smallest, first)
        return smallest

    def _add(self, key: _Key, frame: int, entry: Mapping[str, Any]) -> None:
        frames = self._rows.setdefault(key, {})
        if frame in frames:
            raise ValueError(f"holds frame {frame} of clip {key[0].rpartition(chr(0))[2]} under {key[1]} twice")
        frames[frame] = entry


def _parts(name: str) -> tuple[str, str, int]:
    """Return condition, level ("" for none) and draw of ``condition[/level][/drawK]``."""
    condition, *rest = name.split("/")
    draw = 0
    if rest and (found := re.fullmatch(r"draw(\d{1,6})", rest[-1])):
        draw = int(found[1])
        rest = rest[:-1]
    return condition, "/".join(rest), draw


def _level(value: object) -> float | None:
    if value is None:
        return None
    try:
        return float(np.float32(float(str(value))))
    except ValueError as error:
        raise ValueError(f"'{str(value)[:40]}' is no level in dB") from error


def _frames(content: object) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yield (number, entry) of a clip's frames. Raises `ValueError`."""
    if isinstance(content, list):
        pairs: Iterator[tuple[object, object]] = iter(enumerate(content))
    elif isinstance(content, dict):
        pairs = iter(content.items())
    else:
        raise ValueError("holds frames that are neither a list nor an object")
    seen: set[int] = set()
    for number, entry in pairs:
        text = str(number)
        if not (text.isascii() and text.isdigit() and len(text) < 10):
            raise ValueError(f"'{text[:40]}' is no number of a frame")
        if int(text) in seen:
            raise ValueError(f"holds frame {int(text)} twice")
        seen.add(int(text))
        if entry is None:
            continue
        if not isinstance(entry, dict):
            raise ValueError(f"frame {text} is no object with size and counts")
        yield int(text), entry


def _read(path: Path, error: type[AvsRobustError]) -> Any:
    try:
        return json.loads(read_regular(path, JSON_BYTES, error), object_pairs_hook=_object)
    except FileNotFoundError as cause:
        raise error(f"{path}: not found; expected masks as COCO run-length encodings in JSON") from cause
    except OSError as cause:
        raise error(f"{path}: cannot be read ({cause.strerror or cause}); expected a JSON file") from cause
    except (ValueError, RecursionError) as cause:
        reason = " ".join(str(cause).split())[:200]
        raise error(
            f"{path}: is no JSON ({reason}); expected masks as COCO run-length encodings; write it again"
        ) from cause


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("an object has a key twice")
    return made
