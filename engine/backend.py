"""Array modules, products and the library algorithms behind clustering: the only user of cupy and scikit-learn, and,
beside `engine.model`, of torch, whose products on the CPU are the fastest there are.

On a CUDA machine with cupy, parts are held in device memory and the kernels of `engine.kernels.lloyd` run there.
"""

import importlib
import importlib.util
import math
import threading
import time
from functools import cache
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray
from sklearn.cluster import kmeans_plusplus

from engine.kernels.shards import blocks


@cache
def array_module() -> Any:
    """Module of the arrays that clustering works on: cupy where a CUDA device answers, else numpy."""
    if importlib.util.find_spec("cupy") is None:
        return np
    import cupy  # noqa: PLC0415  (optional: only on GPU machines)

    return cupy if cupy.is_available() else np


def sparse_modules() -> tuple[Any, Any]:
    """Modules of arrays and of sparse matrices on them: cupy and cupyx.scipy.sparse on a CUDA machine."""
    xp = array_module()
    return xp, scipy.sparse if xp is np else importlib.import_module("cupyx.scipy.sparse")


def to_device(values: NDArray[Any], xp: Any) -> Any:
    """The array in the module's memory."""
    return values if xp is np else xp.asarray(values)


def to_host(values: Any, xp: Any) -> NDArray[Any]:
    """The array in host memory."""
    return values if xp is np else values.get()


def seed_rows(
    rows: NDArray[np.floating],
    k: int,
    seed: int,
    weights: NDArray[np.floating] | None = None,
    reference: int | None = None,
) -> NDArray[np.int64]:
    """Rows (concept) that greedy k-means++ draws from some rows (row, hidden), as scikit-learn does in float64.

    Parameters
    ----------
    weights
        (row) how many vectors each row stands for; None: one each.
    reference
        Restart for which to draw what scikit-learn 0.24 drew with `random_state=seed`, from which all restarts drew
        one after another; None: as the installed scikit-learn.
    """
    state: Any = seed
    if reference is not None:
        state = _Numbers024(seed)
        trials = 2 + int(math.log(k))
        for _ in range(reference):  # what the restarts before consumed
            state.randint(len(rows))
            state.random_sample((k - 1) * trials)
    _, chosen = kmeans_plusplus(np.asarray(rows, np.float64), k, random_state=state, sample_weight=weights)
    return np.asarray(chosen, np.int64)


class _Numbers024(np.random.RandomState):
    """Random numbers as k-means++ took them before scikit-learn 1.3: the first row by `randint`, the rest alike."""

    def choice(self, a: int, *_: Any, **__: Any) -> int:  # type: ignore[override]
        return int(self.randint(a))


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
    low = found.convert(rows, xp.zeros(hidden, xp.float32))
    best = math.inf
    for _ in range(4):
        started = time.perf_counter()
        found.multiply(low, held)
        best = min(best, time.perf_counter() - started)
    return 2 * rows.size * k / best


STEP = 64
"""Products have a multiple of so many rows."""

NEAR_ROWS = 256
"""Rows of float32 that stay in a core's nearest cache."""


class DeviceProducts:
    """Float32 products of a GPU's array module."""

    def __init__(self, xp: Any) -> None:
        self.xp = xp
        self.output = 0.0

    def hold(self, values: Any) -> tuple[Any, Any]:
        return values, self.xp.zeros(len(values), self.xp.float32)

    def convert(self, values: Any, mean: Any) -> Any:
        wide = values if values.dtype == self.xp.float64 else values.astype(self.xp.float32)
        return (wide - mean).astype(self.xp.float32)

    def norms(self, values: Any, mean: Any, converted: Any) -> tuple[Any, Any]:
        return self.xp.sqrt((converted * converted).sum(axis=1)), self.xp.zeros(len(values), self.xp.float32)

    def take(self, converted: Any, at: Any) -> Any:
        return converted[at]

    def multiply(self, rows: Any, columns: Any) -> Any:
        return rows @ columns.T

    def distances(self, values: Any, mean: Any, at: Any, centroids: Any, labels: Any) -> Any:
        difference = self.convert(values[at], mean) - centroids[labels]
        return self.xp.sqrt((difference * difference).sum(axis=1))


class HostProducts:
    """Products of the CPU by torch, on one thread, in memory of their own: what a call returns holds until the next.

    New memory for every block would cost more than the products.
    """

    def __init__(self, *, low: bool) -> None:
        import torch  # noqa: PLC0415

        self.torch = torch
        self.type = torch.bfloat16 if low else torch.float32
        self.output = 2.0**-8 if low else 0.0  # half of the last of 8 bits
        self._own = threading.local()

    def _scratch(self, name: str, shape: tuple[int, int], dtype: Any) -> Any:
        held = vars(self._own)
        if not held:
            self.torch.set_num_threads(1)  # of this thread: parts are worked on side by side instead
        rows, columns = shape
        size = -(-rows // STEP) * STEP * columns
        if name not in held or held[name].numel() < size:
            held[name] = self.torch.zeros(size, dtype=dtype)
        return held[name][: rows * columns].view(shape)

    def hold(self, values: NDArray[np.float32]) -> tuple[Any, NDArray[np.float32]]:
        given = self.torch.from_numpy(values)
        held = given.to(self.type)
        return held, np.asarray((given - held).norm(dim=1).numpy())

    def _centred(self, values: Any, mean: NDArray[np.float32]) -> Any:
        """Float32 rows (row, hidden) less the mean, of so few rows that they stay in the nearest cache."""
        out = self._scratch("centred", values.shape, self.torch.float32)
        if values.dtype == np.float64:  # rounded after the mean is off
            return out.copy_(self.torch.from_numpy(values - mean))
        return out.copy_(self.torch.from_numpy(values)).sub_(self.torch.from_numpy(mean))

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
        return self.torch.index_select(converted, 0, self.torch.from_numpy(at), out=out)

    def multiply(self, rows: Any, columns: Any) -> NDArray[np.float32]:
        shape = (len(rows), len(columns))
        found = self._scratch("products", shape, self.type)
        # a product of a new shape is compiled first: rows up to the next step are multiplied, too, and not looked at
        more = -(-len(rows) // STEP) * STEP
        left, out = (a.as_strided((more, a.shape[1]), (a.shape[1], 1)) for a in (rows, found))
        self.torch.mm(left, columns.t(), out=out)
        if self.output:
            found = self._scratch("scores", shape, self.torch.float32).copy_(found)
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
        theirs = self.torch.from_numpy(centroids)
        for some in blocks(len(at), NEAR_ROWS):
            gap = self._centred(values[at[some]], mean)
            label = self.torch.from_numpy(labels[some])
            own = self._scratch("own", gap.shape, self.torch.float32)
            gap.sub_(self.torch.index_select(theirs, 0, label, out=own))
            found[some] = gap.norm(dim=1).numpy()
        return found
