"""Stored masks laid over the frames, as PNG files.

Conventions
    ``DIR/<split>/<clip_id>/<condition>[@<level>][#<draw>]_<frame>.png``, frames counted from 0. The folder is marked as ours; a
    folder that holds anything else is refused. Equal masks and frames give equal bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from avsrobust.callbacks import ProgressCallback
from avsrobust.errors import AvsRobustError, OptionError, did_you_mean
from avsrobust.files import resolve_inside, write_bytes
from avsrobust.folders import hold_output_dir
from avsrobust.gallery.builds import Build, find_manifest
from avsrobust.gallery.pictures import overlay
from avsrobust.heap import release_unused
from avsrobust.manifest import Row
from avsrobust.manifest_rows import column_of, rows_at
from avsrobust.remote import is_remote
from avsrobust.remote.inputs import with_file
from avsrobust.reporting.loading import load_result
from avsrobust.results import MASKS_NAME, RUN_NAME, read_run
from avsrobust.row_sets import numbered_rows
from avsrobust.stored_masks import StoredMasks, rows_of_masks

OVERLAYS_KIND = "overlays"
OVERLAYS_FORMAT = 1
_ROWS_AT_ONCE = 1024


@dataclass(frozen=True)
class WrittenOverlays:
    """Outcome: the folder, the number of pictures, and a line for each row that was skipped."""

    folder: Path
    pictures: int
    skipped: tuple[str, ...]


def write_overlays(
    result: Path | str,
    folder: Path,
    conditions: Sequence[str] = (),
    clips: Sequence[str] = (),
    *,
    data_root: Path | str | None = None,
    progress: ProgressCallback | None = None,
) -> WrittenOverlays:
    """Write the stored masks of some results over their frames.

    Args:
        result: Results folder of one evaluation, or its ``scores.parquet`` or ``masks.parquet``.
        folder: Folder to write to.
        conditions: Only these conditions (none: all).
        clips: Only these clips (none: all).
        data_root: Folder of the data set; None: the one that the build remembers.
        progress: Called with (rows done, rows in total).

    Raises:
        OptionError: There are no masks, a condition or clip is not among them, or the folder holds other files.
        ResultsError: The build is not there any more.
        ManifestError: The build's data is not there any more.
    """
    home = Path(str(load_result(_folder_of(result)).source)).parent
    # Of the scores only the folder is of interest.
    release_unused()
    path = home / MASKS_NAME
    if not with_file(path).is_file():
        raise OptionError(
            f"{result}: found no {MASKS_NAME}; expected a results folder with masks; run 'avsrobust evaluate --save-masks' again"
        )
    masks = StoredMasks(path)
    build = Build(find_manifest(home, read_run(home / RUN_NAME)), data_root)
    rows = build.manifest.rows
    chosen = rows_of_masks(path).positions(*numbered_rows(rows)) >= 0
    for option, wanted, column in (("--condition", conditions, "condition"), ("--clip", clips, "clip_id")):
        chosen &= _are_wanted(option, path, wanted, column_of(rows, column), chosen)
    positions = np.flatnonzero(chosen)
    pictures, skipped = 0, []
    with hold_output_dir(folder, OVERLAYS_KIND, OVERLAYS_FORMAT, "masks"):
        for done, row in enumerate(_each(rows, positions), start=1):
            try:
                pictures += _write_row(build, masks, row, folder)
            except (AvsRobustError, ValueError) as error:
                skipped.append(f"{row.split}/{row.clip_id} under {row.condition}: {error}")
            if progress is not None:
                progress(done, len(positions))
    return WrittenOverlays(folder, pictures, tuple(skipped))


def _folder_of(result: Path | str) -> Path | str:
    """Return the results folder of a file of masks; other results as they are."""
    text, masks = str(result), f"/{MASKS_NAME}"
    if text.endswith(masks) or text == MASKS_NAME:
        return text.removesuffix(masks) if is_remote(result) else Path(result).parent
    return result


def _are_wanted(
    option: str, path: Path, wanted: Sequence[str], values: Sequence[str], chosen: npt.NDArray[np.bool_]
) -> npt.NDArray[np.bool_]:
    """Return which rows have one of the values wanted (none: any), which rows chosen so far must have."""
    if not wanted:
        return np.ones(len(values), dtype=np.bool_)
    there = {values[position] for position in np.flatnonzero(chosen).tolist()}
    for name in wanted:
        if name not in there:
            raise OptionError(f"{option} {name}: {path} has no masks of it{did_you_mean(name, there)}")
    return np.array([value in wanted for value in values], dtype=np.bool_)


def _each(rows: Sequence[Row], positions: npt.NDArray[np.int64]) -> Iterator[Row]:
    """Yield rows, made some at a time."""
    for first in range(0, len(positions), _ROWS_AT_ONCE):
        yield from rows_at(rows, positions[first : first + _ROWS_AT_ONCE])


def _write_row(build: Build, masks: StoredMasks, row: Row, folder: Path) -> int:
    """Write the frames of one row that have a stored mask; return their number."""
    frames, true = build.frames(row), build.masks(row)
    found = masks.read(row.split, row.clip_id, row.condition, row.level, row.draw)
    level = "" if row.level is None else f"@{row.level:g}"
    draw = f"#{row.draw}" if row.draw else ""
    home = resolve_inside(folder, f"{row.split}/{row.clip_id}", named_by=build.manifest.path)
    for number, mask in sorted(found.items()):
        if number < len(frames):
            content = overlay(np.asarray(frames[number]), mask, true[number])
            write_bytes(home / f"{row.condition}{level}{draw}_{number}.png", content, flush=False)
    return len(found)
