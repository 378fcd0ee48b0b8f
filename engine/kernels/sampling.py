"""Which occurrences of each type are kept."""

import numpy as np
from numpy.typing import NDArray


def occurrence(types: NDArray[np.integer], n_types: int) -> NDArray[np.int64]:
    """Number of earlier occurrences of the same type, for each token.

    Examples
    --------
    >>> occurrence(np.array([4, 2, 4, 4, 2]), 5).tolist()
    [0, 0, 1, 2, 1]
    """
    order = np.argsort(types, kind="stable")
    first = np.concatenate([[0], np.cumsum(np.bincount(types, minlength=n_types))])[:-1]
    ranks = np.empty(len(types), np.int64)
    ranks[order] = np.arange(len(types)) - first[types[order]]
    return ranks


def spread(types: NDArray[np.integer], n_types: int, min_count: int, max_count: int, seed: int) -> NDArray[np.bool_]:
    """Mark exactly min(count, max_count) occurrences of every type with at least min_count, evenly over the corpus.

    Parameters
    ----------
    types
        (token) type of each token, in text order.
    seed
        Where the even spread of each type starts.

    Returns
    -------
    (token) whether the occurrence is kept.

    Examples
    --------
    >>> spread(np.array([0, 1, 0, 0, 1, 0, 0, 0]), 2, min_count=3, max_count=3, seed=0).sum()
    np.int64(3)
    """
    count = np.bincount(types, minlength=n_types)
    start = np.random.default_rng(seed).integers(0, np.maximum(count, 1))
    n = count[types].astype(np.int64)
    # x ↦ x·m mod n falls below m exactly m times over n consecutive x: integers only, so exact at any size
    phase = (occurrence(types, n_types) + start[types]) * max_count % np.maximum(n, 1)
    return np.asarray((n >= min_count) & ((n <= max_count) | (phase < max_count)))
