"""Clustering on the CPU, under the names of `engine.device`: products by torch, whose products are the fastest there
are, and the kernels of `engine.kernels`.
"""

import math
import threading
import time
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from engine.kernels.lloyd import Centroids, advance, farthest, squared_distances
from engine.kernels.shards import blocks
from engine.kernels.sums import difference

__all__ = [
    "Centroids",
    "advance",
    "difference",
    "farthest",
    "fetch",
    "moments",
    "product_rate",
    "products",
    "put",
    "squared_distances",
]

MOMENT_ROWS = 1024
"""Rows that are added up at once; part of the last bits of the moments, which decide when to stop."""

STEP = 64
"""Products have a multiple of so many rows."""

NEAR_ROWS = 256
"""Rows of float32 that stay in a core's nearest cache."""


class Products:
    """Products of the CPU by torch, on one thread, in memory of their own: what a call returns holds until the next.

    New memory for every block would cost more than the products.
    """

    def __init__(self, *, low: bool) -> None:
        self.type = torch.bfloat16 if low else torch.float32
        self.output = 2.0**-8 if low else 0.0  # half of the last of 8 bits
        self.finer = Products(low=False) if low else None
        self._own = threading.local()

    def _scratch(self, name: str, shape: tuple[int, int], dtype: Any) -> Any:
        held = vars(self._own)
        if not held:
            torch.set_num_threads(1)  # of this thread: parts are worked on side by side instead
        rows, columns = shape
        size = -(-rows // STEP) * STEP * columns
        if name not in held or held[name].numel() < size:
            held[name] = torch.zeros(size, dtype=dtype)
        return held[name][: rows * columns].view(shape)

    def hold(self, values: NDArray[np.float32]) -> tuple[Any, NDArray[np.float32]]:
        given = torch.from_numpy(values)
        held = given.to(self.type)
        return held, np.asarray((given - held).norm(dim=1).numpy())

    def _centred(self, values: Any, mean: NDArray[np.float32]) -> Any:
        """Float32 rows (row, hidden) less the mean, of so few rows that they stay in the nearest cache."""
        out = self._scratch("centred", values.shape, torch.float32)
        if values.dtype == np.float64:  # rounded after the mean is off
            return out.copy_(torch.from_numpy(values - mean))
        return out.copy_(torch.from_numpy(values)).sub_(torch.from_numpy(mean))

    def convert(self, values: NDArray[np.floating], mean: NDArray[np.float32]) -> Any:
        out = self._scratch("low", values.shape, self.type)
        for some in blocks(len(values), NEAR_ROWS):
            out[some].copy_(self._centred(values[some], mean))
        return out

    def norms(
        self, values: NDArray[np.floating], mean: NDArray[np.float32], converted: Any
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        norm, lost = np.empty((2, len(values)), np.float32)
        for some in blocks(len(values), NEAR_ROWS):
            centred = self._centred(values[some], mean)
            norm[some] = centred.norm(dim=1).numpy()
            lost[some] = centred.sub_(converted[some]).norm(dim=1).numpy()
        return norm, lost

    def take(self, converted: Any, at: NDArray[np.intp]) -> Any:
        out = self._scratch("taken", (len(at), converted.shape[1]), self.type)
        return torch.index_select(converted, 0, torch.from_numpy(at), out=out)

    def multiply(self, rows: Any, columns: Any) -> NDArray[np.float32]:
        shape = (len(rows), len(columns))
        found = self._scratch("products", shape, self.type)
        # a product of a new shape is compiled first: rows up to the next step are multiplied, too, and not looked at
        more = -(-len(rows) // STEP) * STEP
        left, out = (a.as_strided((more, a.shape[1]), (a.shape[1], 1)) for a in (rows, found))
        torch.mm(left, columns.t(), out=out)
        if self.output:
            found = self._scratch("scores", shape, torch.float32).copy_(found)
        return np.asarray(found.numpy())

    def distances(
        self,
        values: NDArray[np.floating],
        mean: NDArray[np.float32],
        at: NDArray[np.intp],
        centroids: NDArray[np.float32],
        labels: NDArray[np.integer],
    ) -> NDArray[np.float32]:
        found = np.empty(len(at), np.float32)
        theirs = torch.from_numpy(centroids)
        for some in blocks(len(at), NEAR_ROWS):
            gap = self._centred(values[at[some]], mean)
            label = torch.from_numpy(labels[some])
            own = self._scratch("own", gap.shape, torch.float32)
            gap.sub_(torch.index_select(theirs, 0, label, out=own))
            found[some] = gap.norm(dim=1).numpy()
        return found


@cache
def products(precision: str) -> Products:
    """Products for a precision: auto is bfloat16 where the processor multiplies it faster, float32 never is."""
    return Products(low=precision == "auto" and has_bfloat16())


def product_rate(hidden: int, k: int, precision: str) -> float:
    """Multiplications and additions a second of the products on one thread, measured in a moment."""
    found = products(precision)
    rows, columns = (np.ones((size, hidden), np.float32) for size in (1024, k))
    held, _ = found.hold(columns)
    low = found.convert(rows, np.zeros(hidden, np.float32))
    best = math.inf
    for _ in range(4):
        started = time.perf_counter()
        found.multiply(low, held)
        best = min(best, time.perf_counter() - started)
    return 2 * rows.size * k / best


@cache
def has_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 faster than float32."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def put(values: NDArray[Any]) -> NDArray[Any]:
    """The array where clustering works on it: where it is."""
    return values


def fetch(values: NDArray[Any]) -> NDArray[Any]:
    """The array in host memory."""
    return values


def moments(rows: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Sums (hidden), sums of squares (hidden) and the largest absolute number of rows (row, hidden)."""
    total, squares = np.zeros((2, rows.shape[1]))
    largest = 0.0
    for at in blocks(len(rows), MOMENT_ROWS):
        exact = rows[at].astype(np.float64)
        total += exact.sum(axis=0)
        squares += (exact * exact).sum(axis=0)
        largest = max(largest, float(np.abs(exact).max()))
    return total, squares, largest
