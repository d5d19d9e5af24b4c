"""Paired bootstrap over clips for binary scores.

Conventions
    As in `avsrobust.metrics.bootstrap`. Scores are those of `ClipScores`: sums of numerators over sums of denominators.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence

import numpy as np

from avsrobust.metrics.binary.clip_scores import ClipScores
from avsrobust.metrics.bootstrap import (
    G_CONDITIONS,
    Conditions,
    PairedDifference,
    common_clips,
    resampled_differences,
)
from avsrobust.metrics.dataset_score import MEASURES, conditions_of
from avsrobust.metrics.intervals import ScoreIntervals, score_intervals
from avsrobust.metrics.resampling import DEFAULT_RESAMPLES, ClipTerms, Clusters, Resampling, clusters_of
from avsrobust.metrics.rows import Flags, Floats, Ints, rows_under


def paired_bootstrap(
    a: ClipScores, b: ClipScores, statistic: str, samples: int, generator: np.random.Generator
) -> PairedDifference:
    """Return the difference of a statistic between two models over their common clips.

    Args:
        a: Scores of one model.
        b: Scores of the other model, under the same protocol.
        statistic: A key of `bootstrap.STATISTICS` or `bootstrap.CONDITION_STATISTICS`.
        samples: Number of resamples.
        generator: Source of the draws.

    Raises:
        OptionError: The statistic is unknown.
        MetricInputError: The two are not of one protocol.
    """
    return paired_bootstraps(a, b, [statistic], samples, generator)[0]


def paired_bootstraps(
    a: ClipScores,
    b: ClipScores,
    statistics: Sequence[str],
    samples: int,
    generator: np.random.Generator,
    conditions: Conditions = G_CONDITIONS,
) -> tuple[PairedDifference, ...]:
    """Return the differences of several statistics between two models, all from the same resamples.

    Args:
        a: Scores of one model.
        b: Scores of the other model, under the same protocol.
        statistics: Keys of `bootstrap.statistics_of(conditions)`.
        samples: Number of resamples.
        generator: Source of the draws.
        conditions: The conditions that count; a clip without any of them is not drawn.

    Raises:
        OptionError: A statistic is unknown.
        MetricInputError: The two are not of one protocol.
    """
    sums = _common_sums(a, b, conditions)
    return resampled_differences(
        lambda draws: _scores(sums, draws), len(sums), statistics, samples, generator, conditions
    )


def _common_sums(a: ClipScores, b: ClipScores, conditions: Conditions) -> Floats:
    """Numerators and denominators of the common rows, [clips, 2 terms, 2 models, C conditions, 3 measures]."""
    clips = common_clips(a, b)
    (terms_a, has_a), (terms_b, has_b) = (_table(scores, clips, conditions) for scores in (a, b))
    common = has_a & has_b
    terms: Floats = np.stack([terms_a, terms_b], axis=2) * common[:, None, None, :, None]
    return terms[common.any(axis=1)]


def _table(scores: ClipScores, clips: Ints, conditions: Conditions) -> tuple[Floats, Flags]:
    """The rows of `clips` as [clips, 2 terms, C conditions, 3 measures], and which of them count, [clips, C]."""
    terms = np.zeros((len(clips), 2, len(conditions), len(MEASURES)))
    has_row = np.zeros((len(clips), len(conditions)), dtype=np.bool_)
    usable = np.isin(scores.clip, clips) & ~scores.skipped
    for position, key in enumerate(conditions.values()):
        chosen = rows_under(scores.condition, scores.level, key) & usable
        index = np.searchsorted(clips, scores.clip[chosen])
        terms[index, 0, position] = scores.numerator[chosen]
        terms[index, 1, position] = scores.denominator[chosen]
        has_row[index, position] = True
    return terms, has_row


def _ratio(sums: Floats) -> Floats:
    """Numerators [2, ...] over denominators: NaN where the denominator is 0."""
    ratio: Floats = np.divide(sums[0], sums[1], out=np.full_like(sums[0], np.nan), where=sums[1] > 0)
    return ratio


def _scores(sums: Floats, draws: Floats) -> Floats:
    """Scores of every resample, [resamples, 2 models, C conditions, 3 measures]."""
    shape = sums.shape[1:]
    totals = (draws @ sums.reshape(len(sums), math.prod(shape))).reshape(len(draws), *shape)
    return _ratio(np.moveaxis(totals, 1, 0))


def binary_terms(scores: ClipScores, clips: Ints, conditions: Conditions) -> ClipTerms:
    """Return the terms that some clips add to a model's scores under some conditions.

    Args:
        scores: The model's scores.
        clips: Numbers of N clips, sorted; some may have no row.
        conditions: The C conditions.
    """
    terms, has_row = _table(scores, clips, conditions)
    return ClipTerms(np.moveaxis(terms, 2, 1), has_row, lambda sums: _ratio(np.moveaxis(sums, 2, 0)))


def binary_intervals(
    scores: ClipScores,
    clusters: Sequence[Hashable] | Clusters,
    negatives: Sequence[str],
    samples: int = DEFAULT_RESAMPLES,
    resampling_of: Callable[[Clusters], Resampling] | None = None,
) -> ScoreIntervals:
    """Return the 95 % interval of a model's scores under every condition, and of its G scores (`metrics.intervals`).

    Args:
        scores: The model's scores.
        clusters: ``clusters[i]`` is the cluster of clip i by its video; or all clips' clusters.
        negatives: The negative conditions that the G scores average over.
        samples: Number of resamples.
        resampling_of: Returns the resamples of the clips that count, to share them between models; None: new ones.
    """
    keys = list(dict.fromkeys(key[:2] for key in conditions_of(scores)))
    clips = np.unique(scores.clip[~scores.skipped])
    found = binary_terms(scores, clips, {str(number): key for number, key in enumerate(keys)})
    counted = clusters_of(clusters).take(clips)
    resampling = Resampling(counted, samples) if resampling_of is None else resampling_of(counted)
    return score_intervals(found.terms, resampling, found.scores_of, keys, negatives)
