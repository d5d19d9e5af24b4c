"""Masks on disk as COCO run-length encodings in parquet: what ``--save-masks`` writes and `predictions` reads.

Conventions
    A row per (clip, condition, level, frame): the binary mask ``probability > 0.5`` at the size of the clip's mask files.
    `size` is [height, width] in pixels; `counts` is COCO's compressed run-length string, column by column, as
    ``pycocotools.mask.encode`` makes it. `frame` counts from 0; `level` is null where the condition has none.
    Rows are sorted by split, clip_id, condition, level, frame; `CLIPS_PER_GROUP` clips make a row group, so that 14,800 rows
    are written and read without ever being in memory together. Equal masks give equal bytes.
    Files from elsewhere need the columns clip_id, condition, frame, size and counts, in any order of rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from avsrobust.errors import AdapterError
from avsrobust.evaluation.merging import ClipKey, RowKey, row_key
from avsrobust.files import atomic_path
from avsrobust.manifest import Row
from avsrobust.parquet import open_writer
from avsrobust.results import EVALUATION_KEY, require_vouched

CLIPS_PER_GROUP = 64
LARGEST_MASK_PIXELS = 1 << 28

SCHEMA = pa.schema(
    [
        pa.field("split", pa.string(), nullable=False),
        pa.field("clip_id", pa.string(), nullable=False),
        pa.field("condition", pa.string(), nullable=False),
        pa.field("level", pa.float32()),
        pa.field("frame", pa.int32(), nullable=False),
        pa.field("size", pa.list_(pa.int32(), 2), nullable=False),
        pa.field("counts", pa.string(), nullable=False),
    ]
)
REQUIRED_COLUMNS = ("clip_id", "condition", "frame", "size", "counts")

Mask = npt.NDArray[np.bool_]


def encode_masks(masks: Mask) -> list[str]:
    """Return the COCO run-length string of each of N masks, bool [N, H, W]."""
    from pycocotools import mask as coco

    encoded = coco.encode(np.asfortranarray(masks.transpose(1, 2, 0), dtype=np.uint8))
    return [entry["counts"].decode("ascii") for entry in encoded]


def decode_mask(counts: str, height: int, width: int) -> Mask:
    """Return the mask, bool [height, width], of a COCO run-length string.

    Decoded here and not with pycocotools, which returns uninitialised memory where the runs do not fill the mask.
    Raises `ValueError` for a string that is not a run-length encoding of that size.
    """
    if not 0 < height * width <= LARGEST_MASK_PIXELS or height < 0:
        raise ValueError(f"size {height} x {width} is not one of a mask")
    runs = _run_lengths(counts)
    if (runs < 0).any() or runs.sum() != height * width:
        raise ValueError(f"the runs do not fill {height} x {width} pixels")
    values = np.arange(runs.size) % 2 == 1
    return np.repeat(values, runs).reshape(width, height).T


def _run_lengths(counts: str) -> npt.NDArray[np.int64]:
    """Undo COCO's string form: 5 bits a character, bit 5 means "more", the last one's bit 4 is the sign.

    From the fourth run on the string holds differences to the run before last (cocoapi, maskApi.c, `rleFrString`).
    """
    units = np.frombuffer(counts.encode("latin-1", "replace"), np.uint8).astype(np.int64) - 48
    if units.size == 0 or (units < 0).any() or (units > 63).any() or units[-1] & 32:
        raise ValueError("the string is no COCO run-length encoding")
    ends = np.flatnonzero((units & 32) == 0)
    starts = np.concatenate([[0], ends[:-1] + 1])
    if (ends - starts >= 7).any():
        raise ValueError("the string is no COCO run-length encoding")
    shifts = 5 * (np.arange(units.size) - np.repeat(starts, ends - starts + 1))
    values = np.add.reduceat((units & 31) << shifts, starts)
    values -= np.where(units[ends] & 16, np.int64(1) << (5 * (ends - starts + 1)), 0)
    for first in (1, 2):
        values[first::2] = np.cumsum(values[first::2])
    return values


def masks_table(row: Row, masks: Mask) -> pa.Table:
    """Return the rows that store one row's masks, bool [T, H, W]."""
    num_frames, height, width = masks.shape
    return pa.table(
        {
            "split": [row.split] * num_frames,
            "clip_id": [row.clip_id] * num_frames,
            "condition": [row.condition] * num_frames,
            "level": [row.level] * num_frames,
            "frame": list(range(num_frames)),
            "size": [[height, width]] * num_frames,
            "counts": encode_masks(masks),
        },
        schema=SCHEMA,
    )


def write_masks(path: Path, tables: Iterable[pa.Table], evaluation: str = "") -> None:
    """Write `tables`, each a row group, to the parquet file `path`, atomically.

    `evaluation` is the checksum of model and manifest, which the files of one results folder share.
    """
    schema = SCHEMA.with_metadata({EVALUATION_KEY: evaluation}) if evaluation else SCHEMA
    with atomic_path(path) as temporary, open_writer(temporary, schema) as writer:
        for table in tables:
            writer.write_table(table.cast(SCHEMA), row_group_size=max(table.num_rows, 1))


def merge_masks(path: Path, sources: Sequence[Path], clips: Sequence[ClipKey], evaluation: str = "") -> None:
    """Write the masks of `clips`, (split, clip_id) in this order, found in `sources`, to `path`.

    Where several sources hold a clip under one condition, the first one counts.
    """
    stores = [StoredMasks(source) for source in sources]
    groups = (clips[start : start + CLIPS_PER_GROUP] for start in range(0, len(clips), CLIPS_PER_GROUP))
    write_masks(path, (pa.concat_tables(_clip_table(stores, key) for key in group) for group in groups), evaluation)


def rows_of_masks(path: Path) -> set[RowKey]:
    """Return the rows that a file of masks holds. Raises `AdapterError` where it is missing or damaged."""
    store = StoredMasks(path)
    return {key for clip in store.clips for key in _rows(store.clip_table(clip))}


def _rows(table: pa.Table) -> list[RowKey]:
    """Return the key of each of a table's masks."""
    columns = [table.column(name).to_pylist() for name in ("split", "clip_id", "condition", "level")]
    return [row_key(*entry) for entry in zip(*columns, strict=True)]


def _clip_table(stores: Iterable[StoredMasks], key: ClipKey) -> pa.Table:
    tables: list[pa.Table] = []
    seen: set[RowKey] = set()
    for store in stores:
        if key in store.clips:
            table = store.clip_table(key).select(SCHEMA.names).cast(SCHEMA)
            rows = _rows(table)
            tables.append(table.filter(pa.array([row not in seen for row in rows], pa.bool_())))
            seen.update(rows)
    if not tables:
        raise KeyError(key)
    order = [("condition", "ascending"), ("level", "ascending"), ("frame", "ascending")]
    return pa.concat_tables(tables).sort_by(order)


def _decode_entry(entry: Mapping[str, Any]) -> Mask:
    size, counts = entry["size"], entry["counts"]
    # pycocotools itself makes bytes; programs store either.
    if isinstance(counts, bytes):
        counts = counts.decode("latin-1")
    if not isinstance(counts, str) or not isinstance(size, list) or [type(length) for length in size] != [int, int]:
        raise ValueError(f"frame {entry['frame']} has not a size [height, width] and a compressed run-length string")
    return decode_mask(counts, size[0], size[1])


class StoredMasks:
    """A parquet file of masks, read a clip at a time.

    `clips` maps (split, clip_id) to where its rows lie; files without a split column have the split "".
    Raises `AdapterError` where the file is missing, damaged or has not the columns.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        require_vouched(path, AdapterError)
        try:
            self._file = pq.ParquetFile(path)
            names = self._file.schema_arrow.names
            missing = [name for name in REQUIRED_COLUMNS if name not in names]
            if missing:
                raise AdapterError(
                    f"{path}: has no column {', '.join(missing)}; expected COCO run-length masks with the columns "
                    f"{', '.join(SCHEMA.names)}, as 'avsrobust evaluate --save-masks' writes them"
                )
            self.clips = self._find_clips("split" in names)
        except FileNotFoundError as error:
            raise AdapterError(f"{path}: not found; expected masks that --save-masks wrote") from error
        except (OSError, pa.ArrowException) as error:
            raise AdapterError(f"{path}: cannot be read as parquet; expected masks that --save-masks wrote") from error
        self._group = lru_cache(maxsize=4)(self._file.read_row_group)

    def _find_clips(self, has_split: bool) -> Mapping[ClipKey, list[tuple[int, int, int]]]:
        """Return for each clip its pieces: row group, first row, number of rows."""
        clips: dict[ClipKey, list[tuple[int, int, int]]] = {}
        columns = ["split", "clip_id"] if has_split else ["clip_id"]
        for group in range(self._file.num_row_groups):
            table = self._file.read_row_group(group, columns=columns)
            ids = table.column("clip_id").to_pylist()
            splits = table.column("split").to_pylist() if has_split else [""] * len(ids)
            start = 0
            for key, run in groupby(zip(splits, ids, strict=True)):
                length = sum(1 for _ in run)
                clips.setdefault(key, []).append((group, start, length))
                start += length
        return clips

    def clip_table(self, key: ClipKey) -> pa.Table:
        """Return all rows of one clip. Raises `KeyError` where there is none."""
        return pa.concat_tables(self._group(group).slice(start, length) for group, start, length in self.clips[key])

    def read(self, split: str, clip_id: str, condition: str, level: float | None) -> dict[int, Mask]:
        """Return the masks of one row by frame; empty where the file has none for it.

        Raises `ValueError` for masks that cannot be decoded.
        """
        masks: dict[int, Mask] = {}
        for key in ((split, clip_id), ("", clip_id)):
            if key in self.clips:
                for entry in self._entries(key, condition, level):
                    if entry["frame"] in masks:
                        raise ValueError(f"frame {entry['frame']} is there twice")
                    masks[entry["frame"]] = _decode_entry(entry)
        return masks

    def _entries(self, key: ClipKey, condition: str, level: float | None) -> Iterator[dict[str, Any]]:
        wanted = None if level is None else np.float32(level)
        for entry in self.clip_table(key).to_pylist():
            stored = entry.get("level")
            if entry["condition"] == condition and (None if stored is None else np.float32(stored)) == wanted:
                yield entry
