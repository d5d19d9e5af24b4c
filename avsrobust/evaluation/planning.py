"""The plan of an evaluation: which rows its folder holds already, and which clips must be run for the rest.

Conventions
    A row is kept, due, or neither: kept rows were finished in an earlier evaluation; due rows come of the clips that are run now;
    rows that were not requested and are not kept are no part of it.
    The overlap with the clean mask is defined wherever the clip is scored under clean audio, in whatever order that came about:
    a row without it, whose clip is now evaluated under clean audio too, is evaluated again together with that.
    The overlaps of a clip's negatives with one another are defined likewise (`avsrobust.mask_overlaps`): with a further negative
    the clip's other ones are run too, and those whose keys follow it are due. Negatives of older results, which lack these
    overlaps, are not run for their sake alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass

from avsrobust.evaluation.clip_data import ClipRows
from avsrobust.evaluation.clip_table import ClipTable, KnownRows
from avsrobust.evaluation.existing_results import ExistingResults
from avsrobust.evaluation.parts import PartStore
from avsrobust.evaluation.stored_scores import StoredScores
from avsrobust.manifest import Manifest, Row, load_manifest
from avsrobust.row_keys import ClipKey, RowKey, clip_of, key_of
from avsrobust.stored_masks import rows_of_masks
from avsrobust.vocabulary import CLASS_DATASET, CLEAN

# Error and rows of a clip that failed; None where it is not known which rows.
Failure = tuple[str, frozenset[RowKey] | None]


@dataclass(frozen=True)
class EvaluationPlan:
    """The clips to run, and the rows that an evaluation is about.

    Attributes:
        clips: Clips to run, each with the rows that it is run under, made when they are asked for.
        due: Rows that come of these clips.
        wanted: Rows requested.
        kept: Rows of an earlier evaluation.
        unfinished: An interrupted evaluation has left something that is not among the results yet.
        classes: Whether the adapter returned classes so far; None: not known.
    """

    clips: Sequence[ClipRows]
    due: frozenset[RowKey]
    wanted: frozenset[RowKey]
    kept: frozenset[RowKey]
    unfinished: bool
    classes: bool | None

    @property
    def clips_due(self) -> set[ClipKey]:
        """Clips that are run."""
        return {clip_of(key) for key in self.due}


def plan_evaluation(
    manifest: Manifest, wanted: ClipTable, stored: ExistingResults, store: PartStore, *, save_masks: bool
) -> EvaluationPlan:
    """Return the plan for some rows.

    Args:
        manifest: The build, whole or a selection.
        wanted: Clips requested, with the rows requested of each.
        stored: Results in the folder.
        store: Parts of an interrupted evaluation.
        save_masks: Rows without a stored mask are run again.
    """
    # Keys are made once and shared: there are as many as rows.
    known = KnownRows(wanted.source)
    keys = wanted.keys(known)
    kept = stored.scores.rows if stored.scores else set[RowKey]()
    parts = StoredScores(store.info, store.frames())
    scored = parts.rows
    masked: set[RowKey] = set().union(*map(rows_of_masks, store.mask_files()))
    again: set[RowKey] = set()
    if save_masks:
        again |= keys - stored.masked - masked
    if stored.extras_names:
        again |= keys - stored.described - scored
    for name in stored.readout_names:
        # A damaged readout is scored again as far as requested.
        again |= keys - (stored.readouts[name].rows if name in stored.readouts else set()) - scored
    sources = [*([stored.scores] if stored.scores else []), parts]
    compared = parts.rows_with_overlap.union(stored.scores.rows_with_overlap if stored.scores else ())
    every = kept | scored
    clips, due = _rows_to_run(_known(manifest, known, keys, every), keys, every, compared, again)
    return EvaluationPlan(
        clips,
        frozenset(due),
        frozenset(keys),
        frozenset(kept),
        bool(scored - kept or masked - stored.masked),
        _has_classes(sources),
    )


def failures(
    stored: ExistingResults, scored: set[RowKey], plan: EvaluationPlan, failed: Mapping[ClipKey, str]
) -> dict[ClipKey, Failure]:
    """Return all clips that lack rows because they failed, in this evaluation or an earlier one.

    Args:
        stored: Results that were in the folder.
        scored: Rows that are scored now.
        plan: Plan of this evaluation.
        failed: Errors of the clips that failed in this evaluation.
    """
    left: dict[ClipKey, Failure] = {}
    for clip, (error, rows) in stored.failed_rows().items():
        if rows is None and clip not in plan.clips_due:
            left[clip] = (error, None)
        elif rows is not None and rows - scored:
            left[clip] = (error, rows - scored)
    lacking: dict[ClipKey, set[RowKey]] = {clip: set() for clip in failed}
    for key in plan.due if failed else ():
        if clip_of(key) in lacking and key not in scored:
            lacking[clip_of(key)].add(key)
    for clip, error in failed.items():
        missing = frozenset(lacking[clip])
        before = left[clip][1] if clip in left else None
        if missing or before:
            left[clip] = (error, missing | (before or frozenset()))
    return left


def limited_splits(
    rows: Iterable[Row],
    limited: Sequence[str],
    stored: ExistingResults,
    scored: set[RowKey],
    failed: Mapping[ClipKey, Failure],
    requested: Collection[tuple[str, str]] = (),
) -> tuple[str, ...]:
    """Return the splits of which a smoke run scored a part of the clips, sorted: now, or before and not completed since.

    Args:
        rows: Rows of the build, or of the shard of it that the results are of.
        limited: Splits that this evaluation runs in part.
        stored: Results that were in the folder.
        scored: Rows that are scored now.
        failed: Clips that lack rows because they failed.
        requested: Splits and conditions that rows are expected of even where none is scored.
    """
    before = () if stored.scores is None else stored.scores.info.limited
    conditions = {(key[0], key[2]) for key in scored}.union(requested)
    parts = {*limited, *before}
    found = set[str]()
    for row in rows if parts else ():
        if row.split in parts - found and (row.split, row.condition) in conditions:
            key = key_of(row)
            if key not in scored and clip_of(key) not in failed:
                found.add(row.split)
    return tuple(sorted(found))


def _known(manifest: Manifest, known: KnownRows, wanted: set[RowKey], scored: set[RowKey]) -> KnownRows:
    """Return the rows that a plan may be about: those known, or, where others of their clips were scored, the manifest's.

    The manifest's are those of the whole one where `manifest` is a selection that lacks rows scored before.
    """
    clips = {clip_of(key) for key in wanted} if scored else set()
    of_clips = {key for key in scored if clip_of(key) in clips}
    if of_clips <= known.position.keys():
        return known
    of_manifest = KnownRows(manifest.rows)
    return of_manifest if of_clips <= of_manifest.position.keys() else KnownRows(load_manifest(manifest.path).rows)


def _rows_to_run(
    known: KnownRows,
    wanted: Collection[RowKey],
    scored: Set[RowKey],
    compared: Set[RowKey],
    again: Collection[RowKey] = (),
) -> tuple[ClipTable, set[RowKey]]:
    """Return the clips to run, each with its rows, and the keys of those rows that results come of.

    A clip that is (or is to be) scored under clean audio is run under it too, first, for the overlap; a clip that is run under
    a negative is run under those that it is scored under.

    Args:
        known: Rows of the manifest.
        wanted: Keys of the rows requested.
        scored: Keys of rows that are scored.
        compared: Those of them that are compared with the clean mask.
        again: Keys of rows that are scored but lack something else that is requested.
    """
    clean = {clip_of(key): key for key in (*scored, *wanted) if key[2] == CLEAN}
    touched = {clip_of(key) for key in wanted}
    stale = {
        key
        for key in scored - compared
        if key in known
        and key[2] != CLEAN
        and not known.is_composed(key)
        and clip_of(key) in clean
        and clip_of(key) in touched
    }
    further = {key for key in wanted if key not in scored and key in known}
    first: dict[ClipKey, RowKey] = {}
    for key in further:
        if known.is_negative(key):
            first[clip_of(key)] = min(key, first.get(clip_of(key), key))
    scored_negatives = {key for key in scored if key in known and known.is_negative(key)}
    stale |= {key for key in scored_negatives if clip_of(key) in first and key > first[clip_of(key)]}
    due = further | {key for key in again if key in wanted and key in known} | stale
    helpers = {clean[clip_of(key)] for key in due if key[2] != CLEAN and clip_of(key) in clean}
    compared_clips = {clip_of(key) for key in due if known.is_negative(key)}
    helpers |= {key for key in scored_negatives if clip_of(key) in compared_clips}
    return known.clips(due | {key for key in helpers if key in known}), due


def _has_classes(sources: Sequence[StoredScores]) -> bool | None:
    """Return whether finished clips of avss have scores of classes; None: their data set does not show it."""
    known = [source.has_classes for source in sources if source.info.dataset == CLASS_DATASET and len(source.frames)]
    return known[0] if known else None
