"""First centroids by rejection beside scikit-learn's greedy k-means++: seconds of one core, and how good both are; and
by rejection on two, where the vectors drawn must be the same.

    python -m tests.benchmarks.seeding [--rows 16384] [--k 600] [--draws 3]

Both draw from the same made vectors in float64, in turns. The floor is the product alone, of as many candidates as the
steps need, at the speed of one batch.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from sklearn.cluster import kmeans_plusplus
from threadpoolctl import threadpool_limits

from engine.kernels.plusplus import BATCH, plusplus, trials
from tests.benchmarks.inputs import table
from tests.benchmarks.kmeans import made_activations

HIDDEN = 768


def measure(rows: int, k: int, draws: int) -> dict[str, tuple[float, float]]:
    """Median seconds and left squares of each way; of the floor only seconds."""
    vectors = made_activations(rows, HIDDEN).astype(np.float16).astype(np.float64)
    vectors -= vectors.mean(axis=0)
    weights = np.ones(rows)
    ways: dict[str, Callable[[int], Any]] = {
        "by rejection": lambda seed: plusplus(np, vectors, weights, k, seed),
        "by rejection, 2 threads": lambda seed: plusplus(np, vectors, weights, k, seed, pool.map),
        "scikit-learn": lambda seed: kmeans_plusplus(vectors, k, random_state=seed)[1],
    }
    seconds: dict[str, list[float]] = {name: [] for name in (*ways, "floor")}
    left: dict[str, list[float]] = {name: [] for name in ways}
    with threadpool_limits(1), ThreadPoolExecutor(2) as pool:
        for seed in range(draws):
            for name, way in ways.items():
                started = time.perf_counter()
                chosen = way(seed)
                seconds[name].append(time.perf_counter() - started)
                left[name].append(_left(vectors, vectors[chosen]))
            some = vectors[:BATCH]
            started = time.perf_counter()
            some @ vectors.T
            seconds["floor"].append((time.perf_counter() - started) * (k - 1) * trials(k) / len(some))
    return {
        name: (statistics.median(of), statistics.median(left.get(name, [float("nan")])))
        for name, of in seconds.items()
    }  # fmt: skip


def _left(vectors: np.ndarray, centroids: np.ndarray) -> float:
    """Sum of squared distances to the nearest centroid."""
    squares = (centroids * centroids).sum(axis=1)
    found = (squares - 2 * vectors @ centroids.T).min(axis=1)
    return float((found + (vectors * vectors).sum(axis=1)).sum())


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("rows", 16384), ("k", 600), ("draws", 3)):
        parser.add_argument(f"--{name}", type=int, default=value)
    asked = parser.parse_args()
    found = measure(asked.rows, asked.k, asked.draws)
    sys.stdout.write(table(["", "s", "left squares"], [[name, *row] for name, row in found.items()]) + "\n")


if __name__ == "__main__":
    main()
