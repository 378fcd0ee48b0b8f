"""K-means as a scikit-learn estimator, for arrays that need not fit memory.

from engine.estimator import KMeans

model = KMeans(600, random_state=0, memory=2 * 2**30).fit(zarr.open_array("vectors.zarr"))
"""

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClusterMixin
from sklearn.utils.validation import check_is_fitted, check_random_state, validate_data

from engine import backend, kmeans
from engine.kernels.lloyd import BLOCK_ROWS
from engine.kernels.shards import shard_ranges
from engine.parts import Layer, Run, fitting, part, room
from engine.workers.protocol import Workers
from engine.workers.serial import SerialWorkers
from schemas.errors import BudgetError, InputError
from schemas.study import Concepts
from schemas.task import Key

PART_BYTES = 2**24
"""Vectors of a part: the unit of work and of reading."""

_LAYER: Layer = ("array",)


class KMeans(ClusterMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    """Lloyd's algorithm, exact at any size, by scikit-learn's rules for stop, tolerance and empty clusters.

    Vectors are read part by part and kept while they fit; labels, centroids and inertia have the same bits whatever the
    memory and the number of threads. All restarts share each pass over the vectors.

    Parameters
    ----------
    n_clusters
        Number of clusters.
    init
        First centroids: `auto` (k-means++ on a sample; k-means|| where that is larger than 1 GiB), `k-means++`,
        `k-means||`, or an array (cluster, feature).
    n_init
        Restarts, of which the one of least inertia is kept.
    max_iter
        Iterations at most.
    tol
        Stop when the centroids' summed squared shift falls to this share of the mean variance.
    random_state
        Seed, or generator that one is drawn from.
    seeding_rows
        Rows of the sample of k-means++, at least 10 a cluster; None: all rows, as scikit-learn.
    memory
        Bytes that may be held; None: all vectors are.
    n_jobs
        Threads; None or -1: all cores.
    products
        `auto` or `float32`: see `engine.host.products`; changes no result.
    workers
        Entered workers (`engine.workers`) in place of threads of this process; `memory`, `n_jobs` and `products` are
        then theirs.

    Attributes
    ----------
    cluster_centers_
        Centroids (cluster, feature), float64 for float64 vectors, else float32.
    labels_
        Cluster (row) int32 of every vector.
    inertia_
        Sum of squared distances to the centroids.
    n_iter_
        Iterations of the restart that was kept.
    """

    def __init__(
        self,
        n_clusters: int = 8,
        *,
        init: Any = "auto",
        n_init: int = 1,
        max_iter: int = 300,
        tol: float = 1e-4,
        random_state: Any = None,
        seeding_rows: int | None = 16384,
        memory: int | None = None,
        n_jobs: int | None = None,
        products: str = "auto",
        workers: Workers | None = None,
    ) -> None:
        self.n_clusters = n_clusters
        self.init = init
        self.n_init = n_init
        self.max_iter = max_iter
        self.tol = tol
        self.random_state = random_state
        self.seeding_rows = seeding_rows
        self.memory = memory
        self.n_jobs = n_jobs
        self.products = products
        self.workers = workers

    def fit(self, X: Any, y: None = None) -> Self:
        """Cluster vectors.

        Parameters
        ----------
        X
            Vectors (row, feature): a numpy array or what makes one, or a Zarr, Dask or xarray array, which is read part
            by part.

        Raises
        ------
        ValueError
            Wrong shape, type or size, numbers that are not finite, or a parameter out of range.
        schemas.errors.BudgetError
            The memory is too small.
        """
        X = self._checked(X, reset=True)
        rows, features = X.shape
        if rows < self.n_clusters:
            raise ValueError(f"n_samples={rows} should be >= n_clusters={self.n_clusters}.")
        start = None if isinstance(self.init, str) else self._given(features, X.dtype)
        settings = Concepts.model_construct(
            k=self.n_clusters,
            restarts=1 if start is not None else self.n_init,
            seed=int(check_random_state(self.random_state).randint(2**31 - 1)),
            max_iterations=self.max_iter,
            tolerance=self.tol,
            seeding="auto" if start is not None else self.init,
            seeding_tokens=self.seeding_rows or rows,
        )
        runs = [Run(number, self.n_clusters, settings.seed + number) for number in range(settings.restarts)]
        with self._workers() as workers:
            keys, load = _parts(X)
            plan = fitting(rows, features, X.dtype.itemsize, runs, 1, room(workers), "the array")
            holding = partial(part, load=load, nbytes=PART_BYTES, keep=plan.keep)
            held = workers.hold(holding, keys, plan.nbytes)
            known = kmeans.moments(held, workers)
            best: tuple[float, kmeans.Fit, NDArray[np.int32], NDArray[np.float64]] | None = None
            for some in plan.runs:
                fits = kmeans.fit(held, known, some, settings, workers, start=start)
                dtype = np.float64 if X.dtype.itemsize == 8 else np.float32
                passes = kmeans.final(fits, known, workers.products, dtype)
                found = workers.fold(_labelled, held, _joined, passes)[_LAYER]
                for one, model in zip(fits[_LAYER], passes[_LAYER].models, strict=True):
                    labels, inertia = found[one.run.number]
                    if best is None or inertia < best[0]:
                        best = (inertia, one, np.concatenate(labels), model.centroids.astype(dtype))
        assert best is not None
        self.inertia_, chosen, self.labels_, self.cluster_centers_ = best
        self.n_iter_ = chosen.n_iter
        return self

    def predict(self, X: Any) -> NDArray[np.int32]:
        """The nearest centroid (row) of every vector (row, feature); parameters and errors as `fit`."""
        check_is_fitted(self)
        X = self._checked(X, reset=False)
        with self._workers() as workers:
            keys, load = _parts(X)
            held = workers.hold(partial(part, load=load, nbytes=PART_BYTES, keep=False), keys, 0)
            run = Run(0, len(self.cluster_centers_), 0)
            centroids = self.cluster_centers_.astype(np.float64)
            mean = centroids.mean(axis=0).astype(np.float32)
            model = kmeans.Model(kmeans.Fit(run, centroids), mean)
            passes = {_LAYER: kmeans.Pass((model,), 0.0, workers.products)}
            return np.concatenate(workers.fold(_labelled, held, _joined, passes)[_LAYER][0][0])

    @contextmanager
    def _workers(self) -> Iterator[Workers]:
        """The workers; what is wrong with the vectors is a `ValueError`, as everywhere in scikit-learn."""
        try:
            if self.workers is not None:
                yield self.workers
                return
            threads = len(os.sched_getaffinity(0)) if self.n_jobs in (None, -1) else self.n_jobs
            with SerialWorkers(threads, 2**62 if self.memory is None else self.memory, self.products) as workers:
                yield workers
        except BudgetError:
            raise
        except InputError as error:
            raise ValueError(str(error)) from error

    def _check_parameters(self) -> None:
        for name in ("n_clusters", "n_init", "max_iter", "seeding_rows", "memory", "n_jobs"):
            value = getattr(self, name)
            if (value is None and name in ("seeding_rows", "memory", "n_jobs")) or (name, value) == ("n_jobs", -1):
                continue
            if not isinstance(value, int | np.integer) or value < 1:
                raise ValueError(f"{name} is {value!r}; expected a whole number from 1")
        if not self.tol >= 0:
            raise ValueError(f"tol is {self.tol!r}; expected a number from 0")
        if self.products not in ("auto", "float32"):
            raise ValueError(f"products is {self.products!r}; expected 'auto' or 'float32'")
        if isinstance(self.init, str) and self.init not in ("auto", "k-means++", "k-means||"):
            raise ValueError(f"init is {self.init!r}; expected 'auto', 'k-means++', 'k-means||' or an array")

    def _checked(self, X: Any, *, reset: bool) -> Any:
        self._check_parameters()
        if not _is_lazy(X):
            return validate_data(
                self, X, reset=reset, dtype=[np.float64, np.float32, np.float16], accept_large_sparse=False
            )
        if X.ndim != 2 or np.dtype(X.dtype).kind != "f" or np.dtype(X.dtype).itemsize > 8:
            raise ValueError(f"expected floating-point vectors (row, feature), found {X.dtype} {tuple(X.shape)}")
        if math.isnan(X.shape[0]):
            raise ValueError("expected rows whose number is known; call compute_chunk_sizes() of the Dask array first")
        for size, what in zip(X.shape, ("sample", "feature"), strict=True):
            if not size:
                raise ValueError(
                    f"Found array with 0 {what}(s) (shape={tuple(X.shape)}) while a minimum of 1 is required by "
                    f"{type(self).__name__}."
                )
        if reset:
            self.n_features_in_ = X.shape[1]
        elif X.shape[1] != self.n_features_in_:
            raise ValueError(
                f"X has {X.shape[1]} features, but {type(self).__name__} is expecting {self.n_features_in_} features "
                "as input"
            )
        return X

    def _given(self, features: int, dtype: Any) -> NDArray[Any]:
        start = np.asarray(self.init, dtype=np.float64 if dtype.itemsize == 8 else np.float32)
        if start.shape != (self.n_clusters, features):
            raise ValueError(
                f"init has the shape {start.shape}; expected ({self.n_clusters}, {features}), one row a cluster"
            )
        if not np.isfinite(start).all():
            raise ValueError("init holds NaN or infinity; every first centroid must be finite")
        return start


def _is_lazy(X: Any) -> bool:
    """Whether slices are read when they are asked for: Zarr, Dask and xarray arrays; not data frames."""
    kind = type(X).__module__.split(".")[0]
    return kind in ("zarr", "dask", "xarray") and hasattr(X, "dtype") and hasattr(X, "ndim")


def _parts(X: Any) -> tuple[list[Key], Callable[[Key], tuple[Any, NDArray[np.int64]]]]:
    """Keys of the parts of an array, whole chunks of it each, and how one is read."""
    rows, features = X.shape
    unit = getattr(X, "shards", None) or getattr(X, "chunks", None) or (1,)  # Zarr; Dask and xarray: lengths of each
    first = max(unit[0]) if isinstance(unit[0], tuple) else unit[0]
    size = max(1, PART_BYTES // max(1, features * X.dtype.itemsize))
    size = size // BLOCK_ROWS * BLOCK_ROWS or size
    size = max(first, size // first * first)
    keys = [Key("array", _LAYER, a, b) for a, b in shard_ranges(rows, size)]
    return keys, partial(_read, X=X)


def _read(key: Key, X: Any) -> tuple[Any, NDArray[np.int64]]:
    values = X[key.start : key.stop]
    if hasattr(values, "compute"):  # in this thread: inside a worker Dask's own scheduler would wait for itself
        values = values.compute(scheduler="synchronous")
    values = np.ascontiguousarray(values)
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    if not np.isfinite(values).all():
        row = key.start + int(np.argmin(np.isfinite(values).all(axis=1)))
        raise InputError(f"row {row} holds NaN or infinity; repair it or leave it out")
    return backend.kernels().put(values), np.arange(len(values))


def _labelled(key: Key, part: Any, passes: Any) -> dict[int, tuple[list[NDArray[np.int32]], float]]:
    _, found = kmeans.label(key, part, passes)
    return {number: ([labels], float(squared.sum())) for number, (labels, squared) in found.items()}


def _joined(one: Any, other: Any) -> Any:
    return {number: (one[number][0] + other[number][0], one[number][1] + other[number][1]) for number in one}
