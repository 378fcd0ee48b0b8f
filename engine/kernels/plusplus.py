"""Greedy k-means++ (Arthur and Vassilvitskii, SODA 2007; the best of some candidates, as scikit-learn draws it), many
candidates at a time.

A step's candidates are drawn in proportion to the squared distance of each row to the nearest concept so far, so those
of a step are known when the step before is done, and a product of eight rows by all others reads all of them for
little arithmetic. Here a batch is drawn by the distances as they are, its distances to all rows are one large product,
and while distances fall, a candidate counts with the chance that is left of its own: by rejection, the candidates of
every step have the very distribution that is wanted.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

BATCH = 256
"""Candidates whose distances are one product, where `NUMBERS` allows: enough for its full speed, few enough that most
of them still count when their turn comes."""

NUMBERS = 2**22
"""Distances of a batch at most, unless the candidates of one step have more."""

_ROWS = 4096
"""Rows of a product on a CPU: whichever number of threads shares them, the bits are those of such products."""


def trials(k: int) -> int:
    """Candidates of a step, as many as scikit-learn's."""
    return 2 + int(np.log(k))


def batch_of(rows: int, k: int) -> int:
    """Candidates of a batch: those of one step where memory does not allow two steps' at least, which would waste half.

    Examples
    --------
    >>> batch_of(16384, 600), batch_of(300_000, 600), trials(600)
    (256, 8, 8)
    """
    batch = min(BATCH, NUMBERS // max(rows, 1))
    return batch if batch >= 2 * trials(k) else trials(k)


def working_bytes(rows: int, k: int) -> int:
    """Bytes of the distances that `plusplus` has at once: those of a batch, and twice those of a step."""
    return 8 * rows * (batch_of(rows, k) + 2 * trials(k))


def plusplus(
    xp: Any, rows: Any, weights: Any, k: int, seed: int, side_by_side: Callable[..., Any] = map
) -> NDArray[np.int64]:
    """Rows (concept) that become first centroids.

    Parameters
    ----------
    xp
        Module of the arrays: numpy or cupy.
    rows
        (row, hidden) float64, near their mean.
    weights
        (row) float64 vectors that each row stands for.
    side_by_side
        As `map`, in threads; changes no result.

    Returns
    -------
    (concept) numbers of rows, distinct while there are rows that differ and weigh something.
    """
    numbers = np.random.default_rng((seed, 1))  # not the stream of the sample, whose seed is that of the first restart
    tried, batch = trials(k), batch_of(len(rows), k)
    squares = xp.einsum("ij,ij->i", rows, rows)
    first = _placed(xp, xp.cumsum(weights), xp.asarray(numbers.random(1)))
    chosen = np.full(k, int(first[0]), np.int64)
    closest = _to_all(xp, rows, squares, xp.asarray(chosen[:1]), side_by_side)[0]
    have = 1
    while have < k:
        reached = xp.cumsum(weights * closest)
        if not float(reached[-1]) > 0:
            break  # no row is left that differs
        places, luck = xp.asarray(numbers.random((2, batch)))
        some = _placed(xp, reached, places)
        distances = _to_all(xp, rows, squares, some, side_by_side)
        least = luck * closest[some]
        at = 0
        while have < k:
            counting = at + xp.flatnonzero(least[at:] < closest[some[at:]])[:tried]
            if len(counting) < tried:
                break
            left = distances[counting]
            xp.minimum(left, closest, out=left)
            best = int((left @ weights).argmin())
            closest = left[best].copy()  # a view would keep all of them
            chosen[have] = int(some[counting[best]])
            at, have = int(counting[-1]) + 1, have + 1
        del distances  # before the next batch has its own
    return chosen


def _placed(xp: Any, reached: Any, places: Any) -> Any:
    """Rows (place) at which a running sum (row) passes places in [0, 1) of the whole; never one that adds nothing."""
    return xp.minimum(xp.searchsorted(reached, places * reached[-1], side="right"), len(reached) - 1)


def _to_all(xp: Any, rows: Any, squares: Any, some: Any, side_by_side: Callable[..., Any]) -> Any:
    """Squared distances (some, row) of some rows to all."""
    found = xp.empty((len(some), len(rows)), rows.dtype)
    these, of_these = rows[some], squares[some][:, None]
    step = _ROWS if xp is np else len(rows)

    def of_some(start: int) -> None:
        # the last takes what is left too: a product of one row would have other bits
        block = slice(start, start + step if start + 2 * step <= len(rows) else None)
        part = xp.matmul(these, rows[block].T, out=found[:, block])
        part *= -2
        part += squares[block]
        part += of_these
        xp.maximum(part, 0, out=part)

    for _ in side_by_side(of_some, range(0, max(step, len(rows) - step + 1), step)):
        pass
    found[xp.arange(len(some)), some] = 0
    return found
