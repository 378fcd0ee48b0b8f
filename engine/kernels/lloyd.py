"""Lloyd's algorithm on one part: the exact nearest centroid of every row.

A label is the concept of least squared distance in float64, the first one of equal ones. That defines it by rows and
centroids alone, so how it is found never shows: products in float32, or less, name the candidates; a bound on their
error says which rows have several; those are settled in float64, after another look in float32 where coarser products
leave many. Between iterations two bounds a row (Hamerly, SDM 2010) say which centroids can have come nearer: with
`margin` = lower - upper, only those that moved by at least the margin. Centroids sorted by how far they moved turn that
into a product with the first few columns.

`engine.device` has the same on a GPU.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from engine.kernels.shards import blocks

BLOCK_ROWS = 8192
"""Rows of a block: so many that its products take much longer than the calls around them. Changes no bit."""

FINER_ROWS = 1024
"""Rows that are looked at once more together: few, as their float32 comes on top. Changes no bit."""

PAIR_ROWS = 128
"""Rows of a block in float64. Changes no bit of the result."""

_EDGES = (16, 32, 64, 96, 144, 208, 288, 400, 560, 800, 1100, 1600)
"""Numbers of moved centroids that rows are compared with at once."""

_FEW = 0.015
"""Share of a block's rows below which they go with those that are compared with more: a product of few rows is slow."""

_MOST = 0.7
"""Share of a block's rows from which all of them are compared (picking them out costs more), and of the centroids
(bounds are then as good as new)."""

_CROWDED = 4
"""Candidates of a row beyond which products in float32 cost less than settling them all in float64."""

_TRIED = 4096
"""Rows after which it is known whether most are crowded, and products in less than float32 are for nothing."""

_UNKNOWN = 1e30
"""Distance that was not measured yet."""

U32 = 2.0**-24
"""Largest relative error of a float32 operation."""

TINY = 1e-17
"""More than underflow takes from a float32 norm; its square is more than it takes from a sum of products."""


class Products(Protocol):
    """Products in float32 or less, and what their rounding can do. Results hold until the next call."""

    output: float
    """Largest relative rounding error of a product, beside float32's own."""
    finer: "Products | None"
    """In float32, where these have less."""

    def hold(self, values: Any) -> tuple[Any, Any]:
        """A float32 matrix (column, hidden) in the precision of the products, to keep, and the norm (column) of what
        conversion took from each."""

    def convert(self, values: Any, mean: Any) -> Any:
        """Rows (row, hidden) less the mean (hidden), rounded to float32 and then to the precision of the products."""

    def norms(self, values: Any, mean: Any, converted: Any) -> tuple[Any, Any]:
        """Norms (row) of the float32 rows less the mean, and of what conversion took from each."""

    def take(self, converted: Any, at: Any) -> Any:
        """Some rows of a converted matrix."""

    def multiply(self, rows: Any, columns: Any) -> Any:
        """Products (row, column) in float32 of converted matrices (row, hidden) and (column, hidden)."""

    def distances(self, values: Any, mean: Any, at: Any, centroids: Any, labels: Any) -> Any:
        """Float32 distance (pair) of rows `at` (pair) to the centroids (concept, hidden) of labels (pair)."""


@dataclass
class Rows:
    """Vectors of a part, and what is worth remembering of them."""

    values: Any
    """(row, hidden) as stored."""
    norm: Any = None
    """(row) float32, at least the norm of the row less the mean."""
    lost: Any = None
    """(row) float32, at least the norm of what conversion takes from it."""


@dataclass
class State:
    """What is known of the rows of a part with respect to the centroids of one run."""

    label: Any
    """(row) int32 nearest centroid."""
    upper: Any
    """(row) float32, at least the distance to it."""
    lower: Any
    """(row) float32, at most the distance to any other."""

    def __getitem__(self, at: slice) -> "State":
        return State(self.label[at], self.upper[at], self.lower[at])


class Centroids:
    """Centroids of one run, prepared for a pass: those that moved most come first."""

    def __init__(self, exact: Any, before: Any | None, mean: Any, products: Products) -> None:
        """Prepare centroids.

        Parameters
        ----------
        exact
            (concept, hidden) float64 centroids.
        before
            (concept, hidden) float64 centroids of the iteration before, to which a state belongs; None: no state.
        mean
            (hidden) float32 mean of the layer, taken off before products so that they cancel less.
        """
        k, hidden = exact.shape
        self.exact, self.products, self.k = exact, products, k
        drift = np.zeros(k) if before is None else np.sqrt(((exact - before) ** 2).sum(axis=1))
        self.order = np.argsort(-drift, kind="stable")
        self.column = np.empty(k, np.int64)
        self.column[self.order] = np.arange(k)
        # rounded up, and 0 behind the last one: no bound loses more when all were looked at
        self.drift = np.concatenate([drift[self.order] * (1 + 1e-6), np.zeros(1)]).astype(np.float32)
        self.own_drift = (drift * (1 + 1e-6)).astype(np.float32)
        self.centred = (exact - mean).astype(np.float32)
        ordered = np.ascontiguousarray(self.centred[self.order])
        self.half = ((ordered.astype(np.float64) ** 2).sum(axis=1) / 2).astype(np.float32)
        self.norm = float(np.sqrt(2 * self.half.max())) * (1 + 1e-6)
        self.relative = (hidden + 32) * U32
        self.down = np.float32(1 - 4 * self.relative)  # of a squared norm that was rounded up, to at most the true one
        self.columns, lost = products.hold(ordered)
        self.lost = float(lost.max()) * (1 + self.relative)
        self.finer = None if products.finer is None else products.finer.hold(ordered)[0]
        self.compared = self.crowded = 0  # rows, in less than float32

    def scores(self, block: "_Block", at: Any, count: int, own: Any, mine: Any | None) -> tuple[Any, Any, Any]:
        """Scores x·c - ‖c‖²/2 (row, column) of the first `count` columns, the largest (row), and their error (row).

        Rows that have many candidates, because what products are made in is coarse, are multiplied again in float32.

        Parameters
        ----------
        own
            (row) the score of a row's own centroid is at least this.
        mine
            (row) column of a row's own centroid, which is no candidate and scores -inf; None: there is none.
        """
        if self.finer is not None and self.compared >= _TRIED and 2 * self.crowded > self.compared:
            found, top, error = (np.empty(shape, np.float32) for shape in ((len(at), count), len(at), len(at)))
            self._refine(found, top, error, np.arange(len(at)), block, at, mine)
            return found, top, error
        low, norm, lost = block.low, block.norm, block.lost
        if len(at) < len(norm):
            low, norm, lost = self.products.take(low, at), norm[at], lost[at]
        error = lost * self.norm + norm * (self.lost + self.products.output * self.norm) + self._rounding(norm)
        found = self._scored(self.products.multiply(low, self.columns[:count]), mine)
        top, error = found.max(axis=1), error.astype(np.float32)
        if self.finer is not None:
            doubtful = np.flatnonzero(top + error >= own)
            least = (np.maximum(top - error, own) - error)[doubtful]
            near = np.count_nonzero(found[doubtful] >= least[:, None], axis=1)
            crowded = doubtful[near > _CROWDED]
            self.compared += len(at)
            self.crowded += len(crowded)
            self._refine(found, top, error, crowded, block, at, mine)
        return found, top, error

    def _refine(
        self, found: Any, top: Any, error: Any, crowded: Any, block: "_Block", at: Any, mine: Any | None
    ) -> None:
        """Put scores by products in float32, their largest and their error in the place of those of some rows."""
        finer = self.products.finer
        assert finer is not None
        assert self.finer is not None
        columns = self.finer[: found.shape[1]]
        for some in blocks(len(crowded), FINER_ROWS):
            here = crowded[some]
            scores = self._scored(
                finer.multiply(finer.convert(block.exact[at[here]], block.mean), columns),
                None if mine is None else mine[here],
            )
            found[here], top[here], error[here] = scores, scores.max(axis=1), self._rounding(block.norm[at[here]])

    def _scored(self, found: Any, mine: Any | None) -> Any:
        """Scores (row, column) from products (row, column), in their place."""
        found -= self.half[: found.shape[1]]
        if mine is not None:
            inside = np.flatnonzero(mine < found.shape[1])
            found[inside, mine[inside]] = -np.inf
        return found

    def _rounding(self, norm: Any) -> Any:
        """What float32 changes of scores (row), at most, and of what they are compared with."""
        return (norm * (2 * self.relative) + TINY) * self.norm + 8 * U32 * (self.norm**2 + norm * norm) + TINY**2


@dataclass(frozen=True)
class _Block:
    """Some rows of a part, in the forms that the steps need."""

    exact: Any
    """(row, hidden) as stored."""
    mean: Any
    """(hidden) mean of the layer."""
    low: Any
    """(row, hidden) converted."""
    norm: Any
    """(row) as in `Rows`."""
    lost: Any
    """(row) as in `Rows`."""


def advance(rows: Rows, mean: Any, runs: Sequence[tuple[Centroids, State | None]], products: Products) -> list[State]:
    """Nearest centroid of every row in each of several runs, which share one pass over the rows.

    Parameters
    ----------
    rows
        Vectors; their norms are filled in where they are not known.
    mean
        (hidden) float32 mean of the layer.
    runs
        Of each run its centroids, and the state that belongs to the centroids before, or None: nothing is known.

    Returns
    -------
    The state of each run; those given are used up.
    """
    count = len(rows.values)
    states = [
        State(np.full(count, -1, np.int32), np.zeros(count, np.float32), np.zeros(count, np.float32))
        if state is None
        else state
        for _, state in runs
    ]
    norms, losts = rows.norm, rows.lost
    known = norms is not None
    if not known:
        norms, losts = np.empty(count, np.float32), np.empty(count, np.float32)
    up = np.float32(1 + (rows.values.shape[1] + 8) * U32)
    for at in blocks(count, BLOCK_ROWS):
        low = products.convert(rows.values[at], mean)
        if not known:
            norm, lost = products.norms(rows.values[at], mean, low)
            norms[at], losts[at] = norm * up + np.float32(TINY), lost * up + np.float32(TINY)
        block = _Block(rows.values[at], mean, low, norms[at], losts[at])
        for (centroids, before), state in zip(runs, states, strict=True):
            (_first if before is None else _update)(block, centroids, state[at])
    # only now: a pass that fails, or is copied, halfway must not leave half of them
    rows.norm, rows.lost = norms, losts
    return states


def _least_distance(norm: Any, score: Any, centroids: Centroids) -> Any:
    """At most the distance (row) of rows to centroids whose scores are at most these."""
    return np.sqrt(np.maximum(norm * norm * centroids.down - 2 * score, 0)) * np.float32(1 - 4 * U32)


def _first(block: _Block, centroids: Centroids, state: State) -> None:
    """Fill a state from nothing."""
    every = np.arange(len(block.norm))
    scores, top, error = centroids.scores(block, every, centroids.k, -np.inf, None)
    best = scores.argmax(axis=1)
    scores[every, best] = -np.inf
    second = scores.max(axis=1)
    label = centroids.order[best]
    doubtful = np.flatnonzero(second >= top - 2 * error)
    if len(doubtful):
        near = scores[doubtful] >= (top - 2 * error)[doubtful, None]
        near[np.arange(len(doubtful)), best[doubtful]] = True
        label[doubtful], _, _ = _settle(block.exact, doubtful, near, centroids, None)
    other = np.where(label == centroids.order[best], second, top)
    state.label[:] = label
    state.lower[:] = _least_distance(block.norm, other + error, centroids)
    state.upper[:] = _UNKNOWN  # the first update measures it


def _settle(exact: Any, rows: Any, near: Any, centroids: Centroids, own: Any | None) -> tuple[Any, Any, Any]:
    """Of some rows' candidates the nearest in float64: (row) label, its distance, and that of the row's own centroid.

    Parameters
    ----------
    near
        (row, column) whether a centroid is a candidate.
    own
        (row) label before, a candidate too; None: there is none.
    """
    row, column = np.nonzero(near)
    concept = centroids.order[column]
    if own is not None:
        row, concept = np.concatenate([row, np.arange(len(rows))]), np.concatenate([concept, own])
    squared = squared_distances(exact, centroids.exact, concept, rows[row])
    first = np.lexsort(np.stack([concept.astype(np.float64), squared, row.astype(np.float64)]))
    ordered = row[first]
    starts = first[np.flatnonzero(np.concatenate([np.ones(1, bool), ordered[1:] != ordered[:-1]]))]
    ours = None if own is None else np.sqrt(squared[len(row) - len(rows) :])
    return concept[starts], np.sqrt(squared[starts]), ours


def squared_distances(rows: Any, centroids: Any, labels: Any, at: Any | None = None) -> Any:
    """Squared distances in float64, by differences: the bits of each depend on its row and centroid alone.

    Parameters
    ----------
    rows
        (row, hidden) vectors.
    centroids
        (concept, hidden) float64.
    labels
        (pair) concept of each pair.
    at
        (pair) row of each pair; None: every row once.
    """
    found = np.empty(len(labels), np.float64)
    for some in blocks(len(labels), PAIR_ROWS):
        gap = (rows[some] if at is None else rows[at[some]]).astype(np.float64)
        gap -= centroids[labels[some]]
        gap *= gap
        found[some] = gap.sum(axis=1)
    return found


def _update(block: _Block, centroids: Centroids, state: State) -> None:
    """Bring a state of the centroids before to these."""
    drift = centroids.drift
    own_drift = centroids.own_drift[state.label]
    state.upper += own_drift
    state.upper *= np.float32(1 + 4 * U32)
    # centroids that moved by the margin or more come first; rows without any keep their concept
    reach = _reach(state.upper, state.lower, drift)
    loose = np.flatnonzero((reach > 0) & ((own_drift > 0) | (state.upper >= _UNKNOWN)))
    if len(loose):
        found = centroids.products.distances(block.exact, block.mean, loose, centroids.centred, state.label[loose])
        found *= np.float32(1 + centroids.relative)
        state.upper[loose] = found + np.float32(2 * U32) * (block.norm[loose] + np.float32(centroids.norm + TINY / U32))
        reach[loose] = _reach(state.upper[loose], state.lower[loose], drift)
    beyond = 1
    for edge in (*[e for e in _EDGES if e < _MOST * centroids.k], centroids.k):
        at = np.flatnonzero((reach >= beyond) & (reach <= edge))
        if len(at) > _MOST * len(reach):
            at = np.flatnonzero(reach <= edge)
            reach[at] = edge
        if edge == centroids.k or len(at) > _FEW * len(reach):
            if len(at):
                _compare(block, centroids, state, at, edge)
            beyond = edge + 1
    state.lower[np.flatnonzero(reach == 0)] -= drift[0]


def _reach(upper: Any, lower: Any, drift: Any) -> Any:
    """Number of leading columns (row) that can have come nearer than a row's own centroid."""
    margin = (lower - upper) * np.float32(1 - 4 * U32)
    k = len(drift) - 1
    return np.where(margin > 0, k - np.searchsorted(drift[:k][::-1], margin, side="left"), k)


def _compare(block: _Block, centroids: Centroids, state: State, at: Any, count: int) -> None:
    """Compare rows with the first `count` columns; those behind have moved too little to matter."""
    own, upper, norm = state.label[at], state.upper[at], block.norm[at]
    known = (norm * norm * centroids.down - upper * upper) / 2
    scores, top, error = centroids.scores(block, at, count, known, centroids.column[own])
    behind = state.lower[at] - centroids.drift[count] if count < centroids.k else np.full(len(at), np.inf, np.float32)
    lower = np.minimum(_least_distance(norm, top + error, centroids), behind)
    label = own.copy()
    doubtful = np.flatnonzero(lower <= upper)
    if len(doubtful):
        least = np.maximum(top - error, known) - error
        near = scores[doubtful] >= least[doubtful, None]
        found, distance, ours = _settle(block.exact, at[doubtful], near, centroids, own[doubtful])
        label[doubtful] = found
        upper[doubtful] = distance * (1 + 4 * U32)
        changed = found != own[doubtful]
        moved = doubtful[changed]
        scores[moved, centroids.column[label[moved]]] = -np.inf
        others = _least_distance(norm[moved], scores[moved].max(axis=1) + error[moved], centroids)
        lower[moved] = np.minimum(np.minimum(others, behind[moved]), ours[changed] * (1 - 4 * U32))
    state.label[at], state.upper[at], state.lower[at] = label, upper, lower


def farthest(rows: Any, centroids: Any, labels: Any, count: int) -> tuple[Any, Any, Any]:
    """The `count` rows farthest from their centroids, farthest first: squared distance, label, row in float64."""
    distance = squared_distances(rows, centroids, labels)
    order = np.argsort(-distance, kind="stable")[:count]
    return distance[order], labels[order], rows[order].astype(np.float64)
