"""Rank correlation of few points, with an interval and a test that assume no distribution."""

import numpy as np
import scipy
from numpy.typing import NDArray

DRAWS = 9999
"""Draws of the bootstrap and of the permutation test."""


def rank_correlation(
    one: NDArray[np.floating], other: NDArray[np.floating], seed: int = 0, draws: int = DRAWS
) -> dict[str, float]:
    """Spearman's rank correlation of two variables (point); equal values share their mean rank.

    Parameters
    ----------
    one, other
        (point) values; points with a NaN in either are left out.

    Returns
    -------
    `rho`; `low` and `high`, the central 95 % of its bootstrap over points; `p` of the two-sided permutation test,
    (1 + draws that correlate as much) / (1 + draws); `points` (count). NaN, but for `points`, of fewer than three
    points or where one variable is constant.

    Examples
    --------
    >>> found = rank_correlation(np.array([1.0, 2, 3, 4, 5]), np.array([2.0, 1, 4, 8, 9]))
    >>> round(found["rho"], 3), int(found["points"])
    (0.9, 5)
    """
    kept = ~(np.isnan(one) | np.isnan(other))
    one, other = one[kept], other[kept]
    found = {"rho": np.nan, "low": np.nan, "high": np.nan, "p": np.nan, "points": float(len(one))}
    if len(one) < 3 or (one == one[0]).all() or (other == other[0]).all():
        return found
    draw = np.random.default_rng(seed)
    rows = draw.integers(0, len(one), (draws, len(one)))
    drawn = _correlated(scipy.stats.rankdata(one[rows], axis=1), scipy.stats.rankdata(other[rows], axis=1))
    ranks, against = scipy.stats.rankdata(one), scipy.stats.rankdata(other)
    (rho,) = _correlated(ranks[None], against[None])
    dealt = _correlated(ranks[None], draw.permuted(np.tile(against, (draws, 1)), axis=1))
    low, high = np.nanquantile(drawn, (0.025, 0.975))
    as_much = int((np.abs(dealt) >= abs(rho) - 1e-12).sum())
    return found | {"rho": float(rho), "low": float(low), "high": float(high), "p": (1 + as_much) / (1 + draws)}


def _correlated(one: NDArray[np.floating], other: NDArray[np.floating]) -> NDArray[np.float64]:
    """Pearson's correlation of rows (draw, point); NaN where a row is constant."""
    one, other = (values - values.mean(1, keepdims=True) for values in (one, other))
    scale = np.sqrt((one**2).sum(1) * (other**2).sum(1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(scale > 0, (one * other).sum(1) / scale, np.nan))
