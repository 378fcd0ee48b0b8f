"""Clustering on a CUDA device, under the names of `engine.host`: the only user of cupy's kernels.

A pass over a block is one matrix product and one kernel, which finds the nearest centroid of each row as
`engine.kernels.lloyd` defines it: the product, in bfloat16 or float32, names candidates; a bound on its error tells
which rows have several; those are settled in float64 by the same warp. No bounds are carried from one iteration to the
next: a whole pass costs less than picking out rows.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from engine.kernels.lloyd import TINY, U32, Rows, State
from engine.kernels.shards import blocks
from engine.kernels.sums import Difference

BLOCK_ROWS = 65536
"""Rows of a block: enough to fill the device, few enough that their scores take little of it. Changes no bit."""

EXACT_ROWS = 8192
"""Rows that are widened to float64 at once."""

SORTED_ROWS = 64
"""Rows of one concept, at most, that a thread adds up before it adds them to the others."""

_WARPS = 8
"""Warps of a block of threads; one warp works on one row."""

_BFLOAT16 = (8, 0)
"""Least compute capability with products in bfloat16."""

_TYPES = {"float16": "__half", "float32": "float", "float64": "double"}


@cache
def _cupy() -> ModuleType:
    import cupy  # noqa: PLC0415  (only on GPU machines)

    return cupy  # type: ignore[no-any-return]


@cache
def _source() -> str:
    return resources.files("engine.kernels").joinpath("lloyd.cu").read_text()


@cache
def _kernel(name: str, *types: str) -> Any:
    called = f"{name}<{', '.join(types)}>"
    module = _cupy().RawModule(code=_source(), options=("--std=c++17",), name_expressions=(called,))
    return module.get_function(called)


def _by_row(name: str, rows: int, types: Sequence[str], *arguments: Any) -> None:
    """Start a kernel with a warp for each row."""
    if rows:
        _kernel(name, *types)((-(-rows // _WARPS),), (32 * _WARPS,), arguments)


def put(values: NDArray[Any]) -> Any:
    """The array on the device."""
    return _cupy().ascontiguousarray(_cupy().asarray(values))


def fetch(values: Any) -> NDArray[Any]:
    """The array in host memory."""
    return np.asarray(_cupy().asnumpy(values))


class Products:
    """Products in bfloat16, with float32 results, or in float32."""

    def __init__(self, *, low: bool) -> None:
        self.low = low

    def convert(self, values: Any, mean: Any) -> tuple[Any, Any, Any]:
        """Rows (row, hidden) less the mean (hidden), converted; bounds (row) of `engine.kernels.lloyd.Rows`."""
        rows, hidden = values.shape
        low = torch.empty((rows, hidden), dtype=torch.bfloat16 if self.low else torch.float32, device="cuda")
        norm, lost = _cupy().empty((2, rows), np.float32)
        types = _TYPES[str(values.dtype)], "__nv_bfloat16" if self.low else "float"
        up = np.float32(1 + (hidden + 8) * U32)
        _by_row(
            "centre", rows, types,
            values, mean, np.int64(rows), np.int32(hidden), up, np.float32(TINY), low.data_ptr(), norm, lost,
        )  # fmt: skip
        return low, norm, lost

    def multiply(self, rows: Any, columns: Any) -> Any:
        """Products (row, column) in float32 of converted matrices (row, hidden) and (column, hidden)."""
        if self.low:
            return torch.mm(rows, columns.t(), out_dtype=torch.float32)
        return torch.mm(rows, columns.t())


@cache
def products(precision: str) -> Products:
    """Products for a precision: auto is bfloat16 where the device has it."""
    return Products(low=precision == "auto" and torch.cuda.get_device_capability() >= _BFLOAT16)


def product_rate(hidden: int, k: int, precision: str) -> float:
    """Multiplications and additions a second of the products, measured in a moment."""
    found = products(precision)
    rows, columns = (_cupy().ones((size, hidden), np.float32) for size in (BLOCK_ROWS, k))
    mean = _cupy().zeros(hidden, np.float32)
    low, held = found.convert(rows, mean)[0], found.convert(columns, mean)[0]
    best = math.inf
    for _ in range(4):
        torch.cuda.synchronize()
        started = time.perf_counter()
        found.multiply(low, held)
        torch.cuda.synchronize()
        best = min(best, time.perf_counter() - started)
    return float(2 * rows.size * k / best)


class Centroids:
    """Centroids of one run, prepared for a pass."""

    def __init__(
        self,
        exact: NDArray[np.float64],
        before: NDArray[np.float64] | None,
        mean: NDArray[np.float32],
        products: Products,
    ) -> None:
        """Prepare centroids (concept, hidden); those of the iteration before are not needed here."""
        xp = _cupy()
        self.exact, self.products = put(exact), products
        self.k, hidden = exact.shape
        centred = self.exact - put(mean)
        self.half = ((centred.astype(np.float32).astype(np.float64) ** 2).sum(axis=1) / 2).astype(np.float32)
        self.columns, _, lost = products.convert(self.exact, put(mean))
        norm = float(xp.sqrt(2 * self.half.max())) * (1 + 1e-6)
        relative = (hidden + 32) * U32
        self.by_lost = np.float32(norm)
        self.by_norm = np.float32(float(lost.max()) * (1 + relative) + 2 * relative * norm)
        self.by_square = np.float32(4 * U32)
        self.constant = np.float32(4 * U32 * norm**2 + TINY**2)


def advance(
    rows: Rows, mean: NDArray[np.float32], runs: Sequence[tuple[Centroids, State | None]], products: Products
) -> list[State]:
    """Nearest centroid of every row in each of several runs, which share one pass; see `engine.kernels.lloyd.advance`.

    States have labels only.
    """
    xp = _cupy()
    count, hidden = rows.values.shape
    states = [State(xp.full(count, -1, np.int32), None, None) for _ in runs]
    centre = put(mean)
    for at in blocks(count, BLOCK_ROWS):
        values = rows.values[at]
        low, norm, lost = products.convert(values, centre)
        for (centroids, _), state in zip(runs, states, strict=True):
            scores = products.multiply(low, centroids.columns)
            _by_row(
                "nearest", len(values), [_TYPES[str(values.dtype)]],
                scores.data_ptr(), centroids.half, values, centroids.exact, np.int64(len(values)),
                np.int32(centroids.k), np.int32(hidden), norm, lost, centroids.by_lost, centroids.by_norm,
                centroids.by_square, centroids.constant, state.label[at],
            )  # fmt: skip
    return states


def squared_distances(rows: Any, centroids: NDArray[np.float64], labels: Any) -> Any:
    """Squared distances (row) in float64; see `engine.kernels.lloyd.squared_distances`."""
    count, hidden = rows.shape
    found = _cupy().empty(count, np.float64)
    _by_row(
        "distances", count, [_TYPES[str(rows.dtype)]],
        rows, put(centroids), labels.astype(np.int32), np.int64(count), np.int32(hidden), found,
    )  # fmt: skip
    return found


def farthest(rows: Any, centroids: NDArray[np.float64], labels: Any, count: int) -> tuple[Any, Any, Any]:
    """The `count` rows farthest from their centroids; see `engine.kernels.lloyd.farthest`."""
    distance = squared_distances(rows, centroids, labels)
    order = _cupy().argsort(-distance, kind="stable")[:count]
    return distance[order], labels[order], rows[order].astype(np.float64)


@dataclass(frozen=True)
class DeviceDifference:
    """As `engine.kernels.sums.Difference`, on the device until it is wanted elsewhere."""

    touched: Any
    """(concept) whether rows left or joined it."""
    sums: Any
    """(concept, hidden) float64 sums of the rows that joined less those that left."""
    counts: Any
    """(concept) int64 rows that joined less those that left."""
    moved: int
    """Rows that changed concept."""

    def __add__(self, other: "DeviceDifference") -> "DeviceDifference":
        touched = self.touched | other.touched
        return DeviceDifference(touched, self.sums + other.sums, self.counts + other.counts, self.moved + other.moved)

    def host(self) -> Difference:
        """The difference in host memory."""
        at = _cupy().flatnonzero(self.touched)
        return Difference(fetch(at), fetch(self.sums[at]), fetch(self.counts[at]), self.moved)

    def __reduce__(self) -> Any:  # another process may have no device
        found = self.host()
        return Difference, (found.concepts, found.sums, found.counts, found.moved)


def difference(rows: Any, before: Any | None, after: Any, k: int, unit: float) -> DeviceDifference:
    """What changes in the sums of k concepts; see `engine.kernels.sums.difference`."""
    xp = _cupy()
    hidden = rows.shape[1]
    moved = xp.arange(len(after)) if before is None else xp.flatnonzero(before != after)
    touched, counts = xp.zeros(k, bool), xp.zeros(k, np.int64)
    sums = xp.zeros((k, hidden))
    for sign, labels in ((1, after[moved]), *(() if before is None else ((-1, before[moved]),))):
        if not len(moved):
            break
        touched[labels] = True
        counts += sign * xp.bincount(labels, minlength=k)
        order = xp.argsort(labels)
        grid = -(-len(moved) // SORTED_ROWS), -(-hidden // 256)
        _kernel("add", _TYPES[str(rows.dtype)])(
            grid, (256,),
            (rows, moved[order], labels[order], np.int64(len(moved)), np.int32(SORTED_ROWS), np.int32(hidden),
             np.float64(unit), np.float64(sign), sums),
        )  # fmt: skip
    return DeviceDifference(touched, sums, counts, len(moved))


def moments(rows: Any) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Sums (hidden), sums of squares (hidden) and the largest absolute number of rows (row, hidden)."""
    xp = _cupy()
    total, squares = xp.zeros((2, rows.shape[1]))
    largest = xp.zeros(())
    for at in blocks(len(rows), EXACT_ROWS):
        exact = rows[at].astype(np.float64)
        total += exact.sum(axis=0)
        squares += (exact * exact).sum(axis=0)
        largest = xp.maximum(largest, xp.abs(exact).max())
    return fetch(total), fetch(squares), float(largest)


def plusplus(
    rows: NDArray[np.float64], k: int, state: np.random.RandomState, weights: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Rows (concept) that greedy k-means++ draws, from the same random numbers as scikit-learn's `kmeans_plusplus`."""
    xp = _cupy()
    trials = 2 + int(np.log(k))
    first = int(state.choice(len(rows), p=weights / weights.sum()))
    drawn = put(state.uniform(size=(k - 1) * trials).reshape(k - 1, trials))
    here, weight = put(rows), put(weights)
    squares = (here * here).sum(axis=1)

    def to_all(some: Any) -> Any:  # (some, row)
        return xp.maximum(squares[some][:, None] + squares - 2 * (here[some] @ here.T), 0)

    chosen = xp.empty(k, np.int64)
    chosen[0] = first
    closest = to_all(chosen[:1])[0]
    potential = (closest * weight).sum()
    for turn in range(k - 1):  # nothing here waits for the device
        reached = xp.cumsum(weight * closest)
        some = xp.minimum(xp.searchsorted(reached, drawn[turn] * potential), len(rows) - 1)
        distances = xp.minimum(to_all(some), closest)
        potentials = distances @ weight
        best = potentials.argmin()
        potential, closest, chosen[turn + 1] = potentials[best], distances[best], some[best]
    return fetch(chosen)


def free_memory() -> int:
    """Bytes of the device that nobody uses, what this process keeps for its next arrays included."""
    free, _ = torch.cuda.mem_get_info()
    kept = _cupy().get_default_memory_pool().free_bytes()
    return int(free + kept + torch.cuda.memory_reserved() - torch.cuda.memory_allocated())
