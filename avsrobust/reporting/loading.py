"""Finding and reading stored results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from avsrobust.errors import ResultsError
from avsrobust.results import NEXT_NAME, PARTS_NAME, RUN_NAME, SCORES_NAME, Run, Scores, read_run, read_scores

RESULTS_ROOT = Path("results")


def load_results(paths: Sequence[Path | str] | None = None, results_root: Path | str = RESULTS_ROOT) -> list[Scores]:
    """Read every ``scores.parquet`` at or below `paths` (None: below `results_root`), sorted by path, each file once.

    Raises `ResultsError` where a path holds none, or a file cannot be read.
    """
    found: dict[Path, Path] = {}
    for path in [results_root] if paths is None else paths:
        for scores in _scores_below(Path(path)):
            found.setdefault(scores.resolve(), scores)
    return [read_scores(path) for path in sorted(found.values())]


def load_result(path: Path | str) -> Scores:
    """Read the one ``scores.parquet`` at or below `path`.

    Raises `ResultsError` where there is none, there are several, or it cannot be read.
    """
    found = _scores_below(Path(path))
    if len(found) > 1:
        named = ", ".join(str(scores.parent) for scores in found)
        raise ResultsError(f"{path}: holds results of {len(found)} evaluations; expected one; name one of {named}")
    return read_scores(found[0])


def load_runs(results: Sequence[Scores]) -> tuple[list[Run | None], list[str]]:
    """Read the ``run.json`` beside each of `results`; None, and a warning where it is damaged, where there is none."""
    runs: list[Run | None] = []
    warnings: list[str] = []
    for scores in results:
        path = None if scores.source is None else scores.source.with_name(RUN_NAME)
        run = None
        if path is not None and path.exists():
            try:
                run = read_run(path)
            except ResultsError as error:
                warnings.append(str(error))
        runs.append(run)
    return runs, warnings


def _scores_below(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    found = sorted(filter(_is_published, path.rglob(SCORES_NAME))) if path.is_dir() else []
    if not found:
        state = f"found no {SCORES_NAME} in it" if path.is_dir() else "not found"
        raise ResultsError(
            f"{path}: {state}; expected results made by 'avsrobust evaluate'; "
            "run 'avsrobust evaluate --adapter visual_prior' first, or name a results folder"
        )
    return found


def _is_published(scores: Path) -> bool:
    """Tell whether scores are not on their way to their place in an evaluation that was cut off."""
    return (scores.parent.parent.name, scores.parent.name) != (PARTS_NAME, NEXT_NAME)
