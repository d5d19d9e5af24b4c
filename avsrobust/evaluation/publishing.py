"""Publishing results: earlier and new rows are put together and moved to their final names; a kill loses and mixes nothing.

Conventions
    Where several sources hold a row, the first one counts; of rows with and without the overlap with the clean mask, one with it.
    New files are first written, whole and flushed, to ``parts/next/``, with the ``run.json`` that vouches for them last; then
    they are moved to the results folder one by one, ``run.json`` last. If a process dies meanwhile, the next one finishes the
    moves: they have the same effect whether they are made once or twice. Until then readers refuse the folder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from avsrobust.errors import ResultsError
from avsrobust.evaluation.existing_results import ExistingResults
from avsrobust.evaluation.extras import merge_extras
from avsrobust.files import flush_files
from avsrobust.mask_overlaps import concatenate_overlaps, pair_counts
from avsrobust.metrics.binary.counts import concatenate, take
from avsrobust.metrics.semantic.counts import concatenate_classes, take_classes
from avsrobust.results import (
    EXTRAS_NAME,
    INDEX_COLUMNS,
    MASKS_NAME,
    NEXT_NAME,
    PARTS_NAME,
    RUN_NAME,
    SCORES_NAME,
    ScoreInfo,
    Scores,
    file_entry,
    read_run,
    read_scores,
    readout_file,
    readout_of,
    with_draws,
    write_scores,
)
from avsrobust.row_keys import KEY_COLUMNS, RowKey, clip_of
from avsrobust.stored_masks import merge_masks, rows_of_masks
from avsrobust.vocabulary import CLEAN

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
    """

    files: dict[str, Mapping[str, Any]]
    extras: list[str]


def write_next_files(
    output: Path,
    scores: Scores,
    rows: set[RowKey],
    stored: ExistingResults,
    *,
    masks: Sequence[Path] = (),
    extras: Sequence[Path] = (),
    readouts: Sequence[Scores] = (),
) -> NextFiles:
    """Write the scores, the masks and the further values, each put together from earlier results and new parts.

    A file that nothing is added to stays as it is.

    Args:
        output: The results folder.
        scores: All scores, put together.
        rows: Rows that the scores hold.
        stored: Earlier results.
        masks: New files of masks.
        extras: New files of further values.
        readouts: All scores of further readouts, put together.
    """
    folder, evaluation = next_folder(output), scores.info.evaluation
    write_scores(folder / SCORES_NAME, scores)
    files: dict[str, Mapping[str, Any]] = {SCORES_NAME: file_entry(folder / SCORES_NAME)}
    for readout in readouts:
        name = readout_file(readout.info.readout)
        write_scores(folder / name, readout)
        files[name] = file_entry(folder / name)
    if masks:
        held = [*([stored.masks] if stored.masks else []), *masks]
        clips = sorted({clip_of(key) for key in stored.masked.union(*map(rows_of_masks, masks))})
        merge_masks(folder / MASKS_NAME, held, clips, evaluation)
        files[MASKS_NAME] = file_entry(folder / MASKS_NAME)
    elif stored.masks or stored.named(MASKS_NAME):
        files[MASKS_NAME] = stored.entry(MASKS_NAME) or file_entry(output / MASKS_NAME)
    valued = [*([stored.extras] if stored.extras else []), *extras]
    names = merge_extras(folder / EXTRAS_NAME, valued, rows, evaluation) if valued else []
    if names:
        files[EXTRAS_NAME] = file_entry(folder / EXTRAS_NAME)
    return NextFiles(files, names)


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


def merge_scores(sources: Sequence[Scores], info: ScoreInfo) -> Scores:
    """Return all rows of several scores, with classes or all without.

    Args:
        sources: The scores; which of several equal rows counts, the module's conventions say.
        info: Metadata of the result.

    Raises:
        ResultsError: Some have classes and some have not.
    """
    sources = [source for source in sources if len(source.index)]
    if not sources:
        return Scores(info, pd.DataFrame(columns=INDEX_COLUMNS), concatenate([]))
    if len({source.classes is None for source in sources}) > 1:
        raise ResultsError(
            f"{info.model} on {info.dataset}: some clips were scored by class and some were not; expected one of the two; "
            "evaluate with --replace"
        )
    index = pd.concat([with_draws(source.index) for source in sources], ignore_index=True)
    origin = np.repeat(np.arange(len(sources)), [len(source.index) for source in sources])
    overlaps = concatenate_overlaps([(len(source.index), source.overlaps) for source in sources])
    chosen = _first_of_each_row(index, origin, pair_counts(overlaps, len(index)))
    statistics = concatenate([source.statistics for source in sources])
    classes = [source.classes for source in sources if source.classes is not None]
    whole = concatenate_classes(classes) if classes else None
    return Scores(
        info,
        index[chosen].reset_index(drop=True),
        take(statistics, chosen),
        classes=None if whole is None else take_classes(whole, chosen),
        overlaps=None if overlaps is None else overlaps.filter(pa.array(chosen)),
    )


def _first_of_each_row(
    index: pd.DataFrame, origin: npt.NDArray[np.intp], pairs: npt.NDArray[np.int64]
) -> npt.NDArray[np.bool_]:
    """Return which frames stay: those of each row's first source, of the ones with the most overlaps, clean and `pairs` [N]."""
    lacks_clean = ((index["condition"] != CLEAN) & index["clean_union"].isna()).to_numpy()
    sources, most = origin.max(initial=0) + 1, pairs.max(initial=0) + 2
    rank = pd.Series(origin + sources * (most - 2 - pairs) + sources * most * lacks_clean, index=index.index)
    keys = index[KEY_COLUMNS].assign(level=index["level"].astype(np.float64).fillna(-np.inf), rank=rank)
    first = keys.groupby(KEY_COLUMNS, sort=False)["rank"].transform("min")
    return np.asarray((rank == first).to_numpy(), dtype=np.bool_)
