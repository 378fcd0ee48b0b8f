"""K-means beside scikit-learn and faiss in one run, from the same first centroids to the same stop.

    python -m tests.benchmarks.kmeans fit      --vectors x.npy --k 600          # one restart, in memory
    python -m tests.benchmarks.kmeans restarts --vectors x.npy --k 600 --restarts 10
    python -m tests.benchmarks.kmeans streamed --vectors x.npy --tokens 500000 --restarts 10  # a tenth of it in memory
    python -m tests.benchmarks.kmeans workers  --vectors x.npy --tokens 300000   # one process, two processes
    python -m tests.benchmarks.kmeans large    --gigabytes 30 --memory 2        # a store larger than memory

Vectors (row, hidden) come from a .npy file, or are made. The ceiling is the matrix product of whole passes at the rate
measured here, in float32 and in the precision that finds candidates. faiss is left out where it is not installed
(`pip install faiss-cpu`; it has no rule to stop, so it is given the number of iterations).
"""

import argparse
import importlib.util
import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from sklearn.cluster import KMeans as Peer
from sklearn.metrics import adjusted_rand_score
from threadpoolctl import threadpool_limits

from engine import backend, kmeans
from engine.estimator import KMeans
from engine.workers.cluster import ClusterWorkers
from schemas.machine import Machine


def made_activations(tokens: int, hidden: int, seed: int = 0) -> np.ndarray:
    """Float16 vectors (token, hidden) in overlapping groups of unequal size, off centre as real layers are."""
    rng = np.random.default_rng(seed)
    groups = rng.normal(size=(max(2, tokens // 60), hidden))
    rows = groups[rng.zipf(1.5, tokens) % len(groups)] + rng.normal(scale=0.8, size=(tokens, hidden))
    return (rows + rng.normal(scale=0.5, size=hidden)).astype(np.float16)


def seeds_of(vectors: np.ndarray, k: int, seed: int) -> np.ndarray:
    """First centroids (concept, hidden) by greedy k-means++ on a sample."""
    rng = np.random.default_rng(212)
    size = min(len(vectors), max(16384, 10 * k))
    sample = vectors[np.sort(rng.choice(len(vectors), size, replace=False))].astype(np.float32)
    return sample[backend.seed_rows(sample - sample.mean(axis=0), k, seed)]


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds, and what came out."""
    started = time.perf_counter()
    found = work()
    return time.perf_counter() - started, found


class Ticks:
    """Moments at which iterations ended."""

    def __init__(self) -> None:
        self.at: list[float] = []
        self._fit = kmeans.fit

    def __enter__(self) -> "Ticks":
        def fit(*args: Any, **kwargs: Any) -> Any:
            self.at.append(time.perf_counter())
            return self._fit(*args, **kwargs, progress=lambda _: self.at.append(time.perf_counter()))

        kmeans.fit = fit
        return self

    def __exit__(self, *_: object) -> None:
        kmeans.fit = self._fit

    @property
    def seconds(self) -> np.ndarray:
        """Of each iteration."""
        return np.diff(self.at)


def rates(hidden: int, k: int, threads: int) -> dict[str, float]:
    """Operations a second of both products, over all threads."""
    return {name: threads * backend.product_rate(hidden, k, name) for name in ("float32", "auto")}


def fit(vectors: np.ndarray, k: int, threads: int) -> dict[str, Any]:
    """One restart in memory."""
    seeds = seeds_of(vectors, k, 0)
    backend.product_rate(vectors.shape[1], k, "auto")  # torch is imported
    ours = KMeans(k, init=seeds, n_jobs=threads)
    with Ticks() as ticks:
        seconds, _ = timed(lambda: ours.fit(vectors))
    exact, _ = timed(lambda: KMeans(k, init=seeds, n_jobs=threads, products="float32").fit(vectors))
    mean = vectors.astype(np.float64).mean(axis=0)
    centred = (vectors - mean).astype(np.float32)
    with threadpool_limits(threads):
        theirs, peer = timed(lambda: Peer(k, init=(seeds - mean).astype(np.float32), n_init=1).fit(centred))
    work = 2 * vectors.size * k
    found = {
        "iterations": ours.n_iter_,
        "peer_iterations": peer.n_iter_,
        "fit_s": seconds,
        "fit_float32_s": exact,
        "peer_fit_s": theirs,
        "fit_to_scikit_learn": seconds / theirs,
        "whole_pass_s": ticks.seconds[0],
        "iteration_s": float(ticks.seconds.mean()),
        "median_iteration_s": float(np.median(ticks.seconds)),
        "peer_iteration_s": theirs / (peer.n_iter_ + 1),
        "inertia_relative_difference": ours.inertia_ / peer.inertia_ - 1,
        "labels_equal": float((ours.labels_ == peer.labels_).mean()),
        "adjusted_rand_index": adjusted_rand_score(ours.labels_, peer.labels_),
    }
    found["whole_pass_to_scikit_learn"] = found["whole_pass_s"] / found["peer_iteration_s"]
    found["iteration_to_scikit_learn"] = found["iteration_s"] / found["peer_iteration_s"]
    for name, rate in rates(vectors.shape[1], k, threads).items():
        found[f"gflops_{name}"] = rate / 1e9
        found[f"whole_pass_share_of_{name}"] = work / rate / found["whole_pass_s"]
        found[f"iteration_speed_to_{name}"] = work / rate / found["iteration_s"]
    found["peer_share_of_float32"] = work / rates(vectors.shape[1], k, threads)["float32"] / found["peer_iteration_s"]
    if importlib.util.find_spec("faiss"):
        import faiss  # noqa: PLC0415

        faiss.omp_set_num_threads(threads)
        rounds = 5
        model = faiss.Kmeans(vectors.shape[1], k, niter=rounds, max_points_per_centroid=10**9, seed=0)
        start = (seeds - mean).astype(np.float32)
        once, _ = timed(lambda: model.train(centred, init_centroids=start))
        found["faiss_iteration_s"] = once / rounds
        found["whole_pass_to_faiss"] = found["whole_pass_s"] / found["faiss_iteration_s"]
        found["iteration_to_faiss"] = found["iteration_s"] / found["faiss_iteration_s"]
    return found


def restarts(vectors: np.ndarray, k: int, threads: int, count: int) -> dict[str, Any]:
    """Restarts together beside one after another in scikit-learn, from the same first centroids."""
    ours = KMeans(k, n_init=count, random_state=3, n_jobs=threads)
    drawn: list[np.ndarray] = []
    seed = kmeans.seeding.seed

    def kept(*args: Any, **kwargs: Any) -> Any:
        found = seed(*args, **kwargs)
        drawn.extend(centroids for of in found.values() for _, centroids in of)
        marks.append(time.perf_counter())
        return found

    kmeans.seeding.seed = kept
    marks = [time.perf_counter()]
    ours.fit(vectors)
    seconds = time.perf_counter() - marks[-1]
    kmeans.seeding.seed = seed
    mean = vectors.astype(np.float64).mean(axis=0)
    centred = (vectors - mean).astype(np.float32)
    with threadpool_limits(threads):
        peers = (Peer(k, init=(start - mean).astype(np.float32), n_init=1) for start in drawn)
        theirs = [timed(partial(peer.fit, centred)) for peer in peers]
    best = min(peer.inertia_ for _, peer in theirs)
    return {
        "restarts": count,
        "seeding_s": marks[-1] - marks[0],
        "together_s": seconds,
        "scikit_learn_s": sum(s for s, _ in theirs),
        "scikit_learn_iterations": [peer.n_iter_ for _, peer in theirs],
        "to_scikit_learn": seconds / sum(s for s, _ in theirs),
        "best_inertia_relative_difference": ours.inertia_ / best - 1,
    }


def stored(folder: str, vectors: np.ndarray, chunk: int = 2048, shard: int = 16384) -> zarr.Array[Any]:
    """Vectors as a compressed array."""
    array = zarr.create_array(
        f"{folder}/v.zarr", shape=vectors.shape, dtype=vectors.dtype, chunks=(chunk, vectors.shape[1]),
        shards=(shard, vectors.shape[1]), compressors=zarr.codecs.ZstdCodec(level=1),
    )  # fmt: skip
    array[:] = vectors
    return array


def more(vectors: np.ndarray, tokens: int) -> np.ndarray:
    """As many vectors as wanted: those that there are, again and again with a little noise."""
    if tokens <= len(vectors):
        return vectors
    rng = np.random.default_rng(1)
    found = np.empty((tokens, vectors.shape[1]), vectors.dtype)
    scale = 0.1 * vectors.std(axis=0, dtype=np.float32)
    for at in range(0, tokens, len(vectors)):
        some = vectors[: tokens - at]
        found[at : at + len(some)] = some + scale * rng.normal(size=some.shape).astype(np.float32) * (at > 0)
    return found


def streamed(vectors: np.ndarray, k: int, threads: int, count: int, iterations: int) -> dict[str, Any]:
    """Some iterations from a compressed store with a tenth of its bytes to be held, beside all in memory."""
    found: dict[str, Any] = {}
    backend.product_rate(vectors.shape[1], k, "auto")  # torch is imported
    with tempfile.TemporaryDirectory() as folder:
        array = stored(folder, vectors)
        size = sum(f.stat().st_size for f in Path(folder).rglob("*") if f.is_file())
        found["megabytes"], found["megabytes_on_disk"] = vectors.nbytes / 1e6, size / 1e6
        seeds = seeds_of(vectors, k, 0)
        for runs in sorted({1, count}):
            init: dict[str, Any] = {"init": seeds} if runs == 1 else {"n_init": runs, "random_state": 3}
            seconds: dict[str, np.ndarray] = {}
            models = {}
            for name, data, memory in (("memory", vectors, None), ("stream", array, vectors.nbytes // 10)):
                with Ticks() as ticks:
                    models[name] = KMeans(k, n_jobs=threads, max_iter=iterations, memory=memory, **init).fit(data)
                # the first step of each group of runs holds their seeding, too
                seconds[name] = ticks.seconds if runs == 1 else np.array([ticks.at[-1] - ticks.at[0]])
            found[f"{runs}_runs"] = {
                "iterations": models["stream"].n_iter_,
                "memory_s": seconds["memory"].tolist(),
                "stream_s": seconds["stream"].tolist(),
                "stream_to_memory": seconds["stream"].sum() / seconds["memory"].sum(),
                "labels_equal": np.array_equal(models["memory"].labels_, models["stream"].labels_),
            }
    return found


def workers(vectors: np.ndarray, k: int) -> dict[str, Any]:
    """One single-threaded worker process beside two."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        array = stored(folder, vectors)
        seeds = seeds_of(vectors, k, 0)
        for count in (1, 2):
            with ClusterWorkers(Machine(type="local", workers=count, memory=4, retries=2)) as processes:
                KMeans(k, init=seeds, max_iter=1, workers=processes).fit(array)  # processes have everything imported
                with Ticks() as ticks:
                    KMeans(k, init=seeds, workers=processes).fit(array)
                found[f"{count}_s"] = float(ticks.seconds.sum())
                found[f"{count}_whole_pass_s"] = float(ticks.seconds[0])
    found["speed_up"] = found["1_s"] / found["2_s"]
    found["whole_pass_speed_up"] = found["1_whole_pass_s"] / found["2_whole_pass_s"]
    return found


def large(gigabytes: float, hidden: int, k: int, threads: int, memory: float, iterations: int) -> dict[str, Any]:
    """A made store of many gigabytes under a small budget; with the measured peak of this process."""
    rows = int(gigabytes * 1e9 / hidden / 2) // 16384 * 16384
    with tempfile.TemporaryDirectory() as folder:
        array = zarr.create_array(
            f"{folder}/v.zarr", shape=(rows, hidden), dtype="float16", chunks=(2048, hidden), shards=(16384, hidden),
            compressors=None,
        )  # fmt: skip
        block = made_activations(16384, hidden)
        for at in range(0, rows, 16384):  # no two rows of the store are alike
            array[at : at + 16384] = np.roll(block, at // 16384 + 1, axis=1)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        with Ticks() as ticks:
            seconds, model = timed(
                lambda: KMeans(
                    k,
                    init=block[:k].astype(np.float32),
                    max_iter=iterations,
                    n_jobs=threads,
                    memory=int(memory * 2**30),
                ).fit(array)
            )
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "gigabytes": rows * hidden * 2 / 1e9, "rows": rows, "iterations": model.n_iter_, "seconds": seconds,
        "iteration_s": ticks.seconds.tolist(), "peak_mib": peak, "peak_mib_before": before,
        "megabytes_a_second": rows * hidden * 2 / 1e6 / float(np.median(ticks.seconds)),
    }  # fmt: skip


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["fit", "restarts", "streamed", "workers", "large"])
    parser.add_argument("--vectors")
    for name, kind, default in (
        ("tokens", int, 100_000), ("hidden", int, 768), ("k", int, 600), ("threads", int, 2), ("restarts", int, 10),
        ("gigabytes", float, 30), ("memory", float, 2), ("iterations", int, 10),
    ):  # fmt: skip
        parser.add_argument(f"--{name}", type=kind, default=default)
    a = parser.parse_args()
    if a.what == "large":
        found = large(a.gigabytes, a.hidden, a.k, a.threads, a.memory, a.iterations)
    else:
        vectors = np.load(a.vectors) if a.vectors else made_activations(a.tokens, a.hidden)
        found = {
            "fit": lambda: fit(vectors, a.k, a.threads),
            "restarts": lambda: restarts(vectors, a.k, a.threads, a.restarts),
            "streamed": lambda: streamed(more(vectors, a.tokens), a.k, a.threads, a.restarts, a.iterations),
            "workers": lambda: workers(more(vectors, a.tokens), a.k),
        }[a.what]()
    sys.stdout.write(json.dumps(found, indent=1, default=float) + "\n")


if __name__ == "__main__":
    main()
