"""Is one model better than another by class? A paired bootstrap over clips, with the data set's scores computed anew.

Conventions
    mIoU and F over classes are no means over clips: a class's score is a mean over the frames it occurs in, or a ratio of sums.
    What is resampled are clips, with all their frames, conditions and classes, the same draw for both models; of each resample
    the sums per class are taken, and from these the scores as `semantic_scores` defines them. Only rows that both models have
    count. A class that no drawn clip has is treated as the protocol treats a class that no clip has: left out of the mean
    (strict, pooled) or 0 in it (avsbench). Resamples of rare classes therefore scatter around a lower mean than the scores
    themselves under avsbench; for both models alike, so that it enters differences in proportion.
    mIoU and F are the protocol's headline. Fractions; undefined is NaN in arrays and None in results.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from avsrobust.metrics import ratios
from avsrobust.metrics.bootstrap import CONDITIONS, PairedDifference, common_clips, resampled_differences
from avsrobust.metrics.rows import Flags, Floats, Ints, Rows, ScoredFrames, Strings
from avsrobust.metrics.semantic.counts import ClassStatistics
from avsrobust.metrics.semantic.protocols import SemanticProtocol
from avsrobust.metrics.semantic.scores import rows_of
from avsrobust.vocabulary import BACKGROUND, CLEAN, NUM_CLASSES

_PER_CLASS = 3
_TERMS = _PER_CLASS * NUM_CLASSES + 2
# Conditions beside clean, along the axis of conditions.
_NEGATIVE = np.array([name != CLEAN for name in CONDITIONS])


@dataclass(frozen=True)
class SemanticSums:
    """What each of R rows adds to the scores over classes: `clip` int64 [R], `condition` str [R], `terms` float64 [R, 215].

    Only rows of clean and the three negatives, without levels. `terms`: three sums for each of 71 classes (of IoU, of F, and
    how many frames; where the protocol pools pixels: intersection, predicted, target), then numerator and denominator of FPR.
    """

    protocol: SemanticProtocol
    clip: Ints
    condition: Strings
    terms: Floats


def semantic_sums(classes: ClassStatistics, frames: ScoredFrames, protocol: SemanticProtocol) -> SemanticSums:
    """Return the sums of every row of `frames`, which are the frames of `classes`.

    Raises `MetricInputError` where the two are not of the same frames.
    """
    rows = rows_of(classes, frames)
    row_of_frame = rows.of_frame
    per_class = _pooled if protocol.average == "pixels" else _averaged
    terms = np.concatenate(
        [
            per_class(classes, rows, row_of_frame[classes.frame], protocol).reshape(len(rows), -1),
            _false_positives(classes, rows, row_of_frame, protocol),
        ],
        axis=1,
    )
    kept = np.isnan(rows.level) & np.isin(rows.condition, CONDITIONS)
    return SemanticSums(protocol, rows.clip[kept], rows.condition[kept], terms[kept])


def paired_semantic_bootstraps(
    a: SemanticSums, b: SemanticSums, statistics: Sequence[str], samples: int, generator: np.random.Generator
) -> tuple[PairedDifference, ...]:
    """Return the differences of several statistics over classes between two models, over their common clips.

    `statistics` are keys of `bootstrap.STATISTICS` or `bootstrap.CONDITION_STATISTICS`; all are of the same resamples.
    Raises `OptionError` for an unknown statistic, `MetricInputError` where the two do not fit together.
    """
    clips = common_clips(a, b)
    (terms_a, has_a), (terms_b, has_b) = _table(a, clips), _table(b, clips)
    common = has_a & has_b
    counted = common.any(axis=1)
    tables = [
        (terms * common[:, :, None])[counted].reshape(-1, len(CONDITIONS) * _TERMS) for terms in (terms_a, terms_b)
    ]

    def scores_of(draws: Floats) -> Floats:
        # One product per model, of one shape: equal results give equal bits, and no difference where there is none.
        both = [_scores((draws @ table).reshape(len(draws), len(CONDITIONS), _TERMS), a.protocol) for table in tables]
        return np.stack(both, axis=1)

    return resampled_differences(scores_of, int(np.count_nonzero(counted)), statistics, samples, generator)


def _averaged(classes: ClassStatistics, rows: Rows, row: Ints, protocol: SemanticProtocol) -> Floats:
    """Sums over frames of IoU and F per class and their number, float64 [R, 3, 71]; `row` [K] is each entry's."""
    # As in `semantic`: under a negative condition strict counts a class only where it is true.
    counted = np.ones(len(classes), dtype=np.bool_)
    if protocol.classes == "present":
        counted = ~rows.negative[row] | (classes.target > 0)
    f = ratios.f_measure(classes.intersection, classes.predicted, classes.target, protocol.beta2)
    values = (classes.intersection / classes.union, f, np.ones(len(classes)))
    sums = np.stack([_per_row_and_class(classes, rows, row, value * counted) for value in values], axis=1)
    if protocol.padded_to is not None:
        sums[:, :, BACKGROUND] += np.maximum(protocol.padded_to - rows.frames, 0)[:, None]
    return sums


def _pooled(classes: ClassStatistics, rows: Rows, row: Ints, protocol: SemanticProtocol) -> Floats:
    """Sums of pixels in both, in the prediction and in the target per class, float64 [R, 3, 71]."""
    counts = (classes.intersection, classes.predicted, classes.target)
    return np.stack([_per_row_and_class(classes, rows, row, count.astype(np.float64)) for count in counts], axis=1)


def _per_row_and_class(classes: ClassStatistics, rows: Rows, row: Ints, values: Floats) -> Floats:
    places = row * NUM_CLASSES + classes.class_id
    sums = np.bincount(places, weights=values, minlength=len(rows) * NUM_CLASSES)
    return np.asarray(sums, dtype=np.float64).reshape(len(rows), NUM_CLASSES)


def _false_positives(classes: ClassStatistics, rows: Rows, row_of_frame: Ints, protocol: SemanticProtocol) -> Floats:
    """Numerator and denominator of the share of pixels given any class but background, float64 [R, 2]."""
    activated = classes.pixels - classes.of_class("predicted", BACKGROUND)

    def per_row(values: Ints | Floats) -> Floats:
        return np.asarray(np.bincount(row_of_frame, weights=values, minlength=len(rows)), dtype=np.float64)

    if protocol.average == "pixels":
        return np.stack([per_row(activated), per_row(classes.pixels)], axis=1)
    return np.stack([per_row(activated / classes.pixels) / rows.frames, np.ones(len(rows))], axis=1)


def _table(sums: SemanticSums, clips: Ints) -> tuple[Floats, Flags]:
    """The rows of `clips` as [clips, 4 conditions, 215], and which of them there are, [clips, 4]."""
    terms = np.zeros((len(clips), len(CONDITIONS), _TERMS))
    has_row = np.zeros((len(clips), len(CONDITIONS)), dtype=np.bool_)
    for position, name in enumerate(CONDITIONS):
        chosen = (sums.condition == name) & np.isin(sums.clip, clips)
        index = np.searchsorted(clips, sums.clip[chosen])
        terms[index, position] = sums.terms[chosen]
        has_row[index, position] = True
    return terms, has_row


def _scores(totals: Floats, protocol: SemanticProtocol) -> Floats:
    """mIoU, F and FPR of totals [R, 4 conditions, 215]: float64 [R, 4, 3], NaN where undefined."""
    per_class = totals[..., :-2].reshape(*totals.shape[:-1], _PER_CLASS, NUM_CLASSES)
    of = _pooled_scores if protocol.average == "pixels" else _averaged_scores
    has_row = totals[..., -1] > 0
    means = [_mean(values, has_row, protocol) for values in of(per_class, protocol)]
    # Sums of rounded shares may end above 1.
    return np.stack([*means, np.minimum(_ratio(totals[..., -2], totals[..., -1]), 1)], axis=-1)


def _averaged_scores(sums: Floats, protocol: SemanticProtocol) -> tuple[Floats, Floats]:
    return _ratio(sums[..., 0, :], sums[..., 2, :]), _ratio(sums[..., 1, :], sums[..., 2, :])


def _pooled_scores(sums: Floats, protocol: SemanticProtocol) -> tuple[Floats, Floats]:
    # Sums of counts are whole numbers in float64 too.
    both, predicted, target = (sums[..., position, :].astype(np.int64) for position in range(_PER_CLASS))
    union = predicted + target - both
    # As in `semantic`: under a negative condition a class counts only where it is true.
    present = np.where(_NEGATIVE[:, None], target > 0, union > 0)
    above, below = ratios.f_terms(both, predicted, target, protocol.beta2)
    return _ratio(both, np.where(present, union, 0)), _ratio(above, np.where(present, below, 0))


def _mean(scores: Floats, has_row: Flags, protocol: SemanticProtocol) -> Floats:
    """The headline's mean over classes of scores [..., 71]; NaN without a row, or without a class that counts."""
    if protocol.headline == "without background":
        scores = np.delete(scores, protocol.background, axis=-1)
    defined = ~np.isnan(scores)
    total = np.where(defined, scores, 0).sum(axis=-1)
    count = np.full(total.shape, scores.shape[-1]) if protocol.classes == "all" else defined.sum(axis=-1)
    return _ratio(total, np.where(has_row, count, 0))


def _ratio(above: Floats | Ints, below: Floats | Ints) -> Floats:
    ratio: Floats = np.divide(above, below, out=np.full(above.shape, np.nan), where=below > 0)
    return ratio
