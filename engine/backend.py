"""What this machine computes with: kernels of clustering and modules of sparse arrays, on its CUDA device or its CPU;
and first centroids.
"""

import importlib
import importlib.util
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from engine.kernels.plusplus import plusplus, trials


@cache
def array_module() -> Any:
    """Module of the arrays that kernels work on: cupy where a CUDA device answers, else numpy."""
    if importlib.util.find_spec("cupy") is None:
        return np
    import cupy  # noqa: PLC0415  (optional: only on GPU machines)

    return cupy if cupy.is_available() else np


def sparse_modules() -> tuple[Any, Any]:
    """Modules of arrays and of sparse matrices on them: cupy and cupyx.scipy.sparse on a CUDA machine."""
    xp = array_module()
    return xp, scipy.sparse if xp is np else importlib.import_module("cupyx.scipy.sparse")


@cache
def kernels() -> ModuleType:
    """Clustering's kernels: `engine.device` where a CUDA device answers, else `engine.host`, of the same names."""
    if array_module() is np:
        from engine import host  # noqa: PLC0415  (torch, only where vectors are clustered)

        return host
    from engine import device  # noqa: PLC0415  (cupy)

    return device


def free_memory() -> int | None:
    """Bytes of this process's device that nobody uses; None where there is no device."""
    return None if array_module() is np else int(kernels().free_memory())


def seed_rows(
    rows: NDArray[np.floating],
    k: int,
    seed: int,
    weights: NDArray[np.floating] | None = None,
    reference: int | None = None,
    threads: int = 1,
) -> NDArray[np.int64]:
    """Rows (concept) that greedy k-means++ draws from some rows (row, hidden), in float64.

    Parameters
    ----------
    weights
        (row) how many vectors each row stands for; None: one each.
    reference
        Restart for which to draw what scikit-learn 0.24 drew with `random_state=seed`, from which all restarts drew
        one after another; None: by the same chances, in a fraction of the time (`engine.kernels.plusplus`).
    threads
        Of this process that may share the work where it is done on the CPU.
    """
    wide = np.asarray(rows, np.float64)
    given = np.ones(len(wide)) if weights is None else np.asarray(weights, np.float64)
    if reference is None:
        xp = array_module()
        with ThreadPoolExecutor(threads) as pool:
            side_by_side = pool.map if xp is np else map
            return plusplus(xp, xp.asarray(wide), xp.asarray(given), k, seed, side_by_side)
    state = _Numbers024(seed)
    for _ in range(reference):  # what the restarts before consumed
        state.randint(len(rows))
        state.random_sample((k - 1) * trials(k))
    if array_module() is not np:
        return np.asarray(kernels().plusplus(wide, k, state, given))
    from sklearn.cluster import kmeans_plusplus  # noqa: PLC0415  (seconds, which the preset `reference` alone must take)

    _, chosen = kmeans_plusplus(wide, k, random_state=state, sample_weight=weights)
    return np.asarray(chosen, np.int64)


class _Numbers024(np.random.RandomState):
    """Random numbers as k-means++ took them before scikit-learn 1.3: the first row by `randint`, the rest alike."""

    def choice(self, a: int, *_: Any, **__: Any) -> int:  # type: ignore[override]
        return int(self.randint(a))


def product_rate(hidden: int, k: int, precision: str) -> float:
    """Multiplications and additions a second of the products of clustering, measured in a moment: of one thread, or of
    the device.
    """
    return float(kernels().product_rate(hidden, k, precision))
