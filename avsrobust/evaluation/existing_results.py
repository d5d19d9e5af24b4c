"""The results that a folder holds already: their model, and whether they are whole.

Conventions
    Nothing is changed here. ``run.json`` holds the model key of the results and vouches for the files next to it; where it is
    damaged, ``scores.parquet``, which holds a checksum of itself and of the evaluation, stands for itself.
    Files are ours by their names, in a folder that is marked as ours, where ``run.json`` names them or they hold an evaluation's
    checksum: anything else under these names is somebody else's and is refused.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from avsrobust.errors import AdapterError, OptionError, ResultsError
from avsrobust.evaluation.extras import rows_of_extras
from avsrobust.evaluation.model_key import differences, evaluation_sha256
from avsrobust.evaluation.parts import unfinished_key
from avsrobust.evaluation.stored_scores import StoredScores
from avsrobust.results import (
    EVALUATION_KEY,
    EXTRAS_NAME,
    MASKS_NAME,
    RUN_NAME,
    SCORES_NAME,
    Run,
    read_run,
    read_scores,
    readout_file,
    readout_of,
    vouches_for,
)
from avsrobust.row_keys import RowKey, row_key
from avsrobust.row_sets import RowSet
from avsrobust.stored_masks import rows_of_masks


@dataclass(frozen=True)
class ExistingResults:
    """Results in a folder.

    Attributes:
        run: Content of ``run.json``; None where there is none, or it is damaged.
        scores: Content of ``scores.parquet``; None where there is none, or it is damaged.
        masks: File of masks, where it is there and whole.
        extras: File of further values, where it is there and whole.
        masked: Rows that the file of masks holds.
        described: Rows that the file of further values holds.
        readouts: Scores of further readouts by name, where they are there and whole.
        damaged: A line per file that is not whole.
    """

    run: Run | None = None
    scores: StoredScores | None = None
    masks: Path | None = None
    extras: Path | None = None
    masked: RowSet = field(default_factory=RowSet)
    described: RowSet = field(default_factory=RowSet)
    damaged: tuple[str, ...] = ()
    readouts: Mapping[str, StoredScores] = field(default_factory=dict)

    def named(self, name: str) -> bool:
        """Return whether ``run.json`` names a file of this name."""
        return self.entry(name) is not None

    def entry(self, name: str) -> Mapping[str, Any] | None:
        """Return the entry of a file in ``run.json``, None where it has none."""
        files = self.run.details.get("files") if self.run is not None else None
        entry = files.get(name) if isinstance(files, Mapping) else None
        return entry if isinstance(entry, Mapping) else None

    @property
    def extras_names(self) -> list[str]:
        """Names of the adapter's further values."""
        names = self.run.details.get("extras") if self.run is not None else None
        return [str(name) for name in names] if isinstance(names, list) else []

    @property
    def readout_names(self) -> list[str]:
        """Names of the adapter's further readouts, damaged ones included."""
        files = self.run.details.get("files") if self.run is not None else None
        named = [readout_of(str(name)) for name in files] if isinstance(files, Mapping) else []
        return sorted({name for name in named if name is not None} | set(self.readouts))

    def model_key(self) -> object:
        """Return the model key in ``run.json`` (its entry "identity"), None where there is none."""
        return None if self.run is None else self.run.details.get("identity")

    def failed_rows(self) -> dict[tuple[str, str], tuple[str, frozenset[RowKey] | None]]:
        """Return error and rows (None: not known) of the clips that failed and were not scored since."""
        if self.run is None:
            entries = () if self.scores is None else self.scores.info.failed
            return {(entry.split, entry.clip_id): (entry.error, None) for entry in entries}
        return dict(map(_failed, _dicts(self.run.details.get("failed"))))


def read_existing(output: Path, *, replace: bool = False) -> ExistingResults:
    """Return the results that a folder holds.

    Args:
        output: The results folder.
        replace: The results will be replaced, and so need not be readable.

    Raises:
        OptionError: A file in it is not ours, or cannot be shown to be.
    """
    run, damaged = None, list[str]()
    if (output / RUN_NAME).exists():
        try:
            run = read_run(output / RUN_NAME)
        except ResultsError as error:
            damaged.append(str(error))
    scores = _scores(output, run, damaged, replace=replace)
    masks, masked = _optional(output / MASKS_NAME, run, scores, damaged)
    extras, described = _optional(output / EXTRAS_NAME, run, scores, damaged)
    readouts = _readouts(output, run, scores, damaged)
    return ExistingResults(run, scores, masks, extras, masked, described, tuple(damaged), readouts)


def require_same_model(output: Path, stored: ExistingResults, model_key: Mapping[str, Any]) -> None:
    """Check that the folder's results, finished or not, are of this model and build.

    Raises:
        OptionError: They are of another one; the message lists the differences.
    """
    unfinished = None
    if stored.run is not None:
        found = differences(stored.model_key(), model_key)
    elif stored.scores is not None:
        same = stored.scores.info.evaluation == evaluation_sha256(model_key)
        found = [] if same else [f"something that {RUN_NAME}, being damaged or missing, does not tell"]
    else:
        unfinished = unfinished_key(output)
        found = differences(unfinished, model_key) if unfinished else []
    if found:
        kind = "an unfinished evaluation" if unfinished else "results"
        raise OptionError(
            f"{output}: holds {kind} of another model or build; different are: {'; '.join(found)}; expected the same ones; "
            "keep both by giving this model a --name of its own, or replace what is there with --replace"
        )


def require_covered(
    output: Path, stored: ExistingResults, splits: Collection[str], conditions: Collection[str], *, keep_masks: bool
) -> None:
    """Check that damaged files, which will be written again, held no more than the rows that are evaluated again.

    Args:
        output: The results folder.
        stored: Results in the folder.
        splits: Splits that are evaluated.
        conditions: Conditions that are evaluated.
        keep_masks: Masks are kept.

    Raises:
        ResultsError: One held more.
    """
    for name, lost in (
        (SCORES_NAME, stored.run is not None and stored.scores is None),
        (MASKS_NAME, keep_masks and stored.named(MASKS_NAME) and stored.masks is None),
        (EXTRAS_NAME, stored.named(EXTRAS_NAME) and stored.extras is None),
        *((readout_file(name), name not in stored.readouts) for name in stored.readout_names),
    ):
        if lost:
            _require_covered(output / name, stored, splits, conditions)


def _require_covered(path: Path, stored: ExistingResults, splits: Collection[str], conditions: Collection[str]) -> None:
    details: Mapping[str, Any] = {} if stored.run is None else stored.run.details
    lost = [
        f"{title} {', '.join(more)}"
        for title, key, requested in (("--split", "splits", splits), ("--condition", "conditions", conditions))
        if (more := sorted(set(_strings(details.get(key))) - set(requested)))
    ]
    if lost:
        raise ResultsError(
            f"{path}: is damaged or missing, and held {' and '.join(lost)}; request these too, so that they are "
            "evaluated again, restore the file, or give them up with --replace"
        )


def _scores(output: Path, run: Run | None, damaged: list[str], *, replace: bool) -> StoredScores | None:
    path = output / SCORES_NAME
    if run is None and not path.exists():
        return None
    try:
        if run is not None and not vouches_for(run, path):
            raise ResultsError(f"{path}: is not the file that {RUN_NAME} vouches for")
        return StoredScores.of(read_scores(path, vouched=False))
    except (OSError, ResultsError) as error:
        if run is None and not replace:
            raise OptionError(
                f"{path}: cannot be read, and no {RUN_NAME} says whose it is ({error}); expected results of avsrobust; restore "
                "it, choose another folder, or replace what is there with --replace"
            ) from error
        damaged.append(_said(path, error))
        return None


def _readouts(
    output: Path, run: Run | None, scores: StoredScores | None, damaged: list[str]
) -> dict[str, StoredScores]:
    """Return the scores of readouts that are there, of these results and whole."""
    files = run.details.get("files") if run is not None else None
    named = {str(name) for name in files} if isinstance(files, Mapping) else set[str]()
    there = {path.name for path in output.glob(readout_file("*"))}
    found: dict[str, StoredScores] = {}
    for name in sorted(entry for entry in named | there if readout_of(entry) is not None):
        path = output / name
        evaluation = _evaluation_of(path)
        if name not in named and evaluation is None:
            raise OptionError(
                f"{path}: was not written by avsrobust, or is damaged; expected nothing, or scores of a readout; move it "
                "away, or choose another folder"
            )
        try:
            _require_same_evaluation(path, run, scores, evaluation)
            readout = StoredScores.of(read_scores(path, vouched=False))
            found[readout.info.readout] = readout
        except (OSError, ResultsError) as error:
            damaged.append(_said(path, error))
    return found


def _said(path: Path, error: Exception) -> str:
    """Return an error about a file in words."""
    if isinstance(error, FileNotFoundError):
        return f"{path}: is missing"
    return f"{path}: cannot be read ({error.strerror})" if isinstance(error, OSError) else str(error)


def _optional(
    path: Path, run: Run | None, scores: StoredScores | None, damaged: list[str]
) -> tuple[Path | None, RowSet]:
    """Return a file next to the scores and the rows it holds, where it is there, ours and whole."""
    files = run.details.get("files") if run is not None else None
    named = isinstance(files, Mapping) and path.name in files
    if not path.exists():
        if named:
            damaged.append(f"{path}: is missing")
        return None, RowSet()
    evaluation = _evaluation_of(path)
    if not named and evaluation is None:
        raise OptionError(
            f"{path}: was not written by avsrobust, or is damaged; expected nothing, or a file of these results; move it away, "
            "or choose another folder"
        )
    try:
        _require_same_evaluation(path, run, scores, evaluation)
        rows = rows_of_masks(path) if path.name == MASKS_NAME else rows_of_extras(path)
    except (OSError, ResultsError, AdapterError) as error:
        damaged.append(_said(path, error))
        return None, RowSet()
    return path, rows


def _require_same_evaluation(path: Path, run: Run | None, scores: StoredScores | None, evaluation: str | None) -> None:
    """Raise `ResultsError` unless ``run.json`` vouches for a file or, without it, the file is of the scores' evaluation.

    Raises `OSError` where the file cannot be read.
    """
    if run is not None and not vouches_for(run, path):
        raise ResultsError(f"{path}: is not the file that {RUN_NAME} vouches for")
    if run is None and (scores is None or evaluation != scores.info.evaluation):
        raise ResultsError(f"{path}: is of another evaluation")


def _evaluation_of(path: Path) -> str | None:
    """Return the evaluation's checksum that a parquet file holds."""
    if not path.is_file():
        return None
    try:
        metadata = pq.read_schema(path).metadata or {}
        return str(metadata[EVALUATION_KEY.encode()].decode())
    except (OSError, pa.ArrowException, KeyError, ValueError):
        return None


def _failed(entry: Mapping[str, Any]) -> tuple[tuple[str, str], tuple[str, frozenset[RowKey] | None]]:
    split, clip_id = str(entry.get("split")), str(entry.get("clip_id"))
    rows = entry.get("rows")
    keys = None
    if isinstance(rows, list):
        named = [(*row, 0) for row in rows if isinstance(row, list) and len(row) == 2]
        named += [tuple(row) for row in rows if isinstance(row, list) and len(row) == 3]
        keys = frozenset(
            row_key(
                split,
                clip_id,
                str(condition),
                level if isinstance(level, int | float) else None,
                draw if isinstance(draw, int) else 0,
            )
            for condition, level, draw in named
        )
    return (split, clip_id), (str(entry.get("error")), keys)


def _dicts(value: object) -> Sequence[Mapping[str, Any]]:
    return [entry for entry in value if isinstance(entry, Mapping)] if isinstance(value, list) else []


def _strings(value: object) -> list[str]:
    return [entry for entry in value if isinstance(entry, str)] if isinstance(value, list) else []
