"""The array module and the library algorithms behind clustering: the only user of cupy and scikit-learn.

On a CUDA machine with cupy, parts are held in device memory and the kernels of `engine.kernels.lloyd` run there.
"""

import importlib.util
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


def seed_centroids(sample: NDArray[np.floating], k: int, seed: int) -> NDArray[np.float32]:
    """First centroids (concept, hidden) by greedy k-means++ on a sample (row, hidden), as scikit-learn draws them."""
    centroids, _ = kmeans_plusplus(sample.astype(np.float64), k, random_state=seed)
    return centroids.astype(np.float32)
