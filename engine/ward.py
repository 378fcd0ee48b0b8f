"""Concepts by Ward's agglomerative clustering, the alternative to K-means of footnote 3 of the paper.

The tree needs the distance of every pair of rows, so its memory grows with the square of the rows: it is for samples.
"""

from bisect import bisect_right
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.cluster import hierarchy
from scipy.sparse import csgraph
from scipy.spatial.distance import pdist

from schemas.errors import BudgetError, InputError

_FLOAT = 8
"""Bytes of a number."""

_ROW = 256
"""Bytes a row beside vectors and distances: the tree, its edges and the concepts of one cut, about 200."""

_FIXED = 2**22
"""Bytes whatever the rows: what libraries allocate for themselves at their first call."""

_MOST_ROWS = 2**31
"""More than any memory holds the distances of."""


def labels(rows: NDArray[np.floating], ks: Sequence[int]) -> NDArray[np.int32]:
    """Concepts (run, row) of rows (row, hidden) by one tree of Ward's criterion, cut at each number of concepts.

    A run of k concepts undoes the last k - 1 merges of the tree, as scikit-learn's `AgglomerativeClustering` does: also
    where merges tie there are k concepts, exactly. Concepts are numbered from 0 in the order of their first rows.

    Parameters
    ----------
    rows
        Finite vectors; distances between them are float64.
    ks
        Number of concepts of each run, each from 1 to the number of rows.

    Raises
    ------
    InputError
        A number of concepts is below 1 or above the number of rows.

    Examples
    --------
    >>> labels(np.array([[5.0], [0.0], [5.1], [9.0]]), [2, 3]).tolist()
    [[0, 1, 0, 0], [0, 1, 0, 2]]
    """
    count = len(rows)
    if wrong := [k for k in ks if not 1 <= k <= count]:
        raise InputError(
            f"{count} rows cannot form {', '.join(map(str, wrong))} concepts; give numbers from 1 to {count}, or "
            "select more words"
        )
    found = np.zeros((len(ks), count), np.int32)
    if count < 2:
        return found
    # two steps, so that the vectors as float64 are gone when the tree takes its copy of the distances
    tree = hierarchy.linkage(pdist(np.ascontiguousarray(rows, np.float64)), "ward")
    children = tree[:, :2].astype(np.int64)
    for run, k in enumerate(ks):
        found[run] = _cut(children, k)
    return found


def _cut(children: NDArray[np.int64], k: int) -> NDArray[np.int32]:
    """Concepts (row) of a tree of which only the first merges hold, as many as leave k parts.

    Parameters
    ----------
    children
        (merge, 2) nodes that a merge joins, in the order of merging; rows come first, merges are numbered after them.
    """
    count = len(children) + 1
    held = children[: count - k]
    merges = np.repeat(np.arange(count, count + len(held)), 2)
    nodes = count + len(held)
    edges = sparse.coo_array((np.ones(2 * len(held), bool), (merges, held.ravel())), shape=(nodes, nodes))
    parts = csgraph.connected_components(edges.tocsr(), directed=False)[1][:count]
    _, first, which = np.unique(parts, return_index=True, return_inverse=True)
    number = np.empty(len(first), np.int32)
    number[np.argsort(first)] = np.arange(len(first), dtype=np.int32)
    return np.asarray(number[which], np.int32)


def memory(rows: int, hidden: int) -> int:
    """Bytes that `labels` takes at its peak for a number of rows of length `hidden`, beside the rows as given.

    Examples
    --------
    >>> round(memory(50_000, 768) / 2**30, 1)
    18.6
    """
    distances = _FLOAT * (rows * (rows - 1) // 2)
    vectors = _FLOAT * rows * hidden
    return max(distances + vectors, 2 * distances) + _ROW * rows + _FIXED


def check(rows: int, hidden: int, budget: int) -> None:
    """Refuse a clustering that does not fit the memory.

    Parameters
    ----------
    hidden
        Length of a vector.
    budget
        Bytes that `labels` may take.

    Raises
    ------
    BudgetError
        With the bytes needed and allowed, and the largest number of rows that fits.
    """
    needed = memory(rows, hidden)
    if needed <= budget:
        return
    most = bisect_right(range(_MOST_ROWS), budget, key=lambda count: memory(count, hidden)) - 1
    fits = f"at most {most:,} rows fit" if most > 0 else "not even one row fits"
    raise BudgetError(
        f"Ward's clustering of {rows:,} rows of {hidden:,} numbers needs {needed:,} bytes, allowed are {budget:,}: "
        f"{fits}; cluster a sample of the words, use K-means, or raise memory in the machine file"
    )
