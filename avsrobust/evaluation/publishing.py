"""Putting finished results under their final names, so that a kill at any moment loses and mixes nothing.

Conventions
    New files are first written, whole and flushed, to ``parts/next/``, with the ``run.json`` that vouches for them last; then
    they are moved to the results folder one by one, ``run.json`` last. What was under way when a process died is finished by the
    next one: the moves are the same whether they are made once or twice. Until then readers refuse the folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avsrobust.errors import ResultsError
from avsrobust.evaluation.extras import merge_extras
from avsrobust.evaluation.merging import RowKey, clip_of
from avsrobust.evaluation.parts import PartStore
from avsrobust.evaluation.stored import StoredResults
from avsrobust.evaluation.stored_masks import merge_masks, rows_of_masks
from avsrobust.files import flush_files
from avsrobust.results import (
    EXTRAS_NAME,
    MASKS_NAME,
    NEXT_NAME,
    PARTS_NAME,
    RUN_NAME,
    SCORES_NAME,
    Scores,
    file_entry,
    read_run,
    write_scores,
)

_FILES = (SCORES_NAME, MASKS_NAME, EXTRAS_NAME)


def next_folder(output: Path) -> Path:
    """Return the folder that files are written to before they are moved to the results folder `output`."""
    return output / PARTS_NAME / NEXT_NAME


@dataclass(frozen=True)
class NextFiles:
    """The files that are ready to be moved: what ``run.json`` will say of all files, and the names of the further values."""

    files: dict[str, Mapping[str, Any]]
    extras: list[str]


def write_next_files(
    output: Path, scores: Scores, rows: set[RowKey], stored: StoredResults, store: PartStore
) -> NextFiles:
    """Write the scores, and masks and further values put together from what `stored` and `store` hold of `rows`.

    A file that nothing is added to stays where it is.
    """
    folder, evaluation = next_folder(output), scores.info.evaluation
    write_scores(folder / SCORES_NAME, scores)
    files: dict[str, Mapping[str, Any]] = {SCORES_NAME: file_entry(folder / SCORES_NAME)}
    if masks := store.mask_files():
        held = [*([stored.masks] if stored.masks else []), *masks]
        clips = sorted({clip_of(key) for key in stored.masked.union(*map(rows_of_masks, masks))})
        merge_masks(folder / MASKS_NAME, held, clips, evaluation)
        files[MASKS_NAME] = file_entry(folder / MASKS_NAME)
    elif stored.masks or stored.named(MASKS_NAME):
        files[MASKS_NAME] = stored.entry(MASKS_NAME) or file_entry(output / MASKS_NAME)
    extras = [*([stored.extras] if stored.extras else []), *store.extras_files()]
    names = merge_extras(folder / EXTRAS_NAME, extras, rows, evaluation) if extras else []
    if names:
        files[EXTRAS_NAME] = file_entry(folder / EXTRAS_NAME)
    return NextFiles(files, names)


def finish_publishing(output: Path) -> bool:
    """Move files that are ready to their final names, and delete those that are not; tell whether there were any ready."""
    folder = next_folder(output)
    if not folder.is_dir():
        return False
    ready = _ready(folder)
    if ready is not None:
        for name in _FILES:
            if (folder / name).is_file():
                (folder / name).replace(output / name)
            elif name not in ready:
                # Of results that these replace.
                (output / name).unlink(missing_ok=True)
        flush_files([output / SCORES_NAME])
        (folder / RUN_NAME).replace(output / RUN_NAME)
        flush_files([output / RUN_NAME])
    for name in (*_FILES, RUN_NAME):
        (folder / name).unlink(missing_ok=True)
    if not any(folder.iterdir()):
        folder.rmdir()
    return ready is not None


def _ready(folder: Path) -> Mapping[str, object] | None:
    """Return the files that the next ``run.json`` vouches for, None where there is none."""
    try:
        files = read_run(folder / RUN_NAME).details.get("files")
    except ResultsError:
        return None
    return files if isinstance(files, Mapping) else None
