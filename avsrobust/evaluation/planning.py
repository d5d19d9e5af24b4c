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

import numpy as np

from avsrobust.evaluation.clip_data import ClipRows
from avsrobust.evaluation.clip_table import ClipTable, KnownRows
from avsrobust.evaluation.existing_results import ExistingResults
from avsrobust.evaluation.parts import PartStore
from avsrobust.evaluation.stored_scores import StoredScores
from avsrobust.manifest import Manifest, Row, load_manifest
from avsrobust.row_keys import ClipKey, RowKey, clip_of, key_of
from avsrobust.row_sets import RowSet, aligned, are_in
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
    due: RowSet
    wanted: RowSet
    kept: RowSet
    unfinished: bool
    classes: bool | None

    @property
    def clips_due(self) -> set[ClipKey]:
        """Clips that are run."""
        return set(self.due.clips())


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
    known = KnownRows(wanted.source)
    keys = wanted.keys(known)
    kept = stored.scores.rows if stored.scores else RowSet()
    parts = StoredScores(store.info, store.frames())
    scored = parts.rows
    masked = store.masked()
    again = RowSet()
    if save_masks:
        again |= keys - stored.masked - masked
    if stored.extras_names:
        again |= keys - stored.described - scored
    for name in stored.readout_names:
        # A damaged readout is scored again as far as requested.
        again |= keys - (stored.readouts[name].rows if name in stored.readouts else RowSet()) - scored
    sources = [*([stored.scores] if stored.scores else []), parts]
    compared = parts.rows_with_overlap | (stored.scores.rows_with_overlap if stored.scores else ())
    every = kept | scored
    clips, due = _rows_to_run(_known(manifest, known, keys, every), keys, every, compared, again)
    return EvaluationPlan(
        clips,
        due,
        keys,
        kept,
        bool(scored - kept or masked - stored.masked),
        _has_classes(sources),
    )


def failures(
    stored: ExistingResults, scored: Set[RowKey], plan: EvaluationPlan, failed: Mapping[ClipKey, str]
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
        elif rows is not None and (lacks := frozenset(key for key in rows if key not in scored)):
            left[clip] = (error, lacks)
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
    scored: Set[RowKey],
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
    parts = {*limited, *before}
    if not parts:
        return ()
    conditions = {(key[0], key[2]) for key in scored}.union(requested)
    found = set[str]()
    for row in rows:
        if row.split in parts - found and (row.split, row.condition) in conditions:
            key = key_of(row)
            if key not in scored and clip_of(key) not in failed:
                found.add(row.split)
    return tuple(sorted(found))


def _known(manifest: Manifest, known: KnownRows, wanted: RowSet, scored: RowSet) -> KnownRows:
    """Return the rows that a plan may be about: those known, or, where others of their clips were scored, the manifest's.

    The manifest's are those of the whole one where `manifest` is a selection that lacks rows scored before.
    """
    of_clips = scored.of_clips(wanted)
    if of_clips <= known.keys:
        return known
    of_manifest = KnownRows(manifest.rows)
    return of_manifest if of_clips <= of_manifest.keys else KnownRows(load_manifest(manifest.path).rows)


def _rows_to_run(
    known: KnownRows, wanted: RowSet, scored: RowSet, compared: RowSet, again: RowSet
) -> tuple[ClipTable, RowSet]:
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
    names, (of_known, of_wanted, of_scored, of_compared, of_again) = aligned(
        known.keys, wanted, scored, compared, again
    )
    if not len(names.variants):
        return known.clips(RowSet()), RowSet()
    is_wanted, is_scored, is_compared, is_again = (
        are_in(of_known, rows) for rows in (of_wanted, of_scored, of_compared, of_again)
    )
    clip, variant = np.divmod(of_known, len(names.variants))
    is_clean = names.variants_where(CLEAN)[variant]
    everywhere = len(names.split)
    # Clips that are scored, or to be scored, under clean audio: of rows that the manifest lacks too.
    has_clean, touched = np.zeros(everywhere, np.bool_), np.zeros(everywhere, np.bool_)
    for rows in (of_scored, of_wanted):
        of_clip, of_variant = np.divmod(rows, len(names.variants))
        has_clean[of_clip[names.variants_where(CLEAN)[of_variant]]] = True
    touched[of_wanted // len(names.variants)] = True
    stale = is_scored & ~is_compared & ~is_clean & ~known.is_composed & has_clean[clip] & touched[clip]
    further = is_wanted & ~is_scored
    # Keys have the order of their numbers.
    first = np.full(everywhere, np.iinfo(np.int64).max)
    np.minimum.at(first, clip[further & known.is_negative], of_known[further & known.is_negative])
    scored_negative = is_scored & known.is_negative
    stale |= scored_negative & (of_known > first[clip])
    due = further | (is_again & is_wanted) | stale
    needs_clean, needs_negatives = np.zeros(everywhere, np.bool_), np.zeros(everywhere, np.bool_)
    needs_clean[clip[due & ~is_clean]] = True
    needs_negatives[clip[due & known.is_negative]] = True
    helpers = (is_clean & (is_scored | is_wanted) & needs_clean[clip]) | (scored_negative & needs_negatives[clip])
    return known.clips(RowSet(names, of_known[due | helpers])), RowSet(names, of_known[due])


def _has_classes(sources: Sequence[StoredScores]) -> bool | None:
    """Return whether finished clips of avss have scores of classes; None: their data set does not show it."""
    known = [source.has_classes for source in sources if source.info.dataset == CLASS_DATASET and len(source.frames)]
    return known[0] if known else None
