"""Separability of two groups of sounds by statistics: AUROC, its interval, and a linear classifier.

Conventions
    `scores` float64 [N]; `negative` bool [N], True for rows of the negative condition; `sounds` int64 [N] is the
    number of a row's recording. Rows of one recording are never split between fitting and judging, nor between draws of the
    bootstrap: one that is clean for one clip and off screen for another would otherwise be judged by itself.
    AUROC is the probability that a negative row scores higher than a clean one, ties counting half: 0.5 is chance.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Groups = npt.NDArray[np.int64]

FOLDS = 5
RIDGE = 1.0
DRAWS = 1000
_DECIMALS = 9
# Of resampled rows at once: 32 MB.
_MOST_WEIGHTS = 1 << 22


@dataclass(frozen=True)
class Estimate:
    """An AUROC in [0, 1] and its 95 % percentile interval (bootstrap over sounds)."""

    auroc: float
    low: float
    high: float


def weighted_auroc(scores: Floats, negative: Flags, weights: Floats) -> float | None:
    """Return the AUROC of weighted rows (`sklearn.metrics.roc_auc_score`).

    Args:
        scores: Float64 [N].
        negative: Bool [N].
        weights: Float64 [N], at least 0: how often each row counts.

    Returns:
        The AUROC in [0, 1], or None where either group has no weight.

    >>> weighted_auroc(np.array([0.0, 1.0, 1.0]), np.array([False, False, True]), np.ones(3))
    0.75
    """
    from sklearn.metrics import roc_auc_score

    drawn = weights > 0
    if negative[drawn].all() or not negative[drawn].any():
        return None
    return float(roc_auc_score(negative[drawn], scores[drawn], sample_weight=weights[drawn]))


def estimate(scores: Floats, negative: Flags, sounds: Groups, generator: np.random.Generator) -> Estimate:
    """Return an AUROC and its 95 % percentile interval: `DRAWS` bootstrap samples of sounds, each with all its rows.

    Args:
        scores: Float64 [N].
        negative: Bool [N], with rows of both groups.
        sounds: Int64 [N].
        generator: Draws the sounds.

    Returns:
        AUROC and interval; draws in which one group is absent are skipped.

    Raises:
        ValueError: One group has no row.
    """
    auroc = weighted_auroc(scores, negative, np.ones(scores.size))
    if auroc is None:
        raise ValueError("estimate needs rows of both groups")
    names, member = np.unique(sounds, return_inverse=True)
    drawn = []
    together = max(1, _MOST_WEIGHTS // scores.size)
    for first in range(0, DRAWS, together):
        draws = (generator.integers(names.size, size=names.size) for _ in range(first, min(first + together, DRAWS)))
        times = np.stack([np.bincount(draw, minlength=names.size) for draw in draws])
        drawn.append(_aurocs(scores, negative, times[:, member].astype(np.float64)))
    values = np.concatenate(drawn)
    low, high = np.quantile(values if values.size else [auroc], [0.025, 0.975])
    return Estimate(auroc, float(low), float(high))


def _aurocs(scores: Floats, negative: Flags, weights: Floats) -> Floats:
    """Return the AUROC under each of the weights [draws, N] under which it is defined.

    One sort serves all draws: a thousand calls of scikit-learn take twenty times as long.
    """
    order = np.argsort(scores, kind="stable")
    _, starts = np.unique(scores[order], return_index=True)
    clean = np.add.reduceat(np.where(negative, 0.0, weights)[:, order], starts, axis=1)
    other = np.add.reduceat(np.where(negative, weights, 0.0)[:, order], starts, axis=1)
    pairs = clean.sum(axis=1) * other.sum(axis=1)
    # Clean rows of lower scores, and half of those with the same.
    won = (other * (np.cumsum(clean, axis=1) - clean / 2)).sum(axis=1)
    aurocs: Floats = won[pairs > 0] / pairs[pairs > 0]
    return aurocs


def linear_scores(statistics: Floats, negative: Flags, sounds: Groups) -> tuple[Floats, Flags]:
    """Score every row with a ridge classifier that was fitted without the row's fold.

    The folds are those of `sklearn.model_selection.GroupKFold`: at most 5, of about equally many rows, no sound in two.

    Args:
        statistics: Float64 [N, K].
        negative: Bool [N].
        sounds: Int64 [N].

    Returns:
        Scores, float64 [N], and bool [N], which of them are valid: a fold is skipped where the rest holds one group only.
    """
    from sklearn.model_selection import GroupKFold

    scores = np.zeros(negative.size)
    valid = np.zeros(negative.size, dtype=np.bool_)
    folds = min(FOLDS, np.unique(sounds).size)
    if folds < 2:
        return scores, valid
    for fit, judged in GroupKFold(folds).split(statistics, negative, sounds):
        if negative[fit].all() or not negative[fit].any():
            continue
        scores[judged] = _ridge(statistics[fit], negative[fit], statistics[judged])
        valid[judged] = True
    return scores, valid


def _ridge(fit: Floats, negative: Flags, judged: Floats) -> Floats:
    """Return the scores of rows `judged` by a ridge regression of -1 (clean) and 1 on standardised statistics."""
    from sklearn.linear_model import Ridge
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(fit)
    # Both groups weigh the same however many rows they have.
    weights = np.where(negative, 0.5 / negative.sum(), 0.5 / (~negative).sum()) * negative.size
    ridge = Ridge(RIDGE, fit_intercept=False, solver="cholesky")
    ridge.fit(scaler.transform(fit), np.where(negative, 1.0, -1.0), weights)
    # Equal rows come out of the product with different last bits, and those must not decide a comparison.
    scores: Floats = np.round(ridge.predict(scaler.transform(judged)), _DECIMALS)
    return scores
