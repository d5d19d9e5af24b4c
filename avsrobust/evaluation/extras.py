"""Further values that an adapter returns with its masks (`Adapter.extras`), stored in ``extras.parquet``.

Conventions
    A row per (clip, condition, level, draw, frame, name), sorted by these; frames count from 0 and are all of the clip's, with
    a mask or without. Values are float64 and finite. Results of adapters without such values have no such file.
    Equal values give equal bytes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from avsrobust.adapters.outputs import ExtraValues
from avsrobust.errors import ResultsError
from avsrobust.manifest import Row
from avsrobust.parquet import Kind, write_parquet
from avsrobust.results import DRAW_FIELD, EVALUATION_KEY, require_vouched
from avsrobust.row_keys import RowKey, add_draws, drop_draws, row_keys_of
from avsrobust.score_checks import require_filled

_KIND = Kind(ResultsError, "further values, as 'avsrobust evaluate' writes them", "evaluate")
_ORDER = ("split", "clip_id", "condition", "level", "draw", "frame", "name")
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
_WITH_DRAWS = _SCHEMA.insert(4, DRAW_FIELD)


def extras_entries(row: Row, values: ExtraValues) -> list[dict[str, Any]]:
    """Return the rows of ``extras.parquet`` for one row of the manifest.

    Args:
        row: The row.
        values: float64 [T] by name.
    """
    return [
        {
            "split": row.split,
            "clip_id": row.clip_id,
            "condition": row.condition,
            "level": row.level,
            "draw": row.draw,
            "frame": frame,
            "name": name,
            "value": float(value),
        }
        for name, of_frames in values.items()
        for frame, value in enumerate(of_frames)
    ]


def write_extras(path: Path, entries: Sequence[Mapping[str, Any]], evaluation: str = "") -> None:
    """Write rows to a parquet file, atomically.

    Args:
        path: The file.
        entries: Rows that `extras_entries` returned.
        evaluation: Checksum of model and manifest (`evaluation.model_key.evaluation_sha256`).
    """
    _write(path, pa.Table.from_pylist(list(entries), schema=_WITH_DRAWS), evaluation)


def merge_extras(path: Path, sources: Iterable[Path], rows: Collection[RowKey], evaluation: str = "") -> list[str]:
    """Write the values of some rows, found in several files, to one file; no file where there are none.

    Args:
        path: The file to write.
        sources: Files to read; where several hold a row, the first one counts.
        rows: Rows that are kept.
        evaluation: Checksum of model and manifest.

    Returns:
        Names of the values, sorted.

    Raises:
        ResultsError: A file is damaged.
    """
    wanted = set(rows)
    tables: list[pa.Table] = []
    for source in sources:
        table = _read(source)
        keys = _keys(table)
        tables.append(table.filter(pa.array([key in wanted for key in keys], pa.bool_())))
        wanted -= set(keys)
    whole = pa.concat_tables(tables) if tables else _WITH_DRAWS.empty_table()
    if whole.num_rows:
        _write(path, whole, evaluation)
    return sorted(pc.unique(whole["name"]).to_pylist())


def rows_of_extras(path: Path) -> set[RowKey]:
    """Return the rows that a file holds values of.

    Raises:
        ResultsError: The file is missing or damaged.
    """
    return set(_keys(_read(path)))


def _keys(table: pa.Table) -> list[RowKey]:
    return row_keys_of(table)


def _read(path: Path) -> pa.Table:
    require_vouched(path, ResultsError)
    table = _KIND.read(path)
    _KIND.require_types(path, table.schema, _SCHEMA)
    require_filled(path, table, _SCHEMA)
    table = add_draws(table).select(_WITH_DRAWS.names).cast(_WITH_DRAWS)
    if not pc.all(pc.is_finite(table["value"])).as_py() and table.num_rows:
        raise ResultsError(f"{path}: has values that are not finite; expected numbers; evaluate again")
    return table


def _write(path: Path, table: pa.Table, evaluation: str) -> None:
    ordered = drop_draws(table.sort_by([(name, "ascending") for name in _ORDER]))
    write_parquet(path, ordered.replace_schema_metadata({EVALUATION_KEY: evaluation} if evaluation else None))
