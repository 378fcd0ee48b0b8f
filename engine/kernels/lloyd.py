"""One Lloyd sweep over a block of rows: nearest centroids, float64 sums.

Every function takes the array module `xp` (numpy or cupy) of its arrays: CPU and GPU run the same lines. Rows go
through in blocks of a fixed size and in order, on one thread: workers share out whole parts, so results have the same
bits for any number of workers and threads.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

BLOCK_ROWS = 1024
"""Rows of a block; 1024 × 600 float32 scores stay in a core's second-level cache. Part of the bits of the result."""


SUM_ROWS = 4096
"""Rows of a block of sums, whose float64 copies are the largest arrays of a sweep. Part of the bits of the result."""


@dataclass(frozen=True)
class Sweep:
    """What one sweep over some rows adds up to; `+` folds two of them."""

    sums: Any
    """(concept, hidden) float64 sums of the rows of each concept."""
    counts: Any
    """(concept) number of rows of each concept."""
    labels: bytes
    """Digest of the labels: equal digests mean that no row changed concept."""

    def __add__(self, other: "Sweep") -> "Sweep":
        return Sweep(self.sums + other.sums, self.counts + other.counts, self.labels + other.labels)


def blocks(rows: int, size: int = BLOCK_ROWS) -> Iterator[slice]:
    """Slices that hold every row exactly once, in order."""
    return (slice(start, min(start + size, rows)) for start in range(0, rows, size))


def _centre(rows: Any, mean: Any, xp: Any) -> Any:
    """Rows less the mean, in float32: distances are unchanged and cancel less."""
    return rows.astype(xp.float32) - mean


def nearest(rows: Any, mean: Any, centroids: Any, *, xp: Any = np) -> Any:
    """Index (row) int32 of the nearest centroid, the first one of exact ties.

    Parameters
    ----------
    rows
        (row, hidden) vectors, float16 or float32.
    mean
        (hidden) float32 mean of the whole layer, taken off before products.
    centroids
        (concept, hidden) float32 centroids, already less the mean.
    """
    weights = xp.ascontiguousarray(centroids.T)
    half_norms = (centroids * centroids).sum(axis=1) / 2
    labels = xp.empty(len(rows), xp.int32)
    for at in blocks(len(rows)):
        # ‖x - c‖² = ‖x‖² - 2 (x·c - ‖c‖²/2): the largest score is the nearest centroid
        scores = _centre(rows[at], mean, xp) @ weights
        scores -= half_norms
        labels[at] = scores.argmax(axis=1)
    return labels


def sums_by_label(rows: Any, mean: Any, labels: Any, k: int, *, xp: Any = np) -> Any:
    """Sums (concept, hidden) in float64 of the centred rows of each label."""
    total = xp.zeros((k, rows.shape[1]), xp.float64)
    for at in blocks(len(rows), SUM_ROWS):  # products with the membership: no atomics, the order of additions is fixed
        if xp is np:
            size = len(labels[at])
            member = sparse.csr_array((np.ones(size), labels[at], np.arange(size + 1)), shape=(size, k)).T.tocsr()
        else:
            member = (labels[at][None, :] == xp.arange(k, dtype=xp.int32)[:, None]).astype(xp.float64)
        total += member @ _centre(rows[at], mean, xp).astype(xp.float64)
    return total


def sweep(rows: Any, mean: Any, centroids: Any, *, xp: Any = np) -> Sweep:
    """Assign the rows (row, hidden) to their nearest centroids (concept, hidden) and add them up."""
    k = len(centroids)
    labels = nearest(rows, mean, centroids, xp=xp)
    sums = sums_by_label(rows, mean, labels, k, xp=xp)
    host = labels if xp is np else labels.get()
    return Sweep(
        sums if xp is np else sums.get(),
        np.bincount(host, minlength=k),
        hashlib.blake2b(host.tobytes(), digest_size=16).digest(),
    )


def squared_distances(rows: Any, mean: Any, centroids: Any, labels: Any, *, xp: Any = np) -> Any:
    """Squared distance (row) float64 of each row to the centroid of its label, by differences."""
    found = []
    for at in blocks(len(rows)):
        difference = _centre(rows[at], mean, xp).astype(xp.float64) - centroids[labels[at]]
        found.append((difference * difference).sum(axis=1))
    return xp.concatenate(found) if found else xp.empty(0, xp.float64)


def farthest(rows: Any, mean: Any, centroids: Any, labels: Any, count: int, *, xp: Any = np) -> tuple[Any, Any, Any]:
    """The `count` rows farthest from their centroids: (distance, label, centred row) of each, farthest first."""
    distance = squared_distances(rows, mean, centroids, labels, xp=xp)
    order = xp.argsort(-distance, kind="stable")[:count]
    return distance[order], labels[order], _centre(rows[order], mean, xp)
