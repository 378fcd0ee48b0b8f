"""Rank correlation over checkpoints and languages, with an interval and a test that assume no distribution.

Pairs of one checkpoint, or of one language, have much in common, so that neither an interval nor a test may take them
for independent: with both crossed, checkpoints and languages are drawn, and dealt anew, as wholes.
"""

import numpy as np
import scipy
from numpy.typing import NDArray

DRAWS = 9999
"""Draws of the bootstrap and of the permutation test."""

_CONSTANT = 0.05
"""Part of the bootstrap's draws that may be constant: as many as lie outside its interval."""


def rank_correlation(
    one: NDArray[np.floating], other: NDArray[np.floating], seed: int = 0, draws: int = DRAWS
) -> dict[str, float]:
    """Spearman's rank correlation of two variables (row, column); equal values share their mean rank.

    Parameters
    ----------
    one, other
        (row, column) values; cells with a NaN in either are left out.

    Returns
    -------
    `rho`; `low` and `high`, the central 95 % of its bootstrap, of which a draw takes rows and columns with replacement
    and all cells that they share (the pigeonhole bootstrap: Owen, The Annals of Applied Statistics 1, 2007: rather too
    wide than too narrow, and of few rows coarse); `p` of the two-sided test whose draws deal whole rows and whole
    columns of `other` anew (exact where both are exchangeable; with cells left out, those count that both then have),
    (1 + draws that correlate as much) / (1 + draws); `points` (count). NaN, but for `points`, of fewer than three
    cells or where one variable is constant. No interval, `low` and `high` NaN, where more than a twentieth of the draws
    have no correlation, because they are of one value: those that are left say nothing of what the cells may be.

    Examples
    --------
    >>> found = rank_correlation(np.array([[1.0, 2, 3, 4, 5]]), np.array([[2.0, 1, 4, 8, 9]]))
    >>> round(found["rho"], 3), int(found["points"])
    (0.9, 5)
    """
    missing = np.isnan(one) | np.isnan(other)
    first, second = one[~missing], other[~missing]
    found = {"rho": np.nan, "low": np.nan, "high": np.nan, "p": np.nan, "points": float(len(first))}
    if len(first) < 3 or (first == first[0]).all() or (second == second[0]).all():
        return found
    whole = np.ix_(~missing.all(axis=1), ~missing.all(axis=0))
    one, other = one[whole], other[whole]
    draw = np.random.default_rng(seed)
    (rho,) = _spearman(one[None], other[None])
    rows, columns = (draw.integers(0, n, (draws, n)) for n in one.shape)
    drawn = _spearman(*(values[rows[:, :, None], columns[:, None, :]] for values in (one, other)))
    rows, columns = (draw.permuted(np.tile(np.arange(n), (draws, 1)), axis=1) for n in one.shape)
    against = other[rows[:, :, None], columns[:, None, :]]
    dealt = _spearman(one[None], against)
    told = np.isnan(drawn).mean() <= _CONSTANT
    low, high = np.nanquantile(drawn, (0.025, 0.975)) if told else (np.nan, np.nan)
    as_much = int((np.abs(dealt) >= abs(rho) - 1e-12).sum())
    return found | {"rho": float(rho), "low": float(low), "high": float(high), "p": (1 + as_much) / (1 + draws)}


def _spearman(one: NDArray[np.floating], other: NDArray[np.floating]) -> NDArray[np.float64]:
    """Rank correlation (draw) of values (draw, ...), of which one alone stands for all, without cells of a NaN; NaN
    where a draw is constant."""
    one, other = (values.reshape(len(values), -1) for values in (one, other))
    kept = ~(np.isnan(one) | np.isnan(other))
    count = np.maximum(kept.sum(1, keepdims=True), 1)
    centred = []
    for values in (one, other):
        known = values if kept.all() else np.where(kept, values, np.inf)  # what is left out ranks above all others
        ranks = scipy.stats.rankdata(known, axis=1)
        centred.append(np.where(kept, ranks - (ranks * kept).sum(1, keepdims=True) / count, 0))
    scale = np.sqrt((centred[0] ** 2).sum(1) * (centred[1] ** 2).sum(1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(scale > 0, (centred[0] * centred[1]).sum(1) / scale, np.nan))
