"""Greedy k-means++ (Arthur and Vassilvitskii, SODA 2007; the best of some candidates, as scikit-learn draws it), many
candidates at a time.

A step's candidates are drawn in proportion to the squared distance of each row to the nearest concept so far, so those
of a step are known when the step before is done, and a product of eight rows by all others reads all of them for
little arithmetic. Here a batch is drawn by the distances as they are, its distances to all rows are one large product,
and while distances fall, a candidate counts with the chance that is left of its own: by rejection, the candidates of
every step have the very distribution that is wanted.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

BATCH = 256
"""Candidates whose distances are one product, where memory allows: enough for its full speed, few enough that most of
them still count when their turn comes."""

NUMBERS = 2**22
"""Distances of a batch at most, unless the candidates of one step have more."""


def plusplus(xp: Any, rows: Any, weights: Any, k: int, seed: int) -> NDArray[np.int64]:
    """Rows (concept) that become first centroids.

    Parameters
    ----------
    xp
        Module of the arrays: numpy or cupy.
    rows
        (row, hidden) float64, near their mean.
    weights
        (row) float64 vectors that each row stands for.

    Returns
    -------
    (concept) numbers of rows, distinct while there are rows that differ.
    """
    numbers = np.random.default_rng(seed)
    count, trials = len(rows), 2 + int(np.log(k))
    batch = max(trials, min(BATCH, NUMBERS // count))
    squares = xp.einsum("ij,ij->i", rows, rows)
    first = xp.searchsorted(xp.cumsum(weights), xp.asarray(numbers.random(1)) * weights.sum(), side="right")
    chosen = np.full(k, int(first[0]), np.int64)
    closest = _to_all(xp, rows, squares, xp.asarray(chosen[:1]))[0]
    have = 1
    while have < k:
        reached = xp.cumsum(weights * closest)
        if not float(reached[-1]) > 0:
            break  # no row is left that differs
        places, luck = xp.asarray(numbers.random((2, batch)))
        some = xp.minimum(xp.searchsorted(reached, places * reached[-1], side="right"), count - 1)
        distances = _to_all(xp, rows, squares, some)
        least = luck * closest[some]
        at = 0
        while have < k:
            counting = at + xp.flatnonzero(least[at:] < closest[some[at:]])[:trials]
            if len(counting) < trials:
                break
            left = xp.minimum(distances[counting], closest)
            best = int((left @ weights).argmin())
            closest = left[best]
            chosen[have] = int(some[counting[best]])
            at, have = int(counting[-1]) + 1, have + 1
    return chosen


def _to_all(xp: Any, rows: Any, squares: Any, some: Any) -> Any:
    """Squared distances (some, row) of some rows to all."""
    found = rows[some] @ rows.T
    found *= -2
    found += squares
    found += squares[some][:, None]
    found[xp.arange(len(some)), some] = 0
    return xp.maximum(found, 0, out=found)
