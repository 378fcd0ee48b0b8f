"""Which occurrences of each type are kept."""

import numpy as np
from numpy.typing import NDArray


def occurrence(types: NDArray[np.integer], seen: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number of earlier occurrences of the same type, for each token of a block of text.

    Parameters
    ----------
    types
        (token) type of each token of the block.
    seen
        (type) occurrences in earlier blocks (count); those of this block are added.

    Examples
    --------
    >>> seen = np.array([0, 0, 7, 0, 0])
    >>> occurrence(np.array([4, 2, 4, 4, 2]), seen).tolist()
    [0, 7, 1, 2, 8]
    >>> seen.tolist()
    [0, 0, 9, 0, 3]
    """
    order = np.argsort(types, kind="stable")
    ordered = types[order]
    first = np.flatnonzero(np.diff(ordered, prepend=-1))
    length = np.diff(first, append=len(types))
    ranks = np.empty(len(types), np.int64)
    ranks[order] = np.arange(len(types)) - np.repeat(first, length) + seen[ordered]
    seen[ordered[first]] += length
    return ranks


class Spread:
    """Marks exactly min(count, max_count) occurrences of every type with at least min_count, evenly over the corpus.

    Examples
    --------
    >>> types = np.array([0, 1, 0, 0, 1, 0, 0, 0])
    >>> spread = Spread(np.bincount(types), min_count=3, max_count=3, seed=0)
    >>> spread.mark(types[:5]).sum() + spread.mark(types[5:]).sum()
    np.int64(3)
    """

    def __init__(self, count: NDArray[np.integer], min_count: int, max_count: int, seed: int) -> None:
        """Begin at the start of the text.

        Parameters
        ----------
        count
            (type) occurrences in the whole text (count).
        seed
            Where the even spread of each type starts.
        """
        self._count = count.astype(np.int64)
        self._start = np.random.default_rng(seed).integers(0, np.maximum(count, 1))
        self._seen = np.zeros(len(count), np.int64)
        self._min_count, self._max_count = min_count, max_count

    def mark(self, types: NDArray[np.integer]) -> NDArray[np.bool_]:
        """Whether each occurrence of the next block of text is kept (token), however the text is cut into blocks."""
        n, most = self._count[types], self._max_count
        # x ↦ x·m mod n falls below m exactly m times over n consecutive x: integers only, so exact at any size
        phase = (occurrence(types, self._seen) + self._start[types]) * most % np.maximum(n, 1)
        return np.asarray((n >= self._min_count) & ((n <= most) | (phase < most)))


def kept(count: NDArray[np.integer], min_count: int, max_count: int) -> NDArray[np.int64]:
    """Number of occurrences of each type that `Spread` marks (count).

    Examples
    --------
    >>> kept(np.array([2, 10, 40]), min_count=10, max_count=20).tolist()
    [0, 10, 20]
    """
    return np.where(count >= min_count, np.minimum(count, max_count), 0).astype(np.int64)
