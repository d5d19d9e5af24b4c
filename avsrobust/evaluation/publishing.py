"""Publishing results: earlier and new rows are put together and moved to their final names; a kill loses and mixes nothing.

Conventions
    Where several sources hold a row, the first one counts; of rows with and without the overlap with the clean mask, one with it.
    New files are first written, whole and flushed, to ``parts/next/``, with the ``run.json`` that vouches for them last; then
    they are moved to the results folder one by one, ``run.json`` last. If a process dies meanwhile, the next one finishes the
    moves: they have the same effect whether they are made once or twice. Until then readers refuse the folder.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avsrobust.errors import ResultsError
from avsrobust.evaluation.existing_results import ExistingResults
from avsrobust.evaluation.extras import merge_extras
from avsrobust.evaluation.stored_scores import Content, StoredScores
from avsrobust.files import flush_files
from avsrobust.results import (
    EXTRAS_NAME,
    MASKS_NAME,
    NEXT_NAME,
    PARTS_NAME,
    RUN_NAME,
    SCORES_NAME,
    file_entry,
    read_run,
    read_scores,
    readout_file,
    readout_of,
)
from avsrobust.row_sets import RowSet
from avsrobust.stored_masks import merge_masks

_FILES = (SCORES_NAME, MASKS_NAME, EXTRAS_NAME)


def next_folder(output: Path) -> Path:
    """Return the folder that files are written to before they are moved to the results folder `output`."""
    return output / PARTS_NAME / NEXT_NAME


@dataclass(frozen=True)
class NextFiles:
    """The files that are ready to be moved.

    Attributes:
        files: Entry of each file in ``run.json``.
        extras: Names of the further values.
        content: Content of the scores.
    """

    files: dict[str, Mapping[str, Any]]
    extras: list[str]
    content: Content


def write_next_files(
    output: Path,
    scores: StoredScores,
    stored: ExistingResults,
    *,
    masks: Sequence[Path] = (),
    extras: Sequence[Path] = (),
    readouts: Iterable[StoredScores] = (),
) -> NextFiles:
    """Write the scores, the masks and the further values, each put together from earlier results and new parts.

    A file that nothing is added to stays as it is.

    Args:
        output: The results folder.
        scores: All scores, put together; its frames are used up.
        stored: Earlier results.
        masks: New files of masks.
        extras: New files of further values.
        readouts: All scores of further readouts, put together.
    """
    folder, evaluation, content = next_folder(output), scores.info.evaluation, scores.content
    valued = [*([stored.extras] if stored.extras else []), *extras]
    # Before the frames are used up.
    rows = scores.rows if valued else RowSet()
    scores.write(folder / SCORES_NAME, use_up=True)
    files: dict[str, Mapping[str, Any]] = {SCORES_NAME: file_entry(folder / SCORES_NAME)}
    for readout in readouts:
        name = readout_file(readout.info.readout)
        readout.write(folder / name, use_up=True)
        files[name] = file_entry(folder / name)
    if masks:
        held = [*([stored.masks] if stored.masks else []), *masks]
        merge_masks(folder / MASKS_NAME, held, evaluation=evaluation)
        files[MASKS_NAME] = file_entry(folder / MASKS_NAME)
    elif stored.masks or stored.named(MASKS_NAME):
        files[MASKS_NAME] = stored.entry(MASKS_NAME) or file_entry(output / MASKS_NAME)
    names = merge_extras(folder / EXTRAS_NAME, valued, rows, evaluation) if valued else []
    if names:
        files[EXTRAS_NAME] = file_entry(folder / EXTRAS_NAME)
    return NextFiles(files, names, content)


def finish_publishing(output: Path) -> bool:
    """Move files that are ready to their final names, and delete those that are not.

    Returns:
        Whether any were ready.
    """
    folder = next_folder(output)
    if not folder.is_dir():
        return False
    ready = _ready(folder)
    if ready is not None:
        for name in (*_FILES, *_readout_names(folder), *_readout_names(output)):
            if (folder / name).is_file():
                (folder / name).replace(output / name)
            elif name not in ready:
                # Of results that these replace.
                (output / name).unlink(missing_ok=True)
        flush_files([output / SCORES_NAME])
        (folder / RUN_NAME).replace(output / RUN_NAME)
        flush_files([output / RUN_NAME])
    for name in (*_FILES, *_readout_names(folder), RUN_NAME):
        (folder / name).unlink(missing_ok=True)
    if not any(folder.iterdir()):
        folder.rmdir()
    return ready is not None


def _readout_names(folder: Path) -> list[str]:
    """Return the names of the files of readouts in a folder that hold results of ours."""
    return sorted(path.name for path in folder.glob(readout_file("*")) if _is_ours(path))


def _is_ours(path: Path) -> bool:
    try:
        return read_scores(path, vouched=False).info.readout == readout_of(path.name)
    except (OSError, ResultsError):
        return False


def _ready(folder: Path) -> Mapping[str, object] | None:
    """Return the files that the next ``run.json`` vouches for, None where there is none."""
    try:
        files = read_run(folder / RUN_NAME).details.get("files")
    except ResultsError:
        return None
    return files if isinstance(files, Mapping) else None
