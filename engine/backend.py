"""Array modules, products and the library algorithms behind clustering: the only user of cupy and scikit-learn, and,
beside `engine.model`, of torch, whose products on the CPU are the fastest there are.

On a CUDA machine with cupy, parts are held in device memory and the kernels of `engine.kernels.lloyd` run there.
"""

import importlib.util
import math
import threading
import time
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import kmeans_plusplus


def array_module() -> Any:
    """Module of the arrays that clustering works on: cupy where a CUDA device answers, else numpy."""
    if importlib.util.find_spec("cupy") is None:
        return np
    import cupy  # noqa: PLC0415  (optional: only on GPU machines)

    return cupy if cupy.is_available() else np


def to_device(values: NDArray[Any], xp: Any) -> Any:
    """The array in the module's memory."""
    return values if xp is np else xp.asarray(values)


def to_host(values: Any, xp: Any) -> NDArray[Any]:
    """The array in host memory."""
    return values if xp is np else values.get()


def seed_rows(
    rows: NDArray[np.floating], k: int, seed: int, weights: NDArray[np.floating] | None = None
) -> NDArray[np.int64]:
    """Rows (concept) that greedy k-means++ draws from some rows (row, hidden), as scikit-learn does in float64.

    Parameters
    ----------
    weights
        (row) how many vectors each row stands for; None: one each.
    """
    _, chosen = kmeans_plusplus(rows.astype(np.float64), k, random_state=seed, sample_weight=weights)
    return np.asarray(chosen, np.int64)


@cache
def products(xp: Any, precision: str) -> Any:
    """Products of clustering for an array module; see `engine.kernels.lloyd.Products`.

    Parameters
    ----------
    precision
        auto: less than float32 finds candidates where the processor multiplies it faster; float32: never.
    """
    if xp is not np:
        return DeviceProducts(xp)
    return HostProducts(low=precision == "auto" and has_bfloat16())


@cache
def has_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 faster than float32."""
    import torch  # noqa: PLC0415  (only where vectors are clustered)

    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def product_rate(hidden: int, k: int, precision: str) -> float:
    """Multiplications and additions a second of the products of clustering on one thread, measured in a moment."""
    found = products(array_module(), precision)
    xp = array_module()
    rows, columns = (xp.ones((size, hidden), xp.float32) for size in (1024, k))
    held, _ = found.hold(columns)
    best = math.inf
    for _ in range(4):
        started = time.perf_counter()
        found.multiply(found.convert(rows), held)
        best = min(best, time.perf_counter() - started)
    return 2 * rows.size * k / best


class DeviceProducts:
    """Float32 products of a GPU's array module."""

    def __init__(self, xp: Any) -> None:
        self.xp = xp
        self.output = 0.0

    def centre(self, values: Any, mean: Any) -> Any:
        wide = values if values.dtype == self.xp.float64 else values.astype(self.xp.float32)
        return (wide - mean).astype(self.xp.float32)

    def hold(self, values: Any) -> tuple[Any, Any]:
        return values, self.xp.zeros(len(values), self.xp.float32)

    def convert(self, values: Any) -> Any:
        return values

    def lost(self, values: Any, converted: Any) -> Any:
        return self.xp.zeros(len(values), self.xp.float32)

    def take(self, converted: Any, at: Any) -> Any:
        return converted[at]

    def multiply(self, rows: Any, columns: Any) -> Any:
        return rows @ columns.T

    def distances(self, rows: Any, at: Any, centroids: Any, labels: Any) -> Any:
        difference = rows[at] - centroids[labels]
        return self.xp.sqrt((difference * difference).sum(axis=1))


class HostProducts:
    """Products of the CPU by torch, on one thread, in memory of their own: what a call returns holds until the next.

    New memory for every block would cost more than the products.
    """

    def __init__(self, *, low: bool) -> None:
        import torch  # noqa: PLC0415

        self.torch = torch
        self.type = torch.bfloat16 if low else torch.float32
        self.output = 2.0**-9 if low else 0.0
        self._own = threading.local()

    def _scratch(self, name: str, shape: tuple[int, ...], dtype: Any) -> Any:
        held = vars(self._own)
        if not held:
            self.torch.set_num_threads(1)  # of this thread: parts are worked on side by side instead
        size = math.prod(shape)
        if name not in held or held[name].numel() < size:
            held[name] = self.torch.empty(size, dtype=dtype)
        return held[name][:size].view(shape)

    def centre(self, values: NDArray[np.floating], mean: NDArray[np.float32]) -> NDArray[np.float32]:
        out = self._scratch("rows", values.shape, self.torch.float32)
        if values.dtype == np.float64:  # rounded after the mean is off
            return np.asarray(out.copy_(self.torch.from_numpy(values - mean)).numpy())
        out.copy_(self.torch.from_numpy(values))
        return np.asarray(out.sub_(self.torch.from_numpy(mean)).numpy())

    def hold(self, values: NDArray[np.float32]) -> tuple[Any, NDArray[np.float32]]:
        given = self.torch.from_numpy(values).to(self.type)
        return given, self.lost(values, given).copy()

    def convert(self, values: NDArray[np.float32]) -> Any:
        given = self.torch.from_numpy(values)
        return given if self.type == given.dtype else self._scratch("low", values.shape, self.type).copy_(given)

    def lost(self, values: NDArray[np.float32], converted: Any) -> NDArray[np.float32]:
        if not self.output:
            return np.zeros(len(values), np.float32)
        out = self._scratch("lost", values.shape, self.torch.float32)
        self.torch.sub(self.torch.from_numpy(values), converted, out=out)
        return np.asarray(out.norm(dim=1).numpy())

    def take(self, converted: Any, at: NDArray[np.intp]) -> Any:
        out = self._scratch("taken", (len(at), converted.shape[1]), self.type)
        return self.torch.index_select(converted, 0, self.torch.from_numpy(at), out=out)

    def multiply(self, rows: Any, columns: Any) -> NDArray[np.float32]:
        shape = (len(rows), len(columns))
        found = self.torch.mm(rows, columns.t(), out=self._scratch("products", shape, self.type))
        if self.output:
            found = self._scratch("scores", shape, self.torch.float32).copy_(found)
        return np.asarray(found.numpy())

    def distances(
        self,
        rows: NDArray[np.float32],
        at: NDArray[np.intp],
        centroids: NDArray[np.float32],
        labels: NDArray[np.integer],
    ) -> NDArray[np.float32]:
        torch, shape = self.torch, (len(at), rows.shape[1])
        theirs = torch.index_select(
            torch.from_numpy(centroids), 0, torch.from_numpy(labels), out=self._scratch("lost", shape, torch.float32)
        )
        given = torch.from_numpy(rows)
        if len(at) < len(rows):
            given = torch.index_select(given, 0, torch.from_numpy(at), out=self._scratch("ours", shape, torch.float32))
        return np.asarray(theirs.sub_(given).norm(dim=1).numpy())
