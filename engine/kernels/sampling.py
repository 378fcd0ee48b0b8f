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


class Sample:
    """Marks a given number of the occurrences of every type: spread evenly over the text, or the first.

    Examples
    --------
    >>> types = np.array([0, 1, 0, 0, 1, 0, 0, 0])
    >>> count = np.bincount(types)
    >>> spread = Sample(count, kept(count, min_count=3, max_count=3), seed=0)
    >>> spread.mark(types[:5]).sum() + spread.mark(types[5:]).sum()
    np.int64(3)
    >>> Sample(count, kept(count, min_count=3, max_count=3), seed=None).mark(types).tolist()
    [True, False, True, True, False, False, False, False]
    """

    def __init__(self, count: NDArray[np.integer], keep: NDArray[np.integer], seed: int | None) -> None:
        """Begin at the start of the text.

        Parameters
        ----------
        count
            (type) occurrences in the whole text (count).
        keep
            (type) occurrences to mark, at most as many as there are (count).
        seed
            Where the even spread of each type starts; None marks the first occurrences.
        """
        self._count, self._keep = count.astype(np.int64), keep.astype(np.int64)
        self._start = None if seed is None else np.random.default_rng(seed).integers(0, np.maximum(count, 1))
        self._seen = np.zeros(len(count), np.int64)

    def mark(self, types: NDArray[np.integer]) -> NDArray[np.bool_]:
        """Whether each occurrence of the next block of text is kept (token), however the text is cut into blocks."""
        place, keep = occurrence(types, self._seen), self._keep[types]
        if self._start is not None:
            # x ↦ x·m mod n falls below m exactly m times over n consecutive x: integers only, so exact at any size
            place = (place + self._start[types]) * keep % np.maximum(self._count[types], 1)
        return np.asarray(place < keep)


def kept(
    count: NDArray[np.integer], min_count: int, max_count: int, delete_above: int | None = None
) -> NDArray[np.int64]:
    """Number of occurrences of each type that the frequency rules keep (count).

    Parameters
    ----------
    count
        (type) occurrences in the whole text (count).
    min_count
        Types with fewer occurrences are left out.
    max_count
        Most occurrences of a type.
    delete_above
        Types with more occurrences are left out; None for no such rule.

    Examples
    --------
    >>> kept(np.array([2, 10, 40, 99]), min_count=10, max_count=20, delete_above=50).tolist()
    [0, 10, 20, 0]
    """
    studied = count >= min_count
    if delete_above is not None:
        studied &= count <= delete_above
    return np.where(studied, np.minimum(count, max_count), 0).astype(np.int64)
