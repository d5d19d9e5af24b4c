"""How well two groups of sounds can be told apart by numbers: AUROC, its interval, and a linear classifier.

Conventions
    `scores` float64 [N]; `negative` bool [N], True for rows of the negative condition; `sounds` int64 [N] says whose sound a
    row is. Rows of one sound are never split between fitting and judging, nor between draws of the bootstrap: a sound heard
    clean for one clip and off screen for another would otherwise answer for itself.
    AUROC is the probability that a negative row scores higher than a clean one, ties counting half: 0.5 tells nothing.
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


@dataclass(frozen=True)
class Estimate:
    """An AUROC in [0, 1] and its 95 % percentile interval (bootstrap over sounds)."""

    auroc: float
    low: float
    high: float


def weighted_auroc(scores: Floats, negative: Flags, weights: Floats) -> float | None:
    """Return the AUROC of weighted rows; None where either group has no weight.

    >>> weighted_auroc(np.array([0.0, 1.0, 1.0]), np.array([False, False, True]), np.ones(3))
    0.75
    """
    distinct, rank = np.unique(scores, return_inverse=True)
    clean = np.bincount(rank, weights=weights * ~negative, minlength=distinct.size)
    other = np.bincount(rank, weights=weights * negative, minlength=distinct.size)
    if clean.sum() == 0 or other.sum() == 0:
        return None
    below = np.cumsum(clean) - clean
    return float((other * (below + clean / 2)).sum() / (clean.sum() * other.sum()))


def estimate(scores: Floats, negative: Flags, sounds: Groups, generator: np.random.Generator) -> Estimate:
    """Return AUROC and interval; both groups must have a row. Draws in which one group is absent are left out."""
    auroc = weighted_auroc(scores, negative, np.ones(scores.size))
    if auroc is None:
        raise ValueError("estimate needs rows of both groups")
    names, member = np.unique(sounds, return_inverse=True)
    drawn = []
    for _ in range(DRAWS):
        times = np.bincount(generator.integers(names.size, size=names.size), minlength=names.size)
        value = weighted_auroc(scores, negative, times[member].astype(np.float64))
        if value is not None:
            drawn.append(value)
    low, high = np.quantile(drawn or [auroc], [0.025, 0.975])
    return Estimate(auroc, float(low), float(high))


def linear_scores(statistics: Floats, negative: Flags, folds: Groups) -> tuple[Floats, Flags]:
    """Score every row with a ridge classifier that was fitted without the row's fold.

    `statistics` float64 [N, K]; `folds` int64 [N] must be equal for equal sounds. Returns scores [N] and which of them are
    valid: a fold is left out where what remains without it holds one group only.
    """
    scores = np.zeros(negative.size)
    valid = np.zeros(negative.size, dtype=np.bool_)
    for fold in np.unique(folds):
        held = folds == fold
        fit = ~held
        if negative[fit].all() or not negative[fit].any():
            continue
        scores[held] = _ridge(statistics[fit], negative[fit], statistics[held])
        valid[held] = True
    return scores, valid


def _ridge(fit: Floats, negative: Flags, judged: Floats) -> Floats:
    centre, spread = fit.mean(axis=0), fit.std(axis=0)
    spread[spread == 0] = 1.0
    design = (fit - centre) / spread
    # Both groups weigh the same however many rows they have.
    weights = np.where(negative, 0.5 / negative.sum(), 0.5 / (~negative).sum()) * negative.size
    target = np.where(negative, 1.0, -1.0)
    gram = design.T @ (design * weights[:, None]) + RIDGE * np.eye(design.shape[1])
    coefficients = np.linalg.solve(gram, design.T @ (weights * target))
    # Equal rows come out of the product with different last bits, and those must not decide a comparison.
    scores: Floats = np.round((judged - centre) / spread @ coefficients, _DECIMALS)
    return scores
