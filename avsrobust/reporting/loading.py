"""Finding and reading stored results."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from avsrobust.errors import ResultsError
from avsrobust.folders import MARKER_NAME
from avsrobust.remote import is_remote_place, local_copy
from avsrobust.results import (
    EXTRAS_NAME,
    NEXT_NAME,
    PARTS_NAME,
    RUN_NAME,
    SCORES_NAME,
    SHARDS_NAME,
    Run,
    Scores,
    read_run,
    read_scores,
    readout_of,
)

RESULTS_ROOT = Path("results")
_READ = (SCORES_NAME, RUN_NAME, EXTRAS_NAME, MARKER_NAME)


def load_results(paths: Sequence[Path | str] | None = None, results_root: Path | str = RESULTS_ROOT) -> list[Scores]:
    """Read every ``scores.parquet`` at or below some paths, sorted by path, each file once, and the readouts next to it.

    Args:
        paths: Folders, searched through, or files; paths or URLs; None: `results_root`.
        results_root: The folder of all results.

    Raises:
        ResultsError: A path holds no results, or a file cannot be read.
    """
    found: dict[Path, Path] = {}
    for path in [results_root] if paths is None else paths:
        for scores in _with_readouts(_scores_below(_local_results(path))):
            found.setdefault(scores.resolve(), scores)
    return [read_scores(path) for path in sorted(found.values())]


def load_result(path: Path | str) -> Scores:
    """Read the one ``scores.parquet`` at or below `path`.

    Raises:
        ResultsError: There is none, there are several, or it cannot be read.
    """
    found = _scores_below(_local_results(path))
    if len(found) > 1:
        for shard in filter(None, (read_scores(scores).info.shard for scores in found)):
            raise _unmerged(Path(path), shard)
        named = ", ".join(str(scores.parent) for scores in found)
        raise ResultsError(f"{path}: holds results of {len(found)} evaluations; expected one; name one of {named}")
    return read_scores(found[0])


def require_complete(results: Sequence[Scores], *, allow_limited: bool = False) -> None:
    """Refuse results of a part of the clips: shards, and smoke runs (``evaluate --limit``).

    Args:
        results: Stored results.
        allow_limited: Take smoke runs all the same.

    Raises:
        ResultsError: One of them is a shard, or limited.
    """
    for scores in results:
        if scores.info.shard:
            raise _unmerged(scores.source or Path(scores.info.model), scores.info.shard)
    for scores in () if allow_limited else results:
        if scores.info.limited:
            raise ResultsError(
                f"{scores.source or scores.info.model}: is of a smoke run: 'evaluate --limit' scored a part of the clips of "
                f"{', '.join(scores.info.limited)}; run the same 'evaluate' without --limit, or add --allow-limited"
            )


def require_distinct(files: Iterable[Path | None]) -> None:
    """Refuse to compare results with themselves.

    Args:
        files: The files that results are read from; None: they are in memory.

    Raises:
        ResultsError: Two of them are one.
    """
    seen: set[Path] = set()
    for path in files:
        if path is not None and path.resolve() in seen:
            raise ResultsError(f"{path}: is named twice; expected different results to compare; name each of them once")
        seen |= {path.resolve()} if path is not None else set()


def load_each(results: Sequence[Path | str | Scores]) -> list[Scores]:
    """Read every ``scores.parquet`` at or below each of some paths, in their order, for a comparison.

    Of folders of several, each result is read once, and not at all where another path names it.

    Args:
        results: Folders, searched through, or files; paths or URLs; or results that were read.

    Raises:
        ResultsError: A path holds no results, one result is named twice, or a file cannot be read.
    """
    below: list[list[Path | Scores]] = [
        [entry.from_here()] if isinstance(entry, Scores) else [*_scores_below(_local_results(entry))]
        for entry in results
    ]
    named = [found[0] for found in below if len(found) == 1]
    require_distinct(entry.source if isinstance(entry, Scores) else entry for entry in named)
    seen = {entry.resolve() for entry in named if isinstance(entry, Path)}
    chosen: list[Path | Scores] = []
    for found in below:
        new = found
        if len(found) > 1:
            new = [entry for entry in found if isinstance(entry, Path) and entry.resolve() not in seen]
        seen.update(entry.resolve() for entry in new if isinstance(entry, Path))
        chosen += new
    return [entry if isinstance(entry, Scores) else read_scores(entry) for entry in chosen]


def load_runs(results: Sequence[Scores]) -> tuple[list[Run | None], list[str]]:
    """Read the ``run.json`` next to each of `results`.

    Returns:
        Each run, None where the file is missing or damaged, and a warning for each damaged one.
    """
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


def _local_results(place: Path | str) -> Path:
    """Return the path of results, of a URL a copy without the masks: these are fetched by whoever asks for them (`with_file`)."""
    if not is_remote_place(place):
        return Path(place)
    folder, _, last = str(place).rstrip("/").rpartition("/")
    # Whoever names a build or a data set by mistake is told so before all of it is here.
    if not last.endswith(".parquet"):
        return local_copy(str(place), _is_read, lenient=True)
    return local_copy(folder, lambda name: name == last or _is_read(name), lenient=True) / last


def _is_read(name: str) -> bool:
    *folders, last = name.split("/")
    return (last in _READ or readout_of(last) is not None) and PARTS_NAME not in folders


def _scores_below(path: Path) -> list[Path]:
    """The files of scores at or below a path, sorted."""
    if path.is_file() and path.name in _READ and path.name != SCORES_NAME and path.with_name(SCORES_NAME).is_file():
        raise ResultsError(f"{path}: found a file that describes results; expected the results; name {path.parent}")
    if path.is_file():
        return [path]
    there = filter(_is_published, path.rglob(SCORES_NAME)) if path.is_dir() else ()
    found = sorted(scores for scores in there if not _is_merged(scores, path))
    if not found:
        state = f"found no {SCORES_NAME} in it" if path.is_dir() else "not found"
        raise ResultsError(
            f"{path}: {state}; expected results made by 'avsrobust evaluate'; "
            "run 'avsrobust evaluate --adapter visual_prior' first, or name a results folder"
        )
    return found


def _with_readouts(files: Sequence[Path]) -> Iterator[Path]:
    """Yield files of scores, each followed by those of further readouts that its ``run.json`` names."""
    for path in files:
        yield path
        named: object = None
        if path.name == SCORES_NAME and path.with_name(RUN_NAME).exists():
            with contextlib.suppress(ResultsError):
                named = read_run(path.with_name(RUN_NAME)).details.get("files")
        if isinstance(named, Mapping):
            yield from (path.with_name(name) for name in sorted(named) if readout_of(name) is not None)


def _unmerged(path: Path, shard: str) -> ResultsError:
    return ResultsError(
        f"{path}: holds shard {shard} of an evaluation: a part of the clips; put all shards together with 'avsrobust merge', and "
        "name the folder that it prints"
    )


def _is_merged(scores: Path, root: Path) -> bool:
    """Whether scores are those of a shard, and the results at or below `root` that it is a part of are there too."""
    shards = scores.parent.parent
    whole = shards.parent
    return shards.name == SHARDS_NAME and whole.is_relative_to(root) and (whole / SCORES_NAME).is_file()


def _is_published(scores: Path) -> bool:
    """Whether scores are those of a results folder, and not the unfinished ones of an interrupted evaluation."""
    return (scores.parent.parent.name, scores.parent.name) != (PARTS_NAME, NEXT_NAME)
