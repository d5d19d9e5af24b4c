"""Merging shards: the results of processes that shared an evaluation become those of one that ran everything.

Conventions
    ``scores.parquet``, masks, further values and readouts get the bytes that one process would have written, whatever the number
    of shards. All n shards must be there, of one model on one build, and asked for the same splits and conditions.
    Results that the folder holds already stay where no shard has their clip; of a clip that a shard has, the shard must have all
    rows, since the masks of a clip's rows are compared with one another. The shards stay as they are, and may be added to and
    merged again. A merge that is killed is finished by the next one, as `evaluation.publishing` says.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from avsrobust.errors import ResultsError
from avsrobust.evaluation.existing_results import ExistingResults, read_existing, require_same_model
from avsrobust.evaluation.model_key import differences, evaluation_sha256, with_states
from avsrobust.evaluation.planning import Failure
from avsrobust.evaluation.provenance import content_details, requested_pairs
from avsrobust.evaluation.publishing import finish_publishing, next_folder, write_next_files
from avsrobust.evaluation.shards import Shard, shards_in
from avsrobust.evaluation.stored_scores import StoredScores, frames_of
from avsrobust.files import remove_temporaries
from avsrobust.folders import hold_output_dir, read_marker
from avsrobust.heap import release_unused
from avsrobust.remote import is_remote_place, output_folder, published
from avsrobust.remote.store import Store
from avsrobust.results import (
    EXTRAS_NAME,
    MASKS_NAME,
    PARTS_NAME,
    RESULTS_KIND,
    RUN_NAME,
    SCORES_FORMAT,
    SCORES_NAME,
    SHARDS_NAME,
    FailedClip,
    Run,
    ScoreInfo,
    read_run,
    write_run,
)
from avsrobust.row_keys import ClipKey, clip_of
from avsrobust.row_sets import RowSet
from avsrobust.vocabulary import counted

COMMAND = "avsrobust merge"
_MOST_NAMED = 3


@dataclass(frozen=True)
class MergeReport:
    """Outcome of a merge.

    Attributes:
        scores: File of statistics.
        shards: Number of shards.
        clips: Number of clips that the results hold now.
        failed: Clips that they lack because these failed.
        limited: Splits of which a smoke run scored a part.
        limited_shards: The shards that were such a smoke run.
    """

    scores: Path
    shards: int
    clips: int
    failed: tuple[FailedClip, ...]
    limited: tuple[str, ...] = ()
    limited_shards: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Part:
    """The results of one shard."""

    shard: Shard
    folder: Path
    stored: ExistingResults
    run: Run
    scores: StoredScores
    rows: RowSet

    @property
    def failed(self) -> Collection[ClipKey]:
        """Clips that failed."""
        return self.stored.failed_rows().keys()


def merge_shards(output: Path | str, *, replace: bool = False, wait: bool = False) -> MergeReport:
    """Put the shards of a results folder together.

    Args:
        output: The results folder, which holds ``shards/``.
        replace: Replace results that lie in the folder, of this model or another.
        wait: Wait until another process gives the folder up.

    Raises:
        ResultsError: A shard is missing, unfinished or damaged, or shards do not belong together.
        OptionError: The folder is in use, or holds results of another model.
    """
    with output_folder(output, COMMAND, RESULTS_KIND, wait=wait) as folder:
        report = _merge(folder, replace=replace, wait=wait)
    return dataclasses.replace(report, scores=published(report.scores))


def _merge(output: Path, *, replace: bool, wait: bool) -> MergeReport:
    found = _complete(output, shards_in(output))
    with hold_output_dir(output, RESULTS_KIND, SCORES_FORMAT, COMMAND, wait=wait):
        # Shards may be under way: what they write is theirs.
        remove_temporaries(output, but=output / SHARDS_NAME)
        finish_publishing(output)
        parts = [_read(shard, shard.folder(output)) for shard in found]
        _require_one_evaluation(parts)
        stored = _stored(output, parts, replace=replace)
        report = _publish(output, parts, stored)
        if (output / PARTS_NAME).is_dir() and not any((output / PARTS_NAME).iterdir()):
            (output / PARTS_NAME).rmdir()
    return report


def results_with_shards(place: Path | str) -> list[Path | str]:
    """Return the results folders at or below a path or URL that hold shards, sorted; of a shard, the one that it is a part of.

    Raises:
        ResultsError: There is none.
    """
    if is_remote_place(place):
        return _remote_with_shards(str(place).rstrip("/"))
    path = Path(place)
    whole = path.absolute()
    if Shard.of_folder(whole.name) is not None and whole.parent.name == SHARDS_NAME:
        return [whole.parent.parent]
    if whole.name == SHARDS_NAME and shards_in(whole.parent):
        return [whole.parent]
    found = sorted({folder.parent for folder in path.rglob(SHARDS_NAME) if shards_in(folder.parent)})
    if not found:
        raise _no_shards(path)
    return list(found)


def _remote_with_shards(url: str) -> list[Path | str]:
    """Return the URLs of the results folders with shards at or below a URL."""
    whole, _, last = url.rpartition("/")
    if Shard.of_folder(last) is not None:
        url = whole
    url = url.removesuffix(f"/{SHARDS_NAME}")
    parts = (PurePosixPath(name).parts for name in Store.open(url).listing())
    found = {
        "/".join((url, *folders[:place]))
        for folders in parts
        for place in range(len(folders) - 2)
        if folders[place] == SHARDS_NAME and Shard.of_folder(folders[place + 1]) is not None
    }
    if not found:
        raise _no_shards(url)
    return sorted(found)


def _no_shards(place: Path | str) -> ResultsError:
    return ResultsError(
        f"{place}: found no shards in it; expected results of 'avsrobust evaluate --shard i/n'; name a results folder, or one "
        "above it"
    )


def _complete(output: Path, found: Sequence[Shard]) -> list[Shard]:
    """Return the shards of a folder, which must be all there."""
    if not found:
        raise ResultsError(f"{output}: found no {SHARDS_NAME}/; expected results of 'avsrobust evaluate --shard i/n'")
    numbers = sorted({shard.of for shard in found})
    if len(numbers) > 1:
        raise ResultsError(
            f"{output / SHARDS_NAME}: holds shards of {' and of '.join(map(str, numbers))}; expected those of one division; "
            "move those away that are not to be merged"
        )
    missing = [
        Shard(numbers[0], number) for number in range(1, numbers[0] + 1) if Shard(numbers[0], number) not in found
    ]
    if missing:
        raise ResultsError(
            f"{output / SHARDS_NAME}: lacks {_names(list(map(str, missing)))}; expected all {counted(numbers[0], 'shard')}; "
            f"run 'evaluate' with --shard {missing[0]} too"
        )
    return list(found)


def _read(shard: Shard, folder: Path) -> _Part:
    """Return the results of a shard. Raises `ResultsError` where they are not whole."""
    again = f"run the same 'evaluate' with --shard {shard} again"
    marker = read_marker(folder)
    if marker != (RESULTS_KIND, SCORES_FORMAT):
        raise ResultsError(f"{folder}: was not written by avsrobust; expected results of shard {shard}; move it away")
    run = read_run(folder / RUN_NAME) if (folder / RUN_NAME).exists() else None
    if run is None or not (folder / SCORES_NAME).exists() or (folder / PARTS_NAME).exists():
        raise ResultsError(f"{folder}: shard {shard} is not finished; {again}")
    stored = read_existing(folder)
    if stored.damaged or stored.scores is None:
        raise ResultsError(f"{'; '.join(stored.damaged) or folder}: {again}")
    if stored.scores.info.shard != str(shard):
        raise ResultsError(
            f"{folder}: holds results of {stored.scores.info.shard or 'all clips'}; expected those of shard {shard}, as its name "
            "says; move it away, or back to where it was"
        )
    return _Part(shard, folder, stored, run, stored.scores, stored.scores.rows)


def _require_one_evaluation(parts: Sequence[_Part]) -> None:
    """Check that shards are of one model, were asked for the same, and share no clip."""
    first = parts[0]
    for number, part in enumerate(parts):
        if found := differences(first.stored.model_key(), _mapping(part.stored.model_key())):
            raise ResultsError(
                f"{part.folder}: is of another model or build than {first.folder}; different are: {'; '.join(found)}; evaluate "
                "all shards with the same options"
            )
        if lacks := requested_pairs(first.run) ^ requested_pairs(part.run):
            one, other = (part, first) if lacks & requested_pairs(first.run) else (first, part)
            split, condition = min(lacks & requested_pairs(other.run))
            raise ResultsError(
                f"{one.folder}: was not evaluated on split {split} under {condition}, as {other.folder} was; expected the same "
                f"splits and conditions of all shards; run 'evaluate' with --shard {one.shard} on these too"
            )
        _require_own_clips(part, parts[:number])
    filled = [part for part in parts if part.rows]
    for noun, option, held in (
        ("masks", " and --save-masks", [part.stored.masks is not None for part in filled]),
        ("further values", "", [bool(part.stored.extras_names) for part in filled]),
        ("readouts", "", [bool(part.stored.readout_names) for part in filled]),
    ):
        for one, has in zip(filled, held, strict=True):
            if not has and any(held):
                raise ResultsError(
                    f"{one.folder}: does not hold the {noun} that other shards hold; expected the same of all; run 'evaluate' "
                    f"with --shard {one.shard}{option} again"
                )


def _require_own_clips(part: _Part, before: Sequence[_Part]) -> None:
    """Check that a shard has no clip, scored or failed, of those before it."""
    failed = set(part.failed)
    for other in before:
        shared = [*part.rows.of_clips(other.rows).clips(), *failed.intersection(other.failed)]
        for failures, rows in ((failed, other.rows), (set(other.failed), part.rows)):
            shared += failures.intersection(rows.clips()) if failures else ()
        if shared:
            split, clip_id = min(shared)
            raise ResultsError(
                f"{part.folder}: holds clip {split}/{clip_id}, as {other.folder} does; expected each clip in one shard; "
                "evaluate the shards anew, from one manifest"
            )


def _stored(output: Path, parts: Sequence[_Part], *, replace: bool) -> ExistingResults:
    """Return the results that are in the folder already and are kept."""
    stored = read_existing(output, replace=replace)
    if replace:
        return ExistingResults()
    require_same_model(output, stored, _mapping(parts[0].stored.model_key()))
    if stored.damaged:
        raise ResultsError(f"{'; '.join(stored.damaged)}; restore it, or give it up with --replace")
    if stored.scores is None:
        return ExistingResults()
    rows = RowSet.union(part.rows for part in parts)
    failed: set[ClipKey] = set().union(*(part.failed for part in parts))
    left = stored.scores.rows - rows
    if lacking := left.of_clips(rows) | [key for key in left if failed and clip_of(key) in failed]:
        split, clip_id, condition, *_ = min(lacking)
        raise ResultsError(
            f"{output}: holds {counted(len(lacking), 'row')} that the shards lack, such as {split}/{clip_id} under {condition}; "
            "expected shards that hold all rows of their clips; evaluate the shards on these too, or give the rows up "
            "with --replace"
        )
    return stored


def _publish(output: Path, parts: Sequence[_Part], stored: ExistingResults) -> MergeReport:
    shards = [part.stored for part in parts]
    model_key = with_states({}, _mapping(shards[0].model_key()))
    for other in (*shards[1:], stored):
        if isinstance(other.model_key(), Mapping):
            model_key = with_states(other.model_key(), model_key)
    sources = [*(part.scores for part in parts), *([stored.scores] if stored.scores else [])]
    rows = RowSet.union([*(part.rows for part in parts), *([stored.scores.rows] if stored.scores else [])])
    failed_rows = _failures(parts, stored, rows)
    if not rows:
        (split, clip_id), (error, _) = min(failed_rows.items(), key=lambda entry: entry[0])
        raise ResultsError(
            f"{output / SHARDS_NAME}: none of {counted(len(failed_rows), 'clip')} could be scored; the first one, "
            f"{split}/{clip_id}: {error}"
        )
    failed = tuple(FailedClip(*clip, error) for clip, (error, _) in sorted(failed_rows.items()))
    limited = _limited(parts, stored)
    info = dataclasses.replace(
        parts[0].scores.info, failed=failed, limited=limited, shard="", evaluation=evaluation_sha256(model_key)
    )
    scores = _together(sources, info)
    names = sorted({name for shard in (*shards, stored) for name in shard.readouts})
    readouts = [
        _together(
            [shard.readouts[name] for shard in (*shards, stored) if name in shard.readouts], info.of_readout(name)
        )
        for name in names
    ]
    # Of rows that both hold, those of the shards count: earlier files come last.
    masks = [shard.masks for shard in (*shards, stored) if shard.masks is not None]
    extras = [shard.extras for shard in (*shards, stored) if shard.extras is not None]
    _require_described(output, rows, shards, stored)
    release_unused()
    ready = write_next_files(output, scores, ExistingResults(), masks=masks, extras=extras, readouts=readouts)
    details = {
        **_effort(parts),
        "identity": model_key,
        "evaluation": info.evaluation,
        **content_details(ready.content, failed_rows, ready.files, ready.extras),
        "shards": parts[0].shard.of,
        "runs": _runs(stored, parts),
    }
    write_run(next_folder(output) / RUN_NAME, Run(info.model, info.dataset, details))
    finish_publishing(output)
    smoke_runs = tuple(str(part.shard) for part in parts if part.scores.info.limited)
    return MergeReport(output / SCORES_NAME, len(parts), int(details["clips"]), failed, limited, smoke_runs)


def _together(sources: Sequence[StoredScores], info: ScoreInfo) -> StoredScores:
    """Return the scores of all sources, which give their frames up."""
    return StoredScores(info, frames_of((source.frames for source in sources), info, use_up=True))


def _require_described(output: Path, rows: RowSet, shards: Sequence[ExistingResults], stored: ExistingResults) -> None:
    """Check that every row has what some rows have: a mask, further values, the scores of a readout."""
    all_of = (*shards, stored)
    held = {
        MASKS_NAME: RowSet.union(found.masked for found in all_of),
        EXTRAS_NAME: RowSet.union(found.described for found in all_of),
    }
    for name, of_rows in held.items():
        if of_rows and (lacking := rows - of_rows):
            split, clip_id, condition, *_ = min(lacking)
            raise ResultsError(
                f"{output}: {counted(len(lacking), 'row')}, such as {split}/{clip_id} under {condition}, have no entry in "
                f"{name}, which others have; evaluate these again (with --save-masks for masks), or give earlier "
                "results up with --replace"
            )


def _failures(parts: Sequence[_Part], stored: ExistingResults, rows: RowSet) -> dict[ClipKey, Failure]:
    """Return all clips that lack rows because they failed."""
    before = stored.failed_rows()
    clips = {clip for part in parts for clip in part.rows.clips()} if before else set[ClipKey]()
    left = {clip: failure for clip, failure in before.items() if clip not in clips}
    for part in parts:
        left.update(part.stored.failed_rows())
    lacking = {
        clip: (error, missing and frozenset(key for key in missing if key not in rows))
        for clip, (error, missing) in left.items()
    }
    return {clip: failure for clip, failure in lacking.items() if failure[1] is None or failure[1]}


def _limited(parts: Sequence[_Part], stored: ExistingResults) -> tuple[str, ...]:
    """Return the splits of which a part of the clips was scored."""
    asked = {split for split, _ in requested_pairs(parts[0].run)}
    before = () if stored.scores is None else stored.scores.info.limited
    found = {split for part in parts for split in part.scores.info.limited}
    return tuple(sorted(found.union(split for split in before if split not in asked)))


def _effort(parts: Sequence[_Part]) -> dict[str, Any]:
    """Return the record of the shards as that of one run: the longest of their times, and all their clips."""
    last = [part.run.details for part in parts]
    seconds = max(float(details.get("wall_time_s") or 0) for details in last)
    clips = sum(int(details.get("clips_run") or 0) for details in last)
    return {
        **{key: value for key, value in last[0].items() if key != "shard"},
        "wall_time_s": seconds,
        "clips_run": clips,
        "clips_per_s": round(clips / seconds, 3) if seconds else None,
    }


def _runs(stored: ExistingResults, parts: Sequence[_Part]) -> list[Any]:
    """Return the entries of all runs, each once."""
    found: list[Any] = []
    for run in (stored.run, *(part.run for part in parts)):
        entries = None if run is None else run.details.get("runs")
        found += [entry for entry in entries or [] if entry not in found] if isinstance(entries, list) else []
    return found


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _names(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_MOST_NAMED])
    return shown if len(names) <= _MOST_NAMED else f"{shown} and {len(names) - _MOST_NAMED} more"
