"""Further values that an adapter gives with its masks (`Adapter.extras`), kept beside the scores in ``extras.parquet``.

Conventions
    A row per (clip, condition, level, frame, name), sorted by these; frames count from 0 and are all of the clip's, with a mask
    or without. Values are float64 and finite. Results of adapters without such values have no such file.
    Equal values give equal bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from torch import Tensor

from avsrobust.errors import AdapterOutputError
from avsrobust.evaluation.stored_masks import ClipKey
from avsrobust.files import atomic_path
from avsrobust.manifest import Row

EXTRAS_NAME = "extras.parquet"
_ORDER = ("split", "clip_id", "condition", "level", "frame", "name")
_SCHEMA = pa.schema(
    [
        pa.field("split", pa.string(), nullable=False),
        pa.field("clip_id", pa.string(), nullable=False),
        pa.field("condition", pa.string(), nullable=False),
        pa.field("level", pa.float32()),
        pa.field("frame", pa.int32(), nullable=False),
        pa.field("name", pa.string(), nullable=False),
        pa.field("value", pa.float64(), nullable=False),
    ]
)

Values = Mapping[str, npt.NDArray[np.float64]]


def check_extras(returned: object, *, adapter: str, batch: int, num_frames: int) -> dict[str, npt.NDArray[np.float64]]:
    """Return an adapter's further values as float64 [B, T] by name. Raises `AdapterOutputError` for anything else.

    `adapter` is its name, for messages.
    """
    expected = f"a dict of names to finite tensors [B={batch}, T={num_frames}]"
    if not isinstance(returned, Mapping):
        raise AdapterOutputError(f"{adapter}: extras returned {type(returned).__name__}; expected {expected}")
    return {str(name): _values(name, value, adapter, (batch, num_frames), expected) for name, value in returned.items()}


def _values(
    name: object, value: object, adapter: str, shape: tuple[int, int], expected: str
) -> npt.NDArray[np.float64]:
    if not isinstance(value, Tensor) or tuple(value.shape) != shape:
        found = f"shape {list(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise AdapterOutputError(f"{adapter}: extras returned {found} under '{name}'; expected {expected}")
    values = value.detach().to("cpu", torch.float64).numpy()
    if not np.isfinite(values).all():
        raise AdapterOutputError(f"{adapter}: extras returned NaN or infinity under '{name}'; expected {expected}")
    return values


def extras_entries(row: Row, values: Values) -> list[dict[str, Any]]:
    """Return the rows of ``extras.parquet`` for one row of the manifest; `values` are float64 [T] by name."""
    return [
        {
            "split": row.split,
            "clip_id": row.clip_id,
            "condition": row.condition,
            "level": row.level,
            "frame": frame,
            "name": name,
            "value": float(value),
        }
        for name, of_frames in values.items()
        for frame, value in enumerate(of_frames)
    ]


def write_extras(path: Path, entries: Sequence[Mapping[str, Any]]) -> None:
    """Write entries to the parquet file `path`, atomically."""
    _write(path, pa.Table.from_pylist(list(entries), schema=_SCHEMA))


def merge_extras(path: Path, sources: Iterable[Path], clips: Iterable[ClipKey]) -> list[str]:
    """Write the extras of `clips`, (split, clip_id), found in `sources`, to `path`; return their names.

    Where several sources hold a clip, the first one counts. Where there is none, there is no file.
    """
    wanted = set(clips)
    tables: list[pa.Table] = []
    for source in sources:
        table = pq.read_table(source, schema=_SCHEMA)
        keys = list(zip(table["split"].to_pylist(), table["clip_id"].to_pylist(), strict=True))
        tables.append(table.filter(pa.array([key in wanted for key in keys], pa.bool_())))
        wanted -= set(keys)
    whole = pa.concat_tables(tables) if tables else _SCHEMA.empty_table()
    if whole.num_rows:
        _write(path, whole)
    else:
        path.unlink(missing_ok=True)
    return sorted(pc.unique(whole["name"]).to_pylist())


def clips_with_extras(path: Path) -> set[ClipKey]:
    """Return the clips, (split, clip_id), that the file holds; none where it is missing or damaged."""
    try:
        table = pq.read_table(path, columns=["split", "clip_id"])
    except (OSError, pa.ArrowException):
        return set()
    return set(zip(table["split"].to_pylist(), table["clip_id"].to_pylist(), strict=True))


def _write(path: Path, table: pa.Table) -> None:
    ordered = table.sort_by([(name, "ascending") for name in _ORDER])
    with atomic_path(path) as temporary:
        pq.write_table(ordered, temporary, compression="zstd")
