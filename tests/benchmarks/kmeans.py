"""Our K-means beside scikit-learn's Lloyd in one run, from the same seeds to the same stop, on made activations.

    python tests/benchmarks/kmeans.py --tokens 75000 --hidden 128 --k 600 --threads 2

The ceiling is the time of the matrix product that one iteration cannot do without, at the float32 rate measured here.
"""

import argparse
import json
import sys
import tempfile
import time

import numpy as np
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits

from engine import concepts, store
from engine.backend import seed_centroids
from engine.concepts import Clustering
from engine.kernels.shards import shard_ranges
from engine.workers.serial import SerialWorkers
from schemas import study
from schemas.activations import ACTIVATIONS
from schemas.concepts import CONCEPTS


def made_activations(tokens: int, hidden: int, seed: int = 0) -> np.ndarray:
    """Float16 vectors (token, hidden) in overlapping groups of unequal size, off centre as real layers are."""
    rng = np.random.default_rng(seed)
    groups = rng.normal(size=(max(2, tokens // 60), hidden))
    rows = groups[rng.zipf(1.5, tokens) % len(groups)] + rng.normal(scale=0.8, size=(tokens, hidden))
    return (rows + rng.normal(scale=0.5, size=hidden)).astype(np.float16)


def product_rate(hidden: int, k: int, threads: int) -> float:
    """Float32 operations a second of the product of an iteration, best of three."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(16384, hidden)).astype(np.float32)
    weights = rng.normal(size=(hidden, k)).astype(np.float32)
    best = float("inf")
    with threadpool_limits(limits=threads):
        for _ in range(4):
            started = time.perf_counter()
            rows @ weights
            best = min(best, time.perf_counter() - started)
    return 2 * rows.size * k / best


def compare(tokens: int, hidden: int, k: int, threads: int, shard: int = 16384) -> dict[str, float]:
    """Seconds of both fits, an iteration, and of the product alone."""
    rows = made_activations(tokens, hidden)
    settings = study.Concepts(k=k)
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/a.zarr"
        shard = min(shard, tokens)
        store.setup(
            path,
            ACTIVATIONS,
            {"layer": 1, "token": tokens, "hidden": hidden},
            {"layer": np.zeros(1, np.int32), "token_id": np.arange(tokens), "present": np.ones(tokens, bool)},
            chunks={"layer": 1, "token": shard},
            shards={},
            dtypes={"activation": "float16"},
        )
        for a, b in shard_ranges(tokens, shard):
            store.write_region(path, "activation", rows[None, a:b], token=a)
        task = Clustering(f"{folder}/c.zarr", (path,), (tokens,), hidden, 2, (0,), ("made", "encoder", "en"), shard)
        concepts.setup(task, np.arange(tokens), settings)
        with SerialWorkers(threads, 2**40) as workers:
            started = time.perf_counter()
            ((_, outcome),) = concepts.cluster(task, [0], settings, workers)
            ours = time.perf_counter() - started
        stored = store.load(task.path, CONCEPTS)
        inertia = float(stored.inertia.values[0, 0])

    mean = rows.astype(np.float64).mean(axis=0).astype(np.float32)
    centred = rows.astype(np.float32) - mean
    chosen = np.sort(np.random.default_rng(settings.seed).permutation(tokens)[: max(settings.seeding_tokens, 10 * k)])
    started = time.perf_counter()
    seeds = seed_centroids(centred[chosen], k, settings.seed)
    seeding = time.perf_counter() - started
    with threadpool_limits(limits=threads):
        started = time.perf_counter()
        peer = KMeans(k, init=seeds, n_init=1, tol=settings.tolerance).fit(centred)
        theirs = time.perf_counter() - started
    n_iter = outcome["n_iter"][0]
    product = 2 * rows.size * k / product_rate(hidden, k, threads)
    return {
        "iterations": n_iter,
        "peer_iterations": peer.n_iter_,
        "seeding_s": round(seeding, 3),
        "ours_iteration_s": round((ours - seeding) / (n_iter + 1), 4),
        "peer_iteration_s": round(theirs / (peer.n_iter_ + 1), 4),
        "ours_to_peer": round((ours - seeding) / theirs, 3),
        "share_of_product_ceiling": round(product * (n_iter + 1) / (ours - seeding), 3),
        "inertia_relative_difference": abs(inertia / peer.inertia_ - 1),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("tokens", 75000), ("hidden", 128), ("k", 600), ("threads", 2)):
        parser.add_argument(f"--{name}", type=int, default=default)
    sys.stdout.write(json.dumps(compare(**vars(parser.parse_args()))) + "\n")
