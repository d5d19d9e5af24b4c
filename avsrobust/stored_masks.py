"""Masks on disk as COCO run-length encodings in parquet: written by ``--save-masks``, read by the adapter `predictions`.

Conventions
    A row per (clip, condition, level, frame): the binary mask ``probability > 0.5`` at the size of the clip's mask files.
    `size` is [height, width] in pixels; `counts` is COCO's compressed run-length string, column by column, as
    ``pycocotools.mask.encode`` makes it. `frame` counts from 0; `level` is null where the condition has none.
    Rows are sorted by split, clip_id, condition, level, frame; `CLIPS_PER_GROUP` clips make a row group, so that 14,800 rows
    are written and read without ever being in memory together. Equal masks give equal bytes.
    Files from elsewhere need the columns clip_id, condition, frame, size and counts, in any order of rows; their counts may be
    lists of runs, and their frames count from 1 where no frame is 0.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from functools import lru_cache, partial
from itertools import pairwise
from pathlib import Path
from typing import Any
from weakref import proxy

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from avsrobust.errors import AdapterError
from avsrobust.files import atomic_path
from avsrobust.limits import ARRAY_BYTES, Limit
from avsrobust.manifest import Row
from avsrobust.parquet import Kind, open_writer
from avsrobust.results import DRAW_FIELD, EVALUATION_KEY, require_vouched
from avsrobust.rle import Mask, decode_entry, decode_mask, encode_masks
from avsrobust.row_keys import KEY_COLUMNS, ClipKey, RowKey, add_draws, row_keys_of
from avsrobust.row_sets import RowSet
from avsrobust.vocabulary import counted

__all__ = ["StoredMasks", "decode_mask", "encode_masks", "masks_table", "merge_masks", "write_masks"]

CLIPS_PER_GROUP = 64
# Column of a clip's position among those of a row group.
_POSITION = "position"
# Files that are merged at once: an evaluation of 100,000 clips leaves more than a process may open.
_MOST_OPEN = 32
_MOST_FRAMES = 10_000
ROWS = Limit(20_000_000, "rows", "all of AVSS under thirty conditions has 3.7 million")

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
WITH_DRAWS = SCHEMA.insert(4, DRAW_FIELD)
REQUIRED_COLUMNS = ("clip_id", "condition", "frame", "size", "counts")

_KIND = Kind(AdapterError, "COCO run-length masks, as 'avsrobust evaluate --save-masks' writes them", "write it")
# Kept as indices into the values that a page holds once, so that a small file cannot become a large table.
_DICTIONARIES = ("split", "clip_id", "condition", "counts")


def masks_table(row: Row, masks: Mask) -> pa.Table:
    """Return the rows that store one row's masks, bool [T, H, W]."""
    num_frames, height, width = masks.shape
    return pa.table(
        {
            "split": [row.split] * num_frames,
            "clip_id": [row.clip_id] * num_frames,
            "condition": [row.condition] * num_frames,
            "level": [row.level] * num_frames,
            "draw": [row.draw] * num_frames,
            "frame": list(range(num_frames)),
            "size": [[height, width]] * num_frames,
            "counts": encode_masks(masks),
        },
        schema=WITH_DRAWS,
    )


def write_masks(path: Path, tables: Iterable[pa.Table], evaluation: str = "", *, draws: bool = False) -> None:
    """Write tables to a parquet file, atomically.

    Args:
        path: The file.
        tables: Tables that `masks_table` returned; each becomes a row group.
        evaluation: Checksum of model and manifest, which the files of one results folder share.
        draws: Some condition was drawn more than once: the file gets a column `draw`.
    """
    plain = WITH_DRAWS if draws else SCHEMA
    schema = plain.with_metadata({EVALUATION_KEY: evaluation}) if evaluation else plain
    with atomic_path(path) as temporary, open_writer(temporary, schema) as writer:
        for table in tables:
            writer.write_table(table.select(plain.names).cast(plain), row_group_size=max(table.num_rows, 1))


def merge_masks(
    path: Path, sources: Sequence[Path], clips: Sequence[ClipKey] | None = None, evaluation: str = ""
) -> None:
    """Write the masks of some clips, found in several files, to one file. Few of the files are open at once.

    Args:
        path: The file to write.
        sources: Files to read; where several hold a clip under one condition, the first one counts.
        clips: Clips, (split, clip_id), in the order they are written; None: all that the files hold, sorted.
        evaluation: Checksum of model and manifest.

    Raises:
        AdapterError: A file is missing or damaged.
    """
    held: dict[ClipKey, tuple[int, ...]] = {}
    draws = False
    for number, source in enumerate(sources):
        # One object for all clips of the file.
        here = (number,)
        with closing(StoredMasks(source)) as store:
            draws |= store.has_draws
            for key in store.clips:
                held[key] = held[key] + here if key in held else here
    chosen = sorted(held) if clips is None else clips
    groups = (chosen[start : start + CLIPS_PER_GROUP] for start in range(0, len(chosen), CLIPS_PER_GROUP))
    with _Opened(sources) as opened:
        tables = (_group_table(opened, [(key, held[key]) for key in group]) for group in groups)
        write_masks(path, tables, evaluation, draws=draws)


class _Opened:
    """Files of masks, of which those are open that were asked for last.

    Args:
        sources: The files.
    """

    def __init__(self, sources: Sequence[Path]) -> None:
        self._sources = sources
        self._stores: OrderedDict[int, StoredMasks] = OrderedDict()

    def __enter__(self) -> _Opened:
        return self

    def __exit__(self, *_: object) -> None:
        for store in self._stores.values():
            store.close()

    def __getitem__(self, number: int) -> StoredMasks:
        if number not in self._stores:
            if len(self._stores) >= _MOST_OPEN:
                self._stores.popitem(last=False)[1].close()
            self._stores[number] = StoredMasks(self._sources[number])
        self._stores.move_to_end(number)
        return self._stores[number]


def rows_of_masks(path: Path) -> RowSet:
    """Return the rows that a file of masks holds.

    Raises:
        AdapterError: The file is missing or damaged.
    """
    with closing(StoredMasks(path)) as store:
        return store.rows


def _group_table(opened: _Opened, clips: Sequence[tuple[ClipKey, Sequence[int]]]) -> pa.Table:
    """Return the masks of some clips, of which each is in some files, sorted, each clip in a piece of its own."""
    wanted: dict[int, list[int]] = {}
    for position, (_, numbers) in enumerate(clips):
        for number in numbers:
            wanted.setdefault(number, []).append(position)
    tables: list[pa.Table] = []
    seen: set[RowKey] = set()
    for number in sorted(wanted):
        pieces = [opened[number].clip_table(clips[position][0]) for position in wanted[number]]
        table = add_draws(pa.concat_tables(pieces)).select(WITH_DRAWS.names).cast(WITH_DRAWS)
        positions = np.repeat(np.array(wanted[number], np.int32), [piece.num_rows for piece in pieces])
        table = table.append_column(_POSITION, pa.array(positions))
        if any(len(numbers) > 1 for _, numbers in clips):
            rows = row_keys_of(table)
            table = table.filter(pa.array([row not in seen for row in rows], pa.bool_()))
            seen.update(rows)
        tables.append(table)
    order = (_POSITION, "condition", "level", "draw", "frame")
    whole = pa.concat_tables(tables).sort_by([(name, "ascending") for name in order])
    starts = np.searchsorted(whole.column(_POSITION).to_numpy(), np.arange(len(clips) + 1)).tolist()
    # Where pieces meet has a say in the file's pages.
    return pa.concat_tables(
        whole.drop_columns([_POSITION]).slice(start, stop - start) for start, stop in pairwise(starts)
    )


class StoredMasks:
    """A parquet file of masks, read a clip at a time.

    Attributes:
        path: The file.
        clips: Pieces of each clip in the file, by (split, clip_id); files without a split column have the split "".
        smallest_frame: Smallest frame number of the file; None: it has no rows.

    Raises:
        AdapterError: The file is missing, damaged, too large or lacks a column.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        require_vouched(path, AdapterError)
        self._file = _KIND.open(path, dictionaries=_DICTIONARIES)
        _check_schema(path, self._file.schema_arrow)
        ROWS.check(self._file.metadata.num_rows, path, AdapterError)
        # Not of the method itself: the file is closed when nobody refers to this any more.
        self._group = lru_cache(maxsize=4)(partial(StoredMasks._read_group, proxy(self)))
        self.smallest_frame: int | None = None
        self.clips = self._find_clips()

    def _read_group(self, group: int, columns: tuple[str, ...] | None = None) -> pa.Table:
        metadata = self._file.metadata.row_group(group)
        parts = [metadata.column(index) for index in range(metadata.num_columns)]
        # A few bytes of a page may stand for many values.
        held = sum(max(part.total_uncompressed_size, 8 * part.num_values) for part in parts)
        ARRAY_BYTES.check(held, f"{self.path}: row group {group}", AdapterError)
        try:
            table = self._file.read_row_group(group, columns=None if columns is None else list(columns))
            table.validate(full=True)
        except (OSError, pa.ArrowException, ValueError) as error:
            raise _KIND.damaged(self.path, error) from error
        return table

    def _find_clips(self) -> Mapping[ClipKey, list[tuple[int, int, int]]]:
        """Return for each clip its pieces: row group, first row, number of rows."""
        clips: dict[ClipKey, list[tuple[int, int, int]]] = {}
        names = [name for name in ("split", "clip_id") if name in self._file.schema_arrow.names]
        for group in range(self._file.num_row_groups):
            table = self._read_group(group, (*names, "frame"))
            if any(table.column(name).null_count for name in (*names, "frame")):
                raise AdapterError(
                    f"{self.path}: found rows without {', '.join(names)} or frame; expected them in every row"
                )
            if not table.num_rows:
                continue
            smallest = pc.min(table.column("frame")).as_py()
            self.smallest_frame = smallest if self.smallest_frame is None else min(self.smallest_frame, smallest)
            keys = [_encoded(table.column(name)) for name in names]
            changes = np.zeros(table.num_rows, np.bool_)
            changes[0] = True
            for codes, _ in keys:
                changes[1:] |= codes[1:] != codes[:-1]
            starts = np.flatnonzero(changes).tolist()
            for start, stop in zip(starts, [*starts[1:], table.num_rows], strict=True):
                found = [texts[codes[start]] for codes, texts in keys]
                key = (found[0], found[1]) if len(found) == 2 else ("", found[0])
                clips.setdefault(key, []).append((group, start, stop - start))
        if self.smallest_frame is not None and self.smallest_frame < 0:
            raise AdapterError(f"{self.path}: found frame {self.smallest_frame}; expected frames that count from 0")
        return clips

    @property
    def rows(self) -> RowSet:
        """Keys of the rows that have a mask, of a file with all columns of a key but `draw`."""
        names = tuple(name for name in KEY_COLUMNS if name in self._file.schema_arrow.names)
        groups = (self._read_group(group, names) for group in range(self._file.num_row_groups))
        return RowSet.of_tables(self._whole(table) for table in groups)

    def _whole(self, table: pa.Table) -> pa.Table:
        """Return a table of key columns. Raises `AdapterError` where one but the level has gaps."""
        for name in (name for name in table.column_names if name != "level" and table.column(name).null_count):
            raise AdapterError(f"{self.path}: found rows without {name}; expected it in every row")
        return table

    def close(self) -> None:
        """Close the file, and keep nothing of it."""
        self._group.cache_clear()
        self._file.close()

    @property
    def has_draws(self) -> bool:
        """Whether the file has a column `draw`."""
        return DRAW_FIELD.name in self._file.schema_arrow.names

    def clip_table(self, key: ClipKey) -> pa.Table:
        """Return all rows of one clip.

        Raises:
            KeyError: There is none.
        """
        return pa.concat_tables(self._group(group).slice(start, length) for group, start, length in self.clips[key])

    def read(self, split: str, clip_id: str, condition: str, level: float | None, draw: int = 0) -> dict[int, Mask]:
        """Return the masks of one row by frame number; empty where the file has none for it.

        Args:
            split: Split of the clip.
            clip_id: Id of the clip.
            condition: Name of the condition.
            level: Level in the condition's unit, or None.
            draw: Number of the draw.

        Raises:
            ValueError: A mask cannot be decoded, or a frame is there twice.
        """
        masks: dict[int, Mask] = {}
        for key in ((split, clip_id), ("", clip_id)):
            if key in self.clips:
                table = self._row_table(key, condition, level, draw)
                frames = table.column("frame").to_pylist()
                twice = [frame for frame in set(frames) if frame in masks or frames.count(frame) > 1] if frames else []
                if twice:
                    raise ValueError(f"frame {min(twice)} is there twice")
                for frame, size, counts in zip(
                    frames, table.column("size").to_pylist(), table.column("counts").to_pylist(), strict=True
                ):
                    masks[frame] = _decode(frame, size, counts)
        return masks

    def _row_table(self, key: ClipKey, condition: str, level: float | None, draw: int) -> pa.Table:
        """Return the rows of a clip under one condition. Raises `ValueError` for more than a clip can have frames."""
        table = self.clip_table(key)
        chosen = pc.equal(table.column("condition").cast(pa.string()), condition)
        if "level" in table.column_names:
            levels = table.column("level").cast(pa.float32())
            same = pc.is_null(levels) if level is None else pc.equal(levels, pa.scalar(np.float32(level), pa.float32()))
            chosen = pc.and_(chosen, same)
        elif level is not None:
            chosen = pc.and_(chosen, False)
        if DRAW_FIELD.name in table.column_names:
            chosen = pc.and_(chosen, pc.equal(table.column(DRAW_FIELD.name).cast(pa.int64()), draw))
        elif draw:
            chosen = pc.and_(chosen, False)
        table = table.filter(pc.fill_null(chosen, False))
        if table.num_rows > _MOST_FRAMES:
            raise ValueError(f"holds {counted(table.num_rows, 'mask')}; expected one per frame")
        return table


def _decode(frame: int, size: object, counts: object) -> Mask:
    if size is None or counts is None:
        raise ValueError(f"frame {frame} has not a size [height, width] and run lengths")
    try:
        return decode_entry(size, counts)
    except ValueError as error:
        raise ValueError(f"frame {frame} has not a size and run lengths that fit: {error}") from error


def _encoded(column: pa.ChunkedArray) -> tuple[np.ndarray[Any, np.dtype[Any]], list[str]]:
    """Return a column of text as indices and the texts that they stand for."""
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks)
    if not pa.types.is_dictionary(array.type):
        array = array.dictionary_encode()
    return array.indices.to_numpy(zero_copy_only=False), array.dictionary.to_pylist()


def _check_schema(path: Path, found: pa.Schema) -> None:
    """Raise `AdapterError` where a column is missing, or cannot hold what it should."""
    missing = [name for name in REQUIRED_COLUMNS if name not in found.names]
    if missing:
        raise AdapterError(
            f"{path}: has no column {', '.join(missing)}; expected COCO run-length masks with the columns "
            f"{', '.join(SCHEMA.names)}, as 'avsrobust evaluate --save-masks' writes them"
        )
    for name, expected, holds in (
        ("split", "text", _is_text),
        ("clip_id", "text", _is_text),
        ("condition", "text", _is_text),
        ("level", "numbers", _is_number),
        (DRAW_FIELD.name, "integers", pa.types.is_integer),
        ("frame", "integers", pa.types.is_integer),
        ("size", "lists of two integers", _is_integer_list),
        (
            "counts",
            "text, bytes or lists of integers",
            lambda kind: _is_text(kind) or _is_bytes(kind) or _is_integer_list(kind),
        ),
    ):
        kind = found.field(name).type if name in found.names else pa.null()
        # A column of nothing but nulls; whoever reads one of them says so.
        if not pa.types.is_null(kind) and not holds(kind):
            raise AdapterError(f"{path}: column {name} is of type {kind}; expected {expected}; write it again")


def _is_text(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_bytes(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _is_integer_list(kind: pa.DataType) -> bool:
    lists = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    return bool(lists and pa.types.is_integer(kind.value_type))
