"""Paired bootstrap over clips for semantic scores, with the means over classes computed anew from each resample.

Conventions
    As in `avsrobust.metrics.bootstrap`. mIoU and F over classes are no means over clips: a class's score is a mean over the
    frames it occurs in, or a ratio of sums. From the clips of each resample, with all their frames, conditions and classes, the
    sums per class are taken, and from these the scores as `semantic_scores` defines them.
    A class that no drawn clip has is treated as the protocol treats a class that no clip has: skipped in the mean
    (strict, pooled) or 0 in it (avsbench). Resamples of rare classes therefore scatter around a lower mean than the scores
    themselves under avsbench; for both models alike, so that it enters differences in proportion.
    mIoU and F are the protocol's headline. Fractions; undefined is NaN in arrays and None in results.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from avsrobust.errors import MetricInputError
from avsrobust.metrics import ratios
from avsrobust.metrics.binary.frames import ScoredFrames
from avsrobust.metrics.bootstrap import (
    G_CONDITIONS,
    Conditions,
    PairedDifference,
    common_clips,
    resampled_differences,
)
from avsrobust.metrics.dataset_score import ConditionKey, conditions_of
from avsrobust.metrics.intervals import ScoreIntervals, part_intervals, score_intervals
from avsrobust.metrics.resampling import DEFAULT_RESAMPLES, ClipTerms, Clusters, Resampling, clusters_of
from avsrobust.metrics.rows import Flags, Floats, Ints, Rows, Strings, rows_under
from avsrobust.metrics.semantic.counts import ClassStatistics
from avsrobust.metrics.semantic.protocols import SemanticProtocol
from avsrobust.metrics.semantic.scores import rows_of
from avsrobust.vocabulary import BACKGROUND, NUM_CLASSES

_PER_CLASS = 3
_TERMS = _PER_CLASS * NUM_CLASSES + 2
# Classes whose resampled scores are in memory at once.
_CLASSES_AT_ONCE = 8


@dataclass(frozen=True)
class SemanticSums:
    """Terms that each of R rows (clip, condition, level) adds to the scores over classes.

    Attributes:
        protocol: The protocol.
        clip: Clip of each row, int64 [R].
        condition: Condition of each row, str [R].
        level: Level of each row in dB, float64 [R]; NaN where it has none.
        negative: Whether none of the picture's objects makes the sound, bool [R].
        terms: float64 [R, 215]: three sums for each of 71 classes (of IoU, of F, and the number of frames; where the protocol
            pools pixels: intersection, predicted, target), then numerator and denominator of FPR.
        shares: Term that a row adds to the share of pixels given each class, float64 [R, 71]; the denominator is that of FPR.
            None: not known, and single classes have no intervals.
    """

    protocol: SemanticProtocol
    clip: Ints
    condition: Strings
    level: Floats
    negative: Flags
    terms: Floats
    shares: Floats | None = None


def semantic_sums(classes: ClassStatistics, frames: ScoredFrames, protocol: SemanticProtocol) -> SemanticSums:
    """Return the terms of every row.

    Args:
        classes: Pixels per class and frame.
        frames: Clip and condition of the same frames.
        protocol: The protocol.

    Raises:
        MetricInputError: `classes` and `frames` are not of the same frames.
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
    clips = rows.clips
    shares = _shares(classes, rows, row_of_frame[classes.frame], protocol)
    return SemanticSums(
        protocol,
        clips.clip,
        clips.condition,
        clips.level,
        clips.negative,
        rows.over_draws(terms),
        rows.over_draws(shares),
    )


def paired_semantic_bootstraps(
    a: SemanticSums,
    b: SemanticSums,
    statistics: Sequence[str],
    samples: int,
    generator: np.random.Generator,
    conditions: Conditions = G_CONDITIONS,
) -> tuple[PairedDifference, ...]:
    """Return the differences of several statistics over classes between two models, all from the same resamples.

    Args:
        a: Sums of one model.
        b: Sums of the other model, under the same protocol.
        statistics: Keys of `bootstrap.statistics_of(conditions)`.
        samples: Number of resamples.
        generator: Source of the draws.
        conditions: The conditions that count; a clip without any of them is not drawn.

    Raises:
        OptionError: A statistic is unknown.
        MetricInputError: The two are not of one protocol.
    """
    clips = common_clips(a, b)
    (terms_a, has_a), (terms_b, has_b) = (_table(sums, clips, conditions) for sums in (a, b))
    common = has_a & has_b
    counted = common.any(axis=1)
    tables = [
        (terms * common[:, :, None])[counted].reshape(-1, len(conditions) * _TERMS) for terms in (terms_a, terms_b)
    ]
    negative = np.array([_is_negative(a, key) or _is_negative(b, key) for key in conditions.values()], dtype=np.bool_)

    def scores_of(draws: Floats) -> Floats:
        # One product per model, of one shape: equal results give equal bits, and no difference where there is none.
        both = [
            _scores((draws @ table).reshape(len(draws), len(conditions), _TERMS), negative, a.protocol)
            for table in tables
        ]
        return np.stack(both, axis=1)

    return resampled_differences(scores_of, int(np.count_nonzero(counted)), statistics, samples, generator, conditions)


def _is_negative(sums: SemanticSums, key: ConditionKey) -> bool:
    """Whether a condition has rows of negative polarity."""
    return bool(sums.negative[rows_under(sums.condition, sums.level, key)].any())


def _averaged(classes: ClassStatistics, rows: Rows, row: Ints, protocol: SemanticProtocol) -> Floats:
    """Sums over frames of IoU and F per class and their number, float64 [R, 3, 71]; `row` [K] is each entry's."""
    # As in `semantic.scores`: under a negative condition strict counts a class only where it is true.
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


def _shares(classes: ClassStatistics, rows: Rows, row: Ints, protocol: SemanticProtocol) -> Floats:
    """Numerators of the share of pixels that are given each class, float64 [R, 71]; `row` [K] is each entry's."""
    predicted = classes.predicted.astype(np.float64)
    if protocol.average == "pixels":
        return _per_row_and_class(classes, rows, row, predicted)
    share = predicted / (classes.pixels[classes.frame] * rows.frames[row])
    return _per_row_and_class(classes, rows, row, share)


def _per_row_and_class(classes: ClassStatistics, rows: Rows, row: Ints, values: Floats) -> Floats:
    """Sums of `values` [K] per row and class, float64 [R, 71]."""
    bins = row * NUM_CLASSES + classes.class_id
    sums = np.bincount(bins, weights=values, minlength=len(rows) * NUM_CLASSES)
    return np.asarray(sums, dtype=np.float64).reshape(len(rows), NUM_CLASSES)


def _false_positives(classes: ClassStatistics, rows: Rows, row_of_frame: Ints, protocol: SemanticProtocol) -> Floats:
    """Numerator and denominator of the share of pixels given any class but background, float64 [R, 2]."""
    activated = classes.pixels - classes.of_class("predicted", BACKGROUND)

    def per_row(values: Ints | Floats) -> Floats:
        return np.asarray(np.bincount(row_of_frame, weights=values, minlength=len(rows)), dtype=np.float64)

    if protocol.average == "pixels":
        return np.stack([per_row(activated), per_row(classes.pixels)], axis=1)
    return np.stack([per_row(activated / classes.pixels) / rows.frames, np.ones(len(rows))], axis=1)


def _table(sums: SemanticSums, clips: Ints, conditions: Conditions) -> tuple[Floats, Flags]:
    """The rows of `clips` as [clips, C conditions, 215], and which of them there are, [clips, C]."""
    terms = np.zeros((len(clips), len(conditions), _TERMS))
    has_row = np.zeros((len(clips), len(conditions)), dtype=np.bool_)
    for position, key in enumerate(conditions.values()):
        chosen = rows_under(sums.condition, sums.level, key) & np.isin(sums.clip, clips)
        index = np.searchsorted(clips, sums.clip[chosen])
        terms[index, position] = sums.terms[chosen]
        has_row[index, position] = True
    return terms, has_row


def _scores(totals: Floats, negative: Flags, protocol: SemanticProtocol) -> Floats:
    """mIoU, F and FPR of totals [R, C conditions, 215]: float64 [R, C, 3], NaN where undefined; `negative` is bool [C]."""
    per_class = totals[..., :-2].reshape(*totals.shape[:-1], _PER_CLASS, NUM_CLASSES)
    of_classes = _pooled_scores if protocol.average == "pixels" else _averaged_scores
    has_row = totals[..., -1] > 0
    means = [_mean(values, has_row, protocol) for values in of_classes(per_class, negative, protocol)]
    # Sums of rounded shares may end above 1.
    return np.stack([*means, np.minimum(_ratio(totals[..., -2], totals[..., -1]), 1)], axis=-1)


def _averaged_scores(sums: Floats, negative: Flags, protocol: SemanticProtocol) -> tuple[Floats, Floats]:
    """IoU and F per class, means over frames."""
    return _ratio(sums[..., 0, :], sums[..., 2, :]), _ratio(sums[..., 1, :], sums[..., 2, :])


def _pooled_scores(sums: Floats, negative: Flags, protocol: SemanticProtocol) -> tuple[Floats, Floats]:
    """IoU and F per class, ratios of sums."""
    both, predicted, target = (sums[..., position, :] for position in range(_PER_CLASS))
    union = predicted + target - both
    # As in `semantic.scores`: under a negative condition a class counts only where it is true.
    present = np.where(negative[:, None], target > 0, union > 0)
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
    """The ratio; NaN where the denominator is 0."""
    ratio: Floats = np.divide(above, below, out=np.full(above.shape, np.nan), where=below > 0)
    return ratio


def semantic_terms(sums: SemanticSums, clips: Ints, conditions: Conditions) -> ClipTerms:
    """Return the terms that some clips add to a model's scores under some conditions.

    Args:
        sums: The model's sums.
        clips: Numbers of N clips, sorted; some may have no row.
        conditions: The C conditions.
    """
    terms, has_row = _table(sums, clips, conditions)
    negative = np.array([_is_negative(sums, key) for key in conditions.values()], dtype=np.bool_)
    return ClipTerms(terms, has_row, lambda totals: _scores(totals, negative, sums.protocol))


def semantic_intervals(
    sums: SemanticSums,
    clusters: Sequence[Hashable] | Clusters,
    negatives: Sequence[str],
    samples: int = DEFAULT_RESAMPLES,
    resampling_of: Callable[[Clusters], Resampling] | None = None,
) -> ScoreIntervals:
    """Return the 95 % interval of a model's means over classes under every condition, and of its G scores.

    Args:
        sums: The model's sums.
        clusters: ``clusters[i]`` is the cluster of clip i by its video; or all clips' clusters.
        negatives: The negative conditions that the G scores average over.
        samples: Number of resamples.
        resampling_of: Returns the resamples of the clips that count, to share them between models; None: new ones.
    """
    keys = list(dict.fromkeys(key[:2] for key in conditions_of(sums)))
    clips = np.unique(sums.clip)
    found = semantic_terms(sums, clips, {str(number): key for number, key in enumerate(keys)})
    counted = clusters_of(clusters).take(clips)
    resampling = Resampling(counted, samples) if resampling_of is None else resampling_of(counted)
    return score_intervals(found.terms, resampling, found.scores_of, keys, negatives)


def class_intervals(
    sums: SemanticSums,
    clusters: Sequence[Hashable] | Clusters,
    negatives: Sequence[str],
    class_ids: Sequence[int],
    samples: int = DEFAULT_RESAMPLES,
    resampling_of: Callable[[Clusters], Resampling] | None = None,
) -> dict[int, ScoreIntervals]:
    """Return the 95 % intervals of the scores of single classes, by class, as `SemanticScores.of_class` has the scores.

    All clips are drawn, as for the means over classes, a few classes at a time. IoU and F of a class are undefined in resamples
    that drew no clip with it, which do not count; their intervals are widened for the clusters that have it, and there is none
    for a class of a single cluster.

    Args:
        sums: The model's sums.
        clusters: ``clusters[i]`` is the cluster of clip i by its video; or all clips' clusters.
        negatives: The negative conditions that the G scores average over.
        class_ids: The classes.
        samples: Number of resamples.
        resampling_of: Returns the resamples of the clips that count, to share them between models; None: new ones.

    Raises:
        MetricInputError: `sums` have no shares.
    """
    if sums.shares is None:
        raise MetricInputError("sums: found no shares of classes; expected those of semantic_sums")
    keys = list(dict.fromkeys(key[:2] for key in conditions_of(sums)))
    clips = np.unique(sums.clip)
    counted = clusters_of(clusters).take(clips)
    resampling = Resampling(counted, samples) if resampling_of is None else resampling_of(counted)
    negative = np.array([_is_negative(sums, key) for key in keys], dtype=np.bool_)
    found: dict[int, ScoreIntervals] = {}
    for first in range(0, len(class_ids), _CLASSES_AT_ONCE):
        chosen = list(class_ids[first : first + _CLASSES_AT_ONCE])
        terms = _class_table(sums, sums.shares, clips, keys, chosen)
        # Frames, or pixels of the target, and sums of F or predicted pixels: all 0 where a clip has no say in a class.
        per_class = terms[:, :, :-1].reshape(len(clips), len(keys), _PER_CLASS + 1, len(chosen))
        has_class = np.any(per_class[:, :, 1:_PER_CLASS] > 0, axis=(1, 2))
        scores_of = partial(_class_scores, chosen=chosen, negative=negative, protocol=sums.protocol)
        found |= dict(
            zip(chosen, part_intervals(terms, resampling, scores_of, keys, negatives, has_class), strict=True)
        )
    return found


def _class_table(
    sums: SemanticSums, shares: Floats, clips: Ints, keys: Sequence[ConditionKey], chosen: Sequence[int]
) -> Floats:
    """The rows of `clips` as [clips, C conditions, 4 * K + 1]: the sums of K classes, their shares, the denominator of FPR."""
    terms = np.zeros((len(clips), len(keys), (_PER_CLASS + 1) * len(chosen) + 1))
    for position, key in enumerate(keys):
        rows = rows_under(sums.condition, sums.level, key)
        per_class = sums.terms[rows, :-2].reshape(-1, _PER_CLASS, NUM_CLASSES)[:, :, chosen]
        parts = (per_class.reshape(len(per_class), -1), shares[rows][:, chosen], sums.terms[rows, -1:])
        terms[np.searchsorted(clips, sums.clip[rows]), position] = np.concatenate(parts, axis=1)
    return terms


def _class_scores(totals: Floats, chosen: Sequence[int], negative: Flags, protocol: SemanticProtocol) -> Floats:
    """IoU, F and FPR of K classes, float64 [R, K, C conditions, 3], of totals [R, C, 4 * K + 1] as in `_class_table`."""
    per_class = totals[..., :-1].reshape(*totals.shape[:-1], _PER_CLASS + 1, len(chosen))
    of_classes = _pooled_scores if protocol.average == "pixels" else _averaged_scores
    iou, f = of_classes(per_class[..., :_PER_CLASS, :], negative, protocol)
    share = np.minimum(_ratio(per_class[..., _PER_CLASS, :], np.broadcast_to(totals[..., -1:], iou.shape)), 1)
    # Background activates nothing.
    share[..., [class_id == BACKGROUND for class_id in chosen]] = np.nan
    return np.moveaxis(np.stack([iou, f, share], axis=-1), 2, 1)
